#pragma once
// Evaluation: everything worked out for one kind of pod (equal rules, equal profile), over all nodes.
//
// Made once per kind in O(nodes), then kept up to date by replaying the snapshot's log of changed slots. For
// pods that no topology rule touches, a tournament tree over (score, rank of name) gives the best node in
// O(1) and takes a change in O(log nodes). For the others the sums per topology value are kept, and choosing
// is one walk over integers.
//
// Invariant: after refresh(), every column and sum equals what a full recount would give. Scores that are
// normalised over the feasible nodes are kept raw; the tree is built again when their maximum moves.
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "sched/snapshot.hpp"

namespace orchestra::sched {

/// Why a node is refused, in the order in which upstream's default plugins ask.
enum class Code : std::uint8_t {
  ok,
  unschedulable,
  node_name,
  taints,
  affinity,
  ports,
  fit,
  rwop,
  volume_limits,
  volumes,  ///< VolumeBinding; several reasons
  zone,
  spread_key,
  spread,
  pod_affinity,
  pod_anti,
  existing_anti,
  plugin,
  not_asked,  ///< outside of the set of nodes that a PreFilter left
  absent,
};
const char* plugin_of(Code code);
/// Word for word upstream's; nullptr for those that make their own (fit, volumes, plugin).
const char* reason_of(Code code);
/// Ending pods of lower priority could help.
bool resolvable(Code code);

struct Requirement {
  enum class Op : std::uint8_t { in, not_in, exists, absent, greater, less, never };
  Op op = Op::never;
  Id column = kNoId;               ///< kNoId: the node's name
  std::vector<Id> values;          ///< ids of the column
  std::vector<std::string> names;  ///< for the node's name
  std::int64_t number = 0;
};
struct Term {
  std::vector<Requirement> all;
  std::int64_t weight = 0;
};

/// Sums of counters by topology value.
struct Aggregate {
  struct Source {
    bool held = false;  ///< a HeldTerm, else a Matcher
    Id id = 0;
    std::int64_t weight = 1;
  };
  std::vector<Source> sources;
  Id column = 0;
  int constraint = -1;              ///< of spread: only nodes that this constraint counts
  std::vector<std::int64_t> sum;    ///< by value id
  std::vector<std::int32_t> nodes;  ///< by value id: how many count
  std::vector<std::int64_t> seen;   ///< by slot
  std::vector<Id> seen_value;       ///< by slot; 0: does not count
  std::int64_t total = 0;
};

struct Spread {
  SpreadConstraint rule;
  Id column = 0;
  Id matcher = 0;
  bool self = false;   ///< the pod matches its own selector
  bool counts = true;  ///< an empty selector matches the pod, but counts nothing
  bool hostname = false;
};

class Evaluation {
 public:
  using Impl = SchedulingSnapshot::Impl;
  Evaluation(Impl& impl, Id record, Id profile);
  Evaluation(const Evaluation&) = delete;
  Evaluation& operator=(const Evaluation&) = delete;
  /// Gives back what it holds in `impl` (the snapshot, or a copy of it).
  void release(Impl& impl) const;
  /// Replays what changed since. After it, everything below is true.
  void refresh();
  std::size_t bytes() const;

  // By slot.
  std::vector<Code> static_code, dynamic_code;
  std::vector<std::int32_t> base, taints, preferred;
  Code code(Slot slot) const {
    return static_code[slot] != Code::ok ? static_code[slot] : dynamic_code[slot];
  }

  // Topology rules of this pod, and of others on it.
  bool topology() const { return topology_; }
  std::vector<Spread> hard, soft;
  bool soft_needs_all_keys = true;
  std::vector<Aggregate> hard_sums, soft_sums;  // soft_sums: not for hostname
  std::vector<Aggregate> affinity, own_anti, existing_anti, pod_scores;
  bool matches_own_affinity = false;

  /// The best slot and its total, of a pod without topology rules. nullopt: none fits.
  struct Best {
    Slot slot = 0;
    std::int64_t total = 0;
    std::size_t feasible = 0;
  };
  std::optional<Best> best();
  /// The total of a slot that will do, beside those that best() chooses from.
  Best best_at(Slot slot) const;
  std::size_t feasible() const { return feasible_; }
  /// Without topology rules: pods of no lower priority that were promised this node leave no room on it.
  bool taken(Slot slot) const { return taken_[slot] != 0; }

  /// How many nodes say what, as far as the node alone decides. Kept up to date, so that a refusal of all
  /// nodes costs nothing per node.
  struct Refusals {
    std::array<std::int32_t, static_cast<std::size_t>(Code::absent) + 1> codes{};
    std::vector<std::int32_t> lacking;  ///< by record().amounts
    std::int32_t too_many = 0;          ///< pods
    std::int32_t fits_empty = 0;        ///< lack something, but would not if they were empty
  };
  const Refusals& refusals() const { return refusals_; }
  /// False: the pod asks for more resources than are counted.
  bool counts_refusals() const { return record().amounts.size() <= kCountedAmounts; }

