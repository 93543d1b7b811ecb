#pragma once
// RealPodRuntime: PodRuntime over orch-shim. See pod_runtime_factory.hpp for how to get one.
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "runtime/events/event_ring.hpp"
#include "runtime/linux/cgroups.hpp"
#include "runtime/linux/user_namespace.hpp"
#include "runtime/pod/pod.hpp"
#include "runtime/pod_runtime_factory.hpp"

namespace orchestra::runtime {

/// Exit code of a command that could not be started: 127 not found, 126 not executable, else 128.
int start_failure_code(const wire::ReportMessage& message);

class RealPodRuntime final : public PodRuntime, public std::enable_shared_from_this<RealPodRuntime> {
 public:
  RealPodRuntime(Engine& engine, RuntimeOptions options, Isolation isolation,
                 std::shared_ptr<Cgroups> cgroups, RootlessIds ids, std::string no_limits)
      : engine_(engine),
        options_(std::move(options)),
        isolation_(isolation),
        cgroups_(std::move(cgroups)),
        ids_(std::move(ids)),
        no_limits_(std::move(no_limits)) {}
  ~RealPodRuntime() override;
  /// Takes the folder's lock, adopts and undoes.
  Result<void> open();

  /// As create_container, but what the container is comes as a whole specification.
  Pending<ContainerStatus> create_from_spec(std::string pod_uid, ContainerConfig config, ContainerSpec spec);

  Isolation isolation() const override { return isolation_; }
  std::vector<std::string> not_enforced() const override;
  Pending<void> make_removable(std::string path) override {
    return engine_.run_blocking(
        [self = shared_from_this(), path = std::move(path)] { return self->reclaim(path); });
  }
  const std::shared_ptr<EventRing>& events() const { return events_; }
  // pod_control.cpp: what the node agent does not need, but a host does.
  Pending<void> update_container(std::string pod_uid, std::string id, ContainerSpec::Resources resources);
  Pending<void> freeze_container(std::string pod_uid, std::string id, bool frozen);
  Pending<void> resize_container(std::string pod_uid, std::string id, std::uint16_t columns,
                                 std::uint16_t rows);
  Pending<ContainerStats> stats(std::string pod_uid, std::string id);
  bool is_frozen(const std::string& pod_uid, const std::string& id) const;
  Pending<PodSandbox> create_pod(PodSandboxConfig config) override;
  Pending<ContainerStatus> create_container(std::string pod_uid, ContainerConfig config) override;
  Pending<void> start_container(std::string pod_uid, std::string id) override;
  Pending<void> signal_container(std::string pod_uid, std::string id, int signal) override;
  Pending<void> remove_container(std::string pod_uid, std::string id) override;
  Pending<void> remove_pod(std::string pod_uid) override;
  Pending<std::vector<PodRecord>> list() override;
  Pending<ContainerStatus> status(std::string pod_uid, std::string id) override;
  Pending<ContainerStatus> exited(std::string pod_uid, std::string id) override;
  Pending<ExecResult> exec(std::string pod_uid, std::string id, std::vector<std::string> args,
                           Duration deadline, std::size_t output_bytes_max) override;
  Pending<std::shared_ptr<ProcessStream>> exec_stream(std::string pod_uid, std::string id,
                                                      ExecOptions options) override;
  Pending<std::shared_ptr<ProcessStream>> attach(std::string pod_uid, std::string id,
                                                 ExecOptions options) override;
  Pending<ContainerUsage> usage(std::string pod_uid, std::string id) override;
  Pending<void> update_limits(std::string pod_uid, std::string id, ResourceLimits limits) override;

