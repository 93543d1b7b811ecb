// See value_rules.hpp.
#include "api/crd/value_rules.hpp"

#include <re2/re2.h>

#include <cmath>
#include <map>
#include <mutex>
#include <set>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr std::size_t kPatternsKept = 1000;

/// Compiled once per text; schemas repeat patterns and objects repeat schemas.
bool matches_pattern(std::string_view pattern, std::string_view text) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<const re2::RE2>, std::less<>> compiled;
  std::shared_ptr<const re2::RE2> found;
  {
    std::lock_guard lock(mutex);
    if (compiled.size() > kPatternsKept) compiled.clear();
    auto& slot = compiled[std::string(pattern)];
    if (!slot)
      slot = std::make_shared<re2::RE2>(re2::StringPiece(pattern.data(), pattern.size()), re2::RE2::Quiet);
    found = slot;
  }
  return !found->ok() || re2::RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), *found);
}

std::size_t runes(std::string_view text) {
  std::size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
  return count;
}

const char* type_of(const json::value& value) {
  switch (value.kind()) {
    case json::kind::null:
      return "null";
    case json::kind::bool_:
      return "boolean";
    case json::kind::string:
      return "string";
    case json::kind::array:
      return "array";
    case json::kind::object:
      return "object";
    case json::kind::double_:
      return std::floor(value.get_double()) == value.get_double() ? "integer" : "number";
    default:
      return "integer";
  }
}

double number_of(const json::value& value) {
  return value.is_double()   ? value.get_double()
         : value.is_int64()  ? static_cast<double>(value.get_int64())
         : value.is_uint64() ? static_cast<double>(value.get_uint64())
                             : 0;
}

std::string in_body(const FieldPath& path, std::string_view what) {
  return path.to_string() + " in body " + std::string(what);
}

void check_number(const json::object& rules, const json::value& value, const FieldPath& path,
                  FieldErrors& errors) {
  const double number = number_of(value);
  if (const json::value* bound = rules.if_contains("maximum")) {
    const bool exclusive = flag_of(rules, "exclusiveMaximum");
    if (exclusive ? number >= number_of(*bound) : number > number_of(*bound)) {
      errors.invalid(path, value,
                     in_body(path, exclusive ? "should be less than " : "should be less than or equal to ") +
                         to_json(*bound));
    }
  }
  if (const json::value* bound = rules.if_contains("minimum")) {
    const bool exclusive = flag_of(rules, "exclusiveMinimum");
    if (exclusive ? number <= number_of(*bound) : number < number_of(*bound)) {
      errors.invalid(
          path, value,
          in_body(path, exclusive ? "should be greater than " : "should be greater than or equal to ") +
              to_json(*bound));
    }
  }
  if (const json::value* factor = rules.if_contains("multipleOf");
      factor != nullptr && number_of(*factor) > 0) {
    const double quotient = number / number_of(*factor);
    if (std::abs(quotient - std::round(quotient)) > 1e-9)
      errors.invalid(path, value, in_body(path, "should be a multiple of ") + to_json(*factor));
  }
}

bool has_format(std::string_view format, std::string_view text) {
  static const std::map<std::string_view, std::string_view> kPatterns = {
      {"date", "^\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])$"},
      {"email", "^[^@\\s]+@[^@\\s]+$"},
      {"hostname",
       "^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$"},
      {"uuid", "^(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"},
      {"uri", "^[A-Za-z][A-Za-z0-9+.-]*:|^/"},
      {"byte", "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"},
      {"mac", "^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$"},
      {"duration", "^[-+]?(\\d+(\\.\\d+)?(ns|us|µs|ms|s|m|h))+$|^0$"},
  };
  if (format == "date-time" || format == "datetime") return parse_time(text).has_value();
  if (format == "ipv4") return is_ipv4(text);
  if (format == "ipv6") return is_ipv6(text);
  if (format == "k8s-short-name") return check_dns1123_label(text).empty();
  if (format == "k8s-long-name") return check_dns1123_subdomain(text).empty();
  const auto found = kPatterns.find(format);
  return found == kPatterns.end() || matches_pattern(found->second, text);
}

void check_string(const json::object& rules, const json::value& value, const FieldPath& path,
                  FieldErrors& errors) {
  const std::string_view text = value.get_string();
  const auto length = static_cast<std::int64_t>(runes(text));
  if (const std::int64_t most = int_of(rules, "maxLength", INT64_MAX); length > most)
    errors.too_long(path, static_cast<std::size_t>(most));
  if (const std::int64_t least = int_of(rules, "minLength"); length < least) {
    errors.invalid(path, text, in_body(path, "should be at least " + std::to_string(least) + " chars long"));
  }
  if (const std::string_view pattern = text_of(rules, "pattern");
      !pattern.empty() && !matches_pattern(pattern, text)) {
    errors.invalid(path, text, in_body(path, "should match '" + std::string(pattern) + "'"));
  }
  if (const std::string_view format = text_of(rules, "format");
      !format.empty() && !has_format(format, text)) {
    errors.invalid(path, text,
                   in_body(path, "must be of type " + std::string(format) + ": " + to_json(value)));
  }
}

/// Two items of a set, or of a map by its keys, must not be the same.
void check_unique(const json::object& rules, const json::array& list, const FieldPath& path,
                  FieldErrors& errors) {
  const std::string_view kind = text_of(rules, "x-kubernetes-list-type");
  if (kind != "set" && kind != "map") return;
  std::set<std::string> seen;
  const json::object& properties = object_or_empty(object_or_empty(rules, "items"), "properties");
  std::size_t index = 0;
  for (const json::value& item : list) {
    const FieldPath at = path[index++];
    json::value identity = item;
    if (kind == "map") {
      json::object keys;
      for (const json::value& key : array_or_empty(rules, "x-kubernetes-list-map-keys")) {
        const std::string_view name = key.get_string();
        const json::value* found = item.is_object() ? item.get_object().if_contains(name) : nullptr;
        if (found == nullptr) found = object_or_empty(properties, name).if_contains("default");
        if (found != nullptr) keys[name] = *found;
      }
      identity = std::move(keys);
    }
    if (!seen.insert(to_json(identity)).second) errors.duplicate(at, identity);
  }
}