  std::int64_t fit_score(Slot slot) const;
  std::int64_t balanced_score(Slot slot) const;
  std::int64_t image_score(Slot slot) const;
  /// Could the node ever have enough, were it empty?
  bool fits_empty(Slot slot) const;
  /// The profile does not ask whether a node has enough of it.
  bool ignores(Id resource) const;

  /// First code with these pods taken off the slot and those put on it.
  struct Overlay {
    std::vector<const PlacedPod*> removed;
    std::vector<const PodRules*> added;
    std::vector<Id> added_records;  ///< of `added`
  };
  Code code_with(Slot slot, const Overlay& overlay) const;
  /// Every resource that the node lacks.
  std::vector<std::string> lacking(Slot slot, const Overlay* overlay) const;
  /// Adds 1 to `too_many` and to each of `lacking` that the node lacks.
  void count_lacking(Slot slot, const Overlay* overlay, Refusals& counts) const;

  /// What preempt() found out about a slot; forgotten when the node changes.
  struct Victims {
    bool known = false;
    bool possible = false;
    Code code = Code::ok;                ///< when not possible
    std::vector<const PlacedPod*> pods;  ///< most important first
    std::size_t violations = 0;
    // What candidates are compared by.
    std::int64_t highest = 0, sum = 0, started_ns = 0;
  };
  std::vector<Victims> victims;  ///< by slot; empty until somebody preempts

  const Record& record() const { return impl_.records[record_]; }
  const SchedulingProfile& profile() const { return impl_.profiles[profile_]; }
  bool enabled(const char* plugin) const {
    const auto& disabled = profile().disabled_filters;
    return disabled.empty() || !disabled.contains(plugin);
  }
  Impl& impl() const { return impl_; }

 private:
  struct ScoredResource {
    Id column = 0;
    std::int64_t added = 0, weight = 1;
  };
  void compile();
  void compile_scores();
  std::vector<Requirement> compile(const std::vector<NodeRequirement>& labels,
                                   const std::vector<NodeRequirement>& fields);
  std::vector<Term> compile(const std::vector<NodeTerm>& terms);
  bool holds(const Requirement& requirement, Slot slot) const;
  bool matches(const Term& term, Slot slot) const;
  bool any(const std::vector<Term>& terms, Slot slot) const;

  void resize();
  void update(Slot slot);
  void update_static(Slot slot);
  Code dynamic(Slot slot, const Overlay* overlay) const;
  std::int64_t used_with(Id resource, Slot slot, const Overlay& overlay) const;
  std::int64_t pods_with(Slot slot, const Overlay* overlay) const;
  Code fit_code(Slot slot, const Overlay* overlay) const;
  std::uint32_t fit_bits(Slot slot) const;
  bool rivals_take(Slot slot) const;
  void count(Slot slot, int by);
  bool ports_free(Slot slot, const Overlay* overlay) const;
  std::int32_t base_of(Slot slot) const;

  void build_topology();
  void drop_matchers(Impl& impl) const;
  bool counts_for(const Spread& constraint, const std::vector<Spread>& keys, bool all_keys, Slot slot) const;
  void update_sums(Slot slot);
  void update_sum(Aggregate& sum, Slot slot, bool counts);
  std::int64_t contribution(const Aggregate& sum, Id record) const;

  void put_key(Slot slot);
  void build_tree();
  std::uint64_t key_of(Slot slot) const;

  Impl& impl_;
  const Id record_, profile_;
  std::vector<Requirement> selector_;
  std::optional<std::vector<Term>> required_, added_;
  std::vector<Term> preferred_terms_;
  std::vector<ScoredResource> fit_scored_, balanced_scored_;
  std::vector<std::int16_t> hard_taints_, soft_taints_;  // by taint set; -1: not yet known
  bool any_image_ = false;
  std::vector<std::uint8_t> flags_;  // 1: node affinity matches, 2: no untolerated hard taint
  std::vector<std::uint32_t> generation_, shape_generation_;
  std::uint64_t log_at_ = 0, columns_version_ = 0, images_version_ = 0, terms_version_ = 0;
  bool topology_ = false, fresh_ = true;
  std::vector<Id> held_matchers_;

  static constexpr std::size_t kCountedAmounts = 30;
  static constexpr std::uint32_t kTooMany = 1, kFitsEmpty = 2;  // then one bit for each amount
  std::vector<std::uint32_t> fit_bits_;                         // by slot, where the code is fit
  Refusals refusals_;
  std::vector<std::uint8_t> taken_;  // by slot

  // Of feasible slots: how many have this raw value.
  std::map<std::int32_t, std::int32_t> taint_counts_, preferred_counts_;
  std::vector<std::uint8_t> counted_;  // by slot: it is in those
  std::size_t feasible_ = 0;
  std::int32_t tree_taints_ = -1, tree_preferred_ = -1;
  std::uint64_t tree_rank_ = ~std::uint64_t{0}, tree_seed_ = 0;
  std::size_t leaves_ = 0;
  std::vector<std::uint64_t> tree_;
};

}  // namespace orchestra::sched
