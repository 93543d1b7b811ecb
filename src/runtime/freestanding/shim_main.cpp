// orch-shim: the parent of a pod's containers. It outlives the host, owns pipes, terminals and log
// files, writes down how everything ended, and answers the control socket.
//
// It is born by a double fork with a memory file that says what to do, leaves the host's session and
// cgroups, makes the pod's namespaces for itself (so its containers are born inside them and it holds
// them alive), says "ready" and loops. Always true: a container's end is on disk before it is reaped.
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/if.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/sockios.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "init_steps.hpp"
#include "shim.hpp"

namespace orch {

using namespace orchestra::wire;

namespace {
alignas(Shim) char g_shim_bytes[sizeof(Shim)];
}
Shim& shim() { return *reinterpret_cast<Shim*>(g_shim_bytes); }

namespace {
[[noreturn]] void not_ready(Stage stage, long error, const char* text) {
  ReportMessage message;
  message.kind = Report::failed;
  message.stage = stage;
  message.error = static_cast<int>(-error);
  size_t n = 0;
  while (text[n] != 0 && n + 1 < sizeof message.text) message.text[n] = text[n], ++n;
  message.text[n] = 0;
  write_fd(kShimReadyFd, &message, sizeof message);
  exit_now(1);
}

void raise_loopback() {
  const long socket = sys(__NR_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return;  // a kernel without IPv4: nothing to raise
  ifreq request;
  zero(&request, sizeof request);
  copy(request.ifr_name, "lo", 3);
  if (sys(__NR_ioctl, socket, SIOCGIFFLAGS, arg(&request)) == 0) {
    request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
    sys(__NR_ioctl, socket, SIOCSIFFLAGS, arg(&request));
  }
  close_fd(static_cast<int>(socket));
}

/// Pid 1 of a pod whose containers share a pid namespace: reaps, nothing else.
[[noreturn]] void run_pause() {
  reset_signals();
  sys(__NR_close_range, 0, ~0u, 0);
  const uint64_t all = ~0ull;
  sys(__NR_rt_sigprocmask, SIG_SETMASK, arg(&all), 0, 8);
  const uint64_t child = 1ull << (SIGCHLD - 1);
  while (true) {
    while (sys(__NR_wait4, -1, 0, WNOHANG, 0) > 0) {
    }
    sys(__NR_rt_sigtimedwait, arg(&child), 0, 0, 8);
  }
}

void make_namespaces() {
  const ShimConfig& config = shim().config;
  if (config.join_pid != 0 && config.namespaces != 0) {
    const long pidfd = sys(__NR_pidfd_open, config.join_pid, 0);
    const long result = pidfd < 0 ? pidfd : sys(__NR_setns, pidfd, static_cast<long>(config.namespaces));
    if (result < 0) not_ready(Stage::join_namespace, result, "namespaces of the pod's containers");
    close_fd(static_cast<int>(pidfd));
  } else if (config.namespaces != 0) {
    Line<512> why;
    const long entered = config.user.wanted != 0 ? enter_user_namespace(config.user, why) : 0;
    if (entered < 0) not_ready(Stage::user_namespace, entered, why.text);
    const long result = sys(__NR_unshare, static_cast<long>(config.namespaces & ~uint64_t{CLONE_NEWUSER}));
    if (result < 0) not_ready(Stage::unshare, result, "namespaces of the pod");
  }
  const bool fresh = config.join_pid == 0;
  if (fresh && (config.namespaces & CLONE_NEWNET) != 0) raise_loopback();
  if (fresh && (config.namespaces & CLONE_NEWUTS) != 0 && config.hostname[0] != 0) {
    const long result =
        sys(__NR_sethostname, arg(config.hostname), static_cast<long>(length(config.hostname)));
    if (result < 0) not_ready(Stage::hostname, result, config.hostname);
  }
  for (uint32_t i = 0; fresh && i < config.sysctl_count && i < kShimSysctlsMax; ++i) {
    Line<256> path;
    path.add("/proc/sys/").add(config.sysctls[i].path);
    const long result = write_text(path.text, config.sysctls[i].text);
    if (result < 0) not_ready(Stage::sysctl, result, path.text);
  }
  if (config.share_pid != 0) {
    sys(__NR_prctl, PR_SET_NAME, arg("orch-pause"));  // inherited: it has its name before anybody sees it
    const long pid = clone_process(CLONE_NEWPID, SIGCHLD, &shim().pause_pidfd);
    if (pid == 0) run_pause();
    sys(__NR_prctl, PR_SET_NAME, arg("orch-shim"));
    if (pid < 0) not_ready(Stage::clone, pid, "pid 1 of the pod");
    shim().identity.pause_pid = static_cast<int>(pid);
  }
}

void write_identity() {
  ShimIdentity& me = shim().identity;
  me.magic = kRecordMagic;
  me.version = kProtocolVersion;
  me.pid = static_cast<int>(sys(__NR_getpid));
  me.start_ticks = start_ticks_of(me.pid);
  copy(me.boot_id, shim().config.boot_id, sizeof me.boot_id);
  Line<kPathBytes + 32> path, temporary;
  path.add(shim().config.directory).add("/shim");
  temporary.add(path.text).add(".new");
  const long fd = open_at(AT_FDCWD, temporary.text, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd < 0) not_ready(Stage::none, fd, temporary.text);
  long result = write_fd(static_cast<int>(fd), &me, sizeof me);
  close_fd(static_cast<int>(fd));
  if (result >= 0) result = sys(__NR_renameat2, AT_FDCWD, arg(temporary.text), AT_FDCWD, arg(path.text), 0);
  if (result < 0) not_ready(Stage::none, result, path.text);
}

void read_config() {
  const long n = sys(__NR_pread64, kShimConfigFd, arg(&shim().config), sizeof shim().config, 0);
  if (n != static_cast<long>(sizeof shim().config))
    not_ready(Stage::plan, -EINVAL, "size of the shim's configuration");
  if (shim().config.magic != kPlanMagic || shim().config.version != kProtocolVersion) {
    not_ready(Stage::plan, -EINVAL, "version of the shim's configuration");
  }
  close_fd(kShimConfigFd);
  shim().log_limit.bytes_per_second = shim().config.log_bytes_per_second;
}

void leave_host() {
  sys(__NR_setsid);
  sys(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1);
  sys(__NR_prctl, PR_SET_NAME, arg("orch-shim"));
  sys(__NR_umask, 022);
  sys(__NR_chdir, arg("/"));
  if (shim().config.oom_protect != 0) write_text("/proc/self/oom_score_adj", "-998");
}

/// Else stopping the host's service would kill the shim, and with it what it stands for. The v2 group is the
/// one it was born in (spawn.cpp); these are files of v1.
void leave_host_cgroups() {
  const ShimConfig& config = shim().config;
  for (uint32_t i = 0; i < config.cgroup_count && i < kShimCgroupsMax; ++i) {
    const long result = write_text(config.cgroup_files[i], "0");
    if (result < 0) not_ready(Stage::cgroup, result, config.cgroup_files[i]);
  }
}

/// The host makes the v1 groups while this process makes its namespaces.
void wait_for_host() {
  char go;
  long n;
  do {
    n = sys(__NR_read, kShimReadyFd, arg(&go), 1);
  } while (n == -EINTR);
  if (n != 1) exit_now(1);  // the host is gone or gave up
}

void setup_loop() {
  reset_signals();
  const uint64_t all = ~0ull;
  sys(__NR_rt_sigprocmask, SIG_SETMASK, arg(&all), 0, 8);
  const uint64_t child = 1ull << (SIGCHLD - 1);
  shim().signals = static_cast<int>(sys(__NR_signalfd4, -1, arg(&child), 8, O_CLOEXEC | O_NONBLOCK));
  shim().epoll = static_cast<int>(sys(__NR_epoll_create1, EPOLL_CLOEXEC));
  sys(__NR_fcntl, kShimSocketFd, F_SETFD, FD_CLOEXEC);
  shim().listener = kShimSocketFd;
  watch(shim().signals, EPOLLIN, Source::signals, 0);
  watch(shim().listener, EPOLLIN, Source::listener, 0);
}

void handle(uint64_t data, uint32_t events) {
  const auto source = static_cast<Source>(data >> 32);
  const auto index = static_cast<uint32_t>(data);
  switch (source) {
    case Source::listener:
      accept_client();
      break;
    case Source::signals: {
      char ignored[128 * 8];
      while (sys(__NR_read, shim().signals, arg(ignored), sizeof ignored) > 0) {
      }
      reap();
      break;
    }
    case Source::client:
      client_ready(static_cast<int>(index), events);
      break;
    case Source::report:
      report_ready(static_cast<int>(index));
      break;
    case Source::exec_report:
      exec_report_ready(static_cast<int>(index));
      break;
    case Source::stream:
      stream_ready(static_cast<int>(index / 2), static_cast<int>(index % 2));
      break;
    case Source::input:
      input_writable(static_cast<int>(index));
      break;
    case Source::orphan:
      orphan_ended(static_cast<int>(index));
      break;
  }
}

void loop() {
  epoll_event events[32];
  while (true) {
    const int64_t deadline = next_deadline_ns();
    long timeout = -1;
    if (deadline != 0) {
      const int64_t left = deadline - steady_ns();
      timeout = left <= 0 ? 0 : left / 1000000 + 1;
    }
    const long count = sys(__NR_epoll_pwait, shim().epoll, arg(events), 32, timeout, 0, 8);
    for (long i = 0; i < count; ++i) handle(events[i].data.u64, events[i].events);
    if (deadline != 0) tick(steady_ns());
  }
}
}  // namespace

void watch(int fd, uint32_t events, Source source, uint32_t index) {
  epoll_event event;
  event.events = events;
  event.data.u64 = static_cast<uint64_t>(source) << 32 | index;
  sys(__NR_epoll_ctl, shim().epoll, EPOLL_CTL_ADD, fd, arg(&event));
}
void rewatch(int fd, uint32_t events, Source source, uint32_t index) {
  epoll_event event;
  event.events = events;
  event.data.u64 = static_cast<uint64_t>(source) << 32 | index;
  if (sys(__NR_epoll_ctl, shim().epoll, EPOLL_CTL_MOD, fd, arg(&event)) < 0) watch(fd, events, source, index);
}
void unwatch(int& fd) {
  if (fd < 0) return;
  sys(__NR_epoll_ctl, shim().epoll, EPOLL_CTL_DEL, fd, 0);
  close_fd(fd);
  fd = -1;
}

int run_shim() {
  // Slots of containers and execs are made when they are used; zero means unused.
  for (Client& client : shim().clients) client.fd = -1;
  shim().epoll = shim().listener = shim().signals = shim().own_pid_namespace = shim().pause_pidfd = -1;
  shim().shutdown.client = shim().host = -1;
  kept().start = -1;
  read_config();
  leave_host();
  make_namespaces();
  setup_loop();
  write_identity();
  wait_for_host();
  leave_host_cgroups();
  adopt_containers();
  ReportMessage ready;
  ready.kind = Report::created;
  write_fd(kShimReadyFd, &ready, sizeof ready);
  sys(__NR_fcntl, kShimReadyFd, F_SETFD, FD_CLOEXEC);
  sys(__NR_fcntl, kShimReadyFd, F_SETFL, O_NONBLOCK);
  const int host = add_client(kShimReadyFd);
  shim().host = shim().config.ends_with_host != 0 ? host : -1;
  subscribe(host);
  loop();
  return 0;
}

}  // namespace orch
