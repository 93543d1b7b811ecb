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

  /// Nodes that will do, as columns: entry i of each is about slots[i].
  struct Feasible {
    std::vector<Slot> slots;                         // ascending
    std::vector<std::int64_t> spread, pods;          // raw; empty where there is no such rule
    std::vector<std::uint8_t> spread_ignored;        // empty: none is
    std::vector<std::vector<std::int64_t>> plugins;  // by plugin of the host that scores
    std::vector<std::shared_ptr<const std::string>> plugin_names;
    bool ignored(std::size_t i) const { return !spread_ignored.empty() && spread_ignored[i] != 0; }
  };
  Feasible feasible;
  /// All nodes that will do, with raw topology scores: filter() and, where it leaves some, pre_score().
  void walk();
  void filter();
  void pre_score();
  /// Asks the host's plugins about `feasible`, and takes out those that they refuse.
  void run_filters();
  /// Sum of weighted normalised scores of entry `i`; fills `scores` where it is asked for. After walk().
  std::int64_t total(std::size_t i, std::vector<PluginScore>* scores) const;
  /// The entry with the highest total, the first name among equals. After walk(); `feasible` is not empty.
  std::size_t best(std::int64_t& total) const;

  /// The node would not do any more if the pods that were promised it came.
  bool promised_away(Slot slot) const;
  /// As code(), but with these pods gone, and also if the promised ones came.
  Code code_without(Slot slot, const std::vector<const PlacedPod*>& removed) const;
  /// The slot that was promised to this pod.
  std::optional<Slot> own_promise() const { return own_promise_; }

 private:
  static Evaluation& evaluation_of(SchedulingSnapshot::Impl& impl, const PodShape& pod, Id profile,
                                   std::optional<std::vector<Slot>>& only, std::string& for_all);
  void mask_topology(std::vector<std::uint8_t>& usable) const;
  void collect();
  void raw_spread();
  void normalise();

  /// Pods of no lower priority that were promised this node.
  Evaluation::Overlay rivals_on(Slot slot) const;
  bool spread_allows(std::size_t constraint, Id value) const;

  struct PluginJob;
  std::shared_ptr<PluginJob> run_plugin(SchedulerPlugin& plugin, bool scores);

  bool rivals_ = false;  // some node may have such
  std::optional<Slot> own_promise_;
  std::map<Slot, std::pair<std::string, std::string>> plugin_refusals_;  // plugin, reason
  std::vector<std::int64_t> minima_;                                     // by hard constraint
  std::int32_t most_taints_ = 0, most_preferred_ = 0;
  std::int64_t spread_least_ = 0, spread_most_ = 0, pods_least_ = 0, pods_most_ = 0;
};

}  // namespace orchestra::sched
