// Protobuf (proto2 wire format) by the schema's field numbers; no generated message code.
//
// Each message type of Kubernetes has its numbers in the .types files. What JSON flattens (an embedded
// struct) protobuf nests: such a property carries the outer number in its high byte. Special messages:
// Quantity, Time, MicroTime, Duration, IntOrString, RawExtension, FieldsV1. Fields that hold the zero value
// are on the wire (proto2); they are left out of the tree where JSON leaves them out, so that prune_unknown()
// has nothing to do.
#include "api/protobuf.hpp"

#include <algorithm>
#include <bitset>
#include <cstring>
#include <vector>

#include "api/meta.hpp"
#include "api/status.hpp"
#include "api/walker.hpp"
#include "base/base64.hpp"
#include "base/json.hpp"
#include "orchestra/quantity.hpp"

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
    if (!rest_.empty() && static_cast<signed char>(rest_.front()) >= 0) {  // most are one byte
      value = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      return true;
    }
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

/// Builds the tree on a stack of values, as the parser of JSON does: the members of an object, then the
/// object.
class Decoder {
 public:
  explicit Decoder(const json::storage_ptr& memory) : stack_({}, buffer_, sizeof buffer_) {
    stack_.reset(memory);
    fields_.reserve(128);
  }

  /// Pushes the members of a message and adds their number to `count`.
  bool members(std::string_view bytes, SchemaRef schema, const FieldPath& path, int depth, std::size_t& count,
               unsigned outer = 0) {
    if (depth > kDepthMax) return fail(path, "nests too deeply");
    const std::size_t begin = fields_.size();
    std::bitset<kNumberMax + 1> seen;
    std::uint32_t before = 0;
    bool scattered = false;
    for (WireReader reader(bytes); !reader.done();) {
      WireField& field = fields_.emplace_back();
      if (!reader.next(field)) return fail(path, "is truncated or malformed");
      if (field.number > kNumberMax) {
        fields_.pop_back();
      } else if (field.number != before) {
        before = field.number;
        scattered |= seen.test(before);
        seen.set(before);
      }
    }
    const std::size_t end = fields_.size();
    if (scattered) {  // all fields of a number stand together: of a list, or said several times
      std::stable_sort(fields_.begin() + static_cast<std::ptrdiff_t>(begin), fields_.end(),
                       [](const WireField& a, const WireField& b) { return a.number < b.number; });
    }
    std::size_t next = 0;  // where the property of the next field is likely to be
    for (std::size_t first = begin, last = begin; first < end; first = last) {
      const std::uint32_t number = fields_[first].number;
      while (last < end && fields_[last].number == number) ++last;
      if (const SchemaRef property = find(schema, static_cast<std::uint16_t>(outer << 8 | number), next)) {
        const std::string_view name = property.name();
        if (!put(first, last, property, name, path / name, depth, count)) return false;
      } else if (outer == 0 && is_nested(schema, number)) {
        const WireField field = fields_[last - 1];
        if (field.wire != Wire::bytes) return fail(path, "has a wrong wire type");
        if (!members(field.bytes, schema, path, depth + 1, count, number)) return false;
      }
    }
    fields_.resize(begin);
    return true;
  }
  json::value_stack& stack() { return stack_; }
  std::string failure;

 private:
  static constexpr std::uint32_t kNumberMax = 0xff;

