// ReplicaSet controller (kubernetes/pkg/controller/replicaset/replica_set.go).
//
// Claims its pods (adopts orphans that match, releases own ones that match no longer), creates what is
// missing, gives up what is too much in deletion_order(), and reports counts. A terminating pod counts
// neither as a replica nor against one (terminatingReplicas says how many there are); a failed pod is
// replaced. There are no "expectations": the runner decides again only when the view has seen the writes of
// the last decision.
#include "controllers/replicaset/decide.hpp"

#include <algorithm>
#include <set>

#include "controllers/common/pods.hpp"

namespace orchestra::controllers {

namespace {

constexpr const char* kReplicaFailure = "ReplicaFailure";

// A ReplicationController is the same thing with a plain map as its selector.
struct Flavour {
  const char* name;
  const char* api_version;
  const char* kind;
  ResourceRef resource;
  bool plain_selector, counts_terminating;

  Result<LabelSelector> selector(const Object& set) const {
    if (plain_selector) return LabelSelector::from_map(object_at(tree(set), "/spec/selector"));
    return LabelSelector::parse(find(tree(set), "/spec/selector"));
  }
};

struct OwnPods {
  std::vector<Object> active, terminating;
};

OwnPods own_pods(const Object& set, const View& view) {
  OwnPods own;
  for (Object& pod : view.find(pods(), ObjectCache::kOwner, set.uid())) {
    const OwnerReference* owner = pod.controller();
    if (owner == nullptr || owner->uid != set.uid()) continue;
    if (pod_active(pod)) {
      own.active.push_back(std::move(pod));
    } else if (pod.deleting() && !pod_terminal(pod)) {
      own.terminating.push_back(std::move(pod));
    }
  }
  return own;
}

struct Claim {
  std::vector<Object> pods;      // active and ours
  std::int64_t terminating = 0;  // others of ours
  bool changed = false;          // adoptions or releases were ordered
};

// Pods that this set controls after this decision; adoptions take part from the next one on, when they
// are certain.
Claim claim_pods(const Flavour& flavour, const Object& set, const LabelSelector& selector, const View& view,
                 Actions& actions) {
  Claim claim;
  OwnPods own = own_pods(set, view);
  for (const Object& pod : own.terminating) claim.terminating += selector.matches(pod.labels()) ? 1 : 0;
  for (Object& pod : own.active) {
    if (selector.matches(pod.labels())) {
      claim.pods.push_back(std::move(pod));
    } else if (!set.deleting()) {
      actions.update(pods(), released(pod, set.uid()), "its labels no longer match the selector");
      claim.changed = true;
    }
  }
  if (set.deleting()) return claim;
  for (const Object& pod : selector.select_orphans(view, pods(), set.ns())) {
    if (!pod_active(pod)) continue;
    Action& adopt = actions.update(pods(), adopted(pod, set), "an orphan that matches the selector");
    adopt.checks.push_back({flavour.resource, set.ns(), set.name(), set.uid(), LiveCheck::Expect::present});
    claim.changed = true;
  }
  return claim;
}

// Pods of all sets of the same owner (a Deployment), for "more siblings on its node goes first".
std::vector<Object> sibling_pods(const Object& set, const std::vector<Object>& own, const View& view) {
  const OwnerReference* owner = set.controller();
  if (owner == nullptr) return own;
  std::vector<Object> siblings;
  for (const Object& other : view.find(replica_sets(), ObjectCache::kOwner, owner->uid)) {
    for (Object& pod : view.find(pods(), ObjectCache::kOwner, other.uid())) {
      if (pod_active(pod)) siblings.push_back(std::move(pod));
    }
  }
  return siblings;
}

void manage_replicas(const Object& set, const Claim& claim, const View& view, Now now, Actions& actions) {
  const json::value& root = tree(set);
  const std::int64_t wanted = int_at(root, "/spec/replicas", 1);
  const auto have = static_cast<std::int64_t>(claim.pods.size());
  if (have < wanted) {
    const std::int64_t missing = std::min(wanted - have, kReplicaSetBurst);
    const json::value* pod_template = find(root, "/spec/template");
    if (pod_template == nullptr) return;
    const Object pod = pod_from_template(*pod_template, set);
    for (std::int64_t i = 0; i < missing; ++i) {
      Action& create = actions.create(
          pods(), pod,
          std::to_string(wanted - have) + " of " + std::to_string(wanted) + " replicas are missing");
      create.independent = true;
      create.announce = Announcement{set, "SuccessfulCreate", "Created pod: "};
    }
  } else if (have > wanted) {
    std::vector<Object> victims = deletion_order(claim.pods, sibling_pods(set, claim.pods, view), now);
    victims.resize(static_cast<std::size_t>(std::min(have - wanted, kReplicaSetBurst)));
    for (const Object& victim : victims) {
      Action& remove = actions.remove(pods(), victim, std::to_string(have - wanted) + " replicas too many");
      remove.independent = true;
      remove.announce = Announcement{set, "SuccessfulDelete", "Deleted pod: "};
    }
  }
}

struct Counts {
  std::int64_t replicas = 0, labeled = 0, ready = 0, available = 0, terminating = 0;
  std::optional<Duration> due;  // when the next ready pod becomes available
};

// `matched`: what all of the pods match; nullptr: nothing is known.
Counts count(const Object& set, const LabelSelector* matched, const std::vector<Object>& pods_of_set,
             std::int64_t terminating, Now now) {
  const json::value& root = tree(set);
  const std::int64_t min_ready = int_at(root, "/spec/minReadySeconds");
  const auto labels = LabelSelector::from_map(object_at(root, "/spec/template/metadata/labels"));
  const bool all_labeled = matched != nullptr && labels == *matched;
  Counts counts;
  counts.terminating = terminating;
  for (const Object& pod : pods_of_set) {
    ++counts.replicas;
    if (all_labeled || labels.matches(pod.labels())) ++counts.labeled;
    if (!pod_ready(pod)) continue;
    ++counts.ready;
    if (min_ready == 0 || pod_available(pod, min_ready, now, counts.due)) ++counts.available;
  }
  return counts;
}

json::value status_of(const Flavour& flavour, const Object& set, const Counts& counts) {
  const json::value* before = find(tree(set), "/status");
  json::value status = before != nullptr && before->is_object() ? *before : json::value(json::object());
  json::object& fields = status.get_object();
  const auto put = [&](const char* name, std::int64_t value) {
    if (value != 0 || std::string_view(name) == "replicas") {
      fields[name] = value;
    } else {
      fields.erase(name);
    }
  };
  put("replicas", counts.replicas);
  put("fullyLabeledReplicas", counts.labeled);
  put("readyReplicas", counts.ready);
  put("availableReplicas", counts.available);
  put("observedGeneration", set.generation());
  if (flavour.counts_terminating) fields["terminatingReplicas"] = counts.terminating;
  return status;
}

void write_status(const Flavour& flavour, const Object& set, json::value status, std::string reason,
                  Actions& actions) {
  if (same_meaning(find(tree(set), "/status"), &status)) return;
  // A deployment waits to hear that a new size was acted on; mere counts may wait for company.
  const bool new_size =
      int_at(status, "/observedGeneration") != int_at(tree(set), "/status/observedGeneration");
  json::value copy = tree(set);
  set_at(copy, "/status", std::move(status));
  Action& write =
      actions.update_status(flavour.resource, object_from_tree(std::move(copy)), std::move(reason));
  write.coalesce = !new_size;
}

// Whether a set would count both versions of a pod alike: one that was bound, or told more of its containers,
// is counted as before, and a set of hundreds of pods need not look at all of them for it.
bool counts_alike(const Object& old, const Object& now) {
  const json::object* was = find_condition(tree(old), "Ready");
  const json::object* is = find_condition(tree(now), "Ready");
  const bool same_ready = was == nullptr || is == nullptr ? was == is : *was == *is;
  return same_ready && pod_active(old) == pod_active(now) && old.deleting() == now.deleting() &&
         pod_terminal(old) == pod_terminal(now) && old.labels() == now.labels() &&
         same_meaning(find(tree(old), "/metadata/ownerReferences"),
                      find(tree(now), "/metadata/ownerReferences"));
}

class ReplicaSetReconciler final : public Reconciler {
 public:
  explicit ReplicaSetReconciler(Flavour flavour) : flavour_(std::move(flavour)) {}
  std::string name() const override { return flavour_.name; }

