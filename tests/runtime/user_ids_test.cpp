// Pods with ids of their own (hostUsers: false): who they are on the machine, and whose their files are.
#include <sys/stat.h>

#include "tests/runtime/support.hpp"

namespace orchestra::test {

namespace {

constexpr std::uint32_t kFirst = 3 * 65536;

PodSandboxConfig own_users(const std::string& uid = "pod-1") {
  PodSandboxConfig pod;
  pod.uid = uid;
  pod.first_user_id = kFirst;
  return pod;
}

/// "UID:GID" of a file of the machine.
std::string owner(const std::string& path) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return "no " + path;
  return std::to_string(info.st_uid) + ":" + std::to_string(info.st_gid);
}

/// The first id of "Uid:" of a process of the machine.
std::string uid_of(std::int64_t pid) {
  std::istringstream text(slurp("/proc/" + std::to_string(pid) + "/status"));
  std::string line;
  while (std::getline(text, line)) {
    if (line.starts_with("Uid:\t")) return line.substr(5, line.find('\t', 5) - 5);
  }
  return "no process " + std::to_string(pid);
}

}  // namespace

TEST_CASE(
    "root of a pod with ids of its own is nobody special outside; files keep their owners on the disk") {
  ORC_NEEDS_FULL_CONTAINERS("user namespace of a pod");
  RuntimeHouse house;
  house.pod(own_users());
  fs::create_directories(house.path("volume/inner"));
  std::ofstream(house.path("volume/given")) << "from the machine\n";
  REQUIRE(chmod(house.path("volume/given").c_str(), 0600) == 0);
  REQUIRE(chown(house.path("volume/inner").c_str(), 1000, 1001) == 0);
  std::ofstream(house.path("message"));
  ContainerConfig config =
      house.config("c1", {"sh", "-c",
                          "id -u; cat /vol/given; stat -c %u:%g /vol/inner /vol/given /bin/sh /; "
                          "echo words > /vol/made; echo root > /made; echo end > /dev/message; "
                          "touch /scratch/x && stat -c %u /scratch/x; cat /proc/self/uid_map; "
                          "ls /sys/class/net; grep CapEff /proc/self/status; echo ready; exec sleep 1000"});
  config.mounts = {{house.path("volume"), "/vol"},
                   {house.path("message"), "/dev/message"},
                   {"", "/scratch", false, true, 1 << 20}};
  house.start(config);
  REQUIRE(
      eventually([&] { return log_contents(house.path("logs/c1.log")).find("ready") != std::string::npos; }));
  const std::string seen = log_contents(house.path("logs/c1.log"));
  CAPTURE(seen);
  CHECK(seen.starts_with("stdout F 0\nstdout F from the machine\nstdout F 1000:1001\nstdout F 0:0\n"));
  CHECK(seen.find("F 0:0\nstdout F 0:0\nstdout F 0:0\nstdout F 0\n") != std::string::npos);
  CHECK(seen.find("196608      65536") != std::string::npos);
  CHECK(seen.find("F lo\n") != std::string::npos);
  CHECK(seen.find("CapEff:\t00000000a80425fb") != std::string::npos);
  const auto status = house.runtime().status("pod-1", "c1").wait(30s);
  REQUIRE(status.has_value());
  CHECK(uid_of(status->pid) == std::to_string(kFirst));
  // What root inside wrote is root's on the disk, reached through mounts that nobody else has.
  CHECK(owner(house.path("volume/made")) == "0:0");
  CHECK(slurp(house.path("message")) == "end\n");
  CHECK(owner(house.path("rootfs/made")) == "0:0");
  const std::string ran = house.exec("c1", {"sh", "-c", "id -u; cat /vol/made; cat /proc/self/uid_map"});
  CHECK(ran.starts_with("0\nwords\n"));
  CHECK(ran.find("196608") != std::string::npos);
}

