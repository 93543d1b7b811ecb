// Strategic merge patch: k8s.io/apimachinery/pkg/util/strategicpatch/patch.go, driven by the schema.
//
// Objects merge member by member; null deletes. A list with strategy `merge` is matched by its merge key (or,
// for primitives, is a set); any other list is replaced. Directives inside the patch:
//   $patch: replace | delete | merge     on an object, or as an item of a list
//   $deleteFromPrimitiveList/NAME        values to take out of a primitive merge list
//   $setElementOrder/NAME                the order of the merged list; what the patch does not name keeps its
//   place $retainKeys                          members of a union to keep; all others go
// Order after a merge (upstream's mergeSliceWithoutSpecialElements and normalizeElementOrder): items named by
// $setElementOrder in that order, and items that only the server has at their old place among them.
#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "api/patches.hpp"
#include "api/tree.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr std::string_view kPatch = "$patch", kRetain = "$retainKeys";
constexpr std::string_view kDelete = "$deleteFromPrimitiveList/", kOrder = "$setElementOrder/";
constexpr int kPatchDepthMax = 200;

Error wrong(std::string why) { return Error(Error::invalid, "patch", std::move(why)); }

bool is_merge(SchemaRef schema) {
  return schema &&
         (schema.patch() == PatchStrategy::merge || schema.patch() == PatchStrategy::merge_retain_keys);
}

bool is_directive(std::string_view key) {
  return key == kPatch || key == kRetain || key.starts_with(kDelete) || key.starts_with(kOrder);
}

/// What identifies an item: the text of its merge key, or of the primitive itself.
std::optional<std::string> identity(const json::value& item, std::string_view merge_key) {
  if (merge_key.empty()) return to_json(item);
  const json::value* key = item.is_object() ? item.get_object().if_contains(merge_key) : nullptr;
  if (key == nullptr) return std::nullopt;
  return to_json(*key);
}

class StrategicMerge {
 public:
  Result<void> object(SchemaRef schema, json::object& target, const json::object& patch, int depth);

 private:
  Result<void> member(SchemaRef schema, json::object& target, std::string_view key, const json::value& value,
                      const json::object& patch, int depth);
  Result<void> merge_list(SchemaRef schema, json::array& target, const json::array& patch,
                          const json::array* order, int depth);
  Result<void> merge_item(SchemaRef schema, json::array& target, const json::value& item, int depth);
  static void order_list(json::array& list, const json::array& order, const json::array& before,
                         std::string_view merge_key);
  static void without_directives(json::value& value);
  static Result<void> retain_keys(json::object& target, const json::object& patch);
};

/// A part of the patch that has nothing to merge with is taken as it is, but for its directives.
void StrategicMerge::without_directives(json::value& value) {
  if (value.is_array()) {
    json::array& list = value.get_array();
    for (auto item = list.begin(); item != list.end();) {
      const bool marker = item->is_object() && text_of(item->get_object(), kPatch) == "delete";
      const bool replace =
          item->is_object() && item->get_object().size() == 1 && item->get_object().contains(kPatch);
      if (marker || replace) {
        item = list.erase(item);
        continue;
      }
      without_directives(*item);
      ++item;
    }
    return;
  }
  if (!value.is_object()) return;
  json::object& object = value.get_object();
  for (auto it = object.begin(); it != object.end();) {
    if (is_directive(it->key()) || it->value().is_null()) {
      it = object.stable_erase(it);
      continue;
    }
    without_directives(it->value());
    ++it;
  }
}

Result<void> StrategicMerge::retain_keys(json::object& target, const json::object& patch) {
  const json::value* retain = patch.if_contains(kRetain);
  if (retain == nullptr) return {};
  if (!retain->is_array()) return wrong("$retainKeys must be a list of field names");
  const auto kept = [&](std::string_view key) {
    return std::any_of(retain->get_array().begin(), retain->get_array().end(),
                       [&](const json::value& each) { return each.is_string() && each.get_string() == key; });
  };
  for (const auto& [key, value] : patch) {
    if (!is_directive(key) && !value.is_null() && !kept(key)) {
      return wrong("field \"" + std::string(key) + "\" is set by the patch but missing in its $retainKeys");
    }
  }
  for (auto it = target.begin(); it != target.end();)
    it = kept(it->key()) ? std::next(it) : target.stable_erase(it);
  return {};
}

