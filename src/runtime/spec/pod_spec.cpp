#include "runtime/spec/pod_spec.hpp"

#include "runtime/spec/capabilities.hpp"

namespace orchestra::runtime {
namespace {
void add_volume(ContainerSpec& spec, const PodMount& mount, bool id_mapped) {
  ContainerSpec::Mount entry;
  entry.destination = mount.target;
  if (mount.tmpfs) {
    entry.type = entry.source = "tmpfs";
    entry.options = {"nosuid", "nodev", "mode=1777"};
    if (mount.tmpfs_bytes_max > 0) entry.options.push_back("size=" + std::to_string(mount.tmpfs_bytes_max));
  } else {
    entry.type = "bind";
    entry.source = mount.source;
    entry.options = {"rbind", mount.propagation.empty() ? "rprivate" : mount.propagation};
    if (id_mapped) entry.options.push_back("idmap");
  }
  entry.options.push_back(!mount.read_only ? "rw" : mount.recursive_read_only ? "rro" : "ro");
  spec.mounts.push_back(std::move(entry));
}

void set_resources(ContainerSpec& spec, const ResourceLimits& limits) {
  auto& resources = spec.resources;
  if (limits.cpu_shares > 0) resources.cpu_shares = static_cast<std::uint64_t>(limits.cpu_shares);
  if (limits.cpu_quota_us > 0) {
    resources.cpu_quota = limits.cpu_quota_us;
    resources.cpu_period = static_cast<std::uint64_t>(limits.cpu_period_us);
  }
  if (limits.memory_bytes > 0) resources.memory_limit = limits.memory_bytes;
  if (limits.pids > 0) resources.pids_limit = limits.pids;
}
}  // namespace

void add_default_mounts(ContainerSpec& spec, bool privileged, bool own_network) {
  spec.mounts.push_back({"/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}});
  spec.mounts.push_back({"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}});
  spec.mounts.push_back({"/dev/pts",
                         "devpts",
                         "devpts",
                         {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}});
  spec.mounts.push_back(
      {"/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}});
  spec.mounts.push_back({"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}});
  if (own_network) {
    spec.mounts.push_back(
        {"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", privileged ? "rw" : "ro"}});
  } else {  // sysfs shows the network namespace of its mounter: without an own one the machine's is bound
    spec.mounts.push_back(
        {"/sys", "bind", "/sys", {"rbind", "rslave", "nosuid", "noexec", "nodev", privileged ? "rw" : "ro"}});
  }
}

void add_default_protections(ContainerSpec& spec) {
  spec.masked_paths = {"/proc/acpi",
                       "/proc/asound",
                       "/proc/interrupts",
                       "/proc/kcore",
                       "/proc/keys",
                       "/proc/latency_list",
                       "/proc/latency_stats",
                       "/proc/timer_list",
                       "/proc/timer_stats",
                       "/proc/sched_debug",
                       "/proc/scsi",
                       "/sys/firmware",
                       "/sys/devices/virtual/powercap"};
  spec.readonly_paths = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
}

std::vector<ContainerSpec::DeviceRule> default_device_rules() {
  using Rule = ContainerSpec::DeviceRule;
  std::vector<Rule> rules{{false, 'a', {}, {}, "rwm"}, {true, 'c', {}, {}, "m"}, {true, 'b', {}, {}, "m"}};
  for (const int minor : {3, 5, 7, 8, 9}) rules.push_back({true, 'c', 1, minor, "rwm"});
  for (const int minor : {0, 1, 2}) rules.push_back({true, 'c', 5, minor, "rwm"});
  rules.push_back({true, 'c', 136, std::nullopt, "rwm"});
  return rules;
}

void allow_default_devices(ContainerSpec& spec) {
  auto& rules = spec.resources.devices;
  if (rules.empty() || (rules.back().allow && rules.back().type == 'a')) return;
  const auto defaults = default_device_rules();
  rules.insert(rules.end(), defaults.begin() + 1, defaults.end());  // without its "deny all"
}

ContainerSpec make_pod_container_spec(const PodSandboxConfig& pod, const ContainerConfig& container,
                                      Isolation isolation) {
  ContainerSpec spec;
  spec.process = ContainerSpec::Process{};
  auto& process = *spec.process;
  process.args = container.args;
  process.env = container.env;
  process.cwd = container.cwd.empty() ? "/" : container.cwd;
  process.terminal = container.tty;
  process.user.uid = container.uid;
  process.user.gid = container.gid;
  process.user.additional_gids = container.supplemental_groups;
  process.no_new_privileges = container.no_new_privileges || isolation == Isolation::process;
  process.oom_score_adj = container.limits.oom_score_adj;
  std::vector<std::string> unknown;
  const std::uint64_t set = container.privileged ? kAllCapabilities
                                                 : choose_capabilities(container.add_capabilities,
                                                                       container.drop_capabilities, unknown);
  const std::vector<std::string> names = capability_names(set);
  // Ids other than 0 lose their effective set at exec unless it is ambient; as containerd, none is.
  process.capabilities = ContainerSpec::Capabilities{names, names, names, {}, {}};
  if (container.uid != 0) process.capabilities->effective = process.capabilities->permitted = {};
  spec.annotations = container.annotations;
  set_resources(spec, container.limits);
  if (isolation == Isolation::process) return spec;

  if (!pod.host_pid && !pod.share_process_namespace) spec.namespaces.push_back({"pid", ""});
  spec.namespaces.push_back({"mount", ""});
  const bool own_users = pod.first_user_id != 0;
  if (own_users) {
    spec.namespaces.push_back({"user", ""});
    spec.uid_mappings = spec.gid_mappings = {{0, pod.first_user_id, kPodUserIds}};
  }
  if (!container.privileged) spec.namespaces.push_back({"cgroup", ""});
  spec.root_readonly = container.read_only_root;
  add_default_mounts(spec, container.privileged, isolation == Isolation::full && !pod.host_network);
  if (container.privileged) {
    spec.resources.devices = {{true, 'a', {}, {}, "rwm"}};
  } else {
    if (!container.unmasked_proc) add_default_protections(spec);
    spec.resources.devices = default_device_rules();
  }
  for (const PodMount& mount : container.mounts) add_volume(spec, mount, own_users);
  return spec;
}

}  // namespace orchestra::runtime
