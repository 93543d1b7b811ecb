// config.json from strangers: whatever the bytes are, an answer or an error; what is accepted can be
// planned or refused, and a plan that was made is sound.
#include <cstdint>
#include <string_view>

#include "orchestra/container_spec.hpp"
#include "runtime/plan/make_plan.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto spec = orchestra::ContainerSpec::from_json({reinterpret_cast<const char*>(data), size});
  if (!spec) return 0;
  const auto plan = orchestra::runtime::make_plan(*spec, {});
  if (plan && orchestra::runtime::print_plan(*plan) == "not sound\n") __builtin_trap();
  // What was read can be written and read again.
  if (!orchestra::ContainerSpec::from_json(spec->to_json())) __builtin_trap();
  return 0;
}
