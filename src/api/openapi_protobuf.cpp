// The OpenAPI v2 document as gnostic's openapi.v2.Document (github.com/google/gnostic OpenAPIv2.proto), which
// is what kubectl asks for. Only what our document holds is written; the field numbers are gnostic's.
#include "api/openapi.hpp"
#include "api/tree.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

class ProtoWriter {
 public:
  void bytes(unsigned field, std::string_view text) {
    varint(field << 3 | 2);
    varint(text.size());
    out_ += text;
  }
  /// Left out where empty, as proto3 does.
  void text(unsigned field, std::string_view text) {
    if (!text.empty()) bytes(field, text);
  }
  void flag(unsigned field) {
    varint(field << 3);
    varint(1);
  }
  std::string take() { return std::move(out_); }

 private:
  void varint(std::uint64_t value) {
    while (value >= 0x80) {
      out_ += static_cast<char>(value | 0x80);
      value >>= 7;
    }
    out_ += static_cast<char>(value);
  }
  std::string out_;
};

/// Any {2 yaml}: JSON is YAML.
std::string any(const json::value& value) {
  ProtoWriter out;
  out.bytes(2, to_json(value));
  return out.take();
}

/// NamedSchema, NamedAny: {1 name, 2 value}
std::string named(std::string_view name, std::string_view value) {
  ProtoWriter out;
  out.bytes(1, name);
  out.bytes(2, value);
  return out.take();
}

std::string wrapped(unsigned field, std::string_view message) {
  ProtoWriter out;
  out.bytes(field, message);
  return out.take();
}

std::string schema(const json::object& fields) {
  ProtoWriter out;
  out.text(1, text_of(fields, "$ref"));
  out.text(2, text_of(fields, "format"));
  out.text(4, text_of(fields, "description"));
  if (const json::value* value = fields.if_contains("default")) out.bytes(5, any(*value));
  for (const json::value& name : array_or_empty(fields, "required")) out.bytes(19, name.get_string());
  for (const json::value& word : array_or_empty(fields, "enum")) out.bytes(20, any(word));
  if (const json::object* below = object_of(fields, "additionalProperties"))
    out.bytes(21, wrapped(1, schema(*below)));
  if (const std::string_view type = text_of(fields, "type"); !type.empty()) out.bytes(22, wrapped(1, type));
  if (const json::object* items = object_of(fields, "items")) out.bytes(23, wrapped(1, schema(*items)));
  if (const json::object* properties = object_of(fields, "properties")) {
    ProtoWriter list;
    for (const auto& [name, property] : *properties)
      list.bytes(1, named(name, schema(property.get_object())));
    out.bytes(25, list.take());
  }
  for (const auto& [name, value] : fields) {
    if (std::string_view(name).starts_with("x-")) out.bytes(31, named(name, any(value)));
  }
  return out.take();
}

/// ParametersItem {1 Parameter {1 BodyParameter, 2 NonBodyParameter {3 QueryParameterSubSchema,
/// 4 PathParameterSubSchema}}}
std::string parameter(const json::object& fields) {
  ProtoWriter out;
  const std::string_view in = text_of(fields, "in");
  if (in == "body") {
    out.text(2, text_of(fields, "name"));
    out.text(3, in);
    if (flag_of(fields, "required")) out.flag(4);
    out.bytes(5, schema(object_or_empty(fields, "schema")));
    return wrapped(1, wrapped(1, out.take()));
  }
  const bool path = in == "path";
  if (path) out.flag(1);
  out.text(2, in);
  out.text(3, text_of(fields, "description"));
  out.text(4, text_of(fields, "name"));
  out.text(path ? 5 : 6, text_of(fields, "type"));
  return wrapped(1, wrapped(2, wrapped(path ? 4 : 3, out.take())));
}

/// ResponseValue {1 Response {1 description, 2 SchemaItem {1 Schema}}}
std::string response(const json::object& fields) {
  ProtoWriter out;
  out.text(1, text_of(fields, "description"));
  if (const json::object* body = object_of(fields, "schema")) out.bytes(2, wrapped(1, schema(*body)));
  return wrapped(1, out.take());
}

std::string operation(const json::object& fields) {
  ProtoWriter out;
  out.text(3, text_of(fields, "description"));
  out.text(5, text_of(fields, "operationId"));
  for (const json::value& type : array_or_empty(fields, "produces")) out.bytes(6, type.get_string());
  for (const json::value& type : array_or_empty(fields, "consumes")) out.bytes(7, type.get_string());
  for_each_object(fields, "parameters",
                  [&](std::size_t, const json::object& each) { out.bytes(8, parameter(each)); });
  ProtoWriter responses;
  for (const auto& [code, answer] : object_or_empty(fields, "responses"))
    responses.bytes(1, named(code, response(answer.get_object())));
  out.bytes(9, responses.take());
  for (const auto& [name, value] : fields) {
    if (std::string_view(name).starts_with("x-")) out.bytes(13, named(name, any(value)));
  }
  return out.take();
}

/// PathItem
std::string path_item(const json::object& fields) {
  static constexpr std::pair<const char*, unsigned> kMethods[] = {
      {"get", 2}, {"put", 3}, {"post", 4}, {"delete", 5}, {"options", 6}, {"head", 7}, {"patch", 8}};
  ProtoWriter out;
  for (const auto& [method, field] : kMethods) {
    if (const json::object* its = object_of(fields, method)) out.bytes(field, operation(*its));
  }
  for_each_object(fields, "parameters",
                  [&](std::size_t, const json::object& each) { out.bytes(9, parameter(each)); });
  return out.take();
}

}  // namespace

std::string openapi_v2_protobuf(const TypeRegistry& registry) {
  const Result<json::value> document = parse_json(openapi_v2_json(registry));
  if (!document) return {};
  ProtoWriter info, definitions, out;
  info.text(1, string_at(*document, "/info/title"));
  info.text(2, string_at(*document, "/info/version"));
  for (const auto& [name, fields] : *object_at(*document, "/definitions")) {
    definitions.bytes(1, named(name, schema(fields.get_object())));
  }
  out.text(1, "2.0");
  out.bytes(2, info.take());
  ProtoWriter paths;
  for (const auto& [path, item] : *object_at(*document, "/paths"))
    paths.bytes(2, named(path, path_item(item.get_object())));
  out.bytes(8, paths.take());
  out.bytes(9, definitions.take());
  return out.take();
}

}  // namespace orchestra::api
