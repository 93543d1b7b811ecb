// Protobuf (proto2 wire format) by the schema's field numbers; no generated message code.
//
// Each message type of Kubernetes has its numbers in the .types files. What JSON flattens (an embedded
// struct) protobuf nests: such a property carries the outer number in its high byte. Special messages:
// Quantity, Time, MicroTime, Duration, IntOrString, RawExtension, FieldsV1. Fields that hold the zero value
// are on the wire (proto2); prune_unknown() afterwards brings the tree to the form of JSON.
#include "api/protobuf.hpp"

#include <algorithm>
#include <cstring>

#include "api/meta.hpp"
#include "api/status.hpp"
#include "api/walker.hpp"
#include "base/base64.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

enum class Wire : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

struct WireField {
  std::uint32_t number = 0;
  Wire wire = Wire::varint;
  std::uint64_t integer = 0;  ///< varint and fixed
  std::string_view bytes;
};

/// Reads the fields of one message in turn; every length is checked before it is used.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : rest_(bytes) {}
  bool done() const { return rest_.empty(); }
  /// The fields that are left, or those of them that follow at once and have this number.
  std::size_t count(std::uint32_t number = 0) const {
    WireReader ahead(rest_);
    WireField field;
    std::size_t found = 0;
    while (!ahead.done() && ahead.next(field) && (number == 0 || field.number == number)) ++found;
    return found;
  }
  bool next(WireField& field) {
    std::uint64_t key = 0;
    if (!varint(key) || key >> 3 == 0 || key >> 3 > 0x1fffffff) return false;
    field.number = static_cast<std::uint32_t>(key >> 3);
    field.wire = static_cast<Wire>(key & 7);
    switch (field.wire) {
      case Wire::varint:
        return varint(field.integer);
      case Wire::fixed64:
        return fixed(8, field.integer);
      case Wire::fixed32:
        return fixed(4, field.integer);
      case Wire::bytes: {
        std::uint64_t size = 0;
        if (!varint(size) || size > rest_.size()) return false;
        field.bytes = rest_.substr(0, size);
        rest_.remove_prefix(size);
        return true;
      }
    }
    return false;  // groups and unknown wire types
  }

 private:
  bool varint(std::uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return false;
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return true;
    }
    return false;
  }
  bool fixed(std::size_t size, std::uint64_t& value) {
    if (rest_.size() < size) return false;
    value = 0;
    for (std::size_t i = 0; i < size; ++i)
      value |= static_cast<std::uint64_t>(static_cast<unsigned char>(rest_[i])) << (8 * i);
    rest_.remove_prefix(size);
    return true;
  }
  std::string_view rest_;
};

class Decoder {
 public:
  bool message(std::string_view bytes, SchemaRef schema, json::object& out, const FieldPath& path, int depth,
               unsigned outer = 0) {
    if (depth > kDepthMax) return fail(path, "nests too deeply");
    WireReader reader(bytes);
    if (outer == 0) out.reserve(std::min(reader.count(), schema.size()));
    std::uint32_t next = 0;  // where the property of the next field is, if the fields are in order
    while (!reader.done()) {
      WireField field;
      if (!reader.next(field)) return fail(path, "is truncated or malformed");
      if (field.number > 0xff) continue;
      const auto number = static_cast<std::uint16_t>(outer << 8 | field.number);
      const bool in_order = next < schema.size() && schema.at(next).number() == number;
      if (const SchemaRef property = in_order ? schema.at(next) : schema.property(number)) {
        next = property.index() - schema.at(0).index() + (property.kind() == SchemaKind::list ? 0 : 1);
        const std::string_view name = property.name();
        if (!put(field, property, out[name], path / name, depth, reader)) return false;
      } else if (outer == 0 && is_nested(schema, field.number)) {
        if (field.wire != Wire::bytes) return fail(path, "has a wrong wire type");
        if (!message(field.bytes, schema, out, path, depth + 1, field.number)) return false;
      }
    }
    return true;
  }
  std::string failure;

