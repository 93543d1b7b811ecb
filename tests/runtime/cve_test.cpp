// The published breakouts of container runtimes, each with the attack itself: CVE-2019-5736, 2019-19921,
// 2021-30465, 2024-21626, 2024-45310, 2025-31133, 2025-52565, 2025-52881. A container may fail to start;
// nothing outside of its root may be touched, and what protects the machine must hold inside.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/fd.hpp"
#include "orchestra/container_spec.hpp"
#include "orchestra/runtime.hpp"
#include "tests/runtime/support.hpp"

namespace orchestra::test {
namespace {

/// A folder outside of every root. Whatever happens to it, even for a moment, is seen by inotify.
class Outside {
 public:
  explicit Outside(std::string path)
      : path_(std::move(path)), watch_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
    fs::create_directories(path_);
    std::ofstream(path_ + "/secret") << "secret\n";
    inotify_add_watch(watch_.get(), path_.c_str(), IN_CREATE | IN_DELETE | IN_MODIFY | IN_MOVE | IN_ATTRIB);
    inotify_add_watch(watch_.get(), (path_ + "/secret").c_str(), IN_MODIFY | IN_ATTRIB);
  }
  bool untouched() const {
    char events[4096];
    return read(watch_.get(), events, sizeof events) < 0 && slurp(path_ + "/secret") == "secret\n" &&
           slurp("/proc/self/mountinfo").find(path_) == std::string::npos;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  Fd watch_;
};

/// A thread that swaps two names as fast as it can: the folder that was checked is a link when it is used.
class Swapper {
 public:
  Swapper(std::string a, std::string b)
      : a_(std::move(a)), b_(std::move(b)), thread_([this] {
          while (!stop_) {
            if (syscall(SYS_renameat2, AT_FDCWD, a_.c_str(), AT_FDCWD, b_.c_str(), RENAME_EXCHANGE) == 0)
              ++swaps_;
          }
        }) {}
  ~Swapper() {
    stop_ = true;
    thread_.join();
  }
  int swaps() const { return swaps_; }

