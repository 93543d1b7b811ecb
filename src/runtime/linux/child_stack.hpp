#pragma once
// Stacks for children that share this process's memory (CLONE_VM | CLONE_VFORK).
#include <sys/mman.h>

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace orchestra::runtime {

class ChildStack {
 public:
  explicit ChildStack(std::size_t bytes)
      : bytes_(bytes),
        bottom_(
            mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) {}
  ~ChildStack() {
    if (!*this) return;
#if defined(__SANITIZE_ADDRESS__)
    // A child that ends in _exit leaves its frames marked; the next mapping at this address would inherit
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
