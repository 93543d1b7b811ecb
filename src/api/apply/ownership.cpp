// What a write does to the owners of fields: see managed_fields.hpp.
//
// structured-merge-diff/merge/update.go (Update, Apply, prune) inside the layers of
// managedfields/internal: stripmeta, managedfieldsupdater, capmanagers, skipnonapplied, lastappliedmanager,
// lastappliedupdater. An applier that leaves out what it applied before gives it up; the field goes unless
// somebody else owns it.
#include <algorithm>

#include "api/apply/managed_fields.hpp"
#include "api/status.hpp"
#include "api/tree.hpp"
#include "base/json_text.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kLastApplied = "kubectl.kubernetes.io/last-applied-configuration";
constexpr std::size_t kAnnotationBytesMax = 256 << 10;

/// Identity and bookkeeping that nobody owns.
void strip(FieldSet& set, const std::vector<std::string>& not_written) {
  for (const char* name : {"apiVersion", "kind"}) set.children.erase_field(name);
  for (const std::string& name : not_written) set.children.erase_field(name);
  const auto meta = set.children.find_field("metadata");
  if (meta == set.children.end()) return;
  meta->below.member = false;
  for (const char* name : {"name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName",
                           "generation", "managedFields", "resourceVersion"}) {
    meta->below.children.erase_field(name);
  }
  if (meta->below.empty()) set.children.erase(meta);
}

struct Conflict {
  const FieldManager* manager;
  FieldSet fields;
};

/// What a write did, in one version of the type.
struct Effect {
  FieldSet written;  ///< added or modified
  FieldSet removed;
  explicit Effect(FieldChanges changes)
      : written(FieldSet::united(std::move(changes.modified), std::move(changes.added))),
        removed(std::move(changes.removed)) {}
};

/// merge.Updater.update: takes what changed from everybody but `self`, unless there are conflicts: then
/// nothing is changed. What was written, as the writer owns it; `taken`: somebody lost something.
FieldSet take_over(const FieldWrite& write, const json::value& before, const json::value& after,
                   FieldManagers& managers, const FieldManager* self, bool& taken,
                   std::vector<Conflict>* conflicts) {
  FieldChanges own = compare_fields(write.schema, before, after);
  for (FieldSet* set : {&own.added, &own.removed, &own.modified}) strip(*set, write.not_written);
  std::map<std::string, std::optional<Effect>> in_version;
  in_version.emplace(write.manager.api_version, Effect(std::move(own)));
  const auto effect_on = [&](const FieldManager& manager) -> const std::optional<Effect>& {
    auto found = in_version.find(manager.api_version);
    if (found == in_version.end()) {
      std::optional<Effect> effect;
      if (auto view = write.view(manager.api_version, before, after))
        effect.emplace(compare_fields(view->schema, view->before, view->after));
      found = in_version.emplace(manager.api_version, std::move(effect)).first;
    }
    return found->second;
  };
  if (conflicts != nullptr) {
    for (const FieldManager& manager : managers) {
      if (self != nullptr && manager.is(*self)) continue;
      const std::optional<Effect>& effect = effect_on(manager);
      if (!effect) continue;
      if (FieldSet lost = FieldSet::common(manager.fields, effect->written); !lost.empty())
        conflicts->push_back({&manager, std::move(lost)});
    }
  }
  if (conflicts == nullptr || conflicts->empty()) {
    FieldManagers left;
    left.reserve(managers.size());
    for (FieldManager& manager : managers) {
      if (self == nullptr || !manager.is(*self)) {
        const std::optional<Effect>& effect = effect_on(manager);
        if (!effect) {
          taken = true;  // the type has this version no more: the set means nothing
          continue;
        }
        FieldSet written = FieldSet::common(manager.fields, effect->written);
        FieldSet lost =
            FieldSet::united(std::move(written), FieldSet::common(manager.fields, effect->removed));
        if (!lost.empty()) manager.fields = FieldSet::without(std::move(manager.fields), lost);
        taken = taken || !lost.empty() || manager.fields.empty();
        if (manager.fields.empty()) continue;
      }
      left.push_back(std::move(manager));
    }
    managers = std::move(left);
  }
  return std::move(in_version.at(write.manager.api_version)->written);
}

