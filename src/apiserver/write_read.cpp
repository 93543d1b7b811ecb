// Reading the input of a write: bodies, patches, DeleteOptions, dryRun and fieldValidation.
#include <algorithm>

#include "api/content.hpp"
#include "api/object_tree.hpp"
#include "api/patches.hpp"
#include "api/status.hpp"
#include "api/versions.hpp"
#include "api/walker.hpp"
#include "apiserver/writes.hpp"

namespace orchestra::apiserver {
namespace {

constexpr std::string_view kPatchTypes =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

std::string media_type(std::string_view content_type) {
  return to_lower(trim(content_type.substr(0, content_type.find(';'))));
}

// The schema of a subresource's own body; empty where only its JSON matters.
api::SchemaRef schema_of(const GroupVersionKind& gvk) {
  const std::string group = gvk.group.empty() ? "core" : gvk.group.substr(0, gvk.group.find('.'));
  return api::builtin_type("io.k8s.api." + group + "." + gvk.version + "." + gvk.kind);
}

// Older clients send the body of a subresource in an older version of the same shape (policy/v1beta1
// Eviction of kubectl 1.20): read as ours.
Result<std::string> in_our_version(const std::string& body, api::BodyFormat format,
                                   const GroupVersionKind& expected) {
  ORC_ASSIGN(json::value tree, api::parse_body(body, format));
  const auto [group, version] = api::split_api_version(string_at(tree, "/apiVersion"));
  if (string_at(tree, "/kind") != expected.kind || group != expected.group || version == expected.version)
    return body;
  tree.get_object()["apiVersion"] = expected.api_version();
  return to_json(tree);
}

Result<void> read_body(WriteInput& input) {
  const Call& call = *input.call;
  GroupVersionKind expected = input.type->gvk(call.info.version);
  if (input.sub != nullptr) expected = input.sub->kind;
  if (call.object) {
    input.body = json::value(tree(call.object), input.storage());
    if (input.schema) {
      auto unknown = api::prune_unknown(input.schema, input.body);
      if (!unknown) return api::cannot_be_handled(expected.kind, expected.version, unknown.error().message());
    }
    return {};
  }
  const auto format = api::body_format(call.content_type);
  if (!format) {
    return api::unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: application/json, "
        "application/yaml, application/vnd.kubernetes.protobuf");
  }
  if (!input.schema) {
    ORC_ASSIGN(input.body, api::parse_body(call.body, *format));
    return {};
  }
  std::string body = call.body;
  const bool own_kind = input.sub != nullptr && input.sub->kind.kind != input.type->kind;
  if (own_kind && *format != api::BodyFormat::protobuf) {
    ORC_ASSIGN(body, in_our_version(call.body, *format, expected));
  }
  ORC_ASSIGN(api::DecodedBody decoded,
             api::decode_body(body, *format, expected, input.schema, input.storage()));
  input.body = std::move(decoded.tree);
  return check_strict(input, decoded.unknown, decoded.duplicate);
}

bool call_has(const WriteInput& input, const std::string& parameter) {
  return input.call->info.query.find(parameter) != input.call->info.query.end();
}

// What upstream's ValidateDryRun says of them; null: none.
Result<bool> read_dry_run(const json::value* values, const char* options_kind) {
  if (values == nullptr || values->is_null()) return false;
  const json::array* list = values->if_array();
  const bool known = list != nullptr && std::all_of(list->begin(), list->end(),
                                                    [](const json::value& one) { return one == "All"; });
  if (known) return !list->empty();
  api::FieldErrors errors;
  errors.not_supported(api::FieldPath("dryRun"), *values, {"All"});
  return api::invalid("meta.k8s.io", options_kind, "", errors);
}
json::value dry_run_parameters(const Query& query) {
  json::array values;
  const auto [begin, end] = query.equal_range("dryRun");
  for (auto it = begin; it != end; ++it) {
    if (!it->second.empty()) values.emplace_back(it->second);
  }
  return values;
}
const char* options_kind(const std::string& verb) {
  return verb == "patch"    ? "PatchOptions"
         : verb == "update" ? "UpdateOptions"
         : verb == "create" ? "CreateOptions"
                            : "DeleteOptions";
}

Result<void> read_manager(WriteInput& input) {
  input.field_manager = query_value(input.call->info.query, "fieldManager");
  if (const std::string wrong = api::check_manager_name(input.field_manager); !wrong.empty()) {
    api::StatusDetails details;
    details.group = "meta.k8s.io";
    details.kind = options_kind(input.call->info.verb);
    details.causes = {
        {wrong.starts_with("Too long") ? "FieldValueTooLong" : "FieldValueInvalid", wrong, "fieldManager"}};
    const std::string message = details.kind + ".meta.k8s.io \"\" is invalid: fieldManager: " + wrong;
    return api::status_error(api::make_status(422, "Invalid", message, std::move(details)));
  }
  if (input.field_manager.empty()) input.field_manager = api::manager_of_user_agent(input.call->user_agent);
  return {};
}

Result<void> read_patch(WriteInput& input) {
  const std::string type = media_type(input.call->content_type);
  if (type == "application/json-patch+json") {
    input.patch = PatchKind::json;
  } else if (type == "application/merge-patch+json") {
    input.patch = PatchKind::merge;
  } else if (type == "application/strategic-merge-patch+json" && input.type->builtin) {
    input.patch = PatchKind::strategic;
  } else if (type == "application/apply-patch+yaml") {
    input.patch = PatchKind::apply;
    return read_apply(input);
  } else {
    return api::unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: " +
        std::string(kPatchTypes) + (input.type->builtin ? ", application/strategic-merge-patch+json" : ""));
  }
  if (call_has(input, "force")) {
    api::FieldErrors errors;
    errors.forbidden(api::FieldPath("force"), "may not be specified for non-apply patch");
    return api::invalid("meta.k8s.io", "PatchOptions", "", errors);
  }
  ORC_ASSIGN(input.body, api::parse_body(input.call->body, api::BodyFormat::json));
  return {};
}

