// Informers and the runner against a server that holds back, cuts and forgets.
#include "orchestra/informer.hpp"

#include <chrono>
#include <condition_variable>

#include "controllers/replicaset/decide.hpp"
#include "orchestra/metrics.hpp"
#include "orchestra/reconciler.hpp"
#include "tests/controllers/fake_server.hpp"
#include "tests/controllers/world.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::controllers;
using namespace std::chrono_literals;

namespace {

Object pod(const std::string& name, const std::string& more = "") {
  return test::object_from_line("Pod shop/" + name + " app=web phase=Running " + more);
}

// What handlers were told, in order.
struct Story {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> lines;

  void tell(const Object& old, const Object& now) {
    std::lock_guard lock(mutex);
    const std::string name = now ? now.name() : old.name();
    lines.push_back((!old ? "+" : !now ? "-" : "~") + name);
    changed.notify_all();
  }
  bool wait_for(const std::vector<std::string>& expected) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, 10s, [&] { return lines == expected; });
  }
};

struct Watched {
  Engine engine;
  std::shared_ptr<test::FakeServer> server = std::make_shared<test::FakeServer>();
  Story story;
  Informer<k8s::Pod> pods{engine, Client(server)};

  Watched() {
    pods.on_event([this](const k8s::Pod& old, const k8s::Pod& now) { story.tell(old, now); });
  }
  void start() {
    REQUIRE(pods.start());
    REQUIRE(pods.wait_synced().wait(60s));
  }
};

}  // namespace

TEST_CASE("an informer tells what is there, then every change as old and new") {
  Watched watched;
  watched.server->put(pod("a"));
  watched.start();
  CHECK(watched.pods.get("shop", "a").name() == "a");
  watched.server->put(pod("b"));
  watched.server->put(pod("a", "node=n1"));
  watched.server->erase("pods", {"shop", "b"});
  CHECK(watched.story.wait_for({"+a", "+b", "~a", "-b"}));
  CHECK(watched.pods.by_node("n1").size() == 1);
  CHECK(watched.pods.list().size() == 1);
}

TEST_CASE("a cut watch goes on where it was, without a new list") {
  Watched watched;
  watched.start();
  watched.server->put(pod("a"));
  REQUIRE(watched.story.wait_for({"+a"}));
  watched.server->cut(false);
  watched.server->put(pod("b"));
  watched.server->erase("pods", {"shop", "a"});
  CHECK(watched.story.wait_for({"+a", "+b", "-a"}));
  CHECK(watched.server->lists() == 1);
}

TEST_CASE("when the server has forgotten, a new list is compared: nothing is missed, nothing told twice") {
  Watched watched;
  for (const char* name : {"a", "b", "c"}) watched.server->put(pod(name));
  watched.start();
  REQUIRE(watched.story.wait_for({"+a", "+b", "+c"}));
  watched.server->hold(true);
  watched.server->erase("pods", {"shop", "a"});
  watched.server->put(pod("b", "node=n2"));
  watched.server->put(pod("d"));
  // c went and came back as another object.
  watched.server->erase("pods", {"shop", "c"});
  watched.server->put(pod("c", "uid=other"));
  watched.server->cut(true);
  watched.server->hold(false);
  CHECK(watched.story.wait_for({"+a", "+b", "+c", "-a", "~b", "-c", "+c", "+d"}));
  CHECK(watched.server->lists() == 2);
}

TEST_CASE("wait_for is done exactly when the cache has the version") {
  Watched watched;
  watched.start();
  watched.server->hold(true);
  const Object stored = watched.server->put(pod("a"));
  auto seen = watched.pods.wait_for(stored.resource_version());
  CHECK_FALSE(seen.is_ready());
  watched.server->hold(false);
  REQUIRE(seen.wait(60s));
  CHECK(watched.pods.get("shop", "a"));
  CHECK(watched.pods.wait_for("1").is_ready());
  auto never = watched.pods.wait_for("999999");
  watched.pods.stop();
  CHECK(never.wait(60s).error().is(Error::cancelled));
}