/// capmanagers: the oldest Update entries of a version become one entry.
void cap_updates(FieldManagers& managers) {
  const auto updates = [&] {
    return static_cast<std::size_t>(std::count_if(managers.begin(), managers.end(),
                                                  [](const FieldManager& each) { return !each.applies(); }));
  };
  if (updates() <= kUpdateManagersMax) return;
  std::stable_sort(managers.begin(), managers.end(), [](const FieldManager& a, const FieldManager& b) {
    return std::tie(a.time, a.name) < std::tie(b.time, b.name);
  });
  std::map<std::string, FieldManager> merged;  // by version
  for (auto each = managers.begin();
       each != managers.end() && updates() + merged.size() > kUpdateManagersMax;) {
    if (each->applies()) {
      ++each;
      continue;
    }
    FieldManager& bucket = merged[each->api_version];
    bucket.name = "ancient-changes";
    bucket.operation = "Update";
    bucket.api_version = each->api_version;
    bucket.time = each->time;
    bucket.fields = FieldSet::united(std::move(bucket.fields), each->fields);
    each = managers.erase(each);
  }
  for (auto& [version, bucket] : merged) managers.push_back(std::move(bucket));
}

std::string printed(const FieldManager& manager) {
  std::string out = json::serialize(json::string(manager.name));
  if (!manager.subresource.empty())
    out += " with subresource " + json::serialize(json::string(manager.subresource));
  return manager.applies() ? out : out + " using " + manager.api_version;
}

Error conflict_error(const std::vector<Conflict>& conflicts) {
  StatusDetails details;
  std::map<std::string, std::vector<std::string>> by_manager;
  for (const Conflict& conflict : conflicts) {
    const std::string who = printed(*conflict.manager);
    for (const std::string& path : conflict.fields.paths()) {
      details.causes.push_back({"FieldManagerConflict", "conflict with " + who, path});
      by_manager[who].push_back(path);
    }
  }
  std::string message;
  if (details.causes.size() == 1) {
    message = "Apply failed with 1 conflict: " + details.causes[0].message + ": " + details.causes[0].field;
  } else {
    message = "Apply failed with " + std::to_string(details.causes.size()) + " conflicts: ";
    bool first = true;
    for (const auto& [who, paths] : by_manager) {
      message += (first ? "" : "\n") + std::string("conflicts with ") + who + ":";
      for (const std::string& path : paths) message += "\n- " + path;
      first = false;
    }
  }
  return status_error(make_status(409, "Conflict", message, std::move(details)));
}

/// merge.Updater.prune: what this applier had and now leaves out, unless somebody else owns it.
json::value prune_dropped(const FieldWrite& write, const json::value& merged, const FieldManagers& managers,
                          const FieldSet& last) {
  const SchemaRef schema = write.schema;
  const auto all = [&](const json::value& tree) {
    return with_named_parents(schema, fields_of(schema, tree));
  };
  const FieldSet last_named = with_named_parents(schema, last);
  json::value pruned = remove_fields(schema, merged, last_named);
  FieldSet owned;
  for (const FieldManager& manager : managers) owned = FieldSet::united(std::move(owned), manager.fields);
  const FieldSet merged_set = all(merged);
  pruned = remove_fields(
      schema, merged,
      FieldSet::without(merged_set, FieldSet::united(all(pruned), with_named_parents(schema, owned))));
  return remove_fields(schema, merged,
                       FieldSet::common(FieldSet::without(merged_set, all(pruned)), last_named));
}

/// The fields of kubectl's last-applied annotation that still have the value it says.
FieldSet still_applied(const FieldWrite& write, const json::value& live) {
  const json::object* annotations = object_at(live, "/metadata/annotations");
  if (annotations == nullptr) return {};
  auto config = parse_json(text_of(*annotations, kLastApplied));
  if (!config || string_at(*config, "/apiVersion") != write.manager.api_version) return {};
  const FieldChanges changes = compare_fields(write.schema, *config, live);
  FieldSet set = fields_of(write.schema, *config);
  for (const FieldSet* gone : {&changes.modified, &changes.added, &changes.removed})
    set = FieldSet::without(std::move(set), *gone);
  return set;
}

