// Pods and their shims: make, adopt after a restart, start anew when one was killed, remove.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "runtime/domain.hpp"
#include "runtime/linux/spawn.hpp"
#include "runtime/pod/pod_runtime.hpp"
#include "runtime/pod/records.hpp"

namespace orchestra::runtime {
namespace {
using std::chrono::seconds;
constexpr int kReadyDeadlineMs = 30'000;
constexpr auto kAskAgain = seconds(1);
constexpr std::size_t kRecordBytesMax = 4 << 20;

std::uint64_t pod_namespaces(const PodSandboxConfig& config, Isolation isolation) {
  if (isolation == Isolation::process) return 0;
  std::uint64_t flags = CLONE_NEWUTS;
  // Rootless: the network is that of level process until it has a node namespace (spec/net.md 3).
  if (isolation == Isolation::rootless) flags |= CLONE_NEWUSER;
  if (isolation == Isolation::full && !config.host_network) flags |= CLONE_NEWNET;
  if (!config.host_ipc) flags |= CLONE_NEWIPC;
  return flags;
}

/// Of the annotation where the pod has one, else that of all pods.
Result<std::int64_t> log_limit_of(const PodSandboxConfig& config, std::int64_t of_all) {
  constexpr std::int64_t kMost = 1'000'000'000;
  const auto given = config.annotations.find(kLogLimitAnnotation);
  if (given == config.annotations.end()) return std::clamp(of_all, std::int64_t{0}, kMost);
  const std::string& text = given->second;
  std::int64_t limit = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (failed != std::errc() || end != text.data() + text.size() || limit < 1 || limit > kMost) {
    return Error(Error::invalid, kDomain,
                 "pod " + config.uid + ": annotation " + kLogLimitAnnotation + ": \"" + text +
                     "\" is not a number of bytes from 1 to 1000000000");
  }
  return limit;
}

Result<wire::ShimIdentity> read_identity(const std::string& directory) {
  ORC_ASSIGN(const std::string bytes, read_file(directory + "/shim", sizeof(wire::ShimIdentity)));
  wire::ShimIdentity identity;
  if (bytes.size() != sizeof identity)
    return Error(Error::corrupt, kDomain, directory + "/shim: not a shim's identity");
  std::memcpy(&identity, bytes.data(), sizeof identity);
  if (identity.magic != wire::kRecordMagic)
    return Error(Error::corrupt, kDomain, directory + "/shim: not a shim's identity");
  return identity;
}

bool is_alive(int pid, std::uint64_t start_ticks) {
  if (pid <= 0) return false;
  const auto ticks = process_start_time(pid);
  return ticks && *ticks == start_ticks;
}

/// The shim that is named there has ended, or does so within a second.
bool ends_soon(const std::string& directory) {
  const auto identity = read_identity(directory);
  if (!identity || !is_alive(identity->pid, identity->start_ticks)) return true;
  const auto pidfd = open_pidfd(identity->pid);
  if (!pidfd) return pidfd.error().is(Error::not_found);
  pollfd ended{pidfd->get(), POLLIN, 0};  // also of one whose parent does not reap it
  return poll(&ended, 1, 1000) == 1;
}

Result<Fd> make_config_file(const wire::ShimConfig& config) {
  Fd file(static_cast<int>(syscall(SYS_memfd_create, "orch-shim-config", 1u /* MFD_CLOEXEC */)));
  if (!file) return system_error(kDomain, "memfd_create", "shim configuration", errno);
  ORC_TRY(write_all(file.get(), {reinterpret_cast<const char*>(&config), sizeof config}));
  return file;
}

Result<std::pair<Fd, Fd>> make_stream_pair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return system_error(kDomain, "socketpair", "", errno);
  return std::pair<Fd, Fd>(Fd(ends[0]), Fd(ends[1]));
}

Result<void> wait_until_ready(const Fd& connection, const std::string& log) {
  pollfd wait{connection.get(), POLLIN, 0};
  if (poll(&wait, 1, kReadyDeadlineMs) == 0)
    return Error(Error::deadline_exceeded, kDomain, "the shim was not ready after 30 s; see " + log);
  wire::ReportMessage message;
  const ssize_t n = recv(connection.get(), &message, sizeof message, MSG_WAITALL);
  if (n != static_cast<ssize_t>(sizeof message))
    return Error(Error::internal, kDomain, "the shim ended before it was ready; see " + log);
  message.text[sizeof message.text - 1] = '\0';
  if (message.kind == wire::Report::failed) return failure_error(message, "pod");
  return {};
}

/// Of this boot; records of another one are of processes that are gone.
const std::string& boot_id() {
  static const std::string id = [] {
    std::string text = read_file("/proc/sys/kernel/random/boot_id", 64).value_or(std::string());
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }();
  return id;
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(directory, failed))
    names.push_back(entry.path().filename());
  return names;
}
}  // namespace

