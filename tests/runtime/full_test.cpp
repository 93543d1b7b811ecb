// Containers at level full: what they see, how they are confined, how they end.
#include <csignal>

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

TEST_CASE("a container is pid 1 of its own world: own host name, processes, network, mounts") {
  ORC_NEEDS_FULL_CONTAINERS("own namespaces");
  RuntimeHouse house;
  house.pod();
  const std::string seen = house.run(
      "c1", {"sh", "-c", "echo pid=$$; hostname; ls /; ip link | wc -l; readlink /proc/self/ns/net"});
  CHECK(seen.find("F pid=1\n") != std::string::npos);
  CHECK(seen.find("F web\n") != std::string::npos);
  CHECK(seen.find("F data\n") != std::string::npos);
  CHECK(seen.find("rootfs") == std::string::npos);
  CHECK(seen.find(fs::read_symlink("/proc/self/ns/net").string()) == std::string::npos);
}

TEST_CASE("two containers of a pod share network, ipc and host name, but not pids and mounts") {
  ORC_NEEDS_FULL_CONTAINERS("shared namespaces");
  RuntimeHouse house;
  house.pod();
  const std::vector<std::string> command{
      "sh", "-c", "for n in net ipc uts pid mnt cgroup; do readlink /proc/self/ns/$n; done"};
  house.start(house.config("c1", {"sleep", "1000"}));
  house.start(house.config("c2", {"sleep", "1000"}));
  std::istringstream first(house.exec("c1", command)), second(house.exec("c2", command));
  for (const bool same : {true, true, true, false, false, false}) {
    std::string a, b;
    std::getline(first, a);
    std::getline(second, b);
    REQUIRE(a.find("[") != std::string::npos);
    CHECK((a == b) == same);
  }
}

TEST_CASE("default protections: 14 capabilities, seccomp on, masked and read-only paths") {
  ORC_NEEDS_FULL_CONTAINERS("protections");
  RuntimeHouse house;
  house.pod();
  const std::string seen =
      house.run("c1", {"sh", "-c",
                       "grep -E 'CapBnd|CapEff|Seccomp:|NoNewPrivs' /proc/self/status; "
                       "wc -c < /proc/kcore; echo 1 > /proc/sys/kernel/hostname; ls /sys/firmware | wc -l; "
                       "mount -t tmpfs none /tmp; ls -l /dev/null"});
  CHECK(seen.find("CapEff:\t00000000a80425fb") != std::string::npos);
  CHECK(seen.find("CapBnd:\t00000000a80425fb") != std::string::npos);
  CHECK(seen.find("Seccomp:\t2") != std::string::npos);
  CHECK(seen.find("stdout F 0\n") != std::string::npos);  // kcore is the null device, firmware is empty
  CHECK(seen.find("/proc/sys/kernel/hostname: Read-only file system") != std::string::npos);
  CHECK(seen.find("mount: permission denied") != std::string::npos);
  CHECK(seen.find("1,   3") != std::string::npos);
}

TEST_CASE("user, groups, working directory, added and dropped capabilities are as asked") {
  ORC_NEEDS_FULL_CONTAINERS("user and capabilities");
  RuntimeHouse house;
  house.pod();
  ContainerConfig config = house.config(
      "c1", {"sh", "-c",
             "id -u; id -g; id -G; pwd; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status"});
  config.uid = 1000;
  config.gid = 1001;
  config.supplemental_groups = {2000, 2001};
  config.cwd = "/srv/made";
  config.no_new_privileges = true;
  house.start(config);
  house.wait_exit("c1");
  const std::string seen = log_contents(house.path("logs/c1.log"));
  CHECK(seen ==
        "stdout F 1000\nstdout F 1001\nstdout F 1001 2000 2001\nstdout F /srv/made\nstdout F "
        "CapEff:\t0000000000000000\nstdout F NoNewPrivs:\t1\n");

  config = house.config("c2", {"grep", "CapEff", "/proc/self/status"});
  config.drop_capabilities = {"ALL"};
  config.add_capabilities = {"NET_ADMIN"};
  house.start(config);
  house.wait_exit("c2");
  CHECK(log_contents(house.path("logs/c2.log")) == "stdout F CapEff:\t0000000000001000\n");
}