void check_array(const json::object& rules, const json::array& list, const FieldPath& path,
                 FieldErrors& errors) {
  const auto size = static_cast<std::int64_t>(list.size());
  if (const std::int64_t most = int_of(rules, "maxItems", INT64_MAX); size > most)
    errors.too_many(path, list.size(), static_cast<std::size_t>(most));
  if (const std::int64_t least = int_of(rules, "minItems"); size < least) {
    errors.invalid(path, json::value(size),
                   in_body(path, "should have at least " + std::to_string(least) + " items"));
  }
  check_unique(rules, list, path, errors);
}

void check_object(const json::object& rules, const json::object& object, const FieldPath& path,
                  FieldErrors& errors) {
  const auto size = static_cast<std::int64_t>(object.size());
  if (const std::int64_t most = int_of(rules, "maxProperties", INT64_MAX); size > most)
    errors.too_many(path, object.size(), static_cast<std::size_t>(most));
  if (const std::int64_t least = int_of(rules, "minProperties"); size < least) {
    errors.invalid(path, json::value(size),
                   in_body(path, "should have at least " + std::to_string(least) + " properties"));
  }
  for (const json::value& name : array_or_empty(rules, "required")) {
    if (name.is_string() && !object.contains(name.get_string()))
      errors.required(path / std::string_view(name.get_string()));
  }
}

bool has_type(std::string_view wanted, const json::value& value) {
  const std::string_view type = type_of(value);
  return wanted.empty() || wanted == type || (wanted == "number" && type == "integer");
}

/// A logical part applies to the whole value: here its own properties and items are walked.
bool satisfies(const json::object& rules, const json::value& value, const FieldPath& path, int depth) {
  if (depth > 64) return false;
  FieldErrors errors;
  check_value(rules, value, path, errors);
  if (!errors.empty()) return false;
  if (value.is_object()) {
    for (const auto& [name, below] : object_or_empty(rules, "properties")) {
      const json::value* member = value.get_object().if_contains(name);
      if (member != nullptr && below.is_object() &&
          !satisfies(below.get_object(), *member, path / std::string_view(name), depth + 1)) {
        return false;
      }
    }
  }
  if (const json::object* items = object_of(rules, "items"); items != nullptr && value.is_array()) {
    std::size_t index = 0;
    for (const json::value& item : value.get_array()) {
      if (!satisfies(*items, item, path[index++], depth + 1)) return false;
    }
  }
  return true;
}

void check_logic(const json::object& rules, const json::value& value, const FieldPath& path,
                 FieldErrors& errors) {
  const auto count = [&](const char* word) {
    std::size_t good = 0;
    for_each_object(rules, word, [&](std::size_t, const json::object& part) {
      good += satisfies(part, value, path, 0) ? 1 : 0;
    });
    return good;
  };
  const std::string quoted = "\"" + path.to_string() + "\" ";
  if (const std::size_t all = array_or_empty(rules, "allOf").size(); all > 0 && count("allOf") < all)
    errors.invalid(path, "", quoted + "must validate all the schemas (allOf)");
  if (!array_or_empty(rules, "anyOf").empty() && count("anyOf") == 0)
    errors.invalid(path, "", quoted + "must validate at least one schema (anyOf)");
  if (!array_or_empty(rules, "oneOf").empty()) {
    const std::size_t good = count("oneOf");
    if (good != 1) {
      errors.invalid(
          path, "",
          quoted + "must validate one and only one schema (oneOf). " +
              (good == 0 ? "Found none valid" : "Found " + std::to_string(good) + " valid alternatives"));
    }
  }
  if (const json::object* part = object_of(rules, "not"); part != nullptr && satisfies(*part, value, path, 0))
    errors.invalid(path, "", quoted + "must not validate the schema (not)");
}

}  // namespace

void check_value(const json::object& rules, const json::value& value, const FieldPath& path,
                 FieldErrors& errors) {
  if (value.is_null() && flag_of(rules, "nullable")) return;
  const std::string_view wanted = text_of(rules, "type");
  if (flag_of(rules, "x-kubernetes-int-or-string")) {
    if (!value.is_string() && std::string_view(type_of(value)) != "integer") {
      return errors.type_invalid(
          path, json::value(type_of(value)),
          in_body(path, "must be of type integer,string: \"" + std::string(type_of(value)) + "\""));
    }
  } else if (!has_type(wanted, value)) {
    return errors.type_invalid(
        path, json::value(type_of(value)),
        in_body(path, "must be of type " + std::string(wanted) + ": \"" + type_of(value) + "\""));
  }
  if (const json::array* words = array_of(rules, "enum")) {
    if (std::find(words->begin(), words->end(), value) == words->end()) {
      std::vector<std::string> texts;
      for (const json::value& word : *words)
        texts.push_back(word.is_string() ? std::string(word.get_string()) : to_json(word));
      errors.not_supported(path, value, {texts.begin(), texts.end()});
    }
  }
  if (value.is_number()) check_number(rules, value, path, errors);
  if (value.is_string()) check_string(rules, value, path, errors);
  if (value.is_array()) check_array(rules, value.get_array(), path, errors);
  if (value.is_object()) check_object(rules, value.get_object(), path, errors);
  check_logic(rules, value, path, errors);
}

}  // namespace orchestra::api
