// Containers per second, start to end, through the library and through `orchestra oci`, beside crun.
//
// All variants run the same bundle (busybox, /bin/true), interleaved in one loop, so that a busy machine
// slows them alike. `lifecycle_full_ms` is a pod with its own network, ipc and uts namespaces, one
// container in it with mounts, masks, capabilities, seccomp and limits, from create_pod to remove_pod.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/fd.hpp"
#include "bench/bench.hpp"
#include "bench/runtime_floor.hpp"
#include "orchestra/container_spec.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/runtime.hpp"
#include "runtime/linux/seccomp.hpp"
#include "runtime/pod_runtime_factory.hpp"
#include "runtime/spec/pod_spec.hpp"

extern char** environ;

namespace orchestra::bench {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
constexpr const char* kBusybox = "/bin/busybox";

class Workbench {
 public:
  Workbench() {
    std::string pattern = "/tmp/orc-bench-XXXXXX";
    folder_ = mkdtemp(pattern.data());
    fs::create_directories(folder_ + "/bundle/rootfs/bin");
    for (const char* name : {"proc", "dev", "sys", "tmp"})
      fs::create_directories(folder_ + "/bundle/rootfs/" + name);
    fs::copy_file(kBusybox, folder_ + "/bundle/rootfs/bin/busybox");
    for (const char* name : {"true", "sleep", "sh"})
      fs::create_symlink("busybox", folder_ + "/bundle/rootfs/bin/" + name);
    ContainerSpec spec = ContainerSpec::example();
    spec.process->terminal = false;
    spec.process->args = {"/bin/true"};
    spec.seccomp = runtime::default_seccomp_profile(*spec.process);
    spec.resources.memory_limit = 64 << 20;
    spec.resources.pids_limit = 100;
    spec.resources.cpu_shares = 512;
    std::ofstream(folder_ + "/bundle/config.json") << spec.to_json();
    fs::create_directories(folder_ + "/sleeper");
    spec.root_path = root();
    spec.process->args = {"/bin/sleep", "10000"};
    std::ofstream(folder_ + "/sleeper/config.json") << spec.to_json();
  }
  ~Workbench() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string root() const { return folder_ + "/bundle/rootfs"; }

 private:
  std::string folder_;
};

double ms_since(std::int64_t start) { return static_cast<double>(now_ns() - start) / 1e6; }

/// Runs a program to its end with output to /dev/null; its wall time, or nothing if it failed.
std::optional<double> time_program(const std::vector<std::string>& args) {
  std::vector<char*> words;
  for (const std::string& word : args) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (int fd = 0; fd < 3; ++fd) posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
  const std::int64_t start = now_ns();
  pid_t pid = 0;
  int status = -1;
  if (posix_spawn(&pid, words[0], &actions, nullptr, words.data(), environ) == 0) waitpid(pid, &status, 0);
  posix_spawn_file_actions_destroy(&actions);
  if (status != 0) return std::nullopt;
  return ms_since(start);
}

std::string crun_version(const std::string& program) {
  const Fd out(memfd_create("version", 0));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out.get(), 1);
  char* words[] = {const_cast<char*>(program.c_str()), const_cast<char*>("--version"), nullptr};
  pid_t pid = 0;
  int status = 0;
  if (posix_spawn(&pid, program.c_str(), &actions, nullptr, words, environ) == 0) waitpid(pid, &status, 0);
  posix_spawn_file_actions_destroy(&actions);
  char text[128] = {};
  (void)!pread(out.get(), text, sizeof text - 1, 0);
  const std::string first(text, std::string_view(text).find('\n') == std::string_view::npos
                                    ? 0
                                    : std::string_view(text).find('\n'));
  return first.substr(first.rfind(' ') + 1);
}

ContainerConfig container(const Workbench& bench, const std::string& id, std::vector<std::string> args) {
  ContainerConfig config;
  config.id = config.name = id;
  config.root.directory = bench.root();
  config.args = std::move(args);
  config.env = {"PATH=/bin"};
  config.read_only_root = true;
  config.log_path = bench.path("log");
  config.limits.memory_bytes = 64 << 20;
  config.limits.pids = 100;
  config.limits.cpu_shares = 512;
  return config;
}

struct Series {
  std::vector<double> values;
  std::size_t failures = 0;
  void add(std::optional<double> value) {
    if (value) {
      values.push_back(*value);
    } else {
      ++failures;
    }
  }
  std::optional<double> median() const {
    if (values.empty()) return std::nullopt;
    return percentile(values, 0.5);
  }
  std::string note() const { return failures == 0 ? "" : std::to_string(failures) + " runs failed; "; }
};

