// Properties of Job, StatefulSet and DaemonSet in a seeded world of make-believe pods: pods fail, end and
// come up at random, and the controller is stopped between any two of its writes and starts again.
#include <random>

#include "controllers/builtin.hpp"
#include "controllers/common/pods.hpp"
#include "controllers/job/model.hpp"
#include "tests/controllers/world.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::controllers;

namespace {

using Dice = std::mt19937_64;

std::set<std::string> keys_of(const Reconciler& reconciler, test::World& world) {
  std::set<std::string> keys;
  for (const Source& source : reconciler.sources()) {
    if (!source.keys) continue;
    for (const Object& object : world.objects(source.resource).list())
      source.keys(world, {}, object, [&](const std::string& key) { keys.insert(key); });
  }
  return keys;
}

// One decision on each key, cut off after a random number of writes.
void step(const Reconciler& reconciler, test::World& world, Dice& random) {
  for (const std::string& key : keys_of(reconciler, world)) {
    const Actions actions = reconciler.decide(key, world, world.now());
    const std::size_t count =
        actions.list.empty() || random() % 3 != 0 ? actions.list.size() : random() % actions.list.size();
    const auto done = world.apply_some(actions, count);
    if (!done && !done.error().is(Error::not_found)) REQUIRE_MESSAGE(done, done.error().to_string());
  }
}

// Deleted pods go once no finalizer holds them.
void sweep(test::World& world) {
  for (const Object& pod : world.objects(pods()).list()) {
    if (pod.deleting() && pod.finalizers().empty()) world.erase(pods(), pod);
  }
}

void set_phase(test::World& world, const Object& pod, const char* phase, std::int64_t code) {
  world.edit_status(pods(), pod, [&](json::value& status) {
    set_at(status, "/phase", json::value(phase));
    json::value container = json::object{{"name", "main"}};
    set_at(container, "/state/terminated/exitCode", json::value(code));
    set_at(container, "/state/terminated/finishedAt", json::value(format_time(world.wall_ns)));
    set_at(status, "/containerStatuses", json::array{std::move(container)});
  });
}

void set_ready(test::World& world, const Object& pod, bool ready) {
  world.edit_status(pods(), pod, [&](json::value& status) {
    set_at(status, "/phase", json::value("Running"));
    json::array conditions;
    conditions.push_back(json::object{{"type", "Ready"},
                                      {"status", ready ? "True" : "False"},
                                      {"lastTransitionTime", format_time(world.wall_ns)}});
    set_at(status, "/conditions", std::move(conditions));
  });
}

Object first(test::World& world, const ResourceRef& resource) { return world.objects(resource).list().at(0); }

}  // namespace

TEST_CASE("a job of 200 indexes with random failures and stops counts every pod exactly once") {
  for (const std::uint64_t seed : {1, 2, 3}) {
    INFO("seed " << seed);
    Dice random(seed);
    test::World world;
    world.pods_linger = true;
    const auto job = make_reconciler("job", {});
    world.add(test::object_from_line(
        "Job shop/sum app=sum image=v1 spec.completions=200 spec.parallelism=20 spec.completionMode=Indexed "
        "spec.backoffLimit=1000000"));
    std::int64_t failures = 0;
    std::set<std::string> ended;
    int rounds = 0;
    while (!job_finished(first(world, jobs()))) {
      REQUIRE(++rounds < 20000);
      step(*job, world, random);
      for (const Object& pod : world.objects(pods()).list()) {
        if (!pod_active(pod) || random() % 4 != 0) continue;
        const bool fails = random() % 3 == 0;
        if (fails) ++failures;
        ended.insert(pod.uid());
        set_phase(world, pod, fails ? "Failed" : "Succeeded", fails ? 1 : 0);
      }
      // The pod collector takes old ended pods; they cannot go before they are counted.
      for (const Object& pod : world.objects(pods()).list()) {
        if (pod_terminal(pod) && pod.finalizers().empty() && random() % 8 == 0) world.erase(pods(), pod);
      }
      const auto active = world.objects(pods()).list();
      CHECK(std::count_if(active.begin(), active.end(), [](const Object& pod) { return pod_active(pod); }) <=
            20);
      sweep(world);
      world.wall_ns += 700'000'000'000;  // beyond every pause
    }
    const json::value root = tree(first(world, jobs()));
    CHECK(int_at(root, "/status/succeeded") == 200);
    CHECK(int_at(root, "/status/failed") == failures);
    CHECK(string_at(root, "/status/completedIndexes") == "0-199");
    CHECK(static_cast<std::int64_t>(ended.size()) == 200 + failures);
    CHECK(true_condition(root, "Complete") != nullptr);
  }
}

TEST_CASE("a job without indexes counts exactly as well, and fails exactly beyond its limit") {
  for (const std::uint64_t seed : {11, 12, 13, 14}) {
    INFO("seed " << seed);
    Dice random(seed);
    test::World world;
    world.pods_linger = true;
    const auto job = make_reconciler("job", {});
    world.add(test::object_from_line(
        "Job shop/sum app=sum image=v1 spec.completions=30 spec.parallelism=4 spec.backoffLimit=" +
        std::string(seed % 2 == 0 ? "5" : "100000")));
    std::int64_t failures = 0;
    std::int64_t successes = 0;
    int rounds = 0;
    while (!job_finished(first(world, jobs()))) {
      REQUIRE(++rounds < 20000);
      step(*job, world, random);
      for (const Object& pod : world.objects(pods()).list()) {
        if (pod_terminal(pod) || (!pod.deleting() && random() % 3 != 0)) continue;
        if (pod.deleting() && !has_tracking(pod)) continue;
        const bool fails = pod.deleting() || random() % 2 == 0;
        (fails ? failures : successes) += 1;
        set_phase(world, pod, fails ? "Failed" : "Succeeded", fails ? 1 : 0);
      }
      sweep(world);
      world.wall_ns += 700'000'000'000;
    }
    const json::value root = tree(first(world, jobs()));
    CHECK(int_at(root, "/status/succeeded") == successes);
    CHECK((true_condition(root, "Failed") != nullptr) == (seed % 2 == 0));
    if (seed % 2 == 0) {
      CHECK(int_at(root, "/status/failed") > 5);
    } else {
      CHECK(int_at(root, "/status/failed") == failures);
      CHECK(successes == 30);
    }
  }
}

