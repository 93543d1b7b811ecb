// config.json of the OCI runtime specification (1.0 .. 1.3) to ContainerSpec.
#include <algorithm>
#include <set>

#include "base/fd.hpp"
#include "orchestra/container_spec.hpp"
#include "runtime/spec/json_reader.hpp"
#include "runtime/spec/parse_resources.hpp"

namespace orchestra {
namespace {

using runtime::device_type;
using runtime::JsonReader;
using runtime::parse_resources;
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

/// "0-3,5": the numbers of cpus or memory nodes.
std::string cpu_list(const JsonReader& reader) {
  std::string text = reader.text();
  if (text.find_first_not_of("0123456789-, ") != std::string::npos)
    reader.fail("\"" + text + "\" is no list of numbers like 0-3,5");
  return text;
}

template <std::size_t N>
void check_word(const JsonReader& reader, const std::string& word, const std::string_view (&known)[N]) {
  if (std::find(std::begin(known), std::end(known), word) == std::end(known))
    reader.fail("unknown value \"" + word + "\"");
}

std::vector<ContainerSpec::IdMapping> parse_mappings(const JsonReader& r) {
  std::vector<ContainerSpec::IdMapping> all;
  for (const JsonReader& entry : r.items()) {
    const ContainerSpec::IdMapping mapping{id_of(entry["containerID"]), id_of(entry["hostID"]),
                                           entry["size"].number<std::uint32_t>().value_or(0)};
    const std::uint64_t inner_end = std::uint64_t{mapping.container} + mapping.size;
    const std::uint64_t outer_end = std::uint64_t{mapping.host} + mapping.size;
    if (mapping.size == 0) entry["size"].fail("0: a mapping has at least one id");
    if (inner_end > std::uint64_t{kIdMax} + 1 || outer_end > std::uint64_t{kIdMax} + 1)
      entry["size"].fail("the mapping goes beyond id " + std::to_string(kIdMax));
    for (const auto& other : all) {
      const bool inside =
          other.container < inner_end && mapping.container < std::uint64_t{other.container} + other.size;
      const bool outside = other.host < outer_end && mapping.host < std::uint64_t{other.host} + other.size;
      if (inside || outside) entry.fail("overlaps another mapping");
    }
    all.push_back(mapping);
  }
  if (all.size() > 340) r.fail(std::to_string(all.size()) + " mappings; the kernel takes 340");
  return all;
}

void parse_scheduler(const JsonReader& r, ContainerSpec::Process& process) {
  constexpr std::string_view policies[] = {"SCHED_OTHER", "SCHED_FIFO", "SCHED_RR",      "SCHED_BATCH",
                                           "SCHED_ISO",   "SCHED_IDLE", "SCHED_DEADLINE"};
  constexpr std::string_view flags[] = {"SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM",
                                        "SCHED_FLAG_DL_OVERRUN",    "SCHED_FLAG_KEEP_POLICY",
                                        "SCHED_FLAG_KEEP_PARAMS",   "SCHED_FLAG_UTIL_CLAMP_MIN",
                                        "SCHED_FLAG_UTIL_CLAMP_MAX"};
  process.scheduler = ContainerSpec::Scheduler{};
  auto& scheduler = *process.scheduler;
  scheduler.policy = r["policy"].text();
  check_word(r["policy"], scheduler.policy, policies);
  scheduler.nice = r["nice"].number<int>().value_or(0);
  if (scheduler.nice < -20 || scheduler.nice > 19)
    r["nice"].fail(std::to_string(scheduler.nice) + ": -20..19 are taken");
  scheduler.priority = r["priority"].number<int>().value_or(0);
  const bool real_time = scheduler.policy == "SCHED_FIFO" || scheduler.policy == "SCHED_RR";
  if (scheduler.priority != 0 && !real_time) r["priority"].fail("only SCHED_FIFO and SCHED_RR have one");
  scheduler.flags = r["flags"].texts();
  for (const std::string& flag : scheduler.flags) check_word(r["flags"], flag, flags);
  scheduler.runtime = r["runtime"].number<std::uint64_t>().value_or(0);
  scheduler.deadline = r["deadline"].number<std::uint64_t>().value_or(0);
  scheduler.period = r["period"].number<std::uint64_t>().value_or(0);
  const bool timed = scheduler.runtime != 0 || scheduler.deadline != 0 || scheduler.period != 0;
  if (timed && scheduler.policy != "SCHED_DEADLINE")
    r["runtime"].fail("runtime, deadline and period belong to SCHED_DEADLINE");
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
  if (const JsonReader scheduler = r["scheduler"]; scheduler.present()) parse_scheduler(scheduler, process);
  if (const JsonReader io = r["ioPriority"]; io.present()) {
    process.io_priority =
        ContainerSpec::IoPriority{io["class"].text(), io["priority"].number<int>().value_or(0)};
    const auto& chosen = *process.io_priority;
    if (chosen.io_class != "IOPRIO_CLASS_RT" && chosen.io_class != "IOPRIO_CLASS_BE" &&
        chosen.io_class != "IOPRIO_CLASS_IDLE")
      io["class"].fail("unknown class \"" + chosen.io_class + "\"");
    if (chosen.priority < 0 || chosen.priority > 7)
      io["priority"].fail(std::to_string(chosen.priority) + ": 0..7 are priorities");
  }
  process.exec_affinity_initial = cpu_list(r["execCPUAffinity"]["initial"]);
  process.exec_affinity_final = cpu_list(r["execCPUAffinity"]["final"]);
  return process;
}

void parse_mounts(const JsonReader& r, ContainerSpec& spec) {
  for (const JsonReader& mount : r.items()) {
    spec.mounts.push_back({mount["destination"].text(), mount["type"].text(), mount["source"].text(),
                           mount["options"].texts()});
    if (spec.mounts.back().destination.empty()) mount["destination"].fail("missing");
    auto& entry = spec.mounts.back();
    entry.uid_mappings = parse_mappings(mount["uidMappings"]);
    entry.gid_mappings = parse_mappings(mount["gidMappings"]);
    if (entry.uid_mappings.empty() != entry.gid_mappings.empty())
      mount["uidMappings"].fail("uidMappings and gidMappings come together");
  }
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

ContainerSpec::Seccomp parse_seccomp(const JsonReader& r) {
  ContainerSpec::Seccomp seccomp;
  seccomp.default_action = r["defaultAction"].text();
  if (seccomp.default_action.empty()) r["defaultAction"].fail("missing");
  seccomp.default_errno_ret = r["defaultErrnoRet"].number<std::uint32_t>();
  seccomp.architectures = r["architectures"].texts();
  seccomp.flags = r["flags"].texts();
  constexpr std::string_view flags[] = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
                                        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                                        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  for (const std::string& flag : seccomp.flags) check_word(r["flags"], flag, flags);
  seccomp.listener_path = r["listenerPath"].text();
  seccomp.listener_metadata = r["listenerMetadata"].text();
  if (!seccomp.listener_metadata.empty() && seccomp.listener_path.empty())
    r["listenerMetadata"].fail("needs listenerPath");
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

void parse_memory_policy(const JsonReader& r, ContainerSpec& spec) {
  constexpr std::string_view modes[] = {
      "MPOL_DEFAULT",   "MPOL_BIND",           "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE",
      "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_LOCAL"};
  constexpr std::string_view flags[] = {"MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES",
                                        "MPOL_F_STATIC_NODES"};
  auto& policy = spec.memory_policy.emplace();
  policy.mode = r["mode"].text();
  check_word(r["mode"], policy.mode, modes);
  policy.nodes = cpu_list(r["nodes"]);
  policy.flags = r["flags"].texts();
  for (const std::string& flag : policy.flags) check_word(r["flags"], flag, flags);
  const bool takes_none = policy.mode == "MPOL_DEFAULT" || policy.mode == "MPOL_LOCAL";
  if (takes_none && !policy.nodes.empty()) r["nodes"].fail(policy.mode + " takes no nodes");
  if (!takes_none && policy.mode != "MPOL_PREFERRED" && policy.nodes.empty())
    r["nodes"].fail(policy.mode + " needs nodes");
}

void parse_extras(const JsonReader& r, ContainerSpec& spec) {
  for (const auto& [device, options] : r["netDevices"].members()) {
    std::string name = options["name"].text();
    if (name.empty()) name = device;
    const bool bad = name.size() > 15 || name == "." || name == ".." || name.find('/') != std::string::npos;
    if (bad) options["name"].fail("\"" + name + "\" is no name of a network device");
    spec.net_devices[device] = name;
  }
  if (!spec.net_devices.empty() && std::none_of(spec.namespaces.begin(), spec.namespaces.end(),
                                                [](const auto& space) { return space.type == "network"; }))
    r["netDevices"].fail("needs a network namespace in linux.namespaces");
  spec.mount_label = r["mountLabel"].text();
  if (const JsonReader personality = r["personality"]; personality.present()) {
    constexpr std::string_view domains[] = {"LINUX", "LINUX32"};
    spec.personality = personality["domain"].text();
    check_word(personality["domain"], *spec.personality, domains);
    if (personality["flags"].asked()) personality["flags"].fail("no flag is defined by the specification");
  }
  if (const JsonReader policy = r["memoryPolicy"]; policy.present()) parse_memory_policy(policy, spec);
  if (const JsonReader rdt = r["intelRdt"]; rdt.present()) {
    spec.intel_rdt =
        ContainerSpec::IntelRdt{rdt["closID"].text(), rdt["l3CacheSchema"].text(), rdt["memBwSchema"].text(),
                                rdt["schemata"].texts(), rdt["enableMonitoring"].boolean()};
    const std::string& id = spec.intel_rdt->clos_id;
    if (id == "." || id == ".." || id.find('/') != std::string::npos)
      rdt["closID"].fail("\"" + id + "\" is no name of a folder");
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
    spec.namespaces.push_back(std::move(entry));
  }
  spec.uid_mappings = parse_mappings(r["uidMappings"]);
  spec.gid_mappings = parse_mappings(r["gidMappings"]);
  const auto space_of = [&](const char* type) {
    return std::find_if(spec.namespaces.begin(), spec.namespaces.end(),
                        [&](const auto& space) { return space.type == type; });
  };
  const auto user = space_of("user");
  const bool mapped = !spec.uid_mappings.empty() || !spec.gid_mappings.empty();
  if (mapped && user == spec.namespaces.end())
    r["uidMappings"].fail("mappings need a user namespace in linux.namespaces");
  if (mapped && user != spec.namespaces.end() && !user->path.empty())
    r["uidMappings"].fail("a joined user namespace has its own mappings");
  if (user != spec.namespaces.end() && user->path.empty() &&
      (spec.uid_mappings.empty() || spec.gid_mappings.empty()))
    r["uidMappings"].fail("a new user namespace needs uidMappings and gidMappings");
  for (const auto& [clock, offset] : r["timeOffsets"].members()) {
    if (clock != "monotonic" && clock != "boottime") offset.fail("unknown clock; monotonic and boottime are");
    spec.time_offsets[clock] = {offset["secs"].number<std::int64_t>().value_or(0),
                                offset["nanosecs"].number<std::uint32_t>().value_or(0)};
    if (spec.time_offsets[clock].nanoseconds >= 1'000'000'000)
      offset["nanosecs"].fail("0..999999999 are taken");
  }
  if (!spec.time_offsets.empty() && space_of("time") == spec.namespaces.end())
    r["timeOffsets"].fail("needs a time namespace in linux.namespaces");
  parse_extras(r, spec);
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
