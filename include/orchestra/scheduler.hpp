#pragma once
// Scheduler: gives every pod a node, and says why not.
//
// Watches pods, nodes, namespaces, volumes and what owns pods through any Client, keeps a SchedulingSnapshot,
// takes waiting pods by priority, places them with place(), assumes the placement and binds in batches. A pod
// that fits nowhere may take the place of pods of lower priority; if that does not help it gets the condition
// PodScheduled=False/Unschedulable and an Event, both written only when they change, and is looked at again
// when a change could help it. Since 0.1.
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "orchestra/client.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/metrics.hpp"
#include "orchestra/scheduler_plugin.hpp"
#include "orchestra/scheduling_snapshot.hpp"
#include "orchestra/what_if.hpp"

namespace orchestra {

/// A scheduler extender: a program that is asked over HTTP which nodes will do, how good they are, and to
/// bind (k8s.io/kube-scheduler/extender/v1). Since 0.2.
struct SchedulerExtender {
  std::string url;  ///< urlPrefix, without a "/" at its end; verbs are put behind it
  std::string filter_verb, prioritize_verb, bind_verb;  ///< empty: it is not asked for this
  std::int64_t weight = 1;                              ///< of its scores, each 0..10
  bool node_cache_capable = false;                      ///< it is sent names of nodes, not whole nodes
  bool ignorable = false;                               ///< pods go on without it when it fails
  Duration timeout = std::chrono::seconds(5);           ///< of one request
  std::set<std::string> managed_resources;  ///< only pods that name one are shown to it; empty: all pods
  // Of https. Without a CA the certificate is not verified, as upstream has it.
  bool insecure = false;
  std::string server_name, ca_pem, certificate_pem, key_pem;
};

/// What a KubeSchedulerConfiguration says.
struct SchedulerConfiguration {
  std::vector<SchedulingProfile> profiles;  ///< at least one; names differ
  /// Asked in this order about each pod that they are for. preemptVerb is refused. Since 0.2.
  std::vector<SchedulerExtender> extenders = {};
  Duration backoff_min = std::chrono::seconds(1);
  Duration backoff_max = std::chrono::seconds(10);
  /// bindTimeoutSeconds of VolumeBinding, the longest of the profiles; absent: none says it. Since 0.3.
  std::optional<Duration> volume_deadline = {};
  /// `kubescheduler.config.k8s.io/v1`, YAML or JSON. `invalid` names the path of what is wrong or not known.
  /// percentageOfNodesToScore and parallelism are accepted: all nodes are always examined, on one thread.
  /// `plugins`: names of the host's plugins, which profiles may weigh or switch off.
  ORC_API static Result<SchedulerConfiguration> parse(std::string_view text,
                                                      const std::vector<std::string>& plugins = {});
};

struct SchedulerOptions {
  std::string name = "default-scheduler";  ///< pods whose spec.schedulerName is this (or empty) are ours
  /// A KubeSchedulerConfiguration; replaces `name`, backoff_min, backoff_max, and volume_deadline where it
  /// says one. Read by start().
  std::string config_yaml = {};
  /// Pods of all nodes share their node's addresses: containerPorts count as hostPorts. Nodes labelled
  /// orchestra.dev/isolation=process say so themselves.
  bool process_level = false;
  std::uint64_t tie_seed = 0;  ///< see PlaceOptions
  Duration backoff_min = std::chrono::seconds(1);
  Duration backoff_max = std::chrono::seconds(10);
  /// Unschedulable pods are tried again after this even if nothing changed: a safety net. 0: never.
  Duration flush_interval = std::chrono::minutes(5);
  Duration status_interval = std::chrono::seconds(10);  ///< between two messages on one pod
  std::size_t batch_max = 256;                          ///< bindings in one request
  std::size_t in_flight_max = 1000;  ///< assumed pods whose binding is not answered; then placing waits
  /// What waiting pods may take in memory. Beyond it the least important are left out of the queue; they are
  /// looked for again when half of it is free, or nothing else can be placed. Since 0.3.
  std::size_t queue_bytes_max = std::size_t{512} << 20;
  std::string fence = {};                                      ///< the token of a won leader election
  std::vector<std::shared_ptr<SchedulerPlugin>> plugins = {};  ///< of the host
  /// How long one call into a plugin may take (pre_bind: a hundred times that). 0: no bound, calls run on the
  /// scheduler's own thread (simulators).
  Duration plugin_deadline = std::chrono::milliseconds(100);
  Duration volume_deadline = std::chrono::seconds(600);  ///< until the claims of a placed pod are bound
  /// Where durations of attempts and of whole schedulings, and who refuses the pods that wait, are counted,
  /// by upstream's names; null: nowhere. Since 0.2.
  std::shared_ptr<Metrics> metrics = {};
  /// A pod of a scheduler of another name, which has said nothing of it for so long, hears so by an Event.
  /// Since 0.2.
  Duration unserved_after = std::chrono::seconds(60);
};

struct SchedulerStats {
  std::uint64_t scheduled = 0, unschedulable = 0, errors = 0;  ///< attempts by result
  std::uint64_t preemptions = 0, victims = 0;
  std::size_t active = 0, backing_off = 0, waiting = 0, in_flight = 0, gated = 0;
  std::size_t left_out = 0;  ///< of a full queue, since the last look for those. Since 0.3.
};

/// The last decision on a pod.
struct SchedulingDecision {
  std::string pod;  ///< "namespace/name"
  Decision decision;
  std::string preempted_on;  ///< a node where others were asked to leave for it
  ORC_API std::string text() const;
};

class ORC_API Scheduler {
 public:
  Scheduler(Engine& engine, Client client, SchedulerOptions options = {});
  ~Scheduler();  ///< stop()
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  /// Before start(): called on worker threads after each decision; must not block.
  void on_decision(std::function<void(const SchedulingDecision&)> callback);
  /// Returns at once; pods are placed when the first lists are there. `invalid`: the configuration.
  Result<void> start();
  /// No binding is asked for after this. Idempotent, any thread but the engine's.
  void stop();
  /// Per node: why not, or the scores, as things are now; extenders are not asked. `not_found`: no such pod.
  Result<std::vector<NodeVerdict>> explain(const std::string& ns, const std::string& name) const;
  /// The same with what follows from it: the node it would get, or what it would be told and who would have
  /// to leave. `not_found`: no such pod. Since 0.2.
  Result<PodAnswer> explain_pod(const std::string& ns, const std::string& name) const;
  /// Those that wait for a node (empty `ns`: of all namespaces), with what they were told last, without
  /// nodes. Since 0.2.
  std::vector<PodAnswer> waiting_pods(const std::string& ns = {}) const;
  /// The last word on a pod that a plugin's permit() made wait. False: it does not wait.
  bool allow(const std::string& ns, const std::string& name);
  bool reject(const std::string& ns, const std::string& name, const std::string& reason);
  SchedulerStats stats() const;
  /// A copy of what it believes runs where.
  SchedulingSnapshot snapshot() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace orchestra