 private:
  std::string program_directory() const {
    return options_.data_dir.empty() ? std::string() : options_.data_dir + "/lib";
  }
  std::vector<std::string> missing_by_level() const;
  std::string pods_directory() const { return options_.state_dir + "/pods"; }
  bool keeps_exits() const { return options_.exit_durability == RuntimeOptions::ExitDurability::machine; }
  std::string exits_directory() const { return options_.data_dir + "/exits"; }
  // pod_kept.cpp: what ended before the machine was started again
  void load_kept_pods();
  Result<void> load_kept_pod(const std::string& uid);
  Result<void> forget_kept(const std::string& uid, const std::string& id) const;
  std::shared_ptr<Pod> find(const std::string& uid) const;
  Result<std::shared_ptr<Pod>> require(const std::string& uid) const;

  // pod_shim.cpp
  Result<PodSandbox> make_pod(const PodSandboxConfig& config);
  /// The pod's new shim; its control connection is followed. `meanwhile` runs while the shim makes its
  /// namespaces, and has to have made the pod's v1 cgroups.
  Result<void> start_shim(const std::shared_ptr<Pod>& pod, const std::vector<std::string>& adopt,
                          int join_pid, const std::function<Result<void>()>& meanwhile);
  Result<void> make_pod_groups(const Pod& pod, std::vector<std::string>& degraded);
  Result<PodSandbox> open_sandbox(Pod& pod, std::vector<std::string> degraded);
  Result<void> load_pod(const std::string& uid);
  /// Follows the shim that runs, or puts a new one in its place. Where it is there but does not answer, it
  /// is asked again later.
  Result<void> reach(const std::shared_ptr<Pod>& pod);
  Result<void> adopt_pod(const std::shared_ptr<Pod>& pod);
  void shim_lost(const std::shared_ptr<Pod>& pod);
  Result<void> follow(const std::shared_ptr<Pod>& pod, Fd connection = {});
  Result<void> destroy_pod(const std::string& uid);

  Result<ContainerStatus> make_container(Pod& pod, const ContainerConfig& config, const ContainerSpec& spec);
  Pending<ContainerStatus> create(std::string pod_uid, ContainerConfig config,
                                  std::optional<ContainerSpec> spec);
  Result<std::string> seccomp_filter(const ContainerConfig& config, const ContainerSpec& spec) const;
  Result<void> place_volumes(const ContainerConfig& config);
  /// Rootless with one id: there are no other groups, and setgroups is denied. True if some were asked for.
  bool drop_groups(ContainerSpec& spec) const;
  Result<void> check_user_ids(const PodSandboxConfig& config) const;
  Result<void> join_processes(const Pod& pod, const std::string& id, ContainerSpec& spec) const;
  /// Rootless: folders of ids that are not ours become ours.
  Result<void> reclaim(const std::string& path) const;
  /// The same for the root of the container with this folder.
  Result<void> reclaim_root(const std::string& container_directory) const;
  Result<void> undo_container(Pod& pod, const std::string& id);
  std::string container_group(const Pod& pod, const std::string& id) const { return pod.group() + "/" + id; }
  Result<std::string> exec_plan(const Pod& pod, const ContainerConfig& config, const ExecOptions& options);

  Engine& engine_;
  const RuntimeOptions options_;
  const Isolation isolation_;
  const std::shared_ptr<Cgroups> cgroups_;  ///< none where no group may be made
  const RootlessIds ids_;                   ///< level rootless only
  const std::string no_limits_;             ///< why level rootless has no cgroups
  /// On v1 a paused process does not even die.
  void thaw(const Pod& pod, const std::string& id) const;
  /// The group of a running container, or why there is none.
  Result<std::string> running_group(const std::string& pod_uid, const std::string& id) const;
  std::shared_ptr<Pod> new_pod(std::string directory, PodSandboxConfig config);
  void tell(RuntimeEvent::Kind kind, const std::string& pod, const std::string& container = {},
            std::optional<int> exit_code = std::nullopt) const;

  const std::shared_ptr<EventRing> events_ = std::make_shared<EventRing>();
  Fd lock_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Pod>> pods_;
};

/// make_pod_runtime with the type that it has here.
Result<std::shared_ptr<RealPodRuntime>> open_pod_runtime(Engine& engine, RuntimeOptions options);

}  // namespace orchestra::runtime
