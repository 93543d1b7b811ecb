#pragma once
// Fd: an owned file descriptor, and the few kernel calls that every shell needs in the same safe form.
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "orchestra/result.hpp"

namespace orchestra {

class ORC_API Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Fd() { reset(); }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();
  Result<Fd> duplicate() const;  ///< CLOEXEC

 private:
  int fd_ = -1;
};

/// "openat2 /srv/x: No such file or directory (ENOENT)": the call, the object, errno by text and name.
/// The code is chosen from errno (ENOENT not_found, EEXIST already_exists, EACCES/EPERM denied,
/// ENOSPC/EDQUOT no_space, EBUSY busy, else io).
ORC_API Error system_error(const char* domain, std::string_view call, std::string_view object, int error_number);

/// open(2) with O_CLOEXEC.
ORC_API Result<Fd> open_file(const std::string& path, int flags, mode_t mode = 0644);
/// openat2(2) with RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS below `root`; retries EAGAIN and EXDEV 32 times.
ORC_API Result<Fd> open_in_root(const Fd& root, const std::string& path, int flags, mode_t mode = 0);
ORC_API Result<std::string> read_file(const std::string& path, std::size_t bytes_max);
ORC_API Result<void> write_file(const std::string& path, std::string_view bytes, mode_t mode = 0644);
/// Temporary file in the same folder, fsync when `durable`, rename.
ORC_API Result<void> replace_file(const std::string& path, std::string_view bytes, mode_t mode, bool durable);
ORC_API Result<void> write_all(int fd, std::string_view bytes);
ORC_API Result<void> make_directories(const std::string& path, mode_t mode = 0755);
/// Removes a tree without following symbolic links or crossing mounts. A missing path is fine.
ORC_API Result<void> remove_tree(const std::string& path);

ORC_API Result<Fd> open_pidfd(pid_t pid);
/// Start time of a process in clock ticks since boot (/proc/PID/stat field 22): with the pid, an identity.
ORC_API Result<std::uint64_t> process_start_time(pid_t pid);
ORC_API Result<std::pair<Fd, Fd>> make_pipe();         ///< read end, write end; CLOEXEC
ORC_API Result<std::pair<Fd, Fd>> make_socket_pair();  ///< SOCK_SEQPACKET; CLOEXEC

}  // namespace orchestra
