// See typed.hpp; the rules are those of structured-merge-diff v4: tofieldset.go, compare.go, merge.go,
// remove.go. Values are pruned before, so null does not occur but in nullable fields.
#include "api/apply/typed.hpp"

#include <algorithm>
#include <unordered_map>

#include "api/tree.hpp"
#include "base/json_text.hpp"

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

std::vector<std::string_view> sorted_keys(SchemaRef list) {
  std::vector<std::string_view> names = split_words(list.keys(), ',');
  std::sort(names.begin(), names.end());
  return names;
}

/// How an item of a keyed list is named; by its index where it lacks its keys.
PathElement item_element(SchemaRef list, const json::value& item, std::size_t index) {
  if (list.list_kind() == ListKind::set) return {PathElement::Kind::value, to_json(item)};
  std::string word;
  word.reserve(64);
  word += '{';
  for (const std::string_view key : sorted_keys(list)) {
    const json::value* value = item.is_object() ? item.get_object().if_contains(key) : nullptr;
    std::string_view other;
    if (value == nullptr) {
      const SchemaRef property = list.element().property(key);
      if (!property || property.default_json().empty()) continue;
      other = property.default_json();
    }
    word += word.size() > 1 ? ",\"" : "\"";
    word += key;
    word += "\":";
    value != nullptr ? print_json(word, *value) : void(word += other);
  }
  if (word.size() == 1) return {PathElement::Kind::index, std::to_string(index)};
  word += '}';
  return {PathElement::Kind::key, std::move(word)};
}

bool is_empty(const json::value& value) {
  if (value.is_object()) return value.get_object().empty();
  return value.is_null() || (value.is_array() && value.get_array().empty());
}

FieldSet collect(SchemaRef schema, const json::value& value) {
  const Shape shape = shape_of(schema, value);
  FieldSet set;
  if (shape == Shape::leaf) {
    set.member = true;
    return set;
  }
  if (shape == Shape::map) {
    set.children.reserve(value.get_object().size());
    for (const auto& [name, member] : value.get_object()) {
      FieldSet below = collect(member_schema(schema, name), member);
      const bool hollow = member.is_null() || (member.is_object() && member.get_object().empty());
      if (hollow || !is_named_field(schema, name)) below.member = true;
      if (!below.empty()) set.children.append(PathElement::field(name), std::move(below));
    }
  } else {
    set.children.reserve(value.get_array().size());
    std::size_t index = 0;
    for (const json::value& item : value.get_array()) {
      FieldSet below = collect(schema.element(), item);
      below.member = true;
      set.children.append(item_element(schema, item, index++), std::move(below));
    }
  }
  set.children.settle();
  return set;
}

struct Item {
  PathElement element;
  const json::value* value;
};
/// In the order of the elements; of equal ones the first.
std::vector<Item> items_of(SchemaRef list, const json::value* value) {
  std::vector<Item> items;
  if (value == nullptr || !value->is_array()) return items;
  std::size_t index = 0;
  for (const json::value& item : value->get_array())
    items.push_back({item_element(list, item, index++), &item});
  std::stable_sort(items.begin(), items.end(),
                   [](const Item& a, const Item& b) { return a.element < b.element; });
  items.erase(std::unique(items.begin(), items.end(),
                          [](const Item& a, const Item& b) { return a.element == b.element; }),
              items.end());
  return items;
}

void add_below(FieldChanges& changes, const PathElement& element, FieldChanges below) {
  for (FieldSet FieldChanges::*set :
       {&FieldChanges::added, &FieldChanges::removed, &FieldChanges::modified}) {
    if (!(below.*set).empty()) (changes.*set).children.append(element, std::move(below.*set));
  }
}

