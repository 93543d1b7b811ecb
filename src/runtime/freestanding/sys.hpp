#pragma once
// System calls without a C library, and the few string helpers that shim and init need.
//
// orch-init runs between fork and exec inside foreign namespaces and a hostile root: no allocation, no
// locale, no loader, nothing but the kernel. Every call returns the kernel's answer: -errno on failure.
// The headers of the C library are used for constants and structures only.
#include <asm/unistd.h>
#include <stddef.h>
#include <stdint.h>

namespace orch {

#if defined(__x86_64__)
inline long sys(long n, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
inline long sys(long n, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  register long x8 __asm__("x8") = n;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
}
#else
#error "orch-shim knows x86_64 and aarch64"
#endif

template <class A>
long arg(A* pointer) {
  return reinterpret_cast<long>(pointer);
}

inline size_t length(const char* text) {
  size_t n = 0;
  while (text[n] != 0) ++n;
  return n;
}
inline bool equal(const char* a, const char* b) {
  while (*a != 0 && *a == *b) ++a, ++b;
  return *a == *b;
}
inline bool starts_with(const char* text, const char* prefix) {
  while (*prefix != 0) {
    if (*text++ != *prefix++) return false;
  }
  return true;
}
inline void copy(void* to, const void* from, size_t bytes) { __builtin_memcpy(to, from, bytes); }
inline void zero(void* at, size_t bytes) { __builtin_memset(at, 0, bytes); }

/// Text put together in a fixed buffer: what does not fit is cut, the NUL always fits.
template <size_t N>
struct Line {
  char text[N];
  size_t used = 0;
  Line() { text[0] = 0; }
  Line& add(const char* more) {
    while (*more != 0 && used + 1 < N) text[used++] = *more++;
    text[used] = 0;
    return *this;
  }
  Line& add(long number) {
    char digits[24];
    size_t n = 0;
    unsigned long rest =
        number < 0 ? 0ul - static_cast<unsigned long>(number) : static_cast<unsigned long>(number);
    do {
      digits[n++] = static_cast<char>('0' + rest % 10);
      rest /= 10;
    } while (rest != 0);
    if (number < 0) digits[n++] = '-';
    while (n > 0 && used + 1 < N) text[used++] = digits[--n];
    text[used] = 0;
    return *this;
  }
};

// Calls used in several files; the rest is written as sys(__NR_..) where it is needed.
inline long close_fd(int fd) { return fd < 0 ? 0 : sys(__NR_close, fd); }
long open_at(int directory, const char* path, int flags, int mode = 0);
long write_fd(int fd, const void* bytes, size_t size);
/// Writes `text` to a file that exists.
long write_text(const char* path, const char* text);
/// Reads a small file completely into `buffer`, NUL-terminated. The number of bytes, or -errno.
long read_text(int directory, const char* path, char* buffer, size_t size);
/// Wall clock in nanoseconds.
int64_t wall_ns();
int64_t steady_ns();
void unblock_signals();
void reset_signals();  ///< all dispositions default, nothing blocked
[[noreturn]] void exit_now(int code);

}  // namespace orch
