// RealPodRuntime: calls of the node agent, each on a worker thread, each idempotent by its ids.
//
// Order of creation: record on disk, cgroup, plan, shim. Everything a pod consists of is named by its
// uid, so removing never needs to know how far creating came: that is the journal.
#include "runtime/pod/pod_runtime.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <tuple>
#include <utility>

#include "base/file_lock.hpp"
#include "orchestra/env.hpp"
#include "runtime/domain.hpp"
#include "runtime/linux/labels.hpp"
#include "runtime/linux/seccomp.hpp"
#include "runtime/linux/try_in_child.hpp"
#include "runtime/plan/make_plan.hpp"
#include "runtime/pod/records.hpp"
#include "runtime/spec/pod_spec.hpp"

namespace orchestra::runtime {
namespace {
using std::chrono::seconds;
constexpr Duration kCreateDeadline = seconds(120), kStartDeadline = seconds(10),
                   kSignalDeadline = seconds(10), kRemoveDeadline = seconds(30);
constexpr std::size_t kConfigBytesMax = 4 << 20;

std::string as_bytes(const wire::CreateRequest& request) {
  return {reinterpret_cast<const char*>(&request), sizeof request};
}

/// What an id of the container is on the machine.
std::uint32_t id_outside(const std::vector<ContainerSpec::IdMapping>& mappings, std::uint32_t id) {
  for (const auto& one : mappings) {
    if (id >= one.container && id - one.container < one.size) return one.host + (id - one.container);
  }
  return id;
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
  events_->close();
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
  // A runtime of this very process may be on its way out: a last call on a worker still holds it.
  ORC_ASSIGN(FileLock lock, lock_file(options_.state_dir + "/lock", true));
  if (!lock.fd) {
    return Error(Error::busy, kDomain,
                 options_.state_dir + ": another runtime (pid " +
                     (lock.holder.empty() ? "unknown" : lock.holder) +
                     ") runs the pods of this folder; stop it first");
  }
  lock_ = std::move(lock.fd);
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
  if (keeps_exits()) load_kept_pods();
  return {};
}

/// Whether the pod can have ids of its own here.
Result<void> RealPodRuntime::check_user_ids(const PodSandboxConfig& config) const {
  if (config.first_user_id == 0) return {};
  const auto refuse = [&](Error::Code code, const std::string& why) {
    return Error(code, kDomain, "pod " + config.uid + ": a user namespace of its own " + why);
  };
  if (isolation_ != Isolation::full) return refuse(Error::unsupported, "needs isolation level full");
  if (config.host_network || config.host_pid || config.host_ipc)
    return refuse(Error::invalid, "does not go with the network, processes or ipc of the machine");
  if (config.share_process_namespace) {
    return refuse(Error::unsupported,
                  "does not go with shareProcessNamespace here: its containers have one each");
  }
  return {};
}

Pending<PodSandbox> RealPodRuntime::create_pod(PodSandboxConfig config) {
  if (auto refused = check_user_ids(config); !refused) return refused.error();
  return engine_.run_blocking(
      [self = shared_from_this(), config = std::move(config)] { return self->make_pod(config); });
}

Pending<ContainerStatus> RealPodRuntime::create_container(std::string pod_uid, ContainerConfig config) {
  return create(std::move(pod_uid), std::move(config), std::nullopt);
}

Pending<ContainerStatus> RealPodRuntime::create_from_spec(std::string pod_uid, ContainerConfig config,
                                                          ContainerSpec spec) {
  if (!spec.process) return Error(Error::invalid, kDomain, "container " + config.id + ": process: missing");
  if (spec.root_path.empty() || spec.root_path[0] != '/') {
    return Error(Error::invalid, kDomain,
                 "container " + config.id + ": root_path \"" + spec.root_path + "\" is not absolute");
  }
  // These belong to the pod: its shim holds them, and containers are born inside.
  std::erase_if(spec.namespaces, [](const ContainerSpec::Namespace& space) {
    return space.path.empty() && (space.type == "network" || space.type == "ipc" || space.type == "uts");
  });
  spec.hostname.clear();
  spec.domainname.clear();
  allow_default_devices(spec);
  if (isolation_ == Isolation::rootless) {
    // A sysfs of its own needs a network namespace of its own: the machine's is bound, read-only.
    for (ContainerSpec::Mount& mount : spec.mounts) {
      if (mount.type == "sysfs")
        mount = {mount.destination, "bind", "/sys", {"rbind", "rslave", "nosuid", "noexec", "nodev", "ro"}};
    }
  }
  if (isolation_ == Isolation::process) {
    spec.namespaces.clear();
    spec.mounts.clear();
    spec.process->no_new_privileges = true;
  }
  config.root.directory = spec.root_path;
  config.args = spec.process->args;
  config.tty = spec.process->terminal;
  config.uid = spec.process->user.uid;
  config.gid = spec.process->user.gid;
  config.annotations = spec.annotations;
  return create(std::move(pod_uid), std::move(config), std::move(spec));
}

Pending<ContainerStatus> RealPodRuntime::create(std::string pod_uid, ContainerConfig config,
                                                std::optional<ContainerSpec> spec) {
  return engine_.run_blocking([self = shared_from_this(), uid = std::move(pod_uid),
                               config = std::move(config),
                               spec = std::move(spec)]() -> Result<ContainerStatus> {
    ORC_ASSIGN(const auto pod, self->require(uid));
    std::lock_guard lock(pod->operation);
    if (pod->container(config.id)) return pod->status(config.id);
    ORC_TRY(check_name("container id", config.id, 200));
    const std::string directory = pod->container_directory(config.id);
    auto made = [&]() -> Result<ContainerStatus> {
      ORC_TRY(make_directories(directory + "/root", 0700));
      ORC_TRY(replace_file(directory + "/config.json", to_json(to_record(config)), 0600, false));
      if (spec) ORC_TRY(replace_file(directory + "/spec.json", spec->to_json(), 0600, false));
      ContainerSpec whole = spec ? *spec : make_pod_container_spec(pod->config(), config, self->isolation_);
      if (!config.process_namespace_of.empty())
        ORC_TRY(self->join_processes(*pod, config.process_namespace_of, whole));
      if (self->drop_groups(whole)) pod->add_degraded({"supplementary groups: " + self->ids_.single_because});
      return self->make_container(*pod, config, whole);
    }();
    if (!made) (void)self->undo_container(*pod, config.id);
    return made;
  });
}

/// The shim knows the container by its pid and enters through its pidfd, so a pid that was given away is no
/// danger.
Result<void> RealPodRuntime::join_processes(const Pod& pod, const std::string& id,
                                            ContainerSpec& spec) const {
  if (isolation_ == Isolation::process) {
    return Error(Error::unsupported, kDomain,
                 "process namespace of container " + id +
                     ": level process has none; the machine's processes are seen");
  }
  if (pod.config().first_user_id != 0) {
    return Error(Error::unsupported, kDomain,
                 "process namespace of container " + id +
                     ": it belongs to that container's own user namespace (hostUsers: false)");
  }
  ORC_ASSIGN(const ContainerStatus target, pod.status(id));
  if (target.state != ContainerState::running)
    return Error(Error::conflict, kDomain, "process namespace of container " + id + ": it is not running");
  for (auto& space : spec.namespaces) {
    if (space.type == "pid") space.path = "/proc/" + std::to_string(target.pid) + "/ns/pid";
  }
  return {};
}

/// Of a whole specification its own profile; of the agent's configuration the default one by name.
Result<std::string> RealPodRuntime::seccomp_filter(const ContainerConfig& config,
                                                   const ContainerSpec& spec) const {
  if (spec.seccomp) return compile_seccomp(*spec.seccomp);
  const bool whole = !spec.root_path.empty();
  if (whole || config.privileged || config.seccomp == "unconfined") return std::string();
  if (!config.seccomp.empty() && config.seccomp != "default") {
    return Error(
        Error::unsupported, kDomain,
        "seccomp profile \"" + config.seccomp + "\" is not known; \"default\" and \"unconfined\" are");
  }
  return default_seccomp_filter(*spec.process);
}

Result<ContainerStatus> RealPodRuntime::make_container(Pod& pod, const ContainerConfig& config,
                                                       const ContainerSpec& spec) {
  const std::string directory = pod.container_directory(config.id);
  if (!config.log_path.empty())
    ORC_TRY(make_directories(config.log_path.substr(0, config.log_path.rfind('/')), 0755));
  PlanContext context;
  context.isolation = isolation_;
  context.root = config.root;
  context.root_target = directory + "/root";
  std::tie(context.apparmor, context.selinux) = detect_labels();
  context.state_members = to_json(json::object{
      {"ociVersion", spec.oci_version}, {"id", config.id}, {"status", "creating"}, {"bundle", directory}});
  for (const PodMount& mount : config.mounts) {
    if (!mount.sub_path.empty()) context.sub_paths[mount.target] = mount.sub_path;
  }
  wire::CreateRequest request;
  if (isolation_ == Isolation::rootless) context.ids = &ids_.maps;
  if (const std::uint32_t first = pod.config().first_user_id; first != 0 && spec.root_path.empty()) {
    context.root_by_parent = true;
    // An overlay's root folder is the upper one, which is not mapped.
    const std::string& upper = config.root.overlay_upper;
    if (!upper.empty() && chown(upper.c_str(), first, first) != 0)
      return system_error(kDomain, "chown", upper, errno);
  }
  if (cgroups_) {
    const std::string group = container_group(pod, config.id);
    std::vector<std::string> missing;
    ORC_TRY(cgroups_->make(group, spec.resources));
    ORC_TRY(cgroups_->apply(group, spec.resources, missing, missing));
    pod.add_degraded(missing);
    CgroupPlace place = cgroups_->place(group, spec.resources);
    context.cgroup_files = std::move(place.files);
    context.cgroup_unified = std::move(place.unified);
    context.cgroup_mounts = cgroups_->mounts(group);
    set_field(request.oom_file, cgroups_->oom_file(group));
    set_field(request.cgroup, cgroups_->members_file(group));
  }
  ORC_ASSIGN(context.seccomp_filter, seccomp_filter(config, spec));
  if (isolation_ == Isolation::process) ORC_TRY(place_volumes(config));
  ORC_ASSIGN(const std::string plan, make_plan(spec, context));

  set_field(request.id, config.id);
  set_field(request.directory, directory);
  set_field(request.log_path, config.log_path);
  if (isolation_ == Isolation::process) set_field(request.root, config.root.directory);
  request.log_bytes_max = config.log_file_bytes_max;
  request.uid = id_outside(spec.uid_mappings, config.uid);
  request.gid = id_outside(spec.gid_mappings, config.gid);
  if (config.tty) request.flags |= wire::kWantTerminal;
  if (config.in) request.flags |= wire::kWantInput;
  if (config.in_once) request.flags |= wire::kInputOnce;
  for (const auto& space : spec.namespaces)
    request.own_pid_namespace |= space.type == "pid" && space.path.empty() ? 1u : 0u;

  ORC_ASSIGN(ShimConnection shim, ShimConnection::connect(pod.directory()));
  ORC_ASSIGN(const ShimReply reply, shim.call(wire::Op::create, as_bytes(request) + plan, kCreateDeadline));
  ORC_ASSIGN(const wire::ContainerRecord record, record_in(reply));
  pod.add_container(config, record);
  return pod.status(config.id);
}

Result<void> RealPodRuntime::undo_container(Pod& pod, const std::string& id) {
  thaw(pod, id);
  if (auto shim = ShimConnection::connect(pod.directory())) {
    if (auto removed = shim->call(wire::Op::remove, id_request(id), kRemoveDeadline);
        !removed && !removed.error().is(Error::unavailable)) {
      return removed.error();
    }
  }
  if (cgroups_) ORC_TRY(cgroups_->remove(container_group(pod, id), kRemoveDeadline));
  ORC_TRY(reclaim_root(pod.container_directory(id)));
  ORC_TRY(remove_tree(pod.container_directory(id)));
  if (keeps_exits()) ORC_TRY(forget_kept(pod.uid(), id));
  if (pod.container(id)) tell(RuntimeEvent::Kind::removed, pod.uid(), id);
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
        if (self->cgroups_) {
          ORC_ASSIGN(usage, self->cgroups_->usage(self->container_group(*pod, id)));
        } else {
          ORC_ASSIGN(usage, process_tree_usage(static_cast<int>(status.pid)));
        }
        usage.wall_ns = self->engine_.clock().now().wall_ns;
        return usage;
      });
}

