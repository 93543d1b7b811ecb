// Long lists: how long they take beside the floor of joining the same bytes and beside nginx with the same
// bytes in a file, and what memory they take while they are sent.
//
// An area of its own, which `api` starts as a program of its own: memory is only seen in a heap that nothing
// used before.
#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "bench/api_support.hpp"

namespace orchestra::bench::server_area {
namespace {
constexpr int kListedPods = 10'000, kPodsOfPart = 3'600;  // the second: 20 MB

double median_ms(int rounds, const std::function<void()>& run) {
  std::vector<double> times;
  for (int round = 0; round < rounds; ++round) {
    const std::int64_t begin = now_ns();
    run();
    times.push_back(ms_since(begin));
  }
  return percentile(times, 0.5);
}

/// Joins stored objects piece by piece and writes them to whoever connects, once for each byte that is sent
/// in.
class JoinFloor {
 public:
  explicit JoinFloor(const std::vector<Object>& objects) : objects_(objects), thread_([this] { serve(); }) {}
  ~JoinFloor() { thread_.join(); }
  const std::string& address() const { return listener_.address; }

 private:
  void serve() const {
    const Fd peer(accept4(listener_.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    for (char turn = 0; read(peer.get(), &turn, 1) == 1;) {
      std::string piece;
      for (const Object& object : objects_) {
        piece += object.json();
        piece += ',';
        if (piece.size() < 256 << 10) continue;
        if (!write_all(peer.get(), piece)) return;
        piece.clear();
      }
      if (!write_all(peer.get(), piece)) return;
    }
  }
  Listener listener_;
  const std::vector<Object>& objects_;
  std::thread thread_;
};

/// nginx with one file, as long as this lives.
class Nginx {
 public:
  Nginx(const std::string& program, const std::string& folder, const std::string& body) : folder_(folder) {
    std::filesystem::create_directories(folder + "/logs");
    std::ofstream(folder + "/pods.json") << body;
    {
      const Listener free_port;
      address_ = free_port.address;
    }
    std::ofstream(folder + "/nginx.conf")
        << "daemon off; worker_processes 1; pid " << folder << "/pid; error_log " << folder
        << "/logs/error.log;\nevents { worker_connections 64; }\nhttp { access_log off; sendfile on; "
           "tcp_nopush on; "
        << "client_body_temp_path " << folder << "/b; proxy_temp_path " << folder << "/p; fastcgi_temp_path "
        << folder << "/f; uwsgi_temp_path " << folder << "/u; scgi_temp_path " << folder
        << "/s;\n server { listen " << address_ << "; root " << folder << "; } }\n";
    pid_ = fork();
    if (pid_ == 0) {
      const std::string config = folder + "/nginx.conf";
      execl(program.c_str(), program.c_str(), "-p", folder.c_str(), "-c", config.c_str(), nullptr);
      _exit(127);
    }
  }
  ~Nginx() {
    kill(pid_, SIGTERM);
    waitpid(pid_, nullptr, 0);
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  /// A connection that answers, or null after ten seconds.
  std::unique_ptr<Connection> connect() const {
    for (int tries = 0; tries < 500; ++tries) {
      auto connection = std::make_unique<Connection>(address_);
      if (connection->ok()) return connection;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return nullptr;
  }

 private:
  const std::string folder_;
  std::string address_;
  pid_t pid_ = -1;
};

/// On PATH, or what tools/fetch-peers.sh has unpacked beside the build.
std::string find_nginx() {
  if (std::string installed = find_program("nginx"); !installed.empty()) return installed;
  const std::string fetched =
      (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "../../peers/root/usr/sbin/nginx")
          .lexically_normal();
  return access(fetched.c_str(), X_OK) == 0 ? fetched : std::string();
}
std::string nginx_version(const std::string& nginx) {
  std::string text;
  FILE* pipe = popen((nginx + " -v 2>&1").c_str(), "r");
  char buffer[256];
  while (pipe != nullptr && fgets(buffer, sizeof buffer, pipe) != nullptr) text += buffer;
  if (pipe != nullptr) pclose(pipe);
  const std::size_t slash = text.find('/');
  return slash == std::string::npos ? ""
                                    : text.substr(slash + 1, text.find_first_of(" \n", slash) - slash - 1);
}

/// MB above `before` at the worst moment of `run`.
template <class F>
std::optional<double> extra_mb(F run) {
  if (!reset_peak()) return std::nullopt;
  const double before = rss_mb();
  run();
  return std::max(0.0, memory_mb("VmHWM") - before);
}

void measure_memory(const std::string& address, Report& report) {
  const char* none = "the kernel does not let us reset the peak (/proc/self/clear_refs)";
  Connection one(address);
  const auto list = extra_mb([&] {
    one.send("GET", "/api/v1/pods");
    one.discard();
  });
  report.add({"list_extra_rss_mb", list, "MB", 2.0, "<=", std::nullopt,
              list ? "peak above the memory before, of the first list of this process" : none});
  std::vector<std::unique_ptr<Connection>> many;
  for (int i = 0; i < 20; ++i) many.push_back(std::make_unique<Connection>(address));
  const auto lists = extra_mb([&] {
    std::vector<std::thread> readers;
    for (auto& connection : many) {
      readers.emplace_back([&connection] {
        connection->send("GET", "/api/v1/namespaces/part/pods");
        connection->discard();
      });
    }
    for (std::thread& reader : readers) reader.join();
  });
  report.add({"list20_extra_rss_mb", lists, "MB", 100.0, "<=", std::nullopt,
              lists ? "with the 20 threads that read them" : none});
}

void measure_times(const Options& options, Server& server, const std::vector<Object>& objects,
                   Report& report) {
  const int rounds = options.quick ? 5 : 11;
  Connection connection(server.server->insecure_address());
  std::size_t bytes = 0;
  const auto list = [&](const std::string& query, const std::string& accept) {
    connection.send("GET", "/api/v1/pods" + query, "", accept.empty() ? "" : "Accept: " + accept + "\r\n");
    bytes = connection.discard();
  };
  const double whole = median_ms(rounds, [&] { list("", ""); });
  report.add(
      {"list_10k_ms", whole, "ms", 150.0, "<=", std::nullopt, std::to_string(bytes / 1000000) + " MB"});
  report.add({"list_selected_10k_ms", median_ms(rounds, [&] { list("?labelSelector=n%3D3", ""); }), "ms",
              std::nullopt});
  report.add(
      {"table_10k_ms",
       median_ms(options.quick ? 3 : 5, [&] { list("", "application/json;as=Table;v=v1;g=meta.k8s.io"); }),
       "ms", 150.0, "<=", std::nullopt, std::to_string(bytes / 1000000) + " MB"});
  std::size_t sent = 0;
  for (const Object& object : objects) sent += object.json().size() + 1;
  {
    JoinFloor floor(objects);
    Connection reader(floor.address());
    std::vector<char> buffer(64 << 10);
    const double joined = median_ms(rounds, [&] {
      (void)!write(reader.fd(), "x", 1);
      for (std::size_t have = 0; have < sent;) {
        const ssize_t count = read(reader.fd(), buffer.data(), buffer.size());
        if (count <= 0) return;
        have += static_cast<std::size_t>(count);
      }
    });
    report.add({"list_vs_join_floor", whole / joined, "x", 2.0, "<=", std::nullopt,
                "the same objects joined and written by a bare thread: " + std::to_string(joined) + " ms"});
  }
  const std::string program = find_nginx();
  if (program.empty()) {
    report.add({"list_vs_nginx_static", std::nullopt, "x", 3.0, "<=", std::nullopt,
                "nginx is neither installed nor fetched (tools/fetch-peers.sh)"});
    return;
  }
  std::string body;
  for (const Object& object : objects) body.append(object.json()).append(",");
  const Nginx nginx(
      program,
      (std::filesystem::temp_directory_path() / ("orc-bench-nginx-" + std::to_string(getpid()))).string(),
      body);
  const auto reader = nginx.connect();
  if (reader == nullptr) {
    report.add(
        {"list_vs_nginx_static", std::nullopt, "x", 3.0, "<=", std::nullopt, program + " did not start"});
    return;
  }
  const double served = median_ms(rounds, [&] {
    reader->send("GET", "/pods.json");
    reader->discard();
  });
  if (reader->status() == 200)
    report.add({"list_vs_nginx_static", whole / served, "x", 3.0,
                "<=", Peer{"nginx", nginx_version(program), served},
                "the peer's value is in ms: the same bytes as a file, sendfile"});
  else
    report.add({"list_vs_nginx_static", std::nullopt, "x", 3.0, "<=", std::nullopt,
                program + " answered " + std::to_string(reader->status())});
}

void run_api_lists(const Options& options, Report& report) {
  Server server;
  const Client client = server.server->client();
  client
      .create(
          Object::from_json(R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"part"}})").value())
      .wait(std::chrono::seconds(5))
      .value();
  create_many(client, "v1", "pods", "part", 0, kPodsOfPart, [](int i) { return pod(i, kPadding, "part"); });
  create_many(client, "v1", "pods", "default", kPodsOfPart, kListedPods,
              [](int i) { return pod(i, kPadding); });
  measure_memory(server.server->insecure_address(), report);
  const std::vector<Object> objects = client.list("v1", "pods").wait(std::chrono::seconds(60)).value().items;
  measure_times(options, server, objects, report);
}

const bool api_lists_registered = register_area("api_lists", run_api_lists);
}  // namespace
}  // namespace orchestra::bench::server_area
