#include "runtime/shim/embedded_shim.hpp"

__asm__(
    ".section .rodata\n"
    ".balign 16\n"
    "orchestra_shim_begin:\n"
    ".incbin \"" ORCHESTRA_SHIM_PROGRAM
    "\"\n"
    "orchestra_shim_end:\n"
    ".byte 0\n"
    ".text\n");

extern "C" {
extern const char orchestra_shim_begin[] __attribute__((visibility("hidden")));
extern const char orchestra_shim_end[] __attribute__((visibility("hidden")));
}

namespace orchestra::runtime {
std::string_view embedded_shim() {
  return {orchestra_shim_begin, static_cast<std::size_t>(orchestra_shim_end - orchestra_shim_begin)};
}
}  // namespace orchestra::runtime
