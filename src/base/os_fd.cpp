// Kernel calls behind fd.hpp.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

#include "base/fd.hpp"

namespace orchestra {

void Fd::reset() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

Result<Fd> Fd::duplicate() const {
  const int copy = fcntl(fd_, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return system_error("os", "fcntl F_DUPFD_CLOEXEC", std::to_string(fd_), errno);
  return Fd(copy);
}

Error system_error(const char* domain, std::string_view call, std::string_view object, int error_number) {
  Error::Code code = Error::io;
  switch (error_number) {
    case ENOENT:
    case ESRCH:
      code = Error::not_found;
      break;
    case EEXIST:
      code = Error::already_exists;
      break;
    case EACCES:
    case EPERM:
      code = Error::denied;
      break;
    case ENOSPC:
    case EDQUOT:
      code = Error::no_space;
      break;
    case EBUSY:
    case EADDRINUSE:
      code = Error::busy;
      break;
    case ENOSYS:
    case EOPNOTSUPP:
      code = Error::unsupported;
      break;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      code = Error::resource_exhausted;
      break;
    default:
      break;
  }
  std::string text(call);
  if (!object.empty()) text.append(" ").append(object);
  char buffer[128];
  text.append(": ").append(strerror_r(error_number, buffer, sizeof buffer));
  if (const char* name = strerrorname_np(error_number)) text.append(" (").append(name).append(")");
  return Error(code, domain, std::move(text));
}

Result<Fd> open_file(const std::string& path, int flags, mode_t mode) {
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return system_error("os", "open", path, errno);
  return Fd(fd);
}

Result<Fd> open_in_root(const Fd& root, const std::string& path, int flags, mode_t mode) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? mode : 0;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  for (int attempt = 0;; ++attempt) {
    const long fd = syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof how);
    if (fd >= 0) return Fd(static_cast<int>(fd));
    if ((errno == EAGAIN || errno == EXDEV || errno == EINTR) && attempt < 32) continue;
    return system_error("os", "openat2", path, errno);
  }
}

Result<std::string> read_file(const std::string& path, std::size_t bytes_max) {
  ORC_ASSIGN(Fd fd, open_file(path, O_RDONLY));
  std::string bytes;
  char buffer[16384];
  while (true) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("os", "read", path, errno);
    if (got == 0) return bytes;
    if (bytes.size() + static_cast<std::size_t>(got) > bytes_max) {
      return Error(Error::too_large, "os", path + " has more than " + std::to_string(bytes_max) + " bytes");
    }
    bytes.append(buffer, static_cast<std::size_t>(got));
  }
}

Result<void> write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error("os", "write", "", errno);
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

Result<void> write_file(const std::string& path, std::string_view bytes, mode_t mode) {
  ORC_ASSIGN(Fd fd, open_file(path, O_WRONLY | O_CREAT | O_TRUNC, mode));
  auto written = write_all(fd.get(), bytes);
  if (!written) return written.error().with_context(path);
  return {};
}

/// True if the file says this already, with this mode: then nothing is written, so that a start on a full
/// disk, which writes what it wrote before, succeeds.
static bool says_already(const std::string& path, std::string_view bytes, mode_t mode) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  if ((status.st_mode & 07777) != mode || static_cast<std::size_t>(status.st_size) != bytes.size()) return false;
  auto present = read_file(path, bytes.size() + 1);
  return present && *present == bytes;
}

Result<void> replace_file(const std::string& path, std::string_view bytes, mode_t mode, bool durable) {
  if (says_already(path, bytes, mode)) return {};
  std::string temporary = path + ".XXXXXX";
  Fd fd(mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) return system_error("os", "mkostemp", temporary, errno);
  auto fail = [&](Error error) -> Result<void> {
    unlink(temporary.c_str());
    return error;
  };
  if (fchmod(fd.get(), mode) != 0) return fail(system_error("os", "fchmod", temporary, errno));
  if (auto written = write_all(fd.get(), bytes); !written) return fail(written.error().with_context(path));
  if (durable && fsync(fd.get()) != 0) return fail(system_error("os", "fsync", temporary, errno));
  if (rename(temporary.c_str(), path.c_str()) != 0) return fail(system_error("os", "rename", path, errno));
  if (!durable) return {};
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash == 0 ? 1 : slash);
  ORC_ASSIGN(Fd parent, open_file(folder, O_RDONLY | O_DIRECTORY));
  if (fsync(parent.get()) != 0) return system_error("os", "fsync", folder, errno);
  return {};
}

Result<void> make_directories(const std::string& path, mode_t mode) {
  if (mkdir(path.c_str(), mode) == 0) return {};  // mostly only the last one is missing
  for (std::size_t at = 1; at <= path.size(); ++at) {
    if (at != path.size() && path[at] != '/') continue;
    const std::string part = path.substr(0, at);
    if (mkdir(part.c_str(), mode) == 0 || errno == EEXIST) continue;
    return system_error("os", "mkdir", part, errno);
  }
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && !S_ISDIR(info.st_mode))
    return system_error("os", "mkdir", path, ENOTDIR);
  return {};
}

namespace {
Result<void> remove_below(int parent, const char* name, dev_t device, const std::string& shown, int depth) {
  if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM) return system_error("os", "unlink", shown, errno);
  if (depth > 1000) return Error(Error::too_large, "os", shown + " is nested deeper than 1000 folders");
  Fd fd(openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return system_error("os", "open", shown, errno);
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return system_error("os", "fstat", shown, errno);
  if (info.st_dev != device) return Error(Error::busy, "os", shown + " is a mount point; unmount it first");
  DIR* stream = fdopendir(dup(fd.get()));
  if (stream == nullptr) return system_error("os", "fdopendir", shown, errno);
  Result<void> result;
  while (const dirent* entry = readdir(stream)) {
    const std::string child = entry->d_name;
    if (child == "." || child == "..") continue;
    result = remove_below(fd.get(), child.c_str(), device, shown + "/" + child, depth + 1);
    if (!result) break;
  }
  closedir(stream);
  if (!result) return result;
  if (unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
    return system_error("os", "rmdir", shown, errno);
  return {};
}
}  // namespace

Result<void> remove_tree(const std::string& path) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return {};
    return system_error("os", "lstat", path, errno);
  }
  return remove_below(AT_FDCWD, path.c_str(), info.st_dev, path, 0);
}

Result<Fd> open_pidfd(pid_t pid) {
  const long fd = syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return system_error("os", "pidfd_open", std::to_string(pid), errno);
  return Fd(static_cast<int>(fd));
}

Result<std::uint64_t> process_start_time(pid_t pid) {
  ORC_ASSIGN(std::string text, read_file("/proc/" + std::to_string(pid) + "/stat", 4096));
  const std::size_t paren = text.rfind(')');
  if (paren == std::string::npos) return Error(Error::corrupt, "os", "/proc stat has no command name");
  const char* at = text.c_str() + paren + 1;
  for (int field = 2; field < 21; ++field) {  // after ")" comes field 3
    at = strchr(at + 1, ' ');
    if (at == nullptr) return Error(Error::corrupt, "os", "/proc stat is too short");
  }
  return std::strtoull(at + 1, nullptr, 10);
}

Result<std::pair<Fd, Fd>> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return system_error("os", "pipe2", "", errno);
  return std::pair<Fd, Fd>(Fd(ends[0]), Fd(ends[1]));
}

Result<std::pair<Fd, Fd>> make_socket_pair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return system_error("os", "socketpair", "", errno);
  return std::pair<Fd, Fd>(Fd(ends[0]), Fd(ends[1]));
}

}  // namespace orchestra