 private:
  std::string a_, b_;
  std::atomic<bool> stop_ = false;
  std::atomic<int> swaps_ = 0;
  std::thread thread_;
};

/// Creates, starts and waits, however far it comes; what the container said.
std::string try_to_run(RuntimeHouse& house, const ContainerConfig& config) {
  auto created = house.runtime().create_container("pod-1", config).wait(30s);
  if (!created) return "refused: " + created.error().message();
  auto started = house.runtime().start_container("pod-1", config.id).wait(30s);
  if (started) (void)house.runtime().exited("pod-1", config.id).wait(30s);
  const std::string seen = started ? log_contents(config.log_path) : "refused: " + started.error().message();
  CHECK(house.runtime().remove_container("pod-1", config.id).wait(30s).has_value());
  return seen;
}
bool refused(const std::string& seen) { return seen.starts_with("refused: "); }

/// `orchestra oci run` of one program over a root that `prepare` changed; {status, output}.
struct OciRun {
  int status = 0;
  std::string output;
};
template <class Change>
OciRun run_oci(const TempDir& folder, Change change) {
  ContainerSpec spec = ContainerSpec::example();
  spec.process->terminal = false;
  spec.process->env = {"PATH=/bin"};
  const std::string mark = "orchestra-cve" + std::to_string(getpid());
  spec.cgroups_path = "/" + mark + "/c";
  change(spec);
  write_file(folder / "bundle/config.json", spec.to_json()).value();
  OciRun run;
  {
    const Fd input = open_file("/dev/null", O_RDONLY).value();
    const Fd output = open_file(folder / "out", O_WRONLY | O_CREAT | O_TRUNC).value();
    run.status = run_oci_command({"--root", folder / "state", "run", "--bundle", folder / "bundle", "c"},
                                 input.get(), output.get(), output.get());
    (void)run_oci_command({"--root", folder / "state", "delete", "--force", "c"}, input.get(), output.get(),
                          output.get());
  }
  std::error_code ignored;
  fs::remove("/sys/fs/cgroup/" + mark, ignored);
  for (const auto& hierarchy : fs::directory_iterator("/sys/fs/cgroup", ignored))
    fs::remove(hierarchy.path() / mark, ignored);
  CHECK_MESSAGE(Leftovers::now(mark).empty(), Leftovers::now(mark));
  run.output = slurp(folder / "out");
  return run;
}
}  // namespace

TEST_CASE("CVE-2019-5736: a container that is entered cannot write the program that enters it") {
  ORC_NEEDS_FULL_CONTAINERS("CVE-2019-5736");
  RuntimeHouse house;
  house.pod();
  // The program that exec is asked for is a script whose interpreter is the entering process itself.
  std::ofstream(house.path("rootfs/bin/evil")) << "#!/proc/self/exe\n";
  fs::permissions(house.path("rootfs/bin/evil"), fs::perms::all);
  house.start(house.config(
      "c1",
      {"sh", "-c",
       "echo ready; while :; do for p in /proc/[0-9]*; do n=${p#/proc/}; [ $n -gt 1 ] || continue; "
       "if exec 9<$p/exe; then if echo owned 2>/dev/null >/proc/self/fd/9; then echo OVERWRITTEN $n; fi; "
       "exec 9<&-; fi; done 2>/dev/null; done"}));
  REQUIRE(
      eventually([&] { return log_contents(house.path("logs/c1.log")).find("ready") != std::string::npos; }));
  for (int i = 0; i < 20; ++i) (void)house.runtime().exec("pod-1", "c1", {"/bin/evil"}, 5s, 4096).wait(10s);
  CHECK(log_contents(house.path("logs/c1.log")).find("OVERWRITTEN") == std::string::npos);
  // Were our program changed, this one would not come to life.
  CHECK(house.run("c2", {"/bin/echo", "unharmed"}) == "stdout F unharmed\n");
  fs::remove(house.path("rootfs/bin/evil"));
}

TEST_CASE(
    "CVE-2019-19921: a root whose /proc is a link to prepared files gets a real, masked /proc or none") {
  ORC_NEEDS_FULL_CONTAINERS("CVE-2019-19921");
  RuntimeHouse house;
  house.pod();
  const Outside outside(house.path("outside"));
  for (const std::string& to : {std::string("/data/fake"), outside.path()}) {
    fs::create_directories(house.path("rootfs/data/fake/self/attr"));
    std::ofstream(house.path("rootfs/data/fake/interrupts")) << "readable\n";
    fs::remove_all(house.path("rootfs/proc"));
    fs::create_symlink(to, house.path("rootfs/proc"));
    const std::string seen = try_to_run(
        house,
        house.config(
            "c1", {"/bin/sh", "-c",
                   "stat -f -c %t /proc/self/; wc -c </proc/interrupts; echo x >/proc/sys/kernel/hostname"}));
    if (!refused(seen)) {
      CHECK_MESSAGE(seen.find("F 9fa0\n") != std::string::npos, seen);  // procfs
      CHECK(seen.find("F 0\n") != std::string::npos);
      CHECK(seen.find("Read-only file system") != std::string::npos);
    }
    CHECK(outside.untouched());
  }
  fs::remove_all(house.path("rootfs/proc"));
  fs::create_directories(house.path("rootfs/proc"));
}

TEST_CASE("CVE-2021-30465: a mount target that is swapped for a link while we mount stays inside the root") {
  ORC_NEEDS_FULL_CONTAINERS("CVE-2021-30465");
  RuntimeHouse house;
  house.pod();
  const Outside outside(house.path("outside"));
  fs::create_directories(house.path("volume"));
  std::ofstream(house.path("volume/mine")) << "mine\n";
  // The attacker shares /data with us: `slot` is a folder, then a link to the machine's folder, then ..
  fs::create_directories(house.path("rootfs/data/slot"));
  fs::create_symlink(outside.path(), house.path("rootfs/data/link"));
  const Swapper swapper(house.path("rootfs/data/slot"), house.path("rootfs/data/link"));
  int ran = 0;
  for (int i = 0; i < 40; ++i) {
    ContainerConfig config = house.config(
        "c" + std::to_string(i), {"/bin/sh", "-c", "cat /secret " + outside.path() + "/secret; echo ran"});
    config.mounts = {{house.path("volume"), "/data/slot"}};
    const std::string seen = try_to_run(house, config);
    CHECK_MESSAGE(seen.find("F secret") == std::string::npos, seen);
    ran += seen.find("F ran") != std::string::npos ? 1 : 0;
  }
  CHECK(outside.untouched());
  CHECK(swapper.swaps() > 100);
  MESSAGE("containers that ran: ", ran, " of 40, swaps: ", swapper.swaps());
}

TEST_CASE("CVE-2024-45310: folders and files that we make for mounts are never made outside") {
  ORC_NEEDS_FULL_CONTAINERS("CVE-2024-45310");
  RuntimeHouse house;
  house.pod();
  const Outside outside(house.path("outside"));
  fs::create_directories(house.path("volume"));
  std::ofstream(house.path("file")) << "f\n";
  fs::create_directories(house.path("rootfs/data/slot"));
  fs::create_symlink(outside.path(), house.path("rootfs/data/link"));
  const Swapper swapper(house.path("rootfs/data/slot"), house.path("rootfs/data/link"));
  for (int i = 0; i < 40; ++i) {
    const std::string n = std::to_string(i);
    ContainerConfig config = house.config("c" + n, {"/bin/true"});
    config.mounts = {{house.path("volume"), "/data/slot/deep" + n + "/er"},
                     {house.path("file"), "/data/slot/f" + n}};
    (void)try_to_run(house, config);
  }
  CHECK(outside.untouched());
  CHECK(swapper.swaps() > 100);
}

TEST_CASE(
    "CVE-2024-21626: a folder that the host left open is no way out, by working directory or descriptor") {
  ORC_NEEDS_FULL_CONTAINERS("CVE-2024-21626");
  TempDir folder;
  make_root(folder / "bundle/rootfs");
  const Fd leaked(open("/etc", O_RDONLY | O_DIRECTORY));  // NOLINT: without CLOEXEC, that is the point
  for (int fd : {leaked.get(), 7, 8}) {
    const OciRun run = run_oci(folder, [&](ContainerSpec& spec) {
      spec.process->cwd = "/proc/self/fd/" + std::to_string(fd);
      spec.process->args = {
          "/bin/sh", "-c",
          "ls -l /proc/self/fd; cat shadow ./shadow ../etc/shadow /proc/self/cwd/shadow; pwd; "
          "for f in /proc/self/fd/*; do cat $f/shadow $f/../etc/shadow; done"};
    });
    CHECK_MESSAGE(run.output.find("root:") == std::string::npos, run.output);
    CHECK(run.output.find("-> /etc") == std::string::npos);
  }
}

TEST_CASE("CVE-2025-31133: a mask is the real null device, whatever the root calls /dev/null") {
  ORC_NEEDS_FULL_CONTAINERS("CVE-2025-31133");
  RuntimeHouse house;
  house.pod();
  const std::string pattern = slurp("/proc/sys/kernel/core_pattern");
  fs::create_directories(house.path("dev"));
  fs::create_symlink("/proc/sys/kernel/core_pattern", house.path("dev/null"));
  fs::create_symlink("/proc/sysrq-trigger", house.path("dev/spare"));
  ContainerConfig config = house.config(
      "c1", {"/bin/sh", "-c",
             "stat -c '%F %t:%T' /proc/interrupts; echo '|/evil' >/proc/sys/kernel/core_pattern; wc -c "
             "</proc/interrupts"});
  config.mounts = {{house.path("dev"), "/dev"}};
  const Swapper swapper(house.path("dev/null"), house.path("dev/spare"));
  for (int i = 0; i < 10; ++i) {
    config.log_path = house.path("logs/mask" + std::to_string(i) + ".log");
    const std::string seen = try_to_run(house, config);
    if (refused(seen)) continue;
    CHECK_MESSAGE(seen.find("character special file 1:3") != std::string::npos, seen);
    CHECK(seen.find("F 0\n") != std::string::npos);
    CHECK(seen.find("core_pattern: Read-only file system") != std::string::npos);
  }
  CHECK(slurp("/proc/sys/kernel/core_pattern") == pattern);
}

TEST_CASE("CVE-2025-52565: /dev/console and /dev/pts that are links get no terminal of the machine") {
  ORC_NEEDS_FULL_CONTAINERS("CVE-2025-52565");
  RuntimeHouse house;
  house.pod();
  const Outside outside(house.path("outside"));
  const std::pair<const char*, std::string> traps[] = {
      {"console", outside.path() + "/secret"}, {"console", "/proc/sysrq-trigger"}, {"pts", outside.path()}};
  for (const auto& [name, to] : traps) {
    const std::string dev = house.path("dev-" + std::string(name));
    fs::remove_all(dev);
    fs::create_directories(dev);
    fs::create_symlink(to, dev + "/" + name);
    ContainerConfig config = house.config("c1", {"/bin/sh", "-c", "echo h >/dev/console; cat /dev/console"});
    config.tty = true;
    config.mounts = {{dev, "/dev"}};
    const std::string seen = try_to_run(house, config);
    CHECK_MESSAGE(seen.find("secret") == std::string::npos, seen);
    CHECK(outside.untouched());
  }
}

TEST_CASE("CVE-2025-52881: sysctls reach the kernel, not a file that the root put in their place") {
  ORC_NEEDS_FULL_CONTAINERS("CVE-2025-52881");
  TempDir folder;
  make_root(folder / "bundle/rootfs");
  const Outside outside(folder / "outside");
  for (const char* file : {"sys/net/ipv4/ip_default_ttl", "self/attr/exec", "sysrq-trigger"}) {
    fs::create_directories(fs::path(folder / "bundle/rootfs/data/fake") / fs::path(file).parent_path());
    std::ofstream(fs::path(folder / "bundle/rootfs/data/fake") / file) << "untouched\n";
  }
  for (const char* to : {"/data/fake", "/data/fake/../../../../../../proc"}) {
    fs::remove_all(folder / "bundle/rootfs/proc");
    fs::create_symlink(to, folder / "bundle/rootfs/proc");
    const std::string before = slurp("/proc/sys/net/ipv4/ip_default_ttl");
    const OciRun run = run_oci(folder, [](ContainerSpec& spec) {
      spec.sysctl["net.ipv4.ip_default_ttl"] = "77";
      spec.process->args = {"/bin/cat", "/proc/sys/net/ipv4/ip_default_ttl"};
    });
    if (run.status == 0) CHECK_MESSAGE(run.output.find("77") != std::string::npos, run.output);
    CHECK(slurp(folder / "bundle/rootfs/data/fake/sys/net/ipv4/ip_default_ttl") == "untouched\n");
    CHECK(slurp(folder / "bundle/rootfs/data/fake/self/attr/exec") == "untouched\n");
    CHECK(slurp("/proc/sys/net/ipv4/ip_default_ttl") == before);
    CHECK(outside.untouched());
  }
}

}  // namespace orchestra::test