/// All of a value that was not there before, or is not there any more: each of its paths is a member.
FieldSet whole(SchemaRef schema, const json::value& value) {
  FieldSet set;
  set.member = true;
  const Shape shape = shape_of(schema, value);
  if (shape == Shape::map) {
    set.children.reserve(value.get_object().size());
    for (const auto& [name, member] : value.get_object())
      set.children.append(PathElement::field(name), whole(member_schema(schema, name), member));
    set.children.settle();
  } else if (shape == Shape::list) {
    std::vector<Item> items = items_of(schema, &value);
    set.children.reserve(items.size());
    for (Item& item : items) {
      FieldSet below = whole(schema.element(), *item.value);
      set.children.append(std::move(item.element), std::move(below));
    }
  }
  return set;
}

/// Most writes leave most of an object as it was. What is on these levels is first compared as a whole;
/// below, where somebody could nest a thousand objects, each is looked at once.
constexpr int kComparedWholeFrom = 1, kComparedWholeTo = 3;

FieldChanges compare(SchemaRef schema, const json::value& before, const json::value& after, int level) {
  FieldChanges changes;
  const Shape shape = shape_of(schema, after);
  const bool mixed = shape_of(schema, before) != shape;
  if (shape == Shape::leaf || mixed || (is_empty(before) && is_empty(after))) {
    changes.modified.member = !same_json(before, after);
    return changes;
  }
  const bool compared_whole = level >= kComparedWholeFrom && level <= kComparedWholeTo;
  if ((compared_whole || shape == Shape::list) && same_json(before, after)) return changes;
  const auto member = [&](SchemaRef below, const json::value* was, const json::value* is,
                          const auto& element) {
    if (was == nullptr) {
      changes.added.children.append(element(), whole(below, *is));
    } else if (is == nullptr) {
      changes.removed.children.append(element(), whole(below, *was));
    } else if (FieldChanges inner = compare(below, *was, *is, level + 1); !inner.empty()) {
      add_below(changes, element(), std::move(inner));
    }
  };
  if (shape == Shape::map) {
    const json::object &old = before.get_object(), &now = after.get_object();
    const auto named = [&](std::string_view name, const json::value* was, const json::value* is) {
      member(member_schema(schema, name), was, is, [&] { return PathElement::field(name); });
    };
    for (const auto& [name, value] : old) named(name, &value, now.if_contains(name));
    for (const auto& [name, value] : now) {
      if (!old.contains(name)) named(name, nullptr, &value);
    }
  } else {
    const std::vector<Item> old = items_of(schema, &before), now = items_of(schema, &after);
    auto x = old.begin();
    auto y = now.begin();
    while (x != old.end() || y != now.end()) {
      const auto order = x == old.end()   ? std::weak_ordering::greater
                         : y == now.end() ? std::weak_ordering::less
                                          : x->element <=> y->element;
      member(schema.element(), order <= 0 ? x->value : nullptr, order >= 0 ? y->value : nullptr,
             [&] { return order <= 0 ? x->element : y->element; });
      if (order <= 0) ++x;
      if (order >= 0) ++y;
    }
  }
  for (FieldSet* set : {&changes.added, &changes.removed, &changes.modified}) set->children.settle();
  return changes;
}

Result<void> merge(SchemaRef schema, json::value& live, const json::value& config, bool& kept);

std::vector<PathElement> elements_of(SchemaRef list, const json::array& items) {
  std::vector<PathElement> out;
  out.reserve(items.size());
  for (const json::value& item : items) out.push_back(item_element(list, item, out.size()));
  return out;
}

/// Where each element stands; of equal ones the first.
class Places {
 public:
  explicit Places(const std::vector<PathElement>& elements) {
    for (std::size_t i = 0; i < elements.size(); ++i) {
      const auto& [kind, word] = elements[i];
      if (!places_.emplace(std::pair(kind, std::string_view(word)), i).second && !twice_) twice_ = i;
    }
  }
  std::optional<std::size_t> find(const PathElement& element) const {
    const auto found = places_.find(std::pair(element.kind, std::string_view(element.word)));
    return found == places_.end() ? std::nullopt : std::optional(found->second);
  }
  std::optional<std::size_t> twice() const { return twice_; }  ///< the first that stood there already

