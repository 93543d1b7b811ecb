#pragma once
// Compiled filters on disk: an `orchestra oci create` is a process of its own, and compiling costs 10 ms.
#include <string>

#include "orchestra/container_spec.hpp"

namespace orchestra::runtime {
/// From `directory`/HASH if it is ours (owner, mode) and holds exactly this profile; else compiled and kept.
Result<std::string> cached_seccomp(const ContainerSpec::Seccomp& profile, const std::string& directory);
}  // namespace orchestra::runtime
