// Which changes wake the garbage collector: tests/scenarios/controllers/garbage.txt has what it decides.
#include "controllers/builtin.hpp"
#include "controllers/garbage/decide.hpp"
#include "tests/controllers/world.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::controllers;
using test::object_from_line;

namespace {
struct Collector {
  test::World world;
  std::shared_ptr<const Reconciler> reconciler = make_garbage_collector(
      {{pods(), "Pod", true}, {replica_sets(), "ReplicaSet", true}, {nodes(), "Node", false}});

  // The keys that a change wakes, once the view has it; an empty line: no object.
  std::string woken(const std::string& before, const std::string& after) {
    const Object old = before.empty() ? Object() : object_from_line(before);
    const Object now = after.empty() ? Object() : object_from_line(after);
    const ResourceRef resource = test::resource_of_object(now ? now : old);
    if (now) world.objects(resource).put(now);
    if (!now) world.objects(resource).erase(ObjectKey::of(old));
    std::string keys;
    for (const Source& source : reconciler->sources()) {
      if (source.resource == resource && source.keys)
        source.keys(world, old, now, [&](const std::string& key) { keys += key + " "; });
    }
    return keys;
  }
};
constexpr const char* kSet = "ReplicaSet shop/web uid=u-web";
constexpr const char* kOwned = "Pod shop/a owner=ReplicaSet/web/u-web";
constexpr const char* kKey = "v1|pods|shop|a ";
}  // namespace

TEST_CASE("an object whose owners are there is not looked at; their end wakes it") {
  Collector collector;
  CHECK(collector.woken("", "Pod shop/b").empty());
  CHECK(collector.woken("", kSet).empty());
  CHECK(collector.woken("", kOwned).empty());
  CHECK(collector.woken(kOwned, std::string(kOwned) + " phase=Running").empty());
  CHECK(collector.woken(kSet, "") == kKey);
}

TEST_CASE("an object whose owner is absent, another's, elsewhere or on its way out is looked at") {
  Collector collector;
  CHECK(collector.woken("", kOwned) == kKey);
  CHECK(collector.woken("", "ReplicaSet shop/web uid=u-other").empty());
  CHECK(collector.woken("", kOwned) == kKey);
  CHECK(collector.woken("", "ReplicaSet other/web uid=u-web").empty());
  CHECK(collector.woken("", kOwned) == kKey);
  const std::string ends = std::string(kSet) + " deleted=2026-01-01T00:00:00Z finalizers=foregroundDeletion";
  Collector foreground;
  CHECK(foreground.woken("", kSet).empty());
  CHECK(foreground.woken("", kOwned).empty());
  CHECK(foreground.woken(kSet, ends).find(kKey) != std::string::npos);
  CHECK(foreground.woken("", kOwned).find(kKey) != std::string::npos);
}
