// Label selectors, times, conditions and comparison by meaning; see objects.hpp.
#include "controllers/common/objects.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/whole_number.hpp"

namespace orchestra::controllers {

namespace {

std::vector<std::string> strings_of(const json::array* array) {
  std::vector<std::string> out;
  if (array == nullptr) return out;
  for (const json::value& value : *array) {
    if (value.is_string()) out.emplace_back(value.get_string());
  }
  return out;
}

}  // namespace

Result<LabelSelector> LabelSelector::parse(const json::value* selector) {
  LabelSelector out;
  if (selector == nullptr || !selector->is_object()) {
    out.nothing_ = true;
    return out;
  }
  if (const json::object* labels = object_at(*selector, "/matchLabels")) {
    for (const auto& [key, value] : *labels) {
      if (!value.is_string()) continue;
      out.requirements_.push_back({std::string(key), Op::in, {std::string(value.get_string())}});
    }
  }
  const json::array* expressions = array_at(*selector, "/matchExpressions");
  if (expressions == nullptr) return out;
  for (const json::value& expression : *expressions) {
    const std::string op = string_at(expression, "/operator");
    Requirement requirement{string_at(expression, "/key"), Op::in,
                            strings_of(array_at(expression, "/values"))};
    if (op == "NotIn") {
      requirement.op = Op::not_in;
    } else if (op == "Exists") {
      requirement.op = Op::exists;
    } else if (op == "DoesNotExist") {
      requirement.op = Op::absent;
    } else if (op != "In") {
      return Error(Error::invalid, "controllers",
                   "label selector: operator '" + op + "' is none of In, NotIn, Exists, DoesNotExist");
    }
    out.requirements_.push_back(std::move(requirement));
  }
  return out;
}

LabelSelector LabelSelector::from_map(const json::object* labels) {
  LabelSelector out;
  if (labels == nullptr || labels->empty()) {
    out.nothing_ = true;
    return out;
  }
  for (const auto& [key, value] : *labels) {
    if (!value.is_string()) continue;
    out.requirements_.push_back({std::string(key), Op::in, {std::string(value.get_string())}});
  }
  return out;
}

LabelViews LabelSelector::having() const {
  LabelViews views;
  for (const Requirement& each : requirements_) {
    if (each.op == Op::in && each.values.size() == 1) views.emplace_back(each.key, each.values.front());
  }
  return views;
}

bool LabelSelector::matches(const LabelMap& labels) const {
  if (nothing_) return false;
  return std::all_of(requirements_.begin(), requirements_.end(), [&](const Requirement& r) {
    const auto found = labels.find(r.key);
    const bool present = found != labels.end();
    const bool listed =
        present && std::find(r.values.begin(), r.values.end(), found->second) != r.values.end();
    switch (r.op) {
      case Op::in:
        return listed;
      case Op::not_in:
        return !listed;
      case Op::exists:
        return present;
      case Op::absent:
        return !present;
    }
    return false;
  });
}

// Days since 1970-01-01 of a civil date, and back (Howard Hinnant, "chrono-Compatible Low-Level Date
// Algorithms"): no time zone data, no locale.
namespace {
std::int64_t days_from_civil(std::int64_t y, unsigned m, unsigned d) {
  y -= m <= 2 ? 1 : 0;
  const std::int64_t era = (y >= 0 ? y : y - 399) / 400;
  const unsigned yoe = static_cast<unsigned>(y - era * 400);
  const unsigned doy = (153 * (m + (m > 2 ? -3U : 9U)) + 2) / 5 + d - 1;
  const unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
  return era * 146097 + static_cast<std::int64_t>(doe) - 719468;
}

struct Civil {
  std::int64_t year;
  unsigned month, day, hour, minute, second;
};
Civil civil_from_seconds(std::int64_t seconds) {
  std::int64_t days = seconds / 86400;
  std::int64_t rest = seconds % 86400;
  if (rest < 0) {
    rest += 86400;
    --days;
  }
  const std::int64_t z = days + 719468;
  const std::int64_t era = (z >= 0 ? z : z - 146096) / 146097;
  const auto doe = static_cast<unsigned>(z - era * 146097);
  const unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  const unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  const unsigned mp = (5 * doy + 2) / 153;
  Civil c{};
  c.day = doy - (153 * mp + 2) / 5 + 1;
  c.month = mp < 10 ? mp + 3 : mp - 9;
  c.year = static_cast<std::int64_t>(yoe) + era * 400 + (c.month <= 2 ? 1 : 0);
  c.hour = static_cast<unsigned>(rest / 3600);
  c.minute = static_cast<unsigned>(rest / 60 % 60);
  c.second = static_cast<unsigned>(rest % 60);
  return c;
}

std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

// Reads exactly `count` digits.
bool digits(std::string_view& text, std::size_t count, unsigned& out) {
  if (text.size() < count) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + count, out);
  if (error != std::errc{} || end != text.data() + count) return false;
  text.remove_prefix(count);
  return true;
}
bool literal(std::string_view& text, char a, char b) {
  if (text.empty() || (text[0] != a && text[0] != b)) return false;
  text.remove_prefix(1);
  return true;
}
}  // namespace