namespace {
/// The namespaces and the mounts that level full starts with, really made, in a child.
bool full_works() {
  const int error = try_in_child(
      [](long) {
        constexpr int spaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
        if (unshare(spaces) != 0) return errno;
        return mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) == 0 ? 0 : errno;
      },
      0);
  return error == 0;
}

struct Level {
  Isolation isolation = Isolation::process;
  RootlessIds ids;
};

Result<Level> try_rootless_level(const RuntimeOptions& options) {
  Level level{Isolation::rootless, find_rootless_ids(options.keep_id)};
  const std::string programs = options.data_dir.empty() ? std::string() : options.data_dir + "/lib";
  auto tried = try_rootless(level.ids.maps, programs);
  if (!tried && level.ids.maps.ranged) {  // the helpers may be refused (no_new_privs) where one id is allowed
    const std::string why = tried.error().message();
    level.ids.maps = plan_id_maps(geteuid(), getegid(), {}, {});
    tried = try_rootless(level.ids.maps, programs);
    if (tried) level.ids.single_because = why;
  }
  if (tried) return level;
  const UserNamespaceCause cause = why_no_user_namespaces();
  std::string text = "isolation level \"rootless\" does not work here: " + tried.error().message();
  if (!cause.cause.empty()) text += "; " + cause.cause + "; remedy: " + cause.remedy;
  return Error(Error::unsupported, kDomain, text + " (orchestra doctor tells more)");
}

