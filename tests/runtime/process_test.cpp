// Level process: no namespaces, but the same interface and the same truth about ends.
#include <csignal>

#include "tests/runtime/support.hpp"

namespace orchestra::test {
namespace {
constexpr auto kProcess = RuntimeOptions::Isolation::process;
std::string why_not() {
  if (geteuid() != 0) return "needs root (CAP_SYS_CHROOT)";
  return fs::exists(kBusybox) ? "" : "needs the Debian package busybox-static";
}
}  // namespace

#define ORC_NEEDS_PROCESS_LEVEL(name) \
  if (const std::string why = why_not(); !why.empty()) ORC_SKIP(name, why)

TEST_CASE("level process runs in a chroot with no_new_privs and seccomp, logs and codes as full") {
  ORC_NEEDS_PROCESS_LEVEL("process level");
  RuntimeHouse house(kProcess);
  const PodSandbox sandbox = house.pod();
  CHECK(sandbox.isolation == Isolation::process);
  CHECK(sandbox.network_namespace == nullptr);
  CHECK(sandbox.degraded.size() == 2);
  ContainerConfig config =
      house.config("c1", {"sh", "-c", "ls /; echo err >&2; echo x > /dev/null && echo null-ok; exit 3"});
  config.env.push_back("POD_IP=127.128.0.5");
  house.start(config);
  CHECK(house.wait_exit("c1").exit_code == 3);
  const std::string seen = log_contents(house.path("logs/c1.log"));
  CHECK(seen.find("F data") != std::string::npos);
  CHECK(seen.find("F home") == std::string::npos);
  CHECK(seen.find("stderr F err") != std::string::npos);
  CHECK(seen.find("null-ok") != std::string::npos);
}

TEST_CASE("level process: exec enters the same root, volumes are copied into it") {
  ORC_NEEDS_PROCESS_LEVEL("process exec");
  RuntimeHouse house(kProcess);
  house.pod();
  fs::create_directories(house.path("conf"));
  std::ofstream(house.path("conf/key")) << "value\n";
  std::ofstream(house.path("hosts")) << "127.0.0.1 localhost\n";
  ContainerConfig config = house.config("c1", {"sleep", "1000"});
  config.mounts = {{house.path("conf"), "/etc/conf", true},
                   {house.path("hosts"), "/etc/hosts"},
                   {"", "/scratch", false, true}};
  house.start(config);
  int code = -1;
  CHECK(house.exec("c1",
                   {"sh", "-c", "cat /etc/conf/key /etc/hosts; touch /scratch/x && echo scratch; exit 6"},
                   &code) == "value\n127.0.0.1 localhost\nscratch\n");
  CHECK(code == 6);
  CHECK(house.exec("c1", {"/bin/none"}, &code).find("/bin/none") != std::string::npos);
  CHECK(code == 127);
}

TEST_CASE("level process: when the main process ends, every descendant of its root ends, daemons too") {
  ORC_NEEDS_PROCESS_LEVEL("process kill tree");
  RuntimeHouse house(kProcess);
  house.pod();
  const std::string mark = "98765" + std::to_string(getpid() % 1000);
  house.start(house.config("other", {"/bin/sleep", "99" + mark}));
  house.start(house.config(
      "c1", {"sh", "-c",
             "(setsid /bin/sleep " + mark + " &) ; /bin/sleep " + mark + " & echo up; exec sleep 1000"}));
  REQUIRE(
      eventually([&] { return log_contents(house.path("logs/c1.log")).find("up") != std::string::npos; }));
  const auto count = [](const std::string& argument) {
    int found = 0;
    for (const auto& process : fs::directory_iterator("/proc")) {
      const std::string line = slurp(process.path() / "cmdline");
      if (line.starts_with("/bin/sleep") && line.find(argument) == 11) ++found;
    }
    return found;
  };
  REQUIRE(eventually([&] { return count(mark) == 2; }));
  CHECK(house.runtime().signal_container("pod-1", "c1", SIGKILL).wait(30s).has_value());
  CHECK(house.wait_exit("c1").exit_code == 137);
  CHECK(eventually([&] { return count(mark) == 0; }));
  CHECK(count("99" + mark) == 1);  // the other container goes on
}

TEST_CASE("level process refuses volumes that are too large to copy, and targets behind links") {
  ORC_NEEDS_PROCESS_LEVEL("process volumes");
  RuntimeHouse house(kProcess);
  house.pod();
  ContainerConfig config = house.config("c1", {"true"});
  config.mounts = {{"/usr", "/data/usr"}};
  auto made = house.runtime().create_container("pod-1", config).wait(30s);
  REQUIRE_FALSE(made.has_value());
  CHECK(made.error().is(Error::unsupported));
  CHECK(made.error().message().find("/usr") != std::string::npos);
  fs::create_directory_symlink("/tmp", config.root.directory + "/out");
  config.mounts = {{house.path("rootfs/etc"), "/out/etc"}};
  made = house.runtime().create_container("pod-1", config).wait(30s);
  REQUIRE_FALSE(made.has_value());
  CHECK(made.error().message().find("symbolic link") != std::string::npos);
}

TEST_CASE("level process: a user other than root, its limits of privileges") {
  ORC_NEEDS_PROCESS_LEVEL("process user");
  RuntimeHouse house(kProcess);
  house.pod();
  ContainerConfig config = house.config("c1", {"id"});
  config.uid = 65534;
  config.gid = 65534;
  house.start(config);
  CHECK(house.wait_exit("c1").exit_code == 0);
  CHECK(log_contents(house.path("logs/c1.log")) == "stdout F uid=65534 gid=65534\n");
}

TEST_CASE("level process: a terminal works without devpts of its own") {
  ORC_NEEDS_PROCESS_LEVEL("process terminal");
  RuntimeHouse house(kProcess);
  house.pod();
  house.start(house.config("c1", {"sleep", "1000"}));
  ExecOptions options;
  options.command = {"sh", "-c", "test -t 0 && echo yes-tty; exit 2"};
  options.tty = true;
  auto stream = house.runtime().exec_stream("pod-1", "c1", options).wait(30s);
  REQUIRE_MESSAGE(stream.has_value(), (stream ? "" : stream.error().to_string()));
  std::string out;
  int code = -1;
  while (code < 0) {
    auto chunk = (*stream)->read().wait(30s);
    REQUIRE(chunk.has_value());
    if (chunk->channel == ProcessChunk::Channel::exit) {
      code = chunk->exit_code;
    } else {
      out += chunk->bytes;
    }
  }
  CHECK(out.find("yes-tty") != std::string::npos);
  CHECK(code == 2);
}

}  // namespace orchestra::test