  bool fail(const FieldPath& path, std::string_view why) {
    failure = "proto: " + path.to_string() + " " + std::string(why);
    return false;
  }
  static SchemaRef find(SchemaRef schema, std::uint16_t number, std::size_t& next) {
    const bool here = next < schema.size() && schema.at(next).number() == number;
    const SchemaRef property = here ? schema.at(next) : schema.property(number);
    if (property) next = property.index() - schema.at(0).index() + 1;
    return property;
  }
  static bool is_nested(SchemaRef schema, std::uint32_t number) {
    for (std::size_t i = 0; i < schema.size(); ++i) {
      if (schema.at(i).number() >> 8 == number) return true;
    }
    return false;
  }
  /// JSON would not have the field: the zero value where Go leaves it out, a time that is none.
  static bool is_absent(const WireField& field, SchemaRef property) {
    const bool zero = field.wire == Wire::bytes ? field.bytes.empty() : field.integer == 0;
    switch (property.kind()) {
      case SchemaKind::string:
      case SchemaKind::bytes:
        if (field.wire != Wire::bytes) return false;  // refused later
        break;
      case SchemaKind::int32:
      case SchemaKind::int64:
      case SchemaKind::boolean:
        if (field.wire != Wire::varint) return false;
        break;
      case SchemaKind::number:
        if (field.wire != Wire::fixed64) return false;
        break;
      case SchemaKind::time:
        return field.wire == Wire::bytes && !property.has(SchemaNode::nullable) && is_zero_time(field.bytes);
      case SchemaKind::micro_time:
        return field.wire == Wire::bytes && !property.has(SchemaNode::nullable) && zero;
      default:
        return false;
    }
    return zero && property.has(SchemaNode::omit_empty) && !property.has(SchemaNode::pointer);
  }
  /// An empty message, and 1970 to the nanosecond: Go's zero time.
  static bool is_zero_time(std::string_view bytes) {
    WireReader reader(bytes);
    WireField part;
    while (!reader.done()) {
      if (!reader.next(part)) return false;
      if ((part.number == 1 || part.number == 2) && part.wire == Wire::varint && part.integer != 0)
        return false;
    }
    return true;
  }
  static bool holds_json(SchemaKind kind) {
    return kind == SchemaKind::raw_extension || kind == SchemaKind::fields_v1 ||
           kind == SchemaKind::json_value || kind == SchemaKind::any;
  }
  /// All fields of one number: a list, a map, or one of which the last counts.
  bool put(std::size_t first, std::size_t last, SchemaRef property, std::string_view name,
           const FieldPath& path, int depth, std::size_t& count) {
    const WireField field = fields_[last - 1];
    if (property.kind() == SchemaKind::list) {
      stack_.push_key(name);
      ++count;
      return items(first, last, property, path, depth);
    }
    if (property.kind() == SchemaKind::map) {
      stack_.push_key(name);
      ++count;
      for (std::size_t i = first; i < last; ++i) {
        if (!entry(WireField(fields_[i]), property, path, depth)) return false;
      }
      stack_.push_object(last - first);  // of equal keys the last counts
      return true;
    }
    if (is_absent(field, property)) return true;
    if (holds_json(property.kind())) {
      json::value value;
      if (!raw_json(field, property, value, path)) return false;
      if (value.is_null() && !property.has(SchemaNode::nullable)) return true;
      stack_.push_key(name);
      ++count;
      push(value);
      return true;
    }
    stack_.push_key(name);
    ++count;
    return scalar(field, property, path, depth);
  }
  bool items(std::size_t first, std::size_t last, SchemaRef property, const FieldPath& path, int depth) {
    const SchemaRef element = property.element();
    const SchemaKind kind = element.kind();
    const bool number = kind == SchemaKind::int32 || kind == SchemaKind::int64 || kind == SchemaKind::boolean;
    for (std::size_t i = first; i < last; ++i) {
      const WireField field = fields_[i];
      if (number && field.wire == Wire::bytes) return fail(path, "is packed, which proto2 does not do");
      if (!scalar(field, element, path[i - first], depth)) return false;
    }
    stack_.push_array(last - first);
    return true;
  }
  /// A map entry is a message {1 key, 2 value}.
  bool entry(const WireField& field, SchemaRef property, const FieldPath& path, int depth) {
    if (field.wire != Wire::bytes) return fail(path, "has a wrong wire type");
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
    stack_.push_key(key);
    return scalar(found, property.element(), path.key(key), depth);
  }
  /// Named lists (ExtraValue, Verbs) are messages {1 items}.
  bool list_message(const WireField& field, SchemaRef schema, const FieldPath& path, int depth) {
    std::size_t count = 0;
    WireReader reader(field.bytes);
    while (!reader.done()) {
      WireField part;
      if (!reader.next(part)) return fail(path, "is truncated or malformed");
      if (part.number != 1) continue;
      if (!scalar(part, schema.element(), path, depth)) return false;
      ++count;
    }
    stack_.push_array(count);
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
      if (byte < 0x80) {
        ++i;
        continue;
      }
      const std::size_t length = byte >> 5 == 6 ? 2 : byte >> 4 == 14 ? 3 : byte >> 3 == 30 ? 4 : 0;
      if (length == 0 || i + length > text.size()) return false;
      for (std::size_t j = 1; j < length; ++j) {
        if ((static_cast<unsigned char>(text[i + j]) & 0xc0) != 0x80) return false;
      }
      i += length;
    }
    return true;
  }
  bool scalar(const WireField& field, SchemaRef schema, const FieldPath& path, int depth) {
    switch (schema.kind()) {
      case SchemaKind::int32:  // of a longer number the lower half, as in Go
        if (field.wire != Wire::varint) break;
        stack_.push_int64(static_cast<std::int32_t>(field.integer));
        return true;
      case SchemaKind::int64:
        if (field.wire != Wire::varint) break;
        stack_.push_int64(static_cast<std::int64_t>(field.integer));
        return true;
      case SchemaKind::boolean:
        if (field.wire != Wire::varint) break;
        stack_.push_bool(field.integer != 0);
        return true;
      case SchemaKind::number: {
        if (field.wire != Wire::fixed64) break;
        double number = 0;
        std::memcpy(&number, &field.integer, sizeof number);
        stack_.push_double(number);
        return true;
      }
      default:
        if (field.wire != Wire::bytes) break;
        return bytes_field(field, schema, path, depth);
    }
    return fail(path, "has a wrong wire type");
  }
  bool bytes_field(const WireField& field, SchemaRef schema, const FieldPath& path, int depth) {
    switch (schema.kind()) {
      case SchemaKind::string:
        if (!json_text(field.bytes)) return fail(path, "is not UTF-8");
        stack_.push_string(field.bytes);
        return true;
      case SchemaKind::bytes:
        stack_.push_string(encode_base64_text(field.bytes));
        return true;
      case SchemaKind::list:
        return list_message(field, schema, path, depth + 1);
      case SchemaKind::object: {
        std::size_t count = 0;
        if (!members(field.bytes, schema, path, depth + 1, count)) return false;
        stack_.push_object(count);
        return true;
      }
      case SchemaKind::time:
      case SchemaKind::micro_time:
      case SchemaKind::duration:
      case SchemaKind::int_or_string:
      case SchemaKind::quantity:
        return special(field, schema, path);
      default: {
        json::value value;
        if (!raw_json(field, schema, value, path)) return false;
        push(value);
        return true;
      }
    }
  }
  /// Quantity {1 string}; Time {1 seconds, 2 nanos}; IntOrString {1 type, 2 int, 3 string}; Duration {1 ns}.
  bool special(const WireField& field, SchemaRef schema, const FieldPath& path) {
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
        if (first_text.empty()) first_text = "0";
        if (const Result<Quantity> parsed = Quantity::parse(first_text); !parsed)
          return fail(path, "is no quantity: " + parsed.error().message());
        stack_.push_string(first_text);
        return true;
      case SchemaKind::time:  // in a list, or one that may be null
        is_zero_time(field.bytes) ? stack_.push_null() : stack_.push_string(format_time(time));
        return true;
      case SchemaKind::micro_time:
        field.bytes.empty() ? stack_.push_null() : stack_.push_string(format_micro_time(time));
        return true;
      case SchemaKind::duration:
        stack_.push_string(std::to_string(first / kSecond) + "s");
        return true;
      default:
        if (first == 0)
          stack_.push_int64(static_cast<std::int32_t>(second));
        else
          stack_.push_string(third_text);
        return true;
    }
  }
  /// RawExtension, FieldsV1 and JSON are {1 bytes} that hold JSON.
  bool raw_json(const WireField& field, SchemaRef schema, json::value& out, const FieldPath& path) {
    if (field.wire != Wire::bytes) return fail(path, "has a wrong wire type");
    WireReader reader(field.bytes);
    while (!reader.done()) {
      WireField part;
      if (!reader.next(part)) return fail(path, "is truncated or malformed");
      if (part.number != 1 || part.wire != Wire::bytes || part.bytes.empty()) continue;
      Result<json::value> parsed = parse_json(part.bytes);
      if (!parsed) return fail(path, "holds malformed JSON: " + parsed.error().message());
      out = std::move(*parsed);
    }
    if (schema.kind() == SchemaKind::raw_extension && !out.is_object() && !out.is_null())
      return fail(path, "holds JSON that is no object");
    return true;
  }
  void push(const json::value& value) {
    switch (value.kind()) {
      case json::kind::object:
        for (const auto& member : value.get_object()) {
          stack_.push_key(member.key());
          push(member.value());
        }
        return stack_.push_object(value.get_object().size());
      case json::kind::array:
        for (const json::value& item : value.get_array()) push(item);
        return stack_.push_array(value.get_array().size());
      case json::kind::string:
        return stack_.push_string(value.get_string());
      case json::kind::int64:
        return stack_.push_int64(value.get_int64());
      case json::kind::uint64:
        return stack_.push_uint64(value.get_uint64());
      case json::kind::double_:
        return stack_.push_double(value.get_double());
      case json::kind::bool_:
        return stack_.push_bool(value.get_bool());
      case json::kind::null:
        return stack_.push_null();
    }
  }

  unsigned char buffer_[4096];
  json::value_stack stack_;
  std::vector<WireField> fields_;  ///< of the messages that are being read, the outer ones first
};

constexpr std::string_view kMagic("k8s\0", 4);

}  // namespace

Result<json::value> decode_protobuf_message(std::string_view bytes, SchemaRef schema,
                                            const json::storage_ptr& memory) {
  Decoder decoder(memory);
  std::size_t members = 0;
  if (!decoder.members(bytes, schema, FieldPath(), 0, members)) return bad_request(decoder.failure);
  decoder.stack().push_object(members);
  return decoder.stack().release();
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
  Decoder decoder(memory);
  std::size_t members = 0;
  const auto say = [&](std::string_view key, std::string_view value) {
    if (value.empty()) return;
    decoder.stack().push_key(key);
    decoder.stack().push_string(value);
    ++members;
  };
  say("apiVersion", api_version);
  say("kind", kind);
  if (!decoder.members(raw, schema, FieldPath(), 0, members)) return bad_request(decoder.failure);
  decoder.stack().push_object(members);
  return decoder.stack().release();
}

}  // namespace orchestra::api
