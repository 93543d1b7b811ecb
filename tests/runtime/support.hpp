#pragma once
// Real containers for tests: a busybox root, a runtime of its own, and a check that nothing is left.
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "orchestra/engine.hpp"
#include "runtime/pod_runtime_factory.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test {
using namespace std::chrono_literals;
namespace fs = std::filesystem;

inline constexpr const char* kBusybox = "/bin/busybox";

/// "" if full containers can be made here, else why not.
inline std::string why_no_full_containers() {
  if (geteuid() != 0) return "needs root";
  if (!fs::exists(kBusybox)) return "needs the Debian package busybox-static";
  return {};
}

/// A root file system: busybox and its usual names, and the folders images have.
inline void make_root(const std::string& root) {
  for (const char* folder : {"bin", "etc", "tmp", "proc", "dev", "sys", "data"})
    fs::create_directories(fs::path(root) / folder);
  fs::copy_file(kBusybox, root + "/bin/busybox", fs::copy_options::skip_existing);
  for (const char* name :
       {"sh",   "sleep", "cat", "echo", "ls",       "id",    "true",   "false", "hostname", "grep",  "mount",
        "kill", "touch", "seq", "stat", "readlink", "chmod", "dd",     "head",  "mkdir",    "ps",    "ip",
        "wc",   "stty",  "env", "pwd",  "printf",   "yes",   "usleep", "tr",    "date",     "setsid"}) {
    if (!fs::exists(fs::symlink_status(root + "/bin/" + name)))
      fs::create_symlink("busybox", root + "/bin/" + name);
  }
  std::ofstream(root + "/etc/passwd") << "root:x:0:0:root:/:/bin/sh\n";
}

inline std::string slurp(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}
/// The contents of CRI log records, one line each: "stdout F hello".
inline std::string log_contents(const std::string& path) {
  std::string text = slurp(path);
  text.resize(text.rfind('\n') + 1);  // who writes may be in the middle of a record
  std::istringstream lines(text);
  std::string out;
  for (std::string line; std::getline(lines, line);)
    out += line.substr(std::min<std::size_t>(31, line.size())) + "\n";
  return out;
}

/// Waits, by short looks, until `condition` holds; false after `limit`.
template <class F>
bool eventually(F condition, std::chrono::milliseconds limit = 30s) {
  for (auto waited = 0ms; waited < limit; waited += 5ms) {
    if (condition()) return true;
    usleep(5000);
  }
  return condition();
}

/// What a machine may keep of us: mounts, cgroups, processes. Compared before and after.
struct Leftovers {
  static std::string now(const std::string& mark) {
    std::string found;
    std::istringstream mounts(slurp("/proc/self/mountinfo"));
    for (std::string line; std::getline(mounts, line);) {
      if (line.find(mark) != std::string::npos) found += "mount: " + line + "\n";
    }
    std::error_code failed;
    if (fs::exists(fs::path("/sys/fs/cgroup") / mark, failed))
      found += "cgroup: /sys/fs/cgroup/" + mark + "\n";
    for (const auto& hierarchy : fs::directory_iterator("/sys/fs/cgroup", failed)) {
      if (fs::exists(hierarchy.path() / mark, failed))
        found += "cgroup: " + (hierarchy.path() / mark).string() + "\n";
    }
    for (const auto& process : fs::directory_iterator("/proc", failed)) {
      const std::string name = process.path().filename();
      if (name.empty() || name[0] < '0' || name[0] > '9') continue;
      const std::string cgroups = slurp(process.path() / "cgroup");
      if (cgroups.find("/" + mark) != std::string::npos &&
          slurp(process.path() / "stat").find(") Z ") == std::string::npos) {
        found += "process: " + name + " " + slurp(process.path() / "comm");
      }
    }
    return found;
  }
};

