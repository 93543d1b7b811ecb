#pragma once
// The inside of a SchedulingSnapshot.
//
// Nodes live in slots of a structure of arrays: one column per resource and one per label key that somebody
// asked about, so that a filter is a walk over integers. Pods are interned: those with equal rules share one
// record, and a placed pod is its UID, its record and its slot.
//
// Topology spread and pod affinity never look at pods. Whoever wants to know "how many pods that match this
// selector are on each node" registers a Matcher; whoever carries (anti-)affinity terms is counted per node
// under each HeldTerm. Both are kept by every add and remove of a pod: its label class knows which matchers
// match it, so the cost is the number of those, never the number of selectors in the cluster.
//
// Every change of a node is an entry in `log`. An Evaluation (evaluation.hpp) replays what it has not seen.
//
// Invariants: the sums of a slot equal those over the pods in it, also while the node itself is missing; a
// counter equals a recount; ids of records, matchers and terms in use are never given to others.
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "orchestra/scheduling_snapshot.hpp"

namespace orchestra::sched {

using Slot = std::uint32_t;
using Id = std::uint32_t;
inline constexpr Id kNoId = ~Id{0};

struct ResourceColumn {
  std::string name;
  std::vector<std::int64_t> total, used;
};

/// One label key: for each slot the id of its value, 0 where the node has no such label.
struct LabelColumn {
  std::string key;
  std::unordered_map<std::string, Id> ids;
  std::vector<std::string> values{std::string()};
  std::vector<Id> of;
  Id id_of(const std::string& value);
};

enum class HeldKind : std::uint8_t { required_affinity, required_anti, preferred };

/// A term that placed pods carry; `of` counts them by slot.
struct HeldTerm {
  std::string key;
  PodTerm term;
  HeldKind kind = HeldKind::required_anti;
  Id column = 0;
  std::int64_t weight = 0;  ///< of preferred ones, negative for anti-affinity
  std::vector<std::int32_t> of;
  std::size_t users = 0;
};

/// Pods that match all of these terms; `of` counts them by slot.
struct Matcher {
  std::string key;
  std::vector<PodTerm> terms;
  bool skip_terminating = false;
  std::vector<std::int32_t> of;
  std::size_t users = 0;
};

/// Pods with equal namespace and labels.
struct LabelClass {
  std::string key, ns;
  std::map<std::string, std::string> labels;
  bool terminating = false;
  std::unordered_map<Slot, std::int32_t> pods;
  std::vector<Id> matchers;  ///< that count these pods
  std::vector<Id> terms;     ///< of others, that match these pods
  std::uint64_t terms_version = 0;
  std::size_t users = 0;
};

struct Record {
  PodRules rules;
  std::size_t hash = 0;
  Id label_class = kNoId;
  std::vector<std::pair<Id, std::int64_t>> amounts;  ///< resource column, amount > 0
  std::vector<Id> held;
  std::size_t users = 0;
};

struct PlacedPod {
  std::string uid, name;
  Id record = 0;
  Slot slot = 0;
  std::int64_t started_ns = 0;
};

/// By UID: a set, for a map would hold the UID of each pod twice.
struct ByUid {
  using is_transparent = void;
  std::size_t operator()(std::string_view uid) const { return std::hash<std::string_view>()(uid); }
  std::size_t operator()(const PlacedPod& pod) const { return (*this)(pod.uid); }
  bool operator()(std::string_view uid, const PlacedPod& pod) const { return uid == pod.uid; }
  bool operator()(const PlacedPod& one, const PlacedPod& other) const { return one.uid == other.uid; }
};
using PlacedPods = std::unordered_set<PlacedPod, ByUid, ByUid>;

/// A pod that a node was promised to.
struct Nomination {
  PodShape pod;
  Slot slot = 0;
  Id record = 0;
};

struct NodeState {
  NodeShape shape;
  bool present = false;  ///< false: pods name this node, but it is not there (yet, or any more)
  bool in_use = false;   ///< the slot is taken
  std::uint32_t generation = 0, shape_generation = 0;
  std::map<PodPort, int> host_ports, container_ports;  ///< how many pods claim it
  std::vector<const PlacedPod*> pods;
  std::map<std::string, std::int64_t> volume_limits;  ///< CSI driver -> most volumes
  std::vector<const Nomination*> nominated;
  std::shared_ptr<const NodeShape> shared;  ///< a copy for plugins; empty: not made since the last change
};

class Evaluation;

inline constexpr Id kCpu = 0, kMemory = 1;

bool tolerates(const Toleration& toleration, const NodeTaint& taint);
bool term_matches(const PodTerm& term, const std::string& ns,
                  const std::map<std::string, std::string>& namespace_labels,
                  const std::map<std::string, std::string>& labels);
/// One nodeSelectorTerm on a node's labels and name.
bool matches(const NodeTerm& term, const std::map<std::string, std::string>& labels, const std::string& name);
bool holds(const NodeRequirement& requirement, const std::string* value);

}  // namespace orchestra::sched

