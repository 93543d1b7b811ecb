// Level rootless: the same containers, made by an ordinary user inside a user namespace. As root these cases
// run with one mapped id; tests/e2e/rootless.sh runs them again as an ordinary user, with ranges and without.
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "orchestra/machine.hpp"
#include "runtime/linux/user_namespace.hpp"
#include "tests/runtime/support.hpp"

namespace orchestra::test {
namespace {
using runtime::parse_subid, runtime::plan_id_maps;
constexpr auto kRootless = RuntimeOptions::Isolation::rootless;

std::string why_not() {
  if (!fs::exists(kBusybox)) return "needs the Debian package busybox-static";
  const auto tried = runtime::try_rootless(runtime::find_rootless_ids().maps, "");
  return tried ? "" : tried.error().message();
}
bool has_ranges() { return runtime::find_rootless_ids().maps.ranged; }
}  // namespace

#define ORC_NEEDS_ROOTLESS(name) \
  if (const std::string why = why_not(); !why.empty()) ORC_SKIP(name, why)

TEST_CASE("rootless: lines of /etc/subuid belong to a name or a number; broken ones are passed over") {
  const auto ranges = parse_subid(
      "alice:100000:65536\nbob:1:2\n1000:300000:10\nalice:x:1\nalice:1:0\nalice:4294967290:10\nalice:5",
      "alice", 1000);
  REQUIRE(ranges.size() == 2);
  CHECK(ranges[0].start == 100000);
  CHECK(ranges[0].count == 65536);
  CHECK(ranges[1].start == 300000);
  CHECK(parse_subid("", "alice", 1000).empty());
  CHECK(parse_subid(":5:6\n", "", 1000).empty());
}

TEST_CASE("rootless: maps begin with our own id as 0; ranges follow; without both kinds there is one id") {
  CHECK(plan_id_maps(1000, 1001, {{100000, 65536}, {300000, 10}}, {{200000, 5}}).describe() ==
        "uids 0 = 1000, 1..65536 = 100000..165535, 65537..65546 = 300000..300009; gids 0 = 1001, 1..5 = "
        "200000..200004");
  const auto single = plan_id_maps(1000, 1001, {{100000, 65536}}, {});
  CHECK_FALSE(single.ranged);
  CHECK(single.describe() == "uids 0 = 1000; gids 0 = 1001");
  CHECK(single.has_uid(0));
  CHECK_FALSE(single.has_uid(1));
}

TEST_CASE("rootless: keep_id leaves our id its number, the ranges fill what is around it") {
  const auto maps = plan_id_maps(1000, 2, {{100000, 2000}}, {{100000, 10}}, true);
  CHECK(maps.describe() ==
        "uids 1000 = 1000, 0..999 = 100000..100999, 1001..2000 = 101000..101999; gids 2 = 2, 0..1 = "
        "100000..100001, 3..10 = 100002..100009");
}

TEST_CASE("rootless: a container is root inside its own world, and the user who made it outside") {
  ORC_NEEDS_ROOTLESS("rootless container");
  RuntimeHouse house(kRootless);
  const PodSandbox sandbox = house.pod();
  CHECK(sandbox.isolation == Isolation::rootless);
  CHECK(sandbox.network_namespace == nullptr);
  CHECK_FALSE(sandbox.degraded.empty());
  house.start(house.config(
      "c1",
      {"sh", "-c",
       "echo pid=$$ uid=$(id -u); hostname; echo x > /dev/null && ls -l /dev/null /dev/random | wc -l; "
       "echo made > /data/made; mount -t tmpfs t /tmp 2>&1; grep Seccomp: /proc/self/status; cat /proc/sys/"
       "kernel/hostname; wc -c < /proc/kcore; echo err >&2; exit 7"}));
  CHECK(house.wait_exit("c1").exit_code == 7);
  const std::string seen = log_contents(house.path("logs/c1.log"));
  CHECK(seen.find("stdout F pid=1 uid=0\n") != std::string::npos);
  CHECK(seen.find("stdout F web\n") != std::string::npos);
  CHECK(seen.find("stdout F 2\n") != std::string::npos);
  CHECK(seen.find("permission denied") != std::string::npos);  // no CAP_SYS_ADMIN inside either
  CHECK(seen.find("Seccomp:\t2") != std::string::npos);
  CHECK(seen.find("stderr F err\n") != std::string::npos);
  struct stat info {};
  REQUIRE(stat(house.path("rootfs/data/made").c_str(), &info) == 0);
  CHECK(info.st_uid == geteuid());
  fs::remove(house.path("rootfs/data/made"));
}

TEST_CASE("rootless: exec, terminal, volumes, usage and signals work as at level full") {
  ORC_NEEDS_ROOTLESS("rootless exec");
  RuntimeHouse house(kRootless);
  house.pod();
  fs::create_directories(house.path("volume"));
  ContainerConfig config =
      house.config("c1", {"sh", "-c", "trap 'exit 9' TERM; : >/vol/up; while :; do usleep 20000; done"});
  config.mounts = {{house.path("volume"), "/vol"}, {"", "/scratch", false, true, 1 << 20}};
  house.start(config);
  REQUIRE(
      eventually([&] { return fs::exists(house.path("volume/up")); }));  // pid 1 hears what it has a trap for
  int code = -1;
  CHECK(
      house.exec("c1",
                 {"sh", "-c", "echo in=$(cat /proc/1/comm); echo kept > /vol/kept; touch /scratch/x; exit 4"},
                 &code) == "in=sh\n");
  CHECK(code == 4);
  CHECK(slurp(house.path("volume/kept")) == "kept\n");
  const auto usage = house.runtime().usage("pod-1", "c1").wait(30s);
  REQUIRE_MESSAGE(usage.has_value(), (usage ? "" : usage.error().to_string()));
  CHECK(usage->memory_bytes > 0);
  ExecOptions terminal;
  terminal.command = {"sh", "-c", "test -t 0 && stty size"};
  terminal.tty = true;
  auto stream = house.runtime().exec_stream("pod-1", "c1", terminal).wait(30s);
  REQUIRE_MESSAGE(stream.has_value(), (stream ? "" : stream.error().to_string()));
  int exit_code = -1;
  while (exit_code < 0) {
    auto chunk = (*stream)->read().wait(30s);
    REQUIRE(chunk.has_value());
    if (chunk->channel == ProcessChunk::Channel::exit) exit_code = chunk->exit_code;
  }
  CHECK(exit_code == 0);
  CHECK(house.runtime().signal_container("pod-1", "c1", SIGTERM).wait(30s).has_value());
  CHECK(house.wait_exit("c1").exit_code == 9);
}

TEST_CASE("rootless: a shared pid namespace has our pid 1, and exec enters it") {
  ORC_NEEDS_ROOTLESS("rootless shared pids");
  RuntimeHouse house(kRootless);
  PodSandboxConfig pod;
  pod.uid = "pod-1";
  pod.share_process_namespace = true;
  house.pod(pod);
  house.start(house.config("c1", {"sleep", "1000"}));
  const std::string said = house.run("c2", {"cat", "/proc/1/comm"});
  CHECK_MESSAGE(said.find("orch-pause") != std::string::npos, said);
  CHECK(house.exec("c1", {"sh", "-c", "cat /proc/1/comm; grep -l sleep /proc/[0-9]*/comm | wc -l"}) ==
        "orch-pause\n1\n");
}

TEST_CASE("rootless: host and shim killed: the next runtime enters the same namespaces and goes on") {
  ORC_NEEDS_ROOTLESS("rootless adoption");
  RuntimeHouse house(kRootless);
  house.pod();
  house.start(house.config("c1", {"sleep", "1000"}));
  const std::string bytes = slurp(house.path("state/pods/pod-1/shim"));
  wire::ShimIdentity identity;
  REQUIRE(bytes.size() == sizeof identity);
  std::memcpy(&identity, bytes.data(), sizeof identity);
  house.close();
  REQUIRE(kill(identity.pid, SIGKILL) == 0);
  REQUIRE(eventually([&] {
    return kill(identity.pid, 0) != 0 ||
           slurp("/proc/" + std::to_string(identity.pid) + "/stat").find(") Z") != std::string::npos;
  }));
  house.open();
  CHECK(house.exec("c1", {"echo", "still"}) == "still\n");
  CHECK(house.runtime().signal_container("pod-1", "c1", SIGKILL).wait(30s).has_value());
  const ContainerStatus end = house.wait_exit("c1");
  if (end.exit_code) CHECK(*end.exit_code == 137);
}

TEST_CASE("rootless: other users exist inside when ranges are given, and are refused by name when not") {
  ORC_NEEDS_ROOTLESS("rootless users");
  RuntimeHouse house(kRootless);
  house.pod();
  fs::permissions(house.path("rootfs/data"), fs::perms::all);
  ContainerConfig config = house.config(
      "c1",
      {"sh", "-c", "id -u; id -G; mkdir -p /data/deep/er; touch /data/deep/er/file; chmod 500 /data/deep"});
  config.uid = 999;
  config.gid = 998;
  config.supplemental_groups = {997};
  const auto created = house.runtime().create_container("pod-1", config).wait(30s);
  if (!has_ranges()) {
    REQUIRE_FALSE(created.has_value());
    CHECK(created.error().message().find("process.user.uid 999 is not mapped") != std::string::npos);
    CHECK(created.error().message().find("/etc/subuid") != std::string::npos);
    return;
  }
  REQUIRE_MESSAGE(created.has_value(), (created ? "" : created.error().to_string()));
  REQUIRE(house.runtime().start_container("pod-1", "c1").wait(30s).has_value());
  CHECK(house.wait_exit("c1").exit_code == 0);
  CHECK(log_contents(house.path("logs/c1.log")) == "stdout F 999\nstdout F 998 997\n");
  struct stat info {};
  REQUIRE(stat(house.path("rootfs/data/deep").c_str(), &info) == 0);
  CHECK(info.st_uid != geteuid());
  CHECK(info.st_uid >= 1000);
  // After the container is gone its folders are ours, so that they can be removed.
  CHECK(house.runtime().remove_container("pod-1", "c1").wait(30s).has_value());
  std::error_code failed;
  fs::remove_all(house.path("rootfs/data/deep"), failed);
  CHECK_MESSAGE(!failed, failed.message());
}

TEST_CASE(
    "rootless: limits hold where a cgroup subtree is delegated, and their absence has a reason elsewhere") {
  ORC_NEEDS_ROOTLESS("rootless limits");
  RuntimeHouse house(kRootless);
  PodSandboxConfig pod;
  pod.uid = "pod-1";
  pod.cgroup_parent = "kubepods";
  for (const std::string& reason : house.pod(pod).degraded) {
    if (!reason.starts_with("cpu, memory and pids limits: ")) continue;
    CHECK(reason.size() > 60);
    ORC_SKIP("rootless limits", reason);
  }
  ContainerConfig config = house.config(
      "c1", {"sh", "-c", "cat /proc/self/cgroup; head -c 60000000 /dev/zero | tail -c 59999999 | wc -c"});
  config.limits.memory_bytes = 20 << 20;
  config.limits.pids = 30;
  house.start(config);
  (void)house.wait_exit("c1");
  CHECK(log_contents(house.path("logs/c1.log")).find("F 59999999") == std::string::npos);
  house.start(house.config("c2", {"sleep", "1000"}));
  const auto usage = house.runtime().usage("pod-1", "c2").wait(30s);
  REQUIRE(usage.has_value());
  CHECK(usage->pids == 1);
}

TEST_CASE("rootless: doctor tells whether it works, and the cause when it does not") {
  bool found = false;
  for (const MachineAbility& one : probe_machine()) {
    if (one.name != "isolation level rootless") continue;
    found = true;
    CHECK_FALSE(one.evidence.empty());
    CHECK((one.available || !one.remedy.empty()));
    CHECK(one.available == why_not().empty());
  }
  CHECK(found);
}

}  // namespace orchestra::test
