// What holds for all objects, tried on random ones: patches undo differences, conversions lose nothing,
// defaults and pruning do not depend on each other. A failure prints its seed: ORC_SEED=N test_api
// -tc="property*" replays it.
#include <algorithm>
#include <functional>
#include <map>

#include "api/apply/managed_fields.hpp"
#include "api/patches.hpp"
#include "api/versions.hpp"
#include "tests/api/random_value.hpp"
#include "tests/api/support.hpp"

using namespace orchestra;
using namespace orchestra::api;
using test::Chance;

namespace {
std::string escaped(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c == '~')
      out += "~0";
    else if (c == '/')
      out += "~1";
    else
      out += c;
  }
  return out;
}

/// RFC 7386: nulls delete. Neither value holds a null.
json::value merge_difference(const json::value& before, const json::value& after) {
  if (!before.is_object() || !after.is_object()) return after;
  json::object out;
  for (const auto& [key, value] : before.get_object()) {
    if (!after.get_object().contains(key)) out[key] = nullptr;
  }
  for (const auto& [key, value] : after.get_object()) {
    const json::value* old = before.get_object().if_contains(key);
    if (old == nullptr || *old != value) out[key] = old == nullptr ? value : merge_difference(*old, value);
  }
  return out;
}

/// RFC 6902, with lists item by item.
void json_difference(const json::value& before, const json::value& after, const std::string& path,
                     json::array& out) {
  const auto add = [&](const char* operation, const std::string& at, const json::value* value) {
    json::object one{{"op", operation}, {"path", at}};
    if (value != nullptr) one["value"] = *value;
    out.push_back(std::move(one));
  };
  if (before == after) return;
  if (before.is_object() && after.is_object()) {
    for (const auto& [key, value] : before.get_object()) {
      if (!after.get_object().contains(key)) add("remove", path + "/" + escaped(key), nullptr);
    }
    for (const auto& [key, value] : after.get_object()) {
      const json::value* old = before.get_object().if_contains(key);
      if (old == nullptr)
        add("add", path + "/" + escaped(key), &value);
      else
        json_difference(*old, value, path + "/" + escaped(key), out);
    }
    return;
  }
  if (before.is_array() && after.is_array()) {
    const auto& old = before.get_array();
    const auto& now = after.get_array();
    for (std::size_t i = 0; i < std::min(old.size(), now.size()); ++i)
      json_difference(old[i], now[i], path + "/" + std::to_string(i), out);
    for (std::size_t i = old.size(); i > now.size(); --i)
      add("remove", path + "/" + std::to_string(i - 1), nullptr);
    for (std::size_t i = old.size(); i < now.size(); ++i) add("add", path + "/-", &now[i]);
    return;
  }
  add("replace", path, &after);
}

/// As kubectl makes one of two documents (strategicpatch.CreateTwoWayMergePatch).
class StrategicDifference {
 public:
  static json::object object(SchemaRef schema, const json::object& before, const json::object& after) {
    json::object out;
    for (const auto& [key, value] : before) {
      if (!after.contains(key)) out[key] = nullptr;
    }
    for (const auto& [key, value] : after) {
      const json::value* old = before.if_contains(key);
      if (old != nullptr && *old == value) continue;
      if (old == nullptr) {
        out[key] = value;
        continue;
      }
      SchemaRef below;
      if (schema && schema.kind() == SchemaKind::object) below = schema.property(key);
      if (schema && schema.kind() == SchemaKind::map) below = schema.element();
      member(below, key, *old, value, out);
    }
    return out;
  }

