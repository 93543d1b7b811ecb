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
    input.body = tree(call.object);
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
  ORC_ASSIGN(api::DecodedBody decoded, api::decode_body(body, *format, expected, input.schema));
  input.body = std::move(decoded.tree);
  return check_strict(input, decoded.unknown, decoded.duplicate);
}

bool call_has(const WriteInput& input, const std::string& parameter) {
  return input.call->info.query.find(parameter) != input.call->info.query.end();
}

Result<void> read_manager(WriteInput& input) {
  input.field_manager = query_value(input.call->info.query, "fieldManager");
  if (const std::string wrong = api::check_manager_name(input.field_manager); !wrong.empty()) {
    const std::string& verb = input.call->info.verb;
    api::StatusDetails details;
    details.group = "meta.k8s.io";
    details.kind = verb == "patch" ? "PatchOptions" : verb == "update" ? "UpdateOptions" : "CreateOptions";
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

Result<std::int64_t> read_seconds(const json::value& value) {
  if (value.is_int64()) return value.get_int64();
  return api::bad_request("gracePeriodSeconds must be an integer");
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

Result<DeleteRequest> read_delete(const Call& call) {
  DeleteRequest request;
  json::value options;
  if (call.object) {
    options = tree(call.object);
  } else if (!trim(call.body).empty()) {
    const auto format = api::body_format(call.content_type);
    if (!format) return api::unsupported_media_type("DeleteOptions must be JSON, YAML or protobuf");
    const api::SchemaRef schema = api::builtin_type("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
    if (*format == api::BodyFormat::protobuf && schema) {
      ORC_ASSIGN(api::DecodedBody decoded,
                 api::decode_body(call.body, *format, {"", "v1", "DeleteOptions"}, schema));
      options = std::move(decoded.tree);
    } else {
      ORC_ASSIGN(options, api::parse_body(call.body, *format));
    }
    if (!options.is_object()) return bad_delete_options("the body is not an object");
  }
  if (const json::value* grace = find(options, "/gracePeriodSeconds");
      grace != nullptr && !grace->is_null()) {
    ORC_ASSIGN(request.grace_seconds, read_seconds(*grace));
  } else if (const std::string text = query_value(call.info.query, "gracePeriodSeconds"); !text.empty()) {
    auto number = parse_json(text);
    if (!number || !number->is_int64())
      return api::bad_request("gracePeriodSeconds must be an integer, not \"" + text + "\"");
    request.grace_seconds = number->get_int64();
  }
  request.propagation =
      string_at(options, "/propagationPolicy", query_value(call.info.query, "propagationPolicy"));
  if (const json::value* orphan = find(options, "/orphanDependents");
      orphan != nullptr && orphan->is_bool()) {
    if (!request.propagation.empty()) {
      return api::bad_request("orphanDependents and deletionPropagation cannot be both set");
    }
    request.propagation = orphan->get_bool() ? "Orphan" : "Background";
  }
  if (!request.propagation.empty() && request.propagation != "Background" &&
      request.propagation != "Foreground" && request.propagation != "Orphan") {
    api::FieldErrors errors;
    static constexpr const char* kNames[] = {"Foreground", "Background", "Orphan"};
    errors.not_supported(api::FieldPath("propagationPolicy"), json::value(request.propagation),
                         {kNames[0], kNames[1], kNames[2]});
    return api::invalid("meta.k8s.io", "DeleteOptions", "", errors);
  }
  request.uid = string_at(options, "/preconditions/uid");
  request.resource_version = string_at(options, "/preconditions/resourceVersion");
  return request;
}

Result<WriteInput> read_write(const ApiCore& core, const Call& call, api::TypePtr type) {
  WriteInput input;
  input.call = &call;
  input.core = &core;
  input.type = std::move(type);
  if (!call.info.subresource.empty()) {
    input.sub = input.type->subresource(call.info.subresource);
    if (input.sub == nullptr) return api::unknown_path();
  }
  const auto dry_run = call.info.query.find("dryRun");
  if (dry_run != call.info.query.end() && !dry_run->second.empty()) {
    if (dry_run->second != "All") {
      return api::bad_request("dryRun: Unsupported value: \"" + dry_run->second +
                              "\": supported values: \"All\"");
    }
    input.dry_run = true;
  }
  input.validation = query_value(call.info.query, "fieldValidation");
  if (!input.validation.empty() && input.validation != "Strict" && input.validation != "Warn" &&
      input.validation != "Ignore") {
    return api::bad_request("fieldValidation: Unsupported value: \"" + input.validation +
                            "\": supported values: \"Ignore\", \"Warn\", \"Strict\"");
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
    if (input.remove.grace_seconds && *input.remove.grace_seconds < 0) input.remove.grace_seconds = 1;
  }
  return input;
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
