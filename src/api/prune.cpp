// Decoding by schema: what Go's json.Unmarshal into the typed struct and json.Marshal back would do.
//
// Unknown members go and are reported; null is absent; empty values of omitempty fields are absent; times are
// brought to UTC. A value of the wrong type is refused in the words of Go's encoding/json, which upstream
// passes on to the user.
#include <charconv>
#include <cmath>

#include "api/meta.hpp"
#include "api/patches.hpp"
#include "api/walk.hpp"
#include "api/walker.hpp"
#include "base/json.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::api {
namespace {

const char* go_value(const json::value& value) {
  switch (value.kind()) {
    case json::kind::bool_:
      return "bool";
    case json::kind::string:
      return "string";
    case json::kind::array:
      return "array";
    case json::kind::object:
      return "object";
    default:
      return "number";
  }
}

std::string short_name(std::string_view type_name) {
  return std::string(type_name.substr(type_name.rfind('.') + 1));
}

/// The Go type as messages print it: int32, v1.PodSpec, []v1.Container, map[string]string.
std::string go_type(SchemaRef schema) {
  switch (schema.kind()) {
    case SchemaKind::int32:
      return "int32";
    case SchemaKind::int64:
      return "int64";
    case SchemaKind::boolean:
      return "bool";
    case SchemaKind::number:
      return "float64";
    case SchemaKind::bytes:
      return "[]uint8";
    case SchemaKind::list:
      return "[]" + go_type(schema.element());
    case SchemaKind::map:
      return "map[string]" + go_type(schema.element());
    case SchemaKind::int_or_string:
      return "intstr.IntOrString";
    case SchemaKind::object: {
      const std::string_view name = schema.type_name();
      const std::size_t dot = name.rfind('.');
      const std::size_t version = name.rfind('.', dot - 1) + 1;
      return std::string(name.substr(version));
    }
    default:
      return "string";
  }
}

bool is_zero(const json::value& value) {
  switch (value.kind()) {
    case json::kind::null:
      return true;
    case json::kind::bool_:
      return !value.get_bool();
    case json::kind::int64:
      return value.get_int64() == 0;
    case json::kind::uint64:
      return value.get_uint64() == 0;
    case json::kind::double_:
      return value.get_double() == 0;
    case json::kind::string:
      return value.get_string().empty();
    case json::kind::array:
      return value.get_array().empty();
    case json::kind::object:
      return value.get_object().empty();
  }
  return false;
}

/// Who decodes: Go's encoding/json, or the converter that upstream uses after a strategic patch.
enum class Decoder : std::uint8_t { json, converter };

class PruneVisitor {
 public:
  PruneVisitor(SchemaRef root, Decoder decoder) : root_(root), decoder_(decoder) {}
  std::vector<std::string> unknown_paths;
  std::string failure;

  bool enter(SchemaRef schema, json::value& value, const FieldPath& path) {
    if (!failure.empty()) return false;
    if (++values_ > kValuesMax)
      return fail("the object has more than " + std::to_string(kValuesMax) + " values");
    if (value.is_null()) return false;  // stands for absent
    if (schema.has(SchemaNode::custom)) return schema.kind() != SchemaKind::any;
    return check(schema, value, path);
  }
  bool unknown(const FieldPath& path) {
    if (!failure.empty()) return false;
    if (unknown_paths.size() < kUnknownMax) unknown_paths.push_back(path.to_string());
    return true;
  }
  bool absent(SchemaRef schema, const json::value& value) {
    if (schema.has(SchemaNode::custom)) {
      // A null where none may be is replaced by the default, or refused by validation.
      return value.is_null() && !schema.has(SchemaNode::nullable) && !schema.default_json().empty();
    }
    if (value.is_null()) return !schema.has(SchemaNode::nullable);
    if (!schema.has(SchemaNode::omit_empty) || schema.has(SchemaNode::pointer)) return false;
    switch (schema.kind()) {
      case SchemaKind::string:
      case SchemaKind::int32:
      case SchemaKind::int64:
      case SchemaKind::boolean:
      case SchemaKind::number:
      case SchemaKind::bytes:
      case SchemaKind::list:
      case SchemaKind::map:
        return is_zero(value);
      default:
        return false;
    }
  }

