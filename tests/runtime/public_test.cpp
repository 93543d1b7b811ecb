// The public classes, as a stranger uses them.
#include <csignal>

#include "orchestra/runtime.hpp"
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

TEST_CASE("a runtime without a folder for its state is refused") {
  Engine engine({.event_threads = 1});
  CHECK(Runtime::open(engine, {}).error().is(Error::invalid));
}

}  // namespace orchestra::test