TEST_CASE("after stop() no handler runs, also when the server talks on") {
  for (int round = 0; round < 20; ++round) {
    Watched watched;
    watched.start();
    for (int i = 0; i < 20; ++i) watched.server->put(pod("p" + std::to_string(i)));
    watched.pods.stop();
    std::size_t told = 0;
    {
      std::lock_guard lock(watched.story.mutex);
      told = watched.story.lines.size();
    }
    for (int i = 0; i < 20; ++i) watched.server->put(pod("q" + std::to_string(i)));
    std::lock_guard lock(watched.story.mutex);
    CHECK(watched.story.lines.size() == told);
  }
}

TEST_CASE("a handler that comes late is told everything that is there") {
  Watched watched;
  watched.server->put(pod("a"));
  watched.start();
  Story late;
  watched.pods.on_event([&](const k8s::Pod& old, const k8s::Pod& now) { late.tell(old, now); });
  CHECK(late.wait_for({"+a"}));
}

TEST_CASE("however late the watch is, no replica is created or removed twice") {
  std::mutex mutex;
  std::condition_variable decided;
  std::size_t decisions = 0;
  Engine engine;
  auto server = std::make_shared<test::FakeServer>();
  server->put(
      test::object_from_line("ReplicaSet shop/web app=web image=v1 spec.replicas=3 uid=rs generation=1"));
  InformerSet informers(engine, Client(server));
  EventRecorder events(engine, Client(server));
  ControllerRunner runner(engine, Client(server), informers, events, make_replica_set_reconciler());
  runner.on_decision([&](const ReconcileDecision&) {
    std::lock_guard lock(mutex);
    ++decisions;
    decided.notify_all();
  });
  const auto wait = [&](const std::function<bool()>& done) {
    std::unique_lock lock(mutex);
    for (int i = 0; i < 500; ++i) {
      if (done()) return true;
      decided.wait_for(lock, 20ms);
    }
    return done();
  };
  server->hold(true);
  REQUIRE(runner.start());
  REQUIRE(informers.start());
  REQUIRE(wait([&] { return server->count("pods") == 3; }));
  // The key is looked at again and again, the view knows nothing of the pods.
  for (int i = 0; i < 50; ++i) runner.wake("shop/web");
  REQUIRE(wait([&] { return runner.stats().queue.depth == 0 && runner.stats().queue.working == 0; }));
  CHECK(server->creates() == 3);
  CHECK(server->count("pods") == 3);
  CHECK(informers.list(pods()).empty());
  server->hold(false);
  CHECK(wait([&] { return informers.list(pods()).size() == 3 && runner.idle(); }));
  CHECK(server->count("pods") == 3);

  // The same for removals.
  server->hold(true, "pods");
  const Object set = informers.get(replica_sets(), "shop", "web");
  server->put(*set.with("/spec/replicas", "1"));
  REQUIRE(wait([&] { return server->count("pods") == 1; }));
  for (int i = 0; i < 50; ++i) runner.wake("shop/web");
  REQUIRE(wait([&] { return runner.stats().queue.depth == 0 && runner.stats().queue.working == 0; }));
  CHECK(informers.list(pods()).size() == 3);
  CHECK(server->count("pods") == 1);
  server->hold(false);
  CHECK(wait([&] { return informers.list(pods()).size() == 1 && runner.idle(); }));
  CHECK(server->count("pods") == 1);
  runner.stop();
}

TEST_CASE("a reconciler that throws hurts its own key only") {
  struct Thrower final : Reconciler {
    std::string name() const override { return "thrower"; }
    std::vector<Source> sources() const override { return {watch_self(pods())}; }
    Actions decide(const std::string& key, const View&, Now) const override {
      if (key == "shop/bad") throw std::runtime_error("no idea");
      Actions actions;
      actions.reason = "fine";
      return actions;
    }
  };
  std::mutex mutex;
  std::condition_variable decided;
  std::map<std::string, std::string> last;
  Engine engine;
  auto server = std::make_shared<test::FakeServer>();
  server->put(pod("bad"));
  server->put(pod("good"));
  InformerSet informers(engine, Client(server));
  EventRecorder events(engine, Client(server));
  RunnerOptions options;
  options.queue.metrics = Metrics::create();
  ControllerRunner runner(engine, Client(server), informers, events, std::make_shared<Thrower>(), options);
  runner.on_decision([&](const ReconcileDecision& decision) {
    std::lock_guard lock(mutex);
    last[decision.key] = decision.error.empty() ? decision.reason : decision.error;
    decided.notify_all();
  });
  REQUIRE(runner.start());
  REQUIRE(informers.start());
  {
    std::unique_lock lock(mutex);
    REQUIRE(decided.wait_for(lock, 10s, [&] { return last.size() == 2; }));
  }
  runner.stop();
  CHECK(last["shop/good"] == "fine");
  CHECK(last["shop/bad"].find("no idea") != std::string::npos);
  const std::string page = options.queue.metrics->text();
  CHECK(page.find(R"(orchestra_reconcile_errors_total{controller="thrower",reason="internal"} )") !=
        std::string::npos);
}