Result<void> StrategicMerge::object(SchemaRef schema, json::object& target, const json::object& patch,
                                    int depth) {
  if (depth > kPatchDepthMax)
    return wrong("the patch nests deeper than " + std::to_string(kPatchDepthMax) + " levels");
  if (const json::value* directive = patch.if_contains(kPatch)) {
    const std::string_view word =
        directive->is_string() ? std::string_view(directive->get_string()) : std::string_view();
    if (word == "replace") {
      json::value copy(patch);
      without_directives(copy);
      target = std::move(copy.get_object());
      return {};
    }
    if (word == "delete") {
      target.clear();
      return {};
    }
    if (word != "merge")
      return wrong("unknown patch type found: " + to_json(*directive) + "; it is replace, delete or merge");
  }
  ORC_TRY(retain_keys(target, patch));
  for (const auto& [key, value] : patch) {
    if (key == kPatch || key == kRetain) continue;
    const std::string_view name = key;
    if (name.starts_with(kOrder)) {
      // Handled with the list it names; alone it only reorders.
      const std::string_view list = name.substr(kOrder.size());
      if (!patch.contains(list)) ORC_TRY(member(schema, target, list, json::array(), patch, depth));
      continue;
    }
    if (name.starts_with(kDelete)) continue;  // after the list was merged, below
    ORC_TRY(member(schema, target, name, value, patch, depth));
  }
  for (const auto& [key, value] : patch) {
    if (!std::string_view(key).starts_with(kDelete)) continue;
    if (!value.is_array()) return wrong(std::string(key) + " must be a list");
    json::value* list = target.if_contains(std::string_view(key).substr(kDelete.size()));
    if (list == nullptr || !list->is_array()) continue;
    json::array kept;
    for (const json::value& item : list->get_array()) {
      const auto& gone = value.get_array();
      const json::value* added = patch.if_contains(std::string_view(key).substr(kDelete.size()));
      const bool again =
          added != nullptr && added->is_array() &&
          std::find(added->get_array().begin(), added->get_array().end(), item) != added->get_array().end();
      if (again || std::find(gone.begin(), gone.end(), item) == gone.end()) kept.push_back(item);
    }
    *list = std::move(kept);
  }
  return {};
}

Result<void> StrategicMerge::member(SchemaRef schema, json::object& target, std::string_view key,
                                    const json::value& value, const json::object& patch, int depth) {
  SchemaRef property;
  if (schema && schema.kind() == SchemaKind::object) property = schema.property(key);
  if (schema && schema.kind() == SchemaKind::map) property = schema.element();
  if (value.is_null()) {
    if (const auto found = target.find(key); found != target.end()) target.stable_erase(found);
    return {};
  }
  json::value* existing = target.if_contains(key);
  const bool atomic_map =
      property && property.has(SchemaNode::atomic) && property.patch() == PatchStrategy::replace;
  if (value.is_object() && existing != nullptr && existing->is_object() && !atomic_map) {
    const json::object& changes = value.get_object();
    if (text_of(changes, kPatch) == "delete") {
      target.stable_erase(target.find(key));
      return {};
    }
    return object(property, existing->get_object(), changes, depth + 1);
  }
  if (value.is_array() && is_merge(property)) {
    const json::value* order = patch.if_contains(std::string(kOrder) + std::string(key));
    if (order != nullptr && !order->is_array())
      return wrong(std::string(kOrder) + std::string(key) + " must be a list");
    if (existing == nullptr || !existing->is_array()) {
      if (value.get_array().empty() && order != nullptr) return {};
      target[key] = json::array();
      existing = target.if_contains(key);
    }
    return merge_list(property, existing->get_array(), value.get_array(),
                      order == nullptr ? nullptr : &order->get_array(), depth);
  }
  if (value.is_object() && text_of(value.get_object(), kPatch) == "delete") return {};
  json::value copy = value;
  without_directives(copy);
  target[key] = std::move(copy);
  return {};
}

