#pragma once
// Network devices of the machine that a container takes over (linux.netDevices of the runtime specification).
#include <map>
#include <string>

#include "orchestra/result.hpp"

namespace orchestra::runtime {

/// Moves each device (name here -> name there, "%d" as the kernel counts) into the network namespace of
/// `pid`, with its permanent global addresses, and sets it up there. The first that fails ends it; devices
/// moved before stay there and come back when the namespace ends, as the specification has it. Errors name
/// the device and the step.
Result<void> move_net_devices(const std::map<std::string, std::string>& devices, int pid);

}  // namespace orchestra::runtime