 private:
  bool fail(const FieldPath& path, std::string_view why) {
    failure = "proto: " + path.to_string() + " " + std::string(why);
    return false;
  }
  static bool is_nested(SchemaRef schema, std::uint32_t number) {
    for (std::size_t i = 0; i < schema.size(); ++i) {
      if (schema.at(i).number() >> 8 == number) return true;
    }
    return false;
  }
  /// Values are made where they stay.
  bool put(const WireField& field, SchemaRef property, json::value& out, const FieldPath& path, int depth,
           const WireReader& rest) {
    if (property.kind() == SchemaKind::list) return put_item(field, property, out, path, depth, rest);
    if (property.kind() == SchemaKind::map) return put_entry(field, property, out, path, depth);
    return scalar(field, property, out, path, depth);
  }
  bool put_item(const WireField& field, SchemaRef property, json::value& list, const FieldPath& path,
                int depth, const WireReader& rest) {
    if (!list.is_array()) list.emplace_array().reserve(1 + rest.count(field.number));
    const SchemaKind kind = property.element().kind();
    const bool number = kind == SchemaKind::int32 || kind == SchemaKind::int64 || kind == SchemaKind::boolean;
    json::array& items = list.get_array();
    const std::size_t index = items.size();
    if (number && field.wire == Wire::bytes) return fail(path, "is packed, which proto2 does not do");
    return scalar(field, property.element(), items.emplace_back(nullptr), path[index], depth);
  }
  /// A map entry is a message {1 key, 2 value}.
  bool put_entry(const WireField& field, SchemaRef property, json::value& map, const FieldPath& path,
                 int depth) {
    if (field.wire != Wire::bytes) return fail(path, "has a wrong wire type");
    if (!map.is_object()) map.emplace_object();
    std::string_view key;
    WireField found;
    found.wire = Wire::bytes;
    WireReader reader(field.bytes);
    while (!reader.done()) {
      WireField part;
      if (!reader.next(part)) return fail(path, "is truncated or malformed");
      if (part.number == 1 && part.wire == Wire::bytes) key = part.bytes;
      if (part.number == 2) found = part;
    }
    if (!json_text(key)) return fail(path, "has a key that is not UTF-8");
    return scalar(found, property.element(), map.get_object()[key], path.key(key), depth);
  }
  /// Named lists (ExtraValue, Verbs) are messages {1 items}.
  bool list_message(const WireField& field, SchemaRef schema, json::value& out, const FieldPath& path,
                    int depth) {
    json::array items(out.storage());
    WireReader reader(field.bytes);
    while (!reader.done()) {
      WireField part;
      if (!reader.next(part)) return fail(path, "is truncated or malformed");
      json::value item(out.storage());
      if (part.number != 1) continue;
      if (!scalar(part, schema.element(), item, path, depth)) return false;
      items.push_back(std::move(item));
    }
    out = std::move(items);
    return true;
  }
  static bool json_text(std::string_view text) {
    // Valid UTF-8, as JSON wants it.
    for (std::size_t i = 0; i < text.size();) {
      if (std::uint64_t eight = 0; text.size() - i >= sizeof eight) {
        std::memcpy(&eight, text.data() + i, sizeof eight);
        if ((eight & 0x8080808080808080u) == 0) {
          i += sizeof eight;
          continue;
        }
      }
      const auto byte = static_cast<unsigned char>(text[i]);
      const std::size_t length = byte < 0x80       ? 1
                                 : byte >> 5 == 6  ? 2
                                 : byte >> 4 == 14 ? 3
                                 : byte >> 3 == 30 ? 4
                                                   : 0;
      if (length == 0 || i + length > text.size()) return false;
      for (std::size_t j = 1; j < length; ++j) {
        if ((static_cast<unsigned char>(text[i + j]) & 0xc0) != 0x80) return false;
      }
      i += length;
    }
    return true;
  }
  bool string(const WireField& field, json::value& out, const FieldPath& path) {
    if (!json_text(field.bytes)) return fail(path, "is not UTF-8");
    out.emplace_string().assign(field.bytes);
    return true;
  }
  bool scalar(const WireField& field, SchemaRef schema, json::value& out, const FieldPath& path, int depth) {
    switch (schema.kind()) {
      case SchemaKind::int32:
      case SchemaKind::int64:
        if (field.wire != Wire::varint) break;
        out = static_cast<std::int64_t>(field.integer);
        return true;
      case SchemaKind::boolean:
        if (field.wire != Wire::varint) break;
        out = field.integer != 0;
        return true;
      case SchemaKind::number: {
        if (field.wire != Wire::fixed64) break;
        double number = 0;
        std::memcpy(&number, &field.integer, sizeof number);
        out = number;
        return true;
      }
      default:
        if (field.wire != Wire::bytes) break;
        return bytes_field(field, schema, out, path, depth);
    }
    return fail(path, "has a wrong wire type");
  }
  bool bytes_field(const WireField& field, SchemaRef schema, json::value& out, const FieldPath& path,
                   int depth) {
    switch (schema.kind()) {
      case SchemaKind::string:
        return string(field, out, path);
      case SchemaKind::bytes:
        out = encode_base64_text(field.bytes);
        return true;
      case SchemaKind::list:
        return list_message(field, schema, out, path, depth + 1);
      case SchemaKind::object:
        return message(field.bytes, schema, out.emplace_object(), path, depth + 1);
      case SchemaKind::time:
      case SchemaKind::micro_time:
      case SchemaKind::duration:
      case SchemaKind::int_or_string:
      case SchemaKind::quantity:
        return special(field, schema, out, path);
      default:
        return raw_json(field, out, path);
    }
  }
  /// Quantity {1 string}; Time {1 seconds, 2 nanos}; IntOrString {1 type, 2 int, 3 string}; Duration {1 ns}.
  bool special(const WireField& field, SchemaRef schema, json::value& out, const FieldPath& path) {
    std::int64_t first = 0, second = 0;
    std::string_view first_text, third_text;
    WireReader reader(field.bytes);
    while (!reader.done()) {
      WireField part;
      if (!reader.next(part)) return fail(path, "is truncated or malformed");
      if (part.number == 1 && part.wire == Wire::bytes) first_text = part.bytes;
      if (part.number == 1 && part.wire == Wire::varint) first = static_cast<std::int64_t>(part.integer);
      if (part.number == 2 && part.wire == Wire::varint) second = static_cast<std::int64_t>(part.integer);
      if (part.number == 3 && part.wire == Wire::bytes) third_text = part.bytes;
    }
    if (!json_text(first_text) || !json_text(third_text)) return fail(path, "is not UTF-8");
    const bool is_time = schema.kind() == SchemaKind::time || schema.kind() == SchemaKind::micro_time;
    // Any int32 of nanoseconds is one (Go's time.Unix).
    const WallTime part = WallTime::of(static_cast<std::int32_t>(second));
    const bool sane = first >= INT64_MIN / kSecond && first <= INT64_MAX / kSecond;
    const WallTime time{sane ? first + part.seconds : INT64_MAX, part.nanos};
    if (is_time && !time.in_range()) return fail(path, "is a time outside of the years 0 to 9999");
    switch (schema.kind()) {
      case SchemaKind::quantity:
        out = first_text.empty() ? std::string_view("0") : first_text;
        return true;
      case SchemaKind::time:
        // An empty message is Go's zero time: absent.
        if (!field.bytes.empty() && !(first == 0 && second == 0)) out = format_time(time);
        return true;
      case SchemaKind::micro_time:
        if (!field.bytes.empty()) out = format_micro_time(time);
        return true;
      case SchemaKind::duration:
        out = std::to_string(first / kSecond) + "s";
        return true;
      default:
        if (first == 0)
          out = static_cast<std::int64_t>(static_cast<std::int32_t>(second));
        else
          out = third_text;
        return true;
    }
  }
  /// RawExtension, FieldsV1 and JSON are {1 bytes} that hold JSON.
  bool raw_json(const WireField& field, json::value& out, const FieldPath& path) {
    WireReader reader(field.bytes);
    while (!reader.done()) {
      WireField part;
      if (!reader.next(part)) return fail(path, "is truncated or malformed");
      if (part.number != 1 || part.wire != Wire::bytes || part.bytes.empty()) continue;
      Result<json::value> parsed = parse_json(part.bytes);
      if (!parsed) return fail(path, "holds malformed JSON: " + parsed.error().message());
      out = std::move(*parsed);
    }
    return true;
  }
};