std::optional<std::int64_t> parse_time(std::string_view text) {
  unsigned year, month, day, hour, minute, second;
  const bool read = digits(text, 4, year) && literal(text, '-', '-') && digits(text, 2, month) &&
                    literal(text, '-', '-') && digits(text, 2, day) && literal(text, 'T', 't') &&
                    digits(text, 2, hour) && literal(text, ':', ':') && digits(text, 2, minute) &&
                    literal(text, ':', ':') && digits(text, 2, second);
  if (!read || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60) {
    return std::nullopt;
  }
  std::int64_t nanoseconds = 0;
  if (!text.empty() && text[0] == '.') {
    text.remove_prefix(1);
    std::int64_t unit = 100'000'000;
    while (!text.empty() && text[0] >= '0' && text[0] <= '9') {
      nanoseconds += (text[0] - '0') * unit;
      unit /= 10;
      text.remove_prefix(1);
    }
  }
  std::int64_t offset = 0;
  if (text.size() == 6 && (text[0] == '+' || text[0] == '-')) {
    const int sign = text[0] == '+' ? 1 : -1;
    text.remove_prefix(1);
    unsigned hours, minutes;
    if (!digits(text, 2, hours) || !literal(text, ':', ':') || !digits(text, 2, minutes)) return std::nullopt;
    offset = sign * static_cast<std::int64_t>(hours * 3600 + minutes * 60);
  } else if (!literal(text, 'Z', 'z')) {
    return std::nullopt;
  }
  if (!text.empty()) return std::nullopt;
  const std::int64_t seconds = days_from_civil(year, month, day) * 86400 +
                               static_cast<std::int64_t>(hour * 3600 + minute * 60 + second) - offset;
  return seconds * 1'000'000'000 + nanoseconds;
}

