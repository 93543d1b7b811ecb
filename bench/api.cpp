// The API server: time to ready, memory, latency of reads and writes, long lists, fan-out of watches.
//
// Clients are threads and sockets of this same process, so the numbers hold their cost too. Each metric
// names its goal from spec/api.md section 14; sizes grow where the cost should not.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "api/object_tree.hpp"
#include "base/fd.hpp"
#include "base/json.hpp"
#include "bench/bench.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/raft_store.hpp"

namespace orchestra::bench {
namespace {
using namespace std::chrono_literals;

double rss_mb() {
  std::ifstream file("/proc/self/statm");
  long pages = 0;
  file >> pages >> pages;
  return static_cast<double>(pages) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1e6;
}
double ms_since(std::int64_t begin) { return static_cast<double>(now_ns() - begin) / 1e6; }

Object pod(int i, std::size_t padding) {
  json::value tree{
      {"apiVersion", "v1"},
      {"kind", "Pod"},
      {"metadata",
       {{"name", "pod-" + std::to_string(100000 + i)},
        {"namespace", "default"},
        {"labels", {{"app", "web"}, {"n", std::to_string(i % 10)}}},
        {"annotations", {{"padding", std::string(padding, 'x')}}}}},
      {"spec", {{"containers", json::array{{{"name", "main"}, {"image", "registry.test/web:v1"}}}}}}};
  return object_from_tree(std::move(tree));
}
Object config_map(const std::string& name) {
  return Object::from_json(
             R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"default","name":")" + name +
             R"("},"data":{"k":"v"}})")
      .value();
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
  ~Server() { server->stop(); }
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
  void send(const std::string& method, const std::string& path, const std::string& body = {}) {
    std::string text = method + " " + path +
                       " HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: " +
                       std::to_string(body.size()) + "\r\n\r\n" + body;
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
    return total;
  }
  int status() const { return status_; }

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
  std::string buffer_;
};

void measure_start(Report& report) {
  const double before = rss_mb();
  const std::int64_t begin = now_ns();
  Server server;
  report.add({"ready_ms_empty", ms_since(begin), "ms", 200.0});
  const std::int64_t cpu = cpu_ns();
  std::this_thread::sleep_for(1s);
  report.add({"idle_cpu_percent", static_cast<double>(cpu_ns() - cpu) / 1e7, "%", 0.5});
  report.add({"rss_idle_mb", rss_mb(), "MB", 30.0, "<=", std::nullopt,
              "this process, " + std::to_string(static_cast<int>(before)) + " MB of it before the server"});
}

void measure_latency(const Options& options, Report& report) {
  const int rounds = options.quick ? 1000 : 5000;
  Server server;
  const Client client = server.server->client();
  client.create(pod(0, 4000)).wait(5s).value();
  Connection connection(server.server->insecure_address());
  std::vector<double> get;
  std::vector<double> create;
  for (int i = 0; i < rounds; ++i) {
    std::int64_t begin = now_ns();
    connection.send("GET", "/api/v1/namespaces/default/pods/pod-100000");
    connection.receive();
    get.push_back(static_cast<double>(now_ns() - begin) / 1e3);
    const std::string body(config_map("c" + std::to_string(i)).json());
    begin = now_ns();
    connection.send("POST", "/api/v1/namespaces/default/configmaps", body);
    connection.receive();
    create.push_back(static_cast<double>(now_ns() - begin) / 1e3);
  }
  report.add({"get_p50_us", percentile(get, 0.5), "us", std::nullopt});
  report.add({"get_p99_us", percentile(get, 0.99), "us", 1000.0});
  report.add({"create_memory_p50_us", percentile(create, 0.5), "us", std::nullopt});
  report.add({"create_memory_p99_us", percentile(create, 0.99), "us", 2000.0});
  std::vector<double> inproc_get;
  std::vector<double> inproc_update;
  for (int i = 0; i < rounds; ++i) {
    std::int64_t begin = now_ns();
    const Object seen = client.get("v1", "pods", "pod-100000", "default").wait(5s).value();
    inproc_get.push_back(static_cast<double>(now_ns() - begin) / 1e3);
    const Object next = seen.with("/metadata/labels/n", "\"" + std::to_string(i) + "\"").value();
    begin = now_ns();
    client.update(next).wait(5s).value();
    inproc_update.push_back(static_cast<double>(now_ns() - begin) / 1e3);
  }
  report.add({"inproc_get_p50_us", percentile(inproc_get, 0.5), "us", std::nullopt});
  report.add({"inproc_update_pod_p50_us", percentile(inproc_update, 0.5), "us", std::nullopt});
}

