#pragma once
#include <utility>

namespace orchestra::runtime {

/// Whether AppArmor and SELinux are enabled on this machine.
std::pair<bool, bool> detect_labels();

}  // namespace orchestra::runtime