 private:
  static bool merges(SchemaRef schema) {
    return schema &&
           (schema.patch() == PatchStrategy::merge || schema.patch() == PatchStrategy::merge_retain_keys);
  }
  static void member(SchemaRef schema, std::string_view key, const json::value& old, const json::value& now,
                     json::object& out) {
    if (old.is_object() && now.is_object()) {
      if (schema && schema.has(SchemaNode::atomic) && schema.patch() == PatchStrategy::replace) {
        out[key] = now;
        return;
      }
      json::object changes = object(schema, old.get_object(), now.get_object());
      if (schema && schema.patch() == PatchStrategy::retain_keys) retain(now.get_object(), changes);
      out[key] = std::move(changes);
    } else if (old.is_array() && now.is_array() && merges(schema)) {
      list(schema, key, old.get_array(), now.get_array(), out);
    } else {
      out[key] = now;
    }
  }
  static void retain(const json::object& kept, json::object& changes) {
    json::array names;
    for (const auto& [key, value] : kept) names.push_back(json::value(key));
    changes["$retainKeys"] = std::move(names);
  }
  static void list(SchemaRef schema, std::string_view key, const json::array& old, const json::array& now,
                   json::object& out) {
    const std::string_view merge_key = schema.merge_key();
    json::array changes, order, gone;
    for (const json::value& item : now) order.push_back(identity(item, merge_key));
    for (const json::value& item : old) {
      if (matching(now, item, merge_key) != nullptr) continue;
      if (merge_key.empty()) {
        gone.push_back(item);
      } else {
        changes.push_back(json::object{{"$patch", "delete"}, {merge_key, item.get_object().at(merge_key)}});
      }
    }
    for (const json::value& item : now) {
      const json::value* before = matching(old, item, merge_key);
      if (before == nullptr) {
        changes.push_back(item);
      } else if (!merge_key.empty() && *before != item) {
        json::object part = object(schema.element(), before->get_object(), item.get_object());
        part[merge_key] = item.get_object().at(merge_key);
        if (schema.patch() == PatchStrategy::merge_retain_keys) retain(item.get_object(), part);
        changes.push_back(std::move(part));
      }
    }
    out[key] = std::move(changes);
    if (!gone.empty()) out["$deleteFromPrimitiveList/" + std::string(key)] = std::move(gone);
    out["$setElementOrder/" + std::string(key)] = std::move(order);
  }
  static json::value identity(const json::value& item, std::string_view merge_key) {
    if (merge_key.empty()) return item;
    return json::object{{merge_key, item.get_object().at(merge_key)}};
  }
  static const json::value* matching(const json::array& list, const json::value& item,
                                     std::string_view merge_key) {
    for (const json::value& each : list) {
      if (identity(each, merge_key) == identity(item, merge_key)) return &each;
    }
    return nullptr;
  }
};

/// Kinds that are stored; a body of one, as it is decoded.
std::vector<TypePtr> stored_types() {
  std::vector<TypePtr> out;
  for (const TypePtr& record : TypeRegistry::builtin()->records()) {
    if (!record->virtual_only && !record->computed) out.push_back(record);
  }
  return out;
}
json::value random_object(const TypeRecord& record, const TypeVersion& version, Chance& chance) {
  json::value out = test::ValueMaker(chance).make(version.schema);
  json::object& object = out.get_object();
  object["apiVersion"] = record.gvk(version.name).api_version();
  object["kind"] = record.kind;
  json::value& metadata = object["metadata"];
  if (!metadata.is_object()) metadata.emplace_object();
  metadata.get_object().erase("managedFields");
  metadata.get_object()["name"] = "x";
  const auto unknown = prune_unknown(version.schema, out);
  REQUIRE_MESSAGE(unknown, (unknown ? "" : unknown.error().message()));
  REQUIRE_MESSAGE(unknown->empty(), "the generator made fields that nobody knows");
  return out;
}

/// `run(record, version, chance)` for every stored kind and version, with seeds of its own for each.
void for_all_kinds(std::uint64_t rounds,
                   const std::function<void(const TypeRecord&, const TypeVersion&, Chance&)>& run) {
  for (std::uint64_t seed = test::first_seed(); seed < test::first_seed() + test::seed_count(rounds);
       ++seed) {
    for (const TypePtr& record : stored_types()) {
      for (const TypeVersion& version : record->versions) {
        CAPTURE(seed);
        CAPTURE(record->kind);
        CAPTURE(version.name);
        Chance chance(seed * 1'000'003 + std::hash<std::string>()(record->kind + version.name));
        run(*record, version, chance);
      }
    }
  }
}

/// Where the schema names all members, one more.
void add_unknown(SchemaRef schema, json::value& value, Chance& chance) {
  if (value.is_array() && schema.kind() == SchemaKind::list) {
    for (json::value& item : value.get_array()) add_unknown(schema.element(), item, chance);
  } else if (value.is_object() && (schema.kind() == SchemaKind::object || schema.kind() == SchemaKind::map)) {
    for (auto& member : value.get_object()) {
      const SchemaRef below =
          schema.kind() == SchemaKind::map ? schema.element() : schema.property(member.key());
      add_unknown(below, member.value(), chance);
    }
    if (schema.kind() == SchemaKind::object && chance.one_in(3))
      value.get_object()["zzUnknown"] = json::object{{"a", json::array{1}}};
  }
}