 private:
  using Key = std::pair<PathElement::Kind, std::string_view>;
  struct Hash {
    std::size_t operator()(const Key& key) const { return std::hash<std::string_view>()(key.second); }
  };
  std::unordered_map<Key, std::size_t, Hash> places_;
  std::optional<std::size_t> twice_;
};

/// Items of both keep the order of the config; those of the live list alone keep their place among them.
Result<void> merge_list(SchemaRef schema, json::array& live, const json::array& config, bool& kept) {
  const std::vector<PathElement> old = elements_of(schema, live), now = elements_of(schema, config);
  const Places old_at(old), now_at(now);
  if (const auto twice = now_at.twice()) {
    return Error(
        Error::invalid, "api",
        "duplicate entries for key " + now[*twice].path_text() + " of " + std::string(schema.name()));
  }
  json::array out(live.storage());
  out.reserve(std::max(live.size(), config.size()));
  std::size_t i = 0, j = 0;
  while (i < old.size() || j < now.size()) {
    if (i < old.size() && !now_at.find(old[i])) {
      out.push_back(std::move(live[i++]));
      continue;
    }
    if (j == now.size()) break;  // what is left of the live list came already
    const auto shared = old_at.find(now[j]);
    if (!shared) {
      out.push_back(config[j++]);
      continue;
    }
    ORC_TRY(merge(schema.element(), live[*shared], config[j], kept));
    out.push_back(std::move(live[*shared]));
    if (i < old.size()) ++i;  // the live list moves on by one shared item as well
    ++j;
  }
  live = std::move(out);
  return {};
}

Result<void> merge(SchemaRef schema, json::value& live, const json::value& config, bool& kept) {
  const Shape shape = shape_of(schema, config);
  if (shape == Shape::leaf || shape_of(schema, live) != shape) {
    live = config;
    return {};
  }
  if (shape == Shape::list) return merge_list(schema, live.get_array(), config.get_array(), kept);
  json::object& into = live.get_object();
  kept = kept || (config.get_object().empty() && !into.empty());
  for (const auto& [name, value] : config.get_object()) {
    if (json::value* old = into.if_contains(name)) {
      ORC_TRY(merge(member_schema(schema, name), *old, value, kept));
    } else {
      into.emplace(name, value);
    }
  }
  return {};
}

/// nullopt: nothing is left.
std::optional<json::value> remove(SchemaRef schema, const json::value& value, const FieldSet& gone) {
  const Shape shape = shape_of(schema, value);
  if (shape == Shape::leaf || gone.children.empty()) return value;
  if (shape == Shape::map) {
    json::object out;
    for (const auto& [name, member] : value.get_object()) {
      const auto found = gone.children.find_field(name);
      if (found == gone.children.end()) {
        out.emplace(name, member);
      } else if (!found->below.member) {
        if (auto left = remove(member_schema(schema, name), member, found->below))
          out.emplace(name, std::move(*left));
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
    } else if (!found->below.member) {
      if (auto left = remove(schema.element(), item, found->below)) out.push_back(std::move(*left));
    }
  }
  if (out.empty() && !value.get_array().empty()) return std::nullopt;
  return json::value(std::move(out));
}

}  // namespace

FieldSet fields_of(SchemaRef schema, const json::value& value) {
  FieldSet set = collect(schema, value);
  set.member = false;
  return set;
}

FieldChanges compare_fields(SchemaRef schema, const json::value& before, const json::value& after) {
  return compare(schema, before, after, 0);
}

Result<bool> merge_fields(SchemaRef schema, json::value& live, const json::value& config) {
  bool kept = false;
  ORC_TRY(merge(schema, live, config, kept));
  return kept;
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
      inner = member_schema(schema, element.word);
      named = is_named_field(schema, element.word);
    } else if (schema && schema.kind() == SchemaKind::list) {
      inner = schema.element();
    }
    FieldSet child = with_named_parents(inner, below);
    if (named && !below.children.empty()) child.member = true;
    out.children.append(element, std::move(child));
  }
  return out;
}

}  // namespace orchestra::api
