// Request bodies: bytes to a tree of a known type.
#include "api/content.hpp"

#include <algorithm>

#include "api/protobuf.hpp"
#include "api/status.hpp"
#include "api/tree.hpp"
#include "api/walker.hpp"
#include "base/json_text.hpp"
#include "base/yaml.hpp"

namespace orchestra::api {
namespace {

std::string kind_words(const GroupVersionKind& gvk) { return gvk.api_version() + ", Kind=" + gvk.kind; }

/// What the body says it is; absent words are those of `expected`.
Result<GroupVersionKind> read_gvk(const json::value& tree, const GroupVersionKind& expected) {
  if (!tree.is_object()) {
    return bad_request(
        "couldn't get version/kind; json parse error: the body must be an object with apiVersion and kind");
  }
  GroupVersionKind gvk = expected;
  if (const std::string_view kind = text_of(tree.get_object(), "kind"); !kind.empty()) gvk.kind = kind;
  if (const std::string_view version = text_of(tree.get_object(), "apiVersion"); !version.empty()) {
    std::tie(gvk.group, gvk.version) = split_api_version(version);
  }
  if (gvk.kind != expected.kind || gvk.group != expected.group || gvk.version != expected.version) {
    return bad_request(expected.kind + " in version " + json::serialize(json::string(expected.version)) +
                       " cannot be handled as a " + expected.kind +
                       ": the object provided is unrecognized (must be of type " + expected.kind +
                       "): the body is " + kind_words(gvk) + ", expected " + kind_words(expected));
  }
  return gvk;
}

Result<JsonDocument> read_text(std::string_view bytes, BodyFormat format, const json::storage_ptr& memory) {
  if (format == BodyFormat::json) {
    auto document = read_json(bytes, memory);
    if (!document) return bad_request("json parse error: " + document.error().message());
    return document;
  }
  // Most YAML bodies are JSON, which costs a tenth of it. What the two read differently is left to YAML: 1.0
  // is a whole number there.
  if (bytes.starts_with('{')) {
    if (auto document = read_json(bytes, memory);
        document && document->duplicates.empty() && !document->has_doubles)
      return document;
  }
  auto tree = parse_yaml(bytes);
  if (!tree) return bad_request("error converting YAML to JSON: yaml: " + tree.error().message());
  return JsonDocument{std::move(*tree), find_duplicate_yaml_keys(bytes), false};
}

}  // namespace

std::optional<BodyFormat> body_format(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  while (!type.empty() && type.back() == ' ') type.pop_back();
  std::transform(type.begin(), type.end(), type.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (type.empty() || type == "application/json") return BodyFormat::json;
  if (type == "application/yaml" || type == "application/x-yaml") return BodyFormat::yaml;
  if (type == "application/vnd.kubernetes.protobuf") return BodyFormat::protobuf;
  return std::nullopt;
}

Result<json::value> parse_body(std::string_view bytes, BodyFormat format) {
  if (format == BodyFormat::protobuf) return bad_request("a protobuf body needs a type that is known");
  ORC_ASSIGN(JsonDocument document, read_text(bytes, format, {}));
  return std::move(document.tree);
}

Result<DecodedBody> decode_body(std::string_view bytes, BodyFormat format, const GroupVersionKind& expected,
                                SchemaRef schema, const json::storage_ptr& memory) {
  DecodedBody body{.tree = json::value(memory)};
  if (format == BodyFormat::protobuf) {
    ORC_ASSIGN(body.tree, decode_protobuf(bytes, schema, memory));
  } else {
    ORC_ASSIGN(JsonDocument document, read_text(bytes, format, memory));
    body.tree = std::move(document.tree);
    body.duplicate = std::move(document.duplicates);
  }
  ORC_ASSIGN(body.gvk, read_gvk(body.tree, expected));
  json::object& root = body.tree.get_object();
  root["kind"] = body.gvk.kind;
  root["apiVersion"] = body.gvk.api_version();
  if (!schema || format == BodyFormat::protobuf) return body;  // protobuf is read by the schema
  Result<std::vector<std::string>> unknown = prune_unknown(schema, body.tree);
  if (!unknown) return cannot_be_handled(body.gvk.kind, body.gvk.version, unknown.error().message());
  body.unknown = std::move(*unknown);
  return body;
}

}  // namespace orchestra::api
