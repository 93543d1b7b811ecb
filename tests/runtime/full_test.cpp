// Containers at level full: the life of one, what it sees, how it ends.
#include "tests/runtime/support.hpp"

namespace orchestra::test {

TEST_CASE("a container runs to its end: output is in the log, the exit code in its record") {
  ORC_NEEDS_FULL_CONTAINERS("full container");
  RuntimeHouse house;
  const PodSandbox sandbox = house.pod();
  CHECK(sandbox.isolation == Isolation::full);
  CHECK(sandbox.network_namespace != nullptr);
  house.start(house.config("c1", {"sh", "-c", "echo hello; echo oops >&2; printf tail; exit 7"}));
  const ContainerStatus end = house.wait_exit("c1");
  CHECK(end.state == ContainerState::exited);
  REQUIRE(end.exit_code.has_value());
  CHECK(*end.exit_code == 7);
  CHECK(end.signal == 0);
  CHECK(end.started_ns > 0);
  CHECK(end.finished_ns >= end.started_ns);
  const std::string log = log_contents(house.path("logs/c1.log"));
  CHECK(log.find("stdout F hello\n") != std::string::npos);
  CHECK(log.find("stderr F oops\n") != std::string::npos);
  CHECK(log.find("stdout P tail\n") != std::string::npos);
}

}  // namespace orchestra::test
