// StatefulSet controller (kubernetes/pkg/controller/statefulset/stateful_set_control.go).
//
// A set has two revisions: pods below the partition keep the current one (even when made anew), the others
// have the update revision. One pass looks at the ordinals from low to high, makes what is missing, and stops
// at the first that is not ready (OrderedReady); then ends surplus pods from high to low; then, when all is
// well, replaces pods of the old revision from high to low. Names are identities: a terminating pod still
// holds its name, so nothing is made in its place, however long its node is silent.
#include "controllers/statefulset/decide.hpp"

#include <algorithm>
#include <map>

#include "controllers/common/history.hpp"
#include "controllers/common/pods.hpp"
#include "controllers/statefulset/identity.hpp"

namespace orchestra::controllers {

namespace {

constexpr const char* kReplaceBroken = "orchestra.dev/replace-broken-revision";

// One decision on one set.
struct Pass {
  const Object& set;
  const View& view;
  const Now now;
  Actions& actions;

  std::int64_t start = 0, wanted = 1, min_ready = 0, partition = 0;
  bool ordered = true;
  std::map<std::int64_t, Object> replicas = {}, condemned = {};  // by ordinal
  Object current = {}, update = {};                              // revisions
  std::optional<Duration> due = {};
  std::int64_t count = 0, ready = 0, available_count = 0, at_current = 0, at_update = 0;

  void read() {
    const json::value& root = tree(set);
    start = int_at(root, "/spec/ordinals/start");
    wanted = int_at(root, "/spec/replicas", 1);
    min_ready = int_at(root, "/spec/minReadySeconds");
    ordered = string_at(root, "/spec/podManagementPolicy", "OrderedReady") != "Parallel";
    partition = int_at(root, "/spec/updateStrategy/rollingUpdate/partition");
  }
  bool rolling() const {
    return string_at(tree(set), "/spec/updateStrategy/type", "RollingUpdate") == "RollingUpdate";
  }
  bool is_wanted(std::int64_t ordinal) const { return ordinal >= start && ordinal < start + wanted; }
  bool running_ready(const Object& pod) const {
    return string_at(tree(pod), "/status/phase") == "Running" && pod_ready(pod);
  }
  bool available(const Object& pod) { return running_ready(pod) && pod_available(pod, min_ready, now, due); }
  bool has_revision(const Object& pod, const Object& revision) const {
    const auto label = pod.labels().find(kRevisionLabel);
    return label != pod.labels().end() && label->second == revision.name();
  }
  bool keeps_current(std::int64_t ordinal) const { return rolling() && ordinal < start + partition; }

  // Adopts and releases; answers false while pods change hands.
  bool claim(const LabelSelector& selector) {
    bool settled = true;
    for (const Object& pod : view.find(pods(), ObjectCache::kOwner, set.uid())) {
      const auto ordinal = ordinal_of(pod.name(), set.name());
      const OwnerReference* owner = pod.controller();
      if (!ordinal || owner == nullptr || owner->uid != set.uid()) continue;
      if (selector.matches(pod.labels())) {
        (is_wanted(*ordinal) ? replicas : condemned).emplace(*ordinal, pod);
      } else if (!set.deleting()) {
        actions.update(pods(), released(pod, set.uid()), "its labels no longer match the selector");
        settled = false;
      }
    }
    if (set.deleting()) return settled;
    for (const Object& pod : selector.select_orphans(view, pods(), set.ns())) {
      if (pod.deleting() || !ordinal_of(pod.name(), set.name())) continue;
      Action& adopt = actions.update(pods(), adopted(pod, set), "an orphan that matches the selector");
      adopt.checks.push_back({stateful_sets(), set.ns(), set.name(), set.uid(), LiveCheck::Expect::present});
      settled = false;
    }
    return settled;
  }

  void tally() {
    for (const auto* group : {&replicas, &condemned}) {
      for (const auto& [ordinal, pod] : *group) {
        if (pod_terminal(pod)) continue;
        ++count;
        if (running_ready(pod)) ++ready;
        if (available(pod)) ++available_count;
        if (pod.deleting()) continue;
        if (has_revision(pod, current)) ++at_current;
        if (has_revision(pod, update)) ++at_update;
      }
    }
  }

  void end(const Object& pod, std::string reason) {
    Action& remove = actions.remove(pods(), pod, std::move(reason));
    remove.announce =
        Announcement{set, "SuccessfulDelete", "delete Pod in StatefulSet " + set.name() + " successful: "};
  }

  void make(std::int64_t ordinal) {
    for (const Object& claim : claims_of(set, ordinal)) {
      const Object present = view.get(persistent_volume_claims(), set.ns(), claim.name());
      if (present && present.deleting()) return;  // its old pod has to end first
      if (!present) {
        Action& create =
            actions.create(persistent_volume_claims(), claim, "pod " + std::to_string(ordinal) + " needs it");
        create.announce =
            Announcement{set, "SuccessfulCreate", "create Claim in StatefulSet " + set.name() + " success: "};
      }
    }
    const Object& revision = keeps_current(ordinal) ? current : update;
    Action& create = actions.create(pods(), stateful_pod(set, revision, ordinal),
                                    "ordinal " + std::to_string(ordinal) + " is missing");
    create.announce =
        Announcement{set, "SuccessfulCreate", "create Pod in StatefulSet " + set.name() + " successful: "};
  }

