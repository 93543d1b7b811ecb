#pragma once
// One decision: the pod's evaluation, what is the pod's own (claims, named nodes), and the walk over all
// nodes.
#include <optional>
#include <string>
#include <vector>

#include "orchestra/scheduler_plugin.hpp"
#include "sched/evaluation.hpp"
#include "sched/volumes.hpp"

namespace orchestra::sched {

/// A pod ready to be decided on. Holds its evaluation until the end of the scope.
class Attempt {
  // First, because the evaluation is made with them.
  std::optional<std::vector<Slot>> only_made_;
  std::string for_all_made_;

 public:
  Attempt(const SchedulingSnapshot& snapshot, const PodShape& pod, const PlaceOptions& options);

  SchedulingSnapshot::Impl& impl;
  const PodShape& pod;
  const PlaceOptions& options;
  SchedulingProfile const& profile;
  Evaluation& evaluation;
  const VolumePlan volumes;
  /// The nodes that a PreFilter leaves (metadata.name in every term of the node affinity).
  std::optional<std::vector<Slot>> only;
  /// Not empty: no node will do.
  std::string for_all, for_all_plugin;
  /// Set when a plugin of the host failed.
  std::optional<PlacementFailed> failure;

  /// Without topology rules and anything else that needs a walk.
  bool plain() const;
  struct Refusal {
    Code code = Code::ok;
    std::vector<std::string> reasons;
    std::string plugin;
    bool resolvable = false;
  };
  /// `minima` from prepare().
  Code code(Slot slot) const;
  Refusal refusal(Slot slot);
  /// What the hard spread constraints need to know of all nodes.
  void prepare();

  struct Feasible {
    explicit Feasible(Slot at) : slot(at) {}
    Slot slot = 0;
    std::int64_t spread = 0, pods = 0;  ///< raw
    bool spread_ignored = false;
    std::vector<std::int64_t> plugins;
  };
  std::vector<Feasible> feasible;
  /// All nodes that will do, with raw topology scores.
  void walk();
  /// Asks the host's plugins about `feasible`, and takes out those that they refuse.
  void run_filters();
  /// Sum of weighted normalised scores; fills `scores` where it is asked for. After walk().
  std::int64_t total(const Feasible& node, std::vector<PluginScore>* scores) const;

  /// The node would not do any more if the pods that were promised it came.
  bool promised_away(Slot slot) const;
  /// As code(), but with these pods gone, and also if the promised ones came.
  Code code_without(Slot slot, const std::vector<const PlacedPod*>& removed) const;
  bool rivals() const { return rivals_; }

 private:
  static Evaluation& evaluation_of(SchedulingSnapshot::Impl& impl, const PodShape& pod, Id profile,
                                   std::optional<std::vector<Slot>>& only, std::string& for_all);
  void raw_topology();
  void normalise();

  /// Pods of no lower priority that were promised this node.
  Evaluation::Overlay rivals_on(Slot slot) const;
  void give_back(const Evaluation::Overlay& overlay) const;

  struct PluginJob;
  std::shared_ptr<PluginJob> run_plugin(SchedulerPlugin& plugin, bool scores);

  bool rivals_ = false;                                                  // some node may have such
  std::map<Slot, std::pair<std::string, std::string>> plugin_refusals_;  // plugin, reason
  std::vector<std::int64_t> minima_;                                     // by hard constraint
  std::int32_t most_taints_ = 0, most_preferred_ = 0;
  std::int64_t spread_least_ = 0, spread_most_ = 0, pods_least_ = 0, pods_most_ = 0;
};

}  // namespace orchestra::sched