void measure_fsync(const Options& options, Report& report) {
  const std::string folder =
      (std::filesystem::temp_directory_path() / ("orc-bench-api-" + std::to_string(getpid()))).string();
  {
    Server server(folder);
    Connection connection(server.server->insecure_address());
    std::vector<double> create;
    for (int i = 0; i < (options.quick ? 200 : 1000); ++i) {
      const std::string body(config_map("c" + std::to_string(i)).json());
      const std::int64_t begin = now_ns();
      connection.send("POST", "/api/v1/namespaces/default/configmaps", body);
      connection.receive();
      create.push_back(ms_since(begin));
    }
    report.add({"create_fsync_p50_ms", percentile(create, 0.5), "ms", std::nullopt});
    report.add({"create_fsync_p99_ms", percentile(create, 0.99), "ms", 10.0, "<=", std::nullopt, folder});
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

void measure_throughput(const Options& options, Report& report) {
  constexpr int kThreads = 8;
  Server server;
  const int each = options.quick ? 500 : 2500;
  std::atomic<int> done{0};
  const std::int64_t begin = now_ns();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Connection connection(server.server->insecure_address());
      for (int i = 0; i < each; ++i) {
        connection.send("POST", "/api/v1/namespaces/default/configmaps",
                        std::string(config_map("t" + std::to_string(t) + "-" + std::to_string(i)).json()));
        connection.receive();
        if (connection.status() == 201) ++done;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  report.add({"writes_per_s_memory", done.load() / (ms_since(begin) / 1e3), "1/s", 2000.0, ">="});
}

void measure_lists(const Options& options, Report& report) {
  Server server;
  const Client client = server.server->client();
  int made = 0;
  for (const int size :
       options.quick ? std::vector<int>{1000, 10000} : std::vector<int>{1000, 10000, 20000}) {
    while (made < size) {
      std::vector<ApiRequest> requests;
      for (int k = 0; k < 250 && made < size; ++k, ++made) {
        ApiRequest request{.verb = "create", .resource = "pods", .ns = "default"};
        request.object = pod(made, 4600);
        requests.push_back(std::move(request));
      }
      client.batch(std::move(requests)).wait(60s).value();
    }
    Connection connection(server.server->insecure_address());
    std::vector<double> times;
    std::size_t bytes = 0;
    for (int round = 0; round < 5; ++round) {
      const std::int64_t begin = now_ns();
      connection.send("GET", "/api/v1/pods");
      bytes = connection.receive();
      times.push_back(ms_since(begin));
    }
    const bool goal = size == 10000;
    report.add({goal ? "list_10k_ms" : "list_" + std::to_string(size / 1000) + "k_ms", percentile(times, 0.5),
                "ms", goal ? std::optional<double>(150.0) : std::nullopt, "<=", std::nullopt,
                std::to_string(bytes / 1000000) + " MB"});
    std::int64_t begin = now_ns();
    connection.send("GET", "/api/v1/pods?labelSelector=n%3D3");
    connection.receive();
    report.add(
        {"list_selected_" + std::to_string(size / 1000) + "k_ms", ms_since(begin), "ms", std::nullopt});
  }
}

/// Milliseconds from the write to the last watcher's last byte, and to the 99th percentile of watchers.
void measure_fanout(const Options& options, Report& report) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  for (const int watchers : options.quick ? std::vector<int>{1000} : std::vector<int>{10, 100, 1000}) {
    const std::string name = "fanout_" + std::to_string(watchers) + "_p99_ms";
    Server server;
    std::vector<std::unique_ptr<Connection>> connections;
    const Fd epoll(epoll_create1(EPOLL_CLOEXEC));
    for (int i = 0; i < watchers; ++i) {
      auto connection = std::make_unique<Connection>(server.server->insecure_address());
      if (!connection->ok()) break;
      connection->send("GET", "/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=" +
                                  std::to_string(server.store->revision()));
      epoll_event event{.events = EPOLLIN, .data = {.u64 = static_cast<std::uint64_t>(i)}};
      epoll_ctl(epoll.get(), EPOLL_CTL_ADD, connection->fd(), &event);
      connections.push_back(std::move(connection));
    }
    if (static_cast<int>(connections.size()) < watchers) {
      report.add({name, std::nullopt, "ms", 100.0, "<=", std::nullopt,
                  "only " + std::to_string(connections.size()) + " connections could be opened"});
      continue;
    }
    // Every watcher has its headers when each has been read once.
    std::vector<char> buffer(64 << 10);
    std::vector<epoll_event> events(1024);
    const auto drain = [&](int wanted, std::vector<double>* times, std::int64_t begin) {
      std::vector<bool> seen(static_cast<std::size_t>(watchers), false);
      int count = 0;
      while (count < wanted) {
        const int ready = epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), 10000);
        if (ready <= 0) return false;
        for (int k = 0; k < ready; ++k) {
          const std::size_t i = events[static_cast<std::size_t>(k)].data.u64;
          if (read(connections[i]->fd(), buffer.data(), buffer.size()) <= 0) return false;
          if (seen[i]) continue;
          seen[i] = true;
          ++count;
          if (times != nullptr) times->push_back(ms_since(begin));
        }
      }
      return true;
    };
    bool complete = drain(watchers, nullptr, 0);
    std::vector<double> worst;
    const Client client = server.server->client();
    for (int round = 0; complete && round < 5; ++round) {
      std::vector<double> times;
      const Object object = config_map("event" + std::to_string(round));
      const std::int64_t begin = now_ns();
      client.create(object).wait(5s).value();
      complete = drain(watchers, &times, begin);
      worst.push_back(percentile(times, 0.99));
    }
    const std::optional<double> goal = watchers == 1000 ? std::optional<double>(100.0) : std::nullopt;
    if (complete) {
      report.add({name, percentile(worst, 0.5), "ms", goal});
    } else {
      report.add({name, std::nullopt, "ms", goal, "<=", std::nullopt,
                  "a watcher's event did not arrive within 10 s"});
    }
  }
}