/// The parts of a life cycle, each from its call to its answer.
struct Phases {
  Series pod, create, start, exit, remove;
};

/// A whole pod with one container; the time, or nothing if a step failed.
std::optional<double> time_lifecycle(PodRuntime& runtime, const ContainerConfig& config, bool network,
                                     Phases* phases = nullptr) {
  const std::int64_t start = now_ns();
  std::int64_t last = start;
  const auto lap = [&](Series Phases::*part) {
    const std::int64_t now = now_ns();
    if (phases != nullptr) (phases->*part).add(static_cast<double>(now - last) / 1e6);
    last = now;
  };
  PodSandboxConfig pod;
  pod.uid = "bench";
  pod.hostname = "bench";
  pod.host_network = !network;
  if (!runtime.create_pod(pod).wait(30s)) return std::nullopt;
  lap(&Phases::pod);
  if (!runtime.create_container("bench", config).wait(30s)) return std::nullopt;
  lap(&Phases::create);
  if (!runtime.start_container("bench", "c").wait(30s)) return std::nullopt;
  lap(&Phases::start);
  const auto end = runtime.exited("bench", "c").wait(30s);
  if (!end || end->exit_code != 0) return std::nullopt;
  lap(&Phases::exit);
  if (!runtime.remove_pod("bench").wait(30s)) return std::nullopt;
  lap(&Phases::remove);
  return ms_since(start);
}

/// The same for a further container of a pod that is there.
std::optional<double> time_container(PodRuntime& runtime, const Workbench& bench) {
  const std::int64_t start = now_ns();
  if (!runtime.create_container("busy", container(bench, "c", {"/bin/true"})).wait(30s)) return std::nullopt;
  if (!runtime.start_container("busy", "c").wait(30s)) return std::nullopt;
  const auto end = runtime.exited("busy", "c").wait(30s);
  if (!end || end->exit_code != 0) return std::nullopt;
  if (!runtime.remove_container("busy", "c").wait(30s)) return std::nullopt;
  return ms_since(start);
}

std::optional<double> pss_kib(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/smaps_rollup");
  for (std::string word; file >> word;) {
    if (word == "Pss:") {
      double value = 0;
      file >> value;
      return value;
    }
  }
  return std::nullopt;
}

/// crun refuses machines whose v2 hierarchy has some controllers beside v1 ones. In a mount namespace of
/// this program's own v2 is taken away, so that both work on the same, plain v1 machine.
bool hide_unified_hierarchy() {
  if (!fs::exists("/sys/fs/cgroup/unified/cgroup.procs")) return false;
  if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return false;
  return umount2("/sys/fs/cgroup/unified", MNT_DETACH) == 0;
}

int shim_pid(const std::string& state_dir, const std::string& pod) {
  std::ifstream identity(state_dir + "/pods/" + pod + "/shim", std::ios::binary);
  std::int32_t words[3] = {};
  identity.read(reinterpret_cast<char*>(words), sizeof words);
  return words[2];
}

/// CPU seconds of a process so far.
double cpu_seconds(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text);
  std::istringstream rest(text.substr(text.rfind(')') + 2));
  std::string word;
  double ticks = 0;
  for (int field = 3; rest >> word && field <= 15; ++field) ticks += field >= 14 ? std::stod(word) : 0;
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double own_rss_kib() {
  std::ifstream file("/proc/self/statm");
  double pages = 0;
  file >> pages >> pages;
  return pages * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1024;
}

/// Things about one container of the pod `busy`.
void measure_one(PodRuntime& runtime, const Workbench& bench, Report& report) {
  const std::int64_t begin = now_ns();
  constexpr int kAsked = 1000;
  for (int i = 0; i < kAsked; ++i) (void)runtime.status("busy", "sleeper").wait(1s);
  report.add({"state_us", static_cast<double>(now_ns() - begin) / 1e3 / kAsked, "us", 50.0, "<="});
  const auto waiting = runtime.create_container("busy", container(bench, "waits", {"/bin/true"})).wait(30s);
  report.add({"init_pss_kib", waiting ? pss_kib(std::to_string(waiting->pid)) : std::nullopt, "KiB", 300.0,
              "<=", std::nullopt, "created, not started"});
  (void)runtime.remove_container("busy", "waits").wait(30s);
  std::optional<double> least;
  for (const int kib : {4096, 2048, 1536, 1024, 768, 640, 512, 384, 256}) {
    ContainerConfig small = container(bench, "small", {"/bin/true"});
    small.limits.memory_bytes = std::int64_t{kib} << 10;
    const bool made = runtime.create_container("busy", small).wait(30s).has_value() &&
                      runtime.start_container("busy", "small").wait(30s).has_value();
    const auto end =
        made ? runtime.exited("busy", "small").wait(30s) : Result<ContainerStatus>(ContainerStatus());
    (void)runtime.remove_container("busy", "small").wait(30s);
    if (!made || !end || end->exit_code != 0) break;
    least = kib;
  }
  report.add(
      {"memory_limit_min_kib", least, "KiB", 768.0, "<=", std::nullopt, "/bin/true of a static busybox"});
}

