// Protobuf answers: the inverse of protobuf.cpp, by the same field numbers.
//
// Fields that JSON leaves out are left out here too; to a proto2 reader they have their zero value, as the
// zero that upstream writes would. Embedded structs, which JSON flattens, are nested again: their properties
// carry the outer number in the high byte.
#include <cstring>
#include <map>

#include "api/meta.hpp"
#include "api/protobuf.hpp"
#include "base/base64.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr std::uint32_t kVarint = 0, kFixed64 = 1, kBytes = 2;
constexpr int kEncodeDepthMax = 512;

void append_varint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out += static_cast<char>(value | 0x80);
    value >>= 7;
  }
  out += static_cast<char>(value);
}
void append_key(std::string& out, std::uint32_t number, std::uint32_t wire) {
  append_varint(out, (static_cast<std::uint64_t>(number) << 3) | wire);
}
void append_integer(std::string& out, std::uint32_t number, std::int64_t value) {
  append_key(out, number, kVarint);
  append_varint(out, static_cast<std::uint64_t>(value));
}

// Go's durations, as JSON has them: "1h30m0.5s". nullopt: not one.
std::optional<std::int64_t> go_duration(std::string_view text) {
  if (text == "0") return 0;
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty()) return std::nullopt;
  double total = 0;
  while (!text.empty()) {
    std::size_t used = 0;
    while (used < text.size() && ((text[used] >= '0' && text[used] <= '9') || text[used] == '.')) ++used;
    if (used == 0) return std::nullopt;
    const double number = std::strtod(std::string(text.substr(0, used)).c_str(), nullptr);
    text.remove_prefix(used);
    static constexpr std::pair<std::string_view, double> kUnits[] = {
        {"ns", 1}, {"us", 1e3}, {"µs", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
    bool known = false;
    for (const auto& [unit, factor] : kUnits) {
      if (!text.starts_with(unit) || (unit == "m" && text.starts_with("ms"))) continue;
      total += number * factor;
      text.remove_prefix(unit.size());
      known = true;
      break;
    }
    if (!known) return std::nullopt;
  }
  return static_cast<std::int64_t>(negative ? -total : total);
}

class Encoder {
 public:
  bool message(const json::value& value, SchemaRef schema, std::string& out, int depth) {
    if (!value.is_object() || depth > kEncodeDepthMax) return fail(schema, "is not an object");
    std::map<std::uint32_t, std::string> nested;  // embedded structs by their outer number
    for (const auto& member : value.get_object()) {
      const SchemaRef property = schema.property(member.key());
      if (!property || property.number() == 0 || member.value().is_null()) continue;
      const std::uint32_t outer = property.number() >> 8, number = property.number() & 0xff;
      if (!field(member.value(), property, outer == 0 ? out : nested[outer], number, depth)) return false;
    }
    for (const auto& [number, bytes] : nested) append_protobuf_bytes(out, number, bytes);
    return true;
  }
  std::string failure;

 private:
  bool fail(SchemaRef schema, std::string_view why) {
    failure = "field \"" + std::string(schema.name()) + "\" " + std::string(why);
    return false;
  }

  bool field(const json::value& value, SchemaRef schema, std::string& out, std::uint32_t number, int depth) {
    if (schema.kind() == SchemaKind::list) {
      if (!value.is_array()) return fail(schema, "is not a list");
      for (const json::value& item : value.get_array()) {
        if (!single(item, schema.element(), out, number, depth)) return false;
      }
      return true;
    }
    if (schema.kind() == SchemaKind::map) {
      if (!value.is_object()) return fail(schema, "is not a map");
      for (const auto& member : value.get_object()) {
        std::string entry;
        append_protobuf_bytes(entry, 1, member.key());
        if (!single(member.value(), schema.element(), entry, 2, depth)) return false;
        append_protobuf_bytes(out, number, entry);
      }
      return true;
    }
    return single(value, schema, out, number, depth);
  }

  bool single(const json::value& value, SchemaRef schema, std::string& out, std::uint32_t number, int depth) {
    switch (schema.kind()) {
      case SchemaKind::boolean:
        if (!value.is_bool()) return fail(schema, "is not a bool");
        append_integer(out, number, value.get_bool() ? 1 : 0);
        return true;
      case SchemaKind::int32:
      case SchemaKind::int64:
        if (value.is_uint64()) {
          append_integer(out, number, static_cast<std::int64_t>(value.get_uint64()));
          return true;
        }
        if (!value.is_int64()) return fail(schema, "is not an integer");
        append_integer(out, number, value.get_int64());
        return true;
      case SchemaKind::number: {
        if (!value.is_number()) return fail(schema, "is not a number");
        const double real = value.to_number<double>();
        std::uint64_t bits = 0;
        std::memcpy(&bits, &real, sizeof bits);
        append_key(out, number, kFixed64);
        for (int i = 0; i < 8; ++i) out += static_cast<char>(bits >> (8 * i));
        return true;
      }
      default: {
        std::string bytes;
        if (!inner(value, schema, bytes, depth)) return false;
        append_protobuf_bytes(out, number, bytes);
        return true;
      }
    }
  }

  bool inner(const json::value& value, SchemaRef schema, std::string& out, int depth) {
    const std::string_view text =
        value.is_string() ? std::string_view(value.get_string()) : std::string_view();
    switch (schema.kind()) {
      case SchemaKind::string:
        if (!value.is_string()) return fail(schema, "is not a string");
        out = text;
        return true;
      case SchemaKind::bytes: {
        const auto decoded = decode_base64_text(text);
        if (!decoded) return fail(schema, "is not base64");
        out = *decoded;
        return true;
      }
      case SchemaKind::object:
        return message(value, schema, out, depth + 1);
      case SchemaKind::list: {  // a named list in a map: {1 items}
        if (!value.is_array()) return fail(schema, "is not a list");
        for (const json::value& item : value.get_array()) {
          if (!single(item, schema.element(), out, 1, depth + 1)) return false;
        }
        return true;
      }
      case SchemaKind::time:
      case SchemaKind::micro_time:
      case SchemaKind::duration:
      case SchemaKind::int_or_string:
      case SchemaKind::quantity:
        return special(value, schema, out);
      default:
        append_protobuf_bytes(out, 1, to_json(value));  // RawExtension, FieldsV1, JSON
        return true;
    }
  }

  bool special(const json::value& value, SchemaRef schema, std::string& out) {
    if (schema.kind() == SchemaKind::int_or_string) {
      append_integer(out, 1, value.is_string() ? 1 : 0);
      if (value.is_int64()) append_integer(out, 2, value.get_int64());
      if (value.is_string()) append_protobuf_bytes(out, 3, value.get_string());
      return value.is_string() || value.is_int64() || fail(schema, "is neither integer nor string");
    }
    if (!value.is_string()) return fail(schema, "is not a string");
    const std::string_view text = value.get_string();
    if (schema.kind() == SchemaKind::quantity) {
      append_protobuf_bytes(out, 1, text);
      return true;
    }
    if (schema.kind() == SchemaKind::duration) {
      const auto ns = go_duration(text);
      if (!ns) return fail(schema, "is not a duration");
      append_integer(out, 1, *ns);
      return true;
    }
    const auto at = parse_wall_time(text);
    if (!at) return fail(schema, "is not a time");
    append_integer(out, 1, at->seconds);
    append_integer(out, 2, schema.kind() == SchemaKind::time ? 0 : at->nanos);
    return true;
  }
};

}  // namespace