std::string format_time(std::int64_t wall_ns) {
  const Civil c = civil_from_seconds(floor_div(wall_ns, 1'000'000'000));
  char text[40];
  std::snprintf(text, sizeof text, "%04lld-%02u-%02uT%02u:%02u:%02uZ", static_cast<long long>(c.year),
                c.month, c.day, c.hour, c.minute, c.second);
  return text;
}

std::string format_micro_time(std::int64_t wall_ns) {
  const std::int64_t seconds = floor_div(wall_ns, 1'000'000'000);
  std::string text = format_time(wall_ns);
  char fraction[24];
  const auto micros = static_cast<long long>((wall_ns - seconds * 1'000'000'000) / 1000);
  std::snprintf(fraction, sizeof fraction, ".%06lldZ", micros);
  text.pop_back();
  return text + fraction;
}

std::optional<std::int64_t> time_at(const json::value& root, std::string_view pointer) {
  return parse_time(string_at(root, pointer));
}

namespace {
json::value& slot_in(json::value& root, std::string_view pointer) {
  json::value* at = &root;
  while (!pointer.empty()) {
    pointer.remove_prefix(1);
    const auto slash = pointer.find('/');
    const std::string_view name = pointer.substr(0, slash);
    pointer = slash == std::string_view::npos ? std::string_view() : pointer.substr(slash);
    if (!at->is_object()) at->emplace_object();
    at = &at->get_object()[name];
  }
  return *at;
}
}  // namespace

json::object& object_in(json::value& root, std::string_view pointer) {
  json::value& slot = slot_in(root, pointer);
  return slot.is_object() ? slot.get_object() : slot.emplace_object();
}

json::array& array_in(json::value& root, std::string_view pointer) {
  json::value& slot = slot_in(root, pointer);
  return slot.is_array() ? slot.get_array() : slot.emplace_array();
}

std::optional<std::string> annotation(const Object& object, const std::string& name) {
  const auto found = object.annotations().find(name);
  if (found == object.annotations().end()) return std::nullopt;
  return found->second;
}

std::optional<std::int64_t> to_int(std::string_view text) { return whole_number(text); }

namespace {
// An empty object may mean something (emptyDir: {}, namespaceSelector: {}); an empty list never does.
bool means_nothing(const json::value& value) {
  return value.is_null() || (value.is_array() && value.get_array().empty());
}

void append_canonical(const json::value& value, std::string& out) {
  if (const json::object* object = value.if_object()) {
    std::vector<const json::key_value_pair*> members;
    for (const auto& member : *object) {
      if (!means_nothing(member.value())) members.push_back(&member);
    }
    std::sort(members.begin(), members.end(),
              [](const auto* a, const auto* b) { return a->key() < b->key(); });
    out += '{';
    for (const auto* member : members) {
      out += to_json(json::value(member->key()));
      out += ':';
      append_canonical(member->value(), out);
      out += ',';
    }
    out += '}';
  } else if (const json::array* array = value.if_array()) {
    out += '[';
    for (const json::value& item : *array) {
      append_canonical(item, out);
      out += ',';
    }
    out += ']';
  } else {
    out += to_json(value);
  }
}
}  // namespace

std::string canonical_text(const json::value& value) {
  std::string out;
  append_canonical(value, out);
  return out;
}

bool same_meaning(const json::value* a, const json::value* b) {
  const bool no_a = a == nullptr || means_nothing(*a);
  const bool no_b = b == nullptr || means_nothing(*b);
  if (no_a || no_b) return no_a == no_b;
  return *a == *b || canonical_text(*a) == canonical_text(*b);
}

std::uint32_t fnv1a_32(std::string_view bytes) {
  std::uint32_t hash = 2166136261U;
  for (const char byte : bytes) {
    hash ^= static_cast<unsigned char>(byte);
    hash *= 16777619U;
  }
  return hash;
}

std::string safe_encode(std::uint32_t number) {
  constexpr std::string_view kLetters = "bcdfghjklmnpqrstvwxz2456789";
  std::string text = std::to_string(number);
  for (char& letter : text) letter = kLetters[static_cast<unsigned char>(letter) % kLetters.size()];
  return text;
}

json::object controller_reference(const Object& owner) {
  return {{"apiVersion", owner.api_version()},
          {"kind", owner.kind()},
          {"name", owner.name()},
          {"uid", owner.uid()},
          {"controller", true},
          {"blockOwnerDeletion", true}};
}

Object adopted(const Object& object, const Object& owner) {
  json::value copy = tree(object);
  array_in(copy, "/metadata/ownerReferences").push_back(controller_reference(owner));
  return object_from_tree(std::move(copy));
}

Object released(const Object& object, const std::string& uid) {
  json::value copy = tree(object);
  json::array& owners = array_in(copy, "/metadata/ownerReferences");
  for (auto it = owners.begin(); it != owners.end();) {
    it = string_at(*it, "/uid") == uid ? owners.erase(it) : it + 1;
  }
  if (owners.empty()) object_in(copy, "/metadata").erase("ownerReferences");
  return object_from_tree(std::move(copy));
}

const json::object* find_condition(const json::value& root, std::string_view type) {
  const json::array* conditions = array_at(root, "/status/conditions");
  if (conditions == nullptr) return nullptr;
  for (const json::value& condition : *conditions) {
    const json::object* each = condition.if_object();
    const json::value* name = each == nullptr ? nullptr : each->if_contains("type");
    if (name != nullptr && name->is_string() && std::string_view(name->get_string()) == type) return each;
  }
  return nullptr;
}

bool set_condition(json::array& conditions, const Condition& condition, std::int64_t wall_ns,
                   bool update_time) {
  const std::string now = format_time(wall_ns);
  json::object fresh{{"type", condition.type}, {"status", condition.status}};
  if (update_time) fresh["lastUpdateTime"] = now;
  fresh["lastTransitionTime"] = now;
  if (!condition.reason.empty()) fresh["reason"] = condition.reason;
  if (!condition.message.empty()) fresh["message"] = condition.message;
  for (json::value& existing : conditions) {
    if (string_at(existing, "/type") != condition.type) continue;
    const bool same_status = string_at(existing, "/status") == condition.status;
    if (same_status && string_at(existing, "/reason") == condition.reason &&
        string_at(existing, "/message") == condition.message) {
      return false;
    }
    const std::string since = string_at(existing, "/lastTransitionTime");
    if (same_status && !since.empty()) fresh["lastTransitionTime"] = since;
    existing = std::move(fresh);
    return true;
  }
  conditions.push_back(std::move(fresh));
  return true;
}

void remove_condition(json::array& conditions, std::string_view type) {
  for (auto it = conditions.begin(); it != conditions.end();) {
    it = string_at(*it, "/type") == type ? conditions.erase(it) : it + 1;
  }
}

std::int64_t resolve_percent(const json::value* value, std::int64_t total, bool round_up) {
  if (value == nullptr) return 0;
  if (value->is_int64()) return value->get_int64();
  if (value->is_uint64()) return static_cast<std::int64_t>(value->get_uint64());
  if (!value->is_string()) return 0;
  std::string_view text = value->get_string();
  const bool percent = !text.empty() && text.back() == '%';
  if (percent) text.remove_suffix(1);
  const std::int64_t number = to_int(text).value_or(0);
  if (!percent) return number;
  return round_up ? (number * total + 99) / 100 : number * total / 100;
}

}  // namespace orchestra::controllers