/// What the shim makes of 100-byte lines, per second of its own CPU time.
void measure_log(PodRuntime& runtime, const Workbench& bench, int shim, const Options& options,
                 Report& report) {
  const int megabytes = options.quick ? 200 : 1000;
  ContainerConfig writer = container(
      bench, "writer",
      {"/bin/sh", "-c",
       "busybox yes " + std::string(99, 'x') + " | busybox head -c " + std::to_string(megabytes) + "000000"});
  writer.log_path = "/dev/shm/orc-bench-log-" + std::to_string(getpid());
  const double before = cpu_seconds(shim);
  const bool ran = runtime.create_container("busy", writer).wait(30s).has_value() &&
                   runtime.start_container("busy", "writer").wait(30s).has_value() &&
                   runtime.exited("busy", "writer").wait(120s).has_value();
  const double took = cpu_seconds(shim) - before;
  (void)runtime.remove_container("busy", "writer").wait(30s);
  for (const auto& file : fs::directory_iterator("/dev/shm")) {
    std::error_code ignored;
    if (file.path().string().starts_with(writer.log_path)) fs::remove(file.path(), ignored);
  }
  report.add({"log_mb_s", ran && took > 0 ? std::optional<double>(megabytes / took) : std::nullopt, "MB/s",
              300.0, ">=", std::nullopt, "100-byte lines per second of the shim's CPU time, log on tmpfs"});
}

/// Many pods: how fast they are made, measured and found again.
void measure_many(Engine& engine, std::shared_ptr<PodRuntime>& runtime, const std::string& state_dir,
                  const Workbench& bench, const Options& options, Report& report) {
  const int pods = options.quick ? 30 : 100;
  const double rss = own_rss_kib();
  const std::int64_t begin = now_ns();
  for (int i = 0; i < pods; ++i) {
    PodSandboxConfig config;
    config.uid = "many-" + std::to_string(i);
    (void)runtime->create_pod(config).wait(30s);
    (void)runtime->create_container(config.uid, container(bench, "c", {"/bin/sleep", "10000"})).wait(30s);
    (void)runtime->start_container(config.uid, "c").wait(30s);
  }
  report.add({"pods_per_s", pods / (ms_since(begin) / 1000.0), "1/s", 100.0, ">="});
  report.add({"host_rss_per_container_kib", (own_rss_kib() - rss) / pods, "KiB", 32.0, "<=", std::nullopt,
              "of " + std::to_string(pods) + " pods with one container each"});
  const std::int64_t cpu = cpu_ns();
  for (int i = 0; i < 100; ++i) (void)runtime->usage("many-" + std::to_string(i % pods), "c").wait(5s);
  report.add({"stats_100_ms", static_cast<double>(cpu_ns() - cpu) / 1e6, "ms", 10.0, "<=", std::nullopt,
              "CPU time of this program"});
  runtime.reset();
  const std::int64_t again = now_ns();
  auto opened = make_pod_runtime(engine, {.state_dir = state_dir,
                                          .data_dir = bench.path("data"),
                                          .isolation = RuntimeOptions::Isolation::full,
                                          .instance = "bench" + std::to_string(getpid())});
  const double took = ms_since(again);
  if (opened) runtime = *opened;
  const bool all = opened && (*opened)->list().wait(5s)->size() == static_cast<std::size_t>(pods) + 1;
  report.add({"adopt_100_pods_ms", all ? std::optional<double>(took * 100 / pods) : std::nullopt, "ms", 500.0,
              "<=", std::nullopt, std::to_string(pods) + " pods, scaled to 100"});
}

