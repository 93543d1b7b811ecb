// Values of any schema, made by chance: what can be decoded, not what is valid.
#pragma once
#include <cstdlib>
#include <random>
#include <set>
#include <string>

#include "api/schema.hpp"
#include "base/json.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test {

/// ORC_SEED replays; tests print `seed` with what failed.
struct Chance {
  std::uint64_t seed;
  std::mt19937_64 random;
  explicit Chance(std::uint64_t of) : seed(of), random(of) {}
  std::uint64_t below(std::uint64_t bound) { return random() % bound; }
  bool one_in(std::uint64_t bound) { return below(bound) == 0; }
  template <class T>
  const T& any_of(std::initializer_list<T> list) {
    return *(list.begin() + below(list.size()));
  }
};
inline std::uint64_t first_seed() {
  const char* text = std::getenv("ORC_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
}
/// One seed where ORC_SEED names it, else as many as wanted.
inline std::uint64_t seed_count(std::uint64_t wanted) {
  return std::getenv("ORC_SEED") != nullptr ? 1 : wanted;
}

class ValueMaker {
 public:
  explicit ValueMaker(Chance& chance) : chance_(chance) {}

  json::value make(api::SchemaRef schema, int depth = 0) {
    using api::SchemaKind;
    switch (schema.kind()) {
      case SchemaKind::any:
      case SchemaKind::raw_extension:
      case SchemaKind::json_value:
        return json::object{{"own", word()}, {"list", json::array{1, word()}}};
      case SchemaKind::string:
        return schema.enum_values().empty() ? json::value(word()) : json::value(one_of(schema.enum_values()));
      case SchemaKind::int32:
      case SchemaKind::int64:
        return static_cast<std::int64_t>(1 + chance_.below(9));
      case SchemaKind::boolean:
        return chance_.one_in(2);
      case SchemaKind::number:
        return 0.5 * static_cast<double>(1 + chance_.below(9));
      case SchemaKind::bytes:
        return json::value(chance_.any_of<const char*>({"YQ==", "YmI="}));
      case SchemaKind::time:
        return json::value(chance_.any_of<const char*>({"2026-01-02T03:04:05Z", "2025-12-31T23:59:59Z"}));
      case SchemaKind::micro_time:
        return json::value(
            chance_.any_of<const char*>({"2026-01-02T03:04:05.000006Z", "2025-12-31T23:59:59.123456Z"}));
      case SchemaKind::duration:
        return json::value(chance_.any_of<const char*>({"5s", "1m0s"}));
      case SchemaKind::quantity:
        return json::value(chance_.any_of<const char*>({"100m", "1Gi", "3"}));
      case SchemaKind::int_or_string:
        return chance_.one_in(2) ? json::value(80) : json::value("25%");
      case SchemaKind::fields_v1:
        return json::object{{"f:" + word(), json::object()}};
      case SchemaKind::object:
        return object(schema, depth);
      case SchemaKind::map:
        return map(schema, depth);
      case SchemaKind::list:
        return list(schema, depth);
    }
    return nullptr;
  }

 private:
  static constexpr int kDepthMax = 9;

  std::string word() { return chance_.any_of<const char*>({"a", "b", "web", "x/y", "m~n"}); }
  std::string one_of(std::string_view choices) {
    std::vector<std::string> words;
    for (std::size_t at = 0; at <= choices.size();) {
      const std::size_t end = std::min(choices.find('|', at), choices.size());
      words.emplace_back(choices.substr(at, end - at));
      at = end + 1;
    }
    return words[chance_.below(words.size())];
  }
  json::value object(api::SchemaRef schema, int depth) {
    json::object out;
    if (depth >= kDepthMax) return out;
    for (std::size_t i = 0; i < schema.size(); ++i) {
      // About three members of each message, whatever its size.
      if (chance_.below(schema.size()) < 3) out[schema.at(i).name()] = make(schema.at(i), depth + 1);
    }
    return out;
  }
  json::value map(api::SchemaRef schema, int depth) {
    json::object out;
    for (std::uint64_t count = chance_.below(4); count > 0; --count)
      out[word()] = make(schema.element(), depth + 1);
    return out;
  }
  json::value list(api::SchemaRef schema, int depth) {
    json::array out;
    std::set<std::string> taken;
    for (std::uint64_t count = chance_.below(4); count > 0; --count) {
      json::value item = make(schema.element(), depth + 1);
      std::string own;
      // What identifies an item is there and is its own.
      for (const std::string_view name : {schema.merge_key(), schema.keys()}) {
        for (const std::string& key : split(name)) {
          if (!item.is_object()) continue;
          json::value& value = item.get_object()[key];
          if (value.is_null()) value = make(schema.element().property(key), depth + 1);
        }
      }
      if (!schema.merge_key().empty() && item.is_object()) {
        own = to_json(item.get_object()[schema.merge_key()]);
      } else if (!schema.keys().empty() && item.is_object()) {
        for (const std::string& key : split(schema.keys())) own += to_json(item.get_object()[key]) + ",";
      } else if (schema.list_kind() == api::ListKind::set || schema.patch() == api::PatchStrategy::merge) {
        own = to_json(item);
      } else {
        own = std::to_string(taken.size());
      }
      if (taken.insert(own).second) out.push_back(std::move(item));
    }
    return out;
  }
  static std::vector<std::string> split(std::string_view text) {
    std::vector<std::string> out;
    while (!text.empty()) {
      const std::size_t end = std::min(text.find(','), text.size());
      out.emplace_back(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
  }
  Chance& chance_;
};

}  // namespace orchestra::test
