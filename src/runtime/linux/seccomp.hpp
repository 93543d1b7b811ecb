#pragma once
// Seccomp filters: profiles compiled by libseccomp, once per distinct profile and process.
#include <string>

#include "orchestra/container_spec.hpp"

namespace orchestra::runtime {

/// containerd's default profile for a process with these capabilities, as data.
ContainerSpec::Seccomp default_seccomp_profile(const ContainerSpec::Process& process);
/// A text that is equal only for equal profiles.
std::string seccomp_key(const ContainerSpec::Seccomp& profile);
/// struct sock_filter[] for the kernel. Compiling costs about 10 ms, a repeated profile 1 us.
Result<std::string> compile_seccomp(const ContainerSpec::Seccomp& profile);
Result<std::string> default_seccomp_filter(const ContainerSpec::Process& process);

}  // namespace orchestra::runtime
