// Deployment controller (kubernetes/pkg/controller/deployment): what to do next for one Deployment.
//
// Claims its ReplicaSets, then either scales (paused, or the size changed during a rollout), or takes one
// step of the rollout, and always reports. The new set is found by equality of templates, never by name or
// stored hash, so a rollback reuses the old set and a new library version with other defaults changes
// nothing.
#include "controllers/deployment/decide.hpp"

#include "controllers/common/observations.hpp"
#include "controllers/deployment/model.hpp"

namespace orchestra::controllers {

namespace {

// Sets that this deployment controls. True: some change hands first.
bool claim_sets(const Object& deployment, const LabelSelector& selector, const View& view,
                std::vector<Object>& sets, Actions& actions) {
  bool changed = false;
  for (Object& set : view.find(replica_sets(), ObjectCache::kOwner, deployment.uid())) {
    const OwnerReference* owner = set.controller();
    if (owner == nullptr || owner->uid != deployment.uid()) continue;
    if (selector.matches(set.labels())) {
      sets.push_back(std::move(set));
    } else if (!deployment.deleting() && !set.deleting()) {
      actions.update(replica_sets(), released(set, deployment.uid()),
                     "its labels no longer match the selector");
      changed = true;
    }
  }
  if (deployment.deleting()) return changed;
  for (const Object& set : selector.select_orphans(view, replica_sets(), deployment.ns())) {
    if (set.deleting()) continue;
    Action& adopt =
        actions.update(replica_sets(), adopted(set, deployment), "an orphan that matches the selector");
    adopt.checks.push_back(
        {deployments(), deployment.ns(), deployment.name(), deployment.uid(), LiveCheck::Expect::present});
    changed = true;
  }
  return changed;
}

// Whether the progress clock runs is visible in the condition, so that resuming does not count paused time.
void note_pause(DeploymentModel& model) {
  if (!model.progress_deadline) return;
  const json::object* current = find_condition(tree(model.object), "Progressing");
  const std::string reason = current != nullptr ? string_at(*current, "/reason") : "";
  if (reason == "ProgressDeadlineExceeded") return;
  if (model.paused && reason != "DeploymentPaused") {
    model.condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused");
  } else if (!model.paused && reason == "DeploymentPaused") {
    model.condition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed");
  }
}

// When its last progress was, as its condition tells.
std::optional<std::int64_t> progress_time(const Object& deployment) {
  const json::object* condition = find_condition(tree(deployment), "Progressing");
  const json::value* since = condition == nullptr ? nullptr : condition->if_contains("lastUpdateTime");
  return since == nullptr ? std::nullopt : time_at(*since, "");
}

class DeploymentReconciler final : public Reconciler {
 public:
  std::string name() const override { return "deployment"; }

  std::vector<Source> sources() const override {
    Source of_sets = watch_owned(replica_sets(), "apps/v1", "Deployment");
    auto owned = of_sets.keys;
    of_sets.keys = [owned](const View& view, const Object& old, const Object& now, const KeySink& wake) {
      owned(view, old, now, wake);
      if (!now || now.controller() != nullptr || now.deleting()) return;
      for (const Object& deployment : view.list(deployments(), now.ns())) {
        const auto selector = LabelSelector::parse(find(tree(deployment), "/spec/selector"));
        if (selector && selector->matches(now.labels())) wake(ObjectKey::of(deployment).text());
      }
    };
    // The last pod of an old set that ends lets a Recreate go on.
    Source of_pods{pods(), false,
                   [](const View& view, const Object& old, const Object& now, const KeySink& wake) {
                     if (now || !old) return;
                     const OwnerReference* owner = old.controller();
                     if (owner == nullptr || owner->kind != "ReplicaSet") return;
                     const Object set = view.get(replica_sets(), old.ns(), owner->name);
                     if (!set || set.controller() == nullptr) return;
                     wake(ObjectKey{set.ns(), set.controller()->name}.text());
                   }};
    Source of_deployments = watch_self(deployments());
    of_deployments.observes = [](const Object& old, const Object& now) {
      return progress_time(now) && !(old && progress_time(old) == progress_time(now));
    };
    return {std::move(of_deployments), std::move(of_sets), std::move(of_pods)};
  }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object deployment = view.get(deployments(), id.ns, id.name);
    if (!deployment) return actions;
    const auto selector = LabelSelector::parse(find(tree(deployment), "/spec/selector"));
    if (!selector || selector->empty()) {
      actions.event(deployment, "Warning", "SelectingAll",
                    selector ? "This deployment is selecting all pods. A non-empty selector is required."
                             : selector.error().message());
      return actions;
    }
    std::vector<Object> sets;
    if (claim_sets(deployment, *selector, view, sets, actions)) {
      actions.reason = "replica sets change hands";
      return actions;
    }
    DeploymentModel model = model_of(deployment, sets, now);
    if (const auto since = progress_time(deployment))
      model.progress_age = age_of(view, deployments(), deployment, *since, now);
    if (!deployment.deleting()) step(model, view);
    write_progress(model);
    return actions_of(model);
  }

  // kubernetes pkg/controller/deployment/sync.go, getNewReplicaSet: a set that cannot be made is told.
  Actions failed(const std::string& key, const View& view, Now now, const Action& action,
                 const Error& error) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object deployment = view.get(deployments(), id.ns, id.name);
    const bool made_set = action.verb == Action::Verb::create && action.resource == replica_sets();
    if (!deployment || !made_set) return actions;
    // One of that name is there already: the view is late, and sees it next time. A namespace that goes away
    // refuses everything.
    if (error.is(Error::already_exists)) return actions;
    if (error.is(Error::denied) && error.message().find("being terminated") != std::string::npos)
      return actions;
    constexpr const char* kReason = "ReplicaSetCreateError";
    const std::string message =
        "Failed to create new replica set \"" + action.name + "\": " + error.message();
    DeploymentModel model = model_of(deployment, {}, now);
    if (model.progress_deadline) {
      model.condition("Progressing", "False", kReason, message);
      if (!same_meaning(find(tree(deployment), "/status"), &model.status)) {
        json::value copy = tree(deployment);
        set_at(copy, "/status", std::move(model.status));
        actions.update_status(deployments(), object_from_tree(std::move(copy)), kReason);
      }
    }
    actions.event(deployment, "Warning", kReason, message);
    return actions;
  }

 private:
  static void step(DeploymentModel& model, const View& view) {
    note_pause(model);
    if (model.paused || is_scaling(model)) {
      if (!sync_new_set(model, view, false)) return;
      scale_proportionally(model);
      if (model.paused) prune_history(model);
      model.actions.reason = model.paused ? "paused" : "scales all sets in proportion";
      return;
    }
    if (!model.rolling) {
      if (sync_new_set(model, view, false)) recreate(model, view);
      return;
    }
    if (sync_new_set(model, view, true)) roll(model);
  }
};

}  // namespace

std::shared_ptr<const Reconciler> make_deployment_reconciler() {
  return std::make_shared<DeploymentReconciler>();
}

}  // namespace orchestra::controllers
