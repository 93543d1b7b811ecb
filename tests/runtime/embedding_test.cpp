// The process belongs to the host: what a Runtime must not change in it, and what hosts do that must not
// disturb a Runtime: waitpid(-1) in another thread, a second Runtime, being pid 1, 200 containers at once.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <map>
#include <thread>

#include "tests/runtime/support.hpp"

namespace orchestra::test {
namespace {
constexpr const char* kPidOneFolder = "ORC_TEST_PID_ONE_FOLDER";

/// What a library has no business changing.
std::map<std::string, std::string> process_state() {
  std::map<std::string, std::string> state;
  for (int number = 1; number < 32; ++number) {
    struct sigaction action {};
    if (sigaction(number, nullptr, &action) != 0) continue;
    const void* handler = reinterpret_cast<const void*>(action.sa_handler);
    state["handler " + std::to_string(number)] =
        std::to_string(reinterpret_cast<std::uintptr_t>(handler)) + "/" + std::to_string(action.sa_flags);
  }
  sigset_t mask;
  sigemptyset(&mask);
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  for (int number = 1; number < 65; ++number) state["mask"] += sigismember(&mask, number) == 1 ? '1' : '0';
  state["cwd"] = fs::current_path();
  const mode_t bits = umask(022);
  umask(bits);
  state["umask"] = std::to_string(bits);
  std::string children;
  for (const auto& task : fs::directory_iterator("/proc/self/task"))
    children += slurp(task.path() / "children");
  state["children"] = children;
  for (const char* space : {"mnt", "net", "pid", "pid_for_children", "user", "uts", "ipc", "cgroup"})
    state[std::string("namespace ") + space] = fs::read_symlink(std::string("/proc/self/ns/") + space);
  std::vector<std::string> files;
  for (const auto& fd : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string target = fs::read_symlink(fd.path(), gone).string();
    if (!gone && target.find("/proc/") == std::string::npos) files.push_back(target);
  }
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) state["descriptors"] += file + "\n";
  std::istringstream status(slurp("/proc/self/status"));
  for (std::string line; std::getline(status, line);) {
    for (const char* field : {"NoNewPrivs", "Seccomp:", "CapEff", "CapBnd", "Groups", "Uid", "Gid"}) {
      if (line.starts_with(field)) state["status"] += line + "\n";
    }
  }
  state["dumpable, subreaper and the like"] =
      slurp("/proc/self/coredump_filter") + slurp("/proc/self/oom_score_adj");
  return state;
}

void live_a_life(RuntimeHouse& house) {
  house.pod();
  house.start(house.config("c1", {"sleep", "1000"}));
  CHECK(house.exec("c1", {"echo", "x"}) == "x\n");
  CHECK(house.run("c2", {"echo", "hello"}) == "stdout F hello\n");
  CHECK(house.runtime().remove_pod("pod-1").wait(30s).has_value());
}
}  // namespace

TEST_CASE(
    "a whole life of pods changes nothing in the host: handlers, masks, cwd, umask, children, descriptors") {
  ORC_NEEDS_FULL_CONTAINERS("embedding");
  {
    RuntimeHouse warm;
    live_a_life(warm);
  }  // what is made once per process (the sealed program) is there now
  const auto before = process_state();
  {
    RuntimeHouse house;
    live_a_life(house);
    auto during = process_state();
    for (const char* changes : {"descriptors"}) during.erase(changes);
    for (const auto& [what, value] : during) CHECK_MESSAGE(value == before.at(what), what);
  }
  const auto after = process_state();
  for (const auto& [what, value] : after) CHECK_MESSAGE(value == before.at(what), what, ": ", value);
}

TEST_CASE("a host that reaps every child it can steals no exit code, and none of its own is lost") {
  ORC_NEEDS_FULL_CONTAINERS("reaping host");
  std::atomic<bool> stop = false;
  std::atomic<int> reaped = 0;
  {
    RuntimeHouse house;
    std::thread reaper([&] {
      while (!stop) {
        int status = 0;
        if (waitpid(-1, &status, WNOHANG) > 0) ++reaped;
        usleep(200);
      }
    });
    house.pod();
    for (int i = 0; i < 20; ++i) {
      const std::string id = "c" + std::to_string(i);
      house.start(house.config(id, {"sh", "-c", "exit " + std::to_string(i)}));
      CHECK(house.wait_exit(id).exit_code == i);
    }
    CHECK(house.runtime().remove_pod("pod-1").wait(30s).has_value());
    stop = true;
    reaper.join();
  }
  CHECK(reaped == 0);  // the runtime has no child of the host at any time
}