  // A pod of a stale revision that was never ready blocks its own correction; by default as upstream.
  bool replaces_broken(const Object& pod) const {
    if (annotation(set, kReplaceBroken) != "true" || !rolling() || pod.deleting()) return false;
    if (pod_ready(pod) || has_revision(pod, update)) return false;
    const json::object* condition = find_condition(tree(pod), "Ready");
    return condition == nullptr || string_at(*condition, "/status") != "True";
  }

  // Low to high; false: wait before anything else is done.
  bool process_replicas() {
    for (std::int64_t ordinal = start; ordinal < start + wanted; ++ordinal) {
      const auto found = replicas.find(ordinal);
      if (found == replicas.end()) {
        make(ordinal);
        if (ordered) return false;
        continue;
      }
      const Object& pod = found->second;
      if (pod_terminal(pod)) {
        if (!pod.deleting()) {
          const bool failed = string_at(tree(pod), "/status/phase") == "Failed";
          actions.event(set, failed ? "Warning" : "Normal",
                        failed ? "RecreatingFailedPod" : "RecreatingTerminatedPod",
                        "StatefulSet " + set.ns() + "/" + set.name() + " is recreating " +
                            (failed ? "failed" : "terminated") + " Pod " + pod.name());
          end(pod, "it has ended and is made anew");
        }
        if (ordered) return false;
        continue;
      }
      if (keep_claim_owners(set, ordinal, pod, false, view, actions) && ordered) return false;
      if (!ordered) continue;
      if (pod.deleting() || !available(pod)) {
        if (replaces_broken(pod) && !keeps_current(ordinal))
          end(pod, "it was never ready and its template is stale");
        actions.reason = "waits for " + pod.name() + (pod.deleting() ? " to go" : " to be ready");
        return false;
      }
    }
    return true;
  }

  bool process_condemned() {
    // The lowest pod that is not well may go although it is not ready.
    std::string first_unwell;
    for (const auto* group : {&replicas, &condemned}) {
      for (const auto& [ordinal, pod] : *group) {
        if (first_unwell.empty() && (!running_ready(pod) || pod.deleting())) first_unwell = pod.name();
      }
    }
    for (auto it = condemned.rbegin(); it != condemned.rend(); ++it) {
      const auto& [ordinal, pod] = *it;
      if (pod.deleting()) {
        if (ordered) {
          actions.reason = "waits for " + pod.name() + " to go";
          return false;
        }
        continue;
      }
      if (ordered && !available(pod) && pod.name() != first_unwell && !pod_terminal(pod)) {
        actions.reason = "waits for " + pod.name() + " to be ready before it goes";
        return false;
      }
      keep_claim_owners(set, ordinal, pod, true, view, actions);
      end(pod, "ordinal " + std::to_string(ordinal) + " is beyond " + std::to_string(wanted) + " replicas");
      if (ordered) return false;
    }
    return true;
  }

  void roll() {
    if (!rolling()) return;
    const json::value* most = find(tree(set), "/spec/updateStrategy/rollingUpdate/maxUnavailable");
    const bool many = most != nullptr && !most->is_null();
    std::int64_t room = many ? std::max<std::int64_t>(1, resolve_percent(most, wanted, true)) : 1;
    if (many) {
      for (auto& [ordinal, pod] : replicas) {
        if (pod.deleting() || !available(pod)) --room;
      }
      room -= wanted - static_cast<std::int64_t>(replicas.size());
    }
    for (std::int64_t ordinal = start + wanted - 1; ordinal >= start + partition && room > 0; --ordinal) {
      const auto found = replicas.find(ordinal);
      if (found == replicas.end()) {
        if (many) continue;
        return;
      }
      const Object& pod = found->second;
      if (!has_revision(pod, update) && !pod.deleting()) {
        end(pod, "its template is of an older revision");
        if (has_revision(pod, current)) --at_current;
        --room;
        continue;
      }
      if (!many && (pod.deleting() || !running_ready(pod))) {
        actions.reason = "waits for " + pod.name() + " of the new revision";
        return;
      }
    }
  }

