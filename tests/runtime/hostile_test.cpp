// Roots that try to get out: links in the place of mount points, devices, masks. Nothing outside is touched.
#include "tests/runtime/support.hpp"

namespace orchestra::test {
namespace {
/// A folder outside of the root with one file; anything new in it is a breakout.
struct Outside {
  explicit Outside(const std::string& path) : path(path) {
    fs::create_directories(path);
    std::ofstream(path + "/secret") << "secret\n";
  }
  bool untouched() const {
    std::size_t files = 0;
    for ([[maybe_unused]] const auto& entry : fs::recursive_directory_iterator(path)) ++files;
    return files == 1 && slurp(path + "/secret") == "secret\n";
  }
  std::string path;
};
}  // namespace

TEST_CASE("mount points that are links stay inside the root: /proc, /dev, /sys and volume targets") {
  ORC_NEEDS_FULL_CONTAINERS("links as mount points");
  for (const char* place : {"dev", "sys", "data"}) {
    RuntimeHouse house;
    house.pod();
    const Outside outside(house.path("outside"));
    const std::string target = house.path("rootfs/") + place;
    fs::remove_all(target);
    fs::create_symlink(outside.path, target);  // as the host sees it: out of the root
    fs::create_directories(house.path("volume"));
    ContainerConfig config = house.config("c1", {"/bin/sh", "-c", "echo ran; ls /dev/null"});
    config.mounts = {{house.path("volume"), "/data/vol"}};
    auto created = house.runtime().create_container("pod-1", config).wait(30s);
    if (created) {
      CHECK(house.runtime().start_container("pod-1", "c1").wait(30s).has_value());
      CHECK(house.wait_exit("c1").exit_code.has_value());
    }
    CHECK(outside.untouched());
    CHECK(slurp("/proc/self/mountinfo").find(outside.path) == std::string::npos);
  }
}

TEST_CASE("a link with .. and a chain of links end inside the root") {
  ORC_NEEDS_FULL_CONTAINERS("link chains");
  RuntimeHouse house;
  house.pod();
  const Outside outside(house.path("outside"));
  fs::create_symlink("../../../../../../../../" + outside.path, house.path("rootfs/up"));
  fs::create_symlink("up", house.path("rootfs/chain"));
  fs::create_directories(house.path("volume"));
  ContainerConfig config = house.config("c1", {"/bin/true"});
  config.mounts = {{house.path("volume"), "/chain/deep/vol"}};
  auto created = house.runtime().create_container("pod-1", config).wait(30s);
  CHECK(outside.untouched());
  if (created) CHECK(house.runtime().remove_container("pod-1", "c1").wait(30s).has_value());
}

TEST_CASE("the working directory cannot be a descriptor of the host (CVE-2024-21626)") {
  ORC_NEEDS_FULL_CONTAINERS("cwd escape");
  RuntimeHouse house;
  house.pod();
  for (int fd = 3; fd < 12; ++fd) {
    ContainerConfig config =
        house.config("c" + std::to_string(fd),
                     {"/bin/sh", "-c", "pwd; ls ../../../etc/hostname; cat ../../../../etc/shadow"});
    config.cwd = "/proc/self/fd/" + std::to_string(fd);
    auto created = house.runtime().create_container("pod-1", config).wait(30s);
    if (created && house.runtime().start_container("pod-1", config.id).wait(30s)) {
      house.wait_exit(config.id);
      CHECK(log_contents(config.log_path).find("root:") == std::string::npos);
    }
  }
}

TEST_CASE("no descriptor of the host or the shim is open in a container") {
  ORC_NEEDS_FULL_CONTAINERS("leaked descriptors");
  RuntimeHouse house;
  house.pod();
  const std::string seen = house.run("c1", {"/bin/sh", "-c", "ls -l /proc/self/fd | grep -v total"});
  std::istringstream lines(seen);
  for (std::string line; std::getline(lines, line);) {
    const bool own = line.find("/proc/") != std::string::npos || line.find("null") != std::string::npos ||
                     line.find("stdout") != std::string::npos || line.find("stderr") != std::string::npos;
    CHECK_MESSAGE(own, line);
  }
}

TEST_CASE("the program behind /proc/PID/exe of our init cannot be written (CVE-2019-5736)") {
  ORC_NEEDS_FULL_CONTAINERS("exe overwrite");
  RuntimeHouse house;
  PodSandboxConfig pod;
  pod.uid = "pod-1";
  pod.share_process_namespace = true;
  house.pod(pod);
  // Pid 1 of a shared pid namespace is our program, the best one could hope to overwrite.
  const std::string seen =
      house.run("c1", {"/bin/sh", "-c", "echo x > /proc/1/exe || echo refused; cat /proc/1/comm"});
  CHECK(seen.find("refused") != std::string::npos);
  CHECK(seen.find("orch-pause") != std::string::npos);
}

TEST_CASE("nothing of the host is named in a container's mounts") {
  ORC_NEEDS_FULL_CONTAINERS("mount table");
  RuntimeHouse house;
  house.pod();
  const std::string seen = house.run("c1", {"cat", "/proc/self/mountinfo"});
  std::istringstream lines(seen);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    std::istringstream fields(line.substr(9));
    std::string word;
    for (int field = 0; field < 5; ++field) fields >> word;
    CHECK_MESSAGE(word.find("/tmp/orc-test") == std::string::npos, line);
    CHECK_MESSAGE(word.find("/sys/fs/cgroup") == std::string::npos, line);
  }
  CHECK(count > 8);
}

TEST_CASE("20 pods come and go and nothing grows: descriptors, mounts, cgroups, processes") {
  ORC_NEEDS_FULL_CONTAINERS("no growth");
  RuntimeHouse house;
  const auto descriptors = [] {
    int count = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator("/proc/self/fd")) ++count;
    return count;
  };
  int before = 0;
  for (int i = 0; i < 20; ++i) {
    house.pod("grow");
    house.start(house.config("c1", {"/bin/true"}), "grow");
    CHECK(house.wait_exit("c1", "grow").exit_code == 0);
    CHECK(house.runtime().remove_pod("grow").wait(30s).has_value());
    if (i == 2) before = descriptors();
  }
  // A pod's channel is closed by the thread that served it, a moment after the answer.
  CHECK_MESSAGE(eventually([&] { return descriptors() <= before; }), descriptors(), " descriptors, ", before,
                " after three pods");
  CHECK(eventually([&] { return Leftovers::now("orchestra-" + house.instance()).empty(); }));
}

}  // namespace orchestra::test
