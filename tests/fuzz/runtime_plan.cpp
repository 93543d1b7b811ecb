// A plan block of any bytes: sound, and then readable everywhere, or not sound.
#include <cstdint>
#include <string_view>

#include "runtime/plan/make_plan.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  (void)orchestra::runtime::print_plan({reinterpret_cast<const char*>(data), size});
  return 0;
}
