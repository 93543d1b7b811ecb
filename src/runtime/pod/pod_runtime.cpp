// RealPodRuntime: calls of the node agent, each on a worker thread, each idempotent by its ids.
//
// Order of creation: record on disk, cgroup, plan, shim. Everything a pod consists of is named by its
// uid, so removing never needs to know how far creating came: that is the journal.
#include "runtime/pod/pod_runtime.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "orchestra/env.hpp"
#include "runtime/linux/seccomp.hpp"
#include "runtime/plan/make_plan.hpp"
#include "runtime/pod/records.hpp"
#include "runtime/spec/pod_spec.hpp"

namespace orchestra::runtime {
namespace {
using std::chrono::seconds;
constexpr Duration kCreateDeadline = seconds(120), kStartDeadline = seconds(10),
                   kSignalDeadline = seconds(10), kRemoveDeadline = seconds(30);
constexpr const char* kDomain = "runtime";

std::string as_bytes(const wire::CreateRequest& request) {
  return {reinterpret_cast<const char*>(&request), sizeof request};
}

Result<wire::ContainerRecord> record_in(const ShimReply& reply) {
  wire::ContainerRecord record;
  if (reply.payload.size() != sizeof record)
    return Error(Error::corrupt, kDomain, "the shim's answer has no container record");
  std::memcpy(&record, reply.payload.data(), sizeof record);
  return record;
}
}  // namespace

RealPodRuntime::~RealPodRuntime() {
  for (auto& [uid, pod] : pods_) {
    pod->stop_following();
    pod->abandon(Error(Error::cancelled, kDomain, "the runtime was closed; its containers go on"));
  }
}

std::shared_ptr<Pod> RealPodRuntime::find(const std::string& uid) const {
  std::lock_guard lock(mutex_);
  const auto found = pods_.find(uid);
  return found == pods_.end() ? nullptr : found->second;
}
Result<std::shared_ptr<Pod>> RealPodRuntime::require(const std::string& uid) const {
  auto pod = find(uid);
  if (!pod) return Error(Error::not_found, kDomain, "pod " + uid + " does not exist here");
  return pod;
}

Result<void> RealPodRuntime::open() {
  ORC_TRY(make_directories(pods_directory(), 0700));
  ORC_ASSIGN(lock_, open_file(options_.state_dir + "/lock", O_RDWR | O_CREAT, 0600));
  if (flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    const auto holder = read_file(options_.state_dir + "/lock", 64);
    return Error(Error::busy, kDomain,
                 options_.state_dir + ": another process (pid " +
                     (holder && !holder->empty() ? *holder : "unknown") +
                     ") runs the pods of this folder; stop it first");
  }
  if (ftruncate(lock_.get(), 0) != 0)
    return system_error(kDomain, "ftruncate", options_.state_dir + "/lock", errno);
  ORC_TRY(write_all(lock_.get(), std::to_string(getpid())));
  std::error_code failed;
  std::vector<std::string> uids;
  for (const auto& entry : std::filesystem::directory_iterator(pods_directory(), failed))
    uids.push_back(entry.path().filename());
  for (const std::string& uid : uids) {
    if (auto loaded = load_pod(uid); !loaded) {
      engine_.log(LogLevel::warning, "runtime", "pod could not be adopted",
                  {{"pod", uid}, {"error", loaded.error().to_string()}});
    }
  }
  return {};
}

Pending<PodSandbox> RealPodRuntime::create_pod(PodSandboxConfig config) {
  return engine_.run_blocking(
      [self = shared_from_this(), config = std::move(config)] { return self->make_pod(config); });
}

Pending<ContainerStatus> RealPodRuntime::create_container(std::string pod_uid, ContainerConfig config) {
  return engine_.run_blocking([self = shared_from_this(), uid = std::move(pod_uid),
                               config = std::move(config)]() -> Result<ContainerStatus> {
    ORC_ASSIGN(const auto pod, self->require(uid));
    std::lock_guard lock(pod->operation);
    if (pod->container(config.id)) return pod->status(config.id);
    auto made = self->make_container(*pod, config);
    if (!made) (void)self->undo_container(*pod, config.id);
    return made;
  });
}

Result<ContainerStatus> RealPodRuntime::make_container(Pod& pod, const ContainerConfig& config) {
  ORC_TRY(check_name("container id", config.id, 200));
  const std::string directory = pod.container_directory(config.id);
  ORC_TRY(make_directories(directory + "/root", 0700));
  ORC_TRY(replace_file(directory + "/config.json", to_json(to_record(config)), 0600, false));
  if (!config.log_path.empty())
    ORC_TRY(make_directories(config.log_path.substr(0, config.log_path.rfind('/')), 0755));

  const ContainerSpec spec = make_pod_container_spec(pod.config(), config, isolation_);
  PlanContext context;
  context.isolation = isolation_;
  context.root = config.root;
  context.root_target = directory + "/root";
  wire::CreateRequest request;
  if (cgroups_ && isolation_ == Isolation::full) {
    const std::string group = container_group(pod, config.id);
    std::vector<std::string> missing;
    ORC_TRY(cgroups_->make(group));
    ORC_TRY(cgroups_->apply(group, spec.resources, missing));
    context.cgroup_files = cgroups_->procs_files(group);
    set_field(request.oom_file, cgroups_->oom_file(group));
    if (!context.cgroup_files.empty()) set_field(request.cgroup, context.cgroup_files.front());
  }
  if (config.seccomp != "unconfined" && !config.privileged) {
    ORC_ASSIGN(context.seccomp_filter, default_seccomp_filter(*spec.process));
  }
  if (isolation_ == Isolation::process) ORC_TRY(place_volumes(config));
  ORC_ASSIGN(const std::string plan, make_plan(spec, context));

  set_field(request.id, config.id);
  set_field(request.directory, directory);
  set_field(request.log_path, config.log_path);
  if (isolation_ == Isolation::process) set_field(request.root, config.root.directory);
  request.log_bytes_max = config.log_file_bytes_max;
  request.uid = config.uid;
  request.gid = config.gid;
  if (config.tty) request.flags |= wire::kWantTerminal;
  if (config.in) request.flags |= wire::kWantInput;
  if (config.in_once) request.flags |= wire::kInputOnce;
  for (const auto& space : spec.namespaces) request.own_pid_namespace |= space.type == "pid" ? 1u : 0u;

  ORC_ASSIGN(ShimConnection shim, ShimConnection::connect(pod.directory()));
  ORC_ASSIGN(const ShimReply reply, shim.call(wire::Op::create, as_bytes(request) + plan, kCreateDeadline));
  ORC_ASSIGN(const wire::ContainerRecord record, record_in(reply));
  pod.add_container(config);
  pod.update(record);
  return pod.status(config.id);
}

Result<void> RealPodRuntime::undo_container(Pod& pod, const std::string& id) {
  if (auto shim = ShimConnection::connect(pod.directory())) {
    if (auto removed = shim->call(wire::Op::remove, id_request(id), kRemoveDeadline);
        !removed && !removed.error().is(Error::unavailable)) {
      return removed.error();
    }
  }
  if (cgroups_) ORC_TRY(cgroups_->remove(container_group(pod, id), kRemoveDeadline));
  ORC_TRY(remove_tree(pod.container_directory(id)));
  pod.forget_container(id);
  return {};
}

Pending<void> RealPodRuntime::start_container(std::string pod_uid, std::string id) {
  return engine_.run_blocking(
      [self = shared_from_this(), uid = std::move(pod_uid), id = std::move(id)]() -> Result<void> {
        ORC_ASSIGN(const auto pod, self->require(uid));
        ORC_TRY(pod->status(id));
        ORC_ASSIGN(ShimConnection shim, ShimConnection::connect(pod->directory()));
        ORC_ASSIGN(const ShimReply reply, shim.call(wire::Op::start, id_request(id), kStartDeadline));
        ORC_ASSIGN(const wire::ContainerRecord record, record_in(reply));
        pod->update(record);
        return {};
      });
}

Pending<void> RealPodRuntime::signal_container(std::string pod_uid, std::string id, int signal) {
  return engine_.run_blocking([self = shared_from_this(), uid = std::move(pod_uid), id = std::move(id),
                               signal]() -> Result<void> {
    if (signal < 1 || signal > 64)
      return Error(Error::invalid, kDomain, "signal " + std::to_string(signal) + ": 1..64 are signals");
    ORC_ASSIGN(const auto pod, self->require(uid));
    ORC_ASSIGN(const ContainerStatus status, pod->status(id));
    if (status.state == ContainerState::exited)
      return Error(Error::conflict, kDomain, "container " + id + " is not running");
    ORC_ASSIGN(ShimConnection shim, ShimConnection::connect(pod->directory()));
    ORC_TRY(shim.call(wire::Op::signal, id_request(id, static_cast<std::uint32_t>(signal)), kSignalDeadline));
    return {};
  });
}

Pending<void> RealPodRuntime::remove_container(std::string pod_uid, std::string id) {
  return engine_.run_blocking(
      [self = shared_from_this(), uid = std::move(pod_uid), id = std::move(id)]() -> Result<void> {
        const auto pod = self->find(uid);
        if (!pod) return {};
        ORC_TRY(check_name("container id", id, 200));
        std::lock_guard lock(pod->operation);
        return self->undo_container(*pod, id);
      });
}

Pending<void> RealPodRuntime::remove_pod(std::string pod_uid) {
  return engine_.run_blocking([self = shared_from_this(), uid = std::move(pod_uid)]() -> Result<void> {
    ORC_TRY(check_name("pod uid", uid, 128));
    return self->destroy_pod(uid);
  });
}

Pending<std::vector<PodRecord>> RealPodRuntime::list() {
  std::vector<std::shared_ptr<Pod>> pods;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [uid, pod] : pods_) pods.push_back(pod);
  }
  std::vector<PodRecord> records;
  for (const auto& pod : pods) records.push_back({pod->config(), pod->sandbox(), pod->statuses()});
  return Result<std::vector<PodRecord>>(std::move(records));
}

