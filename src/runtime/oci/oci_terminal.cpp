#include "runtime/oci/oci_terminal.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>

namespace orchestra::runtime {
namespace {
constexpr int kLookMs = 200;  ///< how often the caller's window size is compared: no SIGWINCH handler here

class RawTerminal {
 public:
  explicit RawTerminal(int fd) : fd_(fd), is_terminal_(tcgetattr(fd, &before_) == 0) {
    if (!is_terminal_) return;
    termios raw = before_;
    cfmakeraw(&raw);
    tcsetattr(fd_, TCSANOW, &raw);
  }
  ~RawTerminal() {
    if (is_terminal_) tcsetattr(fd_, TCSANOW, &before_);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  const int fd_;
  termios before_{};
  const bool is_terminal_;
};

void copy_size(int from, int to, winsize& last) {
  winsize now{};
  if (ioctl(from, TIOCGWINSZ, &now) != 0) return;
  if (now.ws_col == last.ws_col && now.ws_row == last.ws_row) return;
  last = now;
  ioctl(to, TIOCSWINSZ, &now);
}
}  // namespace

void proxy_terminal(const Fd& master, int input, int output, const Fd& ended) {
  const RawTerminal raw(input);
  winsize size{};
  bool reading = true;
  char buffer[16384];
  while (true) {
    copy_size(input, master.get(), size);
    pollfd wait[3] = {{master.get(), POLLIN, 0}, {reading ? input : -1, POLLIN, 0}, {ended.get(), POLLIN, 0}};
    if (poll(wait, 3, kLookMs) < 0 && errno != EINTR) return;
    if (wait[0].revents != 0) {
      const ssize_t n = read(master.get(), buffer, sizeof buffer);
      if (n <= 0) return;
      if (!write_all(output, {buffer, static_cast<std::size_t>(n)})) return;
    } else if (wait[2].revents != 0) {
      return;
    }
    if (wait[1].revents != 0) {
      const ssize_t n = read(input, buffer, sizeof buffer);
      if (n <= 0) reading = false;
      if (n > 0 && !write_all(master.get(), {buffer, static_cast<std::size_t>(n)})) return;
    }
  }
}

}  // namespace orchestra::runtime