Error bad_delete_options(std::string_view why) { return api::cannot_be_handled("DeleteOptions", "v1", why); }
}  // namespace

Now WriteInput::now() const { return core->engine().clock().now(); }

Result<void> check_strict(WriteInput& input, const std::vector<std::string>& unknown,
                          const std::vector<std::string>& duplicate) {
  if (unknown.empty() && duplicate.empty()) return {};
  if (input.validation == "Strict") {
    const std::string& kind = input.sub != nullptr ? input.sub->kind.kind : input.type->kind;
    return api::strict_decoding_error(kind, input.call->info.version, unknown, duplicate);
  }
  if (input.validation != "Ignore") {
    for (std::string& text : api::strict_warnings(unknown, duplicate))
      input.warnings.push_back(std::move(text));
  }
  return {};
}

Result<DeleteRequest> read_delete_options(const json::value& options) {
  DeleteRequest request;
  if (const json::value* grace = find(options, "/gracePeriodSeconds");
      grace != nullptr && !grace->is_null()) {
    if (!grace->is_int64()) return api::bad_request("gracePeriodSeconds must be an integer");
    request.grace_seconds = grace->get_int64() < 0 ? 1 : grace->get_int64();  // as upstream
  }
  const api::FieldPath path("propagationPolicy");
  api::FieldErrors errors;
  request.propagation = string_at(options, "/propagationPolicy");
  if (const json::value* orphan = find(options, "/orphanDependents");
      orphan != nullptr && orphan->is_bool()) {
    if (!request.propagation.empty())
      errors.invalid(path, request.propagation,
                     "orphanDependents and deletionPropagation cannot be both set");
    if (request.propagation.empty()) request.propagation = orphan->get_bool() ? "Orphan" : "Background";
  }
  if (!request.propagation.empty() && request.propagation != "Background" &&
      request.propagation != "Foreground" && request.propagation != "Orphan") {
    errors.not_supported(path, json::value(request.propagation),
                         {"Foreground", "Background", "Orphan", "nil"});
  }
  if (!errors.empty()) return api::invalid("meta.k8s.io", "DeleteOptions", "", errors);
  ORC_ASSIGN(request.dry_run, read_dry_run(find(options, "/dryRun"), "DeleteOptions"));
  request.uid = string_at(options, "/preconditions/uid");
  request.resource_version = string_at(options, "/preconditions/resourceVersion");
  return request;
}