TEST_CASE("counts in a status are told at once and then at most one time in each interval") {
  /// Counts its pods into the status of the set, as controllers of many pods do.
  struct Counter final : Reconciler {
    std::string name() const override { return "counter"; }
    std::vector<Source> sources() const override { return {watch_self(replica_sets())}; }
    Actions decide(const std::string& key, const View& view, Now) const override {
      Actions actions;
      const ObjectKey id = ObjectKey::from_text(key);
      json::value set = tree(view.get(replica_sets(), id.ns, id.name));
      if (int_at(set, "/status/replicas") == int_at(set, "/spec/replicas")) return actions;
      set_at(set, "/status/replicas", json::value(int_at(set, "/spec/replicas")));
      actions.update_status(replica_sets(), object_from_tree(std::move(set)), "counted").coalesce = true;
      return actions;
    }
  };
  for (const Duration interval : {Duration(1h), Duration(1ms)}) {
    std::mutex mutex;
    std::condition_variable decided;
    std::size_t written = 0, decisions = 0;
    bool held_back = false;
    Engine engine;
    auto server = std::make_shared<test::FakeServer>();
    const auto set = [&](int replicas) {
      server->put(test::object_from_line("ReplicaSet shop/web app=web uid=rs spec.replicas=" +
                                         std::to_string(replicas)));
    };
    set(1);
    InformerSet informers(engine, Client(server));
    EventRecorder events(engine, Client(server));
    RunnerOptions options;
    options.status_interval = interval;
    ControllerRunner runner(engine, Client(server), informers, events, std::make_shared<Counter>(), options);
    runner.on_decision([&](const ReconcileDecision& decision) {
      std::lock_guard lock(mutex);
      ++decisions;
      written += decision.actions.size();
      held_back = held_back || (decision.actions.empty() && decision.requeue_after.has_value());
      decided.notify_all();
    });
    const auto wait = [&](const std::function<bool()>& done) {
      std::unique_lock lock(mutex);
      return decided.wait_for(lock, 60s, done);
    };
    REQUIRE(runner.start());
    REQUIRE(informers.start());
    REQUIRE(wait([&] { return written == 1; }));
    set(2);
    if (interval == Duration(1h)) {
      // The next ones wait for their time, however often the set changes.
      REQUIRE(wait([&] { return held_back; }));
      const std::size_t before = decisions;
      set(3);
      REQUIRE(wait([&] { return decisions > before; }));
      CHECK(written == 1);
    } else {
      CHECK(wait([&] { return written >= 2; }));
    }
    runner.stop();
  }
}

