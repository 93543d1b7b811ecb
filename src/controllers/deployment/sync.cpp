// The new ReplicaSet, revisions, proportional scaling and history
// (kubernetes/pkg/controller/deployment/sync.go and util/deployment_util.go).
#include <algorithm>
#include <array>
#include <cmath>

#include "controllers/deployment/model.hpp"

namespace orchestra::controllers {

namespace {

// Annotations of the deployment that mean the deployment only.
bool stays_with_deployment(std::string_view name) {
  constexpr std::array<std::string_view, 6> kOwn = {"kubectl.kubernetes.io/last-applied-configuration",
                                                    kRevision,
                                                    kRevisionHistory,
                                                    kDesiredReplicas,
                                                    kMaxReplicas,
                                                    "deprecated.deployment.rollback.to"};
  return std::find(kOwn.begin(), kOwn.end(), name) != kOwn.end();
}

void copy_annotations(const DeploymentModel& model, ReplicaSetModel& set) {
  for (const auto& [name, value] : model.object.annotations()) {
    if (!stays_with_deployment(name)) set.annotate(name.c_str(), value);
  }
}

// A set that is current again gets the next revision; its old number goes to its history.
void raise_revision(ReplicaSetModel& set, std::int64_t revision) {
  if (set.revision >= revision) return;
  if (set.revision != 0) {
    const json::object* annotations = object_at(set.wanted, "/metadata/annotations");
    const json::value* history =
        annotations != nullptr ? annotations->if_contains(kRevisionHistory) : nullptr;
    std::string text = history != nullptr && history->is_string() ? std::string(history->get_string()) : "";
    text += (text.empty() ? "" : ",") + std::to_string(set.revision);
    constexpr std::size_t kHistoryBytesMax = 2000;  // as maxRevHistoryLengthInChars
    while (text.size() > kHistoryBytesMax && text.find(',') != std::string::npos)
      text.erase(0, text.find(',') + 1);
    set.annotate(kRevisionHistory, text);
  }
  set.revision = revision;
  set.annotate(kRevision, std::to_string(revision));
}

ReplicaSetModel new_set_of(const DeploymentModel& model) {
  const json::value& root = tree(model.object);
  json::value pod_template = *find(root, "/spec/template");
  object_in(pod_template, "/metadata/labels")[kTemplateHash] = model.hash;
  json::value selector = *find(root, "/spec/selector");
  object_in(selector, "/matchLabels")[kTemplateHash] = model.hash;
  json::object spec{{"replicas", 0}};
  if (model.min_ready_seconds != 0) spec["minReadySeconds"] = model.min_ready_seconds;
  spec["selector"] = std::move(selector);
  const json::value labels = *find(pod_template, "/metadata/labels");
  spec["template"] = std::move(pod_template);

  ReplicaSetModel set;
  set.name = model.object.name() + "-" + model.hash;
  set.wanted = json::object{{"apiVersion", "apps/v1"},
                            {"kind", "ReplicaSet"},
                            {"metadata",
                             {{"name", set.name},
                              {"namespace", model.object.ns()},
                              {"labels", labels},
                              {"annotations", json::object()},
                              {"ownerReferences", json::array{controller_reference(model.object)}}}},
                            {"spec", std::move(spec)}};
  set.changed = true;
  return set;
}

// How many pods the new set may have now: what the surge leaves (NewRSNewReplicas).
std::int64_t allowed_new_replicas(const DeploymentModel& model) {
  const std::int64_t current = model.new_set ? model.new_set->replicas : 0;
  if (!model.rolling) return model.replicas;
  return current + std::min(model.growth_room(), model.replicas - current);
}

void note_revision(DeploymentModel& model) {
  object_in(model.metadata, "/annotations")[kRevision] = std::to_string(model.new_set->revision);
}

}  // namespace

bool sync_new_set(DeploymentModel& model, const View& view, bool create) {
  std::int64_t newest = 0;
  for (const ReplicaSetModel& set : model.old_sets) newest = std::max(newest, set.revision);
  if (model.new_set) {
    ReplicaSetModel& set = *model.new_set;
    raise_revision(set, newest + 1);
    copy_annotations(model, set);
    if (int_at(set.wanted, "/spec/minReadySeconds") != model.min_ready_seconds) {
      set_at(set.wanted, "/spec/minReadySeconds", model.min_ready_seconds);
      set.changed = true;
    }
    note_revision(model);
    if (model.progress_deadline && find_condition(tree(model.object), "Progressing") == nullptr) {
      model.condition("Progressing", "True", "FoundNewReplicaSet",
                      "Found new replica set \"" + set.name + "\"");
    }
    return true;
  }
  const json::value& root = tree(model.object);
  if (!create || find(root, "/spec/template") == nullptr || find(root, "/spec/selector") == nullptr)
    return true;

  ReplicaSetModel set = new_set_of(model);
  if (view.get(replica_sets(), model.object.ns(), set.name)) {
    // Somebody else's, or another template with the same hash: another name is taken next time.
    set_at(model.status, "/collisionCount", int_at(model.status, "/collisionCount") + 1);
    model.actions.reason = "the name " + set.name + " is taken by another replica set";
    return false;
  }
  copy_annotations(model, set);
  raise_revision(set, newest + 1);
  model.new_set = std::move(set);
  const std::int64_t size = allowed_new_replicas(model);
  model.scale(*model.new_set, size);
  note_revision(model);
  if (model.progress_deadline) {
    model.condition("Progressing", "True", "NewReplicaSetCreated",
                    "Created new replica set \"" + model.new_set->name + "\"");
  }
  return true;
}

bool is_scaling(const DeploymentModel& model) {
  bool scaling = false;
  model.each_set([&](const ReplicaSetModel& set) {
    if (set.replicas == 0) return;
    const auto desired = set.annotated(kDesiredReplicas);
    if (desired && *desired != model.replicas) scaling = true;
  });
  return scaling;
}

namespace {

// Share of one set in a change of size (getReplicaSetFraction).
std::int64_t fraction_of(const DeploymentModel& model, const ReplicaSetModel& set) {
  if (model.replicas == 0) return -set.replicas;
  std::int64_t before = set.annotated(kMaxReplicas).value_or(0);
  if (before == 0) before = int_at(tree(model.object), "/status/replicas");
  if (before == 0) return 0;
  const auto size = static_cast<double>(set.replicas * (model.replicas + model.max_surge));
  return std::llround(size / static_cast<double>(before)) - set.replicas;
}

std::int64_t proportion_of(const DeploymentModel& model, const ReplicaSetModel& set, std::int64_t to_add,
                           std::int64_t added) {
  if (set.replicas == 0 || to_add == 0 || to_add == added) return 0;
  const std::int64_t fraction = fraction_of(model, set);
  const std::int64_t allowed = to_add - added;
  return to_add > 0 ? std::min(fraction, allowed) : std::max(fraction, allowed);
}

void scale_by_size(DeploymentModel& model, std::vector<ReplicaSetModel*> active) {
  std::int64_t current = 0;
  for (const ReplicaSetModel* set : active) current += set->replicas;
  const std::int64_t allowed = model.replicas > 0 ? model.replicas + model.max_surge : 0;
  const std::int64_t to_add = allowed - current;
  // The largest first; of equal ones the newer when growing, the older when shrinking.
  std::sort(active.begin(), active.end(), [to_add](const ReplicaSetModel* a, const ReplicaSetModel* b) {
    if (a->replicas != b->replicas) return a->replicas > b->replicas;
    if (a->created_ns == b->created_ns) return a->name < b->name;
    return to_add > 0 ? a->created_ns > b->created_ns : a->created_ns < b->created_ns;
  });
  std::vector<std::int64_t> sizes;
  std::int64_t added = 0;
  for (const ReplicaSetModel* set : active) {
    const std::int64_t share = proportion_of(model, *set, to_add, added);
    sizes.push_back(set->replicas + share);
    added += share;
  }
  if (!sizes.empty() && to_add != 0) sizes[0] = std::max<std::int64_t>(0, sizes[0] + to_add - added);
  for (std::size_t i = 0; i < active.size(); ++i) model.scale(*active[i], sizes[i]);
}

}  // namespace

void scale_proportionally(DeploymentModel& model) {
  std::vector<ReplicaSetModel*> active;
  model.each_set([&](ReplicaSetModel& set) {
    if (set.replicas > 0) active.push_back(&set);
  });
  ReplicaSetModel* only = nullptr;
  if (active.size() == 1) {
    only = active[0];
  } else if (active.empty()) {
    if (model.new_set) {
      only = &*model.new_set;
    } else if (!model.old_sets.empty()) {
      only = &model.old_sets.back();
    }
  }
  if (only != nullptr) {
    model.scale(*only, model.replicas);
    return;
  }
  const bool saturated = model.new_set && model.new_set->replicas == model.replicas &&
                         model.new_set->annotated(kDesiredReplicas) == model.replicas &&
                         model.new_set->available == model.replicas;
  if (saturated) {
    for (ReplicaSetModel& set : model.old_sets) {
      if (set.replicas > 0) model.scale(set, 0);
    }
  } else if (model.rolling) {
    scale_by_size(model, std::move(active));
  }
}

void prune_history(DeploymentModel& model) {
  if (model.history_limit == INT32_MAX) return;
  std::vector<ReplicaSetModel*> kept;
  for (ReplicaSetModel& set : model.old_sets) {
    if (!set.object.deleting()) kept.push_back(&set);
  }
  const auto surplus = static_cast<std::int64_t>(kept.size()) - model.history_limit;
  if (surplus <= 0) return;
  std::stable_sort(kept.begin(), kept.end(),
                   [](const auto* a, const auto* b) { return a->revision < b->revision; });
  kept.resize(static_cast<std::size_t>(surplus));
  for (ReplicaSetModel* set : kept) {
    const bool empty = set->replicas == 0 && set->observed == 0;
    const bool settled = int_at(tree(set->object), "/status/observedGeneration") >= set->object.generation();
    if (empty && settled && !set->changed) set->removed = true;
  }
}

}  // namespace orchestra::controllers
