#include "runtime/linux/labels.hpp"

#include <unistd.h>

#include "base/fd.hpp"

namespace orchestra::runtime {

std::pair<bool, bool> detect_labels() {
  const auto apparmor = read_file("/sys/module/apparmor/parameters/enabled", 16);
  return {apparmor && apparmor->starts_with("Y"), access("/sys/fs/selinux/enforce", F_OK) == 0};
}

}  // namespace orchestra::runtime