/// Whatever the order of the members of objects.
std::string canonical_text(const json::value& value) {
  std::string out;
  if (value.is_object()) {
    std::map<std::string, std::string> members;
    for (const auto& member : value.get_object())
      members[std::string(member.key())] = canonical_text(member.value());
    for (const auto& [key, text] : members) out += key + "=" + text + ";";
    return "{" + out + "}";
  }
  if (!value.is_array()) return to_json(value);
  for (const json::value& item : value.get_array()) out += canonical_text(item) + ";";
  return "[" + out + "]";
}

/// Without empty maps, lists and objects, which owners of fields do not tell from absent ones; lists that are
/// maps or sets in an order of their own.
void tidy(SchemaRef schema, json::value& value) {
  const auto empty = [](const json::value& one) {
    return (one.is_object() && one.get_object().empty()) || (one.is_array() && one.get_array().empty());
  };
  if (value.is_object()) {
    json::object& object = value.get_object();
    for (auto it = object.begin(); it != object.end();) {
      SchemaRef below;
      if (schema && schema.kind() == SchemaKind::object) below = schema.property(it->key());
      if (schema && schema.kind() == SchemaKind::map) below = schema.element();
      tidy(below, it->value());
      it = empty(it->value()) ? object.erase(it) : std::next(it);
    }
  } else if (value.is_array() && schema && schema.kind() == SchemaKind::list) {
    for (json::value& item : value.get_array()) tidy(schema.element(), item);
    if (schema.list_kind() == ListKind::map || schema.list_kind() == ListKind::set) {
      std::vector<json::value> items(value.get_array().begin(), value.get_array().end());
      std::sort(items.begin(), items.end(), [](const json::value& a, const json::value& b) {
        return canonical_text(a) < canonical_text(b);
      });
      value = json::array(items.begin(), items.end());
    }
  }
}
}  // namespace

TEST_CASE("property: merge(diff(a, b), a) is b for merge patches and JSON patches") {
  for_all_kinds(4, [](const TypeRecord& record, const TypeVersion& version, Chance& chance) {
    const json::value before = random_object(record, version, chance);
    const json::value after = random_object(record, version, chance);
    const json::value merge = merge_difference(before, after);
    json::value merged = before;
    merge_patch(merged, merge);
    CHECK_MESSAGE(merged == after, to_json(before) << "\n" << to_json(merge));
    json::array operations;
    json_difference(before, after, "", operations);
    json::value patched = before;
    const auto done = json_patch(patched, operations);
    REQUIRE_MESSAGE(done, (done ? "" : done.error().message()));
    CHECK_MESSAGE(patched == after, to_json(before) << "\n" << json::serialize(operations));
  });
}

TEST_CASE("property: merge(diff(a, b), a) is b for strategic patches, in the order of b") {
  for_all_kinds(8, [](const TypeRecord& record, const TypeVersion& version, Chance& chance) {
    const json::value before = random_object(record, version, chance);
    const json::value after = random_object(record, version, chance);
    const json::value patch =
        StrategicDifference::object(version.schema, before.get_object(), after.get_object());
    json::value patched = before;
    const auto done = strategic_merge_patch(version.schema, patched, patch);
    REQUIRE_MESSAGE(done, (done ? "" : done.error().message() + "\n" + to_json(patch)));
    CHECK_MESSAGE(patched == after, to_json(before) << "\n" << to_json(patch) << "\n" << to_json(patched));
  });
}