Pending<ContainerStatus> RealPodRuntime::status(std::string pod_uid, std::string id) {
  auto pod = require(pod_uid);
  if (!pod) return pod.error();
  return (*pod)->status(id);
}

Pending<ContainerStatus> RealPodRuntime::exited(std::string pod_uid, std::string id) {
  auto pod = require(pod_uid);
  if (!pod) return pod.error();
  return (*pod)->exited(id);
}

Pending<ContainerUsage> RealPodRuntime::usage(std::string pod_uid, std::string id) {
  return engine_.run_blocking(
      [self = shared_from_this(), uid = std::move(pod_uid), id = std::move(id)]() -> Result<ContainerUsage> {
        ORC_ASSIGN(const auto pod, self->require(uid));
        ORC_ASSIGN(const ContainerStatus status, pod->status(id));
        if (status.state != ContainerState::running)
          return Error(Error::conflict, kDomain, "container " + id + " is not running");
        ContainerUsage usage;
        if (self->cgroups_ && self->isolation_ == Isolation::full) {
          ORC_ASSIGN(usage, self->cgroups_->usage(self->container_group(*pod, id)));
        } else {
          ORC_ASSIGN(usage, process_tree_usage(static_cast<int>(status.pid)));
        }
        usage.wall_ns = self->engine_.clock().now().wall_ns;
        return usage;
      });
}

}  // namespace orchestra::runtime

