#pragma once
// What the node agent asks for (ContainerConfig) as a ContainerSpec, with containerd's default protections.
#include "api/pod_runtime.hpp"
#include "orchestra/container_spec.hpp"

namespace orchestra::runtime {

ContainerSpec make_pod_container_spec(const PodSandboxConfig& pod, const ContainerConfig& container,
                                      Isolation isolation);
/// containerd's defaults: mounts, masked and read-only paths, device rules.
void add_default_mounts(ContainerSpec& spec, bool privileged, bool own_network);
void add_default_protections(ContainerSpec& spec);
/// c 1:3, 1:5 .., 5:2, 136:* rwm; mknod of anything.
std::vector<ContainerSpec::DeviceRule> default_device_rules();
/// The devices that every container has (runtime-spec, "Default Devices") may be used whatever the rules of a
/// specification say before: podman's begin with "deny all" and stop there.
void allow_default_devices(ContainerSpec& spec);

}  // namespace orchestra::runtime