 private:
  static constexpr std::size_t kUnknownMax = 100;  ///< as many as a reader wants to see
  static constexpr std::size_t kValuesMax = 2'000'000;

  bool fail(std::string why) {
    failure = std::move(why);
    return false;
  }
  /// runtime/converter.go; types that decode themselves (times, quantities) say what encoding/json says.
  bool not_converted(SchemaRef schema, const json::value& value) {
    const bool list = value.is_array(), object = value.is_object();
    const std::string what = list                ? "slice"
                             : object            ? "map"
                             : value.is_string() ? "string"
                             : value.is_bool()   ? "bool"
                             : value.is_double() ? "float64"
                                                 : "int64";
    switch (schema.kind()) {
      case SchemaKind::map:
        return fail("cannot restore map from " + what);
      case SchemaKind::list:
        return fail("cannot restore slice from " + what);
      case SchemaKind::bytes:  // to Go a list of small numbers
        return fail(list ? "unrecognized type: uint8" : "cannot restore slice from " + what);
      case SchemaKind::object:
        return fail("cannot restore struct from: " + what);
      default:
        // Go converts between numbers and from numbers to strings, and refuses here what it could do.
        return fail(value.is_number() && schema.kind() != SchemaKind::boolean
                        ? "cannot convert " + what + " to " + go_type(schema)
                        : "unrecognized type: " + go_type(schema));
    }
  }
  static bool decodes_itself(SchemaKind kind) {
    return kind == SchemaKind::time || kind == SchemaKind::micro_time || kind == SchemaKind::quantity ||
           kind == SchemaKind::int_or_string;
  }
  bool mismatch(SchemaRef schema, const json::value& value, const FieldPath& path) {
    if (decoder_ == Decoder::converter && !decodes_itself(schema.kind())) return not_converted(schema, value);
    std::string what = go_value(value);
    if (value.is_double() || (value.is_number() && schema.kind() != SchemaKind::string))
      what += " " + to_json(value);
    if (value.is_number() && (schema.kind() == SchemaKind::object || schema.kind() == SchemaKind::list))
      what = "number";
    return fail("json: cannot unmarshal " + what + " into Go struct field " + field_of(path) + " of type " +
                go_type(schema));
  }
  /// `DeploymentSpec.spec.replicas`: the struct that holds the field, then the path without list positions.
  std::string field_of(const FieldPath& path) const {
    std::string plain;
    bool inside = false;
    for (const char c : path.to_string()) {
      if (c == '[') inside = true;
      if (!inside) plain += c;
      if (c == ']') inside = false;
    }
    SchemaRef schema = root_;
    std::string_view owner = schema.type_name();
    for (const std::string_view name : split_words(plain, '.')) {
      while (schema.kind() == SchemaKind::list || schema.kind() == SchemaKind::map) schema = schema.element();
      if (schema.kind() != SchemaKind::object) break;
      owner = schema.type_name();
      schema = schema.property(name);
      if (!schema) break;
    }
    return short_name(owner) + "." + plain;
  }
  bool check_integer(SchemaRef schema, const json::value& value, const FieldPath& path) {
    if (!value.is_int64()) return mismatch(schema, value, path);
    const std::int64_t number = value.get_int64();
    if (schema.kind() == SchemaKind::int32 && (number > INT32_MAX || number < INT32_MIN))
      return mismatch(schema, value, path);
    return true;
  }
  bool check_time(SchemaRef schema, json::value& value, const FieldPath& path) {
    if (!value.is_string()) return mismatch(schema, value, path);
    const std::string_view text = value.get_string();
    const std::optional<WallTime> time = parse_wall_time(text);
    if (!time) {
      return fail("parsing time " + json::serialize(value) +
                  " as \"2006-01-02T15:04:05Z07:00\": cannot parse " + json::serialize(value) + " at " +
                  path.to_string());
    }
    value = schema.kind() == SchemaKind::time ? format_time(*time) : format_micro_time(*time);
    return true;
  }
  bool check_quantity(SchemaRef schema, json::value& value, const FieldPath& path) {
    if (value.is_number()) value = to_json(value);
    if (!value.is_string()) return mismatch(schema, value, path);
    const Result<Quantity> parsed = Quantity::parse(std::string_view(value.get_string()));
    if (!parsed) return fail(parsed.error().message() + " at " + path.to_string());
    return true;
  }
  bool check(SchemaRef schema, json::value& value, const FieldPath& path) {
    switch (schema.kind()) {
      case SchemaKind::any:
      case SchemaKind::json_value:
      case SchemaKind::fields_v1:
        return false;  // kept as it is
      case SchemaKind::raw_extension:
        return value.is_object() ? false : mismatch(schema, value, path);
      case SchemaKind::string:
      case SchemaKind::duration:
        return value.is_string() || mismatch(schema, value, path);
      case SchemaKind::bytes:
        return value.is_string() ? check_base64(value.get_string(), path) : mismatch(schema, value, path);
      case SchemaKind::int32:
      case SchemaKind::int64:
        return check_integer(schema, value, path);
      case SchemaKind::boolean:
        return value.is_bool() || mismatch(schema, value, path);
      case SchemaKind::number:
        return value.is_number() || mismatch(schema, value, path);
      case SchemaKind::time:
      case SchemaKind::micro_time:
        return check_time(schema, value, path);
      case SchemaKind::quantity:
        return check_quantity(schema, value, path);
      case SchemaKind::int_or_string: {
        const bool small =
            value.is_int64() && value.get_int64() <= INT32_MAX && value.get_int64() >= INT32_MIN;
        return small || value.is_string() || mismatch(schema, value, path);
      }
      case SchemaKind::object:
      case SchemaKind::map:
        return value.is_object() || mismatch(schema, value, path);
      case SchemaKind::list:
        return check_list(schema, value, path);
    }
    return true;
  }
  bool check_list(SchemaRef schema, json::value& value, const FieldPath& path) {
    if (!value.is_array()) return mismatch(schema, value, path);
    for (json::value& item : value.get_array()) {
      if (!item.is_null()) continue;
      if (schema.element().kind() == SchemaKind::object) item.emplace_object();
      if (schema.element().kind() == SchemaKind::string) item = "";
    }
    return true;
  }
  bool check_base64(std::string_view text, const FieldPath& path) {
    std::size_t padding = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const char c = text[i];
      const bool letter =
          (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
      if (c == '=') ++padding;
      if ((!letter && c != '=') || (letter && padding > 0) || padding > 2) {
        return fail("illegal base64 data at input byte " + std::to_string(i) + " of " + path.to_string());
      }
    }
    if (text.size() % 4 != 0) {
      return fail("illegal base64 data at input byte " + std::to_string(text.size() / 4 * 4) + " of " +
                  path.to_string());
    }
    return true;
  }

  SchemaRef root_;
  Decoder decoder_;
  std::size_t values_ = 0;
};

Result<std::vector<std::string>> prune(SchemaRef schema, json::value& value, Decoder decoder,
                                       std::span<const std::string_view> settled) {
  PruneVisitor visitor(schema, decoder);
  walk(schema, value, FieldPath(), visitor, settled);
  if (!visitor.failure.empty()) return Error(Error::invalid, "api", visitor.failure);
  return std::move(visitor.unknown_paths);
}

}  // namespace

Result<std::vector<std::string>> prune_unknown(SchemaRef schema, json::value& value,
                                               std::span<const std::string_view> settled) {
  return prune(schema, value, Decoder::json, settled);
}
Result<std::vector<std::string>> prune_strategic(SchemaRef schema, json::value& value,
                                                 std::span<const std::string_view> settled) {
  return prune(schema, value, Decoder::converter, settled);
}

}  // namespace orchestra::api
