#pragma once
// A Deployment and its ReplicaSets as numbers, for the length of one decision.
//
// The rules (decide.cpp, rollout.cpp, status.cpp) change the model; `actions_of` then says which writes make
// the world like it. So every rule reads as arithmetic, and a ReplicaSet is written at most once a decision.
#include <optional>
#include <string>
#include <vector>

#include "controllers/common/objects.hpp"
#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

inline constexpr const char* kRevision = "deployment.kubernetes.io/revision";
inline constexpr const char* kRevisionHistory = "deployment.kubernetes.io/revision-history";
inline constexpr const char* kDesiredReplicas = "deployment.kubernetes.io/desired-replicas";
inline constexpr const char* kMaxReplicas = "deployment.kubernetes.io/max-replicas";
inline constexpr const char* kTemplateHash = "pod-template-hash";

/// One ReplicaSet of the deployment: what it is, and what it shall become.
struct ReplicaSetModel {
  Object object;       // empty: to be created from `tree`
  json::value wanted;  // the tree to write, changed in place
  bool changed = false;
  bool removed = false;
  std::int64_t replicas = 0;  // spec.replicas, as it shall be
  std::int64_t observed = 0;  // status.replicas
  std::int64_t ready = 0, available = 0;
  std::optional<std::int64_t> terminating;
  std::int64_t revision = 0;
  std::int64_t created_ns = 0;
  std::string name, uid;

  static ReplicaSetModel from(const Object& object);
  /// The set's controller has acted on its present size, so its counts are of this size (or older and
  /// larger).
  bool settled() const;
  /// Pods that are available and will stay so: of too many, a set gives up the others first.
  std::int64_t usable() const { return available < replicas ? available : replicas; }
  std::optional<std::int64_t> annotated(const char* name) const;
  /// Sets an annotation; answers whether that changed something.
  bool annotate(const char* name, const std::string& value);
};

struct DeploymentModel {
  Object object;
  Now now;
  std::int64_t replicas = 1, max_surge = 0, max_unavailable = 0, min_ready_seconds = 0;
  std::int64_t history_limit = 10;
  std::optional<std::int64_t> progress_deadline;  // absent: off
  Duration progress_age{};                        // of its last progress, if that is on record
  bool paused = false, rolling = true;
  std::string hash;  // of the current template; empty when a set has it: nothing is named by it then

  std::vector<ReplicaSetModel> old_sets;  // oldest first
  std::optional<ReplicaSetModel> new_set;

  json::value status;    // as it shall be
  json::value metadata;  // annotations as they shall be
  Actions actions;       // events and what is not a change of a set

  std::int64_t total_replicas() const;
  std::int64_t old_replicas() const;
  std::int64_t total_available() const;
  std::int64_t total_usable() const;
  /// How much the new set may grow within replicas + maxSurge, counting pods that old sets still have.
  std::int64_t growth_room() const;
  std::int64_t min_available() const { return replicas - max_unavailable; }
  /// Calls f for every set, old ones first.
  template <class F>
  void each_set(F f) {
    for (ReplicaSetModel& set : old_sets) f(set);
    if (new_set) f(*new_set);
  }
  template <class F>
  void each_set(F f) const {
    for (const ReplicaSetModel& set : old_sets) f(set);
    if (new_set) f(*new_set);
  }
  /// Sets the size and the size annotations of a set, with the Event that users know. True: changed.
  bool scale(ReplicaSetModel& set, std::int64_t replicas);
  void condition(const char* type, const char* status, const char* reason, const std::string& message);
};

/// Reads a deployment and the sets that it controls; `sets` in any order.
DeploymentModel model_of(const Object& deployment, const std::vector<Object>& sets, Now now);
/// Template equality that ignores the hash label (deployment_util.go, EqualIgnoreHash).
bool same_template(const json::value* a, const json::value* b);

// sync.cpp: the new set, revisions, scaling outside of rollouts, history.
/// Finds the set of the current template, or models a new one if `create`; keeps revisions. False: the name
/// is taken by another template; the collision count was raised and nothing else may be done.
bool sync_new_set(DeploymentModel& model, const View& view, bool create);
bool is_scaling(const DeploymentModel& model);
void scale_proportionally(DeploymentModel& model);
void prune_history(DeploymentModel& model);

// rollout.cpp
void roll(DeploymentModel& model);
void recreate(DeploymentModel& model, const View& view);

// status.cpp
bool complete(const DeploymentModel& model, const json::value& status);
json::value counted_status(const DeploymentModel& model);
void write_progress(DeploymentModel& model);
/// The model as actions, in order: sets created and changed, metadata, status, sets removed, events.
Actions actions_of(DeploymentModel& model);

}  // namespace orchestra::controllers
