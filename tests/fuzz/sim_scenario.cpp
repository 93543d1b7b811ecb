// Scenario files of the simulator: any bytes are refused, or are a scenario that says the same when checked
// again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "orchestra/simulator.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto scenario = orchestra::SimScenario::from_yaml(text, "fuzz");
  if (scenario && !scenario->check()) std::abort();
  return 0;
}
