// Entry of the one static program behind every container: orch-shim and orch-init are roles of it.
//
// argv[1] names the role. There is no C library: the stack is read here, memcpy and friends that the
// compiler calls for are here, and exit is a system call.
#include <fcntl.h>
#include <signal.h>
#include <time.h>

#include "roles.hpp"
#include "sys.hpp"

extern "C" {
void* memcpy(void* __restrict to, const void* __restrict from, size_t bytes) {
  auto* t = static_cast<char*>(to);
  const auto* f = static_cast<const char*>(from);
  // Pieces of sixteen, the last one overlapping: for the lines of a log several times faster than a string
  // instruction, whose start alone costs more than such a line.
  if (bytes >= 16 && bytes <= 2048) {
    struct Sixteen {
      uint64_t half[2];
    } piece;
    size_t at = 0;
    for (; at + 16 < bytes; at += 16) {
      __builtin_memcpy(&piece, f + at, 16);
      __builtin_memcpy(t + at, &piece, 16);
    }
    __builtin_memcpy(&piece, f + bytes - 16, 16);
    __builtin_memcpy(t + bytes - 16, &piece, 16);
    return to;
  }
#if defined(__x86_64__)
  __asm__ volatile("rep movsb" : "+D"(t), "+S"(f), "+c"(bytes) : : "memory");
#else
  while (bytes-- > 0) *t++ = *f++;
#endif
  return to;
}
void* memset(void* at, int value, size_t bytes) {
  auto* t = static_cast<char*>(at);
#if defined(__x86_64__)
  __asm__ volatile("rep stosb" : "+D"(t), "+c"(bytes) : "a"(value) : "memory");
#else
  while (bytes-- > 0) *t++ = static_cast<char>(value);
#endif
  return at;
}
void* memmove(void* to, const void* from, size_t bytes) {
  auto* t = static_cast<char*>(to);
  const auto* f = static_cast<const char*>(from);
  if (t < f) {
    for (size_t i = 0; i < bytes; ++i) t[i] = f[i];
  } else {
    for (size_t i = bytes; i > 0; --i) t[i - 1] = f[i - 1];
  }
  return to;
}
int memcmp(const void* a, const void* b, size_t bytes) {
  const auto* x = static_cast<const unsigned char*>(a);
  const auto* y = static_cast<const unsigned char*>(b);
  for (size_t i = 0; i < bytes; ++i) {
    if (x[i] != y[i]) return x[i] - y[i];
  }
  return 0;
}
}

namespace orch {

long open_at(int directory, const char* path, int flags, int mode) {
  return sys(__NR_openat, directory, arg(path), flags | O_CLOEXEC, mode);
}
long write_fd(int fd, const void* bytes, size_t size) {
  const auto* at = static_cast<const char*>(bytes);
  while (size > 0) {
    const long n = sys(__NR_write, fd, arg(at), static_cast<long>(size));
    if (n == -4 /* EINTR */) continue;
    if (n <= 0) return n == 0 ? -5 /* EIO */ : n;
    at += n;
    size -= static_cast<size_t>(n);
  }
  return 0;
}
long write_text(const char* path, const char* text) {
  const long fd = open_at(AT_FDCWD, path, O_WRONLY);
  if (fd < 0) return fd;
  // One write call: cgroup and proc files take a value whole or not at all.
  const long n = sys(__NR_write, fd, arg(text), static_cast<long>(length(text)));
  close_fd(static_cast<int>(fd));
  return n < 0 ? n : 0;
}
long read_text(int directory, const char* path, char* buffer, size_t size) {
  const long fd = open_at(directory, path, O_RDONLY);
  if (fd < 0) return fd;
  size_t used = 0;
  while (used + 1 < size) {
    const long n = sys(__NR_read, fd, arg(buffer + used), static_cast<long>(size - 1 - used));
    if (n == -4) continue;
    if (n <= 0) break;
    used += static_cast<size_t>(n);
  }
  close_fd(static_cast<int>(fd));
  buffer[used] = 0;
  return static_cast<long>(used);
}
static int64_t clock_ns(int clock) {
  timespec now;
  sys(__NR_clock_gettime, clock, arg(&now));
  return static_cast<int64_t>(now.tv_sec) * 1000000000 + now.tv_nsec;
}
int64_t wall_ns() { return clock_ns(CLOCK_REALTIME); }
int64_t steady_ns() { return clock_ns(CLOCK_BOOTTIME); }
void unblock_signals() {
  const uint64_t none = 0;
  sys(__NR_rt_sigprocmask, SIG_SETMASK, arg(&none), 0, 8);
}
void reset_signals() {
  struct {
    void* handler;
    unsigned long flags;
    void* restorer;
    unsigned long mask;
  } action;
  zero(&action, sizeof action);
  for (int number = 1; number <= 64; ++number) sys(__NR_rt_sigaction, number, arg(&action), 0, 8);
  unblock_signals();
}
void exit_now(int code) {
  while (true) sys(__NR_exit_group, code);
}

}  // namespace orch

extern "C" [[noreturn]] __attribute__((used)) void orch_start(long* stack) {
  const long count = stack[0];
  char** args = reinterpret_cast<char**>(stack + 1);
  const char* role = count > 1 ? args[1] : "";
  int code = 2;
  if (orch::equal(role, "shim")) code = orch::run_shim();
  if (orch::starts_with(role, "oci")) code = orch::run_oci(role);
  if (orch::equal(role, "probe")) code = orch::run_probe();
  if (orch::equal(role, "reclaim")) code = orch::run_reclaim();
  if (orch::equal(role, "version")) code = 0;
  orch::exit_now(code);
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n xor %ebp,%ebp\n mov %rsp,%rdi\n and $-16,%rsp\n call orch_start\n hlt\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n mov x29,#0\n mov x0,sp\n bl orch_start\n brk #1\n");
#endif
