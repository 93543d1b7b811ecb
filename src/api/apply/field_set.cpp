// Field sets and their text: see field_set.hpp.
#include "api/apply/field_set.hpp"

#include <algorithm>

#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr int kDepthMax = 512;

int rank_of(const json::value& value) {
  if (value.is_number()) return 0;
  if (value.is_string()) return 1;
  if (value.is_bool()) return 2;
  return value.is_null() ? 4 : 3;
}

/// Numbers by size, texts by bytes; kinds apart.
int compare_values(const json::value& a, const json::value& b) {
  if (rank_of(a) != rank_of(b)) return rank_of(a) < rank_of(b) ? -1 : 1;
  if (a.is_int64() && b.is_int64())
    return a.get_int64() == b.get_int64() ? 0 : a.get_int64() < b.get_int64() ? -1 : 1;
  if (a.is_string()) return a.get_string().compare(b.get_string());
  return orchestra::to_json(a).compare(orchestra::to_json(b));
}

int compare_keys(const json::object& a, const json::object& b) {
  auto x = a.begin();
  auto y = b.begin();
  for (; x != a.end() && y != b.end(); ++x, ++y) {
    if (const int names = x->key().compare(y->key()); names != 0) return names;
    if (const int values = compare_values(x->value(), y->value()); values != 0) return values;
  }
  return x == a.end() ? (y == b.end() ? 0 : -1) : 1;
}

json::object sorted(const json::object& keys) {
  std::vector<std::string> names;
  for (const auto& [name, value] : keys) names.emplace_back(name);
  std::sort(names.begin(), names.end());
  json::object out;
  for (const std::string& name : names) out[name] = keys.at(name);
  return out;
}

void collect_paths(const FieldSet& set, const std::string& prefix, std::vector<std::string>& out) {
  for (const auto& [element, below] : set.children) {
    const std::string path = prefix + element.path_text();
    if (below.member) out.push_back(path);
    collect_paths(below, path, out);
  }
}

Result<FieldSet> read(const json::value& fields, int depth) {
  if (!fields.is_object() || depth > kDepthMax)
    return Error(Error::invalid, "api", "fieldsV1 must be nested objects of at most 512 levels");
  FieldSet set;
  for (const auto& [key, below] : fields.get_object()) {
    if (std::string_view(key) == ".") {
      set.member = true;
      continue;
    }
    const auto element = PathElement::parse(key);
    if (!element)
      return Error(Error::invalid, "api", "fieldsV1 has a path element that is none: " + std::string(key));
    ORC_ASSIGN(FieldSet child, read(below, depth + 1));
    // {} is a member without longer paths.
    if (child.children.empty()) child.member = true;
    set.children[*element] = std::move(child);
  }
  return set;
}

}  // namespace

bool operator<(const PathElement& a, const PathElement& b) {
  if (a.kind != b.kind) return a.kind < b.kind;
  switch (a.kind) {
    case PathElement::Kind::field:
      return a.name < b.name;
    case PathElement::Kind::key:
      return compare_keys(a.value.get_object(), b.value.get_object()) < 0;
    default:
      return compare_values(a.value, b.value) < 0;
  }
}

std::optional<PathElement> PathElement::parse(std::string_view text) {
  if (text.size() < 2 || text[1] != ':') return std::nullopt;
  const std::string_view rest = text.substr(2);
  if (text[0] == 'f') return field(rest);
  auto value = parse_json(rest);
  if (!value) return std::nullopt;
  if (text[0] == 'k' && value->is_object()) return PathElement{Kind::key, {}, sorted(value->get_object())};
  if (text[0] == 'v') return PathElement{Kind::value, {}, std::move(*value)};
  if (text[0] == 'i' && value->is_int64()) return PathElement{Kind::index, {}, std::move(*value)};
  return std::nullopt;
}

std::string PathElement::text() const {
  switch (kind) {
    case Kind::field:
      return "f:" + name;
    case Kind::key:
      return "k:" + orchestra::to_json(value);
    case Kind::value:
      return "v:" + orchestra::to_json(value);
    case Kind::index:
      break;
  }
  return "i:" + orchestra::to_json(value);
}

std::string PathElement::path_text() const {
  if (kind == Kind::field) return "." + name;
  if (kind == Kind::value) return "[=" + orchestra::to_json(value) + "]";
  if (kind == Kind::index) return "[" + orchestra::to_json(value) + "]";
  std::string out = "[";
  for (const auto& [key, each] : value.get_object()) {
    if (out.size() > 1) out += ",";
    out += std::string(key) + "=" + orchestra::to_json(each);
  }
  return out + "]";
}

void FieldSet::tidy() {
  for (auto child = children.begin(); child != children.end();) {
    child->second.tidy();
    child = child->second.empty() ? children.erase(child) : std::next(child);
  }
}

std::vector<std::string> FieldSet::paths() const {
  std::vector<std::string> out;
  collect_paths(*this, "", out);
  return out;
}

FieldSet FieldSet::united(const FieldSet& a, const FieldSet& b) {
  FieldSet out = a;
  out.member = a.member || b.member;
  for (const auto& [element, below] : b.children) {
    const auto found = out.children.find(element);
    if (found == out.children.end()) {
      out.children.emplace(element, below);
    } else {
      found->second = united(found->second, below);
    }
  }
  return out;
}

FieldSet FieldSet::common(const FieldSet& a, const FieldSet& b) {
  FieldSet out;
  out.member = a.member && b.member;
  for (const auto& [element, below] : a.children) {
    const auto found = b.children.find(element);
    if (found == b.children.end()) continue;
    FieldSet shared = common(below, found->second);
    if (!shared.empty()) out.children.emplace(element, std::move(shared));
  }
  return out;
}

FieldSet FieldSet::without(const FieldSet& a, const FieldSet& b) {
  FieldSet out;
  out.member = a.member && !b.member;
  for (const auto& [element, below] : a.children) {
    const auto found = b.children.find(element);
    FieldSet left = found == b.children.end() ? below : without(below, found->second);
    if (!left.empty()) out.children.emplace(element, std::move(left));
  }
  return out;
}

bool operator==(const FieldSet& a, const FieldSet& b) {
  return a.member == b.member && std::equal(a.children.begin(), a.children.end(), b.children.begin(),
                                            b.children.end(), [](const auto& x, const auto& y) {
                                              return !(x.first < y.first) && !(y.first < x.first) &&
                                                     x.second == y.second;
                                            });
}

Result<FieldSet> FieldSet::from_json(const json::value& fields) { return read(fields, 0); }

json::object FieldSet::to_json() const {
  json::object out;
  if (member && !children.empty()) out["."] = json::object();
  for (const auto& [element, below] : children) out[element.text()] = below.to_json();
  return out;
}

}  // namespace orchestra::api