/// best: the highest that works, tried by really making what it needs.
Result<Level> choose_level(const RuntimeOptions& options) {
  using Choice = RuntimeOptions::Isolation;
  const bool wants_full = options.isolation == Choice::full || options.isolation == Choice::best;
  if (wants_full && full_works()) return Level{Isolation::full, {}};
  if (options.isolation == Choice::full) {
    return Error(Error::unsupported, kDomain,
                 "isolation level \"full\" does not work here (it needs CAP_SYS_ADMIN); run as root, or use "
                 "\"rootless\" or \"process\"");
  }
  std::string refused;
  if (options.isolation != Choice::process) {
    auto rootless = try_rootless_level(options);
    if (rootless || options.isolation == Choice::rootless) return rootless;
    refused = rootless.error().message() + "; ";
  }
  if (try_in_child([](long) { return chroot("/") == 0 ? 0 : errno; }, 0) != 0) {
    return Error(Error::unsupported, kDomain,
                 refused +
                     "isolation level \"process\" needs chroot, which is refused here (CAP_SYS_CHROOT); "
                     "run as root");
  }
  return Level{Isolation::process, {}};
}
}  // namespace

bool RealPodRuntime::drop_groups(ContainerSpec& spec) const {
  if (isolation_ != Isolation::rootless || ids_.maps.ranged) return false;
  return !std::exchange(spec.process->user.additional_gids, {}).empty();
}

