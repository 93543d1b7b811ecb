#include "bench/etcd_peer.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <utility>
#include <vector>

#include "bench/bench.hpp"

namespace orchestra::bench {
namespace {

constexpr std::size_t kFrameHead = 9;
constexpr std::uint8_t kData = 0, kHeaders = 1, kSettings = 4, kPing = 6, kGoAway = 7, kWindowUpdate = 8;
constexpr std::uint8_t kEndStream = 1, kAck = 1, kEndHeaders = 4;
constexpr int kConnectionsMax = 4;
constexpr std::int64_t kConnectNs = 10'000'000'000;
constexpr std::int64_t kTryNs = 300'000'000;

void put_number(std::string& out, std::uint32_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
}
std::uint32_t get_number(const char* at, int bytes) {
  std::uint32_t value = 0;
  for (int i = 0; i < bytes; ++i) value = value << 8 | static_cast<unsigned char>(at[i]);
  return value;
}
void add_frame(std::string& out, std::uint8_t type, std::uint8_t flags, std::uint32_t stream,
               const std::string& payload) {
  put_number(out, static_cast<std::uint32_t>(payload.size()), 3);
  out += static_cast<char>(type);
  out += static_cast<char>(flags);
  put_number(out, stream, 4);
  out += payload;
}
/// RFC 7541 section 6.2.2, with a new name; all strings here are shorter than 127 bytes.
void add_header(std::string& block, const std::string& name, const std::string& value) {
  block += '\0';
  block += static_cast<char>(name.size());
  block += name;
  block += static_cast<char>(value.size());
  block += value;
}
void add_bytes_field(std::string& message, int number, const std::string& bytes) {
  message += static_cast<char>(number << 3 | 2);
  std::size_t size = bytes.size();
  for (; size >= 128; size >>= 7) message += static_cast<char>(size | 128);
  message += static_cast<char>(size);
  message += bytes;
}

/// One connection and the calls on it; each ended call is followed by the next one of the same client.
class Connection {
 public:
  explicit Connection(int fd) : fd_(fd) {
    for (const auto& [name, value] : {std::pair(":method", "POST"),
                                      {":scheme", "http"},
                                      {":path", "/etcdserverpb.KV/Put"},
                                      {":authority", "localhost"},
                                      {"content-type", "application/grpc"},
                                      {"te", "trailers"}})
      add_header(headers_, name, value);
    out_ = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    add_frame(out_, kSettings, 0, 0, {});
    std::string window;
    put_number(window, 1u << 30, 4);
    add_frame(out_, kWindowUpdate, 0, 0, window);
  }
  ~Connection() { ::close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int fd() const { return fd_; }
  bool wants_write() const { return sent_ < out_.size(); }
  std::size_t under_way() const { return calls_.size(); }
  const std::string& trouble() const { return trouble_; }

  void call(int client, std::uint64_t number) {
    char key[32];
    std::snprintf(key, sizeof key, "/bench/key/%011llu",
                  static_cast<unsigned long long>(static_cast<std::uint64_t>(client) * 1000 + number % 1000));
    std::string message;
    add_bytes_field(message, 1, key);
    add_bytes_field(message, 2, std::string(256, 'v'));
    std::string body(1, '\0');
    put_number(body, static_cast<std::uint32_t>(message.size()), 4);
    body += message;
    if (window_ < static_cast<std::int64_t>(body.size())) {
      waiting_.emplace_back(client, number);
      return;
    }
    window_ -= static_cast<std::int64_t>(body.size());
    add_frame(out_, kHeaders, kEndHeaders, next_stream_, headers_);
    add_frame(out_, kData, kEndStream, next_stream_, body);
    calls_[next_stream_] = {client, number, now_ns(), false};
    next_stream_ += 2;
  }

  void write() {
    const ssize_t wrote = ::write(fd_, out_.data() + sent_, out_.size() - sent_);
    if (wrote < 0 && errno != EAGAIN) trouble_ = std::string("write: ") + std::strerror(errno);
    if (wrote > 0) sent_ += static_cast<std::size_t>(wrote);
    if (sent_ == out_.size()) {
      out_.clear();
      sent_ = 0;
    }
  }

  /// `done(client, number, nanoseconds)` for each call that ended well.
  template <class Done>
  void read(Done done) {
    char buffer[64 << 10];
    const ssize_t got = ::read(fd_, buffer, sizeof buffer);
    if (got <= 0) {
      if (got == 0 || errno != EAGAIN) trouble_ = "etcd closed the connection";
      return;
    }
    in_.append(buffer, static_cast<std::size_t>(got));
    std::size_t at = 0;
    while (in_.size() - at >= kFrameHead) {
      const std::uint32_t size = get_number(in_.data() + at, 3);
      if (in_.size() - at - kFrameHead < size) break;
      on_frame(static_cast<std::uint8_t>(in_[at + 3]), static_cast<std::uint8_t>(in_[at + 4]),
               get_number(in_.data() + at + 5, 4) & 0x7FFFFFFF, in_.substr(at + kFrameHead, size), done);
      at += kFrameHead + size;
    }
    in_.erase(0, at);
  }

 private:
  struct Call {
    int client = 0;
    std::uint64_t number = 0;
    std::int64_t began_ns = 0;
    bool answered = false;
  };

  template <class Done>
  void on_frame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream, const std::string& payload,
                Done& done) {
    if (type == kSettings && (flags & kAck) == 0) add_frame(out_, kSettings, kAck, 0, {});
    if (type == kPing && (flags & kAck) == 0) add_frame(out_, kPing, kAck, 0, payload);
    if (type == kGoAway) trouble_ = "etcd said GOAWAY";
    if (type == kWindowUpdate && stream == 0 && payload.size() == 4) {
      window_ += get_number(payload.data(), 4) & 0x7FFFFFFF;
      for (const auto& [client, number] : std::exchange(waiting_, {})) call(client, number);
    }
    const auto found = calls_.find(stream);
    if (found == calls_.end()) return;
    if (type == kData && !payload.empty()) found->second.answered = true;
    if ((type != kData && type != kHeaders) || (flags & kEndStream) == 0) return;
    const Call ended = found->second;
    calls_.erase(found);
    if (!ended.answered) {
      trouble_ = "etcd refused a put";
      return;
    }
    done(ended.client, ended.number, now_ns() - ended.began_ns);
  }

