#pragma once
// What library and orch-shim say to each other: frames on the control socket, records on disk.
//
// A frame is a FrameHeader and `bytes` bytes; structures are fixed and of one build (kProtocolVersion).
// Every request is answered by one `reply` with the same request number; `status` is 0 or -errno, and a
// failure carries a ReportMessage that names the stage. Shared by hosted and freestanding code.
#include <cstdint>

#include "plan_format.hpp"

namespace orchestra::wire {

inline constexpr std::uint32_t kProtocolVersion = 1;
inline constexpr std::uint32_t kFrameBytesMax = (1 << 20) + (64 << 10);  ///< a largest plan and its request
inline constexpr std::uint32_t kContainersMax = 64;                      ///< per pod
inline constexpr std::uint32_t kExecsMax = 128;                          ///< running at once per pod
inline constexpr std::uint32_t kClientsMax = 192;                        ///< connections to one shim
inline constexpr std::uint32_t kAttachBytesMax = 1 << 20;                ///< waiting for one attached client
inline constexpr std::uint32_t kIdBytes = 256, kPathBytes = 1024, kReasonBytes = 512;
inline constexpr std::uint32_t kLogRecordBytes = 16 << 10;  ///< longest content of one CRI record

enum class Op : std::uint16_t {
  reply = 1,
  list,         ///< -> ContainerRecord[]
  create,       ///< CreateRequest + plan -> ContainerRecord
  start,        ///< IdRequest -> ContainerRecord
  signal,       ///< IdRequest{number} ; number | kSignalAll: every process of the container
  remove,       ///< IdRequest: kills what is left, forgets the container
  exec,         ///< IdRequest{flags} + plan + 3 fds -> pid (+ the terminal's fd); then exec_exited
  attach,       ///< IdRequest{flags} -> then output, exited
  subscribe,    ///< -> then event frames: a record for each container, now and at each change
  resize,       ///< IdRequest{number = columns << 16 | rows}
  close_input,  ///< IdRequest
  shutdown,     ///< kills everything and ends
  event,        ///< ContainerRecord
  exec_exited,  ///< ExecEnd
  output,       ///< attach: flags 1 or 2 = stdout, stderr; bytes
  input,        ///< attach: bytes for stdin
  detached,     ///< attach: cut by the shim, the text says why
};

struct FrameHeader {
  std::uint32_t bytes = 0;
  std::uint32_t request = 0;
  Op op = Op::reply;
  std::uint16_t flags = 0;
  std::int32_t status = 0;
};
static_assert(sizeof(FrameHeader) == 16);

inline constexpr std::uint32_t kSignalAll = 1u << 16;
enum StreamFlags : std::uint32_t {
  kWantInput = 1,
  kWantOutput = 2,
  kWantError = 4,
  kWantTerminal = 8,
  kInputOnce = 16
};

struct IdRequest {
  char id[kIdBytes] = {};
  std::uint32_t number = 0, flags = 0;
};

struct CreateRequest {
  char id[kIdBytes] = {};
  char directory[kPathBytes] = {};  ///< of the container: fifos, state, line buffers
  char log_path[kPathBytes] = {};   ///< empty = output is discarded
  char oom_file[kPathBytes] = {};   ///< memory.events or memory.oom_control; empty = none
  char root[kPathBytes] = {};       ///< process: what /proc/PID/root shows of the container's processes
  char cgroup[kPathBytes] = {};     ///< a cgroup.procs file that lists all processes of the container
  std::int64_t log_bytes_max = 0;
  std::uint32_t flags = 0;  ///< StreamFlags
  std::uint32_t own_pid_namespace = 0;
  std::uint32_t uid = 0, gid = 0;  ///< owner of the output fifos
};

enum class Phase : std::uint32_t { none, creating, created, running, exited };

inline constexpr std::uint32_t kRecordMagic = 0x5253524f;  // "ORSR"
/// The state of one container: what `state` files hold and what list, start and events answer.
struct ContainerRecord {
  std::uint32_t magic = kRecordMagic, version = kProtocolVersion;
  char id[kIdBytes] = {};
  Phase phase = Phase::none;
  std::int32_t pid = 0;
  std::uint64_t start_ticks = 0;                                 ///< with pid: the identity of the process
  std::int64_t created_ns = 0, started_ns = 0, finished_ns = 0;  ///< wall clock
  std::int32_t code = 0;    ///< exit code; valid when phase is exited and known is 1
  std::int32_t signal = 0;  ///< that ended it, or 0
  std::uint32_t known = 0;  ///< 0: it has ended, but nobody saw how
  std::uint32_t oom_killed = 0;
  std::uint64_t sequence = 0;
  char boot_id[40] = {};
  char reason[kReasonBytes] = {};
};

/// State file of a container: the record, and what a new shim needs to go on.
struct StateFile {
  ContainerRecord record;
  CreateRequest request;
};

struct ExecEnd {
  std::int32_t code = 0, signal = 0;
  std::uint32_t known = 1, unused = 0;
};

/// From init to its parent, and inside failed replies.
/// `process`: its pid is in `error`. `hooks`: the runtime's hooks may run now; a byte lets init go on.
enum class Report : std::uint32_t { created = 1, failed, terminal, process, hooks };
struct ReportMessage {
  Report kind = Report::failed;
  Stage stage = Stage::none;
  std::int32_t error = 0;
  char text[1000] = {};
};

// Roles `oci..` take the plan as a memory file and a report socket; for an exec also the container's pidfd.
inline constexpr int kOciPlanFd = 3, kOciReportFd = 4, kOciPidfdFd = 5, kOciPreservedFd = 6;
inline constexpr int kPreservedFdsMax = 32;

/// One line of /proc/PID/uid_map.
struct IdRange {
  std::uint32_t inside = 0, outside = 0, count = 0;
};
inline constexpr std::uint32_t kIdRangesMax = 8;
/// The user namespace that a rootless process makes for itself before anything else.
struct UserNamespace {
  std::uint32_t wanted = 0;      ///< 0: stay in the one it was born in
  std::uint32_t by_helpers = 0;  ///< newuidmap and newgidmap write the maps; else it does: one id each
  std::uint32_t uid_count = 0, gid_count = 0;
  IdRange uids[kIdRangesMax], gids[kIdRangesMax];
  char newuidmap[64] = {}, newgidmap[64] = {};  ///< paths
};
// Roles `probe` (makes a user namespace and in it what a container needs, and tells) and `reclaim` (gives
// the folders below a directory to id 0, so that our user can remove them): the UserNamespace as a memory
// file, a pipe for the ReportMessage, and the directory.
inline constexpr int kRoleConfigFd = 3, kRoleResultFd = 4, kRoleDirectoryFd = 5;

// What a shim is started with: a memory file at kShimConfigFd, a listening socket at kShimSocketFd, and
// a stream socket at kShimReadyFd: one byte in once its v1 cgroups are there, a ReportMessage (created or
// failed) out; then it is a client connection that has subscribed.
inline constexpr int kShimConfigFd = 3, kShimSocketFd = 4, kShimReadyFd = 5;
inline constexpr std::uint32_t kShimCgroupsMax = 16, kShimSysctlsMax = 32;
struct ShimConfig {
  std::uint32_t magic = kPlanMagic, version = kProtocolVersion;
  std::uint64_t namespaces = 0;  ///< CLONE_NEW* that the pod shares and the shim makes
  UserNamespace user;            ///< made before the others; `namespaces` has CLONE_NEWUSER then
  std::uint32_t share_pid = 0;   ///< containers live in one pid namespace, whose pid 1 is ours
  std::uint32_t oom_protect = 0;
  std::uint32_t cgroup_count = 0, sysctl_count = 0, adopt_count = 0;
  std::uint32_t ends_with_host = 0, unused = 0;  ///< when the first connection closes, everything ends
  std::int64_t log_bytes_per_second = 0;         ///< of all its containers together; 0 = no limit
  std::int32_t join_pid = 0;  ///< a live container of a dead shim: its namespaces are joined, not made
  char hostname[256] = {};
  char boot_id[40] = {};
  char directory[kPathBytes] = {};  ///< of the pod
  char records[kPathBytes] = {};    ///< on a disk: where records of ended containers are kept; empty = nowhere
  char cgroup_files[kShimCgroupsMax][kPathBytes] = {};
  struct Sysctl {
    char path[160] = {};
    char text[160] = {};
  } sysctls[kShimSysctlsMax];
  char adopt[kContainersMax][kIdBytes] = {};  ///< containers of a shim that died: c/ID/state is read
};
/// Identity of a shim, in the pod's file `shim`.
struct ShimIdentity {
  std::uint32_t magic = kRecordMagic, version = kProtocolVersion;
  std::int32_t pid = 0;
  std::int32_t pause_pid = 0;  ///< pid 1 of a shared pid namespace
  std::uint64_t start_ticks = 0;
  char boot_id[40] = {};
};

}  // namespace orchestra::wire
