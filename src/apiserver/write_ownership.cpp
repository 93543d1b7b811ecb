// Server-side apply, and who owns what after any other write: the bridge from requests to api/apply.
#include "api/apply/managed_fields.hpp"
#include "api/apply/scale_managers.hpp"
#include "api/content.hpp"
#include "api/meta.hpp"
#include "api/status.hpp"
#include "api/versions.hpp"
#include "api/walker.hpp"
#include "apiserver/admission.hpp"
#include "base/json_text.hpp"

namespace orchestra::apiserver {
namespace {

// A tree from the form in which the pipeline works in the version of the request: itself, where that is the
// same form.
class InRequestVersion {
 public:
  InRequestVersion(const WriteInput& input, const json::value& tree) : tree_(&tree) {
    if (input.version->conversion == nullptr) return;
    own_ = tree;
    (void)api::from_stored(*input.type, *input.version, own_);  // no converter: cannot fail
    tree_ = &own_;
  }
  const json::value& operator*() const { return *tree_; }

 private:
  json::value own_;
  const json::value* tree_;
};

api::FieldWrite field_write(const WriteInput& input, const char* operation) {
  api::FieldWrite write;
  write.manager.name = input.field_manager;
  write.manager.operation = operation;
  write.manager.api_version = input.type->gvk(input.version->name).api_version();
  write.manager.subresource = input.call->info.subresource;
  write.manager.time = api::format_time(input.now().wall_ns);
  write.schema = input.version->schema;
  if (input.sub == nullptr && input.type->has_status) write.not_written = {"status"};
  if (input.sub != nullptr && input.sub->name == "status") write.not_written = {"spec"};
  write.view = [type = input.type, from = input.version](
                   const std::string& api_version, const json::value& before,
                   const json::value& after) -> std::optional<api::VersionView> {
    const auto [group, version] = api::split_api_version(api_version);
    const api::TypeVersion* found = group == type->group ? type->version(version) : nullptr;
    if (found == nullptr) return std::nullopt;
    api::VersionView view{found->schema, before, after};
    for (json::value* tree : {&view.before, &view.after}) {
      if (type->converter == nullptr && !api::to_stored(*type, *from, *tree)) return std::nullopt;
      if (!api::from_stored(*type, *found, *tree)) return std::nullopt;
    }
    return view;
  };
  return write;
}

/// What the object has, whatever the order of its members.
bool same_managed(const WriteInput& input, const Loaded& loaded, const json::value& given) {
  const auto managed = loaded.managed_fields(input.storage());
  return managed && same_json(given, *managed);
}

api::FieldManagers managers_of(const json::value& managed_fields) {
  auto managers = api::read_managers(managed_fields);
  return managers ? std::move(*managers) : api::FieldManagers();
}

// `[]` and `[{}]` of a client take all managers away.
bool is_reset(const json::value& managed_fields) {
  if (!managed_fields.is_array()) return false;
  const json::array& entries = managed_fields.get_array();
  return entries.empty() ||
         (entries.size() == 1 && entries[0].is_object() && entries[0].get_object().empty());
}
}  // namespace

api::FieldManagers managers_of(const Loaded& loaded) {
  auto managers = api::read_managers_text(loaded.view.managed_fields);
  return managers ? std::move(*managers) : api::FieldManagers();
}

json::value take_managed_fields(json::value& object) {
  json::object& metadata = api::metadata(object);
  const auto found = metadata.find("managedFields");
  if (found == metadata.end()) return nullptr;
  json::value managed = std::move(found->value());
  metadata.stable_erase(metadata.find("managedFields"));
  return managed;
}

api::FieldManagers track_create(const WriteInput& input, const json::value& object) {
  const api::FieldWrite write = field_write(input, "Update");
  return api::track_update(write, api::zero_value_of(input.version->schema), *InRequestVersion(input, object),
                           {});
}

api::FieldManagers track_change(const WriteInput& input, const Loaded& loaded, const json::value& old,
                                const json::value& next, api::FieldManagers managers,
                                const json::value& given) {
  if (is_reset(given)) {
    managers.clear();
  } else if (!given.is_null() && !same_managed(input, loaded, given)) {
    if (api::FieldManagers own = managers_of(given); !own.empty()) managers = std::move(own);
  }
  // An object that nobody tracked is tracked from its first apply on.
  if (managers.empty()) return managers;
  return api::track_update(field_write(input, "Update"), *InRequestVersion(input, old),
                           *InRequestVersion(input, next), std::move(managers));
}

Result<void> read_apply(WriteInput& input) {
  const Call& call = *input.call;
  const bool force = query_flag(call.info.query, "force");
  input.force = force;
  const bool own_kind = input.sub != nullptr && input.sub->kind.kind != input.type->kind;
  const GroupVersionKind expected = own_kind ? input.sub->kind : input.type->gvk(call.info.version);
  if (query_value(call.info.query, "fieldManager").empty()) {
    api::FieldErrors errors;
    errors.required(api::FieldPath("fieldManager"), "is required for apply patch");
    return api::invalid("meta.k8s.io", "PatchOptions", "", errors);
  }
  ORC_ASSIGN(api::DecodedBody body,
             api::decode_body(call.body, api::BodyFormat::yaml, expected, input.schema, input.storage()));
  input.body = std::move(body.tree);
  if (string_at(input.body, "/metadata/name").empty()) {
    api::metadata(input.body)["name"] = call.info.name;
  }
  if (find(input.body, "/metadata/managedFields") != nullptr)
    return api::bad_request("metadata.managedFields must be nil");
  return check_strict(input, body.unknown, body.duplicate);
}

Result<Change> compute_apply(const WriteInput& input, const View& view) {
  const api::FieldWrite write = field_write(input, "Apply");
  auto old = load_target(input, view);
  if (!old && (!old.error().is(Error::not_found) || input.sub != nullptr)) return old.error();
  if (!old) {
    if (const std::string uid = string_at(input.body, "/metadata/uid"); !uid.empty()) {
      return api::conflict(
          *input.type, input.name(),
          "uid mismatch: the provided object specified uid " + uid + ", and no existing object was found");
    }
    ORC_ASSIGN(
        api::Applied applied,
        api::apply_config(write, json::value(json::object{{"metadata", json::object()}}, input.storage()),
                          input.body, {}, input.force));
    if (input.version->conversion != nullptr) {
      api::apply_defaults(input.version->schema, applied.object);
      ORC_TRY(api::to_stored(*input.type, *input.version, applied.object));
    }
    ORC_ASSIGN(Change change,
               create_object(input, view, std::move(applied.object), std::move(applied.managers)));
    change.warnings = {};
    return change;
  }
  ORC_ASSIGN(json::value old_tree, work_tree(input, *old));
  json::value live(old_tree, input.storage());
  if (input.version->conversion != nullptr) ORC_TRY(api::from_stored(*input.type, *input.version, live));
  ORC_ASSIGN(api::Applied applied,
             api::apply_config(write, live, input.body, managers_of(*old), input.force));
  if (input.version->conversion != nullptr) {
    api::apply_defaults(input.version->schema, applied.object);
    ORC_TRY(api::to_stored(*input.type, *input.version, applied.object));
  }
  ORC_TRY(check_identity(input, old_tree, applied.object, true));
  return finish_update(input, view, *old, std::move(old_tree), std::move(applied.object),
                       std::move(applied.managers), applied.same_owners);
}

Result<AppliedScale> apply_scale(const WriteInput& input, const Loaded& object, const json::value& scale) {
  const api::TypeRecord& type = *input.type;
  api::ReplicaPaths paths;
  for (const api::TypeVersion& version : type.versions) {
    const api::TypePtr own = input.core->registry()->find(type.group, version.name, type.plural);
    const bool scales = own != nullptr && own->subresource(input.sub->name) != nullptr;
    paths[type.gvk(version.name).api_version()] = scales ? own->scale.replicas : std::string();
  }
  const std::string api_version = type.gvk(input.version->name).api_version();
  paths[api_version] = type.scale.replicas;
  const api::FieldManagers own = managers_of(object);
  api::FieldWrite write = field_write(input, "Apply");
  write.manager.api_version = input.sub->kind.api_version();
  write.schema = input.schema;
  write.not_written.clear();
  write.view = [](const std::string&, const json::value&, const json::value&) { return std::nullopt; };
  ORC_ASSIGN(api::Applied applied,
             api::apply_config(write, scale, input.body, api::managers_of_scale(own, paths), input.force));
  return AppliedScale{std::move(applied.object),
                      api::managers_after_scale(own, std::move(applied.managers), api_version, paths)};
}

}  // namespace orchestra::apiserver