  const int fd_;
  std::string headers_, out_, in_, trouble_;
  std::size_t sent_ = 0;
  std::uint32_t next_stream_ = 1;
  std::int64_t window_ = 65'535;
  std::map<std::uint32_t, Call> calls_;
  std::vector<std::pair<int, std::uint64_t>> waiting_;  ///< until etcd's window opens
};

int connect_to(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  std::snprintf(at.sun_path, sizeof at.sun_path, "%s", path.c_str());
  if (::connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) {
    ::close(fd);
    return -1;
  }
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  return fd;
}

/// User and system time of a process, in microseconds.
double cpu_us_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 2)));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0, system = 0;
  fields >> user >> system;
  return (user + system) * 1e6 / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

EtcdPeer::EtcdPeer(const std::string& folder, const std::vector<std::string>& peers) {
  const std::string program = find_program("etcd");
  if (program.empty()) {
    trouble_ = "etcd is not installed (Debian package etcd-server)";
    return;
  }
  if (std::FILE* told = ::popen((program + " --version").c_str(), "r")) {
    char line[256] = {};
    if (std::fgets(line, sizeof line, told) != nullptr) version_ = line;
    ::pclose(told);
    version_ = version_.substr(std::min(version_.size(), version_.rfind(' ') + 1));
    while (!version_.empty() && version_.back() == '\n') version_.pop_back();
  }
  std::string cluster;
  for (std::size_t i = 0; i < peers.size(); ++i)
    cluster += (i == 0 ? "m" : ",m") + std::to_string(i) + "=http://" + peers[i];
  std::vector<std::string> folders;
  for (std::size_t i = 0; i < std::max<std::size_t>(1, peers.size()); ++i) {
    folders.push_back(folder + "/etcd" + std::to_string(i));
    std::vector<std::string> more{"--listen-peer-urls", "unix://p:0"};
    if (!peers.empty()) {
      const std::string url = "http://" + peers[i];
      more = {"--listen-peer-urls",
              url,
              "--initial-advertise-peer-urls",
              url,
              "--initial-cluster",
              cluster,
              "--name",
              "m" + std::to_string(i)};
    }
    pids_.push_back(start(program, folders.back(), more));
  }
  const std::int64_t until = now_ns() + kConnectNs;
  double best = -1;
  std::string fastest;
  for (const std::string& each : folders) {
    socket_ = each + "/c:0";
    if (!answers(until)) {
      trouble_ = "etcd did not answer within 10 s";
      return;
    }
    const double per_s = folders.size() > 1 ? put(64, kTryNs).per_s : 0;
    if (per_s <= best) continue;
    best = per_s;
    fastest = socket_;
  }
  socket_ = fastest;
}

