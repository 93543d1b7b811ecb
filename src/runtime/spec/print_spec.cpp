// ContainerSpec to config.json, and the example that `orchestra oci spec` writes.
#include "base/json.hpp"
#include "orchestra/container_spec.hpp"
#include "runtime/linux/seccomp.hpp"
#include "runtime/spec/capabilities.hpp"
#include "runtime/spec/pod_spec.hpp"

namespace orchestra {
namespace {

json::array texts(const std::vector<std::string>& values) {
  json::array out;
  for (const std::string& value : values) out.emplace_back(value);
  return out;
}
json::object text_map(const std::map<std::string, std::string>& values) {
  json::object out;
  for (const auto& [name, value] : values) out[name] = value;
  return out;
}
template <class T>
void put(json::object& out, const char* name, const std::optional<T>& value) {
  if (value) out[name] = *value;
}
void put(json::object& out, const char* name, const std::string& value) {
  if (!value.empty()) out[name] = value;
}
void put(json::object& out, const char* name, json::array value) {
  if (!value.empty()) out[name] = std::move(value);
}
void put(json::object& out, const char* name, json::object value) {
  if (!value.empty()) out[name] = std::move(value);
}

json::object process_json(const ContainerSpec::Process& process) {
  json::object out;
  out["terminal"] = process.terminal;
  if (process.console_columns != 0)
    out["consoleSize"] = {{"height", process.console_rows}, {"width", process.console_columns}};
  json::object user{{"uid", process.user.uid}, {"gid", process.user.gid}};
  put(user, "umask", process.user.umask);
  json::array groups;
  for (const std::uint32_t group : process.user.additional_gids) groups.emplace_back(group);
  put(user, "additionalGids", std::move(groups));
  out["user"] = std::move(user);
  out["args"] = texts(process.args);
  out["env"] = texts(process.env);
  out["cwd"] = process.cwd;
  if (process.capabilities) {
    const auto& caps = *process.capabilities;
    out["capabilities"] = {{"bounding", texts(caps.bounding)},
                           {"effective", texts(caps.effective)},
                           {"permitted", texts(caps.permitted)},
                           {"inheritable", texts(caps.inheritable)},
                           {"ambient", texts(caps.ambient)}};
  }
  json::array limits;
  for (const auto& limit : process.rlimits)
    limits.push_back({{"type", limit.type}, {"hard", limit.hard}, {"soft", limit.soft}});
  put(out, "rlimits", std::move(limits));
  out["noNewPrivileges"] = process.no_new_privileges;
  put(out, "oomScoreAdj", process.oom_score_adj);
  put(out, "apparmorProfile", process.apparmor_profile);
  put(out, "selinuxLabel", process.selinux_label);
  if (process.scheduler) {
    const auto& from = *process.scheduler;
    json::object scheduler{{"policy", from.policy}};
    if (from.nice != 0) scheduler["nice"] = from.nice;
    if (from.priority != 0) scheduler["priority"] = from.priority;
    put(scheduler, "flags", texts(from.flags));
    if (from.runtime != 0) scheduler["runtime"] = from.runtime;
    if (from.deadline != 0) scheduler["deadline"] = from.deadline;
    if (from.period != 0) scheduler["period"] = from.period;
    out["scheduler"] = std::move(scheduler);
  }
  if (process.io_priority)
    out["ioPriority"] = {{"class", process.io_priority->io_class},
                         {"priority", process.io_priority->priority}};
  json::object affinity;
  put(affinity, "initial", process.exec_affinity_initial);
  put(affinity, "final", process.exec_affinity_final);
  put(out, "execCPUAffinity", std::move(affinity));
  return out;
}

json::array mappings_json(const std::vector<ContainerSpec::IdMapping>& mappings) {
  json::array out;
  for (const auto& one : mappings)
    out.push_back({{"containerID", one.container}, {"hostID", one.host}, {"size", one.size}});
  return out;
}

json::array rates_json(const std::vector<ContainerSpec::BlockRate>& rates) {
  json::array out;
  for (const auto& one : rates)
    out.push_back({{"major", one.major}, {"minor", one.minor}, {"rate", one.rate}});
  return out;
}

json::object block_json(const ContainerSpec::BlockIo& io) {
  json::object out;
  put(out, "weight", io.weight);
  put(out, "leafWeight", io.leaf_weight);
  json::array weights;
  for (const auto& one : io.weight_device) {
    json::object entry{{"major", one.major}, {"minor", one.minor}};
    put(entry, "weight", one.weight);
    put(entry, "leafWeight", one.leaf_weight);
    weights.push_back(std::move(entry));
  }
  put(out, "weightDevice", std::move(weights));
  put(out, "throttleReadBpsDevice", rates_json(io.read_bps));
  put(out, "throttleWriteBpsDevice", rates_json(io.write_bps));
  put(out, "throttleReadIOPSDevice", rates_json(io.read_iops));
  put(out, "throttleWriteIOPSDevice", rates_json(io.write_iops));
  return out;
}

void put_other_resources(json::object& out, const ContainerSpec::Resources& resources) {
  if (resources.block_io) out["blockIO"] = block_json(*resources.block_io);
  json::array pages, priorities;
  for (const auto& one : resources.hugepage_limits)
    pages.push_back({{"pageSize", one.page_size}, {"limit", one.limit}});
  put(out, "hugepageLimits", std::move(pages));
  json::object rdma, network;
  for (const auto& [device, limit] : resources.rdma) {
    json::object entry;
    put(entry, "hcaHandles", limit.handles);
    put(entry, "hcaObjects", limit.objects);
    rdma[device] = std::move(entry);
  }
  put(out, "rdma", std::move(rdma));
  put(network, "classID", resources.network_class);
  for (const auto& [name, priority] : resources.network_priorities)
    priorities.push_back({{"name", name}, {"priority", priority}});
  put(network, "priorities", std::move(priorities));
  put(out, "network", std::move(network));
}

json::object resources_json(const ContainerSpec::Resources& resources) {
  json::object out, cpu, memory;
  json::array devices;
  for (const auto& rule : resources.devices) {
    json::object entry{{"allow", rule.allow}, {"access", rule.access}};
    if (rule.type != 'a') entry["type"] = std::string(1, rule.type);
    put(entry, "major", rule.major);
    put(entry, "minor", rule.minor);
    devices.push_back(std::move(entry));
  }
  put(out, "devices", std::move(devices));
  put(cpu, "shares", resources.cpu_shares);
  put(cpu, "quota", resources.cpu_quota);
  put(cpu, "period", resources.cpu_period);
  put(cpu, "cpus", resources.cpuset_cpus);
  put(cpu, "mems", resources.cpuset_mems);
  put(memory, "limit", resources.memory_limit);
  put(memory, "reservation", resources.memory_reservation);
  put(memory, "swap", resources.memory_swap);
  put(cpu, "burst", resources.cpu_burst);
  put(cpu, "idle", resources.cpu_idle);
  put(cpu, "realtimeRuntime", resources.realtime_runtime);
  put(cpu, "realtimePeriod", resources.realtime_period);
  put(memory, "kernelTCP", resources.memory_kernel_tcp);
  put(memory, "swappiness", resources.memory_swappiness);
  put(memory, "disableOOMKiller", resources.disable_oom_killer);
  put(memory, "checkBeforeUpdate", resources.check_before_update);
  put(out, "cpu", std::move(cpu));
  put(out, "memory", std::move(memory));
  if (resources.pids_limit) out["pids"] = {{"limit", *resources.pids_limit}};
  put_other_resources(out, resources);
  put(out, "unified", text_map(resources.unified));
  return out;
}

json::object seccomp_json(const ContainerSpec::Seccomp& seccomp) {
  json::object out{{"defaultAction", seccomp.default_action}};
  put(out, "defaultErrnoRet", seccomp.default_errno_ret);
  put(out, "architectures", texts(seccomp.architectures));
  put(out, "flags", texts(seccomp.flags));
  json::array rules;
  for (const auto& rule : seccomp.syscalls) {
    json::object entry{{"names", texts(rule.names)}, {"action", rule.action}};
    put(entry, "errnoRet", rule.errno_ret);
    json::array args;
    for (const auto& argument : rule.args) {
      args.push_back({{"index", argument.index},
                      {"value", argument.value},
                      {"valueTwo", argument.value_two},
                      {"op", argument.op}});
    }
    put(entry, "args", std::move(args));
    rules.push_back(std::move(entry));
  }
  put(out, "syscalls", std::move(rules));
  put(out, "listenerPath", seccomp.listener_path);
  put(out, "listenerMetadata", seccomp.listener_metadata);
  return out;
}

json::array hooks_json(const std::vector<ContainerSpec::Hook>& hooks) {
  json::array out;
  for (const auto& hook : hooks) {
    json::object entry{{"path", hook.path}};
    put(entry, "args", texts(hook.args));
    put(entry, "env", texts(hook.env));
    put(entry, "timeout", hook.timeout);
    out.push_back(std::move(entry));
  }
  return out;
}

void put_extras(json::object& out, const ContainerSpec& spec) {
  json::object offsets, devices;
  for (const auto& [clock, offset] : spec.time_offsets)
    offsets[clock] = {{"secs", offset.seconds}, {"nanosecs", offset.nanoseconds}};
  put(out, "timeOffsets", std::move(offsets));
  for (const auto& [device, name] : spec.net_devices) devices[device] = {{"name", name}};
  put(out, "netDevices", std::move(devices));
  put(out, "mountLabel", spec.mount_label);
  if (spec.personality) out["personality"] = {{"domain", *spec.personality}};
  if (spec.memory_policy) {
    json::object policy{{"mode", spec.memory_policy->mode}};
    put(policy, "nodes", spec.memory_policy->nodes);
    put(policy, "flags", texts(spec.memory_policy->flags));
    out["memoryPolicy"] = std::move(policy);
  }
  if (spec.intel_rdt) {
    json::object rdt;
    put(rdt, "closID", spec.intel_rdt->clos_id);
    put(rdt, "l3CacheSchema", spec.intel_rdt->l3_cache_schema);
    put(rdt, "memBwSchema", spec.intel_rdt->mem_bw_schema);
    put(rdt, "schemata", texts(spec.intel_rdt->schemata));
    if (spec.intel_rdt->enable_monitoring) rdt["enableMonitoring"] = true;
    out["intelRdt"] = std::move(rdt);
  }
}

json::object linux_json(const ContainerSpec& spec) {
  json::object out;
  json::array spaces, devices;
  for (const auto& space : spec.namespaces) {
    json::object entry{{"type", space.type}};
    put(entry, "path", space.path);
    spaces.push_back(std::move(entry));
  }
  put(out, "namespaces", std::move(spaces));
  for (const auto& device : spec.devices) {
    json::object entry{{"path", device.path},
                       {"type", std::string(1, device.type)},
                       {"major", device.major},
                       {"minor", device.minor}};
    put(entry, "fileMode", device.file_mode);
    put(entry, "uid", device.uid);
    put(entry, "gid", device.gid);
    devices.push_back(std::move(entry));
  }
  put(out, "devices", std::move(devices));
  put(out, "cgroupsPath", spec.cgroups_path);
  put(out, "resources", resources_json(spec.resources));
  put(out, "sysctl", text_map(spec.sysctl));
  put(out, "rootfsPropagation", spec.rootfs_propagation);
  if (spec.seccomp) out["seccomp"] = seccomp_json(*spec.seccomp);
  put(out, "maskedPaths", texts(spec.masked_paths));
  put(out, "readonlyPaths", texts(spec.readonly_paths));
  put(out, "uidMappings", mappings_json(spec.uid_mappings));
  put(out, "gidMappings", mappings_json(spec.gid_mappings));
  put_extras(out, spec);
  return out;
}
}  // namespace

std::string ContainerSpec::to_json() const {
  json::object out{{"ociVersion", oci_version}};
  if (process) out["process"] = process_json(*process);
  out["root"] = {{"path", root_path}, {"readonly", root_readonly}};
  put(out, "hostname", hostname);
  put(out, "domainname", domainname);
  json::array mount_list;
  for (const Mount& mount : mounts) {
    json::object entry{{"destination", mount.destination}};
    put(entry, "type", mount.type);
    put(entry, "source", mount.source);
    put(entry, "options", texts(mount.options));
    put(entry, "uidMappings", mappings_json(mount.uid_mappings));
    put(entry, "gidMappings", mappings_json(mount.gid_mappings));
    mount_list.push_back(std::move(entry));
  }
  put(out, "mounts", std::move(mount_list));
  json::object hook_map;
  put(hook_map, "prestart", hooks_json(hooks.prestart));
  put(hook_map, "createRuntime", hooks_json(hooks.create_runtime));
  put(hook_map, "createContainer", hooks_json(hooks.create_container));
  put(hook_map, "startContainer", hooks_json(hooks.start_container));
  put(hook_map, "poststart", hooks_json(hooks.poststart));
  put(hook_map, "poststop", hooks_json(hooks.poststop));
  put(out, "hooks", std::move(hook_map));
  put(out, "annotations", text_map(annotations));
  out["linux"] = linux_json(*this);
  return to_pretty_json(out);
}

ContainerSpec ContainerSpec::example() {
  ContainerSpec spec;
  spec.process = ContainerSpec::Process{};
  auto& shell = *spec.process;
  shell.terminal = true;
  shell.args = {"sh"};
  shell.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"};
  const auto names = runtime::capability_names(runtime::default_capabilities());
  shell.capabilities = Capabilities{names, names, names, {}, {}};
  shell.rlimits = {{"RLIMIT_NOFILE", 1024, 1024}};
  shell.no_new_privileges = true;
  spec.root_path = "rootfs";
  spec.root_readonly = true;
  spec.hostname = "orchestra";
  for (const char* type : {"pid", "network", "ipc", "uts", "mount", "cgroup"})
    spec.namespaces.push_back({type, ""});
  runtime::add_default_mounts(spec, false, true);
  runtime::add_default_protections(spec);
  spec.resources.devices = runtime::default_device_rules();
  return spec;
}

}  // namespace orchestra
