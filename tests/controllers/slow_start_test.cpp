// A server that refuses pods is not asked for hundreds of them (kubernetes
// pkg/controller/controller_utils.go, slowStartBatch: 1, 2, 4, ..), and the set tells that it could not make
// them.
#include <algorithm>
#include <condition_variable>

#include "controllers/replicaset/decide.hpp"
#include "orchestra/reconciler.hpp"
#include "tests/controllers/fake_server.hpp"
#include "tests/controllers/world.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::controllers;
using namespace std::chrono_literals;

namespace {

/// One replica set and its controller; what the server was asked for when the first decision was over.
struct House {
  explicit House(std::size_t pods_max) {
    server->limit_pods(pods_max);
    server->put(
        test::object_from_line("ReplicaSet shop/web app=web image=v1 spec.replicas=20 uid=rs generation=1"));
    runner.on_decision([this](const ReconcileDecision& decision) {
      std::lock_guard lock(mutex);
      if (++decisions == 1) {
        created = server->creates();
        refused = server->refused();
        error = decision.error;
      }
      decided.notify_all();
    });
    REQUIRE(runner.start());
    REQUIRE(informers.start());
    REQUIRE(wait([&] { return decisions > 0; }));
  }
  ~House() { runner.stop(); }
  bool wait(const std::function<bool()>& done) {
    std::unique_lock lock(mutex);
    const auto end = std::chrono::steady_clock::now() + 30s;
    while (!done()) {
      if (std::chrono::steady_clock::now() > end) return false;
      decided.wait_for(lock, 20ms);
    }
    return true;
  }
  /// "status reason message" of the set's ReplicaFailure; empty: it has none.
  std::string failure() const {
    const Object set = server->get("replicasets", {"shop", "web"});
    const json::object* found = find_condition(tree(set), "ReplicaFailure");
    if (found == nullptr) return "";
    const json::value value = *found;
    return string_at(value, "/status") + " " + string_at(value, "/reason") + " " +
           string_at(value, "/message");
  }

  std::mutex mutex;
  std::condition_variable decided;
  std::size_t decisions = 0, created = 0, refused = 0;
  std::string error;
  Engine engine;
  std::shared_ptr<test::FakeServer> server = std::make_shared<test::FakeServer>();
  InformerSet informers{engine, Client(server)};
  EventRecorder events{engine, Client(server)};
  ControllerRunner runner{engine, Client(server), informers, events, make_replica_set_reconciler()};
};

}  // namespace

TEST_CASE("a server that refuses pods is asked for one, then told as ReplicaFailure until it takes them") {
  House house(0);
  CHECK(house.created == 0);
  CHECK(house.refused == 1);
  CHECK(house.error.find("exceeded quota: few") != std::string::npos);
  REQUIRE(house.wait([&] { return !house.failure().empty(); }));
  const std::string failure = house.failure();
  CHECK(failure.starts_with("True FailedCreate "));
  CHECK(failure.find("exceeded quota: few") != std::string::npos);
  house.server->limit_pods(1000);
  CHECK(house.wait([&] { return house.server->count("pods") == 20 && house.failure().empty(); }));
}

TEST_CASE("pods are created one, two, four at a time; the first refusal is the last question") {
  House house(4);
  // 1 and 2 are taken, of the next 4 one; the 13 others are not asked for.
  CHECK(house.created == 4);
  CHECK(house.refused == 3);
  CHECK(house.wait([&] { return house.failure().starts_with("True FailedCreate "); }));
}

TEST_CASE("pods that all are taken come in one decision") {
  House house(1000);
  CHECK(house.created == 20);
  CHECK(house.error.empty());
}

TEST_CASE(
    "a refusal in other words does not write the condition again: that would be another reason to try at "
    "once") {
  test::World world;
  const Object set =
      world.add(test::object_from_line("ReplicaSet shop/web app=web image=v1 spec.replicas=2 uid=rs "
                                       "generation=1 status.observedGeneration=1"));
  const auto reconciler = make_replica_set_reconciler();
  const auto refused = [&](const std::string& pod) {
    Action action;
    action.verb = Action::Verb::create;
    return reconciler->failed(
        "shop/web", world, world.now(), action,
        Error(Error::denied, "test", "pods \"" + pod + "\" is forbidden: exceeded quota"));
  };
  const auto writes = [](const Actions& actions) {
    return std::count_if(actions.list.begin(), actions.list.end(),
                         [](const Action& each) { return each.subresource == "status"; });
  };
  const Actions first = refused("web-a");
  CHECK(writes(first) == 1);
  REQUIRE(world.apply(first));
  const Actions second = refused("web-b");
  CHECK(writes(second) == 0);
  const json::object* found =
      find_condition(tree(world.get(replica_sets(), "shop", "web")), "ReplicaFailure");
  REQUIRE(found != nullptr);
  CHECK(string_at(json::value(*found), "/message").find("web-a") != std::string::npos);
}
