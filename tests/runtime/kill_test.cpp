// kill -9 of the real host process at any moment: the next runtime finds a world it can go on with, every
// container it was told of, and removes all of it.
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "base/fd.hpp"
#include "runtime/wire/protocol.hpp"
#include "tests/runtime/support.hpp"

extern char** environ;

namespace orchestra::test {
namespace {

constexpr const char* kFolder = "ORC_TEST_KILL_FOLDER";
constexpr const char* kInstance = "ORC_TEST_KILL_INSTANCE";

/// This program again, as the host that will be killed.
pid_t start_victim(const std::string& folder, const std::string& instance) {
  const std::string self = fs::read_symlink("/proc/self/exe");
  std::string filter = "--test-case=the host that is killed*";
  char* args[] = {const_cast<char*>(self.c_str()), filter.data(), nullptr};
  std::string folder_variable = std::string(kFolder) + "=" + folder,
              instance_variable = std::string(kInstance) + "=" + instance;
  std::vector<char*> env;
  for (char** entry = environ; *entry != nullptr; ++entry) env.push_back(*entry);
  env.push_back(folder_variable.data());
  env.push_back(instance_variable.data());
  env.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (int fd = 1; fd < 3; ++fd) posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int failed = posix_spawn(&pid, self.c_str(), &actions, nullptr, args, env.data());
  posix_spawn_file_actions_destroy(&actions);
  REQUIRE(failed == 0);
  return pid;
}

/// SIGKILL to the first shim found; answers the uid of its pod, or "".
std::string kill_one_shim(const std::string& pods) {
  std::error_code failed;
  for (const auto& pod : fs::directory_iterator(pods, failed)) {
    const std::string bytes = slurp(pod.path() / "shim");
    wire::ShimIdentity identity;
    if (bytes.size() != sizeof identity) continue;
    std::memcpy(&identity, bytes.data(), sizeof identity);
    const auto ticks = process_start_time(identity.pid);
    if (!ticks || *ticks != identity.start_ticks || kill(identity.pid, SIGKILL) != 0) continue;
    const std::string stat = "/proc/" + std::to_string(identity.pid) + "/stat";
    CHECK(eventually([&] { return !fs::exists(stat) || slurp(stat).find(") Z") != std::string::npos; }));
    return pod.path().filename();
  }
  return {};
}

ContainerConfig config_in(const std::string& folder, const std::string& id, std::vector<std::string> args) {
  ContainerConfig config;
  config.id = config.name = id;
  config.root.directory = folder + "/rootfs";
  config.args = std::move(args);
  config.env = {"PATH=/bin"};
  config.log_path = folder + "/logs/" + id + ".log";
  return config;
}
}  // namespace

TEST_CASE("the host that is killed: pods come and go for ever (only inside of the next test)") {
  if (std::getenv(kFolder) == nullptr) return;
  const std::string folder = std::getenv(kFolder);
  Engine engine({.event_threads = 1});
  auto runtime = make_pod_runtime(engine, {.state_dir = folder + "/state",
                                           .isolation = RuntimeOptions::Isolation::full,
                                           .instance = std::getenv(kInstance)});
  REQUIRE(runtime.has_value());
  for (int i = 0;; ++i) {
    const std::string uid = "pod-" + std::to_string(i % 4);
    (void)(*runtime)->remove_pod(uid).wait(30s);
    PodSandboxConfig pod;
    pod.uid = uid;
    if (!(*runtime)->create_pod(pod).wait(30s)) continue;
    for (const char* id : {"long", "short"}) {
      const auto config = config_in(folder, id,
                                    id[0] == 'l' ? std::vector<std::string>{"sleep", "1000"}
                                                 : std::vector<std::string>{"sh", "-c", "exit 7"});
      if (!(*runtime)->create_container(uid, config).wait(30s)) continue;
      (void)(*runtime)->start_container(uid, id).wait(30s);
    }
    // What was started is promised: its name is on disk before the next pod begins.
    const Fd told = open_file(folder + "/told", O_WRONLY | O_CREAT | O_APPEND, 0600).value();
    (void)write_all(told.get(), uid + "\n");
    (void)(*runtime)->exited(uid, "short").wait(30s);
  }
}

TEST_CASE("kill -9 of the host at random moments loses no container and no exit code, and leaks nothing") {
  ORC_NEEDS_FULL_CONTAINERS("killed host");
  TempDir folder;
  make_root(folder / "rootfs");
  const std::string instance = "killed" + std::to_string(getpid());
  std::uint64_t state = 88172645463325252ull;  // xorshift: the same moments in every run
  int promised = 0, ends = 0, runs = 0, shims = 0;
  const bool is_long = std::getenv("ORCHESTRA_LONG") != nullptr && *std::getenv("ORCHESTRA_LONG") != 0;
  const int rounds = is_long ? 1000 : 24;
  for (int round = 0; round < rounds; ++round) {
    std::error_code ignored;
    fs::remove(folder / "told", ignored);
    const pid_t victim = start_victim(folder.path(), instance);
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    poll(nullptr, 0, 30 + static_cast<int>(state % 250));
    REQUIRE(kill(victim, SIGKILL) == 0);
    int status = 0;
    REQUIRE(waitpid(victim, &status, 0) == victim);
    REQUIRE_MESSAGE(WIFSIGNALED(status), "the host ended by itself");
    // Every fourth time a shim goes with it: then a code may be unknown, never another one.
    std::string without_shim;
    if (round % 4 == 3) without_shim = kill_one_shim(folder / "state/pods");
    if (!without_shim.empty()) ++shims;

    Engine engine({.event_threads = 1});
    auto runtime = make_pod_runtime(
        engine,
        {.state_dir = folder / "state", .isolation = RuntimeOptions::Isolation::full, .instance = instance});
    REQUIRE_MESSAGE(runtime.has_value(), (runtime ? "" : runtime.error().to_string()));
    const auto pods = (*runtime)->list().wait(30s);
    REQUIRE(pods.has_value());
    for (const PodRecord& pod : *pods) {
      for (const ContainerStatus& container : pod.containers) {
        if (container.name == "long" && container.state == ContainerState::running) {
          // Of a pod that the killed host was just removing it may end now; then that is known soon.
          CHECK(eventually([&] {
            const auto now = (*runtime)->status(pod.config.uid, "long").wait(30s);
            return kill(static_cast<pid_t>(container.pid), 0) == 0 ||
                   (now && now->state == ContainerState::exited);
          }));
          ++runs;
        }
        if (container.name != "short" || container.state == ContainerState::created) continue;
        const auto end = (*runtime)->exited(pod.config.uid, "short").wait(60s);
        REQUIRE(end.has_value());
        ++ends;
        if (pod.config.uid == without_shim && !end->exit_code) {
          CHECK_FALSE(end->reason.empty());
        } else {
          CHECK(end->exit_code == 7);
        }
      }
    }
    // The pod that the killed host had told of last is there, with both containers: the host was busy with
    // another one when it died.
    std::istringstream told(slurp(folder / "told"));
    std::string last;
    for (std::string line; std::getline(told, line); last = line) ++promised;
    for (const PodRecord& pod : *pods) {
      if (pod.config.uid == last) CHECK(pod.containers.size() == 2);
    }
    const bool found = last.empty() || std::any_of(pods->begin(), pods->end(), [&](const PodRecord& pod) {
                         return pod.config.uid == last;
                       });
    CHECK(found);
    for (const PodRecord& pod : *pods) CHECK((*runtime)->remove_pod(pod.config.uid).wait(30s).has_value());
    CHECK(fs::is_empty(folder / "state/pods"));
    const bool clean = eventually([&] { return Leftovers::now("orchestra-" + instance).empty(); });
    CHECK_MESSAGE(clean, Leftovers::now("orchestra-" + instance));
  }
  MESSAGE(rounds, " kills of the host, ", shims, " of a shim with it: ", ends, " exit codes, ", runs,
          " running containers adopted, ", promised, " promised pods; none lost");
  CHECK(promised > 0);  // else the machine is too slow for the test to say anything
}

}  // namespace orchestra::test
