// Create: metadata that the server sets, defaults, admission, validation, one put of a key that must not
// exist.
#include "api/meta.hpp"
#include "api/status.hpp"
#include "api/walker.hpp"
#include "api/warnings.hpp"
#include "apiserver/admission.hpp"
#include "apiserver/admission/plugins.hpp"
#include "orchestra/env.hpp"

namespace orchestra::apiserver {
namespace {
constexpr int kNameAttempts = 8;

Result<void> check_namespace(const WriteInput& input, json::object& metadata) {
  json::value* given = metadata.if_contains("namespace");
  const std::string ns =
      given != nullptr && given->is_string() ? std::string(given->get_string()) : std::string();
  if (!input.type->namespaced) {
    if (!ns.empty() && input.call->info.ns.empty()) metadata.erase("namespace");
    return {};
  }
  if (input.ns().empty()) {
    return api::bad_request("an empty namespace may not be set during creation");
  }
  if (!ns.empty() && ns != input.ns()) {
    return api::bad_request(
        "the namespace of the provided object does not match the namespace sent on the request");
  }
  metadata["namespace"] = input.ns();
  return {};
}

Error no_name_generated(const api::TypeRecord& type, const std::string& last) {
  const api::ResourceName resource(type);
  api::StatusDetails details{.name = last, .group = resource.group, .kind = resource.resource};
  details.retry_after_seconds = 1;
  return api::status_error(api::make_status(
      409, "AlreadyExists",
      type.qualified_resource() + " \"" + last +
          "\" already exists, the server was not able to generate a unique name for the object",
      std::move(details)));
}

// A free generated name; the key itself guards against a race.
Result<std::string> choose_name(const WriteInput& input, const View& view, const std::string& base) {
  std::string name;
  for (int i = 0; i < kNameAttempts; ++i) {
    name = api::generate_name(base, input.core->engine().random());
    ORC_ASSIGN(std::optional<KeyValue> taken, view.get(key_of(*input.type, input.ns(), name)));
    if (!taken) return name;
  }
  return no_name_generated(*input.type, name);
}

Result<void> prepare_metadata(const WriteInput& input, const View& view, json::value& object) {
  json::object& metadata = api::metadata(object);
  ORC_TRY(check_namespace(input, metadata));
  if (!api::meta_string(object, "resourceVersion").empty()) {
    return api::bad_request("resourceVersion should not be set on objects to be created");
  }
  for (const char* field : {"resourceVersion", "managedFields", "selfLink", "deletionTimestamp",
                            "deletionGracePeriodSeconds", "generation", "uid", "creationTimestamp"}) {
    metadata.erase(field);
  }
  const std::string base(api::meta_string(object, "generateName"));
  if (api::meta_string(object, "name").empty() && !base.empty()) {
    ORC_ASSIGN(metadata["name"], choose_name(input, view, base));
  }
  metadata["uid"] = input.core->engine().random().uuid();
  metadata["creationTimestamp"] = api::format_time(input.now().wall_ns);
  if (input.type->has_generation) metadata["generation"] = 1;
  return {};
}
}  // namespace

Result<Change> compute_create(const WriteInput& input, const View& view) {
  return create_object(input, view, json::value(input.body, input.storage()));
}

Result<Change> create_object(const WriteInput& input, const View& view, json::value object,
                             std::optional<api::FieldManagers> managers) {
  const api::TypeRecord& type = *input.type;
  ORC_TRY(prepare_metadata(input, view, object));
  Change change;
  change.code = 201;
  change.dry_run = input.dry_run;
  // What was observed is written through /status, by who observes.
  if (type.has_status && !type.keeps_status) object.get_object().erase("status");
  api::apply_defaults(input.work_schema(), object);
  if (!managers && !type.virtual_only) managers = track_create(input, object);
  if (type.hooks.prepare_create != nullptr) {
    type.hooks.prepare_create(object.get_object());
    api::apply_defaults(input.work_schema(), object);
  }
  Admission admission{input, view, change, &object, nullptr};
  ORC_TRY(admit_namespace(admission));
  const KindHooks* hooks = kind_hooks(type);
  if (hooks != nullptr && hooks->on_create != nullptr) ORC_TRY(hooks->on_create(admission));
  ORC_TRY(admit_mutating(admission));
  const std::string name(api::meta_string(object, "name"));
  if (const auto errors = api::validate_create(type, input.work_schema(), object); !errors.empty()) {
    return api::invalid(type.group, type.kind, name, errors);
  }
  for (std::string& text : api::warnings_of(type, object.get_object(), nullptr))
    change.warnings.push_back(std::move(text));
  if (type.virtual_only) {
    change.ops.clear();
    change.compares.clear();
    change.stored = Value(encode_object(type, object));
    return change;
  }
  const std::string key = key_of(type, input.ns(), name);
  ORC_ASSIGN(std::optional<KeyValue> existing, view.get(key));
  if (existing) return api::already_exists(type, name);
  ORC_TRY(admit_validating(admission));
  change.expect(key, std::nullopt);
  ORC_ASSIGN(change.stored, stored_value(input, object, managers.value_or(api::FieldManagers())));
  if (change.stored.size() > input.core->options().object_bytes_max) {
    return api::too_large(type.qualified_resource() + " \"" + name + "\" takes " +
                          std::to_string(change.stored.size()) + " bytes, at most " +
                          std::to_string(input.core->options().object_bytes_max) + " are stored");
  }
  change.put(key, change.stored);
  keep_written(input, std::move(object), change);
  return change;
}

}  // namespace orchestra::apiserver