namespace orchestra {

struct SchedulingSnapshot::Impl {
  explicit Impl(SnapshotLimits bounds);
  ~Impl();
  Impl(const Impl& other);
  Impl& operator=(const Impl&) = delete;

  SnapshotLimits limits;
  // Nodes.
  std::deque<sched::NodeState> nodes;  // by slot
  std::unordered_map<std::string, sched::Slot> slots;
  std::vector<sched::Slot> free_slots;
  std::size_t present = 0;
  std::vector<std::uint8_t> alive;  // by slot
  std::deque<sched::ResourceColumn> resources;
  std::unordered_map<std::string, sched::Id> resource_ids;
  std::vector<std::int64_t> pods_total, pods_used, score_millicores, score_memory;  // by slot
  std::deque<sched::LabelColumn> columns;
  std::unordered_map<std::string, sched::Id> column_ids;
  std::vector<std::vector<NodeTaint>> taint_sets;
  std::map<std::string, sched::Id> taint_ids;
  std::vector<sched::Id> taint_set;                  // by slot
  std::unordered_map<std::string, int> image_nodes;  // how many nodes have it
  // Pods.
  sched::PlacedPods pods;
  std::deque<sched::Record> records;
  std::unordered_multimap<std::size_t, sched::Id> record_ids;
  std::vector<sched::Id> free_records;
  std::deque<sched::LabelClass> label_classes;
  std::unordered_map<std::string, sched::Id> label_class_ids;
  std::vector<sched::Id> free_label_classes;
  std::deque<sched::Matcher> matchers;
  std::unordered_map<std::string, sched::Id> matcher_ids;
  std::vector<sched::Id> free_matchers;
  std::deque<sched::HeldTerm> terms;
  std::unordered_map<std::string, sched::Id> term_ids;
  std::vector<sched::Id> free_terms;
  std::map<std::string, std::map<std::string, std::string>> namespaces;
  std::map<std::string, sched::Nomination> nominations;  // by UID
  // Volumes.
  std::map<std::string, VolumeShape> volumes;
  std::map<std::string, ClaimShape> claims;  // "ns/name"
  std::map<std::string, StorageClassShape> storage_classes;
  std::map<std::string, CapacityShape> capacities;                                    // by "namespace/name"
  std::set<std::string> drivers_that_tell_capacity;                                   // by name
  std::unordered_map<std::string, std::vector<const sched::PlacedPod*>> claim_users;  // "ns/name"
  std::map<std::string, std::vector<std::string>> volumes_by_class;                   // names, sorted
  // What changed.
  std::vector<sched::Slot> log;
  std::uint64_t log_begin = 0;
  std::uint64_t nodes_version = 0, columns_version = 0, images_version = 0;
  // Ties.
  std::vector<std::uint32_t> rank;  // by slot
  std::vector<sched::Slot> by_rank;
  std::uint64_t rank_seed = 0, rank_version = ~std::uint64_t{0};
  // Remembered classes.
  struct Remembered {
    std::unique_ptr<sched::Evaluation> evaluation;
    std::uint64_t last_used = 0;
  };
  std::unordered_map<std::uint64_t, Remembered> evaluations;  // record << 32 | profile
  std::vector<SchedulingProfile> profiles;
  std::uint64_t uses = 0;
  std::size_t evaluation_bytes = 0;

  sched::Slot slot_for(const std::string& name);
  void maybe_free(sched::Slot slot);
  void touch(sched::Slot slot);
  sched::Id resource(const std::string& name);
  sched::Id column(const std::string& key);
  const std::map<std::string, std::string>& labels_of_namespace(const std::string& ns) const;

  sched::Id acquire_record(const PodRules& rules);
  void release_record(sched::Id id);
  sched::Id acquire_label_class(const std::string& ns, const std::map<std::string, std::string>& labels,
                                bool terminating);
  void release_label_class(sched::Id id);
  sched::Id acquire_matcher(std::vector<PodTerm> terms, bool skip_terminating);
  void release_matcher(sched::Id id);
  sched::Id acquire_term(const PodTerm& term, sched::HeldKind kind, std::int64_t weight);
  void release_term(sched::Id id);
  bool matcher_matches(const sched::Matcher& matcher, const sched::LabelClass& pods) const;
  bool term_matches(const sched::HeldTerm& term, const sched::LabelClass& pods) const;

  void apply(const sched::PlacedPod& pod, int sign);
  void sort_ranks(std::uint64_t seed);
  sched::Id profile_id(const SchedulingProfile& profile);
};

}  // namespace orchestra