constexpr std::string_view kMagic("k8s\0", 4);

}  // namespace

Result<json::value> decode_protobuf_message(std::string_view bytes, SchemaRef schema,
                                            const json::storage_ptr& memory) {
  Decoder decoder;
  json::object out(memory);
  if (!decoder.message(bytes, schema, out, FieldPath(), 0)) return bad_request(decoder.failure);
  return json::value(std::move(out));
}

Result<json::value> decode_protobuf(std::string_view bytes, SchemaRef schema,
                                    const json::storage_ptr& memory) {
  if (!bytes.starts_with(kMagic)) {
    return bad_request(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]");
  }
  // runtime.Unknown {1 TypeMeta {1 apiVersion, 2 kind}, 2 raw, 3 contentEncoding, 4 contentType}
  std::string_view raw, api_version, kind;
  WireReader reader(bytes.substr(kMagic.size()));
  while (!reader.done()) {
    WireField field;
    if (!reader.next(field)) return bad_request("proto: the envelope is truncated or malformed");
    if (field.number == 2 && field.wire == Wire::bytes) raw = field.bytes;
    if (field.number != 1 || field.wire != Wire::bytes) continue;
    WireReader meta(field.bytes);
    while (!meta.done()) {
      WireField part;
      if (!meta.next(part)) return bad_request("proto: the envelope's type is truncated or malformed");
      if (part.number == 1 && part.wire == Wire::bytes) api_version = part.bytes;
      if (part.number == 2 && part.wire == Wire::bytes) kind = part.bytes;
    }
  }
  ORC_ASSIGN(json::value tree, decode_protobuf_message(raw, schema, memory));
  json::object out(memory);
  out.reserve(tree.get_object().size() + 2);
  if (!api_version.empty()) out["apiVersion"] = api_version;
  if (!kind.empty()) out["kind"] = kind;
  for (auto& member : tree.get_object()) out[member.key()] = std::move(member.value());
  return json::value(std::move(out));
}

}  // namespace orchestra::api