TEST_CASE("a runner remembers when it saw what its reconciler observes, and the next one begins anew") {
  /// Tells of a pod's phase when it was seen.
  struct Observer final : Reconciler {
    std::string name() const override { return "observer"; }
    std::vector<Source> sources() const override {
      Source source = watch_self(pods());
      source.observes = [](const Object& old, const Object& now) {
        return !old || string_at(tree(old), "/status/phase") != string_at(tree(now), "/status/phase");
      };
      return {std::move(source)};
    }
    Actions decide(const std::string& key, const View& view, Now now) const override {
      Actions actions;
      const Object pod = view.get(pods(), "shop", ObjectKey::from_text(key).name);
      const auto seen = view.observed(pods(), ObjectKey::from_text(key));
      actions.reason = !pod ? "gone" : string_at(tree(pod), "/status/phase") + " " + pod.labels().at("v");
      if (!seen) {
        actions.reason += ", not seen";
      } else if (seen->at.steady_ns == INT64_MAX) {
        actions.reason += ", told by another";
      } else if (seen->at.steady_ns <= now.steady_ns) {
        actions.reason += seen->witnessed ? ", witnessed" : ", found";
      }
      return actions;
    }
  };
  std::mutex mutex;
  std::condition_variable decided;
  std::string last;
  Engine engine;
  auto server = std::make_shared<test::FakeServer>();
  const auto set = [&](const std::string& phase, const std::string& version) {
    server->put(test::object_from_line("Pod shop/a uid=a phase=" + phase + " labels=app:web,v:" + version));
  };
  RunnerOptions options;
  const auto with_runner = [&](const std::function<void(const std::function<bool(std::string)>&)>& use) {
    InformerSet informers(engine, Client(server));
    EventRecorder events(engine, Client(server));
    ControllerRunner runner(engine, Client(server), informers, events, std::make_shared<Observer>(), options);
    runner.on_decision([&](const ReconcileDecision& decision) {
      std::lock_guard lock(mutex);
      last = decision.reason;
      decided.notify_all();
    });
    REQUIRE(runner.start());
    REQUIRE(informers.start());
    use([&](const std::string& reason) {
      std::unique_lock lock(mutex);
      return decided.wait_for(lock, 10s, [&] { return last == reason; });
    });
    runner.stop();
  };
  set("Pending", "1");
  with_runner([&](const auto& comes) {
    CHECK(comes("Pending 1, found"));
    set("Running", "2");
    CHECK(comes("Running 2, witnessed"));
    set("Running", "3");  // nothing to observe: what was seen before stays
    CHECK(comes("Running 3, witnessed"));
    server->erase("pods", {"shop", "a"});
    CHECK(comes("gone, not seen"));
    set("Running", "4");
    CHECK(comes("Running 4, found"));
  });
  with_runner([&](const auto& comes) { CHECK(comes("Running 4, found")); });
  options.also_observed = [](const ResourceRef&, const ObjectKey&) {
    return std::optional<Observed>(Observed{{0, INT64_MAX}, true});
  };
  with_runner([&](const auto& comes) { CHECK(comes("Running 4, told by another")); });
}

TEST_CASE("a key whose decision is costly and changes nothing rests four times as long as it took") {
  struct JumpingClock final : Clock {
    std::atomic<std::int64_t> ns = 1'000'000'000;
    Now now() override { return {ns, ns}; }
  };
  struct Costly final : Reconciler {
    JumpingClock& clock;
    explicit Costly(JumpingClock& time) : clock(time) {}
    std::string name() const override { return "costly"; }
    std::vector<Source> sources() const override { return {watch_self(pods())}; }
    Actions decide(const std::string& key, const View&, Now) const override {
      if (key == "shop/costly") clock.ns += 10'000'000;
      return {};
    }
  };
  JumpingClock clock;
  EngineOptions with_clock;
  with_clock.clock = &clock;
  Engine engine(with_clock);
  std::mutex mutex;
  std::condition_variable decided;
  std::map<std::string, int> decisions;
  auto server = std::make_shared<test::FakeServer>();
  server->put(pod("costly"));
  InformerSet informers(engine, Client(server));
  EventRecorder events(engine, Client(server));
  ControllerRunner runner(engine, Client(server), informers, events, std::make_shared<Costly>(clock));
  runner.on_decision([&](const ReconcileDecision& decision) {
    std::lock_guard lock(mutex);
    ++decisions[decision.key];
    decided.notify_all();
  });
  const auto wait = [&](const std::string& key, int count) {
    std::unique_lock lock(mutex);
    return decided.wait_for(lock, 30s, [&] { return decisions[key] == count; });
  };
  REQUIRE(runner.start());
  REQUIRE(informers.start());
  REQUIRE(wait("shop/costly", 1));
  runner.wake("shop/costly");
  runner.wake("shop/other");
  REQUIRE(wait("shop/other", 1));
  CHECK_FALSE(runner.idle());
  runner.wake("shop/other");
  REQUIRE(wait("shop/other", 2));  // others go on
  CHECK(wait("shop/costly", 1));
  clock.ns += 40'000'000;
  runner.wake("shop/other");
  CHECK(wait("shop/costly", 2));
  runner.stop();
}
