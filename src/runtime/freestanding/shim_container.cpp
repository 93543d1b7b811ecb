// The life of containers and execs inside the shim: birth, start, output, end.
//
// A container is a clone of this process that runs orch-init (nothing is executed for it: shim and init
// are one small program). Its end: waitid(WNOWAIT) -> streams drained -> record on disk -> reaped ->
// event. A process that holds the streams longer than the container's main process delays the record
// at most kDrainNs. An exit code that nobody saw is `known = 0`, never a guess.
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "init_steps.hpp"
#include "shim.hpp"

namespace orch {

using namespace orchestra::wire;

namespace {
constexpr int64_t kDrainNs = 1000000000;    ///< a grandchild may hold a stream for ever
constexpr int64_t kEndingNs = 10000000000;  ///< shutdown: what is not dead by then never will be
constexpr size_t kReadBytes = 64 << 10;
constexpr char kTargetEnded[] = "the container whose processes are to be seen has ended";
char g_read[kReadBytes];

void close_streams(Container& container) {
  if (container.streams[0] == container.master) container.streams[0] = -1;
  unwatch(container.streams[0]);
  unwatch(container.streams[1]);
  if (container.input == container.master) container.input = -1;
  unwatch(container.input);
  unwatch(container.master);
}

void release(Container& container) {
  close_streams(container);
  unwatch(container.report);
  unwatch(container.pidfd);
  end_log(container);
  container.used = false;
}

void set_reason(Container& container, const ReportMessage& failure) {
  Line<kReasonBytes> reason;
  reason.add(stage_name(failure.stage))
      .add(": ")
      .add(failure.text)
      .add(": errno ")
      .add(static_cast<long>(failure.error));
  copy(container.record.reason, reason.text, reason.used + 1);
}

/// Opens both ends of an output fifo: [0] ours for reading, [1] for the container.
bool open_fifo(const Container& container, const char* name, int ends[2]) {
  Line<kPathBytes + 16> path;
  path.add(container.config.directory).add("/").add(name);
  const long made = sys(__NR_mknodat, AT_FDCWD, arg(path.text), 0010000 /* S_IFIFO */ | 0600, 0);
  if (made < 0 && made != -EEXIST) return false;
  ends[1] = static_cast<int>(open_at(AT_FDCWD, path.text, O_RDWR));
  if (ends[1] < 0) return false;
  sys(__NR_fchown, ends[1], container.config.uid, container.config.gid);  // so that /dev/stdout can be opened
  ends[0] = static_cast<int>(open_at(AT_FDCWD, path.text, O_RDONLY | O_NONBLOCK));
  return ends[0] >= 0;
}

struct Streams {
  int input = -1, output[2] = {-1, -1}, error[2] = {-1, -1}, report[2] = {-1, -1};
  void close_all() {
    const int theirs[] = {input, output[1], error[1], report[1]};
    for (const int fd : theirs) close_fd(fd);
    input = output[1] = error[1] = report[1] = -1;
  }
};

bool open_streams(Container& container, Streams& s) {
  if (sys(__NR_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, arg(s.report)) < 0) return false;
  if ((container.config.flags & kWantTerminal) != 0) return true;
  if ((container.config.flags & kWantInput) != 0) {
    int ends[2];
    if (sys(__NR_pipe2, arg(ends), O_CLOEXEC) < 0) return false;
    s.input = ends[0];
    container.input = ends[1];
    sys(__NR_fcntl, container.input, F_SETFL, O_NONBLOCK);
    sys(__NR_fchown, s.input, container.config.uid, container.config.gid);
  } else {
    s.input = static_cast<int>(open_at(AT_FDCWD, "/dev/null", O_RDONLY));
  }
  if (!open_fifo(container, "stdout", s.output) || !open_fifo(container, "stderr", s.error)) return false;
  container.streams[0] = s.output[0];
  container.streams[1] = s.error[0];
  return s.input >= 0;
}

struct Born {
  long pid = -EIO;
  int pidfd = -1;
};

/// The way of a shim that could not come back (its own pid namespace belongs to the user namespace above):
/// a short-lived child with our descriptors enters and clones; CLONE_PARENT makes the result our child.
long clone_inside_by_child(int pid_namespace, const Plan* plan, uint64_t flags, int* pidfd, bool& in_cgroup) {
  int ends[2], ignored = -1;
  const long piped = sys(__NR_pipe2, arg(ends), O_CLOEXEC);
  if (piped < 0) return piped;
  const long between = clone_process(CLONE_FILES, SIGCHLD, &ignored);
  if (between == 0) {
    Born born;
    kept().start = -1;  // nothing was opened for this child: zero would be a descriptor
    born.pid = sys(__NR_setns, pid_namespace, CLONE_NEWPID);
    if (born.pid >= 0)
      born.pid =
          clone_into(text_at(plan, plan->cgroup_unified), flags | CLONE_PARENT, 0, &born.pidfd, in_cgroup);
    if (born.pid == 0) return 0;
    write_fd(ends[1], &born, sizeof born);
    exit_now(0);
  }
  Born born;
  if (between > 0) {
    int status;
    sys(__NR_wait4, between, arg(&status), 0, 0);
    sys(__NR_read, ends[0], arg(&born), sizeof born);
  } else {
    born.pid = between;
  }
  close_fd(ignored);
  close_fd(ends[0]);
  close_fd(ends[1]);
  *pidfd = born.pidfd;
  return born.pid;
}

/// Enters the pid namespace for children, clones, comes back.
long clone_inside(int pid_namespace, const Plan* plan, uint64_t flags, int* pidfd, bool& in_cgroup,
                  Refusal& why) {
  if (pid_namespace >= 0 && (shim().config.namespaces & CLONE_NEWUSER) != 0) {
    const long pid = clone_inside_by_child(pid_namespace, plan, flags, pidfd, in_cgroup);
    if (pid < 0) why.text.add("clone3 in the pod's pid namespace");
    return pid;
  }
  if (pid_namespace >= 0) {
    if (shim().own_pid_namespace < 0)
      shim().own_pid_namespace = static_cast<int>(open_at(AT_FDCWD, "/proc/self/ns/pid", O_RDONLY));
    const long entered = sys(__NR_setns, pid_namespace, CLONE_NEWPID);
    if (entered < 0) {
      why.stage = Stage::join_namespace;
      why.text.add("pid namespace");
      return entered;
    }
  }
  const long pid = clone_container(plan, flags, pidfd, in_cgroup, why);
  if (pid != 0 && pid_namespace >= 0) sys(__NR_setns, shim().own_pid_namespace, CLONE_NEWPID);
  return pid;
}

uint32_t index_of(const Container& container) {
  return static_cast<uint32_t>(&container - shim().containers);
}

bool still_has_processes(Container& container) {
  if (container.config.root[0] != 0) return kill_descendants(container.config.root) > 0;
  if (container.config.own_pid_namespace == 0 && container.config.cgroup[0] != 0)
    return kill_cgroup(container.config.cgroup) > 0;
  return false;
}

bool read_counter(const char* file, const char* name, uint64_t& value) {
  char text[512];
  if (file[0] == 0 || read_text(AT_FDCWD, file, text, sizeof text) <= 0) return false;
  for (const char* at = text; *at != 0;) {
    if (starts_with(at, name)) {
      value = 0;
      for (at += length(name); *at >= '0' && *at <= '9'; ++at)
        value = value * 10 + static_cast<uint64_t>(*at - '0');
      return true;
    }
    while (*at != 0 && *at != '\n') ++at;
    if (*at == '\n') ++at;
  }
  return false;
}

/// Reads what is there. False when the stream has ended (or was closed before).
bool drain_stream(Container& container, int stream) {
  int& fd = container.streams[stream];
  if (fd < 0) return false;
  for (int rounds = 0; rounds < 64; ++rounds) {
    const long n = sys(__NR_read, fd, arg(g_read), kReadBytes);
    if (n == -EINTR) continue;
    if (n == -EAGAIN) return true;
    if (n <= 0) {  // end; EIO is how a terminal says it
      if (fd == container.master) {
        sys(__NR_epoll_ctl, shim().epoll, EPOLL_CTL_DEL, fd, 0);
        fd = -1;
      } else {
        unwatch(fd);
      }
      return false;
    }
    write_log(container, stream, g_read, static_cast<size_t>(n));
    send_output(static_cast<int>(index_of(container)), stream, g_read, static_cast<uint32_t>(n));
  }
  return true;
}

void finish(Container& container) {
  ContainerRecord& record = container.record;
  container.drain_until_ns = 0;
  end_log(container);
  close_streams(container);
  record.phase = Phase::exited;
  record.sequence = ++shim().sequence;
  save_state(container);
  if (!container.adopted && record.pid > 0) {
    int status;
    sys(__NR_wait4, record.pid, arg(&status), WNOHANG, 0);
  }
  publish(container);
  const int index = static_cast<int>(index_of(container));
  for (uint32_t i = 0; i < kClientsMax; ++i) {
    Client& client = shim().clients[i];
    if (client.fd < 0 || client.attached != index) continue;
    const ExecEnd end{record.code, record.signal, record.known, 0};
    client.attached = -1;
    send_frame(static_cast<int>(i), Op::exec_exited, client.attach_request, 0, 0, &end, sizeof end);
  }
  unwatch(container.pidfd);
  if (container.removing) {
    answer(container.deleting, 0);
    release(container);
  } else if (container.failed && record.started_ns == 0 && container.creating.client == -2) {
    release(container);  // the create failed and was answered: it never existed
  } else {
    container.unkept = true;
    keep_exits();
  }
}

void begin_end(Container& container, int code, int signal, bool known) {
  ContainerRecord& record = container.record;
  container.ended = true;
  report_ready(static_cast<int>(index_of(container)));  // what init said before it died comes first
  record.finished_ns = wall_ns();
  record.code = code;
  record.signal = signal;
  record.known = known ? 1 : 0;
  uint64_t kills = 0;
  if (signal == SIGKILL || code == 128 + SIGKILL) {
    if (read_counter(container.config.oom_file, "oom_kill ", kills) && kills > 0) record.oom_killed = 1;
  }
  const bool more_processes = still_has_processes(container);
  const bool more_out = drain_stream(container, 0), more_error = drain_stream(container, 1);
  const bool more_output = more_out || more_error;
  // With a pid namespace of its own all writers are dead: what was there is everything.
  if (!more_processes &&
      (!more_output || (container.config.own_pid_namespace != 0 && container.master < 0))) {
    finish(container);
    return;
  }
  save_state(container);
  container.drain_until_ns = steady_ns() + kDrainNs;
}

/// 0 still runs, 1 ended (siginfo is filled, not reaped), -1 not our child.
int poll_child(long pid, siginfo_t& info) {
  zero(&info, sizeof info);
  const long result = sys(__NR_waitid, P_PID, pid, arg(&info), WEXITED | WNOHANG | WNOWAIT, 0);
  if (result < 0) return -1;
  return info.si_pid == pid ? 1 : 0;
}
int code_of(const siginfo_t& info) {
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}
int signal_of(const siginfo_t& info) { return info.si_code == CLD_EXITED ? 0 : info.si_status; }

void end_exec(Exec& exec, const siginfo_t& info) {
  exec.ended = true;
  exec_report_ready(static_cast<int>(&exec - shim().execs));
  const ExecEnd end{code_of(info), signal_of(info), 1, 0};
  if (exec.started && is_open(exec.waiter)) {
    send_frame(exec.waiter.client, Op::exec_exited, exec.waiter.request, 0, 0, &end, sizeof end);
  }
  int status;
  sys(__NR_wait4, exec.pid, arg(&status), WNOHANG, 0);
  unwatch(exec.report);
  unwatch(exec.master);
  close_fd(exec.pidfd);
  exec.used = false;
}

bool is_known_child(long pid) {
  for (const Container& container : containers()) {
    if (container.used && container.record.pid == pid) return true;
  }
  for (const Exec& exec : execs()) {
    if (exec.used && exec.pid == pid) return true;
  }
  return false;
}

/// Orphans that came to us as subreaper. Known ones are reaped by whoever waits for them.
void reap_orphans() {
  for (int i = 0; i < 1024; ++i) {
    siginfo_t info;
    zero(&info, sizeof info);
    const long result = sys(__NR_waitid, P_ALL, 0, arg(&info), WEXITED | WNOHANG | WNOWAIT, 0);
    if (result < 0 || info.si_pid == 0 || is_known_child(info.si_pid)) return;
    int status;
    sys(__NR_wait4, info.si_pid, arg(&status), WNOHANG, 0);
  }
}

/// Receives one message of an init; the terminal's descriptor, if one came, goes to `fd`.
long receive_report(int socket, ReportMessage& message, int& fd) {
  iovec piece{&message, sizeof message};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr header;
  zero(&header, sizeof header);
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const long n = sys(__NR_recvmsg, socket, arg(&header), MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n > 0 && header.msg_controllen >= CMSG_LEN(sizeof(int))) {
    cmsghdr* extra = CMSG_FIRSTHDR(&header);
    if (extra != nullptr && extra->cmsg_type == SCM_RIGHTS) copy(&fd, CMSG_DATA(extra), sizeof fd);
  }
  return n;
}

void started(Container& container) {
  unwatch(container.report);
  if (container.record.phase != Phase::created || container.failed) return;
  container.record.phase = Phase::running;
  container.record.started_ns = wall_ns();
  container.record.sequence = ++shim().sequence;
  save_state(container);
  answer(container.starting, 0, &container.record, sizeof container.record);
  publish(container);
}
}  // namespace

void save_state(Container& container) {
  Line<kPathBytes + 16> path, temporary;
  path.add(container.config.directory).add("/state");
  temporary.add(path.text).add(".new");
  const long fd = open_at(AT_FDCWD, temporary.text, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd < 0) return;  // the folder is being removed by the host
  long result = write_fd(static_cast<int>(fd), &container.record, sizeof container.record);
  if (result >= 0) result = write_fd(static_cast<int>(fd), &container.config, sizeof container.config);
  close_fd(static_cast<int>(fd));
  if (result >= 0) sys(__NR_renameat2, AT_FDCWD, arg(temporary.text), AT_FDCWD, arg(path.text), 0);
}

int find_container(const char* id) {
  for (uint32_t i = 0; i < shim().containers_end; ++i) {
    if (shim().containers[i].used && equal(shim().containers[i].config.id, id)) return static_cast<int>(i);
  }
  return -1;
}

/// The pidfd whose pid namespace the container is born in: another container's that the plan names by
/// /proc/PID/ns/pid, or the pod's own. -1: none. -ESRCH: that container has ended.
int namespace_to_enter(const CreateRequest& request, const Plan* plan) {
  for (uint32_t i = 0; i < plan->joins.count; ++i) {
    const JoinStep& step = table_at<JoinStep>(plan, plan->joins)[i];
    if (step.clone_flag != CLONE_NEWPID) continue;
    for (const Container& other : containers()) {
      if (!other.used || other.ended || other.pidfd < 0) continue;
      Line<kIdBytes> path;
      path.add("/proc/").add(other.record.pid).add("/ns/pid");
      if (equal(path.text, text_at(plan, step.path))) return other.pidfd;
    }
    return -ESRCH;
  }
  const bool of_pod = shim().pause_pidfd >= 0 && (plan->clone_flags & CLONE_NEWPID) == 0 &&
                      request.own_pid_namespace == 0 && (plan->flags & kOwnRoot) != 0;
  return of_pod ? shim().pause_pidfd : -1;
}

void create_container(const Waiter& waiter, const CreateRequest& request, const Plan* plan) {
  const int existing = find_container(request.id);
  if (existing >= 0) {  // repeated after a lost answer: the same answer
    Container& container = shim().containers[existing];
    if (container.record.phase == Phase::creating) {
      container.creating = waiter;
    } else {
      answer(waiter, -EEXIST, &container.record, sizeof container.record);
    }
    return;
  }
  const int pid_namespace = namespace_to_enter(request, plan);
  if (pid_namespace == -ESRCH) {
    answer_failure(waiter, ESRCH, Stage::join_namespace, kTargetEnded);
    return;
  }
  Container* slot = free_slot(shim().containers, shim().containers_end);
  if (slot == nullptr || shim().ending) {
    answer_failure(waiter, EAGAIN, Stage::clone,
                   shim().ending ? "the pod is being removed" : "64 containers in the pod");
    return;
  }
  Container& container = *slot;
  container = Container{};
  container.used = true;
  container.config = request;
  container.input_once = (request.flags & kInputOnce) != 0;
  copy(container.record.id, request.id, sizeof request.id);
  copy(container.record.boot_id, shim().identity.boot_id, sizeof container.record.boot_id);
  container.creating = waiter;
  Streams streams;
  if (!open_streams(container, streams)) {
    answer_failure(waiter, EIO, Stage::log, "the container's streams cannot be opened");
    streams.close_all();
    close_fd(streams.report[0]);
    release(container);
    return;
  }
  bool in_cgroup = false;
  Refusal why;
  const long pid = clone_inside(pid_namespace, plan, plan->clone_flags, &container.pidfd, in_cgroup, why);
  if (pid == 0) {
    const bool terminal = (request.flags & kWantTerminal) != 0;
    run_init(plan, terminal ? InitFds{-1, -1, -1, streams.report[1], -1, in_cgroup}
                            : InitFds{streams.input, streams.output[1], streams.error[1], streams.report[1],
                                      -1, in_cgroup});
  }
  streams.close_all();
  if (pid < 0) {
    // It may end while we look; then the kernel says so.
    const bool target_ended = pid == -ESRCH && pid_namespace >= 0 && pid_namespace != shim().pause_pidfd;
    answer_failure(waiter, static_cast<int>(-pid), target_ended ? Stage::join_namespace : why.stage,
                   target_ended ? kTargetEnded : why.text.text);
    close_fd(streams.report[0]);
    release(container);
    return;
  }
  container.report = streams.report[0];
  container.record.phase = Phase::creating;
  container.record.pid = static_cast<int>(pid);
  container.record.start_ticks = start_ticks_of(pid);
  open_log(container);
  const uint32_t index = index_of(container);
  watch(container.report, EPOLLIN, Source::report, index);
  for (uint32_t i = 0; i < 2; ++i) {
    if (container.streams[i] >= 0) watch(container.streams[i], EPOLLIN, Source::stream, index * 2 + i);
  }
}

void report_ready(int index) {
  Container& container = shim().containers[index];
  while (container.used && container.report >= 0) {
    ReportMessage message;
    int fd = -1;
    const long n = receive_report(container.report, message, fd);
    if (n == -EINTR) continue;
    if (n == -EAGAIN) return;
    if (n <= 0) {  // CLOEXEC closed it: the program runs (or init was killed, which its exit tells)
      started(container);
      unwatch(container.report);
      return;
    }
    if (message.kind == Report::terminal && fd >= 0) {
      container.master = container.input = container.streams[0] = fd;
      sys(__NR_fcntl, fd, F_SETFL, O_NONBLOCK);
      watch(fd, EPOLLIN, Source::stream, static_cast<uint32_t>(index) * 2);
      continue;
    }
    close_fd(fd);
    if (message.kind == Report::created) {
      container.record.phase = Phase::created;
      container.record.created_ns = wall_ns();
      container.record.sequence = ++shim().sequence;
      save_state(container);
      answer(container.creating, 0, &container.record, sizeof container.record);
      publish(container);
    } else if (message.kind == Report::failed) {
      container.failed = true;
      container.failure = message;
      set_reason(container, message);
      const bool creating = container.record.phase == Phase::creating;
      answer_failure(creating ? container.creating : container.starting, message.error, message.stage,
                     message.text);
      if (creating) container.creating.client = -2;
    }
  }
}

void start_container(const Waiter& waiter, int index) {
  Container& container = shim().containers[index];
  if (container.record.phase == Phase::running) {  // repeated: it runs
    answer(waiter, 0, &container.record, sizeof container.record);
    return;
  }
  if (container.record.phase != Phase::created || container.report < 0 || container.ended) {
    answer_failure(waiter, EINVAL, Stage::start, "the container is not in state created");
    return;
  }
  container.starting = waiter;
  const char go = 1;
  sys(__NR_sendto, container.report, arg(&go), 1, MSG_NOSIGNAL_ | MSG_DONTWAIT, 0, 0);
}

void remove_container(const Waiter& waiter, int index) {
  Container& container = shim().containers[index];
  if (container.record.phase == Phase::exited) {
    wait_for_keeper();  // what the host removes next is not written again
    release(container);
    keep_exits();
    answer(waiter, 0);
    return;
  }
  container.removing = true;
  container.deleting = waiter;
  if (container.pidfd >= 0) sys(__NR_pidfd_send_signal, container.pidfd, SIGKILL, 0, 0);
}

void start_exec(const Waiter& waiter, int index, uint32_t flags, const Plan* plan, int* fds) {
  Container& container = shim().containers[index];
  if (container.record.phase != Phase::running || container.ended) {
    answer_failure(waiter, ESRCH, Stage::exec, "the container is not running");
    return;
  }
  Exec* slot = free_slot(shim().execs, shim().execs_end);
  int report[2];
  if (slot == nullptr || sys(__NR_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, arg(report)) < 0) {
    answer_failure(waiter, EAGAIN, Stage::exec, "128 commands run in the pod at once");
    return;
  }
  Exec& exec = *slot;
  exec = Exec{};
  const bool joins = (plan->flags & kJoinContainer) != 0 && (plan->flags & kChroot) == 0;
  bool in_cgroup = false;
  Refusal why;
  exec.pid = clone_inside(joins ? container.pidfd : -1, plan, 0, &exec.pidfd, in_cgroup, why);
  if (exec.pid == 0) {
    const bool terminal = (flags & kWantTerminal) != 0;
    const int pidfd = joins ? container.pidfd : -1;
    run_init(plan, terminal ? InitFds{-1, -1, -1, report[1], pidfd, in_cgroup}
                            : InitFds{fds[0], fds[1], fds[2], report[1], pidfd, in_cgroup});
  }
  close_fd(report[1]);
  if (exec.pid < 0) {
    close_fd(report[0]);
    answer_failure(waiter, static_cast<int>(-exec.pid), why.stage, why.text.text);
    return;
  }
  exec.used = true;
  exec.container = index;
  exec.report = report[0];
  exec.waiter = waiter;
  watch(exec.report, EPOLLIN, Source::exec_report, static_cast<uint32_t>(slot - shim().execs));
}

void exec_report_ready(int index) {
  Exec& exec = shim().execs[index];
  while (exec.used && exec.report >= 0) {
    ReportMessage message;
    int fd = -1;
    const long n = receive_report(exec.report, message, fd);
    if (n == -EINTR) continue;
    if (n == -EAGAIN) return;
    if (n <= 0) {
      unwatch(exec.report);
      exec.started = true;
      const int32_t pid = static_cast<int32_t>(exec.pid);
      answer(exec.waiter, 0, &pid, sizeof pid, exec.master);
      unwatch(exec.master);
      return;
    }
    if (message.kind == Report::terminal && fd >= 0) {
      exec.master = fd;
      continue;
    }
    close_fd(fd);
    answer_failure(exec.waiter, message.error, message.stage, message.text);
    unwatch(exec.report);
  }
}

void stream_ready(int index, int stream) {
  Container& container = shim().containers[index];
  if (!container.used) return;
  if (stream == 0 && container.master >= 0) input_writable(index);
  drain_stream(container, stream);
  if (container.ended && container.drain_until_ns != 0 && container.streams[0] < 0 &&
      container.streams[1] < 0 && !still_has_processes(container)) {
    finish(container);
  }
}

void close_input(Container& container) {
  if (container.master >= 0) {
    const char end_of_file = 4;  // ^D: a terminal has no other way
    sys(__NR_write, container.master, arg(&end_of_file), 1);
    return;
  }
  unwatch(container.input);
}

void reap() {
  siginfo_t info;
  for (Container& container : containers()) {
    if (!container.used || container.adopted || container.ended || container.record.pid <= 0) continue;
    if (poll_child(container.record.pid, info) == 1)
      begin_end(container, code_of(info), signal_of(info), true);
  }
  for (Exec& exec : execs()) {
    if (exec.used && poll_child(exec.pid, info) == 1) end_exec(exec, info);
  }
  int status;
  if (shim().keeper > 0 && sys(__NR_wait4, shim().keeper, arg(&status), WNOHANG, 0) == shim().keeper)
    keeper_ended();
  reap_orphans();
  tick(steady_ns());
}

int64_t next_deadline_ns() {
  int64_t next = shim().ending ? steady_ns() + 10000000 : 0;
  for (const Container& container : containers()) {
    if (!container.used) continue;
    const int64_t report = container.log.report_ns;
    if (report != 0 && (next == 0 || report < next)) next = report;
    if (container.drain_until_ns == 0) continue;
    const int64_t look = steady_ns() + 20000000;  // processes to be killed are looked for every 20 ms
    const int64_t at = container.drain_until_ns < look ? container.drain_until_ns : look;
    if (next == 0 || at < next) next = at;
  }
  return next;
}

void tick(int64_t now) {
  for (Container& container : containers()) {
    if (!container.used) continue;
    if (container.log.report_ns != 0 && now >= container.log.report_ns) report_log(container);
    if (container.drain_until_ns == 0) continue;
    const bool processes = still_has_processes(container);
    const bool output = container.streams[0] >= 0 || container.streams[1] >= 0;
    if (now >= container.drain_until_ns || (!processes && !output)) finish(container);
  }
  if (!shim().ending) return;
  bool all_ended = true;
  for (const Container& container : containers())
    all_ended &= !container.used || container.record.phase == Phase::exited;
  const int left = kill_descendants(nullptr);
  if (now < shim().ending_until_ns && (!all_ended || left > 0)) return;
  if (shim().pause_pidfd >= 0) {
    sys(__NR_pidfd_send_signal, shim().pause_pidfd, SIGKILL, 0, 0);
    int status;
    sys(__NR_wait4, shim().identity.pause_pid, arg(&status), 0, 0);
  }
  answer(shim().shutdown, 0);
  exit_now(0);
}

void begin_shutdown(const Waiter& waiter) {
  shim().shutdown = waiter;
  if (shim().ending) return;
  shim().ending = true;
  wait_for_keeper();
  shim().ending_until_ns = steady_ns() + kEndingNs;
  for (Container& container : containers()) {
    if (container.used && container.pidfd >= 0) sys(__NR_pidfd_send_signal, container.pidfd, SIGKILL, 0, 0);
    if (container.used && !container.ended && container.config.cgroup[0] != 0)
      kill_cgroup(container.config.cgroup);
  }
  tick(steady_ns());
}

// --- containers of a shim that died ------------------------------------------------------------------

namespace {
// struct pidfd_info of Linux 6.13 and its exit code of 6.15 (include/uapi/linux/pidfd.h).
struct PidfdInfo {
  uint64_t mask, cgroup;
  uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};
constexpr uint64_t kPidfdInfoExit = 1 << 3;
constexpr unsigned long kPidfdGetInfo = 0xc000ff0bul | (sizeof(PidfdInfo) << 16);  // _IOWR(0xFF, 11, ..)

bool exit_of(int pidfd, int& status) {
  PidfdInfo info;
  zero(&info, sizeof info);
  info.mask = kPidfdInfoExit;
  if (sys(__NR_ioctl, pidfd, static_cast<long>(kPidfdGetInfo), arg(&info)) < 0) return false;
  if ((info.mask & kPidfdInfoExit) == 0) return false;
  status = info.exit_code;
  return true;
}

bool load_state(const char* id, StateFile& state) {
  Line<2 * kPathBytes> path;
  path.add(shim().config.directory).add("/c/").add(id).add("/state");
  const long fd = open_at(AT_FDCWD, path.text, O_RDONLY);
  if (fd < 0) return false;
  const long n = sys(__NR_read, fd, arg(&state), sizeof state);
  close_fd(static_cast<int>(fd));
  return n == static_cast<long>(sizeof state) && state.record.magic == kRecordMagic &&
         state.record.version == kProtocolVersion;
}

void adopt(Container& container, const StateFile& state) {
  container = Container{};
  container.used = container.adopted = true;
  container.config = state.request;
  container.record = state.record;
  const bool over = state.record.phase == Phase::exited;
  const bool same = state.record.pid > 0 && start_ticks_of(state.record.pid) == state.record.start_ticks;
  if (over) {
    container.ended = container.unkept = true;
    return;
  }
  container.pidfd = same ? static_cast<int>(sys(__NR_pidfd_open, state.record.pid, 0)) : -1;
  open_log(container);
  const uint32_t index = index_of(container);
  if (state.record.phase == Phase::running && (state.request.flags & kWantTerminal) == 0) {
    const char* names[] = {"stdout", "stderr"};
    for (uint32_t i = 0; i < 2; ++i) {
      Line<kPathBytes + 16> path;
      path.add(container.config.directory).add("/").add(names[i]);
      container.streams[i] = static_cast<int>(open_at(AT_FDCWD, path.text, O_RDONLY | O_NONBLOCK));
      if (container.streams[i] >= 0) watch(container.streams[i], EPOLLIN, Source::stream, index * 2 + i);
    }
  }
  if (container.pidfd >= 0) {
    watch(container.pidfd, EPOLLIN, Source::orphan, index);
  } else if (state.record.finished_ns != 0) {
    begin_end(container, state.record.code, state.record.signal, state.record.known != 0);
  } else {
    const char why[] = "it ended while neither shim nor host was there to see how";
    copy(container.record.reason, why, sizeof why);
    begin_end(container, 0, 0, false);
  }
}
}  // namespace

void orphan_ended(int index) {
  Container& container = shim().containers[index];
  if (!container.used || container.ended) return;
  int status = 0;
  // The code appears when its parent (the host's reaper) has reaped it: a few short looks, then "unknown".
  bool known = false;
  for (int i = 0; i < 50 && !known; ++i) {
    known = exit_of(container.pidfd, status);
    if (known) break;
    const timespec pause{0, 10000000};
    sys(__NR_nanosleep, arg(&pause), 0);
  }
  if (!known) {
    const char why[] =
        "its shim was killed, and this kernel does not tell the exit code of an adopted process";
    copy(container.record.reason, why, sizeof why);
  }
  const int signal = status & 0x7f;
  begin_end(container, known ? (signal != 0 ? 128 + signal : status >> 8 & 0xff) : 0, known ? signal : 0,
            known);
}

void adopt_containers() {
  static StateFile state;
  for (uint32_t i = 0; i < shim().config.adopt_count && i < kContainersMax; ++i) {
    if (!load_state(shim().config.adopt[i], state)) continue;
    shim().containers_end = i + 1;
    adopt(shim().containers[i], state);
  }
  keep_exits();
}

}  // namespace orch
