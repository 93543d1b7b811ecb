// Content negotiation and the forms of answers: see encode.hpp.
#include "apiserver/encode.hpp"

#include <algorithm>
#include <cstdlib>

#include "api/meta.hpp"
#include "api/protobuf.hpp"
#include "api/status.hpp"
#include "api/table.hpp"
#include "api/versions.hpp"
#include "base/json_text.hpp"
#include "base/yaml.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kMediaRangesMax = 64;

struct MediaRange {
  std::string type;
  std::map<std::string, std::string> parameters;
  double q = 1;
};

std::vector<MediaRange> parse_accept(std::string_view accept) {
  std::vector<MediaRange> ranges;
  for (const std::string& part : split(accept, ',')) {
    if (ranges.size() == kMediaRangesMax) break;
    const std::vector<std::string> words = split(part, ';');
    MediaRange range;
    range.type = to_lower(trim(words[0]));
    if (range.type.empty()) continue;
    for (std::size_t i = 1; i < words.size(); ++i) {
      const std::size_t equals = words[i].find('=');
      if (equals == std::string::npos) continue;
      const std::string name = to_lower(trim(std::string_view(words[i]).substr(0, equals)));
      std::string value(trim(std::string_view(words[i]).substr(equals + 1)));
      if (name == "q") {
        range.q = std::atof(value.c_str());
      } else {
        range.parameters[name] = std::move(value);
      }
    }
    ranges.push_back(std::move(range));
  }
  std::stable_sort(ranges.begin(), ranges.end(),
                   [](const MediaRange& a, const MediaRange& b) { return a.q > b.q; });
  return ranges;
}

// nullopt: we do not have it.
std::optional<Representation> form_of(const MediaRange& range, Forms forms) {
  Representation want;
  if (range.q <= 0) return std::nullopt;
  want.protobuf = forms.protobuf && range.type == "application/vnd.kubernetes.protobuf";
  const bool any = range.type == "*/*" || range.type == "application/*";
  if (range.type == "application/yaml") {
    want.form = Form::yaml;
  } else if (!any && !want.protobuf && range.type != "application/json") {
    return std::nullopt;
  }
  const auto as = range.parameters.find("as");
  if (as == range.parameters.end()) return want;
  const auto group = range.parameters.find("g");
  const auto version = range.parameters.find("v");
  if (group == range.parameters.end() || group->second != "meta.k8s.io") return std::nullopt;
  if (version == range.parameters.end() || (version->second != "v1" && version->second != "v1beta1"))
    return std::nullopt;
  want.meta_version = version->second;
  if (as->second == "Table" && forms.table && !want.protobuf) {
    want.form = Form::table;
  } else if (as->second == "PartialObjectMetadata" || as->second == "PartialObjectMetadataList") {
    want.form = Form::partial;
  } else {
    return std::nullopt;
  }
  return want;
}

api::IncludeObject include_of(Include include) {
  switch (include) {
    case Include::none:
      return api::IncludeObject::none;
    case Include::object:
      return api::IncludeObject::object;
    case Include::metadata:
      break;
  }
  return api::IncludeObject::metadata;
}

std::string meta_api_version(const Representation& want) { return "meta.k8s.io/" + want.meta_version; }

std::string finish(const json::value& tree, const Representation& want) {
  if (want.form == Form::yaml) return to_yaml(tree);
  return want.pretty ? to_pretty_json(tree) + "\n" : to_json(tree);
}

/// Up to and including `"rows":[`.
std::string table_opening(const Representation& want, const std::string& metadata,
                          const json::value& columns) {
  std::string out = "{\"kind\":\"Table\",\"apiVersion\":\"" + meta_api_version(want) +
                    "\",\"metadata\":" + metadata + ",\"columnDefinitions\":";
  print_json(out, columns);
  return out + ",\"rows\":[";
}
}  // namespace

Forms forms_of(const api::TypeRecord* type, std::string_view subresource) {
  if (type == nullptr) return {};
  const api::Subresource* sub = type->subresource(subresource);
  return {.protobuf = type->builtin && !type->defines_types && !type->computed,
          .table = !type->virtual_only && (sub == nullptr || sub->kind.kind == type->kind ||
                                           api::document_record(sub->kind.kind) != nullptr)};
}

Result<std::string> protobuf_text(const json::value& tree, api::SchemaRef schema) {
  const std::string api_version = string_at(tree, "/apiVersion"), kind = string_at(tree, "/kind");
  if (!schema) {
    const auto [group, version] = api::split_api_version(api_version);
    const bool meta = kind == "Status" || kind == "PartialObjectMetadata";
    const std::string name = meta ? "io.k8s.apimachinery.pkg.apis.meta.v1." + kind
                                  : "io.k8s.api." +
                                        (group.empty() ? "core" : group.substr(0, group.find('.'))) + "." +
                                        version + "." + kind;
    schema = api::builtin_type(name);
  }
  if (kind == "PartialObjectMetadata") {
    // {1 metadata}
    std::string out;
    const json::value* metadata = find(tree, "/metadata");
    ORC_ASSIGN(
        const std::string bytes,
        api::encode_protobuf_message(metadata == nullptr ? json::value(json::object()) : *metadata,
                                     api::builtin_type("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")));
    api::append_protobuf_bytes(out, 1, bytes);
    return api::protobuf_envelope(api_version, kind, out);
  }
  if (!schema)
    return Error(Error::unsupported, "apiserver", kind + " of " + api_version + " has no protobuf message");
  ORC_ASSIGN(const std::string message, api::encode_protobuf_message(tree, schema));
  return api::protobuf_envelope(api_version, kind, message);
}