void update_last_applied(json::value& object, const json::value& config) {
  json::value* meta = object.get_object().if_contains("metadata");
  json::object* annotations =
      meta != nullptr && meta->is_object() ? object_of(meta->get_object(), "annotations") : nullptr;
  if (annotations == nullptr || !annotations->contains(kLastApplied)) return;
  json::value copy = config;
  if (json::object* inner = object_of(copy.get_object(), "metadata")) {
    if (json::object* own = object_of(*inner, "annotations")) own->erase(kLastApplied);
  }
  const std::string text = to_json(copy) + "\n";
  if (text.size() <= kAnnotationBytesMax) {
    (*annotations)[kLastApplied] = text;
  } else {
    annotations->erase(kLastApplied);
  }
}

}  // namespace

FieldManagers track_update(const FieldWrite& write, const json::value& before, const json::value& after,
                           FieldManagers given) {
  bool lost = false;
  FieldSet taken = take_over(write, before, after, given, nullptr, lost, nullptr);
  if (!taken.empty()) {
    const auto previous = std::find_if(given.begin(), given.end(),
                                       [&](const FieldManager& each) { return each.is(write.manager); });
    if (previous != given.end()) {
      previous->fields = FieldSet::united(std::move(previous->fields), std::move(taken));
      previous->time = write.manager.time;
    } else {
      given.push_back(write.manager);
      given.back().fields = std::move(taken);
    }
  }
  cap_updates(given);
  return given;
}

Result<Applied> apply_config(const FieldWrite& write, const json::value& live, const json::value& config,
                             FieldManagers managers, bool force) {
  const bool existed = find(live, "/metadata/uid") != nullptr;
  const bool tracked = !managers.empty();
  if (!tracked && existed) {
    // Older than its first apply: what is there belongs to `before-first-apply`.
    FieldWrite first = write;
    first.manager.name = "before-first-apply";
    first.manager.operation = "Update";
    const json::value nothing = json::object{{"metadata", json::object()}};
    managers = track_update(first, nothing, live, {});
  }
  json::value merged(live, live.storage());
  ORC_ASSIGN(const bool kept, merge_fields(write.schema, merged, config));
  const auto own_of = [&] {
    return std::find_if(managers.begin(), managers.end(),
                        [&](const FieldManager& each) { return each.is(write.manager); });
  };
  auto own = own_of();
  const bool known = own != managers.end();
  if (!known) own = managers.insert(own, write.manager);
  FieldSet last = std::move(own->fields);
  const std::string last_version = std::exchange(own->api_version, write.manager.api_version);
  // With apiVersion, kind and name, which keep metadata from being pruned; they are stripped at the end.
  own->fields = fields_of(write.schema, config);
  // Nothing was left out, as most often. (An empty map over one with fields is left to the rules: it may go
  // with fields that nobody owns.)
  const bool whole = last.empty() || (!kept && own->fields.contains(last));
  json::value pruned = whole ? std::move(merged) : prune_dropped(write, merged, managers, last);
  std::vector<Conflict> conflicts;
  bool taken = false;
  take_over(write, live, pruned, managers, &write.manager, taken, force ? nullptr : &conflicts);
  if (!conflicts.empty()) {
    if (write.manager.name != "kubectl") return conflict_error(conflicts);
    // kubectl's own client-side apply is no stranger: its fields are taken without force.
    const FieldSet allowed = still_applied(write, live);
    std::vector<Conflict> left;
    for (Conflict& conflict : conflicts) {
      conflict.fields = FieldSet::without(std::move(conflict.fields), allowed);
      if (!conflict.fields.empty()) left.push_back(std::move(conflict));
    }
    if (!left.empty()) return conflict_error(left);
    own = own_of();
    own->api_version = last_version;
    own->fields = std::move(last);
    if (!known) managers.erase(own);
    return apply_config(write, live, config, std::move(managers), true);
  }
  if (write.manager.name == "kubectl") update_last_applied(pruned, config);
  own = own_of();
  strip(own->fields, write.not_written);
  const bool same_owners =
      tracked && known && !taken && own->api_version == last_version && own->fields == last;
  if (!same_owners || !same_json(pruned, live)) own->time = write.manager.time;
  if (own->fields.empty()) managers.erase(own);
  return Applied{std::move(pruned), std::move(managers), same_owners};
}

}  // namespace orchestra::api
