// Values: conversion, equality, order, access. See value.hpp.
#include "api/cel/value.hpp"

#include <arpa/inet.h>

#include <array>
#include <charconv>
#include <cmath>

#include "api/meta.hpp"
#include "base/base64.hpp"

namespace orchestra::api::cel {
namespace {

// -1, 0, 1 between numbers of any kind; nullopt: NaN.
std::optional<int> compare_numbers(const Value& a, const Value& b) {
  const auto order = [](auto x, auto y) { return x < y ? -1 : x > y ? 1 : 0; };
  const auto* ai = a.as<std::int64_t>();
  const auto* bi = b.as<std::int64_t>();
  const auto* au = a.as<std::uint64_t>();
  const auto* bu = b.as<std::uint64_t>();
  if (ai != nullptr && bi != nullptr) return order(*ai, *bi);
  if (au != nullptr && bu != nullptr) return order(*au, *bu);
  if (ai != nullptr && bu != nullptr) return *ai < 0 ? -1 : order(static_cast<std::uint64_t>(*ai), *bu);
  if (au != nullptr && bi != nullptr) return *bi < 0 ? 1 : order(*au, static_cast<std::uint64_t>(*bi));
  const auto number = [](const Value& v) {
    if (const auto* i = v.as<std::int64_t>()) return static_cast<double>(*i);
    if (const auto* u = v.as<std::uint64_t>()) return static_cast<double>(*u);
    return *v.as<double>();
  };
  const double x = number(a);
  const double y = number(b);
  if (std::isnan(x) || std::isnan(y)) return std::nullopt;
  return order(x, y);
}
bool is_number(const Value& v) {
  return v.as<std::int64_t>() != nullptr || v.as<std::uint64_t>() != nullptr || v.as<double>() != nullptr;
}
const json::array* json_array(const Value& value) {
  const Json* json = value.as<Json>();
  return json != nullptr ? json->value->if_array() : nullptr;
}
const json::object* json_object(const Value& value) {
  const Json* json = value.as<Json>();
  return json != nullptr ? json->value->if_object() : nullptr;
}
}  // namespace

Value from_json(const json::value& value, SchemaRef schema) {
  const SchemaKind kind = schema ? schema.kind() : SchemaKind::any;
  switch (value.kind()) {
    case json::kind::null:
      return Null{};
    case json::kind::bool_:
      return value.get_bool();
    case json::kind::int64:
      if (kind == SchemaKind::number) return static_cast<double>(value.get_int64());
      return value.get_int64();
    case json::kind::uint64:
      return static_cast<double>(value.get_uint64());
    case json::kind::double_:
      return value.get_double();
    case json::kind::string: {
      std::string text(value.get_string());
      if (kind == SchemaKind::time || kind == SchemaKind::micro_time) {
        if (const auto at = parse_time(text)) return Timestamp{*at};
      }
      if (kind == SchemaKind::duration) {
        if (const auto length = parse_duration(text)) return DurationValue{*length};
      }
      return text;
    }
    default:
      return Json{&value, schema};
  }
}

json::value to_json_value(const Value& value) {
  if (const auto* v = value.as<bool>()) return *v;
  if (const auto* v = value.as<std::int64_t>()) return *v;
  if (const auto* v = value.as<std::uint64_t>()) return *v;
  if (const auto* v = value.as<double>()) return *v;
  if (const auto* v = value.as<std::string>()) return json::value(*v);
  if (const auto* v = value.as<Json>()) return *v->value;
  if (const auto* v = value.as<Timestamp>()) return json::value(format_time(v->ns));
  if (const auto* v = value.as<DurationValue>()) return json::value(duration_text(v->ns));
  if (const auto* v = value.as<Quantity>()) return json::value(v->to_string());
  if (const auto* v = value.as<Ip>()) return json::value(ip_text(*v));
  if (const auto* v = value.as<Url>()) return json::value(v->text);
  if (const auto* v = value.as<Bytes>()) return json::value(encode_base64_text(v->bytes));
  if (const auto* v = value.as<List>()) {
    json::array out;
    for (const Value& one : **v) out.push_back(to_json_value(one));
    return out;
  }
  if (const auto* v = value.as<Map>()) {
    json::object out;
    for (const auto& [key, one] : **v) {
      const json::value name = to_json_value(key);
      out[name.is_string() ? std::string(name.get_string()) : json::serialize(name)] = to_json_value(one);
    }
    return out;
  }
  return nullptr;
}

const char* type_name(const Value& value) {
  static constexpr std::array<const char*, 21> kNames = {"null_type",
                                                         "bool",
                                                         "int",
                                                         "uint",
                                                         "double",
                                                         "string",
                                                         "bytes",
                                                         "list",
                                                         "map",
                                                         "map",
                                                         "google.protobuf.Timestamp",
                                                         "google.protobuf.Duration",
                                                         "type",
                                                         "optional_type",
                                                         "kubernetes.Quantity",
                                                         "net.IP",
                                                         "net.CIDR",
                                                         "kubernetes.URL",
                                                         "kubernetes.NamedFormat",
                                                         "kubernetes.authorization.Authorizer",
                                                         "error"};
  static_assert(kNames.size() == std::variant_size_v<decltype(Value::data)>);
  if (json_array(value) != nullptr) return "list";
  return kNames[value.data.index()];
}

Value failure(std::string message) { return Failure{std::move(message), false}; }
Value no_overload(std::string_view function) { return failure("no such overload: " + std::string(function)); }

bool is_list(const Value& value) { return value.as<List>() != nullptr || json_array(value) != nullptr; }
bool is_map(const Value& value) { return value.as<Map>() != nullptr || json_object(value) != nullptr; }

std::size_t size_of(const Value& value) {
  if (const auto* list = value.as<List>()) return (*list)->size();
  if (const auto* map = value.as<Map>()) return (*map)->size();
  if (const auto* array = json_array(value)) return array->size();
  if (const auto* object = json_object(value)) return object->size();
  if (const auto* text = value.as<std::string>()) return utf8_length(*text);
  if (const auto* bytes = value.as<Bytes>()) return bytes->bytes.size();
  return 0;
}

Value item(const Value& list, std::size_t index) {
  if (const auto* own = list.as<List>()) return (**own)[index];
  const Json& json = *list.as<Json>();
  const SchemaRef schema =
      json.schema && json.schema.kind() == SchemaKind::list ? json.schema.element() : SchemaRef();
  return from_json(json.value->get_array()[index], schema);
}

std::optional<Value> member(const Value& map, const Value& key) {
  if (const auto* own = map.as<Map>()) {
    for (const auto& [name, value] : **own) {
      if (equal(name, key)) return value;
    }
    return std::nullopt;
  }
  const json::object* object = json_object(map);
  const auto* name = key.as<std::string>();
  if (object == nullptr || name == nullptr) return std::nullopt;
  const json::value* found = object->if_contains(*name);
  if (found == nullptr) return std::nullopt;
  const SchemaRef schema = map.as<Json>()->schema;
  SchemaRef below;
  if (schema && schema.kind() == SchemaKind::object) below = schema.property(*name);
  if (schema && schema.kind() == SchemaKind::map) below = schema.element();
  return from_json(*found, below);
}

std::vector<Value> keys_of(const Value& map) {
  std::vector<Value> keys;
  if (const auto* own = map.as<Map>()) {
    for (const auto& entry : **own) keys.push_back(entry.first);
  } else if (const json::object* object = json_object(map)) {
    for (const auto& entry : *object) keys.push_back(std::string(entry.key()));
  }
  return keys;
}

Value make_list(std::vector<Value> items) {
  return List(std::make_shared<const std::vector<Value>>(std::move(items)));
}
Value make_map(std::vector<std::pair<Value, Value>> members) {
  return Map(std::make_shared<const std::vector<std::pair<Value, Value>>>(std::move(members)));
}

bool equal(const Value& a, const Value& b) {
  if (is_number(a) && is_number(b)) return compare_numbers(a, b) == 0;
  if (is_list(a) || is_list(b)) {
    if (!is_list(a) || !is_list(b) || size_of(a) != size_of(b)) return false;
    for (std::size_t i = 0; i < size_of(a); ++i) {
      if (!equal(item(a, i), item(b, i))) return false;
    }
    return true;
  }
  if (is_map(a) || is_map(b)) {
    if (!is_map(a) || !is_map(b) || size_of(a) != size_of(b)) return false;
    for (const Value& key : keys_of(a)) {
      const auto other = member(b, key);
      if (!other || !equal(*member(a, key), *other)) return false;
    }
    return true;
  }
  if (a.data.index() != b.data.index()) return false;
  if (a.as<Null>() != nullptr) return true;
  if (const auto* x = a.as<Bytes>()) return x->bytes == b.as<Bytes>()->bytes;
  if (const auto* x = a.as<TypeName>()) return x->name == b.as<TypeName>()->name;
  if (const auto* x = a.as<Ip>()) return x->v4 == b.as<Ip>()->v4 && x->bytes == b.as<Ip>()->bytes;
  if (const auto* x = a.as<Cidr>()) {
    const Cidr& y = *b.as<Cidr>();
    return x->prefix == y.prefix && equal(Value(x->ip), Value(y.ip));
  }
  if (const auto* x = a.as<Url>()) return x->text == b.as<Url>()->text;
  if (const auto* x = a.as<Optional>()) {
    const Optional& y = *b.as<Optional>();
    if (x->value == nullptr || y.value == nullptr) return x->value == y.value;
    return equal(*x->value, *y.value);
  }
  return compare(a, b) == 0;
}

std::optional<int> compare(const Value& a, const Value& b) {
  const auto order = [](const auto& x, const auto& y) { return x < y ? -1 : y < x ? 1 : 0; };
  if (is_number(a) && is_number(b)) return compare_numbers(a, b);
  if (a.data.index() != b.data.index()) return std::nullopt;
  if (const auto* x = a.as<bool>()) return order(*x, *b.as<bool>());
  if (const auto* x = a.as<std::string>()) return order(*x, *b.as<std::string>());
  if (const auto* x = a.as<Bytes>()) return order(x->bytes, b.as<Bytes>()->bytes);
  if (const auto* x = a.as<Timestamp>()) return order(x->ns, b.as<Timestamp>()->ns);
  if (const auto* x = a.as<DurationValue>()) return order(x->ns, b.as<DurationValue>()->ns);
  if (const auto* x = a.as<Quantity>()) return order(*x, *b.as<Quantity>());
  return std::nullopt;
}

std::string duration_text(std::int64_t ns) {
  // cel-go prints seconds: "90s", "1.5s".
  const bool negative = ns < 0;
  const std::uint64_t size = negative ? 0 - static_cast<std::uint64_t>(ns) : static_cast<std::uint64_t>(ns);
  std::string out = (negative ? "-" : "") + std::to_string(size / 1'000'000'000);
  if (const std::uint64_t part = size % 1'000'000'000; part != 0) {
    std::string digits = std::to_string(part);
    digits.insert(0, 9 - digits.size(), '0');
    while (digits.ends_with('0')) digits.pop_back();
    out += "." + digits;
  }
  return out + "s";
}

// Go's time.ParseDuration: [-+]?(number unit)+.
std::optional<std::int64_t> parse_duration(std::string_view text) {
  bool negative = false;
  if (text.starts_with('-') || text.starts_with('+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  if (text == "0") return 0;
  if (text.empty()) return std::nullopt;
  double total = 0;
  while (!text.empty()) {
    double number = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (error != std::errc() || number < 0) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    struct Unit {
      const char* name;
      double ns;
    };
    static constexpr Unit kUnits[] = {{"ns", 1},   {"us", 1e3}, {"\u00b5s", 1e3}, {"\u03bcs", 1e3},
                                      {"ms", 1e6}, {"s", 1e9},  {"m", 60e9},      {"h", 3600e9}};
    bool known = false;
    for (const Unit& unit : kUnits) {
      if (!text.starts_with(unit.name)) continue;
      total += number * unit.ns;
      text.remove_prefix(std::string_view(unit.name).size());
      known = true;
      break;
    }
    if (!known || total > 9.2e18) return std::nullopt;
  }
  const auto ns = static_cast<std::int64_t>(std::llround(total));
  return negative ? -ns : ns;
}

std::size_t utf8_length(std::string_view text) {
  std::size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
  return count;
}
std::optional<std::u32string> utf8_decode(std::string_view text) {
  std::u32string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80         ? 1
                               : (lead >> 5) == 6  ? 2
                               : (lead >> 4) == 14 ? 3
                               : (lead >> 3) == 30 ? 4
                                                   : 0;
    if (length == 0 || i + length > text.size()) return std::nullopt;
    char32_t code = length == 1 ? lead : lead & (0xFF >> (length + 1));
    for (std::size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xC0) != 0x80) return std::nullopt;
      code = code << 6 | (next & 0x3F);
    }
    out += code;
    i += length;
  }
  return out;
}
std::string utf8_encode(std::u32string_view text) {
  std::string out;
  for (const char32_t c : text) {
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else if (c < 0x800) {
      out += static_cast<char>(0xC0 | c >> 6);
      out += static_cast<char>(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
      out += static_cast<char>(0xE0 | c >> 12);
      out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
      out += static_cast<char>(0x80 | (c & 0x3F));
    } else {
      out += static_cast<char>(0xF0 | c >> 18);
      out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
      out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
      out += static_cast<char>(0x80 | (c & 0x3F));
    }
  }
  return out;
}

std::optional<Ip> parse_ip(const std::string& text) {
  Ip ip;
  if (text.find('%') != std::string::npos) return std::nullopt;
  if (inet_pton(AF_INET, text.c_str(), ip.bytes.data()) == 1) return ip;
  ip.v4 = false;
  if (inet_pton(AF_INET6, text.c_str(), ip.bytes.data()) != 1) return std::nullopt;
  // IPv4 in IPv6 is refused, as in upstream.
  static constexpr std::array<unsigned char, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  if (std::equal(kMapped.begin(), kMapped.end(), ip.bytes.begin())) return std::nullopt;
  return ip;
}
std::string ip_text(const Ip& ip) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(ip.v4 ? AF_INET : AF_INET6, ip.bytes.data(), text.data(), text.size());
  return text.data();
}

}  // namespace orchestra::api::cel
