// ControllerRevision history; see history.hpp. Revisions are compared by the meaning of their data, never by
// the stored hash: a library version with a new default must not start a rollout.
#include "controllers/common/history.hpp"

#include <algorithm>

namespace orchestra::controllers {

namespace {

json::value data_of(const Object& owner) {
  json::value data = json::object();
  const json::value* pod_template = find(tree(owner), "/spec/template");
  json::value copy = pod_template != nullptr ? *pod_template : json::value(json::object());
  object_in(copy, "")["$patch"] = "replace";
  set_at(data, "/spec/template", std::move(copy));
  return data;
}

Object new_revision(const Object& owner, json::value data, std::int64_t number, std::int64_t collisions,
                    const char* hash_label) {
  std::string hashed = canonical_text(data);
  if (collisions > 0) hashed += std::to_string(collisions);
  const std::string hash = safe_encode(fnv1a_32(hashed));
  json::object labels;
  if (const json::object* own = object_at(tree(owner), "/spec/template/metadata/labels")) labels = *own;
  labels[hash_label] = hash;
  constexpr std::size_t kPrefixMax = 223;  // as history.ControllerRevisionName
  json::object metadata{{"name", owner.name().substr(0, kPrefixMax) + "-" + hash},
                        {"namespace", owner.ns()},
                        {"labels", std::move(labels)},
                        {"ownerReferences", json::array{controller_reference(owner)}}};
  return object_from_tree(json::object{{"apiVersion", "apps/v1"},
                                       {"kind", "ControllerRevision"},
                                       {"metadata", std::move(metadata)},
                                       {"data", std::move(data)},
                                       {"revision", number}});
}

std::int64_t number_of(const Object& revision) { return int_at(tree(revision), "/revision"); }

}  // namespace

History sync_history(const Object& owner, const LabelSelector& selector, const View& view,
                     const char* hash_label, std::int64_t& collisions, Actions& actions) {
  History history;
  for (Object& revision : view.find(controller_revisions(), ObjectCache::kOwner, owner.uid())) {
    const OwnerReference* controller = revision.controller();
    if (controller != nullptr && controller->uid == owner.uid() && !revision.deleting())
      history.revisions.push_back(std::move(revision));
  }
  if (!owner.deleting()) {
    for (const Object& orphan : selector.select_orphans(view, controller_revisions(), owner.ns())) {
      if (orphan.deleting()) continue;
      actions.update(controller_revisions(), adopted(orphan, owner), "an orphan that matches the selector");
      history.changed = true;
    }
  }
  std::stable_sort(history.revisions.begin(), history.revisions.end(),
                   [](const Object& a, const Object& b) { return number_of(a) < number_of(b); });
  json::value data = data_of(owner);
  const std::int64_t newest = history.revisions.empty() ? 0 : number_of(history.revisions.back());
  const auto equal = std::find_if(
      history.revisions.rbegin(), history.revisions.rend(),
      [&](const Object& revision) { return same_meaning(find(tree(revision), "/data"), &data); });
  if (equal == history.revisions.rend()) {
    history.update = new_revision(owner, std::move(data), newest + 1, collisions, hash_label);
    const Object taken = view.get(controller_revisions(), owner.ns(), history.update.name());
    if (taken) {
      ++collisions;
      history.changed = true;
    } else if (!owner.deleting() && !history.changed) {
      actions.create(controller_revisions(), history.update, "a template that it has not had yet");
    }
    if (!taken) history.revisions.push_back(history.update);
    return history;
  }
  history.update = *equal;
  if (number_of(history.update) != newest) {  // a rollback: its revision is the newest again
    json::value copy = tree(history.update);
    set_at(copy, "/revision", newest + 1);
    history.update = object_from_tree(std::move(copy));
    actions.update(controller_revisions(), history.update, "its template is the present one again");
  }
  return history;
}

void prune_revisions(const History& history, const std::vector<std::string>& live, std::int64_t limit,
                     Actions& actions) {
  std::vector<const Object*> unused;
  for (const Object& revision : history.revisions) {
    const bool used = revision.name() == history.update.name() ||
                      std::find(live.begin(), live.end(), revision.name()) != live.end();
    if (!used) unused.push_back(&revision);
  }
  for (std::size_t i = 0; i + static_cast<std::size_t>(std::max<std::int64_t>(limit, 0)) < unused.size(); ++i)
    actions.remove(controller_revisions(), *unused[i], "beyond revisionHistoryLimit");
}

json::value template_of(const Object& revision) {
  const json::value* pod_template = find(tree(revision), "/data/spec/template");
  json::value copy = pod_template != nullptr ? *pod_template : json::value(json::object());
  if (copy.is_object()) copy.get_object().erase("$patch");
  return copy;
}

}  // namespace orchestra::controllers
