// Sub paths of volumes: what is mounted lies inside the volume, whatever its writers do meanwhile
// (CVE-2017-1002101, CVE-2021-25741).
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "tests/runtime/support.hpp"

namespace orchestra::test {

namespace {

/// A volume with a folder `sub`, and beside the volume what must not be seen.
void make_volume(RuntimeHouse& house) {
  fs::create_directories(house.path("volume/sub"));
  fs::create_directories(house.path("outside"));
  std::ofstream(house.path("volume/sub/file")) << "mine\n";
  std::ofstream(house.path("outside/file")) << "secret\n";
}

ContainerConfig reader(RuntimeHouse& house, const std::string& id, const std::string& sub_path) {
  ContainerConfig config = house.config(id, {"sh", "-c", "cat /vol/file; ls /vol"});
  PodMount mount{house.path("volume"), "/vol"};
  mount.sub_path = sub_path;
  config.mounts = {mount};
  return config;
}

void both_kinds(const std::function<void(RuntimeHouse&)>& run) {
  for (const std::uint32_t first_user_id : {0u, 5u * 65536}) {
    CAPTURE(first_user_id);
    RuntimeHouse house;
    PodSandboxConfig pod;
    pod.uid = "pod-1";
    pod.first_user_id = first_user_id;
    house.pod(pod);
    make_volume(house);
    run(house);
  }
}

}  // namespace

TEST_CASE("links in a volume lead nowhere but into the volume") {
  ORC_NEEDS_FULL_CONTAINERS("sub paths");
  both_kinds([](RuntimeHouse& house) {
    fs::create_directories(house.path("volume/etc"));
    std::ofstream(house.path("volume/etc/file")) << "etc of the volume\n";
    fs::create_symlink("/etc", house.path("volume/absolute"));
    fs::create_symlink("../../../../../../etc", house.path("volume/upwards"));
    fs::create_symlink("sub", house.path("volume/plain"));
    fs::create_symlink(house.path("outside"), house.path("volume/away"));
    int number = 0;
    for (const auto& [sub_path, seen] : {std::pair("sub", "mine"),
                                         {"plain", "mine"},
                                         {"absolute", "etc of the volume"},
                                         {"upwards", "etc of the volume"}}) {
      CAPTURE(sub_path);
      const std::string id = "c" + std::to_string(number++);
      house.start(reader(house, id, sub_path));
      house.wait_exit(id);
      CHECK(log_contents(house.path("logs/" + id + ".log")) ==
            std::string("stdout F ") + seen + "\nstdout F file\n");
    }
    const auto away = house.runtime().create_container("pod-1", reader(house, "away", "away")).wait(30s);
    if (away) {
      REQUIRE(house.runtime().start_container("pod-1", "away").wait(30s));
      house.wait_exit("away");
    }
    CHECK(log_contents(house.path("logs/away.log")).find("secret") == std::string::npos);
  });
}

TEST_CASE("a folder that is swapped for a link while it is mounted never shows what is outside") {
  ORC_NEEDS_FULL_CONTAINERS("swapped sub paths");
  both_kinds([](RuntimeHouse& house) {
    fs::create_symlink(house.path("outside"), house.path("volume/link"));
    std::atomic<bool> over{false};
    std::thread swapping([&] {
      const std::string sub = house.path("volume/sub"), link = house.path("volume/link");
      while (!over) syscall(SYS_renameat2, AT_FDCWD, sub.c_str(), AT_FDCWD, link.c_str(), RENAME_EXCHANGE);
    });
    int mine = 0;
    for (int tries = 0; tries < 400 && mine < 10; ++tries) {
      const std::string id = "c" + std::to_string(tries);
      const auto made = house.runtime().create_container("pod-1", reader(house, id, "sub")).wait(30s);
      if (made && house.runtime().start_container("pod-1", id).wait(30s)) {
        house.wait_exit(id);
        const std::string seen = log_contents(house.path("logs/" + id + ".log"));
        CHECK(seen.find("secret") == std::string::npos);
        mine += seen.find("mine") != std::string::npos ? 1 : 0;
      }
      (void)house.runtime().remove_container("pod-1", id).wait(30s);
    }
    over = true;
    swapping.join();
    CHECK(mine == 10);
  });
}

}  // namespace orchestra::test
