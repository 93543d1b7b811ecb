// config.json of the OCI runtime specification (1.0 .. 1.3) to ContainerSpec.
#include <algorithm>
#include <set>

#include "base/fd.hpp"
#include "orchestra/container_spec.hpp"
#include "runtime/spec/json_reader.hpp"

namespace orchestra {
namespace {

using runtime::JsonReader;
constexpr std::size_t kConfigBytesMax = 4 << 20;
constexpr std::uint32_t kIdMax = 4294967294u;  ///< the last id; a wrapped one became root in a peer

std::uint32_t id_of(const JsonReader& reader) {
  const auto id = reader.number<std::uint32_t>().value_or(0);
  if (id > kIdMax)
    reader.fail(std::to_string(id) + " is no user or group id; 0.." + std::to_string(kIdMax) + " are");
  return id;
}

void check_version(const JsonReader& reader) {
  const std::string version = reader.text();
  if (version.empty()) return reader.fail("missing");
  const bool major_one =
      version.starts_with("1.") && version.size() > 2 && version[2] >= '0' && version[2] <= '9';
  if (!major_one) reader.fail("version \"" + version + "\" is not supported; 1.x is");
}

void refuse(const JsonReader& reader, const char* what) {
  if (reader.present()) reader.fail(std::string(what) + " is not supported");
}

/// As refuse, but a caller that spells out "nothing" (false, 0, an empty list) is fine.
void refuse_asked(const JsonReader& reader) {
  if (reader.asked()) reader.fail("is not supported");
}

ContainerSpec::Process parse_process(const JsonReader& r) {
  ContainerSpec::Process process;
  process.terminal = r["terminal"].boolean();
  process.console_columns = r["consoleSize"]["width"].number<std::uint16_t>().value_or(0);
  process.console_rows = r["consoleSize"]["height"].number<std::uint16_t>().value_or(0);
  const JsonReader user = r["user"];
  process.user.uid = id_of(user["uid"]);
  process.user.gid = id_of(user["gid"]);
  if (user["umask"].present()) process.user.umask = user["umask"].number<std::uint32_t>();
  for (const JsonReader& group : user["additionalGids"].items())
    process.user.additional_gids.push_back(id_of(group));
  process.args = r["args"].texts();
  process.env = r["env"].texts();
  process.cwd = r["cwd"].text();
  if (process.cwd.empty() || process.cwd[0] != '/')
    r["cwd"].fail("\"" + process.cwd + "\" is not an absolute path");
  if (const JsonReader caps = r["capabilities"]; caps.present()) {
    process.capabilities = ContainerSpec::Capabilities{caps["bounding"].texts(), caps["effective"].texts(),
                                                       caps["permitted"].texts(), caps["inheritable"].texts(),
                                                       caps["ambient"].texts()};
  }
  for (const JsonReader& limit : r["rlimits"].items()) {
    process.rlimits.push_back({limit["type"].text(), limit["soft"].number<std::uint64_t>().value_or(0),
                               limit["hard"].number<std::uint64_t>().value_or(0)});
  }
  process.no_new_privileges = r["noNewPrivileges"].boolean();
  process.oom_score_adj = r["oomScoreAdj"].number<int>();
  process.apparmor_profile = r["apparmorProfile"].text();
  process.selinux_label = r["selinuxLabel"].text();
  if (!process.apparmor_profile.empty() && process.apparmor_profile != "unconfined")
    r["apparmorProfile"].fail("\"" + process.apparmor_profile +
                              "\": AppArmor profiles are not supported; use unconfined");
  if (!process.selinux_label.empty())
    r["selinuxLabel"].fail("SELinux labels are not supported; leave it empty");
  refuse(r["scheduler"], "process.scheduler");
  refuse(r["ioPriority"], "process.ioPriority");
  refuse(r["execCPUAffinity"], "process.execCPUAffinity");
  return process;
}

void parse_mounts(const JsonReader& r, ContainerSpec& spec) {
  for (const JsonReader& mount : r.items()) {
    spec.mounts.push_back({mount["destination"].text(), mount["type"].text(), mount["source"].text(),
                           mount["options"].texts()});
    if (spec.mounts.back().destination.empty()) mount["destination"].fail("missing");
    refuse(mount["uidMappings"], "an id-mapped mount");
  }
}

char device_type(const JsonReader& reader, bool rule) {
  const std::string type = reader.text(rule ? "a" : "");
  const std::string_view known = rule ? "acb" : "cbup";
  if (type.size() != 1 || known.find(type[0]) == std::string_view::npos) {
    reader.fail("unknown device type \"" + type + "\"");
    return 'c';
  }
  return type[0];
}

void parse_devices(const JsonReader& r, ContainerSpec& spec) {
  for (const JsonReader& device : r.items()) {
    ContainerSpec::Device entry;
    entry.path = device["path"].text();
    entry.type = device_type(device["type"], false);
    entry.major = device["major"].number<std::int64_t>().value_or(0);
    entry.minor = device["minor"].number<std::int64_t>().value_or(0);
    entry.file_mode = device["fileMode"].number<std::uint32_t>();
    entry.uid = device["uid"].number<std::uint32_t>();
    entry.gid = device["gid"].number<std::uint32_t>();
    if (entry.path.empty()) device["path"].fail("missing");
    spec.devices.push_back(std::move(entry));
  }
}

void parse_resources(const JsonReader& r, ContainerSpec::Resources& resources) {
  for (const JsonReader& rule : r["devices"].items()) {
    ContainerSpec::DeviceRule entry;
    entry.allow = rule["allow"].boolean();
    entry.type = device_type(rule["type"], true);
    entry.major = rule["major"].number<std::int64_t>();
    entry.minor = rule["minor"].number<std::int64_t>();
    entry.access = rule["access"].text("rwm");
    if (entry.access.find_first_not_of("rwm") != std::string::npos)
      rule["access"].fail("only r, w and m may occur");
    resources.devices.push_back(std::move(entry));
  }
  const JsonReader cpu = r["cpu"], memory = r["memory"];
  resources.cpu_shares = cpu["shares"].number<std::uint64_t>();
  resources.cpu_quota = cpu["quota"].number<std::int64_t>();
  resources.cpu_period = cpu["period"].number<std::uint64_t>();
  resources.cpuset_cpus = cpu["cpus"].text();
  resources.cpuset_mems = cpu["mems"].text();
  resources.memory_limit = memory["limit"].number<std::int64_t>();
  resources.memory_reservation = memory["reservation"].number<std::int64_t>();
  resources.memory_swap = memory["swap"].number<std::int64_t>();
  const auto limit = resources.memory_limit.value_or(0), swap = resources.memory_swap.value_or(0);
  if (swap > 0 && limit <= 0) memory["swap"].fail("needs memory.limit");
  if (swap > 0 && limit > 0 && swap < limit)
    memory["swap"].fail(std::to_string(swap) + " is below memory.limit " + std::to_string(limit));
  for (const char* name : {"blockIO", "hugepageLimits", "rdma", "network"}) refuse_asked(r[name]);
  for (const char* name : {"burst", "idle", "realtimeRuntime", "realtimePeriod"}) refuse_asked(cpu[name]);
  for (const char* name : {"swappiness", "disableOOMKiller", "checkBeforeUpdate"}) refuse_asked(memory[name]);
  resources.pids_limit = r["pids"]["limit"].number<std::int64_t>();
  resources.unified = r["unified"].text_map();
  for (const auto& [file, value] : resources.unified) {
    if (file.find('/') != std::string::npos || file.find("..") != std::string::npos)
      r["unified"].fail("\"" + file + "\" is no file of a cgroup");
  }
}

ContainerSpec::Seccomp parse_seccomp(const JsonReader& r) {
  ContainerSpec::Seccomp seccomp;
  seccomp.default_action = r["defaultAction"].text();
  if (seccomp.default_action.empty()) r["defaultAction"].fail("missing");
  seccomp.default_errno_ret = r["defaultErrnoRet"].number<std::uint32_t>();
  seccomp.architectures = r["architectures"].texts();
  seccomp.flags = r["flags"].texts();
  refuse(r["listenerPath"], "a seccomp listener");
  for (const JsonReader& rule : r["syscalls"].items()) {
    ContainerSpec::SeccompRule entry;
    entry.names = rule["names"].texts();
    entry.action = rule["action"].text();
    entry.errno_ret = rule["errnoRet"].number<std::uint32_t>();
    if (entry.names.empty()) rule["names"].fail("missing");
    for (const JsonReader& argument : rule["args"].items()) {
      entry.args.push_back({argument["index"].number<std::uint32_t>().value_or(0),
                            argument["value"].number<std::uint64_t>().value_or(0),
                            argument["valueTwo"].number<std::uint64_t>().value_or(0), argument["op"].text()});
    }
    seccomp.syscalls.push_back(std::move(entry));
  }
  return seccomp;
}

std::vector<ContainerSpec::Hook> parse_hooks(const JsonReader& r) {
  std::vector<ContainerSpec::Hook> hooks;
  for (const JsonReader& hook : r.items()) {
    ContainerSpec::Hook entry{hook["path"].text(), hook["args"].texts(), hook["env"].texts(),
                              hook["timeout"].number<int>()};
    if (entry.path.empty() || entry.path[0] != '/')
      hook["path"].fail("\"" + entry.path + "\" is not an absolute path");
    if (entry.timeout && *entry.timeout <= 0) hook["timeout"].fail("has to be above 0");
    hooks.push_back(std::move(entry));
  }
  if (hooks.size() > 64) r.fail(std::to_string(hooks.size()) + " hooks; at most 64 are taken");
  return hooks;
}

/// Only names that belong to a namespace of the container's own; others would change the machine.
void check_sysctls(const JsonReader& r, const ContainerSpec& spec) {
  const auto owns = [&](const char* type) {
    return std::any_of(spec.namespaces.begin(), spec.namespaces.end(),
                       [&](const auto& space) { return space.type == type; });
  };
  for (const auto& [name, value] : spec.sysctl) {
    const bool ipc = name.starts_with("fs.mqueue.") || name.starts_with("kernel.shm") ||
                     name.starts_with("kernel.msg") || name == "kernel.sem";
    const bool fine = (name.starts_with("net.") && owns("network")) || (ipc && owns("ipc")) ||
                      (name == "kernel.domainname" && owns("uts"));
    if (!fine) r.fail("\"" + name + "\" does not belong to a namespace of the container");
    if (name.find("..") != std::string::npos || name.find('/') != std::string::npos)
      r.fail("\"" + name + "\" is no sysctl name");
  }
}

void parse_linux(const JsonReader& r, ContainerSpec& spec) {
  std::set<std::string> seen;
  for (const JsonReader& space : r["namespaces"].items()) {
    ContainerSpec::Namespace entry{space["type"].text(), space["path"].text()};
    constexpr std::string_view known[] = {"pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"};
    if (std::find(std::begin(known), std::end(known), entry.type) == std::end(known))
      space["type"].fail("unknown namespace \"" + entry.type + "\"");
    if (!seen.insert(entry.type).second) space["type"].fail("\"" + entry.type + "\" is listed twice");
    if (entry.type == "user" || entry.type == "time")
      space["type"].fail("\"" + entry.type + "\" namespaces are not supported");
    spec.namespaces.push_back(std::move(entry));
  }
  refuse(r["uidMappings"], "linux.uidMappings");
  refuse(r["gidMappings"], "linux.gidMappings");
  refuse(r["intelRdt"], "linux.intelRdt");
  for (const char* name : {"netDevices", "memoryPolicy"}) refuse_asked(r[name]);
  refuse_asked(r["seccomp"]["flags"]);
  refuse(r["personality"], "linux.personality");
  refuse(r["timeOffsets"], "linux.timeOffsets");
  parse_devices(r["devices"], spec);
  spec.cgroups_path = r["cgroupsPath"].text();
  if (spec.cgroups_path.find("..") != std::string::npos) r["cgroupsPath"].fail("has a \"..\"");
  parse_resources(r["resources"], spec.resources);
  spec.sysctl = r["sysctl"].text_map();
  check_sysctls(r["sysctl"], spec);
  spec.masked_paths = r["maskedPaths"].texts();
  spec.readonly_paths = r["readonlyPaths"].texts();
  spec.rootfs_propagation = r["rootfsPropagation"].text();
  if (r["seccomp"].present()) spec.seccomp = parse_seccomp(r["seccomp"]);
}
}  // namespace

Result<ContainerSpec> ContainerSpec::from_json(std::string_view text) {
  if (text.size() > kConfigBytesMax) {
    return Error(Error::too_large, "runtime",
                 "config.json has " + std::to_string(text.size()) + " bytes; at most 4 MiB are taken");
  }
  auto parsed = parse_json(text);
  if (!parsed) return parsed.error().with_context("config.json");
  const json::value document = std::move(parsed).value();
  JsonReader::Failure failure;
  const JsonReader r(&document, "", failure);
  ContainerSpec spec;
  check_version(r["ociVersion"]);
  spec.oci_version = r["ociVersion"].text();
  if (r["process"].present()) spec.process = parse_process(r["process"]);
  spec.root_path = r["root"]["path"].text();
  if (spec.root_path.empty()) r["root"]["path"].fail("missing");
  spec.root_readonly = r["root"]["readonly"].boolean();
  spec.hostname = r["hostname"].text();
  spec.domainname = r["domainname"].text();
  parse_mounts(r["mounts"], spec);
  spec.annotations = r["annotations"].text_map();
  parse_linux(r["linux"], spec);
  const JsonReader hooks = r["hooks"];
  spec.hooks = {parse_hooks(hooks["prestart"]),        parse_hooks(hooks["createRuntime"]),
                parse_hooks(hooks["createContainer"]), parse_hooks(hooks["startContainer"]),
                parse_hooks(hooks["poststart"]),       parse_hooks(hooks["poststop"])};
  if (failure.error) return *failure.error;
  return spec;
}

Result<ContainerSpec> ContainerSpec::from_bundle(const std::string& directory) {
  ORC_ASSIGN(const std::string text, read_file(directory + "/config.json", kConfigBytesMax + 1));
  auto parsed = from_json(text);
  if (!parsed) return parsed.error().with_context(directory);
  ContainerSpec spec = std::move(parsed).value();
  if (spec.root_path[0] != '/') spec.root_path = directory + "/" + spec.root_path;
  return spec;
}

}  // namespace orchestra