Result<void> RealPodRuntime::start_shim(const std::shared_ptr<Pod>& shared,
                                        const std::vector<std::string>& adopt, int join_pid,
                                        const std::function<Result<void>()>& meanwhile) {
  Pod& pod = *shared;
  auto config = std::make_unique<wire::ShimConfig>();
  config->namespaces = pod_namespaces(pod.config(), isolation_);
  if (isolation_ == Isolation::rootless) config->user = to_wire(ids_.maps);
  config->share_pid = isolation_ != Isolation::process && pod.config().share_process_namespace &&
                              !pod.config().host_pid && join_pid == 0
                          ? 1
                          : 0;
  config->oom_protect = isolation_ == Isolation::full ? 1 : 0;
  config->join_pid = join_pid;
  config->ends_with_host = options_.keep_alive ? 0 : 1;
  ORC_ASSIGN(config->log_bytes_per_second, log_limit_of(pod.config(), options_.log_bytes_per_second));
  set_field(config->hostname, pod.config().hostname);
  set_field(config->boot_id, boot_id());
  set_field(config->directory, pod.directory());
  if (keeps_exits()) {
    ORC_TRY(make_directories(exits_directory(), 0700));
    set_field(config->records, exits_directory() + "/" + pod.uid());
  }
  std::string unified;
  if (cgroups_) {
    const CgroupPlace place = cgroups_->place_shim(pod.group());
    ORC_TRY(cgroups_->make_shim(pod.group(), true));
    unified = place.unified;
    for (const std::string& file : place.files) {
      if (config->cgroup_count < wire::kShimCgroupsMax)
        set_field(config->cgroup_files[config->cgroup_count++], file);
    }
  }
  for (const auto& [name, value] : pod.config().sysctls) {
    if (isolation_ == Isolation::process) break;
    if (config->sysctl_count >= wire::kShimSysctlsMax)
      return Error(Error::too_large, kDomain, "pod sysctls: at most 32");
    auto& sysctl = config->sysctls[config->sysctl_count++];
    std::string path = name;
    for (char& c : path) c = c == '.' ? '/' : c;
    set_field(sysctl.path, path);
    set_field(sysctl.text, value);
  }
  for (const std::string& id : adopt) {
    if (config->adopt_count < wire::kContainersMax) set_field(config->adopt[config->adopt_count++], id);
  }
  ORC_ASSIGN(const Fd memory, make_config_file(*config));
  ORC_ASSIGN(const Fd listener, listen_for_shim(pod.directory()));
  ORC_ASSIGN(auto connection, make_stream_pair());
  const std::string log = pod.directory() + "/shim.log";
  ORC_ASSIGN(const Fd errors, open_file(log, O_WRONLY | O_CREAT | O_APPEND, 0600));
  SpawnPlan plan;
  plan.role = "shim";
  plan.cgroup = unified;
  plan.descriptors = {-1, -1, errors.get(), memory.get(), listener.get(), connection.second.get()};
  plan.fallback_directory = program_directory();
  ORC_TRY(spawn_embedded(plan));
  connection.second.reset();
  ORC_TRY(meanwhile());
  if (cgroups_) ORC_TRY(cgroups_->make_shim(pod.group(), false));
  if (const char go = 1; send(connection.first.get(), &go, 1, MSG_NOSIGNAL) != 1)
    return Error(Error::internal, kDomain, "the shim ended before it was ready; see " + log);
  ORC_TRY(wait_until_ready(connection.first, log));
  return follow(shared, std::move(connection.first));
}

