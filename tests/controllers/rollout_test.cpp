// Random rollouts in virtual time: whatever users and pods do, the promises of a Deployment hold at every
// instant, and it comes to rest at what was asked.
#include <algorithm>
#include <random>

#include "controllers/common/pods.hpp"
#include "controllers/deployment/decide.hpp"
#include "controllers/replicaset/decide.hpp"
#include "tests/controllers/world.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::controllers;

namespace {

struct Rollout {
  test::World world;
  std::mt19937 random;
  std::int64_t replicas = 0, surge = 0, unavailable = 0;
  std::shared_ptr<const Reconciler> deployment = make_deployment_reconciler();
  std::shared_ptr<const Reconciler> set = make_replica_set_reconciler();

  explicit Rollout(unsigned seed) : random(seed) {
    surge = pick(0, 3);
    unavailable = surge == 0 ? pick(1, 3) : pick(0, 3);
    replicas = pick(1, 8);
    world.pods_linger = true;
    world.add(test::object_from_line(
        "Deployment shop/web app=web image=v1 spec.replicas=" + std::to_string(replicas) +
        " spec.strategy.rollingUpdate.maxSurge=" + std::to_string(surge) +
        " spec.strategy.rollingUpdate.maxUnavailable=" + std::to_string(unavailable)));
  }

  std::int64_t pick(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random() % static_cast<unsigned>(high - low + 1));
  }
  std::vector<Object> active() {
    std::vector<Object> pods_now;
    for (const Object& pod : world.objects(pods()).list()) {
      if (pod_active(pod)) pods_now.push_back(pod);
    }
    return pods_now;
  }
  std::int64_t available() {
    const auto all = active();
    return std::count_if(all.begin(), all.end(), pod_ready);
  }

  void reconcile(const Reconciler& reconciler, const std::string& key) {
    REQUIRE(world.apply(reconciler.decide(key, world, world.now())));
  }
  void reconcile_sets() {
    for (const Object& object : world.objects(replica_sets()).list())
      reconcile(*set, ObjectKey::of(object).text());
  }

  void set_image(int version) {
    world.edit(deployments(), "shop", "web", [&](json::value& root) {
      set_at(root, "/spec/template/spec/containers",
             json::array{{{"name", "main"}, {"image", "v" + std::to_string(version)}}});
    });
  }
  // A pod becomes ready, as its node would say.
  void make_ready(const Object& pod) {
    world.edit_status(pods(), pod, [&](json::value& status) {
      set_at(status, "/phase", "Running");
      set_condition(array_in(status, "/conditions"), {"Ready", "True", "", ""}, world.wall_ns, false);
    });
  }
  void make_some_ready() {
    for (const Object& pod : active()) {
      if (!pod_ready(pod) && pick(0, 2) == 0) make_ready(pod);
    }
  }
};

}  // namespace

TEST_CASE("a rollout never has too many pods or too few available ones, and ends with what was asked") {
  for (unsigned seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    Rollout rollout(seed);
    int version = 1;
    bool complete_once = false;
    for (int step = 0; step < 120; ++step) {
      rollout.world.wall_ns += 1'000'000'000;
      switch (rollout.pick(0, 5)) {
        case 0:
          rollout.reconcile(*rollout.deployment, "shop/web");
          break;
        case 1:
          rollout.reconcile_sets();
          break;
        case 2:
          rollout.make_some_ready();
          break;
        case 3:
          rollout.world.finish_pods();
          break;
        case 4:
          // New templates only after the first version is up: availability has to be reached before it is
          // kept.
          if (complete_once && rollout.pick(0, 3) == 0)
            rollout.set_image(static_cast<int>(version = static_cast<int>(rollout.pick(1, 3))));
          break;
        default:
          rollout.reconcile(*rollout.deployment, "shop/web");
          rollout.reconcile_sets();
      }
      const auto pods_now = static_cast<std::int64_t>(rollout.active().size());
      REQUIRE(pods_now <= rollout.replicas + rollout.surge);
      if (rollout.available() == rollout.replicas) complete_once = true;
      if (complete_once) REQUIRE(rollout.available() >= rollout.replicas - rollout.unavailable);
    }
    // Everything settles.
    for (int i = 0; i < 60; ++i) {
      rollout.world.wall_ns += 1'000'000'000;
      rollout.world.settle({rollout.deployment, rollout.set});
      for (const Object& pod : rollout.active()) {
        if (!pod_ready(pod)) rollout.make_ready(pod);
      }
      rollout.world.finish_pods();
    }
    const auto pods_now = rollout.active();
    CHECK(static_cast<std::int64_t>(pods_now.size()) == rollout.replicas);
    for (const Object& pod : pods_now) {
      CHECK(string_at(tree(pod), "/spec/containers/0/image") == "v" + std::to_string(version));
    }
    const Object deployment = rollout.world.objects(deployments()).get("shop", "web");
    CHECK(string_at(*find_condition(tree(deployment), "Progressing"), "/reason") == "NewReplicaSetAvailable");
    CHECK(string_at(*find_condition(tree(deployment), "Available"), "/status") == "True");
    // At rest, nothing is written: no hot loop.
    const std::uint64_t writes = rollout.world.writes;
    rollout.world.settle({rollout.deployment, rollout.set});
    CHECK(rollout.world.writes == writes);
  }
}