TEST_CASE("a read-only root refuses writes, a volume and a tmpfs take them") {
  ORC_NEEDS_FULL_CONTAINERS("volumes");
  RuntimeHouse house;
  house.pod();
  fs::create_directories(house.path("volume"));
  std::ofstream(house.path("file")) << "from the host\n";
  ContainerConfig config = house.config("c1", {"sh", "-c",
                                               "touch /x; echo kept > /vol/kept; touch /scratch/y && echo "
                                               "scratch; cat /etc/conf/file; touch /etc/conf/file"});
  config.read_only_root = true;
  config.mounts = {{house.path("volume"), "/vol"},
                   {"", "/scratch", false, true, 1 << 20},
                   {house.path("file"), "/etc/conf/file", true}};
  // A read-only root takes its mount points from the image.
  for (const char* folder : {"vol", "scratch", "etc/conf"})
    fs::create_directories(house.path("rootfs/") + folder);
  std::ofstream(house.path("rootfs/etc/conf/file"));
  house.start(config);
  house.wait_exit("c1");
  const std::string seen = log_contents(house.path("logs/c1.log"));
  CHECK(seen.find("touch: /x: Read-only file system") != std::string::npos);
  CHECK(seen.find("F scratch") != std::string::npos);
  CHECK(seen.find("F from the host") != std::string::npos);
  CHECK(seen.find("touch: /etc/conf/file: Read-only file system") != std::string::npos);
  CHECK(slurp(house.path("volume/kept")) == "kept\n");
}

TEST_CASE("an overlay root keeps its lower layer as it was") {
  ORC_NEEDS_FULL_CONTAINERS("overlay");
  RuntimeHouse house;
  house.pod();
  fs::create_directories(house.path("upper"));
  fs::create_directories(house.path("work"));
  ContainerConfig config = house.config("c1", {"sh", "-c", "echo new > /data/new; cat /data/new"});
  config.root = {};
  config.root.layers_directory = house.path("");
  config.root.overlay_lower = {"rootfs"};
  config.root.overlay_upper = house.path("upper");
  config.root.overlay_work = house.path("work");
  house.start(config);
  CHECK(house.wait_exit("c1").exit_code == 0);
  CHECK(fs::exists(house.path("upper/data/new")));
  CHECK_FALSE(fs::exists(house.path("rootfs/data/new")));
}

TEST_CASE("a program that does not exist fails the start, with its name and code 128") {
  ORC_NEEDS_FULL_CONTAINERS("missing program");
  RuntimeHouse house;
  house.pod();
  REQUIRE(house.runtime()
              .create_container("pod-1", house.config("c1", {"/no/such/program"}))
              .wait(30s)
              .has_value());
  const auto started = house.runtime().start_container("pod-1", "c1").wait(30s);
  REQUIRE_FALSE(started.has_value());
  CHECK(started.error().is(Error::not_found));
  CHECK(started.error().message().find("/no/such/program") != std::string::npos);
  const ContainerStatus end = house.wait_exit("c1");
  CHECK(end.exit_code == 128);
  CHECK(end.reason.starts_with("StartError"));
}

TEST_CASE("signals end a container with 128+n; a container that ignores TERM dies by KILL") {
  ORC_NEEDS_FULL_CONTAINERS("signals");
  RuntimeHouse house;
  house.pod();
  house.start(house.config(
      "c1", {"sh", "-c", "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done"}));
  REQUIRE(
      eventually([&] { return log_contents(house.path("logs/c1.log")).find("ready") != std::string::npos; }));
  CHECK(house.runtime().signal_container("pod-1", "c1", SIGTERM).wait(30s).has_value());
  CHECK(house.wait_exit("c1").exit_code == 3);
  house.start(house.config("c2", {"sleep", "1000"}));
  CHECK(house.runtime().signal_container("pod-1", "c2", SIGKILL).wait(30s).has_value());
  const ContainerStatus killed = house.wait_exit("c2");
  CHECK(killed.exit_code == 137);
  CHECK(killed.signal == SIGKILL);
  CHECK_FALSE(killed.oom_killed);
  const auto late = house.runtime().signal_container("pod-1", "c2", SIGTERM).wait(30s);
  CHECK_FALSE(late.has_value());
}