TEST_CASE("SIGCHLD ignored by the host: exit codes are there all the same") {
  ORC_NEEDS_FULL_CONTAINERS("SIGCHLD ignored");
  struct sigaction ignore {
  }, before{};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGCHLD, &ignore, &before);
  {
    RuntimeHouse house;
    house.pod();
    house.start(house.config("c1", {"sh", "-c", "exit 33"}));
    CHECK(house.wait_exit("c1").exit_code == 33);
  }
  sigaction(SIGCHLD, &before, nullptr);
}

TEST_CASE("two runtimes in one process keep apart: same pod and container ids, own ends") {
  ORC_NEEDS_FULL_CONTAINERS("two runtimes");
  RuntimeHouse one, two;
  for (RuntimeHouse* house : {&one, &two}) {
    house->pod();
    house->start(house->config("c1", {"sh", "-c", house == &one ? "sleep 1000" : "exit 8"}));
  }
  CHECK(two.wait_exit("c1").exit_code == 8);
  CHECK(two.runtime().remove_pod("pod-1").wait(30s).has_value());
  CHECK(one.exec("c1", {"echo", "here"}) == "here\n");
}

TEST_CASE("200 containers started at once: every event, exit code and line of output arrives") {
  ORC_NEEDS_FULL_CONTAINERS("200 containers");
  RuntimeHouse house;
  constexpr int kPods = 4, kEach = 50;
  std::vector<std::pair<std::string, ContainerConfig>> all;
  for (int pod = 0; pod < kPods; ++pod) {
    PodSandboxConfig sandbox;
    sandbox.uid = "pod-" + std::to_string(pod);
    house.pod(sandbox);
    for (int i = 0; i < kEach; ++i) {
      const std::string id = "p" + std::to_string(pod) + "c" + std::to_string(i);
      all.emplace_back(sandbox.uid,
                       house.config(id, {"sh", "-c", "seq 1 20; exit " + std::to_string(i + 1)}));
    }
  }
  std::vector<Pending<ContainerStatus>> created, ended;
  std::vector<Pending<void>> started;
  for (const auto& [pod, config] : all) created.push_back(house.runtime().create_container(pod, config));
  for (auto& one : created) REQUIRE(one.wait(120s).has_value());
  for (const auto& [pod, config] : all) ended.push_back(house.runtime().exited(pod, config.id));
  for (const auto& [pod, config] : all) started.push_back(house.runtime().start_container(pod, config.id));
  for (auto& one : started) REQUIRE(one.wait(60s).has_value());
  std::string expected;
  for (int i = 1; i <= 20; ++i) expected += "stdout F " + std::to_string(i) + "\n";
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto end = ended[i].wait(60s);
    REQUIRE(end.has_value());
    CHECK(end->exit_code == static_cast<int>(i % kEach) + 1);
    CHECK(log_contents(all[i].second.log_path) == expected);
  }
}

TEST_CASE("a host that is pid 1 (only inside of the next test)") {
  if (std::getenv(kPidOneFolder) == nullptr) return;
  CHECK(getpid() == 1);
  {
    RuntimeHouse house;
    house.pod();
    house.start(house.config("c1", {"sh", "-c", "(sleep 0.2; echo late) & exit 5"}));
    CHECK(house.wait_exit("c1").exit_code == 5);
    house.close();
    house.open();
    CHECK(house.wait_exit("c1").exit_code == 5);
    CHECK(house.runtime().remove_pod("pod-1").wait(30s).has_value());
  }
  std::string children;
  for (const auto& task : fs::directory_iterator("/proc/self/task"))
    children += slurp(task.path() / "children");
  CHECK_MESSAGE(children.empty(), "left to the host: ", children);
}

TEST_CASE("the host may be pid 1: shims that reparent to it are reaped, and nothing else is") {
  ORC_NEEDS_FULL_CONTAINERS("pid 1");
  TempDir folder;
  const std::string self = fs::read_symlink("/proc/self/exe");
  const std::string command = "ORC_TEST_PID_ONE_FOLDER=1 unshare --pid --fork --mount-proc --kill-child '" +
                              self + "' '--test-case=a host that is pid 1*' >'" + folder / "log" + "' 2>&1";
  const int status = std::system(command.c_str());
  CHECK_MESSAGE(status == 0, slurp(folder / "log"));
  CHECK_MESSAGE(slurp(folder / "log").find("1 passed, 0 failed") != std::string::npos, slurp(folder / "log"));
}

}  // namespace orchestra::test