/// A runtime over folders of its own. At the end everything must be gone.
class RuntimeHouse {
 public:
  using Durability = RuntimeOptions::ExitDurability;
  explicit RuntimeHouse(RuntimeOptions::Isolation isolation = RuntimeOptions::Isolation::full,
                        Durability durability = Durability::boot)
      : isolation_(isolation), durability_(durability) {
    instance_ = "test" + std::to_string(getpid()) + "x" + std::to_string(++counter());
    make_root(folder_ / "rootfs");
    open();
  }
  ~RuntimeHouse() {
    if (runtime_) {
      for (const PodRecord& pod : runtime_->list().wait(30s).value())
        CHECK(runtime_->remove_pod(pod.config.uid).wait(30s).has_value());
    }
    runtime_.reset();
    engine_.reset();
    CHECK(eventually([&] { return Leftovers::now("orchestra-" + instance_).empty(); }));
    CHECK_MESSAGE(Leftovers::now("orchestra-" + instance_).empty(), Leftovers::now("orchestra-" + instance_));
    CHECK(fs::is_empty(folder_ / "state/pods"));
  }
  void open() {
    engine_ = std::make_unique<Engine>(EngineOptions{.event_threads = 1});
    auto opened = make_pod_runtime(*engine_, {.state_dir = folder_ / "state",
                                              .data_dir = folder_ / "data",
                                              .isolation = isolation_,
                                              .instance = instance_,
                                              .move_host_to_leaf = true,
                                              .exit_durability = durability_});
    REQUIRE_MESSAGE(opened.has_value(), (opened ? "" : opened.error().to_string()));
    runtime_ = *opened;
  }
  /// As if the host had ended: nothing is told to anybody.
  void close() {
    runtime_.reset();
    engine_.reset();
  }
  PodRuntime& runtime() { return *runtime_; }
  Engine& engine() { return *engine_; }
  std::string path(const std::string& name) const { return folder_ / name; }
  const std::string& instance() const { return instance_; }

  PodSandbox pod(const std::string& uid = "pod-1") {
    PodSandboxConfig config;
    config.uid = uid;
    config.ns = "default";
    config.name = "web";
    config.hostname = "web";
    config.cgroup_parent = "kubepods/burstable";
    return pod(config);
  }
  PodSandbox pod(const PodSandboxConfig& config) {
    auto made = runtime_->create_pod(config).wait(30s);
    REQUIRE_MESSAGE(made.has_value(), (made ? "" : made.error().to_string()));
    return *made;
  }
  ContainerConfig config(const std::string& id, std::vector<std::string> args) {
    ContainerConfig config;
    config.id = config.name = id;
    config.image = "busybox";
    config.root.directory = root_for(id);
    config.args = std::move(args);
    config.env = {"PATH=/bin", "HOME=/"};
    config.log_path = folder_ / ("logs/" + id + ".log");
    return config;
  }
  /// Creates and starts.
  void start(const ContainerConfig& config, const std::string& pod = "pod-1") {
    auto created = runtime_->create_container(pod, config).wait(30s);
    REQUIRE_MESSAGE(created.has_value(), (created ? "" : created.error().to_string()));
    auto started = runtime_->start_container(pod, config.id).wait(30s);
    REQUIRE_MESSAGE(started.has_value(), (started ? "" : started.error().to_string()));
  }
  ContainerStatus wait_exit(const std::string& id, const std::string& pod = "pod-1") {
    auto status = runtime_->exited(pod, id).wait(30s);
    REQUIRE_MESSAGE(status.has_value(), (status ? "" : status.error().to_string()));
    return *status;
  }
  /// Runs a command to its end and answers what it printed.
  std::string run(const std::string& id, std::vector<std::string> args) {
    start(config(id, std::move(args)));
    wait_exit(id);
    return log_contents(path("logs/" + id + ".log"));
  }
  std::string exec(const std::string& id, std::vector<std::string> args, int* code = nullptr) {
    auto result = runtime_->exec("pod-1", id, std::move(args), 60s, 1 << 20).wait(90s);
    REQUIRE_MESSAGE(result.has_value(), (result ? "" : result.error().to_string()));
    if (code != nullptr) *code = result->exit_code;
    return result->output;
  }

 private:
  static int& counter() {
    static int count = 0;
    return count;
  }
  /// Level process shares no root between containers: each gets its own copy.
  std::string root_for(const std::string& id) {
    if (isolation_ != RuntimeOptions::Isolation::process) return folder_ / "rootfs";
    make_root(folder_ / ("roots/" + id));
    return folder_ / ("roots/" + id);
  }
  TempDir folder_;
  RuntimeOptions::Isolation isolation_;
  Durability durability_;
  std::string instance_;
  std::unique_ptr<Engine> engine_;
  std::shared_ptr<PodRuntime> runtime_;
};

}  // namespace orchestra::test

#define ORC_NEEDS_FULL_CONTAINERS(name) \
  if (const std::string why = ::orchestra::test::why_no_full_containers(); !why.empty()) ORC_SKIP(name, why)