Result<PodSandbox> RealPodRuntime::open_sandbox(Pod& pod, std::vector<std::string> degraded) {
  PodSandbox sandbox;
  sandbox.uid = pod.uid();
  sandbox.isolation = isolation_;
  sandbox.degraded = std::move(degraded);
  if ((pod_namespaces(pod.config(), isolation_) & CLONE_NEWNET) != 0) {
    ORC_ASSIGN(const wire::ShimIdentity identity, read_identity(pod.directory()));
    ORC_ASSIGN(Fd space, open_file("/proc/" + std::to_string(identity.pid) + "/ns/net", O_RDONLY));
    sandbox.network_namespace = std::make_shared<Fd>(std::move(space));
  }
  pod.set_sandbox(sandbox);
  return sandbox;
}

Result<void> RealPodRuntime::make_pod_groups(const Pod& pod, std::vector<std::string>& degraded) {
  if (!cgroups_) return {};
  const ResourceLimits& limits = pod.config().limits;
  ContainerSpec::Resources resources;
  if (limits.cpu_shares > 0) resources.cpu_shares = static_cast<std::uint64_t>(limits.cpu_shares);
  if (limits.cpu_quota_us > 0) {
    resources.cpu_quota = limits.cpu_quota_us;
    resources.cpu_period = static_cast<std::uint64_t>(limits.cpu_period_us);
  }
  if (limits.memory_bytes > 0) resources.memory_limit = limits.memory_bytes;
  if (limits.pids > 0) resources.pids_limit = limits.pids;
  ORC_TRY(cgroups_->make(pod.group(), resources));
  return cgroups_->apply(pod.group(), resources, degraded, degraded);
}

std::vector<std::string> RealPodRuntime::missing_by_level() const {
  if (isolation_ == Isolation::process) {
    return {"network, pid, mount, ipc, uts namespaces: isolation level process has none",
            "cpu, memory and pids limits: isolation level process has no cgroups"};
  }
  if (isolation_ == Isolation::full) return {};
  std::vector<std::string> missing{
      "network namespace: at isolation level rootless pods use the machine's network with addresses of their "
      "own",
      "device rules: they need root; /dev holds the default nodes only"};
  if (!cgroups_) missing.push_back("cpu, memory and pids limits: " + no_limits_);
  if (!ids_.single_because.empty())
    missing.push_back("user and group ids other than 0: " + ids_.single_because);
  return missing;
}

std::vector<std::string> RealPodRuntime::not_enforced() const {
  if (isolation_ == Isolation::process) return {};
  if (!cgroups_)
    return {"cpu, memory and pids limits: " + (no_limits_.empty() ? "there are no cgroups" : no_limits_)};
  std::vector<std::string> out;
  const CgroupLayout& layout = cgroups_->layout();
  for (const char* controller : {"cpu", "memory", "pids"}) {
    const CgroupHierarchy* at = layout.find(controller);
    if (at == nullptr || !at->writable)
      out.push_back(std::string(controller) + " limits: no hierarchy with the cgroup controller " +
                    controller + " that we may write is mounted below /sys/fs/cgroup");
  }
  const CgroupHierarchy* devices = layout.find("devices");
  if (isolation_ == Isolation::full && (devices == nullptr || !devices->writable) &&
      layout.unified() == nullptr)
    out.push_back(
        "device rules: neither a v1 hierarchy devices nor cgroup v2 is mounted below /sys/fs/cgroup");
  return out;
}