Result<void> RealPodRuntime::reclaim_root(const std::string& container_directory) const {
  if (isolation_ != Isolation::rootless) return {};
  const auto text = read_file(container_directory + "/config.json", kConfigBytesMax);
  const auto record = text ? parse_json(*text) : Result<json::value>(text.error());
  const auto config = record ? container_from_record(*record) : Result<ContainerConfig>(record.error());
  if (!config || config->root.directory.empty()) return {};  // never described, so it never ran
  return reclaim(config->root.directory);
}

Result<void> RealPodRuntime::reclaim(const std::string& path) const {
  return isolation_ == Isolation::rootless ? reclaim_tree(ids_.maps, path, program_directory())
                                           : Result<void>();
}

Result<std::shared_ptr<RealPodRuntime>> open_pod_runtime(Engine& engine, RuntimeOptions options) {
  if (options.state_dir.empty()) {
    return Error(Error::invalid, kDomain,
                 "state_dir: missing; name a folder on tmpfs such as /run/orchestra/ID");
  }
  if (options.exit_durability == RuntimeOptions::ExitDurability::machine && options.data_dir.empty()) {
    return Error(
        Error::invalid, kDomain,
        "exit_durability machine: data_dir is missing; name a folder that outlives the machine's start");
  }
  ORC_ASSIGN(const Level level, choose_level(options));
  if (options.cgroup_parent.empty()) {
    options.cgroup_parent = options.instance.empty() ? "/orchestra" : "/orchestra-" + options.instance;
  }
  std::shared_ptr<Cgroups> cgroups;
  if (level.isolation == Isolation::full) {
    ORC_ASSIGN(CgroupLayout layout, detect_cgroups());
    ORC_ASSIGN(cgroups, Cgroups::open(std::move(layout), options.cgroup_parent));
    cgroups->share_device_group(default_device_rules());
  }
  std::string no_limits;
  if (level.isolation == Isolation::rootless) {
    ORC_ASSIGN(const CgroupLayout layout, detect_cgroups());
    auto delegated = Cgroups::open_delegated(layout, options.cgroup_parent, options.move_host_to_leaf);
    if (delegated) cgroups = *delegated;
    if (!delegated) no_limits = delegated.error().message();
  }
  auto made = std::make_shared<RealPodRuntime>(engine, std::move(options), level.isolation,
                                               std::move(cgroups), level.ids, std::move(no_limits));
  ORC_TRY(made->open());
  return made;
}

}  // namespace orchestra::runtime

namespace orchestra {

Result<std::shared_ptr<PodRuntime>> make_pod_runtime(Engine& engine, RuntimeOptions options) {
  ORC_ASSIGN(auto made, runtime::open_pod_runtime(engine, std::move(options)));
  return std::shared_ptr<PodRuntime>(std::move(made));
}

}  // namespace orchestra
