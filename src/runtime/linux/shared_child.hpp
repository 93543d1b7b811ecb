#pragma once
// Children that share this process's memory while it waits for them (CLONE_VM | CLONE_VFORK).
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

// The C library's clone() under the name that ThreadSanitizer does not wrap: it takes each clone for a fork,
// and would note in the memory that both share that this process is a forked child.
extern "C" int __clone(int (*call)(void*), void* stack, int flags, void* argument, ...) noexcept;

namespace orchestra::runtime {

/// Runs `call(argument)` in such a child; it ends by end_child(). The pid, or -1 and errno.
inline pid_t clone_child(int (*call)(void*), char* stack_top, int flags, void* argument,
                         int* pidfd = nullptr) {
  return __clone(call, stack_top, flags | CLONE_VM | CLONE_VFORK, argument, pidfd);
}

/// Ends the child and nothing else: sanitizers take _exit for the end of the program.
[[noreturn]] inline void end_child(int code) {
  while (true) syscall(SYS_exit_group, code);
}

class ChildStack {
 public:
  explicit ChildStack(std::size_t bytes)
      : bytes_(bytes),
        bottom_(
            mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) {}
  ~ChildStack() {
    if (!*this) return;
#if defined(__SANITIZE_ADDRESS__)
    // A child that ends leaves its frames marked; the next mapping at this address would inherit
    // that.
    ASAN_UNPOISON_MEMORY_REGION(bottom_, bytes_);
#endif
    munmap(bottom_, bytes_);
  }
  ChildStack(const ChildStack&) = delete;
  ChildStack& operator=(const ChildStack&) = delete;

  explicit operator bool() const { return bottom_ != MAP_FAILED; }
  char* bottom() const { return static_cast<char*>(bottom_); }
  char* top() const { return bottom() + bytes_; }

 private:
  std::size_t bytes_;
  void* bottom_;
};

}  // namespace orchestra::runtime