Result<PodSandbox> RealPodRuntime::make_pod(const PodSandboxConfig& config) {
  ORC_TRY(check_name("pod uid", config.uid, 128));
  if (config.hostname.size() > 64)
    return Error(Error::invalid, kDomain, "pod " + config.uid + ": hostname has more than 64 characters");
  if (const auto existing = find(config.uid)) {
    std::lock_guard lock(existing->operation);
    if (ShimConnection::connect(existing->directory())) return existing->sandbox();
  }
  // No such pod, or one whose shim and namespaces are gone: what is left of it is removed first.
  // (A folder goes last, so without one there is nothing.)
  if (access((pods_directory() + "/" + config.uid).c_str(), F_OK) == 0 || find(config.uid))
    ORC_TRY(destroy_pod(config.uid));
  if (keeps_exits()) ORC_TRY(remove_tree(exits_directory() + "/" + config.uid));
  const auto pod = new_pod(pods_directory() + "/" + config.uid, config);
  std::lock_guard lock(pod->operation);
  {
    std::lock_guard table(mutex_);
    if (!pods_.emplace(config.uid, pod).second)
      return Error(Error::conflict, kDomain, "pod " + config.uid + " is being created by another call");
  }
  const auto make = [&]() -> Result<PodSandbox> {
    std::vector<std::string> degraded = missing_by_level();
    ORC_TRY(make_directories(pod->directory() + "/c", 0700));
    ORC_TRY(start_shim(pod, {}, 0, [&]() -> Result<void> {
      ORC_TRY(make_pod_groups(*pod, degraded));
      return replace_file(pod->directory() + "/config.json", to_json(to_record(config, degraded)), 0600,
                          false);
    }));
    tell(RuntimeEvent::Kind::pod_created, config.uid);
    return open_sandbox(*pod, std::move(degraded));
  };
  auto made = make();
  if (!made) {
    engine_.log(LogLevel::warning, "runtime", "pod could not be made",
                {{"pod", config.uid}, {"error", made.error().to_string()}});
    pod->stop_following();
    if (auto shim = ShimConnection::connect(pod->directory()))
      (void)shim->call(wire::Op::shutdown, {}, seconds(15));
    if (cgroups_) (void)cgroups_->remove(pod->group(), seconds(10));
    (void)remove_tree(pod->directory());
    std::lock_guard table(mutex_);
    pods_.erase(config.uid);
    if (cgroups_ && pods_.empty()) cgroups_->remove_parent();
  }
  return made;
}

Result<void> RealPodRuntime::follow(const std::shared_ptr<Pod>& pod, Fd connection) {
  const std::weak_ptr<RealPodRuntime> weak = weak_from_this();
  const std::weak_ptr<Pod> weak_pod = pod;
  return pod->follow(std::move(connection), [weak, weak_pod] {
    const auto self = weak.lock();
    const auto lost = weak_pod.lock();
    if (!self || !lost) return;
    (void)self->engine_.post_blocking([self, lost] { self->shim_lost(lost); });
  });
}

void RealPodRuntime::shim_lost(const std::shared_ptr<Pod>& pod) {
  std::lock_guard lock(pod->operation);
  if (find(pod->uid()) != pod) return;  // removed meanwhile: that is how a shim ends
  if (auto reached = reach(pod); !reached) {
    engine_.log(LogLevel::error, "runtime", "adoption failed",
                {{"pod", pod->uid()}, {"error", reached.error().to_string()}});
  }
}

