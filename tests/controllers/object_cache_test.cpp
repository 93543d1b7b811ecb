// The indexed cache behind informers, and the small helpers on objects.
#include <array>
#include <random>

#include "tests/controllers/world.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::controllers;
using test::object_from_line;

namespace {
std::string names(const std::vector<Object>& objects) {
  std::string text;
  for (const Object& object : objects) text += (text.empty() ? "" : " ") + ObjectKey::of(object).text();
  return text;
}
}  // namespace

TEST_CASE("the cache finds objects by namespace, owner, node, labels, uid and own indexes") {
  ObjectCache cache;
  cache.put(object_from_line("Pod shop/b app=web owner=ReplicaSet/web node=n1 image=x uid=u2"));
  cache.put(object_from_line("Pod shop/a app=web owner=ReplicaSet/web node=n2 image=y uid=u1"));
  cache.put(object_from_line("Pod test/a app=web node=n1 image=x uid=u3"));
  cache.put(object_from_line("Pod shop/c app=db image=x uid=u4"));
  cache.add_index("image", [](const Object& pod) {
    return std::vector{string_at(tree(pod), "/spec/containers/0/image")};
  });
  const LabelMatcher web = [](const LabelMap& labels) {
    return labels.contains("app") && labels.at("app") == "web";
  };
  CHECK(names(cache.list()) == "shop/a shop/b shop/c test/a");
  CHECK(names(cache.list("shop")) == "shop/a shop/b shop/c");
  CHECK(names(cache.find(ObjectCache::kOwner, "web")) == "shop/a shop/b");
  CHECK(names(cache.find(ObjectCache::kNode, "n1")) == "shop/b test/a");
  CHECK(names(cache.find("image", "x")) == "shop/b shop/c test/a");
  CHECK(names(cache.select("shop", web)) == "shop/a shop/b");
  CHECK(names(cache.select("", web)) == "shop/a shop/b test/a");
  CHECK(cache.by_uid("u4").name() == "c");
}

TEST_CASE("a changed or removed object leaves no trace in any index") {
  ObjectCache cache;
  cache.put(object_from_line("Pod shop/a app=web node=n1 owner=ReplicaSet/one uid=u1"));
  const Object old = cache.put(object_from_line("Pod shop/a app=db node=n2 uid=u2"));
  CHECK(old.uid() == "u1");
  CHECK(cache.find(ObjectCache::kNode, "n1").empty());
  CHECK(cache.find(ObjectCache::kOwner, "one").empty());
  CHECK_FALSE(cache.by_uid("u1"));
  CHECK(cache.select("shop", [](const LabelMap& l) { return l.contains("app") && l.at("app") == "web"; })
            .empty());
  cache.erase({"shop", "a"});
  CHECK(cache.size() == 0);
  CHECK(cache.bytes() == 0);
  CHECK(cache.find(ObjectCache::kNode, "n2").empty());
}

TEST_CASE(
    "a selector finds the same objects by the index of labels as by trying each, whatever comes and goes") {
  ObjectCache cache;
  std::map<ObjectKey, Object> all;
  std::mt19937 random(7);
  const auto draw = [&](unsigned bound) { return random() % bound; };
  const auto labels = [&] {
    std::string text;
    for (const char* key : {"app", "tier", "track"}) {
      if (const unsigned value = draw(4); value != 0)
        text += (text.empty() ? " labels=" : ",") + std::string(key) + ":" + std::to_string(value);
    }
    return text;
  };
  int found = 0;
  for (int step = 0; step < 3000; ++step) {
    const ObjectKey key{draw(2) == 0 ? "shop" : "test", "p" + std::to_string(draw(40))};
    if (draw(3) == 0) {
      cache.erase(key);
      all.erase(key);
    } else {
      const char* owner = std::array{"", " owner=ReplicaSet/web", " owner=!ConfigMap/c"}.at(draw(3));
      const Object object = object_from_line("Pod " + key.text() + owner + labels());
      cache.put(object);
      all[key] = object;
    }
    json::object map{{"app", std::to_string(1 + draw(3))}};
    if (draw(2) == 0) map["track"] = std::to_string(1 + draw(4));  // 4: nobody has it
    const json::value selector = json::object{{"matchLabels", std::move(map)}};
    const auto parsed = LabelSelector::parse(&selector);
    const std::string ns = std::array{"", "shop", "test", "none"}.at(draw(4));
    std::vector<Object> expected;
    std::vector<Object> orphans;
    for (const auto& [place, object] : all) {
      if ((!ns.empty() && place.ns != ns) || !parsed->matches(object.labels())) continue;
      expected.push_back(object);
      if (object.controller() == nullptr) orphans.push_back(object);
    }
    found += static_cast<int>(expected.size());
    const LabelMatcher matcher = [&](const LabelMap& each) { return parsed->matches(each); };
    REQUIRE(names(cache.select(ns, matcher, parsed->having())) == names(expected));
    REQUIRE(names(cache.select(ns, matcher)) == names(expected));
    REQUIRE(names(cache.select_orphans(ns, matcher, parsed->having())) == names(orphans));
  }
  CHECK(found > 1000);
}

