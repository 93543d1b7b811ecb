#include "runtime/pod/records.hpp"

#include <cstring>

#include "base/fd.hpp"

namespace orchestra::runtime {
namespace {

json::array to_array(const std::vector<std::string>& values) {
  json::array out;
  for (const std::string& value : values) out.emplace_back(value);
  return out;
}
std::vector<std::string> strings_at(const json::value& record, std::string_view pointer) {
  std::vector<std::string> out;
  if (const json::array* array = array_at(record, pointer)) {
    for (const json::value& value : *array) {
      if (value.is_string()) out.emplace_back(value.get_string());
    }
  }
  return out;
}
json::object to_object(const std::map<std::string, std::string>& values) {
  json::object out;
  for (const auto& [name, value] : values) out[name] = value;
  return out;
}
std::map<std::string, std::string> map_at(const json::value& record, std::string_view pointer) {
  std::map<std::string, std::string> out;
  if (const json::object* object = object_at(record, pointer)) {
    for (const auto& member : *object) {
      if (member.value().is_string()) out.emplace(member.key(), member.value().get_string());
    }
  }
  return out;
}
json::object to_object(const ResourceLimits& limits) {
  return {{"cpuShares", limits.cpu_shares},
          {"cpuQuotaUs", limits.cpu_quota_us},
          {"cpuPeriodUs", limits.cpu_period_us},
          {"memoryBytes", limits.memory_bytes},
          {"pids", limits.pids},
          {"oomScoreAdj", limits.oom_score_adj}};
}
ResourceLimits limits_at(const json::value& record) {
  ResourceLimits limits;
  limits.cpu_shares = int_at(record, "/limits/cpuShares");
  limits.cpu_quota_us = int_at(record, "/limits/cpuQuotaUs");
  limits.cpu_period_us = int_at(record, "/limits/cpuPeriodUs", 100000);
  limits.memory_bytes = int_at(record, "/limits/memoryBytes");
  limits.pids = int_at(record, "/limits/pids");
  limits.oom_score_adj = static_cast<int>(int_at(record, "/limits/oomScoreAdj"));
  return limits;
}
std::string terminated(const char* text, std::size_t size) { return {text, strnlen(text, size)}; }
}  // namespace

json::value to_record(const PodSandboxConfig& config, const std::vector<std::string>& degraded) {
  return json::object{{"uid", config.uid},
                      {"namespace", config.ns},
                      {"name", config.name},
                      {"hostname", config.hostname},
                      {"logDirectory", config.log_directory},
                      {"cgroupParent", config.cgroup_parent},
                      {"limits", to_object(config.limits)},
                      {"hostNetwork", config.host_network},
                      {"hostPid", config.host_pid},
                      {"hostIpc", config.host_ipc},
                      {"sharePid", config.share_process_namespace},
                      {"firstUserId", config.first_user_id},
                      {"sysctls", to_object(config.sysctls)},
                      {"annotations", to_object(config.annotations)},
                      {"degraded", to_array(degraded)}};
}

Result<PodSandboxConfig> pod_from_record(const json::value& record, std::vector<std::string>& degraded) {
  PodSandboxConfig config;
  config.uid = string_at(record, "/uid");
  if (config.uid.empty()) return Error(Error::corrupt, "runtime", "a pod record has no uid");
  config.ns = string_at(record, "/namespace");
  config.name = string_at(record, "/name");
  config.hostname = string_at(record, "/hostname");
  config.log_directory = string_at(record, "/logDirectory");
  config.cgroup_parent = string_at(record, "/cgroupParent");
  config.limits = limits_at(record);
  config.host_network = bool_at(record, "/hostNetwork");
  config.host_pid = bool_at(record, "/hostPid");
  config.host_ipc = bool_at(record, "/hostIpc");
  config.share_process_namespace = bool_at(record, "/sharePid");
  config.first_user_id = static_cast<std::uint32_t>(int_at(record, "/firstUserId"));
  config.sysctls = map_at(record, "/sysctls");
  config.annotations = map_at(record, "/annotations");
  degraded = strings_at(record, "/degraded");
  return config;
}

json::value to_record(const ContainerConfig& config) {
  json::array groups;
  for (const std::uint32_t group : config.supplemental_groups) groups.emplace_back(group);
  json::array mounts;
  for (const PodMount& mount : config.mounts) {
    mounts.push_back(json::object{{"source", mount.source},
                                  {"target", mount.target},
                                  {"readOnly", mount.read_only},
                                  {"tmpfs", mount.tmpfs},
                                  {"tmpfsBytesMax", mount.tmpfs_bytes_max},
                                  {"propagation", mount.propagation},
                                  {"recursiveReadOnly", mount.recursive_read_only},
                                  {"subPath", mount.sub_path}});
  }
  return json::object{{"id", config.id},
                      {"name", config.name},
                      {"attempt", config.attempt},
                      {"image", config.image},
                      {"imageId", config.image_id},
                      {"root", json::object{{"directory", config.root.directory},
                                            {"layersDirectory", config.root.layers_directory},
                                            {"lower", to_array(config.root.overlay_lower)},
                                            {"upper", config.root.overlay_upper},
                                            {"work", config.root.overlay_work},
                                            {"userxattr", config.root.userxattr}}},
                      {"args", to_array(config.args)},
                      {"env", to_array(config.env)},
                      {"cwd", config.cwd},
                      {"uid", config.uid},
                      {"gid", config.gid},
                      {"groups", groups},
                      {"mounts", mounts},
                      {"limits", to_object(config.limits)},
                      {"privileged", config.privileged},
                      {"readOnlyRoot", config.read_only_root},
                      {"noNewPrivileges", config.no_new_privileges},
                      {"unmaskedProc", config.unmasked_proc},
                      {"addCapabilities", to_array(config.add_capabilities)},
                      {"dropCapabilities", to_array(config.drop_capabilities)},
                      {"seccomp", config.seccomp},
                      {"tty", config.tty},
                      {"in", config.in},
                      {"inOnce", config.in_once},
                      {"processNamespaceOf", config.process_namespace_of},
                      {"logPath", config.log_path},
                      {"logFileBytesMax", config.log_file_bytes_max},
                      {"annotations", to_object(config.annotations)}};
}

Result<ContainerConfig> container_from_record(const json::value& record) {
  ContainerConfig config;
  config.id = string_at(record, "/id");
  if (config.id.empty()) return Error(Error::corrupt, "runtime", "a container record has no id");
  config.name = string_at(record, "/name");
  config.attempt = static_cast<std::uint32_t>(int_at(record, "/attempt"));
  config.image = string_at(record, "/image");
  config.image_id = string_at(record, "/imageId");
  config.root.directory = string_at(record, "/root/directory");
  config.root.layers_directory = string_at(record, "/root/layersDirectory");
  config.root.overlay_lower = strings_at(record, "/root/lower");
  config.root.overlay_upper = string_at(record, "/root/upper");
  config.root.overlay_work = string_at(record, "/root/work");
  config.root.userxattr = bool_at(record, "/root/userxattr");
  config.args = strings_at(record, "/args");
  config.env = strings_at(record, "/env");
  config.cwd = string_at(record, "/cwd", "/");
  config.uid = static_cast<std::uint32_t>(int_at(record, "/uid"));
  config.gid = static_cast<std::uint32_t>(int_at(record, "/gid"));
  if (const json::array* groups = array_at(record, "/groups")) {
    for (const json::value& group : *groups)
      config.supplemental_groups.push_back(group.to_number<std::uint32_t>());
  }
  if (const json::array* mounts = array_at(record, "/mounts")) {
    for (const json::value& entry : *mounts) {
      config.mounts.push_back({string_at(entry, "/source"), string_at(entry, "/target"),
                               bool_at(entry, "/readOnly"), bool_at(entry, "/tmpfs"),
                               static_cast<std::uint64_t>(int_at(entry, "/tmpfsBytesMax")),
                               string_at(entry, "/propagation"), bool_at(entry, "/recursiveReadOnly"),
                               string_at(entry, "/subPath")});
    }
  }
  config.limits = limits_at(record);
  config.privileged = bool_at(record, "/privileged");
  config.read_only_root = bool_at(record, "/readOnlyRoot");
  config.no_new_privileges = bool_at(record, "/noNewPrivileges");
  config.unmasked_proc = bool_at(record, "/unmaskedProc");
  config.add_capabilities = strings_at(record, "/addCapabilities");
  config.drop_capabilities = strings_at(record, "/dropCapabilities");
  config.seccomp = string_at(record, "/seccomp", "default");
  config.tty = bool_at(record, "/tty");
  config.in = bool_at(record, "/in");
  config.in_once = bool_at(record, "/inOnce");
  config.process_namespace_of = string_at(record, "/processNamespaceOf");
  config.log_path = string_at(record, "/logPath");
  config.log_file_bytes_max = int_at(record, "/logFileBytesMax", 10 << 20);
  config.annotations = map_at(record, "/annotations");
  return config;
}

ContainerStatus status_of(const wire::ContainerRecord& record, const std::string& pod_uid,
                          const ContainerConfig& config) {
  ContainerStatus status;
  status.id = config.id;
  status.pod_uid = pod_uid;
  status.name = config.name;
  status.attempt = config.attempt;
  status.image = config.image;
  status.image_id = config.image_id;
  status.log_path = config.log_path;
  status.annotations = config.annotations;
  status.pid = record.pid;
  status.created_ns = record.created_ns;
  status.started_ns = record.started_ns;
  status.finished_ns = record.finished_ns;
  status.reason = terminated(record.reason, sizeof record.reason);
  switch (record.phase) {
    case wire::Phase::none:
    case wire::Phase::creating:
    case wire::Phase::created:
      status.state = ContainerState::created;
      break;
    case wire::Phase::running:
      status.state = ContainerState::running;
      break;
    case wire::Phase::exited:
      status.state = ContainerState::exited;
      status.pid = 0;
      if (record.known != 0) status.exit_code = record.code;
      status.signal = record.signal;
      status.oom_killed = record.oom_killed != 0;
      break;
  }
  if (status.state == ContainerState::exited && record.started_ns == 0 && !status.reason.empty()) {
    status.reason =
        "StartError: " + status.reason;  // containerd's reason and code for a program that cannot start
    status.exit_code = 128;
  }
  return status;
}

Result<wire::StateFile> read_state_file(const std::string& path) {
  ORC_ASSIGN(const std::string bytes, read_file(path, sizeof(wire::StateFile)));
  wire::StateFile state;
  if (bytes.size() != sizeof state)
    return Error(Error::corrupt, "runtime", path + ": " + std::to_string(bytes.size()) + " bytes");
  std::memcpy(&state, bytes.data(), sizeof state);
  if (state.record.magic != wire::kRecordMagic || state.record.version != wire::kProtocolVersion) {
    return Error(Error::corrupt, "runtime", path + ": not a state file of this version");
  }
  return state;
}

}  // namespace orchestra::runtime