TEST_CASE("memory beyond the limit kills the container and says so; the limits stand in the cgroup") {
  ORC_NEEDS_FULL_CONTAINERS("oom");
  RuntimeHouse house;
  house.pod();
  ContainerConfig config = house.config("c1", {"dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"});
  config.limits.memory_bytes = 16 << 20;
  config.limits.pids = 50;
  config.limits.cpu_quota_us = 50000;
  REQUIRE(house.runtime().create_container("pod-1", config).wait(30s).has_value());
  const std::string group = "/orchestra-" + house.instance() + "/kubepods/burstable/podpod-1/c1/";
  if (fs::exists("/sys/fs/cgroup/memory" + group)) {
    CHECK(slurp("/sys/fs/cgroup/memory" + group + "memory.limit_in_bytes") == "16777216\n");
    CHECK(slurp("/sys/fs/cgroup/pids" + group + "pids.max") == "50\n");
    CHECK(slurp("/sys/fs/cgroup/cpu" + group + "cpu.cfs_quota_us") == "50000\n");
  }
  REQUIRE(house.runtime().start_container("pod-1", "c1").wait(30s).has_value());
  const ContainerStatus end = house.wait_exit("c1");
  CHECK(end.exit_code == 137);
  CHECK(end.oom_killed);
}

TEST_CASE("containers and their shim leave every cgroup of the host, so that stopping it kills none") {
  ORC_NEEDS_FULL_CONTAINERS("leaving cgroups");
  RuntimeHouse house;
  house.pod();
  house.start(house.config("c1", {"sleep", "1000"}));
  const auto pods = house.runtime().list().wait(30s);
  REQUIRE(pods.has_value());
  const std::string pid = std::to_string(pods->front().containers.front().pid);
  const std::string mark = "/orchestra-" + house.instance() + "/";
  const auto all_left = [&](const std::string& process) {
    std::istringstream lines(slurp("/proc/" + process + "/cgroup"));
    int count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
      if (line.find(mark) == std::string::npos) return false;
    }
    return count > 0;
  };
  CHECK_MESSAGE(all_left(pid), slurp("/proc/" + pid + "/cgroup"));
  std::istringstream stat(slurp("/proc/" + pid + "/stat"));
  std::string word, parent;
  for (int field = 1; field <= 4 && stat >> word; ++field) parent = word;
  CHECK(eventually([&] { return all_left(parent); }));
}

TEST_CASE("cgroups: a device that no rule allows can be made but not opened, the default ones can") {
  ORC_NEEDS_FULL_CONTAINERS("device rules");
  RuntimeHouse house;
  const PodSandbox sandbox = house.pod();
  const std::string seen = house.run("c1", {"/bin/busybox", "sh", "-c",
                                            "busybox mknod /data/kmsg c 1 11 && echo made; cat /data/kmsg; "
                                            "head -c 4 /dev/zero | wc -c; echo x >/dev/full"});
  fs::remove(house.path("rootfs/data/kmsg"));
  CHECK(seen.find("F made\n") != std::string::npos);
  CHECK_MESSAGE(seen.find("'/data/kmsg': Operation not permitted") != std::string::npos, seen);
  CHECK(seen.find("F 4\n") != std::string::npos);
  CHECK(seen.find("No space left") != std::string::npos);
}

TEST_CASE("create and remove are idempotent, an unknown container is not found") {
  ORC_NEEDS_FULL_CONTAINERS("idempotent");
  RuntimeHouse house;
  house.pod();
  house.pod();
  const ContainerConfig config = house.config("c1", {"sleep", "1000"});
  house.start(config);
  const auto again = house.runtime().create_container("pod-1", config).wait(30s);
  REQUIRE(again.has_value());
  CHECK(again->state == ContainerState::running);
  CHECK(house.runtime().start_container("pod-1", "c1").wait(30s).has_value());
  CHECK(house.runtime().remove_container("pod-1", "c1").wait(30s).has_value());
  CHECK(house.runtime().remove_container("pod-1", "c1").wait(30s).has_value());
  CHECK(house.runtime().status("pod-1", "c1").wait(1s).error().is(Error::not_found));
  CHECK(house.runtime().exited("pod-1", "c1").wait(1s).error().is(Error::not_found));
  CHECK(house.runtime().remove_pod("never-was").wait(30s).has_value());
  CHECK(house.runtime().create_pod({.uid = "../evil"}).wait(30s).error().is(Error::invalid));
}

TEST_CASE("with a shared pid namespace containers see each other, and pid 1 is ours") {
  ORC_NEEDS_FULL_CONTAINERS("shared pid namespace");
  RuntimeHouse house;
  PodSandboxConfig pod;
  pod.uid = "pod-1";
  pod.share_process_namespace = true;
  house.pod(pod);
  house.start(house.config("c1", {"sleep", "1000"}));
  const std::string seen =
      house.run("c2", {"sh", "-c", "cat /proc/1/comm; grep -l sleep /proc/[0-9]*/comm | wc -l"});
  CHECK(seen.find("F orch-pause") != std::string::npos);
  CHECK(seen.find("F 1") != std::string::npos);
  CHECK(house.runtime().remove_container("pod-1", "c1").wait(30s).has_value());
}