TEST_CASE("an index of labels is asked: sets without the rarest label are not tried") {
  ObjectCache cache;
  for (int i = 0; i < 100; ++i) {
    const std::string number = std::to_string(i);
    cache.put(object_from_line("Pod shop/p" + number + " labels=app:web,n:" + number));
  }
  int tried = 0;
  const LabelMatcher counted = [&](const LabelMap& labels) {
    ++tried;
    return labels.at("n") == "7";
  };
  CHECK(names(cache.select("shop", counted, {{"app", "web"}, {"n", "7"}})) == "shop/p7");
  CHECK(tried == 1);
  CHECK(cache.select("shop", counted, {{"app", "db"}}).empty());
  CHECK(tried == 1);
}

TEST_CASE("times are read and printed as RFC 3339") {
  CHECK(parse_time("1970-01-01T00:00:00Z") == 0);
  CHECK(parse_time("2026-11-23T15:30:45Z") == 1795447845LL * 1'000'000'000);
  CHECK(parse_time("2026-11-23T15:30:45.250000Z") == 1795447845LL * 1'000'000'000 + 250'000'000);
  CHECK(parse_time("2026-11-23T16:30:45+01:00") == 1795447845LL * 1'000'000'000);
  CHECK(format_time(1795447845LL * 1'000'000'000 + 999) == "2026-11-23T15:30:45Z");
  CHECK(format_micro_time(1795447845LL * 1'000'000'000 + 250'001'999) == "2026-11-23T15:30:45.250001Z");
  CHECK(format_time(*parse_time("2024-02-29T23:59:59Z")) == "2024-02-29T23:59:59Z");
  for (const char* bad : {"", "2026", "2026-13-01T00:00:00Z", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00",
                          "2026-01-01T00:00:00Zx"}) {
    CHECK_FALSE(parse_time(bad).has_value());
  }
}

TEST_CASE("label selectors follow the four operators; an absent one matches nothing, an empty one all") {
  const auto matches = [](const char* selector, const LabelMap& labels) {
    const auto parsed = parse_json(selector);
    REQUIRE(parsed);
    return LabelSelector::parse(&*parsed)->matches(labels);
  };
  CHECK(matches("{}", {}));
  CHECK_FALSE(LabelSelector::parse(nullptr)->matches({}));
  CHECK(matches(R"({"matchLabels":{"a":"1"}})", {{"a", "1"}, {"b", "2"}}));
  CHECK_FALSE(matches(R"({"matchLabels":{"a":"1"}})", {{"a", "2"}}));
  CHECK(matches(R"({"matchExpressions":[{"key":"a","operator":"In","values":["1","2"]}]})", {{"a", "2"}}));
  CHECK(matches(R"({"matchExpressions":[{"key":"a","operator":"NotIn","values":["1"]}]})", {}));
  CHECK_FALSE(matches(R"({"matchExpressions":[{"key":"a","operator":"Exists"}]})", {}));
  CHECK(matches(R"({"matchExpressions":[{"key":"a","operator":"DoesNotExist"}]})", {}));
  const auto bad = parse_json(R"({"matchExpressions":[{"key":"a","operator":"Near"}]})");
  CHECK_FALSE(LabelSelector::parse(&*bad));
}

TEST_CASE("percentages round as asked, trees are equal by meaning") {
  const json::value quarter = "25%";
  CHECK(resolve_percent(&quarter, 3, true) == 1);
  CHECK(resolve_percent(&quarter, 3, false) == 0);
  CHECK(resolve_percent(&quarter, 0, true) == 0);
  const auto a = parse_json(R"({"x":1,"y":{"b":null,"a":[]},"z":{}})");
  const auto b = parse_json(R"({"z":{},"y":{},"x":1})");
  const auto c = parse_json(R"({"y":{},"x":1})");
  CHECK(same_meaning(&*a, &*b));
  CHECK_FALSE(same_meaning(&*a, &*c));  // {} may mean something: emptyDir, namespaceSelector
}