  std::vector<Source> sources() const override {
    Source of_pods = watch_owned(pods(), flavour_.api_version, flavour_.kind);
    auto owned = of_pods.keys;
    of_pods.keys = [owned, flavour = flavour_](const View& view, const Object& old, const Object& now,
                                               const KeySink& wake) {
      if (old && now && old.uid() == now.uid() && old.resource_version() != now.resource_version() &&
          counts_alike(old, now)) {
        return;
      }
      owned(view, old, now, wake);
      if (!now || now.controller() != nullptr || now.deleting()) return;
      // An orphan: every set of its namespace that would have it may adopt it.
      for (const Object& set : view.list(flavour.resource, now.ns())) {
        const auto selector = flavour.selector(set);
        if (selector && selector->matches(now.labels())) wake(ObjectKey::of(set).text());
      }
    };
    return {watch_self(flavour_.resource), std::move(of_pods)};
  }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object set = view.get(flavour_.resource, id.ns, id.name);
    if (!set) return actions;
    const auto selector = flavour_.selector(set);
    if (!selector) {
      actions.event(set, "Warning", "InvalidSelector", selector.error().message());
      return actions;
    }
    const Claim claim = claim_pods(flavour_, set, *selector, view, actions);
    // While pods change hands the count is uncertain: settle that first.
    if (!claim.changed && !set.deleting()) manage_replicas(set, claim, view, now, actions);
    const Counts counts = count(set, &*selector, claim.pods, claim.terminating, now);
    json::value status = status_of(flavour_, set, counts);
    const std::int64_t wanted = int_at(tree(set), "/spec/replicas", 1);
    if (counts.replicas == wanted && find_condition(tree(set), kReplicaFailure) != nullptr) {
      remove_condition(array_in(status, "/conditions"), kReplicaFailure);
    }
    write_status(flavour_, set, std::move(status), "pods are counted", actions);
    if (counts.due) actions.requeue(*counts.due);
    actions.reason = std::to_string(counts.replicas) + " of " + std::to_string(wanted) + " replicas, " +
                     std::to_string(counts.ready) + " ready, " + std::to_string(counts.available) +
                     " available";
    return actions;
  }