namespace orchestra {

Result<std::shared_ptr<PodRuntime>> make_pod_runtime(Engine& engine, RuntimeOptions options) {
  using Choice = RuntimeOptions::Isolation;
  if (options.state_dir.empty())
    return Error(Error::invalid, "runtime",
                 "state_dir: missing; name a folder on tmpfs such as /run/orchestra/ID");
  if (options.isolation == Choice::rootless) {
    return Error(Error::unsupported, "runtime",
                 "isolation level \"rootless\" is not built in yet; use \"full\" (root) or \"process\"");
  }
  const bool root = geteuid() == 0;
  if (options.isolation == Choice::full && !root) {
    return Error(Error::unsupported, "runtime",
                 "isolation level \"full\" needs root (CAP_SYS_ADMIN); use \"process\", or run as root");
  }
  const Isolation level =
      options.isolation == Choice::process || !root ? Isolation::process : Isolation::full;
  if (options.cgroup_parent.empty())
    options.cgroup_parent = options.instance.empty() ? "/orchestra" : "/orchestra-" + options.instance;
  std::shared_ptr<runtime::Cgroups> cgroups;
  if (level == Isolation::full) {
    ORC_ASSIGN(runtime::CgroupLayout layout, runtime::detect_cgroups());
    ORC_ASSIGN(cgroups, runtime::Cgroups::open(std::move(layout), options.cgroup_parent));
  }
  auto made =
      std::make_shared<runtime::RealPodRuntime>(engine, std::move(options), level, std::move(cgroups));
  ORC_TRY(made->open());
  return std::shared_ptr<PodRuntime>(std::move(made));
}

}  // namespace orchestra
