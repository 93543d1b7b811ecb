#pragma once
// One pod of the runtime: its folder, its shim, what is known about its containers.
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/pod_runtime.hpp"
#include "orchestra/engine.hpp"
#include "runtime/pod/fd_events.hpp"
#include "runtime/shim/shim_client.hpp"

namespace orchestra::runtime {

/// Names that become parts of paths: 1..max characters of [A-Za-z0-9_.+-], not "." or "..".
Result<void> check_name(std::string_view what, std::string_view name, std::size_t max);

class Pod : public std::enable_shared_from_this<Pod> {
 public:
  Pod(Engine& engine, std::string directory, PodSandboxConfig config)
      : engine_(engine), directory_(std::move(directory)), config_(std::move(config)) {}

  /// Serialises what changes the pod (create, remove); held on workers only.
  std::mutex operation;

  const std::string& directory() const { return directory_; }
  const std::string& uid() const { return config_.uid; }
  const PodSandboxConfig& config() const { return config_; }
  std::string group() const {
    return config_.cgroup_parent + (config_.cgroup_parent.empty() ? "pod" : "/pod") + config_.uid;
  }
  std::string container_directory(const std::string& id) const { return directory_ + "/c/" + id; }

  void set_sandbox(PodSandbox sandbox);
  PodSandbox sandbox() const;
  /// Adds what the sandbox does not say yet.
  void add_degraded(const std::vector<std::string>& reasons);
  void add_container(ContainerConfig config, const wire::ContainerRecord& record);
  void forget_container(const std::string& id);
  std::optional<ContainerConfig> container(const std::string& id) const;
  std::vector<ContainerStatus> statuses() const;
  Result<ContainerStatus> status(const std::string& id) const;
  Pending<ContainerStatus> exited(const std::string& id);
  /// A newer record of the process of a container; completes those who wait for its end.
  void update(const wire::ContainerRecord& record);
  /// Is told each change of a container's phase. Set before the pod is shared.
  std::function<void(const wire::ContainerRecord&)> on_change;

  /// Follows the shim's events. `on_lost` is called (event thread) when the shim is gone.
  /// `connection`: one that is subscribed already; none = a new one is made.
  Result<void> follow(Fd connection, std::function<void()> on_lost);
  void stop_following();
  /// Those who wait get `error`: the pod is removed.
  void abandon(const Error& error);

 private:
  struct Known {
    ContainerConfig config;
    wire::ContainerRecord record;
    std::vector<Promise<ContainerStatus>> waiters;
  };
  void wait_for_events();
  void read_events();
  Result<Known*> find(const std::string& id);

  Engine& engine_;
  const std::string directory_;
  const PodSandboxConfig config_;
  mutable std::mutex mutex_;
  PodSandbox sandbox_;
  std::map<std::string, Known> containers_;
  std::shared_ptr<FdEvents> events_;
  std::function<void()> on_lost_;
  std::string incoming_;
};

}  // namespace orchestra::runtime