Result<std::string> protobuf_list(const api::TypeRecord& type, const std::string& api_version,
                                  const Representation& want, const std::string& list_metadata,
                                  const std::string& items) {
  ORC_ASSIGN(const json::value metadata, parse_json(list_metadata));
  ORC_ASSIGN(const std::string bytes,
             api::encode_protobuf_message(
                 metadata, api::builtin_type("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")));
  std::string message;
  api::append_protobuf_bytes(message, 1, bytes);
  message += items;
  if (want.form == Form::partial)
    return api::protobuf_envelope(meta_api_version(want), "PartialObjectMetadataList", message);
  return api::protobuf_envelope(api_version, type.list_kind, message);
}

Result<Representation> negotiate(std::string_view accept, const Query& query, Forms forms) {
  Representation want;
  if (!trim(accept).empty()) {
    std::optional<Representation> found;
    for (const MediaRange& range : parse_accept(accept)) {
      found = form_of(range, forms);
      if (found) break;
    }
    if (!found) {
      return api::not_acceptable(
          "only the following media types are accepted: application/json, application/yaml, "
          "application/json;as=Table;v=v1;g=meta.k8s.io, "
          "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io");
    }
    want = *found;
  }
  want.pretty = query.find("pretty") != query.end() && query_flag(query, "pretty");
  const std::string include = query_value(query, "includeObject");
  if (want.form == Form::table && !include.empty() && include != "None" && include != "Object" &&
      include != "Metadata") {
    return api::bad_request("Unable to convert to Table as requested: includeObject: Invalid value: \"" +
                            include + "\": must be 'Metadata', 'Object', 'None', or empty");
  }
  if (include == "None") want.include = Include::none;
  if (include == "Object") want.include = Include::object;
  return want;
}

std::string content_type_of(const Representation& want) {
  if (want.protobuf) return "application/vnd.kubernetes.protobuf";
  return want.form == Form::yaml ? "application/yaml" : "application/json";
}

Reply tree_reply(const ApiCore& core, const Call& call, const json::value& tree, int code) {
  Reply reply;
  reply.code = code;
  if (const api::TypeRecord* rows = api::document_record(string_at(tree, "/kind"));
      rows != nullptr && call.want.form == Form::table) {
    const json::value metadata =
        json::object{{"resourceVersion", string_at(tree, "/metadata/resourceVersion")}};
    reply.body = list_opening(*rows, {}, call.want, to_json(metadata));
    append_row_or_object(reply.body, *rows, call.want, tree, core.engine().clock().now());
    reply.body += "]}\n";
    return reply;
  }
  Representation want = call.want;
  const bool metadata_only = want.form == Form::partial && !want.protobuf;
  if (want.form == Form::table || want.form == Form::partial) want.form = Form::json;
  if (want.protobuf) {
    if (auto bytes = protobuf_text(tree, {})) {
      reply.content_type = content_type_of(want);
      reply.body = std::move(*bytes);
      return reply;
    }
    want.protobuf = false;  // kinds without a message are JSON, and say so
  }
  reply.content_type = content_type_of(want);
  reply.body = finish(metadata_only ? api::partial_metadata(tree, meta_api_version(want)) : tree, want);
  return reply;
}

Result<std::string> json_in_version(const api::TypeRecord& type, std::string_view version,
                                    const StoredView& view, Revision revision, bool managed_fields) {
  const api::TypeVersion* found = version.empty() ? nullptr : type.version(version);
  if (found == nullptr || api::stored_as(type, *found))
    return json_with_revision(view, revision, managed_fields);
  ORC_ASSIGN(json::value tree, parse_json(json_with_revision(view, revision, managed_fields)));
  ORC_TRY(api::from_stored(type, *found, tree));
  return to_json(tree);
}

Result<std::string> object_text(const api::TypeRecord& type, std::string_view version,
                                const Representation& want, const StoredView& view, Revision revision,
                                Now now, bool with_columns) {
  // Rows of builtin kinds are made from what is stored, whatever the version asked for.
  const bool as_stored = type.builtin && (want.form == Form::table || want.form == Form::partial);
  ORC_ASSIGN(std::string text, json_in_version(type, as_stored ? std::string_view() : version, view, revision,
                                               want.managed_fields));
  if (want.form == Form::json && !want.pretty && !want.protobuf) return text;
  ORC_ASSIGN(json::value tree, parse_json(text));
  if (want.protobuf && want.form == Form::partial)
    return protobuf_text(api::partial_metadata(tree, meta_api_version(want)), {});
  if (want.protobuf) {
    const api::TypeVersion* found = type.version(version);
    return protobuf_text(tree, found == nullptr ? api::SchemaRef() : found->schema);
  }
  if (want.form == Form::partial) return finish(api::partial_metadata(tree, meta_api_version(want)), want);
  if (want.form != Form::table) return finish(tree, want);
  std::string table =
      table_opening(want, "{\"resourceVersion\":\"" + std::to_string(revision) + "\"}",
                    with_columns ? json::value(api::table_columns(type)) : json::value(nullptr));
  api::append_table_row(table, type, tree, now, include_of(want.include), meta_api_version(want));
  table += "]}";
  if (!want.pretty) return table;
  ORC_ASSIGN(json::value document, parse_json(table));
  return finish(document, want);
}