Result<void> StrategicMerge::merge_list(SchemaRef schema, json::array& target, const json::array& patch,
                                        const json::array* order, int depth) {
  const std::string_view merge_key = schema.merge_key();
  const json::array before = target;
  for (const json::value& item : patch) {
    if (!merge_key.empty() && item.is_object() && item.get_object().size() == 1 &&
        text_of(item.get_object(), kPatch) == "replace") {
      target.clear();  // - $patch: replace: the rest of the patch is the list
    }
  }
  for (const json::value& item : patch) ORC_TRY(merge_item(schema, target, item, depth));
  if (order != nullptr) order_list(target, *order, before, merge_key);
  return {};
}

Result<void> StrategicMerge::merge_item(SchemaRef schema, json::array& target, const json::value& item,
                                        int depth) {
  const std::string_view merge_key = schema.merge_key();
  if (merge_key.empty()) {
    if (std::find(target.begin(), target.end(), item) == target.end()) target.push_back(item);
    return {};
  }
  if (!item.is_object())
    return wrong("an item of " + std::string(schema.name()) + " must be an object with " +
                 std::string(merge_key));
  const json::object& changes = item.get_object();
  const std::string_view directive = text_of(changes, kPatch);
  const std::optional<std::string> id = identity(item, merge_key);
  if (!id) {
    if (directive == "replace" && changes.size() == 1) return {};
    return wrong("map: " + to_json(item) + " does not contain declared merge key: " + std::string(merge_key));
  }
  const auto same = [&](const json::value& each) { return identity(each, merge_key) == id; };
  if (directive == "delete") {
    json::array kept;
    for (json::value& each : target) {
      if (!same(each)) kept.push_back(std::move(each));
    }
    target = std::move(kept);
    return {};
  }
  const auto found = std::find_if(target.begin(), target.end(), same);
  if (found == target.end()) {
    json::value copy = item;
    without_directives(copy);
    target.push_back(std::move(copy));
    return {};
  }
  return object(schema.element(), found->get_object(), changes, depth + 1);
}

/// Items that `order` names come in its order. One that it does not name comes from the server alone: it
/// keeps its place relative to the named item before it.
void StrategicMerge::order_list(json::array& list, const json::array& order, const json::array& before,
                                std::string_view merge_key) {
  std::map<std::string, std::size_t> rank;
  for (const json::value& each : order) {
    if (const auto id = identity(each, merge_key)) rank.emplace(*id, rank.size());
  }
  const auto rank_of = [&](const json::value& item) -> std::optional<std::size_t> {
    const auto id = identity(item, merge_key);
    const auto found = id ? rank.find(*id) : rank.end();
    return found == rank.end() ? std::nullopt : std::optional(found->second);
  };
  const auto position = [&](const json::value& item) -> std::optional<std::size_t> {
    const auto id = identity(item, merge_key);
    for (std::size_t i = 0; i < before.size(); ++i) {
      if (identity(before[i], merge_key) == id) return i;
    }
    return std::nullopt;
  };
  std::vector<json::value*> named, only_server;
  for (json::value& item : list) (rank_of(item) ? named : only_server).push_back(&item);
  std::stable_sort(named.begin(), named.end(),
                   [&](const json::value* a, const json::value* b) { return *rank_of(*a) < *rank_of(*b); });
  json::array merged;
  std::size_t i = 0, j = 0;
  while (i < named.size() || j < only_server.size()) {
    bool take_server = i == named.size();
    if (!take_server && j < only_server.size()) {
      // Both were on the server: the one that stood first goes first. A new named item goes first.
      const auto a = position(*named[i]), b = position(*only_server[j]);
      take_server = a && b && *b < *a;
    }
    merged.push_back(std::move(take_server ? *only_server[j++] : *named[i++]));
  }
  list = std::move(merged);
}

}  // namespace

Result<void> strategic_merge_patch(SchemaRef schema, json::value& target, const json::value& patch) {
  if (!patch.is_object()) return wrong("a strategic merge patch is an object");
  json::value changed = target.is_object() ? target : json::value(json::object());
  ORC_TRY(StrategicMerge().object(schema, changed.get_object(), patch.get_object(), 0));
  target = std::move(changed);
  return {};
}

}  // namespace orchestra::api