void append_protobuf_bytes(std::string& out, std::uint32_t number, std::string_view bytes) {
  append_key(out, number, kBytes);
  append_varint(out, bytes.size());
  out += bytes;
}

Result<std::string> encode_protobuf_message(const json::value& tree, SchemaRef schema) {
  Encoder encoder;
  std::string out;
  if (!encoder.message(tree, schema, out, 0)) return Error(Error::invalid, "protobuf", encoder.failure);
  return out;
}

std::string protobuf_envelope(std::string_view api_version, std::string_view kind, std::string_view message) {
  std::string meta;
  append_protobuf_bytes(meta, 1, api_version);
  append_protobuf_bytes(meta, 2, kind);
  std::string out("k8s\0", 4);
  append_protobuf_bytes(out, 1, meta);
  append_protobuf_bytes(out, 2, message);
  append_protobuf_bytes(out, 3, "");
  append_protobuf_bytes(out, 4, "");
  return out;
}

std::string protobuf_watch_frame(std::string_view type, std::string_view object) {
  std::string raw;
  append_protobuf_bytes(raw, 1, object);
  std::string event;
  append_protobuf_bytes(event, 1, type);
  append_protobuf_bytes(event, 2, raw);
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(event.size() >> shift);
  return out + event;
}

}  // namespace orchestra::api