TEST_CASE("a set that the server does not take is told on its deployment, with an event") {
  test::World world;
  const Object deployment =
      world.add(test::object_from_line("Deployment shop/web app=web image=v1 spec.replicas=3 generation=1"));
  const auto reconciler = make_deployment_reconciler();
  const Actions decided = reconciler->decide("shop/web", world, world.now());
  REQUIRE(decided.list.front().resource == replica_sets());
  const auto after = [&](Error::Code code, const std::string& message) {
    return reconciler->failed("shop/web", world, world.now(), decided.list.front(),
                              Error(code, "test", message));
  };
  const Actions told = after(Error::denied, "no more sets here");
  REQUIRE(told.list.size() == 2);
  const std::string words =
      "Failed to create new replica set \"" + decided.list.front().name + "\": no more sets here";
  CHECK(told.list[0].subresource == "status");
  const json::object* condition = find_condition(tree(told.list[0].object), "Progressing");
  REQUIRE(condition != nullptr);
  const json::value progressing = *condition;
  CHECK(string_at(progressing, "/status") == "False");
  CHECK(string_at(progressing, "/reason") == "ReplicaSetCreateError");
  CHECK(string_at(progressing, "/message") == words);
  CHECK(told.list[1].event_reason == "ReplicaSetCreateError");
  CHECK(told.list[1].event_type == "Warning");
  CHECK(told.list[1].event_message == words);
  // The same again changes no condition.
  world.edit_status(deployments(), deployment,
                    [&](json::value& status) { status = *find(tree(told.list[0].object), "/status"); });
  CHECK(after(Error::denied, "no more sets here").list.size() == 1);
  CHECK(after(Error::already_exists, "there").empty());
  CHECK(after(Error::denied, "namespace shop is being terminated").empty());
}

TEST_CASE("going back to an old template reuses its set") {
  Rollout rollout(7);
  const auto settle = [&] {
    for (int i = 0; i < 40; ++i) {
      rollout.world.wall_ns += 1'000'000'000;
      rollout.world.settle({rollout.deployment, rollout.set});
      for (const Object& pod : rollout.active()) {
        if (!pod_ready(pod)) rollout.make_ready(pod);
      }
      rollout.world.finish_pods();
    }
  };
  settle();
  const std::string first = rollout.world.objects(replica_sets()).list().at(0).name();
  rollout.set_image(2);
  settle();
  CHECK(rollout.world.objects(replica_sets()).size() == 2);
  rollout.set_image(1);
  settle();
  CHECK(rollout.world.objects(replica_sets()).size() == 2);
  const Object set = rollout.world.objects(replica_sets()).get("shop", first);
  CHECK(int_at(tree(set), "/spec/replicas") == rollout.replicas);
  CHECK(annotation(set, "deployment.kubernetes.io/revision") == "3");
  CHECK(annotation(set, "deployment.kubernetes.io/revision-history") == "1");
}

TEST_CASE("the order in which replicas are given up is total and does not depend on the order given") {
  std::mt19937 random(3);
  std::vector<Object> pods_of_set;
  for (int i = 0; i < 40; ++i) {
    std::string line = "Pod shop/p" + std::to_string(i) + " uid=u" + std::to_string(i);
    if (random() % 4 != 0) line += " node=n" + std::to_string(random() % 3);
    line += std::string(" phase=") + (random() % 2 == 0 ? "Running" : "Pending");
    if (random() % 2 == 0) line += " ready=2026-01-01T00:00:0" + std::to_string(random() % 10) + "Z";
    pods_of_set.push_back(test::object_from_line(line));
  }
  const Now now{*parse_time("2026-01-01T01:00:00Z"), 0};
  const auto order = deletion_order(pods_of_set, pods_of_set, now);
  for (int i = 0; i < 20; ++i) {
    std::shuffle(pods_of_set.begin(), pods_of_set.end(), random);
    const auto again = deletion_order(pods_of_set, pods_of_set, now);
    for (std::size_t at = 0; at < order.size(); ++at) REQUIRE(order[at].uid() == again[at].uid());
  }
}
