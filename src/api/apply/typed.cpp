// See typed.hpp; the rules are those of structured-merge-diff v4: tofieldset.go, compare.go, merge.go,
// remove.go. Values are pruned before, so null does not occur but in nullable fields.
#include "api/apply/typed.hpp"

#include "api/tree.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

enum class Shape : std::uint8_t { leaf, map, list };

/// What a value is to the owner of its fields; a leaf is owned as a whole.
Shape shape_of(SchemaRef schema, const json::value& value) {
  if (!schema || schema.kind() == SchemaKind::any) return value.is_object() ? Shape::map : Shape::leaf;
  if (schema.has(SchemaNode::atomic)) return Shape::leaf;
  const SchemaKind kind = schema.kind();
  if ((kind == SchemaKind::object || kind == SchemaKind::map) && value.is_object()) return Shape::map;
  const bool keyed = schema.list_kind() == ListKind::map || schema.list_kind() == ListKind::set;
  return kind == SchemaKind::list && keyed && value.is_array() ? Shape::list : Shape::leaf;
}

SchemaRef member_schema(SchemaRef schema, std::string_view name) {
  if (!schema) return {};
  if (schema.kind() == SchemaKind::map) return schema.element();
  return schema.kind() == SchemaKind::object ? schema.property(name) : SchemaRef();
}

bool is_named_field(SchemaRef schema, std::string_view name) {
  return schema && schema.kind() == SchemaKind::object && bool(schema.property(name));
}

/// How an item of a keyed list is named; by its index where it lacks its keys.
PathElement item_element(SchemaRef list, const json::value& item, std::size_t index) {
  if (list.list_kind() == ListKind::set) return {PathElement::Kind::value, {}, item};
  json::object keys;
  std::map<std::string_view, json::value> sorted;
  for (const std::string_view key : split_words(list.keys(), ',')) {
    const json::value* value = item.is_object() ? item.get_object().if_contains(key) : nullptr;
    if (value != nullptr) {
      sorted[key] = *value;
    } else if (const SchemaRef property = list.element().property(key);
               property && !property.default_json().empty()) {
      sorted[key] = parse_json(property.default_json()).value();
    }
  }
  if (sorted.empty()) return {PathElement::Kind::index, {}, json::value(static_cast<std::int64_t>(index))};
  for (auto& [key, value] : sorted) keys[key] = std::move(value);
  return {PathElement::Kind::key, {}, std::move(keys)};
}

bool is_empty(const json::value* value) {
  if (value == nullptr || value->is_null()) return true;
  if (value->is_object()) return value->get_object().empty();
  return value->is_array() && value->get_array().empty();
}

void collect(SchemaRef schema, const json::value& value, FieldSet& at) {
  const Shape shape = shape_of(schema, value);
  if (shape == Shape::leaf) {
    at.member = true;
    return;
  }
  if (shape == Shape::map) {
    for (const auto& [name, member] : value.get_object()) {
      FieldSet& below = at.children[PathElement::field(name)];
      collect(member_schema(schema, name), member, below);
      const bool hollow = member.is_null() || (member.is_object() && member.get_object().empty());
      if (hollow || !is_named_field(schema, name)) below.member = true;
    }
    return;
  }
  std::size_t index = 0;
  for (const json::value& item : value.get_array()) {
    FieldSet& below = at.children[item_element(schema, item, index++)];
    collect(schema.element(), item, below);
    below.member = true;
  }
}

using Items = std::map<PathElement, const json::value*>;
Items items_of(SchemaRef list, const json::value* value) {
  Items items;
  if (value == nullptr || !value->is_array()) return items;
  std::size_t index = 0;
  for (const json::value& item : value->get_array()) items.emplace(item_element(list, item, index++), &item);
  return items;
}

struct ChangeNodes {
  FieldSet &added, &removed, &modified;
  ChangeNodes below(const PathElement& element) const {
    return {added.children[element], removed.children[element], modified.children[element]};
  }
};

void compare_leaf(const json::value* before, const json::value* after, const ChangeNodes& at) {
  if (before == nullptr) {
    at.added.member = true;
  } else if (after == nullptr) {
    at.removed.member = true;
  } else if (*before != *after) {
    at.modified.member = true;
  }
}

void compare(SchemaRef schema, const json::value* before, const json::value* after, const ChangeNodes& at) {
  if (before == nullptr && after == nullptr) return;
  if (before != nullptr && after != nullptr && *before == *after) return;
  const Shape shape = shape_of(schema, after != nullptr ? *after : *before);
  const bool mixed = before != nullptr && after != nullptr && shape_of(schema, *before) != shape;
  if (shape == Shape::leaf || mixed || (is_empty(before) && is_empty(after)))
    return compare_leaf(before, after, at);
  if (shape == Shape::map) {
    static const json::object kNone;
    const json::object& old = before != nullptr && before->is_object() ? before->get_object() : kNone;
    const json::object& now = after != nullptr && after->is_object() ? after->get_object() : kNone;
    for (const auto& [name, value] : old) {
      compare(member_schema(schema, name), &value, now.if_contains(name), at.below(PathElement::field(name)));
    }
    for (const auto& [name, value] : now) {
      if (!old.contains(name))
        compare(member_schema(schema, name), nullptr, &value, at.below(PathElement::field(name)));
    }
  } else {
    const Items old = items_of(schema, before), now = items_of(schema, after);
    for (const auto& [element, item] : old) {
      const auto found = now.find(element);
      compare(schema.element(), item, found == now.end() ? nullptr : found->second, at.below(element));
    }
    for (const auto& [element, item] : now) {
      if (old.count(element) == 0) compare(schema.element(), nullptr, item, at.below(element));
    }
  }
  if (before == nullptr) at.added.member = true;
  if (after == nullptr) at.removed.member = true;
}