TEST_CASE("an overlay root of a pod with ids of its own shows its layers' owners, and keeps the layers") {
  ORC_NEEDS_FULL_CONTAINERS("user namespace of a pod, overlay");
  RuntimeHouse house;
  house.pod(own_users());
  for (const char* folder : {"upper", "work", "top/data"}) fs::create_directories(house.path(folder));
  std::ofstream(house.path("top/data/mine")) << "seven's\n";
  REQUIRE(chown(house.path("top/data/mine").c_str(), 7, 8) == 0);
  ContainerConfig config =
      house.config("c1", {"sh", "-c",
                          "stat -c %u:%g / /data/mine /bin/sh; echo more >> /data/mine; chown 9 /data/mine; "
                          "echo new > /data/new; stat -c %u:%g /data/mine /data/new; cat /data/mine; "
                          "rm /data/new; mkdir /srv/x; echo done"});
  config.root = {};
  config.root.layers_directory = house.path("");
  config.root.overlay_lower = {"top", "rootfs"};
  config.root.overlay_upper = house.path("upper");
  config.root.overlay_work = house.path("work");
  fs::create_directories(house.path("rootfs/srv"));
  house.start(config);
  CHECK(house.wait_exit("c1").exit_code == 0);
  CHECK(log_contents(house.path("logs/c1.log")) ==
        "stdout F 0:0\nstdout F 7:8\nstdout F 0:0\nstdout F 9:8\nstdout F 0:0\nstdout F seven's\n"
        "stdout F more\nstdout F done\n");
  CHECK(slurp(house.path("top/data/mine")) == "seven's\n");
  CHECK(owner(house.path("top/data/mine")) == "7:8");
  CHECK(owner(house.path("upper/data/mine")) ==
        std::to_string(kFirst + 9) + ":" + std::to_string(kFirst + 8));
  CHECK_FALSE(fs::exists(house.path("rootfs/srv/x")));
}

TEST_CASE("an ordinary user in a pod with ids of its own; /proc without masks where that is asked for") {
  ORC_NEEDS_FULL_CONTAINERS("user namespace of a pod, user and /proc");
  RuntimeHouse house;
  house.pod(own_users());
  ContainerConfig config = house.config(
      "c1",
      {"sh", "-c",
       "id -u; id -G; echo through > /dev/stdout; echo no > /proc/sys/kernel/hostname; exec sleep 1000"});
  config.uid = 1000;
  config.gid = 1001;
  config.supplemental_groups = {2000};
  house.start(config);
  REQUIRE(eventually(
      [&] { return log_contents(house.path("logs/c1.log")).find("hostname") != std::string::npos; }));
  const std::string seen = log_contents(house.path("logs/c1.log"));
  CHECK(seen.starts_with("stdout F 1000\nstdout F 1001 2000\nstdout F through\n"));
  const auto status = house.runtime().status("pod-1", "c1").wait(30s);
  REQUIRE(status.has_value());
  CHECK(uid_of(status->pid) == std::to_string(kFirst + 1000));

  const std::vector<std::string> look{
      "sh", "-c", "grep -c ' /proc/' /proc/self/mountinfo; cat /proc/timer_list 2>&1 | wc -c"};
  const std::string masked = house.run("c2", look);
  config = house.config("c3", look);
  config.unmasked_proc = true;
  house.start(config);
  house.wait_exit("c3");
  CHECK(masked.find("F 0\n") == masked.rfind("F 0\n"));
  CHECK(log_contents(house.path("logs/c3.log")).starts_with("stdout F 0\n"));
  CHECK_FALSE(masked.starts_with("stdout F 0\n"));
}

TEST_CASE("what does not go with ids of its own is refused by name") {
  ORC_NEEDS_FULL_CONTAINERS("user namespace of a pod, refusals");
  RuntimeHouse house;
  PodSandboxConfig pod = own_users("host");
  pod.host_network = true;
  const auto host = house.runtime().create_pod(pod).wait(30s);
  REQUIRE_FALSE(host.has_value());
  CHECK(host.error().is(Error::invalid));
  pod = own_users("shared");
  pod.share_process_namespace = true;
  const auto shared = house.runtime().create_pod(pod).wait(30s);
  REQUIRE_FALSE(shared.has_value());
  CHECK(shared.error().message().find("shareProcessNamespace") != std::string::npos);
  house.pod(own_users());
  house.start(house.config("c1", {"sleep", "1000"}));
  ContainerConfig joined = house.config("c2", {"true"});
  joined.process_namespace_of = "c1";
  const auto refused = house.runtime().create_container("pod-1", joined).wait(30s);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().message().find("hostUsers: false") != std::string::npos);
  // A file system that cannot be mapped (proc) names itself.
  ContainerConfig proc = house.config("c3", {"true"});
  proc.mounts = {{"/proc/self", "/p"}};
  const auto unmapped = house.runtime().create_container("pod-1", proc).wait(30s);
  REQUIRE_FALSE(unmapped.has_value());
  CHECK(unmapped.error().message().find(
            "id-mapped bind /proc/self on /p (its file system cannot map ids on this "
            "kernel)") != std::string::npos);
}

}  // namespace orchestra::test