TEST_CASE("property: an applier that applies b after a leaves b, and applying it again changes nothing") {
  for_all_kinds(4, [](const TypeRecord& record, const TypeVersion& version, Chance& chance) {
    const std::string api_version = record.gvk(version.name).api_version();
    FieldWrite write;
    write.manager = {
        .name = "me", .operation = "Apply", .api_version = api_version, .time = "2026-01-02T03:04:05Z"};
    write.schema = version.schema;
    write.view = [&](const std::string&, const json::value& one, const json::value& other) {
      return std::optional<VersionView>({version.schema, one, other});
    };
    json::value live = json::object{
        {"apiVersion", api_version}, {"kind", record.kind}, {"metadata", json::object{{"name", "x"}}}};
    FieldManagers managers;
    for (int step = 0; step < 3; ++step) {
      const json::value wanted = random_object(record, version, chance);
      auto applied = apply_config(write, live, wanted, managers, false);
      REQUIRE_MESSAGE(applied, (applied ? "" : applied.error().message()));
      json::value is = applied->object, should = wanted;
      // Identity is nobody's: what was given once stays.
      for (json::value* each : {&is, &should}) {
        json::object& metadata = each->get_object()["metadata"].get_object();
        for (const char* name :
             {"namespace", "creationTimestamp", "selfLink", "uid", "generation", "resourceVersion"})
          metadata.erase(name);
        tidy(version.schema, *each);
      }
      CHECK_MESSAGE(is == should, to_json(live) << "\n" << to_json(is) << "\n" << to_json(should));
      live = applied->object;
      managers = applied->managers;
      const auto again = apply_config(write, live, wanted, managers, false);
      REQUIRE(again);
      json::value repeated = again->object, before = live;
      tidy(version.schema, repeated);
      tidy(version.schema, before);
      CHECK_MESSAGE(repeated == before, to_json(again->object) << "\n" << to_json(live));
      CHECK(same_but_times(again->managers, managers));
    }
  });
}

TEST_CASE("property: defaults do not depend on unknown fields, which go before them or after them") {
  for_all_kinds(8, [](const TypeRecord& record, const TypeVersion& version, Chance& chance) {
    json::value first = random_object(record, version, chance);
    add_unknown(version.schema, first, chance);
    json::value second = first;
    REQUIRE(prune_unknown(version.schema, first));
    apply_defaults(version.schema, first);
    apply_defaults(version.schema, second);
    REQUIRE(prune_unknown(version.schema, second));
    CHECK_MESSAGE(first == second, to_json(first) << "\n" << to_json(second));
    json::value again = first;
    apply_defaults(version.schema, again);
    CHECK(again == first);
    const auto left = prune_unknown(version.schema, again);
    REQUIRE(left);
    CHECK(left->empty());
    CHECK_MESSAGE(again == first, "pruning takes away what defaults gave: " << to_json(first));
  });
}

namespace {
/// Metrics that can be: each source with the targets that it may have.
json::value random_metric(Chance& chance, bool status) {
  const std::string source =
      chance.any_of<const char*>({"resource", "containerResource", "pods", "object", "external"});
  const bool resource = source == "resource" || source == "containerResource";
  json::object part;
  if (resource) {
    part["name"] = chance.any_of<const char*>({"cpu", "memory"});
    if (source == "containerResource") part["container"] = "main";
  } else {
    part["metric"] = json::object{{"name", "requests"}};
    if (chance.one_in(2))
      part["metric"].get_object()["selector"] = json::object{{"matchLabels", json::object{{"a", "b"}}}};
  }
  if (source == "object") part["describedObject"] = json::object{{"kind", "Service"}, {"name", "web"}};
  json::object value;
  if (resource && chance.one_in(2)) {
    value["averageUtilization"] = static_cast<std::int64_t>(1 + chance.below(90));
    if (!status) value["type"] = "Utilization";
  } else if (resource || source == "pods" || chance.one_in(2)) {
    value["averageValue"] = "100m";
    if (!status) value["type"] = "AverageValue";
  } else {
    value["value"] = "3";
    if (!status) value["type"] = "Value";
  }
  part[status ? "current" : "target"] = std::move(value);
  const std::string type = source == "resource"            ? "Resource"
                           : source == "containerResource" ? "ContainerResource"
                           : source == "pods"              ? "Pods"
                           : source == "object"            ? "Object"
                                                           : "External";
  return json::object{{"type", type}, {source, std::move(part)}};
}
/// In v1 the first use of the processor stands apart, so it comes back in front: the order of metrics is no
/// loss.
json::value with_sorted_metrics(json::value object) {
  for (const char* path : {"/spec/metrics", "/status/currentMetrics"}) {
    const json::array* list = array_at(object, path);
    if (list == nullptr) continue;
    std::vector<json::value> items(list->begin(), list->end());
    std::sort(items.begin(), items.end(), [](const json::value& a, const json::value& b) {
      return canonical_text(a) < canonical_text(b);
    });
    set_at(object, path, json::array(items.begin(), items.end()));
  }
  return object;
}
/// No field under a name of another version.
bool knows_all(SchemaRef schema, json::value object) {
  const auto unknown = prune_unknown(schema, object);
  return unknown && unknown->empty();
}
}  // namespace