Result<json::value> merge(SchemaRef schema, const json::value& live, const json::value& config);

/// Items of both keep the order of the config; those of the live list alone keep their place among them.
Result<json::value> merge_list(SchemaRef schema, const json::array& live, const json::array& config) {
  std::vector<PathElement> old, now;
  for (const json::value& item : live) old.push_back(item_element(schema, item, old.size()));
  for (const json::value& item : config) now.push_back(item_element(schema, item, now.size()));
  std::map<PathElement, std::size_t> old_at, now_at;
  for (std::size_t i = 0; i < old.size(); ++i) old_at.emplace(old[i], i);
  for (std::size_t i = 0; i < now.size(); ++i) {
    if (!now_at.emplace(now[i], i).second) {
      return Error(Error::invalid, "api",
                   "duplicate entries for key " + now[i].path_text() + " of " + std::string(schema.name()));
    }
  }
  json::array out;
  std::size_t i = 0, j = 0;
  while (i < old.size() || j < now.size()) {
    if (i < old.size() && now_at.count(old[i]) == 0) {
      out.push_back(live[i++]);
      continue;
    }
    if (j == now.size()) break;  // what is left of the live list came already
    const auto shared = old_at.find(now[j]);
    if (shared == old_at.end()) {
      out.push_back(config[j++]);
      continue;
    }
    ORC_ASSIGN(json::value merged, merge(schema.element(), live[shared->second], config[j]));
    out.push_back(std::move(merged));
    if (i < old.size()) ++i;  // the live list moves on by one shared item as well
    ++j;
  }
  return json::value(std::move(out));
}

Result<json::value> merge(SchemaRef schema, const json::value& live, const json::value& config) {
  const Shape shape = shape_of(schema, config);
  if (shape == Shape::leaf || shape_of(schema, live) != shape) return config;
  if (shape == Shape::list) return merge_list(schema, live.get_array(), config.get_array());
  json::object out = live.get_object();
  for (const auto& [name, value] : config.get_object()) {
    const json::value* old = out.if_contains(name);
    if (old == nullptr) {
      out[name] = value;
      continue;
    }
    ORC_ASSIGN(json::value merged, merge(member_schema(schema, name), *old, value));
    out[name] = std::move(merged);
  }
  return json::value(std::move(out));
}

/// nullopt: nothing is left.
std::optional<json::value> remove(SchemaRef schema, const json::value& value, const FieldSet& gone) {
  const Shape shape = shape_of(schema, value);
  if (shape == Shape::leaf || gone.children.empty()) return value;
  if (shape == Shape::map) {
    json::object out;
    for (const auto& [name, member] : value.get_object()) {
      const auto found = gone.children.find(PathElement::field(name));
      if (found == gone.children.end()) {
        out[name] = member;
      } else if (!found->second.member) {
        if (auto left = remove(member_schema(schema, name), member, found->second))
          out[name] = std::move(*left);
      }
    }
    if (out.empty() && !value.get_object().empty()) return std::nullopt;
    return json::value(std::move(out));
  }
  json::array out;
  std::size_t index = 0;
  for (const json::value& item : value.get_array()) {
    const auto found = gone.children.find(item_element(schema, item, index++));
    if (found == gone.children.end()) {
      out.push_back(item);
    } else if (!found->second.member) {
      if (auto left = remove(schema.element(), item, found->second)) out.push_back(std::move(*left));
    }
  }
  if (out.empty() && !value.get_array().empty()) return std::nullopt;
  return json::value(std::move(out));
}

}  // namespace

FieldSet fields_of(SchemaRef schema, const json::value& value) {
  FieldSet set;
  collect(schema, value, set);
  set.member = false;
  set.tidy();
  return set;
}

FieldChanges compare_fields(SchemaRef schema, const json::value& before, const json::value& after) {
  FieldChanges changes;
  compare(schema, &before, &after, {changes.added, changes.removed, changes.modified});
  for (FieldSet* set : {&changes.added, &changes.removed, &changes.modified}) set->tidy();
  return changes;
}

Result<json::value> merge_fields(SchemaRef schema, const json::value& live, const json::value& config) {
  return merge(schema, live, config);
}

json::value remove_fields(SchemaRef schema, const json::value& value, const FieldSet& gone) {
  auto left = remove(schema, value, gone);
  return left ? std::move(*left) : json::value(json::object());
}

FieldSet with_named_parents(SchemaRef schema, const FieldSet& set) {
  FieldSet out;
  out.member = set.member;
  for (const auto& [element, below] : set.children) {
    SchemaRef inner;
    bool named = false;
    if (element.kind == PathElement::Kind::field) {
      inner = member_schema(schema, element.name);
      named = is_named_field(schema, element.name);
    } else if (schema && schema.kind() == SchemaKind::list) {
      inner = schema.element();
    }
    FieldSet child = with_named_parents(inner, below);
    if (named && !below.children.empty()) child.member = true;
    out.children.emplace(element, std::move(child));
  }
  return out;
}

}  // namespace orchestra::api
