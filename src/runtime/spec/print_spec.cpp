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
  return out;
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
  put(out, "cpu", std::move(cpu));
  put(out, "memory", std::move(memory));
  if (resources.pids_limit) out["pids"] = {{"limit", *resources.pids_limit}};
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
  auto& shell = spec.process.emplace();
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
