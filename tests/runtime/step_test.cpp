// Build steps, and what the machine says about itself.
#include "orchestra/machine.hpp"
#include "tests/runtime/support.hpp"

namespace orchestra::test {

TEST_CASE("a step runs over a root, streams its output, tells its code, and leaves nothing") {
  ORC_NEEDS_FULL_CONTAINERS("step");
  TempDir folder;
  make_root(folder / "rootfs");
  Engine engine({.event_threads = 1});
  const std::string instance = "steptest" + std::to_string(getpid());
  for (const auto isolation : {RuntimeOptions::Isolation::full, RuntimeOptions::Isolation::process}) {
    auto runner = make_step_runner(engine, {.state_dir = folder / "state",
                                            .data_dir = folder / "data",
                                            .isolation = isolation,
                                            .instance = instance});
    REQUIRE_MESSAGE(runner.has_value(), (runner ? "" : runner.error().to_string()));
    std::string streamed;
    StepRequest request;
    request.root_directory = folder / "rootfs";
    request.args = {"/bin/sh", "-c", "echo building; echo x > /data/made; seq 1 3; exit 2"};
    request.env = {"PATH=/bin"};
    request.on_output = [&](std::string_view bytes) { streamed += bytes; };
    auto done = (*runner)->run(request).wait(30s);
    REQUIRE_MESSAGE(done.has_value(), (done ? "" : done.error().to_string()));
    CHECK(done->exit_code == 2);
    CHECK(done->output == "building\n1\n2\n3\n");
    CHECK(streamed == done->output);
    CHECK(slurp(folder / "rootfs/data/made") == "x\n");
    request.args = {"/bin/sleep", "1000"};
    request.deadline = 100ms;
    CHECK((*runner)->run(request).wait(30s).error().is(Error::deadline_exceeded));
    request.args = {"/no/such"};
    CHECK((*runner)->run(request).wait(30s).error().message().find("/no/such") != std::string::npos);
    runner->reset();
    CHECK(Leftovers::now("orchestra-" + instance).empty());
    CHECK(fs::is_empty(folder / "state/steps/pods"));
  }
}

TEST_CASE("every ability of the machine has a name, evidence, and a remedy when it is missing") {
  const auto abilities = probe_machine();
  CHECK(abilities.size() > 20);
  for (const MachineAbility& one : abilities) {
    CHECK_FALSE(one.name.empty());
    CHECK_FALSE(one.evidence.empty());
    CHECK(one.available == one.remedy.empty());
  }
}

}  // namespace orchestra::test