void run_runtime(const Options& options, Report& report) {
  if (geteuid() != 0 || !fs::exists(kBusybox)) {
    report.add({"lifecycle_full_ms", std::nullopt, "ms", 5.0, "<=", std::nullopt,
                "needs root and the Debian package busybox-static"});
    return;
  }
  const bool hidden = hide_unified_hierarchy();
  const Workbench bench;
  Engine engine({.event_threads = 1});
  // On tmpfs, as the state of a boot is meant to be.
  const std::string state_dir = "/dev/shm/orc-bench-" + std::to_string(getpid());
  auto opened = make_pod_runtime(engine, {.state_dir = state_dir,
                                          .data_dir = bench.path("data"),
                                          .isolation = RuntimeOptions::Isolation::full,
                                          .instance = "bench" + std::to_string(getpid())});
  if (!opened) {
    report.add(
        {"lifecycle_full_ms", std::nullopt, "ms", 5.0, "<=", std::nullopt, opened.error().to_string()});
    return;
  }
  PodRuntime& runtime = **opened;  // until measure_many opens it anew
  PodSandboxConfig busy;
  busy.uid = "busy";
  busy.hostname = "busy";
  auto pod = runtime.create_pod(busy).wait(30s);
  auto sleeper = container(bench, "sleeper", {"/bin/sleep", "10000"});
  (void)runtime.create_container("busy", sleeper).wait(30s);
  (void)runtime.start_container("busy", "sleeper").wait(30s);

  const std::string crun = find_program("crun");
  const std::string own = fs::read_symlink("/proc/self/exe").parent_path() / "orchestra-oci";
  Series lifecycle, within, exec, oci, start, peer, peer_no_cgroup, standard, floor_full, floor_std;
  Phases phases;
  std::string floor_why;
  FloorOptions full_floor{bench.root(), "orc-floor-" + std::to_string(getpid()), {}, true, true};
  if (auto filter = runtime::default_seccomp_filter(
          *runtime::make_pod_container_spec({}, container(bench, "c", {"/bin/true"}), Isolation::full)
               .process))
    full_floor.filter = *filter;
  FloorOptions std_floor{bench.root(), full_floor.scratch, {}, false, false};
  ContainerConfig plain = container(bench, "c", {"/bin/true"});
  plain.seccomp = "unconfined";
  plain.limits = {};
  Series peer_exec, oci_exec;
  const auto peer_sleeps = !crun.empty() && time_program({crun, "--root", state_dir + "-crun", "run", "-d",
                                                          "--bundle", bench.path("sleeper"), "s"});
  const auto oci_sleeps = fs::exists(own) && time_program({own, "--root", state_dir + "-oci", "run", "-d",
                                                           "--bundle", bench.path("sleeper"), "s"});
  const int rounds = options.quick ? 20 : 200;
  for (int i = 0; i < rounds; ++i) {
    lifecycle.add(time_lifecycle(runtime, container(bench, "c", {"/bin/true"}), true, &phases));
    floor_full.add(time_floor(full_floor, floor_why));
    standard.add(time_lifecycle(runtime, plain, false));
    floor_std.add(time_floor(std_floor, floor_why));
    if (!crun.empty()) {
      peer.add(
          time_program({crun, "--root", state_dir + "-crun", "run", "--bundle", bench.path("bundle"), "c"}));
      peer_no_cgroup.add(time_program({crun, "--root", state_dir + "-crun", "--cgroup-manager=disabled",
                                       "run", "--bundle", bench.path("bundle"), "c"}));
    }
    within.add(time_container(runtime, bench));
    if (fs::exists(own)) {
      oci.add(
          time_program({own, "--root", state_dir + "-oci", "run", "--bundle", bench.path("bundle"), "c"}));
      start.add(time_program({own, "--version"}));
    }
    if (peer_sleeps)
      peer_exec.add(time_program({crun, "--root", state_dir + "-crun", "exec", "s", "/bin/true"}));
    if (oci_sleeps) oci_exec.add(time_program({own, "--root", state_dir + "-oci", "exec", "s", "/bin/true"}));
    const std::int64_t begin = now_ns();
    const auto ran = runtime.exec("busy", "sleeper", {"/bin/true"}, 10s, 1024).wait(20s);
    exec.add(ran && ran->exit_code == 0 ? std::optional<double>(ms_since(begin)) : std::nullopt);
  }

  // crun refuses cgroups on hybrid machines: then it is measured without them, in its favour.
  const Series& other = peer.values.empty() ? peer_no_cgroup : peer;
  std::optional<Peer> crun_peer;
  std::string how = hidden ? "cgroup v2 hidden from both: crun refuses hybrid machines" : "";
  if (peer.values.empty()) how = "crun without cgroups: it failed with them";
  if (other.median()) crun_peer = Peer{"crun", crun_version(crun), *other.median()};
  const auto ratio = [&](const Series& series) -> std::optional<double> {
    if (!crun_peer || !series.median()) return std::nullopt;
    return *series.median() / crun_peer->value;
  };
  report.add({"lifecycle_full_ms", lifecycle.median(), "ms", 5.0, "<=", crun_peer, lifecycle.note() + how});
  report.add(
      {"ratio_crun", ratio(lifecycle), "", 0.25, "<=", crun_peer, crun_peer ? how : "crun is not installed"});
  const auto over = [](const Series& a, const Series& b) -> std::optional<double> {
    if (!a.median() || !b.median()) return std::nullopt;
    return *a.median() / *b.median();
  };
  report.add({"floor_full_ms", floor_full.median(), "ms", std::nullopt, "<=", std::nullopt,
              floor_full.median() ? "the same by bare system calls" : floor_why});
  report.add({"ratio_floor_full", over(lifecycle, floor_full), "", 2.0, "<="});
  report.add({"lifecycle_std_ms", standard.median(), "ms", std::nullopt, "<=", std::nullopt,
              standard.note() + "host network, no seccomp, no limits"});
  report.add({"floor_std_ms", floor_std.median(), "ms", std::nullopt, "<=", std::nullopt,
              floor_std.median() ? "" : floor_why});
  report.add({"ratio_floor_std", over(standard, floor_std), "", 2.0, "<="});
  const std::pair<const char*, const Series*> parts[] = {{"part_create_pod_ms", &phases.pod},
                                                         {"part_create_container_ms", &phases.create},
                                                         {"part_start_ms", &phases.start},
                                                         {"part_exit_ms", &phases.exit},
                                                         {"part_remove_pod_ms", &phases.remove}};
  for (const auto& [name, series] : parts)
    report.add({name, series->median(), "ms", std::nullopt, "<=", std::nullopt, "of lifecycle_full_ms"});
  report.add({"lifecycle_container_ms", within.median(), "ms", std::nullopt, "<=", std::nullopt,
              "one more container in a pod that is there"});
  report.add({"oci_lifecycle_ms", oci.median(), "ms",
              crun_peer ? std::optional<double>(crun_peer->value * 0.8) : std::nullopt, "<=", crun_peer,
              fs::exists(own) ? oci.note() : "orchestra-oci is not beside orchestra-bench"});
  report.add({"oci_start_ms", start.median(), "ms", 2.0, "<=", std::nullopt, start.note()});
  if (peer_sleeps) time_program({crun, "--root", state_dir + "-crun", "delete", "--force", "s"});
  if (oci_sleeps) time_program({own, "--root", state_dir + "-oci", "delete", "--force", "s"});
  std::optional<Peer> crun_exec;
  if (peer_exec.median()) crun_exec = Peer{"crun exec", crun_version(crun), *peer_exec.median()};
  report.add({"exec_ms", exec.median(), "ms", 4.0, "<=", crun_exec, exec.note()});
  report.add({"ratio_exec_crun", crun_exec ? over(exec, peer_exec) : std::nullopt, "", 0.6, "<=", crun_exec,
              crun_exec ? "" : "crun is not installed, or its container did not start"});
  report.add({"oci_exec_ms", oci_exec.median(), "ms",
              crun_exec ? std::optional<double>(crun_exec->value * 0.6) : std::nullopt, "<=", crun_exec,
              "orchestra-oci exec"});

  const int shim = shim_pid(state_dir, "busy");
  report.add({"shim_pss_kib", pss_kib(std::to_string(shim)), "KiB", 1024.0, "<="});
  Series cold;
  for (int i = 0; i < (options.quick ? 10 : 50); ++i) {
    poll(nullptr, 0, 40);
    cold.add(time_lifecycle(runtime, container(bench, "c", {"/bin/true"}), true));
  }
  const auto hot = lifecycle.median();
  report.add({"lifecycle_cold_ms", cold.median(), "ms", hot ? std::optional<double>(*hot + 1) : std::nullopt,
              "<=", std::nullopt, cold.note() + "40 ms of nothing before each; goal: hot + 1 ms"});
  measure_one(runtime, bench, report);
  measure_log(runtime, bench, shim, options, report);
  measure_many(engine, *opened, state_dir, bench, options, report);
  for (const PodRecord& record : (*opened)->list().wait(5s).value())
    (void)(*opened)->remove_pod(record.config.uid).wait(30s);
  std::error_code ignored;
  for (const char* suffix : {"", "-crun", "-oci"}) fs::remove_all(state_dir + suffix, ignored);
}

const bool runtime_registered = register_area("runtime", run_runtime);
}  // namespace
}  // namespace orchestra::bench