Result<void> RealPodRuntime::reach(const std::shared_ptr<Pod>& pod) {
  const auto followed = follow(pod);
  if (followed) {
    ORC_TRY(open_sandbox(*pod, pod->sandbox().degraded));
    return {};
  }
  if (followed.error().is(Error::not_found)) return followed.error();  // nor is the pod's folder there
  // None, or one that a host that is gone had asked to end: it ends while it is spoken to.
  if (followed.error().is(Error::unavailable) && ends_soon(pod->directory())) {
    engine_.log(LogLevel::warning, "runtime", "the shim of a pod is gone; its containers are adopted",
                {{"pod", pod->uid()}});
    return adopt_pod(pod);
  }
  engine_.log(LogLevel::warning, "runtime", "the shim of a pod does not answer; it is asked again",
              {{"pod", pod->uid()}, {"error", followed.error().to_string()}});
  const std::weak_ptr<RealPodRuntime> weak = weak_from_this();
  const std::weak_ptr<Pod> weak_pod = pod;
  engine_.after(kAskAgain, [weak, weak_pod] {
    const auto self = weak.lock();
    const auto silent = weak_pod.lock();
    if (!self || !silent) return;
    (void)self->engine_.post_blocking([self, silent] { self->shim_lost(silent); });
  });
  return {};
}

/// The pod's shim is dead. Where containers live, a new one takes over; what ended keeps its record.
Result<void> RealPodRuntime::adopt_pod(const std::shared_ptr<Pod>& pod) {
  std::vector<std::string> ids;
  int join_pid = 0;
  for (const std::string& id : names_in(pod->directory() + "/c")) {
    const auto state = read_state_file(pod->container_directory(id) + "/state");
    if (!state) continue;
    ids.push_back(id);
    const auto& record = state->record;
    if (record.phase == wire::Phase::created && is_alive(record.pid, record.start_ticks)) {
      kill(record.pid, SIGKILL);  // never started: nobody can start it any more
    } else if (record.phase == wire::Phase::running && is_alive(record.pid, record.start_ticks)) {
      join_pid = record.pid;
    }
  }
  if (join_pid == 0 || isolation_ == Isolation::process) {
    // No namespaces to keep (or none at all): a fresh shim serves what is there.
    join_pid = 0;
  }
  ORC_TRY(start_shim(pod, ids, join_pid, []() -> Result<void> { return {}; }));
  auto degraded = pod->sandbox().degraded;
  if (join_pid == 0 && (pod_namespaces(pod->config(), isolation_) & CLONE_NEWNET) != 0) {
    degraded.push_back(
        "network: the shim was killed while no container ran; the network namespace is new and has no "
        "address yet");
  }
  ORC_TRY(open_sandbox(*pod, std::move(degraded)));
  return {};
}

Result<void> RealPodRuntime::load_pod(const std::string& uid) {
  const std::string directory = pods_directory() + "/" + uid;
  const auto text = read_file(directory + "/config.json", kRecordBytesMax);
  if (!text) return destroy_pod(uid);  // made but not yet described: undone
  ORC_ASSIGN(const json::value record, parse_json(*text));
  std::vector<std::string> degraded;
  ORC_ASSIGN(PodSandboxConfig config, pod_from_record(record, degraded));
  if (config.uid != uid)
    return Error(Error::corrupt, kDomain, directory + "/config.json names pod " + config.uid);
  const auto pod = new_pod(directory, std::move(config));
  PodSandbox sandbox;
  sandbox.uid = uid;
  sandbox.isolation = isolation_;
  sandbox.degraded = degraded;
  pod->set_sandbox(sandbox);
  std::vector<std::string> half_made;
  for (const std::string& id : names_in(directory + "/c")) {
    const auto container_text = read_file(pod->container_directory(id) + "/config.json", kRecordBytesMax);
    const auto state = read_state_file(pod->container_directory(id) + "/state");
    if (!container_text || !state) {
      half_made.push_back(id);
      continue;
    }
    ORC_ASSIGN(const json::value container_record, parse_json(*container_text));
    ORC_ASSIGN(ContainerConfig container, container_from_record(container_record));
    pod->add_container(std::move(container), state->record);
    if (state->record.phase == wire::Phase::running) tell(RuntimeEvent::Kind::adopted, uid, id);
  }
  if (const auto identity = read_identity(directory); !identity)
    return destroy_pod(uid);  // the shim was never ready
  {
    std::lock_guard lock(mutex_);
    pods_[uid] = pod;
  }
  std::lock_guard lock(pod->operation);
  ORC_TRY(reach(pod));
  for (const std::string& id : half_made) ORC_TRY(undo_container(*pod, id));
  return {};
}

