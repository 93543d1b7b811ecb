// Delete: preconditions, graceful deletion, finalizers; what the garbage collector then does with
// dependents is decided by the finalizers set here (foregroundDeletion, orphan).
#include <algorithm>

#include "api/crd/definition.hpp"
#include "api/meta.hpp"
#include "api/status.hpp"
#include "apiserver/admission.hpp"
#include "apiserver/admission/plugins.hpp"

namespace orchestra::apiserver {
namespace {
constexpr const char* kForeground = "foregroundDeletion";
constexpr const char* kOrphan = "orphan";

Result<void> check_preconditions(const api::TypeRecord& type, const Loaded& loaded, std::string_view name,
                                 const DeleteRequest& request) {
  const api::ResourceName named(type.group, type.kind);  // upstream's BeforeDelete names the kind here
  if (!request.uid.empty() && request.uid != loaded.view.uid) {
    return api::conflict(named, name,
                         "the UID in the precondition (" + request.uid +
                             ") does not match the UID in record (" + std::string(loaded.view.uid) +
                             "). The object might have been deleted and then recreated");
  }
  const std::string version = std::to_string(loaded.kv.mod_revision);
  if (!request.resource_version.empty() && request.resource_version != version) {
    return api::conflict(named, name,
                         "the ResourceVersion in the precondition (" + request.resource_version +
                             ") does not match the ResourceVersion in record (" + version +
                             "). The object might have been modified");
  }
  return {};
}

// The finalizers that the propagation policy asks for; true if they changed.
bool set_propagation(json::value& tree, const std::string& propagation) {
  if (propagation.empty()) return false;
  json::array finalizers;
  bool changed = false;
  if (const json::array* old = array_at(tree, "/metadata/finalizers")) {
    for (const json::value& entry : *old) {
      const bool ours = entry == kForeground || entry == kOrphan;
      const bool wanted = (propagation == "Foreground" && entry == kForeground) ||
                          (propagation == "Orphan" && entry == kOrphan);
      if (!ours || wanted) finalizers.push_back(entry);
      changed = changed || (ours && !wanted);
    }
  }
  const std::string add = propagation == "Foreground" ? kForeground : propagation == "Orphan" ? kOrphan : "";
  if (!add.empty() && std::find(finalizers.begin(), finalizers.end(), json::value(add)) == finalizers.end()) {
    finalizers.push_back(json::value(add));
    changed = true;
  }
  if (!changed) return false;
  if (finalizers.empty()) {
    api::metadata(tree).erase("finalizers");
  } else {
    api::metadata(tree)["finalizers"] = std::move(finalizers);
  }
  return true;
}

bool has_finalizers(const json::value& tree) {
  const json::array* finalizers = array_at(tree, "/metadata/finalizers");
  return finalizers != nullptr && !finalizers->empty();
}

std::int64_t grace_of(const KindHooks* hooks, const json::value& tree, const DeleteRequest& request) {
  if (hooks == nullptr || hooks->grace_seconds == nullptr) return 0;
  const std::int64_t own = hooks->grace_seconds(tree);
  if (own <= 0) return 0;
  return request.grace_seconds.value_or(own);
}

// Sets or shortens the deletion time; true if something changed.
bool mark(json::value& tree, std::int64_t grace, std::int64_t wall_ns, const KindHooks* hooks,
          bool has_generation) {
  json::object& metadata = api::metadata(tree);
  if (metadata.contains("deletionTimestamp")) {
    const std::int64_t old = int_at(tree, "/metadata/deletionGracePeriodSeconds");
    if (old <= grace) return false;
    const auto begun = api::parse_time(string_at(tree, "/metadata/deletionTimestamp"));
    const std::int64_t start = begun.value_or(wall_ns) - old * api::kSecond;
    metadata["deletionTimestamp"] = api::format_time(std::max(start + grace * api::kSecond, wall_ns));
    metadata["deletionGracePeriodSeconds"] = grace;
    return true;
  }
  metadata["deletionTimestamp"] = api::format_time(wall_ns + grace * api::kSecond);
  metadata["deletionGracePeriodSeconds"] = grace;
  if (has_generation) metadata["generation"] = int_at(tree, "/metadata/generation") + 1;
  if (hooks != nullptr && hooks->mark_deleted != nullptr) hooks->mark_deleted(tree);
  return true;
}
}  // namespace

Result<Change> remove_object(const WriteInput& input, const View& view, const Loaded& loaded,
                             const DeleteRequest& request) {
  const api::TypeRecord& type = *input.type;
  ORC_ASSIGN(json::value tree, loaded.tree(input.storage()));
  const std::string name(api::meta_string(tree, "name"));
  ORC_TRY(check_preconditions(type, loaded, name, request));
  const KindHooks* hooks = kind_hooks(type);
  Change change;
  change.dry_run = input.dry_run;
  Admission admission{input, view, change, nullptr, &tree};
  if (hooks != nullptr && hooks->on_delete != nullptr) ORC_TRY(hooks->on_delete(admission));
  ORC_TRY(admit_deletion(admission));

  json::value next(tree, input.storage());
  api::metadata(next).erase("resourceVersion");
  if (type.defines_types && api::metadata(next).if_contains("deletionTimestamp") == nullptr) {
    // The definition stays until the objects of its type are gone.
    json::value& finalizers = api::metadata(next)["finalizers"];
    if (!finalizers.is_array()) finalizers.emplace_array();
    const json::value cleanup(api::kDefinitionFinalizer);
    json::array& list = finalizers.get_array();
    if (std::find(list.begin(), list.end(), cleanup) == list.end()) list.push_back(cleanup);
  }
  const bool propagation_changed = set_propagation(next, request.propagation);
  const std::int64_t grace = grace_of(hooks, next, request);
  const bool held = hooks != nullptr && hooks->holds_deletion != nullptr && hooks->holds_deletion(next);
  if (has_finalizers(next) || grace > 0 || held) {
    const bool marked = mark(next, grace, input.now().wall_ns, hooks, type.has_generation);
    if (!marked && !propagation_changed) {
      change.stored = loaded.kv.value;
      change.revision = loaded.kv.mod_revision;
      return change;
    }
    change.stored = Value(encode_object(type, next));
    change.expect(loaded.kv.key, loaded.kv);
    change.put(loaded.kv.key, change.stored);
    return change;
  }
  change.expect(loaded.kv.key, loaded.kv);
  change.remove(loaded.kv.key);
  if (hooks != nullptr && hooks->on_removed != nullptr) ORC_TRY(hooks->on_removed(admission));
  if (type.returns_deleted) {
    change.stored = loaded.kv.value;
    return change;
  }
  api::StatusDetails details;
  details.name = name;
  details.group = type.group;
  details.kind = type.plural;
  details.uid = std::string(loaded.view.uid);
  change.status = api::success_status(std::move(details));
  return change;
}

Result<Change> compute_delete(const WriteInput& input, const View& view) {
  ORC_ASSIGN(Loaded loaded, load_target(input, view));
  return remove_object(input, view, loaded, input.remove);
}

}  // namespace orchestra::apiserver
