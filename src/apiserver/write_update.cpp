// Update and patch: what may change, what the server keeps, and no write when nothing did.
#include <algorithm>

#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "api/patches.hpp"
#include "api/status.hpp"
#include "api/versions.hpp"
#include "api/walker.hpp"
#include "api/warnings.hpp"
#include "apiserver/admission.hpp"
#include "apiserver/admission/plugins.hpp"
#include "base/json_text.hpp"

namespace orchestra::apiserver {
namespace {

// Fields of metadata that only the server sets.
constexpr const char* kServerMetadata[] = {"name",
                                           "namespace",
                                           "uid",
                                           "generation",
                                           "creationTimestamp",
                                           "deletionTimestamp",
                                           "generateName",
                                           "deletionGracePeriodSeconds"};

struct SubresourceFields {
  std::string_view name;
  std::vector<std::string_view>
      pointers;  ///< what a write through it may change, besides labels and annotations
};
const SubresourceFields* fields_of(std::string_view subresource) {
  static const std::vector<SubresourceFields> kFields = {
      {"status", {"/status"}},
      {"finalize", {"/spec/finalizers"}},
      {"ephemeralcontainers", {"/spec/ephemeralContainers"}},
      {"resize", {"/spec/containers", "/spec/initContainers"}},
      {"approval", {"/status/conditions"}},
  };
  for (const SubresourceFields& fields : kFields) {
    if (fields.name == subresource) return &fields;
  }
  return nullptr;
}

void copy_field(json::value& to, const json::value& from, std::string_view pointer) {
  if (const json::value* value = find(from, pointer)) {
    set_at(to, pointer, *value);
    return;
  }
  const std::size_t slash = pointer.rfind('/');
  json::value* parent = &to;
  if (slash > 0) parent = const_cast<json::value*>(find(to, pointer.substr(0, slash)));
  if (parent != nullptr && parent->is_object()) parent->get_object().erase(pointer.substr(slash + 1));
}

// Upstream's dropNonResizeUpdates: of containers in their old order only these members are taken. Other lists
// are taken whole, and refused by the validation.
void take_resources(json::value& to, const json::value& from, std::string_view pointer) {
  const json::array* next = array_at(from, pointer);
  const json::array* old = array_at(to, pointer);
  const bool same = next != nullptr && old != nullptr && next->size() == old->size() &&
                    std::equal(next->begin(), next->end(), old->begin(), [](const auto& a, const auto& b) {
                      return string_at(a, "/name") == string_at(b, "/name");
                    });
  if (!same) return copy_field(to, from, pointer);
  json::array merged = *old;
  for (std::size_t i = 0; i < merged.size(); ++i) {
    for (const char* member : {"/resources", "/resizePolicy"}) copy_field(merged[i], (*next)[i], member);
  }
  set_at(to, pointer, std::move(merged));
}

/// The same members in the same order, whatever those named in `but` are.
bool same_besides(const json::object& a, const json::object& b, std::initializer_list<std::string_view> but) {
  const auto skip = [&](json::object::const_iterator at, json::object::const_iterator end) {
    while (at != end && std::find(but.begin(), but.end(), std::string_view(at->key())) != but.end()) ++at;
    return at;
  };
  auto x = skip(a.begin(), a.end());
  auto y = skip(b.begin(), b.end());
  for (; x != a.end() && y != b.end(); x = skip(++x, a.end()), y = skip(++y, b.end())) {
    if (x->key() != y->key() || !same_json(x->value(), y->value())) return false;
  }
  return x == a.end() && y == b.end();
}

/// A write through /status changes nothing else, as most often.
bool changes_status_only(const json::value& old, const json::value& next) {
  const json::object *old_metadata = api::metadata(old), *metadata = api::metadata(next);
  return old_metadata != nullptr && metadata != nullptr &&
         same_besides(old.get_object(), next.get_object(), {"status", "metadata"}) &&
         same_besides(*old_metadata, *metadata, {"labels", "annotations"});
}

// Only what a status-like write may change is taken from `next`.
json::value restrict_to(const SubresourceFields& fields, const json::value& old, const json::value& next) {
  json::value result(old, next.storage());
  if (fields.name == "resize") {
    for (const std::string_view pointer : fields.pointers) take_resources(result, next, pointer);
    return result;
  }
  for (const std::string_view pointer : fields.pointers) copy_field(result, next, pointer);
  if (fields.name == "status") {
    copy_field(result, next, "/metadata/labels");
    copy_field(result, next, "/metadata/annotations");
  }
  if (fields.name == "finalize") copy_field(result, next, "/metadata/finalizers");
  return result;
}

void restore_metadata(const json::value& old, json::value& next) {
  json::object& metadata = api::metadata(next);
  const json::object* kept = api::metadata(old);
  for (const char* field : kServerMetadata) {
    const json::value* value = kept == nullptr ? nullptr : kept->if_contains(field);
    if (value != nullptr) {
      metadata[field] = *value;
    } else {
      metadata.erase(field);
    }
  }
  for (const char* field : {"resourceVersion", "selfLink"}) {
    if (const auto found = metadata.find(field); found != metadata.end()) metadata.stable_erase(found);
  }
}

// The status of the main resource belongs to /status.
void keep_status(const json::value& old, json::value& next) { copy_field(next, old, "/status"); }

bool last_finalizer_went(const json::value& next, const KindHooks* hooks) {
  if (find(next, "/metadata/deletionTimestamp") == nullptr) return false;
  const json::array* finalizers = array_at(next, "/metadata/finalizers");
  if (finalizers != nullptr && !finalizers->empty()) return false;
  if (int_at(next, "/metadata/deletionGracePeriodSeconds") > 0) return false;
  return hooks == nullptr || hooks->holds_deletion == nullptr || !hooks->holds_deletion(next);
}

/// What a patch has made cannot be decoded, or not strictly: upstream's patch.go. It quotes a strategic
/// patch, and of others all that they have made; here nothing is quoted: it may be a Secret, and who may
/// patch an object may not be allowed to read it.
Error bad_patch(std::string why) {
  api::FieldErrors errors;
  errors.add({api::FieldErrorType::invalid, "patch", "", std::move(why)});
  return api::invalid("", "", "", errors);
}

std::string strict_words(const std::vector<std::string>& unknown) {
  std::string out = "strict decoding error: ";
  for (const std::string& text : api::strict_warnings(unknown, {}))
    out += (out.back() == ' ' ? "" : ", ") + text;
  return out;
}

/// Of an object that somebody shares, with its resourceVersion behind the rest of its metadata: nearly always
/// that goes again.
json::value copy_of(const json::value& object, const json::storage_ptr& memory) {
  json::object out(memory);
  out.reserve(object.get_object().size());
  for (const auto& [key, value] : object.get_object()) {
    if (key != "metadata" || !value.is_object()) {
      out.emplace(key, value);
      continue;
    }
    json::object metadata(memory);
    metadata.reserve(value.get_object().size());
    for (const auto& [name, field] : value.get_object()) {
      if (name != "resourceVersion") metadata.emplace(name, field);
    }
    if (const json::value* version = value.get_object().if_contains("resourceVersion"))
      metadata.emplace("resourceVersion", *version);
    out.emplace(key, std::move(metadata));
  }
  return out;
}

/// What is stored is as prune_unknown and apply_defaults would leave it: what a write does not touch need not
/// be looked at.
bool is_settled(const WriteInput& input, const Loaded& loaded) {
  return input.type->builtin && api::stored_as(*input.type, *input.version) &&
         input.core->cache().is_own(loaded.kv.value, loaded.kv.mod_revision);
}

/// Names of the members that `left_out` does not say yes to.
template <class LeftOut>
std::vector<std::string_view> names_besides(const json::object& object, LeftOut left_out) {
  std::vector<std::string_view> names;
  for (const auto& member : object) {
    if (!left_out(member.key())) names.push_back(member.key());
  }
  return names;
}

Result<Change> upsert(const WriteInput& input, const View& view) {
  if (input.sub != nullptr || !input.type->put_creates) return api::not_found(*input.type, input.name());
  return compute_create(input, view);
}
}  // namespace

Result<void> check_identity(const WriteInput& input, const json::value& old, const json::value& next,
                            bool patch) {
  const std::string name(api::meta_string(next, "name"));
  if (name != input.name()) {
    if (patch) {
      return api::bad_request("the name of the object (" + name + ") does not match the name on the URL (" +
                              input.name() + ")");
    }
    return api::bad_request(name.empty() ? "name is required: metadata.name is empty"
                                         : "the name of the object (" + name +
                                               ") does not match the name on the URL (" + input.name() + ")");
  }
  const std::string ns(api::meta_string(next, "namespace"));
  if (!ns.empty() && ns != input.ns()) {
    return api::bad_request("the namespace of the object (" + ns +
                            ") does not match the namespace on the request (" + input.ns() + ")");
  }
  const std::string uid(api::meta_string(next, "uid"));
  const std::string old_uid(api::meta_string(old, "uid"));
  if (!uid.empty() && uid != old_uid) {
    // The object of an update names whom it is for; one that a patch has made cannot but be of the same
    // object.
    if (!patch) {
      return api::conflict(
          *input.type, name,
          "Precondition failed: UID in precondition: " + uid + ", UID in object meta: " + old_uid);
    }
    api::FieldErrors errors;
    errors.invalid(api::FieldPath("metadata.uid"), json::value(uid), "field is immutable");
    return api::invalid(input.type->group, input.type->kind, name, errors);
  }
  const std::string version(api::meta_string(next, "resourceVersion"));
  if (version.empty() || version == "0") {
    if (input.type->unconditional_update || patch) return {};
    api::FieldErrors errors;
    errors.add(
        {api::FieldErrorType::invalid, "metadata.resourceVersion", "0", "must be specified for an update"});
    return api::invalid(input.type->group, input.type->plural, name, errors);  // upstream names no kind here
  }
  if (version != api::meta_string(old, "resourceVersion")) return api::conflict(*input.type, name);
  return {};
}

Result<Loaded> load_target(const WriteInput& input, const View& view) {
  ORC_ASSIGN(std::optional<Loaded> loaded, view.load(key_of(*input.type, input.ns(), input.name())));
  if (!loaded) return api::not_found(*input.type, input.name());
  return std::move(*loaded);
}

Result<json::value> work_tree(const WriteInput& input, const Loaded& loaded) {
  if (input.version->conversion == nullptr && !api::stored_as(*input.type, *input.version)) {
    ORC_ASSIGN(json::value tree, loaded.tree(input.storage()));
    ORC_TRY(api::from_stored(*input.type, *input.version, tree));
    (void)take_managed_fields(tree);
    return tree;
  }
  if (const auto kept = input.core->cache().find(loaded.kv.value, loaded.kv.mod_revision))
    return copy_of(tree(*kept), input.storage());
  return loaded.bare_tree(input.storage());
}

Result<Value> stored_value(const WriteInput& input, const json::value& object,
                           const api::FieldManagers& managers) {
  const std::string managed = managers.empty() ? std::string() : api::managers_text(managers);
  if (input.type->converter == nullptr) return Value(encode_object(*input.type, object, managed));
  json::value copy = object;
  (void)take_managed_fields(copy);
  ORC_TRY(api::to_stored(*input.type, *input.version, copy));
  return Value(encode_object(*input.type, copy, managed));
}

void keep_written(const WriteInput& input, json::value object, Change& change) {
  if (!input.call->want_object || !api::stored_as(*input.type, *input.version)) return;
  if (string_at(object, "/apiVersion") == input.type->stored_api_version())
    change.written = std::move(object);
}

Result<Change> finish_update(const WriteInput& input, const View& view, const Loaded& old,
                             json::value old_tree, json::value next,
                             std::optional<api::FieldManagers> managers, std::optional<bool> same_owners) {
  const api::TypeRecord& type = *input.type;
  const json::value given = take_managed_fields(next);
  const SubresourceFields* fields = input.sub == nullptr ? nullptr : fields_of(input.sub->name);
  restore_metadata(old_tree, next);
  json::object& old_metadata = api::metadata(old_tree);
  old_metadata.erase("resourceVersion");
  std::vector<std::string_view> settled;
  if (fields != nullptr && fields->name == "status" && changes_status_only(old_tree, next)) {
    if (is_settled(input, old)) {
      settled = names_besides(old_tree.get_object(),
                              [](std::string_view name) { return name == "metadata" || name == "status"; });
    }
  } else if (fields != nullptr) {
    next = restrict_to(*fields, old_tree, next);
  } else if (type.has_status && input.sub == nullptr) {
    keep_status(old_tree, next);
  }
  api::apply_defaults(input.work_schema(), next, settled);
  std::optional<api::FieldManagers> managers_before;
  if (!same_owners) {
    if (auto read = api::read_managers_text(old.view.managed_fields)) managers_before = std::move(*read);
  }
  if (!managers)
    managers =
        track_change(input, old, old_tree, next, managers_before.value_or(api::FieldManagers()), given);
  if (type.hooks.prepare_update != nullptr && input.sub == nullptr) {
    type.hooks.prepare_update(next.get_object(), old_tree.get_object());
    api::apply_defaults(input.work_schema(), next);
  }
  Change change;
  change.dry_run = input.dry_run;
  const KindHooks* hooks = kind_hooks(type);
  Admission admission{input, view, change, &next, &old_tree};
  if (hooks != nullptr && hooks->on_update != nullptr && fields == nullptr)
    ORC_TRY(hooks->on_update(admission));
  if (fields == nullptr) {
    ORC_TRY(admit_mutating(admission));
  } else {
    ORC_TRY(admit_subresource(admission));
  }
  if (type.has_generation && api::spec_differs(next.get_object(), old_tree.get_object())) {
    api::metadata(next)["generation"] = int_at(old_tree, "/metadata/generation") + 1;
  }
  const auto errors = fields != nullptr
                          ? api::validate_status_update(type, input.work_schema(), next, old_tree)
                          : api::validate_update(type, input.work_schema(), next, old_tree);
  if (!errors.empty()) return api::invalid(type.group, type.kind, input.name(), errors);
  change.warnings.insert(change.warnings.end(), errors.warnings().begin(), errors.warnings().end());
  if (fields == nullptr) {
    for (std::string& text : api::warnings_of(type, next.get_object(), &old_tree.get_object()))
      change.warnings.push_back(std::move(text));
  }

  if (last_finalizer_went(next, hooks)) {
    change.expect(old.kv.key, old.kv);
    change.remove(old.kv.key);
    ORC_ASSIGN(change.stored, stored_value(input, next, {}));
    if (hooks != nullptr && hooks->on_removed != nullptr) {
      Admission removal{input, view, change, nullptr, &old_tree};
      ORC_TRY(hooks->on_removed(removal));
    }
    return change;
  }
  if (!same_owners)
    same_owners = managers_before ? api::same_but_times(*managers, *managers_before) : managers->empty();
  if (*same_owners && change.ops.empty() && same_json(next, old_tree)) {
    change.stored = old.kv.value;
    change.revision = old.kv.mod_revision;
    change.compares.clear();
    return change;
  }
  if (!managers->empty()) admission.managers = &*managers;
  if (fields == nullptr) {
    ORC_TRY(admit_validating(admission));
  } else {
    ORC_TRY(admit_validating_subresource(admission));
  }
  ORC_ASSIGN(change.stored, stored_value(input, next, *managers));
  if (change.stored.size() > input.core->options().object_bytes_max) {
    return api::too_large(type.qualified_resource() + " \"" + input.name() + "\" takes " +
                          std::to_string(change.stored.size()) + " bytes, at most " +
                          std::to_string(input.core->options().object_bytes_max) + " are stored");
  }
  change.expect(old.kv.key, old.kv);
  change.put(old.kv.key, change.stored);
  keep_written(input, std::move(next), change);
  return change;
}

Result<Change> compute_update(const WriteInput& input, const View& view) {
  auto old = load_target(input, view);
  if (!old) return old.error().is(Error::not_found) ? upsert(input, view) : Result<Change>(old.error());
  ORC_ASSIGN(json::value old_tree, work_tree(input, *old));
  ORC_TRY(check_identity(input, old_tree, input.body, false));
  return finish_update(input, view, *old, std::move(old_tree), json::value(input.body, input.storage()));
}

Result<Change> compute_patch(const WriteInput& input, const View& view) {
  if (input.patch == PatchKind::apply) return compute_apply(input, view);
  ORC_ASSIGN(Loaded old, load_target(input, view));
  ORC_ASSIGN(json::value old_tree, work_tree(input, old));
  json::value next(old_tree, input.storage());
  if (input.patch == PatchKind::json) {
    // It may test, copy or move them; other patches only put others in their place.
    ORC_ASSIGN(json::value managed, old.managed_fields(input.storage()));
    if (!managed.is_null()) api::metadata(next)["managedFields"] = std::move(managed);
  }
  const api::TypeVersion& version = *input.version;
  if (version.conversion != nullptr) ORC_TRY(api::from_stored(*input.type, version, next));
  ORC_TRY(apply_patch(input, version.schema, next));
  if (!next.is_object()) return api::bad_request("the patched object is not an object");
  std::vector<std::string_view> settled;
  if (input.patch != PatchKind::json && input.body.is_object() && is_settled(input, old)) {
    settled = names_besides(old_tree.get_object(),
                            [&](std::string_view name) { return input.body.get_object().contains(name); });
  }
  auto unknown = input.patch == PatchKind::strategic ? api::prune_strategic(version.schema, next, settled)
                                                     : api::prune_unknown(version.schema, next, settled);
  if (!unknown) return bad_patch(unknown.error().message());
  if (input.validation == "Strict" && !unknown->empty()) return bad_patch(strict_words(*unknown));
  WriteInput checked = input;
  checked.warnings.clear();
  ORC_TRY(check_strict(checked, *unknown, {}));
  if (version.conversion != nullptr) {
    api::apply_defaults(version.schema, next);
    ORC_TRY(api::to_stored(*input.type, version, next));
  }
  ORC_TRY(check_identity(input, old_tree, next, true));
  ORC_ASSIGN(Change change, finish_update(input, view, old, std::move(old_tree), std::move(next)));
  change.warnings.insert(change.warnings.begin(), checked.warnings.begin(), checked.warnings.end());
  return change;
}

Result<Change> compute_write(const WriteInput& input, const View& view) {
  if (input.sub != nullptr) {
    const SubresourceHook* hook = subresource_hook(*input.type, input.sub->name);
    if (hook != nullptr && hook->write != nullptr) return hook->write(input, view);
    if (fields_of(input.sub->name) == nullptr) {
      return api::method_not_allowed(*input.type, input.call->info.verb);
    }
  }
  const std::string& verb = input.call->info.verb;
  if (verb == "create") return compute_create(input, view);
  if (verb == "update") return compute_update(input, view);
  if (verb == "patch") return compute_patch(input, view);
  return compute_delete(input, view);
}

}  // namespace orchestra::apiserver
