#pragma once
// The status of a pod, computed from its spec, what the runtime says and what the agent is doing.
//
// Pure: kubernetes pkg/kubelet/kubelet_pods.go (getPhase, generateAPIPodStatus) and
// status/generate.go. Conditions keep their order, types of others stay, lastTransitionTime moves only
// when the value does.
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "api/pod_runtime.hpp"
#include "base/json.hpp"
#include "orchestra/env.hpp"

namespace orchestra::node {

/// What the agent knows of one container beside its spec.
struct ContainerView {
  std::optional<ContainerStatus> current;  ///< of the newest attempt
  std::optional<ContainerStatus> last;     ///< the attempt before
  std::uint32_t restarts = 0;
  std::string waiting_reason, waiting_message;  ///< while there is no running instance
  std::string termination_message, last_termination_message;
  bool ready = false;     ///< readiness probe (true without one once running)
  bool started = false;   ///< startup probe
  json::value resources;  ///< that the running instance has; null: nothing is told
};

struct PodView {
  const json::value* pod = nullptr;                 ///< as the API has it: spec and the conditions of others
  std::map<std::string, ContainerView> containers;  ///< also init containers, by name
  std::vector<std::string> pod_ips;
  std::string host_ip;
  bool sandbox_ready = false;   ///< sandbox and network exist
  bool terminating = false;     ///< no new containers are started
  std::string reason, message;  ///< of a refused or evicted pod: phase Failed
  std::string start_time;       ///< RFC 3339
  std::string resize_pending,
      resize_pending_message;  ///< reason: Deferred or Infeasible; empty: nothing waits
  bool resizing = false;       ///< allocated, and not yet what all containers run with
  std::string resize_error;    ///< why it does not get on
};

struct PodSummary {
  std::string phase;  ///< Pending Running Succeeded Failed Unknown
  bool ready = false, containers_ready = false, initialized = false;
  /// Main containers have ended and are not started again, or the pod cannot begin. Its phase is final only
  /// when nothing of it runs any more, its sidecars included.
  bool over = false;
  bool terminal() const { return phase == "Succeeded" || phase == "Failed"; }
};

PodSummary summarise(const PodView& view);

/// Whether a container that has ended is to be started again: by its own rules, its own policy, else the
/// pod's (KEP-5307). `init`: of the init containers; with the policy Always such a one is a sidecar. Without
/// an exit code no rule fits, and it did not end well.
bool restarts(const json::value& pod, const json::value& container, bool init, std::optional<int> exit_code);

/// The whole `status` object.
json::object make_status(const PodView& view, Now now);

/// True if the two differ in more than times that follow from the difference.
bool status_differs(const json::value& a, const json::value& b);

/// How long to wait before attempt number `restarts` (1 = the first restart) may start, counted from the end
/// of the one before: base doubling to max.
Duration restart_backoff(std::uint32_t restarts, Duration base, Duration max);

/// Guaranteed, Burstable or BestEffort (kubernetes pkg/apis/core/v1/helper/qos).
std::string qos_class(const json::value& pod);

/// cgroup limits and oom score of a container; `memory_capacity` of the machine.
ResourceLimits limits_of(const json::value& container, const std::string& qos, std::int64_t memory_capacity);
/// Limits of the whole pod: sums, where every container has one.
ResourceLimits pod_limits(const json::value& pod, const std::string& qos);

}  // namespace orchestra::node