  Actions failed(const std::string& key, const View& view, Now now, const Action& action,
                 const Error& error) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object set = view.get(flavour_.resource, id.ns, id.name);
    const bool create = action.verb == Action::Verb::create;
    const bool remove = action.verb == Action::Verb::remove;
    if (!set || (!create && !remove)) return actions;
    // A namespace that goes away refuses pods; nobody needs to hear of it (replica_set.go).
    if (error.is(Error::denied) && error.message().find("being terminated") != std::string::npos)
      return actions;
    const std::string reason = create ? "FailedCreate" : "FailedDelete";
    const OwnPods own = own_pods(set, view);
    const auto terminating = static_cast<std::int64_t>(own.terminating.size());
    json::value status = status_of(flavour_, set, count(set, nullptr, own.active, terminating, now));
    // As long as it stands it keeps its first words (replica_set_utils.go): each refusal names another pod,
    // and a status that changes with each would be another reason to try again at once.
    if (find_condition(tree(set), kReplicaFailure) == nullptr) {
      set_condition(array_in(status, "/conditions"), {kReplicaFailure, "True", reason, error.message()},
                    now.wall_ns, false);
    }
    write_status(flavour_, set, std::move(status), reason, actions);
    actions.event(set, "Warning", reason,
                  (create ? "Error creating: " : "Error deleting: ") + error.message());
    return actions;
  }

 private:
  const Flavour flavour_;
};

}  // namespace

std::shared_ptr<const Reconciler> make_replica_set_reconciler() {
  return std::make_shared<ReplicaSetReconciler>(
      Flavour{"replicaset", "apps/v1", "ReplicaSet", replica_sets(), false, true});
}

std::shared_ptr<const Reconciler> make_replication_controller_reconciler() {
  return std::make_shared<ReplicaSetReconciler>(Flavour{
      "replicationcontroller", "v1", "ReplicationController", replication_controllers(), true, false});
}

}  // namespace orchestra::controllers