  void write_status(std::int64_t collisions) {
    const json::value* before = find(tree(set), "/status");
    json::value status = before != nullptr && before->is_object() ? *before : json::value(json::object());
    std::string current_name = current.name();
    if (rolling() && at_update == count && ready == count && update.name() != current_name &&
        count == wanted) {
      current_name = update.name();
      at_current = at_update;
    }
    json::object& fields = status.get_object();
    fields["observedGeneration"] = set.generation();
    fields["replicas"] = count;
    fields["availableReplicas"] = available_count;
    fields["currentRevision"] = current_name;
    fields["updateRevision"] = update.name();
    fields["collisionCount"] = collisions;
    const auto put = [&](const char* name, std::int64_t value) {
      if (value != 0) {
        fields[name] = value;
      } else {
        fields.erase(name);
      }
    };
    put("readyReplicas", ready);
    put("currentReplicas", at_current);
    put("updatedReplicas", at_update);
    if (same_meaning(before, &status)) return;
    const bool new_size = int_at(tree(set), "/status/observedGeneration") != set.generation();
    json::value copy = tree(set);
    set_at(copy, "/status", std::move(status));
    Action& write =
        actions.update_status(stateful_sets(), object_from_tree(std::move(copy)), "pods are counted");
    write.coalesce = !new_size;
  }
};

class StatefulSetReconciler final : public Reconciler {
 public:
  std::string name() const override { return "statefulset"; }

  std::vector<Source> sources() const override {
    Source of_pods = watch_owned(pods(), "apps/v1", "StatefulSet");
    auto owned = of_pods.keys;
    of_pods.keys = [owned](const View& view, const Object& old, const Object& now, const KeySink& wake) {
      owned(view, old, now, wake);
      if (!now || now.controller() != nullptr || now.deleting()) return;
      for (const Object& set : view.list(stateful_sets(), now.ns())) {
        if (ordinal_of(now.name(), set.name())) wake(ObjectKey::of(set).text());
      }
    };
    Source of_claims{persistent_volume_claims(), false,
                     [](const View& view, const Object& old, const Object& now, const KeySink& wake) {
                       if (now && !now.deleting()) return;  // only a claim that goes may be waited for
                       const Object& claim = now ? now : old;
                       for (const Object& set : view.list(stateful_sets(), claim.ns())) {
                         if (claim.name().find("-" + set.name() + "-") != std::string::npos)
                           wake(ObjectKey::of(set).text());
                       }
                     }};
    return {watch_self(stateful_sets()), std::move(of_pods),
            watch_owned(controller_revisions(), "apps/v1", "StatefulSet"), std::move(of_claims)};
  }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object set = view.get(stateful_sets(), id.ns, id.name);
    if (!set) return actions;
    const auto selector = LabelSelector::parse(find(tree(set), "/spec/selector"));
    if (!selector) {
      actions.event(set, "Warning", "InvalidSelector", selector.error().message());
      return actions;
    }
    Pass pass{set, view, now, actions};
    pass.read();
    const bool settled = pass.claim(*selector);
    std::int64_t collisions = int_at(tree(set), "/status/collisionCount");
    const History history =
        sync_history(set, *selector, view, "controller.kubernetes.io/hash", collisions, actions);
    pass.update = history.update;
    pass.current = pass.update;
    const std::string named = string_at(tree(set), "/status/currentRevision");
    for (const Object& revision : history.revisions) {
      if (revision.name() == named) pass.current = revision;
    }
    pass.tally();
    if (settled && !history.changed && !set.deleting() && pass.process_replicas() && pass.process_condemned())
      pass.roll();
    pass.write_status(collisions);
    if (!set.deleting()) prune(pass, history);
    if (pass.due) actions.requeue(*pass.due);
    if (actions.reason.empty()) {
      actions.reason = std::to_string(pass.count) + " of " + std::to_string(pass.wanted) + " pods, " +
                       std::to_string(pass.ready) + " ready, " + std::to_string(pass.at_update) + " updated";
    }
    return actions;
  }

  Actions failed(const std::string& key, const View& view, Now, const Action& action,
                 const Error& error) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object set = view.get(stateful_sets(), id.ns, id.name);
    const bool create = action.verb == Action::Verb::create;
    if (!set || (!create && action.verb != Action::Verb::remove)) return actions;
    if (error.is(Error::already_exists)) return actions;  // the view is late; the next look knows
    actions.event(set, "Warning", create ? "FailedCreate" : "FailedDelete",
                  std::string(create ? "create " : "delete ") + action.resource.resource + " " + action.name +
                      " in StatefulSet " + set.name() + " failed: " + error.message());
    return actions;
  }

 private:
  static void prune(const Pass& pass, const History& history) {
    std::vector<std::string> live{pass.current.name()};
    for (const auto* group : {&pass.replicas, &pass.condemned}) {
      for (const auto& [ordinal, pod] : *group) {
        const auto label = pod.labels().find(kRevisionLabel);
        if (label != pod.labels().end()) live.push_back(label->second);
      }
    }
    prune_revisions(history, live, int_at(tree(pass.set), "/spec/revisionHistoryLimit", 10), pass.actions);
  }
};

}  // namespace

std::shared_ptr<const Reconciler> make_stateful_set_reconciler() {
  return std::make_shared<StatefulSetReconciler>();
}

}  // namespace orchestra::controllers