namespace {
Result<json::value> delete_parameters(const Query& query) {
  json::object options{{"dryRun", dry_run_parameters(query)}};
  if (const std::string text = query_value(query, "gracePeriodSeconds"); !text.empty()) {
    auto number = parse_json(text);
    if (!number || !number->is_int64())
      return api::bad_request("gracePeriodSeconds must be an integer, not \"" + text + "\"");
    options["gracePeriodSeconds"] = *number;
  }
  if (const std::string text = query_value(query, "propagationPolicy"); !text.empty())
    options["propagationPolicy"] = text;
  if (query.contains("orphanDependents")) options["orphanDependents"] = query_flag(query, "orphanDependents");
  return json::value(std::move(options));
}

Result<json::value> delete_body(const Call& call) {
  const auto format = api::body_format(call.content_type);
  if (!format) return api::unsupported_media_type("DeleteOptions must be JSON, YAML or protobuf");
  const api::SchemaRef schema = api::builtin_type("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
  if (*format == api::BodyFormat::protobuf && schema) {
    ORC_ASSIGN(api::DecodedBody decoded,
               api::decode_body(call.body, *format, {"", "v1", "DeleteOptions"}, schema));
    return std::move(decoded.tree);
  }
  ORC_ASSIGN(json::value options, api::parse_body(call.body, *format));
  if (!options.is_object()) return bad_delete_options("the body is not an object");
  if (const std::string kind = string_at(options, "/kind", "DeleteOptions"); kind != "DeleteOptions")
    return bad_delete_options("the body is a " + kind);
  return options;
}
}  // namespace

Result<DeleteRequest> read_delete(const Call& call) {
  if (call.object) return read_delete_options(tree(call.object));
  ORC_ASSIGN(const json::value options,
             trim(call.body).empty() ? delete_parameters(call.info.query) : delete_body(call));
  return read_delete_options(options);
}

Result<void> read_write(const ApiCore& core, const Call& call, api::TypePtr type, WriteInput& input) {
  input.call = &call;
  input.core = &core;
  input.type = std::move(type);
  if (!call.info.subresource.empty()) {
    input.sub = input.type->subresource(call.info.subresource);
    if (input.sub == nullptr) return api::unknown_path();
  }
  const json::value dry_run = dry_run_parameters(call.info.query);
  ORC_ASSIGN(input.dry_run, read_dry_run(&dry_run, options_kind(call.info.verb)));
  input.validation = query_value(call.info.query, "fieldValidation");
  if (!input.validation.empty() && input.validation != "Strict" && input.validation != "Warn" &&
      input.validation != "Ignore") {
    api::FieldErrors errors;
    errors.not_supported(api::FieldPath("fieldValidation"), json::value(input.validation),
                         {"", "Ignore", "Strict", "Warn"});
    return api::invalid("meta.k8s.io", options_kind(call.info.verb), "", errors);
  }
  ORC_TRY(read_manager(input));
  const api::TypeVersion* version = input.type->version(call.info.version);
  input.version = version;
  const bool own_kind = input.sub != nullptr && input.sub->kind.kind != input.type->kind;
  input.schema = own_kind ? schema_of(input.sub->kind) : version->schema;
  if (call.info.verb == "create" || call.info.verb == "update") {
    ORC_TRY(read_body(input));
    if (!input.body.is_object()) return api::bad_request("the body of the request is not an object");
    if (!own_kind && version->conversion != nullptr) {
      api::apply_defaults(version->schema, input.body);
      ORC_TRY(api::to_stored(*input.type, *version, input.body));
    }
  } else if (call.info.verb == "patch") {
    ORC_TRY(read_patch(input));
  } else if (call.info.verb == "delete") {
    ORC_ASSIGN(input.remove, read_delete(call));
    input.dry_run = input.dry_run || input.remove.dry_run;
  }
  return {};
}

Result<void> apply_patch(const WriteInput& input, api::SchemaRef schema, json::value& target) {
  switch (input.patch) {
    case PatchKind::json: {
      auto applied = api::json_patch(target, input.body);
      if (applied) return {};
      if (applied.error().is(Error::too_large)) return api::too_large(applied.error().message());
      // Upstream's words, which say nothing of what failed; that is the cause, which kubectl prints in their
      // place.
      api::StatusDetails details;
      details.causes = {{"", applied.error().message(), "patch"}};
      return api::status_error(
          api::make_status(422, "Invalid", "the server rejected our request due to an error in our request",
                           std::move(details)));
    }
    case PatchKind::merge:
      api::merge_patch(target, input.body);
      return {};
    case PatchKind::apply:
      return api::internal_error("apply needs the owners of the object");
    case PatchKind::strategic: {
      auto applied = api::strategic_merge_patch(schema, target, input.body);
      if (!applied) return api::bad_request(applied.error().message());
      return {};
    }
  }
  return {};
}

}  // namespace orchestra::apiserver
