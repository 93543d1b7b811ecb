// The public classes, as a stranger uses them.
#include <csignal>

#include "orchestra/runtime.hpp"
#include "runtime/events/event_ring.hpp"
#include "tests/runtime/support.hpp"

namespace orchestra::test {

TEST_CASE("Runtime, RuntimePod and Container: a bundle runs, is measured, found again, and removed") {
  ORC_NEEDS_FULL_CONTAINERS("public classes");
  TempDir folder;
  make_root(folder / "bundle/rootfs");
  ContainerSpec example = ContainerSpec::example();
  example.process->terminal = false;
  example.process->args = {"/bin/sh", "-c",
                           "echo up; hostname; while ! test -e /data/end; do usleep 10000; done; exit 21"};
  example.process->env = {"PATH=/bin"};
  std::ofstream(folder / "bundle/config.json") << example.to_json();
  const std::string instance = "public" + std::to_string(getpid());
  const RuntimeOptions options{
      .state_dir = folder / "state", .data_dir = folder / "data", .instance = instance};
  Engine engine({.event_threads = 1});
  {
    auto runtime = Runtime::open(engine, options);
    REQUIRE_MESSAGE(runtime.has_value(), (runtime ? "" : runtime.error().to_string()));
    CHECK((*runtime)->isolation() == RuntimeOptions::Isolation::full);
    auto pod = (*runtime)->create_pod({.id = "demo", .hostname = "demo-host"}).wait(30s);
    REQUIRE_MESSAGE(pod.has_value(), (pod ? "" : pod.error().to_string()));
    auto spec = ContainerSpec::from_bundle(folder / "bundle");
    REQUIRE(spec.has_value());
    auto web = pod->create_container(*spec, {.id = "web", .log_path = folder / "web.log"}).wait(30s);
    REQUIRE_MESSAGE(web.has_value(), (web ? "" : web.error().to_string()));
    CHECK(web->info().wait(30s)->state == ContainerInfo::State::created);
    REQUIRE(web->start().wait(30s).has_value());
    const auto ran = web->exec({.args = {"/bin/cat", "/proc/1/comm"}}).wait(60s);
    REQUIRE_MESSAGE(ran.has_value(), (ran ? "" : ran.error().to_string()));
    CHECK(ran->output == "sh\n");
    CHECK(web->stats().wait(30s)->pids >= 1);
    CHECK(
        eventually([&] { return log_contents(folder / "web.log") == "stdout F up\nstdout F demo-host\n"; }));
  }
  auto runtime = Runtime::open(engine, options);
  REQUIRE(runtime.has_value());
  REQUIRE((*runtime)->pods().size() == 1);
  auto pod = (*runtime)->pod("demo");
  REQUIRE(pod.has_value());
  auto web = pod->container("web");
  REQUIRE(web.has_value());
  CHECK(web->info().wait(30s)->state == ContainerInfo::State::running);
  CHECK(web->exec({.args = {"/bin/sh", "-c", "exit 3"}}).wait(60s)->exit_code == 3);
  std::ofstream(folder / "bundle/rootfs/data/end");
  // The example's root is read-only for the container, not for us.
  const auto end = web->exited().wait(60s);
  REQUIRE(end.has_value());
  CHECK(end->exit_code == 21);
  CHECK_FALSE(pod->container("other").has_value());
  CHECK(pod->remove().wait(30s).has_value());
  CHECK((*runtime)->pods().empty());
  CHECK_FALSE((*runtime)->pod("demo").has_value());
  CHECK(eventually([&] { return Leftovers::now("orchestra-" + instance).empty(); }));
}

TEST_CASE("a running container takes new limits, is paused and resumed, and each change is an event") {
  ORC_NEEDS_FULL_CONTAINERS("public control");
  TempDir folder;
  make_root(folder / "rootfs");
  ContainerSpec spec = ContainerSpec::example();
  spec.process->terminal = true;
  spec.process->args = {"/bin/sleep", "1000"};
  spec.root_path = folder / "rootfs";
  const std::string instance = "control" + std::to_string(getpid());
  Engine engine({.event_threads = 1});
  auto runtime = Runtime::open(
      engine, {.state_dir = folder / "state", .data_dir = folder / "data", .instance = instance});
  REQUIRE_MESSAGE(runtime.has_value(), (runtime ? "" : runtime.error().to_string()));
  RuntimeEvents events = (*runtime)->events(0);
  auto pod = (*runtime)->create_pod({.id = "p"}).wait(30s);
  REQUIRE(pod.has_value());
  auto c = pod->create_container(spec, {.id = "c"}).wait(30s);
  REQUIRE_MESSAGE(c.has_value(), (c ? "" : c.error().to_string()));
  REQUIRE(c->start().wait(30s).has_value());
  ContainerSpec::Resources limits;
  limits.memory_limit = 64 << 20;
  limits.pids_limit = 77;
  const auto updated = c->update(limits).wait(30s);
  CHECK_MESSAGE(updated.has_value(), (updated ? "" : updated.error().to_string()));
  const auto stats = c->stats().wait(30s);
  REQUIRE(stats.has_value());
  CHECK(stats->memory_limit_bytes == 64u << 20);
  CHECK(stats->pids_limit == 77);
  CHECK(stats->cpu_ns > 0);
  limits.memory_limit = 4096;
  limits.check_before_update = true;
  CHECK(c->update(limits).wait(30s).error().is(Error::conflict));
  CHECK(c->resize(100, 40).wait(30s).has_value());
  CHECK(c->pause().wait(30s).has_value());
  CHECK(c->info().wait(30s)->state == ContainerInfo::State::paused);
  CHECK(c->exec({.args = {"/bin/true"}}).wait(30s).error().is(Error::conflict));
  CHECK(c->resume().wait(30s).has_value());
  CHECK(c->info().wait(30s)->state == ContainerInfo::State::running);
  CHECK(c->exec({.args = {"/bin/true"}}).wait(30s)->exit_code == 0);
  CHECK(c->signal(SIGKILL).wait(30s).has_value());
  CHECK(c->exited().wait(30s)->signal == SIGKILL);
  CHECK(pod->remove().wait(30s).has_value());
  using Kind = RuntimeEvent::Kind;
  std::vector<Kind> seen;
  while (seen.empty() || seen.back() != Kind::pod_removed) {
    const auto batch = events.next(10s);
    REQUIRE(batch.has_value());
    for (const RuntimeEvent& event : *batch) {
      CHECK(event.pod == "p");
      seen.push_back(event.kind);
      if (event.kind == Kind::exited) CHECK(event.exit_code == 137);
    }
  }
  CHECK(seen == std::vector<Kind>{Kind::pod_created, Kind::created, Kind::started, Kind::updated,
                                  Kind::paused, Kind::resumed, Kind::exited, Kind::pod_removed});
}

TEST_CASE("pods of a runtime without keep_alive end with it") {
  ORC_NEEDS_FULL_CONTAINERS("keep_alive");
  TempDir folder;
  make_root(folder / "rootfs");
  ContainerSpec spec = ContainerSpec::example();
  spec.process->terminal = false;
  spec.process->args = {"/bin/sleep", "1000"};
  spec.root_path = folder / "rootfs";
  const std::string instance = "mortal" + std::to_string(getpid());
  const RuntimeOptions options{
      .state_dir = folder / "state", .data_dir = folder / "data", .instance = instance, .keep_alive = false};
  std::int64_t pid = 0;
  {
    Engine engine({.event_threads = 1});
    auto runtime = Runtime::open(engine, options);
    REQUIRE(runtime.has_value());
    auto pod = (*runtime)->create_pod({.id = "p"}).wait(30s);
    REQUIRE(pod.has_value());
    auto c = pod->create_container(spec, {.id = "c"}).wait(30s);
    REQUIRE_MESSAGE(c.has_value(), (c ? "" : c.error().to_string()));
    REQUIRE(c->start().wait(30s).has_value());
    pid = c->info().wait(30s)->pid;
    CHECK(kill(static_cast<pid_t>(pid), 0) == 0);
  }
  CHECK(eventually([&] { return kill(static_cast<pid_t>(pid), 0) != 0; }));
  Engine engine({.event_threads = 1});
  auto runtime = Runtime::open(engine, options);
  REQUIRE(runtime.has_value());
  for (RuntimePod& pod : (*runtime)->pods()) CHECK(pod.remove().wait(30s).has_value());
  CHECK(eventually([&] { return Leftovers::now("orchestra-" + instance).empty(); }));
}

TEST_CASE("a reader of events that is too far behind is told which ones it missed") {
  runtime::EventRing ring;
  for (std::size_t i = 0; i < runtime::kEventsMax + 10; ++i) ring.add({});
  std::uint64_t last = 0;
  const auto batch = ring.next(last, 0s);
  REQUIRE(batch.has_value());
  CHECK(batch->front().kind == RuntimeEvent::Kind::gap);
  CHECK(batch->front().gap_from == 1);
  CHECK(batch->front().gap_to == 10);
  CHECK((*batch)[1].sequence == 11);
  ring.close();
  while (ring.next(last, 0s)) {
  }
  CHECK(last == runtime::kEventsMax + 10);
}

TEST_CASE("a runtime without a folder for its state is refused") {
  Engine engine({.event_threads = 1});
  CHECK(Runtime::open(engine, {}).error().is(Error::invalid));
}

}  // namespace orchestra::test