TEST_CASE("a stateful set keeps one pod per name, its order and its claims through updates and stops") {
  for (const std::uint64_t seed : {21, 22, 23}) {
    INFO("seed " << seed);
    Dice random(seed);
    test::World world;
    world.pods_linger = true;
    const auto set = make_reconciler("statefulset", {});
    world.add(
        test::object_from_line("StatefulSet shop/db app=db image=v1 spec.replicas=4 "
                               "spec.volumeClaimTemplates=[{\"metadata\":{\"name\":\"data\"}}]"));
    const auto settled = [&](const char* image, std::int64_t replicas) {
      const json::value root = tree(first(world, stateful_sets()));
      if (int_at(root, "/status/readyReplicas") != replicas || int_at(root, "/status/replicas") != replicas)
        return false;
      if (string_at(root, "/status/currentRevision") != string_at(root, "/status/updateRevision"))
        return false;
      for (const Object& pod : world.objects(pods()).list()) {
        if (string_at(tree(pod), "/spec/containers/0/image") != image || pod.deleting()) return false;
      }
      return true;
    };
    const auto run = [&](const char* image, std::int64_t replicas, bool growing) {
      for (int round = 0; round < 3000; ++round) {
        step(*set, world, random);
        std::int64_t unready = 0;
        for (const Object& pod : world.objects(pods()).list()) {
          if (pod.deleting() && random() % 2 == 0) continue;
          if (!pod.deleting() && !pod_ready(pod)) {
            ++unready;
            if (random() % 2 == 0) set_ready(world, pod, true);
          }
        }
        // OrderedReady: never more than one that is on its way up, while nothing else disturbs.
        if (growing) CHECK(unready <= 1);
        if (random() % 2 == 0) sweep(world);
        world.wall_ns += 1'000'000'000;
        if (settled(image, replicas)) return true;
      }
      return false;
    };
    CHECK(run("v1", 4, true));
    world.edit(stateful_sets(), "shop", "db", [](json::value& root) {
      set_at(root, "/spec/template/spec/containers",
             json::array{json::object{{"name", "main"}, {"image", "v2"}}});
    });
    CHECK(run("v2", 4, true));
    world.edit(stateful_sets(), "shop", "db", [](json::value& root) { set_at(root, "/spec/replicas", 2); });
    CHECK(run("v2", 2, true));
    CHECK(world.objects(persistent_volume_claims()).size() == 4);
    world.edit(stateful_sets(), "shop", "db", [](json::value& root) {
      set_at(root, "/spec/template/spec/containers",
             json::array{json::object{{"name", "main"}, {"image", "v1"}}});
    });
    CHECK(run("v1", 2, true));
    // The first template again is the first revision again.
    CHECK(world.objects(controller_revisions()).size() == 2);
  }
}

TEST_CASE("a daemon set holds maxUnavailable at every step of an update") {
  for (const std::uint64_t seed : {31, 32, 33}) {
    INFO("seed " << seed);
    Dice random(seed);
    test::World world;
    world.pods_linger = true;
    const auto set = make_reconciler("daemonset", {});
    for (int i = 0; i < 12; ++i) world.add(test::object_from_line("Node n" + std::to_string(i)));
    world.add(test::object_from_line(
        "DaemonSet sys/agent app=agent image=v1 spec.updateStrategy.rollingUpdate.maxUnavailable=3"));
    const auto run = [&](const char* image, bool bounded) {
      for (int round = 0; round < 3000; ++round) {
        step(*set, world, random);
        std::int64_t ready = 0;
        std::int64_t right = 0;
        for (const Object& pod : world.objects(pods()).list()) {
          if (pod_active(pod) && pod_ready(pod)) ++ready;
          if (pod_active(pod) && pod_ready(pod) && string_at(tree(pod), "/spec/containers/0/image") == image)
            ++right;
        }
        if (bounded) CHECK(ready >= 9);
        for (const Object& pod : world.objects(pods()).list()) {
          if (pod_active(pod) && !pod_ready(pod) && random() % 2 == 0) set_ready(world, pod, true);
        }
        if (random() % 2 == 0) sweep(world);
        world.wall_ns += 1'000'000'000;
        if (right == 12 && world.objects(pods()).size() == 12) return true;
      }
      return false;
    };
    CHECK(run("v1", false));
    world.edit(daemon_sets(), "sys", "agent", [](json::value& root) {
      set_at(root, "/spec/template/spec/containers",
             json::array{json::object{{"name", "main"}, {"image", "v2"}}});
    });
    CHECK(run("v2", true));
  }
}

TEST_CASE("lists of indexes are read back as they were written") {
  CHECK(format_indexes(parse_indexes("0,2-5,7,9-10", 100)) == "0,2-5,7,9,10");
  CHECK(parse_indexes("0-1000000000000", 3).size() == 3);
  CHECK(parse_indexes("x", 3).empty());
  Dice random(5);
  for (int round = 0; round < 300; ++round) {
    IndexSet set;
    for (int i = 0; i < 40; ++i) set.insert(static_cast<std::int64_t>(random() % 60));
    CHECK(parse_indexes(format_indexes(set), 60) == set);
  }
}
