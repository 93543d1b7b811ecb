#pragma once
// State of orch-shim: one thread, one epoll loop, fixed tables. No allocation after the start but one
// mapping per connection; untouched table pages cost no memory.
#include <errno.h>

#include "roles.hpp"

namespace orch {

using orchestra::wire::ContainerRecord;
using orchestra::wire::CreateRequest;
using orchestra::wire::Op;
using orchestra::wire::Phase;
using orchestra::wire::ReportMessage;

/// Who waits for an answer: a client slot may have been reused since, `generation` tells.
struct Waiter {
  int client = -1;
  uint32_t generation = 0, request = 0;
};

/// Line buffers of a container, mapped from a file on tmpfs: a line that was begun survives the shim.
struct LineBuffers {
  struct Stream {
    uint32_t used, unused;
    char bytes[orchestra::wire::kLogRecordBytes];
  } streams[2];
};

/// Output that did not reach the log and is not yet reported in it.
struct Dropped {
  uint64_t lines = 0, bytes = 0;
  void add(uint64_t more_lines, uint64_t more_bytes) {
    lines += more_lines;
    bytes += more_bytes;
  }
};

struct LogFile {
  int fd = -1, write_error = 0;
  int64_t bytes = 0, last_ns = 0;
  int64_t report_ns = 0;  ///< steady; when what was dropped is due to be said, 0 = nothing was
  Dropped unwritten, over_limit;
  LineBuffers* lines = nullptr;
};

/// What all logs of the pod together may grow by.
struct LogLimit {
  int64_t bytes_per_second = 0;  ///< 0 = no limit
  int64_t left = 0, filled_ns = 0;
};

struct Container {
  bool used = false, ended = false, adopted = false, removing = false, failed = false;
  bool unkept = false;  ///< has ended, and that is not on a disk yet
  CreateRequest config;
  ContainerRecord record;
  int report = -1;  ///< to init, until exec
  int pidfd = -1;
  int streams[2] = {-1, -1};    ///< what we read: fifos, or the terminal's master as [0]
  int master = -1, input = -1;  ///< input: where stdin is written, the master for terminals
  bool input_once = false;
  int attached_inputs = 0;     ///< clients that may write stdin
  int64_t drain_until_ns = 0;  ///< steady; while set, the exit waits for the end of the streams
  LogFile log;
  Waiter creating, starting, deleting;
  ReportMessage failure;
};

struct Exec {
  bool used = false, started = false, ended = false;
  int container = -1;
  long pid = 0;
  int report = -1, pidfd = -1, master = -1;
  Waiter waiter;  ///< the connection that asked; its end ends the process
};

struct Client {
  int fd = -1;
  uint32_t generation = 0;
  char* buffer = nullptr;  ///< kFrameBytesMax + header
  uint32_t used = 0;
  bool subscribed = false, waits_for_input = false;
  int attached = -1;  ///< container
  uint32_t attach_flags = 0, attach_request = 0;
  int fds[3] = {-1, -1, -1};
  int fd_count = 0;
};

struct Shim {
  orchestra::wire::ShimConfig config;
  orchestra::wire::ShimIdentity identity;
  Container containers[orchestra::wire::kContainersMax];
  Exec execs[orchestra::wire::kExecsMax];
  Client clients[orchestra::wire::kClientsMax];
  uint32_t containers_end = 0,
           execs_end = 0;  ///< slots from here on were never used, nor their memory touched
  int epoll = -1, listener = -1, signals = -1, own_pid_namespace = -1, pause_pidfd = -1;
  uint64_t sequence = 0;
  LogLimit log_limit;
  int host = -1;  ///< the client whose end is ours (ends_with_host)
  Waiter shutdown;
  bool ending = false;
  int64_t ending_until_ns = 0;
  long keeper = 0;  ///< the child that writes to the disk
};
/// Slots that are or were in use.
template <class T>
struct Slots {
  T* first;
  uint32_t count;
  T* begin() const { return first; }
  T* end() const { return first + count; }
};
/// The one instance: zero bytes at start (so the program file stays small), made by run_shim().
Shim& shim();
inline Slots<Container> containers() { return {shim().containers, shim().containers_end}; }
inline Slots<Exec> execs() { return {shim().execs, shim().execs_end}; }
/// A slot that nobody uses; nullptr: all are taken.
template <class T, size_t N>
T* free_slot(T (&all)[N], uint32_t& end) {
  for (uint32_t i = 0; i < N; ++i) {
    if (i < end && all[i].used) continue;
    if (i >= end) end = i + 1;
    return &all[i];
  }
  return nullptr;
}

// What epoll answers with: a kind and an index.
enum class Source : uint32_t { listener, signals, client, report, exec_report, stream, input, orphan };
void watch(int fd, uint32_t events, Source source, uint32_t index);
void rewatch(int fd, uint32_t events, Source source, uint32_t index);
void unwatch(int& fd);  ///< and closes it

// shim_control.cpp
void accept_client();
int add_client(int fd);      ///< its slot; -1: none is free, `fd` was closed
void subscribe(int client);  ///< sends every record now, and each change from now on
void client_ready(int index, uint32_t events);
void close_client(int index);
bool send_frame(int client, Op op, uint32_t request, int status, uint16_t flags, const void* bytes,
                uint32_t size, int fd = -1);
void answer(const Waiter& waiter, int status, const void* bytes = nullptr, uint32_t size = 0, int fd = -1);
void answer_failure(const Waiter& waiter, int error, orchestra::wire::Stage stage, const char* text);
bool is_open(const Waiter& waiter);
void publish(Container& container);  ///< an event to all subscribers
void send_output(int container, int stream, const char* bytes, uint32_t size);

// shim_container.cpp
int find_container(const char* id);
void create_container(const Waiter& waiter, const CreateRequest& request, const orchestra::wire::Plan* plan);
void start_container(const Waiter& waiter, int index);
void remove_container(const Waiter& waiter, int index);
void start_exec(const Waiter& waiter, int index, uint32_t flags, const orchestra::wire::Plan* plan, int* fds);
void report_ready(int index);
void exec_report_ready(int index);
void stream_ready(int index, int stream);
void write_input(Client& client);
void input_writable(int index);
void close_input(Container& container);
void orphan_ended(int index);
void adopt_containers();
void reap();
void tick(int64_t now);      ///< what waits for time: drains, the end
int64_t next_deadline_ns();  ///< steady; 0 = none
void begin_shutdown(const Waiter& waiter);
void save_state(Container& container);

// shim_log.cpp
void open_log(Container& container);
void write_log(Container& container, int stream, const char* bytes, size_t size);
void report_log(Container& container);  ///< says what was dropped
void end_log(Container& container);

// shim_keep.cpp
void keep_exits();       ///< starts a child that writes what is unkept, unless one writes already
void keeper_ended();     ///< it was reaped
void wait_for_keeper();  ///< after this nothing is written until the next exit

// shim_kill.cpp
/// SIGKILL to every descendant of this process whose root is `root` (nullptr: to all). The number found.
int kill_descendants(const char* root);
/// SIGKILL to every process that the cgroup.procs file lists. The number found.
int kill_cgroup(const char* procs_file);
uint64_t start_ticks_of(long pid);

}  // namespace orch