/// Time from the commit of one write until one of N in-process readers has polled it, per reader.
void measure_inproc_watch(const Options& options, Report& report) {
  for (const int readers : {1, 50}) {
    Server server;
    const Client client = server.server->client();
    std::vector<ObjectWatch> watches;
    for (int i = 0; i < readers; ++i) {
      watches.push_back(
          client
              .watch("v1", "configmaps",
                     {.ns = "default", .resource_version = std::to_string(server.store->revision())})
              .value());
    }
    std::vector<double> times;
    for (int round = 0; round < (options.quick ? 500 : 2000); ++round) {
      client.create(config_map("w" + std::to_string(round))).wait(5s).value();
      const std::int64_t begin = now_ns();
      std::size_t seen = 0;
      for (ObjectWatch& watch : watches) {
        if (auto changes = watch.poll()) seen += changes->size();
      }
      if (seen == watches.size()) times.push_back(static_cast<double>(now_ns() - begin) / 1e3);
    }
    report.add({"inproc_watch_" + std::to_string(readers) + "_us", percentile(times, 0.5), "us",
                readers == 1 ? 2.0 : 10.0, "<=", std::nullopt, "all readers together, decoded once"});
  }
}

void run(const Options& options, Report& report) {
  measure_start(report);
  measure_latency(options, report);
  measure_throughput(options, report);
  measure_fsync(options, report);
  measure_inproc_watch(options, report);
  measure_fanout(options, report);
  measure_lists(options, report);
}

const bool registered = register_area("api", run);
}  // namespace
}  // namespace orchestra::bench
