#pragma once
// probe_machine(): what this machine allows, ability by ability, with the evidence and the remedy.
//
// Probing flags lies, so each ability is tried: a namespace is made by a child, a file system context is
// opened, a filter is loaded. Nothing stays behind. Any thread; takes a few milliseconds. Since 0.1.
#include <string>
#include <vector>

#include "orchestra/error.hpp"

namespace orchestra {

struct MachineAbility {
  std::string name;  ///< "network namespaces"
  bool available = false;
  std::string evidence;    ///< "unshare(CLONE_NEWNET): Operation not permitted (EPERM)"
  std::string remedy;      ///< what to do when it is not available; empty if nothing helps
  std::string needed_for;  ///< "isolation level full"
};

/// Kernel, privileges, namespaces, mounts, overlay, seccomp, cgroup controllers, terminals, levels.
ORC_API std::vector<MachineAbility> probe_machine();

}  // namespace orchestra
