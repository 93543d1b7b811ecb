#pragma once
// Values of the Common Expression Language (cel-spec, langdef.md), with the types that Kubernetes adds.
//
// JSON objects and arrays are seen through, never copied: a value points into a tree that lives as long as
// the evaluation. Errors are values too, for `&&`, `||` and the macros may absorb them.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "api/schema.hpp"
#include "base/json.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::api::cel {

struct Value;
using List = std::shared_ptr<const std::vector<Value>>;
/// In order of insertion; keys are bool, int, uint or string.
using Map = std::shared_ptr<const std::vector<std::pair<Value, Value>>>;

struct Null {};
struct Bytes {
  std::string bytes;
};
struct Timestamp {
  std::int64_t ns = 0;
};
struct DurationValue {
  std::int64_t ns = 0;
};
struct TypeName {
  std::string name;
};
struct Failure {
  std::string message;
  bool over_budget = false;
};
struct Optional {
  std::shared_ptr<const Value> value;  ///< null: none
};
struct Ip {
  bool v4 = true;
  std::array<unsigned char, 16> bytes{};
};
struct Cidr {
  Ip ip;
  int prefix = 0;
};
struct Url {
  std::string scheme, host, port, path, query, text;
};
struct Format {
  std::string name;
};
/// A JSON object or array that is looked through.
struct Json {
  const json::value* value = nullptr;
  SchemaRef schema;  ///< may be empty
};
/// Steps of `authorizer...`; the answer of a check.
struct AccessQuery {
  enum class Stage : std::uint8_t { authorizer, path, group, resource, decision };
  Stage stage = Stage::authorizer;
  std::string user_ns, user_name;  ///< of authorizer.serviceAccount
  std::string path, group, resource, subresource, ns, name, verb;
  bool allowed = false;
  std::string reason;
};

struct Value {
  std::variant<Null, bool, std::int64_t, std::uint64_t, double, std::string, Bytes, List, Map, Json,
               Timestamp, DurationValue, TypeName, Optional, Quantity, Ip, Cidr, Url, Format, AccessQuery,
               Failure>
      data;
  Value() = default;
  template <class T>
  requires(!std::is_same_v<std::decay_t<T>, Value>) Value(T&& value) : data(std::forward<T>(value)) {}
  Value(const char* text) : data(std::string(text)) {}
  template <class T>
  const T* as() const {
    return std::get_if<T>(&data);
  }
  bool failed() const { return std::holds_alternative<Failure>(data); }
};

Value from_json(const json::value& value, SchemaRef schema = {});
/// Null for values that JSON cannot hold.
json::value to_json_value(const Value& value);
const char* type_name(const Value& value);
Value failure(std::string message);
Value no_overload(std::string_view function);

bool equal(const Value& a, const Value& b);
/// nullopt: not comparable.
std::optional<int> compare(const Value& a, const Value& b);

bool is_list(const Value& value);
bool is_map(const Value& value);
std::size_t size_of(const Value& value);  ///< of a list, map, string, bytes
Value item(const Value& list, std::size_t index);
std::optional<Value> member(const Value& map, const Value& key);
/// Keys of a map as values.
std::vector<Value> keys_of(const Value& map);
Value make_list(std::vector<Value> items);
Value make_map(std::vector<std::pair<Value, Value>> members);

std::string duration_text(std::int64_t ns);
std::optional<std::int64_t> parse_duration(std::string_view text);
std::size_t utf8_length(std::string_view text);
std::optional<std::u32string> utf8_decode(std::string_view text);
std::string utf8_encode(std::u32string_view text);
std::optional<Ip> parse_ip(const std::string& text);
std::string ip_text(const Ip& ip);

}  // namespace orchestra::api::cel