TEST_CASE("property: conversions between the versions of a kind lose nothing, in either direction") {
  std::size_t converted = 0;
  for_all_kinds(20, [&](const TypeRecord& record, const TypeVersion& version, Chance& chance) {
    if (version.conversion == nullptr) return;
    ++converted;
    const bool scaler = record.kind == "HorizontalPodAutoscaler";
    // What a client sent in this version comes back.
    json::value sent = random_object(record, version, chance);
    apply_defaults(version.schema, sent);
    json::value stored = sent;
    REQUIRE(to_stored(record, version, stored));
    CHECK(string_at(stored, "/apiVersion") == record.stored_api_version());
    CHECK(knows_all(record.stored_schema(), stored));
    json::value shown = stored;
    REQUIRE(from_stored(record, version, shown));
    CHECK(knows_all(version.schema, shown));
    for (const auto& [key, value] : sent.get_object()) {
      if (scaler && key == "metadata") continue;  // annotations carry more
      const json::value* there = shown.get_object().if_contains(key);
      REQUIRE_MESSAGE(there != nullptr, key << " is lost of " << to_json(sent));
      if (!scaler) CHECK_MESSAGE(*there == value, key << ": " << to_json(*there) << "\n" << to_json(value));
    }
    // Shown and sent back: what is stored does not change.
    json::value back = shown;
    REQUIRE(to_stored(record, version, back));
    CHECK_MESSAGE(with_sorted_metrics(back) == with_sorted_metrics(stored), to_json(back) << "\n"
                                                                                          << to_json(stored));
  });
  CHECK(converted > 0);
  // An autoscaler in the full version, through the one that cannot say all of it.
  const TypePtr scalers = TypeRegistry::builtin()->find_kind("autoscaling", "v1", "HorizontalPodAutoscaler");
  REQUIRE(scalers != nullptr);
  const TypeVersion& narrow = *scalers->version("v1");
  for (std::uint64_t seed = test::first_seed(); seed < test::first_seed() + test::seed_count(200); ++seed) {
    CAPTURE(seed);
    Chance chance(seed);
    json::array metrics, current;
    for (std::uint64_t i = chance.below(5); i > 0; --i) metrics.push_back(random_metric(chance, false));
    for (std::uint64_t i = chance.below(5); i > 0; --i) current.push_back(random_metric(chance, true));
    json::value stored = json::object{
        {"apiVersion", "autoscaling/v2"},
        {"kind", "HorizontalPodAutoscaler"},
        {"metadata", json::object{{"name", "x"}, {"annotations", json::object{{"mine", "1"}}}}},
        {"spec",
         json::object{{"maxReplicas", 3}, {"scaleTargetRef", json::object{{"kind", "D"}, {"name", "d"}}}}},
        {"status", json::object{{"currentReplicas", 1}, {"desiredReplicas", 2}}}};
    if (!metrics.empty()) stored.get_object()["spec"].get_object()["metrics"] = metrics;
    if (!current.empty()) stored.get_object()["status"].get_object()["currentMetrics"] = current;
    if (chance.one_in(2))
      set_at(stored, "/status/conditions",
             json::array{json::object{{"type", "AbleToScale"}, {"status", "True"}}});
    if (chance.one_in(2))
      set_at(stored, "/spec/behavior",
             json::object{{"scaleDown", json::object{{"stabilizationWindowSeconds", 30}}}});
    apply_defaults(scalers->stored_schema(), stored);
    json::value through = stored;
    REQUIRE(from_stored(*scalers, narrow, through));
    CHECK(array_at(through, "/spec/metrics") == nullptr);
    CHECK(knows_all(narrow.schema, through));
    REQUIRE(to_stored(*scalers, narrow, through));
    CHECK_MESSAGE(with_sorted_metrics(through) == with_sorted_metrics(stored), to_json(through)
                                                                                   << "\n"
                                                                                   << to_json(stored));
  }
}