TEST_CASE("a container that joins another's process namespace sees its processes and ends with it") {
  ORC_NEEDS_FULL_CONTAINERS("joined pid namespace");
  RuntimeHouse house;
  house.pod();
  house.start(house.config("c1", {"sleep", "1000"}));
  house.start(house.config("other", {"sleep", "2000"}));
  auto joined = [&](const std::string& id, std::vector<std::string> args) {
    ContainerConfig config = house.config(id, std::move(args));
    config.process_namespace_of = "c1";
    return config;
  };
  house.start(joined(
      "look", {"sh", "-c", "tr '\\0' ' ' </proc/1/cmdline; echo; grep -l sleep /proc/[0-9]*/comm | wc -l"}));
  REQUIRE(eventually([&] { return house.runtime().exited("pod-1", "look").wait(1s).has_value(); }));
  CHECK(log_contents(house.path("logs/look.log")).find("F sleep 1000") != std::string::npos);
  CHECK(log_contents(house.path("logs/look.log")).find("F 1\n") != std::string::npos);

  house.start(joined("stays", {"sleep", "3000"}));
  CHECK(house.runtime().signal_container("pod-1", "c1", SIGKILL).wait(30s).has_value());
  REQUIRE(eventually([&] { return house.runtime().exited("pod-1", "stays").wait(1s).has_value(); }));
  const auto late = house.runtime().create_container("pod-1", joined("late", {"true"})).wait(30s);
  REQUIRE_FALSE(late.has_value());
  // The record may still say that it runs; then the shim, which knows, refuses.
  const std::string why = late.error().to_string();
  const bool named = why.find("container c1: it is not running") != std::string::npos ||
                     why.find("whose processes are to be seen has ended") != std::string::npos;
  CHECK_MESSAGE(named, why);
}

TEST_CASE("usage of a running container is counted") {
  ORC_NEEDS_FULL_CONTAINERS("usage");
  RuntimeHouse house;
  house.pod();
  house.start(house.config(
      "c1", {"sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; sleep 1000"}));
  REQUIRE(
      eventually([&] { return log_contents(house.path("logs/c1.log")).find("done") != std::string::npos; }));
  const auto usage = house.runtime().usage("pod-1", "c1").wait(30s);
  REQUIRE(usage.has_value());
  CHECK(usage->cpu_ns > 1'000'000);
  CHECK(usage->memory_bytes > 0);
  CHECK(usage->pids >= 1);
}

TEST_CASE("a pod's log rotates at its size, at record boundaries, and loses no line") {
  ORC_NEEDS_FULL_CONTAINERS("rotation");
  RuntimeHouse house;
  house.pod();
  ContainerConfig config = house.config("c1", {"seq", "1", "20000"});
  config.log_file_bytes_max = 300'000;
  house.start(config);
  house.wait_exit("c1");
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(house.path("logs"))) {
    if (entry.path() != house.path("logs/c1.log")) files.push_back(entry.path());
  }
  CHECK(files.size() == 3);
  std::sort(files.begin(), files.end());
  files.push_back(house.path("logs/c1.log"));
  int next = 1;
  for (const std::string& file : files) {
    CHECK(fs::file_size(file) <= 300'000);
    std::istringstream lines(log_contents(file));
    for (std::string line; std::getline(lines, line); ++next)
      REQUIRE(line == "stdout F " + std::to_string(next));
  }
  CHECK(next == 20001);
}

TEST_CASE("output over a pod's limit is dropped and counted in the log, and nothing waits for it") {
  ORC_NEEDS_FULL_CONTAINERS("log limit");
  RuntimeHouse house;
  PodSandboxConfig pod;
  pod.uid = "pod-1";
  pod.annotations["orchestra.dev/log-bytes-per-second"] = "20000";
  house.pod(pod);
  house.start(house.config("c1", {"seq", "1000000", "1049999"}));  // lines of 7 bytes, records of 49
  CHECK(house.wait_exit("c1").exit_code == 0);
  long kept = 0, said_lines = 0, said_bytes = 0;
  std::istringstream lines(log_contents(house.path("logs/c1.log")));
  for (std::string line; std::getline(lines, line);) {
    long dropped = 0, bytes = 0;
    int end = 0;
    if (std::sscanf(line.c_str(), "stdout F [orchestra] dropped %ld lines (%ld bytes): over 20000 B/s%n",
                    &dropped, &bytes, &end) == 2) {
      CHECK(line.size() == static_cast<std::size_t>(end));
      said_lines += dropped;
      said_bytes += bytes;
    } else {
      ++kept;
    }
  }
  CHECK(kept + said_lines == 50000);
  CHECK(said_bytes == said_lines * 7);
  CHECK(kept >= 20000 / 49);  // at least what the first second may bring
  CHECK(said_lines > 0);

  pod.uid = "pod-2";
  pod.annotations["orchestra.dev/log-bytes-per-second"] = "1 MB";
  const auto refused = house.runtime().create_pod(pod).wait(30s);
  REQUIRE(!refused.has_value());
  CHECK(refused.error().is(Error::invalid));
  CHECK(
      refused.error().message() ==
      "pod pod-2: annotation orchestra.dev/log-bytes-per-second: \"1 MB\" is not a number of bytes from 1 to "
      "1000000000");
}

