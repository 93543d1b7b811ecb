// Reading a Deployment and its ReplicaSets into numbers, and the changes back into actions.
#include "controllers/deployment/model.hpp"

#include <algorithm>

namespace orchestra::controllers {

ReplicaSetModel ReplicaSetModel::from(const Object& object) {
  const json::value& root = tree(object);
  ReplicaSetModel set;
  set.object = object;
  set.wanted = root;
  set.name = object.name();
  set.uid = object.uid();
  set.replicas = int_at(root, "/spec/replicas", 1);
  set.observed = int_at(root, "/status/replicas");
  set.ready = int_at(root, "/status/readyReplicas");
  set.available = int_at(root, "/status/availableReplicas");
  if (find(root, "/status/terminatingReplicas") != nullptr)
    set.terminating = int_at(root, "/status/terminatingReplicas");
  set.created_ns = time_at(root, "/metadata/creationTimestamp").value_or(0);
  set.revision = set.annotated(kRevision).value_or(0);
  return set;
}

bool ReplicaSetModel::settled() const {
  return object && int_at(tree(object), "/status/observedGeneration") >= object.generation();
}

std::optional<std::int64_t> ReplicaSetModel::annotated(const char* name) const {
  const json::object* annotations = object_at(wanted, "/metadata/annotations");
  if (annotations == nullptr) return std::nullopt;
  const json::value* value = annotations->if_contains(name);
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return to_int(value->get_string());
}

bool ReplicaSetModel::annotate(const char* name, const std::string& value) {
  json::value& slot = object_in(wanted, "/metadata/annotations")[name];
  if (slot.is_string() && slot.get_string() == value) return false;
  slot = value;
  changed = true;
  return true;
}

std::int64_t DeploymentModel::total_replicas() const {
  return old_replicas() + (new_set ? new_set->replicas : 0);
}
std::int64_t DeploymentModel::old_replicas() const {
  std::int64_t total = 0;
  for (const ReplicaSetModel& set : old_sets) total += set.replicas;
  return total;
}
std::int64_t DeploymentModel::total_available() const {
  std::int64_t total = new_set ? new_set->available : 0;
  for (const ReplicaSetModel& set : old_sets) total += set.available;
  return total;
}

std::int64_t DeploymentModel::total_usable() const {
  std::int64_t total = 0;
  each_set([&](const ReplicaSetModel& set) { total += set.usable(); });
  return total;
}

std::int64_t DeploymentModel::growth_room() const {
  std::int64_t pods = new_set ? new_set->replicas : 0;
  for (const ReplicaSetModel& set : old_sets) {
    if (!set.settled()) return 0;
    pods += std::max(set.replicas, set.observed);
  }
  return std::max<std::int64_t>(0, replicas + max_surge - pods);
}

bool DeploymentModel::scale(ReplicaSetModel& set, std::int64_t size) {
  const bool resized = set.replicas != size;
  set.annotate(kDesiredReplicas, std::to_string(replicas));
  set.annotate(kMaxReplicas, std::to_string(replicas + max_surge));
  if (!resized) return false;  // fresh annotations alone are not a step of a rollout
  actions.event(object, "Normal", "ScalingReplicaSet",
                std::string("Scaled ") + (size > set.replicas ? "up" : "down") + " replica set " + set.name +
                    " from " + std::to_string(set.replicas) + " to " + std::to_string(size));
  set_at(set.wanted, "/spec/replicas", size);
  set.replicas = size;
  set.changed = true;
  return true;
}

void DeploymentModel::condition(const char* type, const char* value, const char* reason,
                                const std::string& message) {
  // As SetDeploymentCondition: the same status and reason leave the condition alone, times included.
  json::array& conditions = array_in(status, "/conditions");
  for (const json::value& existing : conditions) {
    if (string_at(existing, "/type") == type && string_at(existing, "/status") == value &&
        string_at(existing, "/reason") == reason) {
      return;
    }
  }
  set_condition(conditions, {type, value, reason, message}, now.wall_ns, true);
}

bool same_template(const json::value* a, const json::value* b) {
  if (a == nullptr || b == nullptr) return a == b;
  json::value left = *a;
  json::value right = *b;
  object_in(left, "/metadata/labels").erase(kTemplateHash);
  object_in(right, "/metadata/labels").erase(kTemplateHash);
  return same_meaning(&left, &right);
}

namespace {

// Both resolve to 0: one pod at a time becomes unavailable, or the rollout could never move.
void resolve_fence_posts(DeploymentModel& model, const json::value& root) {
  if (!model.rolling) return;
  const json::value* surge = find(root, "/spec/strategy/rollingUpdate/maxSurge");
  const json::value* unavailable = find(root, "/spec/strategy/rollingUpdate/maxUnavailable");
  const json::value quarter = "25%";
  model.max_surge = resolve_percent(surge != nullptr ? surge : &quarter, model.replicas, true);
  model.max_unavailable =
      resolve_percent(unavailable != nullptr ? unavailable : &quarter, model.replicas, false);
  if (model.max_surge == 0 && model.max_unavailable == 0) model.max_unavailable = 1;
  model.max_unavailable = std::min(model.max_unavailable, model.replicas);
}

// Over the template with sorted keys, so that no map order reaches a name.
std::string template_hash(const json::value& root) {
  const json::value* pod_template = find(root, "/spec/template");
  std::string text = pod_template != nullptr ? canonical_text(*pod_template) : "";
  if (const std::int64_t collisions = int_at(root, "/status/collisionCount"); collisions != 0) {
    text += "#" + std::to_string(collisions);
  }
  return safe_encode(fnv1a_32(text));
}

}  // namespace

DeploymentModel model_of(const Object& deployment, const std::vector<Object>& sets, Now now) {
  const json::value& root = tree(deployment);
  DeploymentModel model;
  model.object = deployment;
  model.now = now;
  model.replicas = int_at(root, "/spec/replicas", 1);
  model.rolling = string_at(root, "/spec/strategy/type", "RollingUpdate") != "Recreate";
  model.min_ready_seconds = int_at(root, "/spec/minReadySeconds");
  model.history_limit = int_at(root, "/spec/revisionHistoryLimit", 10);
  model.paused = bool_at(root, "/spec/paused");
  const std::int64_t deadline = int_at(root, "/spec/progressDeadlineSeconds", 600);
  if (deadline != INT32_MAX) model.progress_deadline = deadline;
  resolve_fence_posts(model, root);
  const json::value* status = find(root, "/status");
  model.status = status != nullptr && status->is_object() ? *status : json::value(json::object());
  const json::value* metadata = find(root, "/metadata");
  model.metadata = metadata != nullptr ? *metadata : json::value(json::object());

  for (const Object& set : sets) model.old_sets.push_back(ReplicaSetModel::from(set));
  std::sort(model.old_sets.begin(), model.old_sets.end(), [](const auto& a, const auto& b) {
    return std::tie(a.created_ns, a.name) < std::tie(b.created_ns, b.name);
  });
  // The new set is the oldest one of the current template.
  const json::value* pod_template = find(root, "/spec/template");
  for (auto it = model.old_sets.begin(); it != model.old_sets.end(); ++it) {
    if (!same_template(find(it->wanted, "/spec/template"), pod_template)) continue;
    model.new_set = std::move(*it);
    model.old_sets.erase(it);
    break;
  }
  if (!model.new_set) model.hash = template_hash(root);
  return model;
}

Actions actions_of(DeploymentModel& model) {
  Actions out;
  std::vector<ReplicaSetModel*> sets;
  model.each_set([&](ReplicaSetModel& set) { sets.push_back(&set); });
  const ResourceRef resource = replica_sets();
  for (ReplicaSetModel* set : sets) {
    if (set->removed || !set->changed) continue;
    Object wanted = object_from_tree(set->wanted);
    if (!set->object) {
      out.create(resource, std::move(wanted), "the set of the current template");
    } else {
      out.update(resource, std::move(wanted), "size " + std::to_string(set->replicas));
    }
  }
  const json::value& before = tree(model.object);
  const bool new_metadata = !same_meaning(find(before, "/metadata"), &model.metadata);
  const bool new_status = !same_meaning(find(before, "/status"), &model.status);
  if (new_metadata || new_status) {
    json::value after = before;
    set_at(after, "/metadata", model.metadata);
    if (new_metadata) out.update(deployments(), object_from_tree(after), "revision");
    if (new_status) {
      set_at(after, "/status", model.status);
      out.update_status(deployments(), object_from_tree(std::move(after)), "status");
    }
  }
  for (ReplicaSetModel* set : sets) {
    if (set->removed) out.remove(resource, set->object, "older than the history limit", true);
  }
  for (Action& action : model.actions.list) out.list.push_back(std::move(action));
  out.requeue_after = model.actions.requeue_after;
  out.reason = std::move(model.actions.reason);
  return out;
}

}  // namespace orchestra::controllers
