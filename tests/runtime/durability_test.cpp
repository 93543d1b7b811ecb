// exit_durability = machine: how a container ended is known even after the machine was started again.
#include <signal.h>

#include <cstring>

#include "runtime/wire/protocol.hpp"
#include "tests/runtime/support.hpp"

namespace orchestra::test {
namespace {

/// As when the power goes: every process of the pods is gone, and so is what was on tmpfs.
void cut_power(RuntimeHouse& house) {
  house.close();
  for (const auto& pod : fs::directory_iterator(house.path("state/pods"))) {
    const std::string bytes = slurp(pod.path() / "shim");
    wire::ShimIdentity identity;
    REQUIRE(bytes.size() == sizeof identity);
    std::memcpy(&identity, bytes.data(), sizeof identity);
    kill(identity.pid, SIGKILL);
    std::error_code none;
    for (const auto& container : fs::directory_iterator(pod.path() / "c", none)) {
      const std::string state = slurp(container.path() / "state");
      wire::StateFile file;
      REQUIRE(state.size() == sizeof file);
      std::memcpy(&file, state.data(), sizeof file);
      if (file.record.phase == wire::Phase::running) kill(file.record.pid, SIGKILL);
    }
  }
  REQUIRE(eventually(
      [&] { return Leftovers::now("orchestra-" + house.instance()).find("process:") == std::string::npos; }));
  // An empty group of the old boot is no trace that a new boot would have.
  std::error_code none;
  for (const auto& hierarchy : fs::directory_iterator("/sys/fs/cgroup", none)) {
    const fs::path group = hierarchy.path() / ("orchestra-" + house.instance());
    std::vector<fs::path> folders;
    if (!fs::is_directory(group, none)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(group, none))
      if (entry.is_directory(none)) folders.push_back(entry.path());
    std::sort(folders.rbegin(), folders.rend());
    for (const auto& folder : folders) rmdir(folder.c_str());
    rmdir(group.c_str());
  }
  fs::remove_all(house.path("state"));
}
std::string kept(const RuntimeHouse& house, const std::string& name) {
  return house.path("data/exits/pod-1/" + name);
}

void ended_and_power_cut(RuntimeOptions::Isolation isolation) {
  RuntimeHouse house(isolation, RuntimeOptions::ExitDurability::machine);
  house.pod();
  house.start(house.config("short", {"sh", "-c", "exit 7"}));
  house.start(house.config("long", {"sleep", "1000"}));
  CHECK(house.wait_exit("short").exit_code == 7);
  REQUIRE(eventually([&] { return fs::exists(kept(house, "short.state")); }));
  cut_power(house);
  house.open();
  const auto pods = house.runtime().list().wait(30s);
  REQUIRE(pods.has_value());
  REQUIRE(pods->size() == 1);
  CHECK(pods->front().config.name == "web");
  CHECK(pods->front().sandbox.ended);
  REQUIRE(pods->front().containers.size() == 1);  // of what ran nobody knows how it ended
  const ContainerStatus& status = pods->front().containers.front();
  CHECK(status.id == "short");
  CHECK(status.state == ContainerState::exited);
  CHECK(status.exit_code == 7);
  CHECK(status.finished_ns > status.started_ns);
  CHECK(house.wait_exit("short").exit_code == 7);
  // Made again, it is a pod like any other, and the old record is forgotten.
  const PodSandbox again = house.pod();
  CHECK(!again.ended);
  CHECK(!fs::exists(kept(house, "short.state")));
  CHECK(!house.runtime().status("pod-1", "short").wait(30s).has_value());
  house.start(house.config("short", {"sh", "-c", "exit 8"}));
  CHECK(house.wait_exit("short").exit_code == 8);
  REQUIRE(eventually([&] { return fs::exists(kept(house, "short.state")); }));
  CHECK(house.runtime().remove_pod("pod-1").wait(30s).has_value());
  CHECK(!fs::exists(house.path("data/exits/pod-1")));
}
}  // namespace

TEST_CASE("exit codes of a pod are there after the machine was started again, until the pod is made anew") {
  ORC_NEEDS_FULL_CONTAINERS("exit durability");
  ended_and_power_cut(RuntimeOptions::Isolation::full);
}

TEST_CASE("process: exit codes of a pod are there after the machine was started again") {
  ORC_NEEDS_FULL_CONTAINERS("exit durability at level process");
  ended_and_power_cut(RuntimeOptions::Isolation::process);
}

TEST_CASE("what ends while no host is there is kept on the disk too, and what is removed is not") {
  ORC_NEEDS_FULL_CONTAINERS("exit durability without a host");
  RuntimeHouse house(RuntimeOptions::Isolation::full, RuntimeOptions::ExitDurability::machine);
  house.pod();
  house.start(house.config("first", {"sh", "-c", "exit 1"}));
  house.start(
      house.config("second", {"sh", "-c", "while ! test -e /data/go; do usleep 10000; done; exit 12"}));
  house.wait_exit("first");
  house.close();
  std::ofstream(house.path("rootfs/data/go"));
  REQUIRE(eventually([&] { return fs::exists(kept(house, "second.state")); }));
  fs::remove(house.path("rootfs/data/go"));
  house.open();
  CHECK(house.runtime().remove_container("pod-1", "first").wait(30s).has_value());
  CHECK(!fs::exists(kept(house, "first.state")));
  CHECK(!fs::exists(kept(house, "first.json")));
  cut_power(house);
  house.open();
  CHECK(house.wait_exit("second").exit_code == 12);
  CHECK(!house.runtime().status("pod-1", "first").wait(30s).has_value());
}

TEST_CASE("many containers that end at once are all kept") {
  ORC_NEEDS_FULL_CONTAINERS("exit durability of many");
  RuntimeHouse house(RuntimeOptions::Isolation::full, RuntimeOptions::ExitDurability::machine);
  house.pod();
  constexpr int kCount = 20;
  for (int i = 0; i < kCount; ++i)
    house.start(house.config(
        "c" + std::to_string(i),
        {"sh", "-c", "while ! test -e /data/go; do usleep 1000; done; exit " + std::to_string(i)}));
  std::ofstream(house.path("rootfs/data/go"));
  for (int i = 0; i < kCount; ++i) CHECK(house.wait_exit("c" + std::to_string(i)).exit_code == i);
  fs::remove(house.path("rootfs/data/go"));
  for (int i = 0; i < kCount; ++i) {
    CAPTURE(i);
    REQUIRE(eventually([&] { return fs::exists(kept(house, "c" + std::to_string(i) + ".state")); }));
  }
  cut_power(house);
  house.open();
  for (int i = 0; i < kCount; ++i) CHECK(house.wait_exit("c" + std::to_string(i)).exit_code == i);
}

TEST_CASE("damaged records on the disk are named and left out; exit_durability needs data_dir") {
  ORC_NEEDS_FULL_CONTAINERS("damaged exit records");
  {
    RuntimeHouse house(RuntimeOptions::Isolation::full, RuntimeOptions::ExitDurability::machine);
    house.pod();
    house.start(house.config("short", {"sh", "-c", "exit 7"}));
    house.wait_exit("short");
    REQUIRE(eventually([&] { return fs::exists(kept(house, "short.state")); }));
    cut_power(house);
    fs::resize_file(kept(house, "short.state"), 100);
    house.open();
    const auto pods = house.runtime().list().wait(30s);
    REQUIRE(pods->size() == 1);
    CHECK(pods->front().containers.empty());
    house.pod();  // in the way of nobody
  }
  Engine engine({.event_threads = 1});
  TempDir folder;
  auto opened = make_pod_runtime(
      engine, {.state_dir = folder / "state", .exit_durability = RuntimeOptions::ExitDurability::machine});
  REQUIRE(!opened);
  CHECK(opened.error().message() ==
        "exit_durability machine: data_dir is missing; name a folder that outlives the machine's start");
}

}  // namespace orchestra::test