TEST_CASE("on a full disk the oldest rotated logs go, then lines, and the log says how many once it can") {
  ORC_NEEDS_FULL_CONTAINERS("full log disk");
  RuntimeHouse house;
  house.pod();
  const std::string logs = house.path("logs");
  fs::create_directories(logs);
  REQUIRE(mount("orc-test-logs", logs.c_str(), "tmpfs", 0, "size=400k") == 0);
  struct Unmount {
    std::string path;
    ~Unmount() { umount2(path.c_str(), MNT_DETACH); }
  } unmount{logs};
  // Five files of 100,000 bytes would not fit.
  ContainerConfig rotating = house.config("c1", {"seq", "1", "20000"});
  rotating.log_file_bytes_max = 100'000;
  house.start(rotating);
  CHECK(house.wait_exit("c1").exit_code == 0);
  const std::string rotated = log_contents(logs + "/c1.log");
  CHECK(rotated.ends_with("stdout F 20000\n"));
  CHECK(rotated.find("dropped") == std::string::npos);
  const std::size_t files = static_cast<std::size_t>(std::distance(fs::directory_iterator(logs), {}));
  CHECK(files >= 2);
  CHECK(files < 5);

  for (const auto& entry : fs::directory_iterator(logs)) fs::remove(entry.path());
  // The first record fills its page: on the full disk not one more fits.
  house.start(
      house.config("c2", {"sh", "-c",
                          "printf '%04055d\\n' 0; while [ ! -e /data/go ]; do usleep 5000; done; seq 1 30; "
                          "touch /data/done; sleep 1000"}));
  std::error_code absent;
  REQUIRE(eventually([&] { return fs::file_size(logs + "/c2.log", absent) == 4096; }));
  {
    std::ofstream filler(logs + "/filler");
    const std::string page(4096, 'x');
    while (filler.write(page.data(), 4096).flush()) {
    }
  }
  std::ofstream(house.path("rootfs/data/go")) << "";
  REQUIRE(eventually([&] { return fs::exists(house.path("rootfs/data/done")); }));
  fs::remove(logs + "/filler");
  CHECK(eventually([&] {
    return log_contents(logs + "/c2.log")
               .find(
                   "stdout F [orchestra] dropped 30 lines (51 bytes): the log could "
                   "not be written, errno 28\n") != std::string::npos;
  }));
  CHECK(log_contents(logs + "/c2.log").find("stdout F 1\n") == std::string::npos);
}

TEST_CASE("of a container's log files five stay: the live one and the four newest before it") {
  ORC_NEEDS_FULL_CONTAINERS("log files");
  RuntimeHouse house;
  house.pod();
  ContainerConfig config = house.config("c1", {"seq", "1", "20000"});
  config.log_file_bytes_max = 50'000;
  house.start(config);
  house.wait_exit("c1");
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(house.path("logs"))) files.push_back(entry.path());
  CHECK(files.size() == 5);
  CHECK(log_contents(house.path("logs/c1.log")).ends_with("stdout F 20000\n"));
}

TEST_CASE("a line of more than 16 KiB becomes P records and an F") {
  ORC_NEEDS_FULL_CONTAINERS("long line");
  RuntimeHouse house;
  house.pod();
  const std::string seen = house.run("c1", {"sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo"});
  (void)seen;
  std::istringstream lines(log_contents(house.path("logs/c1.log")));
  std::vector<std::size_t> sizes;
  std::string tags;
  for (std::string line; std::getline(lines, line);) {
    sizes.push_back(line.size() - 9);
    tags += line[7];
  }
  CHECK(tags == "PPF");
  CHECK(sizes == std::vector<std::size_t>{16384, 16384, 40000 - 2 * 16384});
}

}  // namespace orchestra::test