Reply object_reply(ApiCore& core, const api::TypeRecord& type, const Call& call, const Value& stored,
                   Revision revision, int code, const json::value* written) {
  Reply reply;
  reply.code = code;
  const api::TypeVersion* version = type.version(call.info.version);
  if (call.want_object && revision != 0 && (version == nullptr || api::stored_as(type, *version))) {
    auto object = written != nullptr ? core.cache().get(stored, revision, *written)
                                     : core.cache().get(stored, revision);
    if (!object) return error_reply(api::internal_error(object.error().to_string()));
    reply.object = std::move(*object);
    return reply;
  }
  auto view = decode_stored_frame(stored.bytes());
  if (!view) return error_reply(api::internal_error(view.error().to_string()));
  auto text =
      object_text(type, call.info.version, call.want, *view, revision, core.engine().clock().now(), true);
  if (!text && text.error().detail<Status>() != nullptr) return error_reply(text.error());  // of a conversion
  if (!text) return error_reply(api::internal_error(text.error().to_string()));
  reply.body = std::move(*text);
  reply.content_type = content_type_of(call.want);
  return reply;
}

std::string bookmark_json(const api::TypeRecord& type, std::string_view version, Revision revision,
                          bool initial_end) {
  const std::string own(version.empty() ? std::string_view(type.storage_version().name) : version);
  std::string out = "{\"kind\":\"" + type.kind + "\",\"apiVersion\":\"" + type.gvk(own).api_version() +
                    "\",\"metadata\":{\"resourceVersion\":\"" + std::to_string(revision) + "\"";
  if (initial_end) out += ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}";
  return out + "}}";
}

std::string list_opening(const api::TypeRecord& type, const std::string& api_version,
                         const Representation& want, const std::string& list_metadata) {
  if (want.form == Form::table) return table_opening(want, list_metadata, api::table_columns(type));
  if (want.form == Form::partial) {
    return "{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"" + meta_api_version(want) +
           "\",\"metadata\":" + list_metadata + ",\"items\":[";
  }
  return "{\"kind\":\"" + type.list_kind + "\",\"apiVersion\":\"" + api_version +
         "\",\"metadata\":" + list_metadata + ",\"items\":[";
}

void append_row_or_object(std::string& out, const api::TypeRecord& type, const Representation& want,
                          const json::value& tree, Now now) {
  if (want.form == Form::partial) return print_json(out, api::partial_metadata(tree, meta_api_version(want)));
  if (want.form != Form::table) return print_json(out, tree);
  api::append_table_row(out, type, tree, now, include_of(want.include), meta_api_version(want));
}

Result<void> append_list_item(std::string& out, const api::TypeRecord& type, std::string_view version,
                              const Representation& want, const StoredView& view, Revision revision,
                              Now now) {
  if (want.protobuf) {
    ORC_ASSIGN(const std::string text,
               json_in_version(type, want.form == Form::partial ? std::string_view() : version, view,
                               revision, want.managed_fields));
    ORC_ASSIGN(const json::value tree, parse_json(text));
    std::string bytes;
    if (want.form == Form::partial) {
      const json::value partial = api::partial_metadata(tree, meta_api_version(want));
      ORC_ASSIGN(
          const std::string metadata,
          api::encode_protobuf_message(*find(partial, "/metadata"),
                                       api::builtin_type("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")));
      api::append_protobuf_bytes(bytes, 1, metadata);
    } else {
      ORC_ASSIGN(bytes, api::encode_protobuf_message(tree, type.version(version)->schema));
    }
    api::append_protobuf_bytes(out, 2, bytes);
    return {};
  }
  if (want.form == Form::json || want.form == Form::yaml) {
    const api::TypeVersion* found = type.version(version);
    if (found == nullptr || api::stored_as(type, *found)) {
      append_json(out, view, revision, want.managed_fields);
      return {};
    }
    ORC_ASSIGN(const std::string text, json_in_version(type, version, view, revision, want.managed_fields));
    out += text;
    return {};
  }
  ORC_ASSIGN(const std::string text, json_in_version(type, type.builtin ? std::string_view() : version, view,
                                                     revision, want.managed_fields));
  // The tree lives as long as its row.
  unsigned char scratch[32 << 10];
  json::monotonic_resource memory(scratch);
  ORC_ASSIGN(const json::value tree, parse_json(text, &memory));
  append_row_or_object(out, type, want, tree, now);
  return {};
}

}  // namespace orchestra::apiserver
