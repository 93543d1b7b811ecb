#pragma once
// What every controller needs to read and build API objects: names of resources, label selectors, times,
// conditions, owner references, comparison of trees by meaning.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/object_tree.hpp"
#include "orchestra/informer.hpp"

namespace orchestra::controllers {

// Resources, by their plural names.
inline ResourceRef pods() { return {"v1", "pods"}; }
inline ResourceRef nodes() { return {"v1", "nodes"}; }
inline ResourceRef namespaces() { return {"v1", "namespaces"}; }
inline ResourceRef services() { return {"v1", "services"}; }
inline ResourceRef endpoints() { return {"v1", "endpoints"}; }
inline ResourceRef config_maps() { return {"v1", "configmaps"}; }
inline ResourceRef service_accounts() { return {"v1", "serviceaccounts"}; }
inline ResourceRef deployments() { return {"apps/v1", "deployments"}; }
inline ResourceRef replica_sets() { return {"apps/v1", "replicasets"}; }
inline ResourceRef stateful_sets() { return {"apps/v1", "statefulsets"}; }
inline ResourceRef daemon_sets() { return {"apps/v1", "daemonsets"}; }
inline ResourceRef controller_revisions() { return {"apps/v1", "controllerrevisions"}; }
inline ResourceRef replication_controllers() { return {"v1", "replicationcontrollers"}; }
inline ResourceRef persistent_volumes() { return {"v1", "persistentvolumes"}; }
inline ResourceRef persistent_volume_claims() { return {"v1", "persistentvolumeclaims"}; }
inline ResourceRef resource_quotas() { return {"v1", "resourcequotas"}; }
inline ResourceRef secrets() { return {"v1", "secrets"}; }
inline ResourceRef storage_classes() { return {"storage.k8s.io/v1", "storageclasses"}; }
inline ResourceRef jobs() { return {"batch/v1", "jobs"}; }
inline ResourceRef cron_jobs() { return {"batch/v1", "cronjobs"}; }
inline ResourceRef disruption_budgets() { return {"policy/v1", "poddisruptionbudgets"}; }
inline ResourceRef endpoint_slices() { return {"discovery.k8s.io/v1", "endpointslices"}; }
inline ResourceRef leases() { return {"coordination.k8s.io/v1", "leases"}; }

/// metav1.LabelSelector. An absent one matches nothing, an empty one everything.
class LabelSelector {
 public:
  /// nullptr or null: matches nothing.
  static Result<LabelSelector> parse(const json::value* selector);
  /// A plain map as in Service and ReplicationController; an empty one matches nothing.
  static LabelSelector from_map(const json::object* labels);
  bool matches(const LabelMap& labels) const;
  bool empty() const { return !nothing_ && requirements_.empty(); }
  /// The labels of which it asks for one value; they live as long as this selector.
  LabelViews having() const;
  /// What matches among the objects of a namespace (empty: all).
  template <class View>
  std::vector<Object> select(const View& view, const ResourceRef& resource, const std::string& ns) const {
    if (nothing_) return {};
    return view.select(
        resource, ns, [this](const LabelMap& labels) { return matches(labels); }, having());
  }
  /// The same, among those that no owner controls.
  template <class View>
  std::vector<Object> select_orphans(const View& view, const ResourceRef& resource,
                                     const std::string& ns) const {
    if (nothing_) return {};
    const LabelMatcher matcher = [this](const LabelMap& labels) { return matches(labels); };
    return view.select_orphans(resource, ns, matcher, having());
  }
  /// Whether both are written alike; two that are not may still match the same.
  friend bool operator==(const LabelSelector&, const LabelSelector&) = default;

 private:
  enum class Op : std::uint8_t { in, not_in, exists, absent };
  struct Requirement {
    std::string key;
    Op op;
    std::vector<std::string> values;
    friend bool operator==(const Requirement&, const Requirement&) = default;
  };
  std::vector<Requirement> requirements_;
  bool nothing_ = false;
};

/// RFC 3339, e.g. "2026-11-23T10:00:00Z" with or without a fraction; nullopt if it is not one.
std::optional<std::int64_t> parse_time(std::string_view text);
std::string format_time(std::int64_t wall_ns);        ///< metav1.Time: whole seconds
std::string format_micro_time(std::int64_t wall_ns);  ///< metav1.MicroTime: six digits
/// The time at a pointer of an object, if it has one.
std::optional<std::int64_t> time_at(const json::value& root, std::string_view pointer);

/// The object at `pointer`, made on the way if it is absent or null.
json::object& object_in(json::value& root, std::string_view pointer);
json::array& array_in(json::value& root, std::string_view pointer);
std::optional<std::string> annotation(const Object& object, const std::string& name);
std::optional<std::int64_t> to_int(std::string_view text);

/// Text that is equal exactly when two trees mean the same: keys sorted, nulls and empty lists left out.
std::string canonical_text(const json::value& value);
bool same_meaning(const json::value* a, const json::value* b);
std::uint32_t fnv1a_32(std::string_view bytes);
/// rand.SafeEncodeString of apimachinery: letters that spell no words.
std::string safe_encode(std::uint32_t number);

/// The entry {"apiVersion", ..., "controller": true, "blockOwnerDeletion": true}.
json::object controller_reference(const Object& owner);
/// A copy of `object` whose controlling owner is `owner`, or that no longer has the owner with `uid`.
Object adopted(const Object& object, const Object& owner);
Object released(const Object& object, const std::string& uid);

struct Condition {
  std::string type, status, reason, message;
};
/// The condition of a type in /status/conditions, or nullptr.
const json::object* find_condition(const json::value& root, std::string_view type);
/// Sets a condition: order and other conditions stay, lastTransitionTime moves only with the status. With
/// `update_time` a lastUpdateTime is kept too. Answers true when something but times changed.
bool set_condition(json::array& conditions, const Condition& condition, std::int64_t wall_ns,
                   bool update_time);
void remove_condition(json::array& conditions, std::string_view type);

/// Value of an IntOrString at `pointer` for `total`; "25%" is rounded up or down.
std::int64_t resolve_percent(const json::value* value, std::int64_t total, bool round_up);

}  // namespace orchestra::controllers
