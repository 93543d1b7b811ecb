// See path_cell.hpp. The JSONPath that columns use (client-go util/jsonpath): names, ['name'], [index], [*],
// and a filter [?(@.type=="Ready")]; several results are joined by commas, as kubectl shows them.
#include "api/crd/path_cell.hpp"

#include "api/meta.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

using Found = std::vector<const json::value*>;

Found children(const Found& from, std::string_view name) {
  Found out;
  for (const json::value* value : from) {
    if (name == "*") {
      if (value->is_array())
        for (const json::value& item : value->get_array()) out.push_back(&item);
      if (value->is_object())
        for (const auto& member : value->get_object()) out.push_back(&member.value());
      continue;
    }
    const json::value* member = value->is_object() ? value->get_object().if_contains(name) : nullptr;
    if (member != nullptr) out.push_back(member);
  }
  return out;
}

std::string_view unquoted(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'') && text.back() == text.front())
    return text.substr(1, text.size() - 2);
  return text;
}

std::string text_of_value(const json::value& value) {
  return value.is_string() ? std::string(value.get_string()) : to_json(value);
}

/// `?(@.type=="Ready")`, `?(@.ready==true)`
Found filtered(const Found& from, std::string_view filter) {
  Found out;
  if (!filter.starts_with("?(") || !filter.ends_with(')')) return out;
  filter = filter.substr(2, filter.size() - 3);
  const bool differs = filter.find("!=") != std::string_view::npos;
  const std::size_t at = filter.find(differs ? "!=" : "==");
  std::string_view path = unquoted(filter.substr(0, at));
  if (at == std::string_view::npos || !path.starts_with("@.")) return out;
  path.remove_prefix(2);
  const std::string_view wanted = unquoted(filter.substr(at + 2));
  for (const json::value* value : from) {
    if (!value->is_array()) continue;
    for (const json::value& item : value->get_array()) {
      Found inner{&item};
      for (const std::string_view name : split_words(path, '.')) inner = children(inner, name);
      const bool same = !inner.empty() && text_of_value(*inner.front()) == wanted;
      if (!inner.empty() && same != differs) out.push_back(&item);
    }
  }
  return out;
}

Found indexed(const Found& from, std::string_view text) {
  if (text == "*") return children(from, "*");
  if (text.starts_with('?')) return filtered(from, text);
  if (!text.empty() && (text.front() == '\'' || text.front() == '"')) return children(from, unquoted(text));
  Found out;
  const bool negative = text.starts_with('-');
  std::size_t index = 0;
  for (const char c : text.substr(negative ? 1 : 0)) {
    if (c < '0' || c > '9' || index > 1'000'000) return out;
    index = index * 10 + static_cast<std::size_t>(c - '0');
  }
  for (const json::value* value : from) {
    if (!value->is_array() || index > value->get_array().size()) continue;
    const std::size_t place = negative ? value->get_array().size() - index : index;
    if (place < value->get_array().size()) out.push_back(&value->get_array()[place]);
  }
  return out;
}

Found at_path(const json::value& root, std::string_view path) {
  Found found{&root};
  while (!path.empty() && !found.empty()) {
    if (path.front() == '.') {
      path.remove_prefix(1);
      std::string name;
      std::size_t i = 0;
      for (; i < path.size() && path[i] != '.' && path[i] != '['; ++i) {
        if (path[i] == '\\' && i + 1 < path.size()) ++i;
        name += path[i];
      }
      path.remove_prefix(i);
      if (!name.empty()) found = children(found, name);
    } else if (path.front() == '[') {
      const std::size_t end = path.find(']');
      if (end == std::string_view::npos) return {};
      found = indexed(found, path.substr(1, end - 1));
      path.remove_prefix(end + 1);
    } else {
      return {};
    }
  }
  return found;
}

}  // namespace

json::value path_cell(const Column& column, const json::object& object, Now now) {
  const json::value root(object);
  const Found found = at_path(root, column.json_path);
  if (found.empty()) return nullptr;
  const json::value& first = *found.front();
  if (column.type == "integer") return first.is_number() ? first : json::value(nullptr);
  if (column.type == "number") return first.is_number() ? first : json::value(nullptr);
  if (column.type == "boolean") return first.is_bool() ? first : json::value(nullptr);
  if (column.type == "date") {
    if (!first.is_string()) return nullptr;
    return json::value(age(first.get_string(), now));
  }
  std::string text;
  for (const json::value* each : found) text += (text.empty() ? "" : ",") + text_of_value(*each);
  return json::value(text);
}

}  // namespace orchestra::api
