#pragma once
// Device rules on cgroup v2: an eBPF program that the kernel asks at each open and mknod of a device.
#include <linux/bpf.h>

#include <string>
#include <vector>

#include "orchestra/container_spec.hpp"

namespace orchestra::runtime {

/// Pure: the program for ordered rules, the last one that speaks of an access decides, bit for bit, as
/// v1's devices.allow and devices.deny do. What no rule speaks of is allowed.
std::vector<bpf_insn> device_program(const std::vector<ContainerSpec::DeviceRule>& rules);
/// Loads it and makes it the cgroup's only program of ours: a former one is detached after.
Result<void> attach_device_program(const std::string& cgroup,
                                   const std::vector<ContainerSpec::DeviceRule>& rules);

}  // namespace orchestra::runtime
