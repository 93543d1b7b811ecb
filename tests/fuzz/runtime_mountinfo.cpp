// /proc/self/mountinfo and cgroup.controllers as an outer runtime may present them.
#include <cstdint>
#include <string>

#include "runtime/linux/cgroups.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto layout = orchestra::runtime::parse_cgroup_layout(text, {{"/sys/fs/cgroup", text}});
  (void)layout.describe();
  return 0;
}