namespace {
/// Asks the shim to end everything and waits until it is gone itself. `meanwhile` runs while it does so.
Result<void> end_shim(const std::string& directory, const std::function<void()>& meanwhile) {
  constexpr int kGoneMs = 5000;
  Fd pidfd;
  if (const auto identity = read_identity(directory);
      identity && is_alive(identity->pid, identity->start_ticks)) {
    if (auto opened = open_pidfd(identity->pid)) pidfd = std::move(*opened);
  }
  auto shim = ShimConnection::connect(directory);
  if (!shim) return {};
  auto ended = shim->send(wire::Op::shutdown, {});
  meanwhile();
  if (ended) {
    const auto answered = shim->receive(seconds(20));
    if (!answered) ended = answered.error();
  }
  if (!ended && !ended.error().is(Error::unavailable)) return ended.error();
  if (!pidfd) return {};
  pollfd gone{pidfd.get(), POLLIN, 0};
  poll(&gone, 1, kGoneMs);
  // A host that is pid 1 or a subreaper has become its parent: it is reaped, and nobody else is.
  siginfo_t info{};
  (void)waitid(P_PIDFD, static_cast<id_t>(pidfd.get()), &info, WEXITED | WNOHANG);
  return {};
}
}  // namespace

Result<void> RealPodRuntime::destroy_pod(const std::string& uid) {
  const std::string directory = pods_directory() + "/" + uid;
  const auto known = find(uid);
  std::unique_lock<std::mutex> lock;
  if (known) lock = std::unique_lock(known->operation);
  if (known) {
    std::lock_guard table(mutex_);
    pods_.erase(uid);
  }
  if (known) known->stop_following();
  std::vector<std::string> ended;
  for (const std::string& id : known ? names_in(directory + "/c") : std::vector<std::string>()) {
    const auto status = known->status(id);
    if (status && status->state == ContainerState::exited) {
      ended.push_back(id);
    } else {
      thaw(*known, id);
    }
  }
  ORC_TRY(end_shim(directory, [&] {
    for (const std::string& id : cgroups_ ? ended : std::vector<std::string>())
      cgroups_->remove_empty(container_group(*known, id));
  }));
  // A shim that died left its containers to others: they are found by their records.
  for (const std::string& id : names_in(directory + "/c")) {
    const auto state = read_state_file(directory + "/c/" + id + "/state");
    if (state && state->record.phase != wire::Phase::exited &&
        is_alive(state->record.pid, state->record.start_ticks)) {
      kill(state->record.pid, SIGKILL);
    }
    ORC_TRY(reclaim_root(directory + "/c/" + id));
  }
  std::string group = "pod" + uid;
  if (known) {
    group = known->group();
  } else if (const auto text = read_file(directory + "/config.json", kRecordBytesMax)) {
    if (const auto record = parse_json(*text)) {
      const std::string parent = string_at(*record, "/cgroupParent");
      group = (parent.empty() ? "" : parent + "/") + "pod" + uid;
    }
  }
  if (cgroups_) {
    ORC_TRY(cgroups_->remove(group, seconds(10)));
    std::lock_guard table(mutex_);
    if (pods_.empty()) cgroups_->remove_parent();
  }
  ORC_TRY(remove_tree(directory));
  if (keeps_exits()) ORC_TRY(remove_tree(exits_directory() + "/" + uid));
  if (known) {
    known->abandon(Error(Error::not_found, kDomain, "pod " + uid + " was removed"));
    tell(RuntimeEvent::Kind::pod_removed, uid);
  }
  return {};
}

}  // namespace orchestra::runtime
