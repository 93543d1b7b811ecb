// Recorded logs for the simulator: any bytes are refused, or are a scenario that can be checked.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "sim/command.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  orchestra::SimScenario scenario;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (orchestra::import_log(text, scenario) && !scenario.check()) std::abort();
  return 0;
}
