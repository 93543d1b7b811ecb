// Containers outlive the host and even their shim: adoption, nothing lost, nothing invented.
#include <csignal>
#include <cstring>
#include <thread>

#include "base/fd.hpp"
#include "runtime/shim/shim_client.hpp"
#include "runtime/wire/protocol.hpp"
#include "tests/runtime/support.hpp"

namespace orchestra::test {
namespace {
int shim_pid(const RuntimeHouse& house, const std::string& pod = "pod-1") {
  const std::string bytes = slurp(house.path("state/pods/" + pod + "/shim"));
  wire::ShimIdentity identity;
  REQUIRE(bytes.size() == sizeof identity);
  std::memcpy(&identity, bytes.data(), sizeof identity);
  return identity.pid;
}
ContainerStatus only_container(RuntimeHouse& house) {
  const auto pods = house.runtime().list().wait(30s);
  REQUIRE(pods.has_value());
  REQUIRE(pods->size() == 1);
  REQUIRE(pods->front().containers.size() == 1);
  return pods->front().containers.front();
}
/// Numbers 1.. in order, none missing, none twice: how many. Each kill of the shim may cost one read.
int counted_lines(const std::string& log, int kills_of_shim = 0) {
  const std::string before = "stdout F ";
  std::istringstream lines(log_contents(log));
  int next = 1;
  for (std::string line; std::getline(lines, line); ++next) {
    REQUIRE(line.starts_with(before));
    const int number = std::stoi(line.substr(before.size()));
    if (number > next && kills_of_shim-- > 0) next = number;
    REQUIRE(number == next);
  }
  return next - 1;
}
/// `sleep` goes on under its new shim, which starts processes in it and tells of its end.
void goes_on(RuntimeHouse& house, const ContainerStatus& before) {
  CHECK(only_container(house).pid == before.pid);
  CHECK(house.exec("c1", {"echo", "still"}) == "still\n");
  CHECK(house.runtime().signal_container("pod-1", "c1", SIGKILL).wait(30s).has_value());
  const ContainerStatus end = house.wait_exit("c1");
  CHECK(end.state == ContainerState::exited);
  if (end.exit_code) CHECK(*end.exit_code == 137);
}
}  // namespace

TEST_CASE(
    "after the host is gone a container runs on; the next runtime finds it, with its pid, and its end") {
  ORC_NEEDS_FULL_CONTAINERS("adoption");
  RuntimeHouse house;
  house.pod();
  house.start(house.config(
      "c1", {"sh", "-c", "while ! test -e /data/go; do usleep 10000; done; echo after; exit 11"}));
  const ContainerStatus before = only_container(house);
  house.close();
  house.open();
  const ContainerStatus after = only_container(house);
  CHECK(after.state == ContainerState::running);
  CHECK(after.pid == before.pid);
  CHECK(after.image == "busybox");
  CHECK(after.log_path == before.log_path);
  int code = 0;
  CHECK(house.exec("c1", {"echo", "adopted"}, &code) == "adopted\n");
  std::ofstream(house.path("rootfs/data/go"));
  CHECK(house.wait_exit("c1").exit_code == 11);
  fs::remove(house.path("rootfs/data/go"));
}

TEST_CASE("what ended while no host was there is told exactly, with its whole log") {
  ORC_NEEDS_FULL_CONTAINERS("end without a host");
  RuntimeHouse house;
  house.pod();
  house.start(house.config(
      "c1", {"sh", "-c", "while ! test -e /data/go2; do usleep 10000; done; seq 1 5000; exit 12"}));
  house.close();
  std::ofstream(house.path("rootfs/data/go2"));
  REQUIRE(eventually([&] { return counted_lines(house.path("logs/c1.log")) == 5000; }));
  house.open();
  CHECK(house.wait_exit("c1").exit_code == 12);
  fs::remove(house.path("rootfs/data/go2"));
}

TEST_CASE(
    "a killed shim is replaced while the host runs: the container goes on, its code is never invented") {
  ORC_NEEDS_FULL_CONTAINERS("killed shim");
  RuntimeHouse house;
  house.pod();
  house.start(house.config(
      "c1",
      {"sh", "-c", "i=0; while ! test -e /data/go3; do i=$((i+1)); echo $i; usleep 2000; done; exit 13"}));
  REQUIRE(eventually([&] { return counted_lines(house.path("logs/c1.log")) > 20; }));
  const ContainerStatus before = only_container(house);
  const int shim = shim_pid(house);
  REQUIRE(kill(shim, SIGKILL) == 0);
  REQUIRE(eventually([&] { return shim_pid(house) != shim; }));
  const int lines = counted_lines(house.path("logs/c1.log"), 1);
  REQUIRE(eventually([&] { return counted_lines(house.path("logs/c1.log"), 1) > lines + 20; }));
  CHECK(only_container(house).pid == before.pid);
  std::ofstream(house.path("rootfs/data/go3"));
  const ContainerStatus end = house.wait_exit("c1");
  fs::remove(house.path("rootfs/data/go3"));
  // Either the kernel tells the code (pidfd, Linux 6.15) or it is said to be unknown.
  if (end.exit_code) {
    CHECK(*end.exit_code == 13);
  } else {
    CHECK_FALSE(end.reason.empty());
  }
}

TEST_CASE("host and shim both killed: the next runtime adopts the container") {
  ORC_NEEDS_FULL_CONTAINERS("both killed");
  RuntimeHouse house;
  house.pod();
  house.start(house.config("c1", {"sleep", "1000"}));
  const ContainerStatus before = only_container(house);
  const int shim = shim_pid(house);
  house.close();
  REQUIRE(kill(shim, SIGKILL) == 0);
  REQUIRE(eventually([&] {
    return kill(shim, 0) != 0 ||
           slurp("/proc/" + std::to_string(shim) + "/stat").find(") Z") != std::string::npos;
  }));
  house.open();
  CHECK(only_container(house).state == ContainerState::running);
  goes_on(house, before);
}

TEST_CASE("a shim that ends while the next runtime speaks to it: its container is adopted and followed") {
  ORC_NEEDS_FULL_CONTAINERS("shim ends while it is asked");
  RuntimeHouse house;
  house.pod();
  house.start(house.config("c1", {"sleep", "1000"}));
  const ContainerStatus before = only_container(house);
  const int shim = shim_pid(house);
  house.close();
  REQUIRE(kill(shim, SIGSTOP) == 0);  // so that it takes the connection and does not answer
  const auto sockets = [] {
    std::istringstream lines(slurp("/proc/net/unix"));
    int count = 0;
    for (std::string line; std::getline(lines, line);) count += line.ends_with("/shim.sock") ? 1 : 0;
    return count;
  };
  const int without = sockets();
  std::thread end([&] {
    (void)eventually([&] { return sockets() > without; });
    kill(shim, SIGKILL);
  });
  house.open();
  end.join();
  goes_on(house, before);
}

TEST_CASE("what a shim cannot read, as one of an earlier release, it refuses, and is told of as that") {
  ORC_NEEDS_FULL_CONTAINERS("shim of another release");
  RuntimeHouse house;
  house.pod();
  auto shim = runtime::ShimConnection::connect(house.path("state/pods/pod-1"));
  REQUIRE(shim.has_value());
  const auto reply = shim->call(wire::Op::create, std::string(sizeof(wire::CreateRequest) + 64, '\0'), 30s);
  REQUIRE_FALSE(reply.has_value());
  CHECK(reply.error().is(Error::unsupported));
  CHECK(reply.error().message().find("make the pod anew") != std::string::npos);
  house.start(house.config("c1", {"true"}));  // and it serves on
  CHECK(house.wait_exit("c1").exit_code == 0);
}

TEST_CASE("a half-made container is undone by the next runtime") {
  ORC_NEEDS_FULL_CONTAINERS("half-made");
  RuntimeHouse house;
  house.pod();
  house.close();
  fs::create_directories(house.path("state/pods/pod-1/c/half/root"));
  fs::create_directories(house.path("state/pods/half-pod/c"));
  house.open();
  CHECK_FALSE(fs::exists(house.path("state/pods/pod-1/c/half")));
  CHECK_FALSE(fs::exists(house.path("state/pods/half-pod")));
}

TEST_CASE("a second runtime over the same folder is refused, with the pid of the first") {
  ORC_NEEDS_FULL_CONTAINERS("lock");
  RuntimeHouse house;
  auto second = make_pod_runtime(
      house.engine(), {.state_dir = house.path("state"), .isolation = RuntimeOptions::Isolation::full});
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().is(Error::busy));
  CHECK(second.error().message().find(std::to_string(getpid())) != std::string::npos);
}

}  // namespace orchestra::test
