// The API server: time to ready, memory, latency of reads and writes, long lists, fan-out of watches.
//
// Clients are threads and sockets of this same process, so the numbers hold their cost too. Each metric
// names its goal from spec/api.md section 14; sizes grow where the cost should not.
#include <sys/epoll.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "bench/api_support.hpp"

namespace orchestra::bench::server_area {
namespace {
using namespace std::chrono_literals;

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

/// From a data folder with 10,000 pods of 5.6 kB to the first answered request.
void measure_full_start(Report& report) {
  const std::string folder =
      (std::filesystem::temp_directory_path() / ("orc-bench-api-full-" + std::to_string(getpid()))).string();
  {
    Server server(folder);
    create_many(server.server->client(), "v1", "pods", "default", 0, 10'000,
                [](int i) { return pod(i, kPadding); });
  }
  {
    const std::int64_t begin = now_ns();
    Server server(folder);
    Connection connection(server.server->insecure_address());
    connection.send("GET", "/api/v1/namespaces/default/pods/pod-109999");
    connection.receive();
    const double took = ms_since(begin);
    report.add({"ready_ms_10k_objects",
                connection.status() == 200 ? std::optional<double>(took) : std::nullopt, "ms", 1000.0,
                "<=", std::nullopt, "one peer on disk, to the first answered GET"});
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

/// The shared library beside this program, without what only debuggers read.
void measure_library(Report& report) {
  const std::filesystem::path library =
      std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "lib/liborchestra.so";
  const std::string strip = find_program("strip");
  const std::string copy =
      (std::filesystem::temp_directory_path() / ("orc-bench-library-" + std::to_string(getpid()))).string();
  std::error_code failed;
  if (!std::filesystem::exists(library)) {
    report.add(
        {"library_mb", std::nullopt, "MB", 20.0, "<=", std::nullopt, library.string() + " is not built"});
  } else if (strip.empty() ||
             std::system((strip + " -o '" + copy + "' '" + library.string() + "'").c_str()) != 0) {
    report.add({"library_mb", std::nullopt, "MB", 20.0, "<=", std::nullopt, "strip (binutils) is not there"});
  } else {
    report.add({"library_mb", static_cast<double>(std::filesystem::file_size(copy, failed)) / 1e6, "MB", 20.0,
                "<=", std::nullopt, "liborchestra.so, stripped; the whole library"});
  }
  std::filesystem::remove(copy, failed);
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
    std::size_t event_bytes = 0;
    const auto drain = [&](int wanted, std::vector<double>* times, std::int64_t begin) {
      std::vector<bool> seen(static_cast<std::size_t>(watchers), false);
      int count = 0;
      while (count < wanted) {
        const int ready = epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), 10000);
        if (ready <= 0) return false;
        for (int k = 0; k < ready; ++k) {
          const std::size_t i = events[static_cast<std::size_t>(k)].data.u64;
          const ssize_t got = read(connections[i]->fd(), buffer.data(), buffer.size());
          if (got <= 0) return false;
          event_bytes = static_cast<std::size_t>(got);
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
    std::optional<double> goal;
    if (watchers == 1000 && complete) {
      connections.clear();
      const double floor = fanout_floor_ms(watchers, event_bytes, 5);
      goal = std::max(100.0, 1.5 * floor);
      report.add({"fanout_vs_socket_floor", percentile(worst, 0.5) / floor, "x", 1.5, "<=", std::nullopt,
                  "a bare loop of writes of " + std::to_string(event_bytes) +
                      " bytes: " + std::to_string(floor) + " ms at p99"});
    }
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

/// What needs a heap that nothing else has used: the area of that name, by this program once more.
void run_apart(const std::string& area, const Options& options, Report& report) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command = "'" + program + "' " + area + " --json" + (options.quick ? " --quick" : "");
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  while (const std::size_t count = pipe == nullptr ? 0 : fread(buffer, 1, sizeof buffer, pipe))
    text.append(buffer, count);
  if (pipe != nullptr) pclose(pipe);
  const auto tree = parse_json(text);
  const json::array* metrics = tree ? array_at(*tree, "/metrics") : nullptr;
  if (metrics == nullptr)
    return report.add({area, std::nullopt, "", std::nullopt, "<=", std::nullopt, "did not run to its end"});
  for (const json::value& one : *metrics) {
    const auto number = [&](const char* at) {
      const json::value* value = find(one, at);
      return value != nullptr && value->is_number() ? std::optional<double>(value->to_number<double>())
                                                    : std::nullopt;
    };
    Metric metric{string_at(one, "/name"), number("/value"), string_at(one, "/unit"), number("/goal"),
                  string_at(one, "/op"),   std::nullopt,     string_at(one, "/note")};
    if (const auto value = number("/peer/value"))
      metric.peer = Peer{string_at(one, "/peer/name"), string_at(one, "/peer/version"), *value};
    report.add(std::move(metric));
  }
}

void run_api(const Options& options, Report& report) {
  measure_start(report);
  measure_library(report);
  measure_latency(options, report);
  measure_throughput(options, report);
  measure_fsync(options, report);
  measure_inproc_watch(options, report);
  measure_codecs(options, report);
  measure_fanout(options, report);
  measure_full_start(report);
  for (const char* area : {"api_lists", "api_overload", "api_scale"}) run_apart(area, options, report);
}

const bool api_registered = register_area("api", run_api);
}  // namespace
}  // namespace orchestra::bench::server_area
