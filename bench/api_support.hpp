#pragma once
// What the measurements of the API server share: a server, its objects, a plain HTTP/1.1 connection.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>

#include "api/object_tree.hpp"
#include "base/fd.hpp"
#include "base/json.hpp"
#include "bench/bench.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/raft_store.hpp"

namespace orchestra::bench::server_area {

inline double ms_since(std::int64_t begin) { return static_cast<double>(now_ns() - begin) / 1e6; }

/// A line of /proc/self/status in MB: VmRSS, VmHWM.
inline double memory_mb(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name + ":")) return std::atof(line.c_str() + name.size() + 1) / 1024 * 1.048576;
  }
  return 0;
}
inline double rss_mb() { return memory_mb("VmRSS"); }
/// From here on VmHWM is the peak; false where the kernel does not let us.
inline bool reset_peak() {
  std::ofstream file("/proc/self/clear_refs");
  return static_cast<bool>(file << "5" << std::flush);
}

/// With what the server adds, 5.6 kB as they are sent.
constexpr std::size_t kPadding = 3600;
inline Object pod(int i, std::size_t padding, const std::string& ns = "default") {
  json::value tree{
      {"apiVersion", "v1"},
      {"kind", "Pod"},
      {"metadata",
       {{"name", "pod-" + std::to_string(100000 + i)},
        {"namespace", ns},
        {"labels", {{"app", "web"}, {"n", std::to_string(i % 10)}}},
        {"annotations", {{"padding", std::string(padding, 'x')}}}}},
      {"spec", {{"containers", json::array{{{"name", "main"}, {"image", "registry.test/web:v1"}}}}}}};
  return object_from_tree(std::move(tree));
}
inline Object config_map(const std::string& name) {
  return Object::from_json(
             R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"default","name":")" + name +
             R"("},"data":{"k":"v"}})")
      .value();
}
/// In batches of one revision each.
template <class F>
void create_many(const Client& client, const std::string& api_version, const std::string& resource,
                 const std::string& ns, int begin, int end, F make) {
  while (begin < end) {
    std::vector<ApiRequest> requests;
    for (int k = 0; k < 250 && begin < end; ++k, ++begin) {
      ApiRequest request{.verb = "create", .api_version = api_version, .resource = resource, .ns = ns};
      request.object = make(begin);
      requests.push_back(std::move(request));
    }
    for (const auto& made : client.batch(std::move(requests)).wait(std::chrono::seconds(60)).value())
      made.value();
  }
}

struct Server {
  Engine engine;
  std::shared_ptr<StateStore> store;
  std::unique_ptr<ApiServer> server;
  explicit Server(const std::string& raft_folder = {}) {
    if (raft_folder.empty()) {
      store = MemoryStore::create(engine);
    } else {
      RaftStoreOptions options;
      options.data_dir = raft_folder;
      store = RaftStore::open(engine, options).value();
    }
    server = std::make_unique<ApiServer>(
        engine, store, ApiServerOptions{.listen = "127.0.0.1:0", .insecure_http = "127.0.0.1:0"});
    server->start().value();
  }
  ~Server() {
    server->stop();
    server.reset();
  }
};

/// A blocking HTTP/1.1 connection.
class Connection {
 public:
  explicit Connection(const std::string& address) {
    const std::size_t colon = address.rfind(':');
    fd_ = Fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(std::atoi(address.c_str() + colon + 1)));
    inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr);
    ok_ = connect(fd_.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
    const int on = 1;
    setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  bool ok() const { return ok_; }
  int fd() const { return fd_.get(); }
  void send(const std::string& method, const std::string& path, const std::string& body = {},
            const std::string& fields = {}) {
    std::string text = method + " " + path + " HTTP/1.1\r\nHost: bench\r\n" + fields +
                       "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
                       "\r\n\r\n" + body;
    ok_ = ok_ && write_all(fd_.get(), text).has_value();
  }
  /// Reads one whole answer; its length in bytes.
  std::size_t receive() {
    std::size_t head = std::string::npos;
    while (head == std::string::npos) {
      if (!fill()) return 0;
      head = buffer_.find("\r\n\r\n");
    }
    status_ = std::atoi(buffer_.c_str() + 9);
    const std::string headers = buffer_.substr(0, head);
    std::size_t total = 0;
    if (const std::size_t at = headers.find("Content-Length: "); at != std::string::npos) {
      total = head + 4 + static_cast<std::size_t>(std::atoll(headers.c_str() + at + 16));
      while (buffer_.size() < total) {
        if (!fill()) return 0;
      }
    } else {
      while (!buffer_.ends_with("\r\n0\r\n\r\n")) {
        if (!fill()) return 0;
      }
      total = buffer_.size();
    }
    buffer_.erase(0, total);
    body_bytes_ = total - head - 4;
    return total;
  }
  /// The same, but nothing of it is kept: for memory, and for answers of many megabytes.
  std::size_t discard() {
    static thread_local char bytes[64 << 10];
    std::string kept;  // the head, then the last bytes of the body
    std::size_t total = 0, wanted = 0;
    while (wanted == 0 || total < wanted) {
      const ssize_t count = read(fd_.get(), bytes, sizeof bytes);
      if (count <= 0) return 0;
      total += static_cast<std::size_t>(count);
      kept.append(bytes, static_cast<std::size_t>(count));
      if (wanted == 0) {
        const std::size_t head = kept.find("\r\n\r\n");
        if (head == std::string::npos) continue;
        status_ = std::atoi(kept.c_str() + 9);
        const std::size_t at = kept.find("Content-Length: ");
        wanted =
            at < head ? head + 4 + static_cast<std::size_t>(std::atoll(kept.c_str() + at + 16)) : SIZE_MAX;
      }
      if (wanted == SIZE_MAX && kept.ends_with("\r\n0\r\n\r\n")) return total;
      kept.erase(0, kept.size() - std::min<std::size_t>(kept.size(), 16));
    }
    return total;
  }
  int status() const { return status_; }
  std::size_t body_bytes() const { return body_bytes_; }  ///< of the last receive()

 private:
  bool fill() {
    const std::size_t old = buffer_.size();
    buffer_.resize(old + (256 << 10));
    const ssize_t count = read(fd_.get(), buffer_.data() + old, 256 << 10);
    buffer_.resize(old + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    return count > 0;
  }
  Fd fd_;
  bool ok_ = false;
  int status_ = 0;
  std::size_t body_bytes_ = 0;
  std::string buffer_;
};

/// A listener on a free port of the loopback.
struct Listener {
  Fd fd{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::string address;
  Listener() {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof at);
    listen(fd.get(), 4096);
    socklen_t size = sizeof at;
    getsockname(fd.get(), reinterpret_cast<sockaddr*>(&at), &size);
    address = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
  }
};

/// The floor of a fan-out: a bare loop that writes the same bytes to each of so many sockets; milliseconds to
/// the 99th percentile, median of some rounds. bench/api_fanout.cpp.
double fanout_floor_ms(int sockets, std::size_t bytes, int rounds);
/// bench/api_codec.cpp
void measure_codecs(const Options& options, Report& report);

}  // namespace orchestra::bench::server_area