pid_t EtcdPeer::start(const std::string& program, const std::string& folder,
                      const std::vector<std::string>& more) {
  if (::mkdir(folder.c_str(), 0700) != 0) std::perror("orchestra-bench: mkdir");
  std::vector<std::string> args{"etcd",
                                "--data-dir",
                                "data",
                                "--listen-client-urls",
                                "unix://c:0",
                                "--advertise-client-urls",
                                "http://127.0.0.1:0",
                                "--log-level",
                                "error"};
  args.insert(args.end(), more.begin(), more.end());
  std::vector<char*> raw;
  for (std::string& arg : args) raw.push_back(arg.data());
  raw.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::chdir(folder.c_str()) != 0) ::_exit(126);
  const int log = ::open("etcd.log", O_WRONLY | O_CREAT, 0600);
  if (log < 0 || ::dup2(log, 1) < 0 || ::dup2(log, 2) < 0) ::_exit(126);
  ::execv(program.c_str(), raw.data());
  ::_exit(127);
}

bool EtcdPeer::answers(std::int64_t until) {
  while (now_ns() < until) {
    const int fd = connect_to(socket_);
    if (fd >= 0) {
      ::close(fd);
      if (put(1, 1'000'000).trouble.empty()) return true;
    }
    ::usleep(20'000);
  }
  return false;
}

EtcdPeer::~EtcdPeer() {
  for (const pid_t pid : pids_) {
    if (pid <= 0) continue;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
}

double EtcdPeer::cpu_us() const {
  double sum = 0;
  for (const pid_t pid : pids_) sum += cpu_us_of(pid);
  return sum;
}

EtcdPeer::Load EtcdPeer::put(int clients, std::int64_t for_ns) {
  Load load;
  std::vector<std::unique_ptr<Connection>> connections;
  for (int i = 0; i < std::min(clients, kConnectionsMax); ++i) {
    const int fd = connect_to(socket_);
    if (fd < 0) {
      load.trouble = std::string("connect: ") + std::strerror(errno);
      return load;
    }
    connections.push_back(std::make_unique<Connection>(fd));
  }
  const auto of = [&](int client) -> Connection& {
    return *connections[static_cast<std::size_t>(client) % connections.size()];
  };
  for (int client = 0; client < clients; ++client) of(client).call(client, 0);
  std::vector<double> took;
  const double cpu = cpu_us();
  const std::int64_t began = now_ns();
  const std::int64_t give_up = began + for_ns + kConnectNs;
  std::int64_t ended = 0;
  std::size_t left = static_cast<std::size_t>(clients);
  while (left > 0) {
    std::vector<pollfd> polled;
    for (const auto& each : connections)
      polled.push_back({each->fd(), static_cast<short>(POLLIN | (each->wants_write() ? POLLOUT : 0)), 0});
    ::poll(polled.data(), polled.size(), 1000);
    for (std::size_t i = 0; i < connections.size(); ++i) {
      Connection& each = *connections[i];
      if ((polled[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
        each.read([&](int client, std::uint64_t number, std::int64_t ns) {
          const bool over = now_ns() - began >= for_ns;
          if (!over || took.empty()) {
            took.push_back(static_cast<double>(ns) / 1000);
            ended = now_ns();
          }
          if (over) {
            --left;
          } else {
            each.call(client, number + 1);
          }
        });
      }
      if (each.wants_write()) each.write();
      if (!each.trouble().empty()) load.trouble = each.trouble();
    }
    if (!load.trouble.empty()) return load;
    if (now_ns() > give_up) {
      load.trouble = "etcd answered too late";
      return load;
    }
  }
  load.per_s =
      static_cast<double>(took.size()) * 1e9 / static_cast<double>(std::max<std::int64_t>(1, ended - began));
  load.p50_us = percentile(took, 0.5);
  load.cpu_us = (cpu_us() - cpu) / static_cast<double>(std::max<std::size_t>(1, took.size()));
  return load;
}

}  // namespace orchestra::bench
