#pragma once
// What the host writes down about pods and containers before it makes them: after a kill -9 the next
// Runtime reads these, finds the shims and goes on, or undoes what was half made.
#include "api/pod_runtime.hpp"
#include "base/json.hpp"
#include "runtime/wire/protocol.hpp"

namespace orchestra::runtime {

json::value to_record(const PodSandboxConfig& config, const std::vector<std::string>& degraded);
Result<PodSandboxConfig> pod_from_record(const json::value& record, std::vector<std::string>& degraded);
json::value to_record(const ContainerConfig& config);
Result<ContainerConfig> container_from_record(const json::value& record);

/// What a shim or its state file says, with the names of the configuration.
ContainerStatus status_of(const wire::ContainerRecord& record, const std::string& pod_uid,
                          const ContainerConfig& config);
/// `state` of a container, or `corrupt`/`not_found`.
Result<wire::StateFile> read_state_file(const std::string& path);

}  // namespace orchestra::runtime
