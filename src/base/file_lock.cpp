#include "base/file_lock.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace orchestra {
namespace {
constexpr int kLooks = 100, kLookMs = 10;
constexpr std::size_t kPidBytesMax = 64;

bool is_running(const std::string& pid) {
  const long number = std::strtol(pid.c_str(), nullptr, 10);
  return number > 0 && (kill(static_cast<pid_t>(number), 0) == 0 || errno != ESRCH);
}

std::string first_line(std::string text) { return text.substr(0, text.find_first_of(" \n")); }
}  // namespace

Result<FileLock> lock_file(const std::string& path, bool wait_for_self) {
  FileLock out;
  ORC_ASSIGN(Fd fd, open_file(path, O_RDWR | O_CREAT, 0600));
  const std::string own = std::to_string(getpid());
  for (int look = 0; flock(fd.get(), LOCK_EX | LOCK_NB) != 0; ++look) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return system_error("disk", "flock", path, errno);
    out.holder = first_line(read_file(path, kPidBytesMax).value_or(std::string()));
    const bool waits = out.holder == own ? wait_for_self : !is_running(out.holder);
    if (!waits || look >= kLooks) return out;
    poll(nullptr, 0, kLookMs);
  }
  out.holder.clear();
  if (ftruncate(fd.get(), 0) != 0) return system_error("disk", "ftruncate", path, errno);
  ORC_TRY(write_all(fd.get(), own + "\n"));
  out.fd = std::move(fd);
  return out;
}

}  // namespace orchestra
