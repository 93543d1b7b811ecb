#pragma once
// Runtime: containers in pods that outlive this program.
//
// With this class alone a program can run OCI bundles, group them in pods, exec, signal and measure them;
// crash, start again, and find every container running, every exit code and log line. Each pod has a small
// process of its own (orch-shim, embedded in the library) that is the parent of its containers and stays
// when this program ends; RuntimePod::remove() ends it.
//
//   auto runtime = Runtime::open(engine, {.state_dir = "/run/demo", .data_dir = "/var/lib/demo"}).value();
//   auto pod = runtime->create_pod({.id = "demo", .hostname = "demo"}).wait(5s).value();
//   auto spec = ContainerSpec::from_bundle("/srv/web").value();
//   auto web = pod.create_container(spec, {.id = "web", .log_path = "/var/log/web.log"}).wait(10s).value();
//   web.start().wait(5s).value();
//   ExitRecord end = web.exited().wait(1h).value();  // true even if this program was killed in between
//
// Any thread may call; handles are small, copyable, and keep the Runtime alive. Ids are 1..128 characters
// of [A-Za-z0-9_.+-]. Calls with the same ids converge: repeating one is safe. Since 0.1.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/container_spec.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/pending.hpp"

namespace orchestra {

struct RuntimeOptions {
  std::string state_dir;  ///< of this boot, on tmpfs: "/run/orchestra/ID"
  std::string data_dir;   ///< survives a boot: "/var/lib/orchestra/runtime"
  /// best: the highest level that works here, tried by really making the namespaces.
  enum class Isolation : std::uint8_t { best, full, rootless, process } isolation = Isolation::best;
  std::string cgroup_parent;  ///< below each cgroup mount; default "/orchestra-INSTANCE"
  std::string instance;       ///< 8 hex digits of the data folder; part of every name we make
  /// rootless, with ranges in /etc/subuid: our own uid and gid keep their number inside. Else they are 0.
  bool keep_id = false;
  /// rootless on cgroup v2: this process moves into a leaf of its own group, so that the group can limit
  /// pods.
  bool move_host_to_leaf = false;
  /// boot: how a container ended is known until the machine is started again. machine: it is also written to
  /// `data_dir`, which is needed then, behind the exit, never in its way; pods whose containers ended before
  /// the machine did are there again with their exit codes, until they are removed or made again. Since 0.2.
  enum class ExitDurability : std::uint8_t { boot, machine } exit_durability = ExitDurability::boot;
  /// false: pods end with this program, for jobs that nobody would come back for.
  bool keep_alive = true;
  /// What the logs of one pod may grow by, all its containers together, at most 1 GB/s; 0 = no limit. What is
  /// over it is dropped and counted in the log, never held back: no container waits for its log. A pod's
  /// annotation `orchestra.dev/log-bytes-per-second` comes first. Since 0.2.
  std::int64_t log_bytes_per_second = 0;
};

struct RuntimePodOptions {
  std::string id;
  std::string hostname;
  bool host_network = false, host_pid = false, host_ipc = false;
  bool share_process_namespace = false;
  std::int64_t log_bytes_per_second = 0;  ///< 0 = as RuntimeOptions says. Since 0.2.
};
struct ContainerOptions {
  std::string id;
  std::string log_path;  ///< CRI log file; empty = output is discarded
  std::int64_t log_file_bytes_max = 10 << 20;
  bool standard_input = false;
};
struct ContainerExecOptions {
  std::vector<std::string> args;
  std::size_t capture_bytes_max = 64 << 10;
  Duration deadline = std::chrono::minutes(1);
};
struct ContainerExecResult {
  int exit_code = 0;
  std::string output;  ///< stdout and stderr, cut at the bound
  bool truncated = false;
};
/// How a container ended. `exit_code` is absent when nobody saw it: it is never invented.
struct ExitRecord {
  std::optional<int> exit_code;  ///< 128+n for signal n
  int signal = 0;
  bool oom_killed = false;
  std::int64_t started_ns = 0, finished_ns = 0;  ///< wall clock
  std::string reason;
};
struct ContainerInfo {
  enum class State : std::uint8_t { created, running, exited, unknown, paused };
  std::string id;
  State state = State::unknown;
  std::int64_t pid = 0;
};
/// What a machine or level does not count is 0.
struct ContainerStats {
  std::uint64_t cpu_ns = 0, memory_bytes = 0, memory_working_set_bytes = 0, pids = 0;
  std::uint64_t cpu_user_ns = 0, cpu_system_ns = 0, throttled_periods = 0, throttled_ns = 0;
  std::uint64_t memory_limit_bytes = 0, memory_rss_bytes = 0, memory_cache_bytes = 0, memory_failures = 0;
  std::uint64_t page_faults = 0, swap_bytes = 0, oom_kills = 0, pids_limit = 0;
  std::uint64_t io_read_bytes = 0, io_write_bytes = 0, io_reads = 0, io_writes = 0;
};
/// Something that happened to a pod or container of this Runtime.
struct RuntimeEvent {
  enum class Kind : std::uint8_t {
    pod_created,
    pod_removed,
    created,
    started,
    exited,
    oom,  ///< the kernel killed for want of memory
    paused,
    resumed,
    updated,
    removed,
    adopted,  ///< found running when the Runtime was opened
    gap,      ///< events gap_from..gap_to are not kept any more
  };
  Kind kind = Kind::gap;
  std::uint64_t sequence = 0;
  std::int64_t wall_ns = 0;
  std::string pod, container;
  std::optional<int> exit_code;  ///< of exited, when it is known
  std::uint64_t gap_from = 0, gap_to = 0;
};
/// A place in the events of a Runtime. One thread at a time; keeps the Runtime alive.
class ORC_API RuntimeEvents {
 public:
  /// The next ones, at most 256. Nothing when none came within `deadline` or the Runtime is closed.
  std::optional<std::vector<RuntimeEvent>> next(Duration deadline);

  struct Impl;
  explicit RuntimeEvents(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<Impl> impl_;
};

/// One container of a pod. Fails with `not_found` once it was removed.
class ORC_API Container {
 public:
  const std::string& id() const;
  /// Lets the program run. The error names step, path and errno when it cannot.
  Pending<void> start();
  Pending<void> signal(int number);
  Pending<ContainerExecResult> exec(ContainerExecOptions options);
  Pending<ContainerInfo> info();
  Pending<ContainerStats> stats();
  /// New limits while it runs. What this machine has no controller for is `unsupported` by name; a memory
  /// limit below what is in use is `conflict` when the resources ask for checkBeforeUpdate.
  Pending<void> update(ContainerSpec::Resources resources);
  /// Stops its processes where they are (freezer), and lets them go on. An exec meanwhile is `conflict`.
  Pending<void> pause();
  Pending<void> resume();
  /// The window of its terminal.
  Pending<void> resize(std::uint16_t columns, std::uint16_t rows);
  /// Completes when it has ended, at once if it has.
  Pending<ExitRecord> exited();
  /// Kills what is left of it and forgets it.
  Pending<void> remove();

  struct Impl;
  explicit Container(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<Impl> impl_;
};

/// Containers that share network, ipc and host name.
class ORC_API RuntimePod {
 public:
  const std::string& id() const;
  /// `spec.root_path` is absolute (from_bundle sees to that). Its network, ipc and uts namespaces are the
  /// pod's; the rest is made as the specification says. The container is created, not started.
  Pending<Container> create_container(ContainerSpec spec, ContainerOptions options);
  /// A container that is there, also one of a program that was killed.
  Result<Container> container(const std::string& id) const;
  Pending<std::vector<ContainerInfo>> containers();
  /// What could not be enforced on this machine, with the reasons.
  std::vector<std::string> degraded() const;
  /// Ends all containers and removes processes, mounts, cgroups and records.
  Pending<void> remove();

  struct Impl;
  explicit RuntimePod(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<Impl> impl_;
};

class ORC_API Runtime {
 public:
  /// Adopts what runs in `state_dir`, undoes what was half made. `busy` with the pid of another owner,
  /// `unsupported` when the asked isolation does not work here. The engine must outlive the Runtime.
  static Result<std::shared_ptr<Runtime>> open(Engine& engine, RuntimeOptions options);
  Pending<RuntimePod> create_pod(RuntimePodOptions options);
  Result<RuntimePod> pod(const std::string& id) const;
  /// Pods that are there, adopted ones included.
  std::vector<RuntimePod> pods() const;
  /// What happens from now on; with `from`, also the kept events (4,096) with a sequence from it on.
  RuntimeEvents events(std::optional<std::uint64_t> from = std::nullopt) const;
  /// full, rootless or process: what `best` came to.
  RuntimeOptions::Isolation isolation() const;

  struct Impl;
  explicit Runtime(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<Impl> impl_;
};

/// `orchestra oci ARGS..`: the command line of the common OCI runtimes (create start state run exec kill
/// delete list ps pause resume features spec). Blocks; the descriptors are the program's 0, 1, 2. Answers
/// the exit status.
ORC_API int run_oci_command(const std::vector<std::string>& args, int input, int output, int error);

}  // namespace orchestra
