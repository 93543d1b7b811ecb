// More than the server takes: a thousand clients that each ask again as soon as they have their answer. What
// is above the bound gets 429 with Retry-After at once, health is answered meanwhile, memory stays where it
// was.
//
// An area of its own, which `api` starts as a program of its own: memory is only seen in a heap that nothing
// used before.
#include <sys/epoll.h>
#include <sys/resource.h>

#include <atomic>
#include <thread>

#include "bench/api_support.hpp"

namespace orchestra::bench::server_area {
namespace {
constexpr int kClients = 1000;
constexpr int kPods = 4000;  // each request looks at all of them and finds none: some milliseconds of work

struct Flood {
  std::size_t answered = 0, refused = 0, without_hint = 0, other = 0;
};

/// One thread for all clients. Each answer is read to its end, then the next request goes out, until the time
/// is up.
Flood flood(const std::string& address, double seconds) {
  Flood out;
  const std::string request =
      "GET /api/v1/pods?labelSelector=n%3Dnone HTTP/1.1\r\nHost: bench\r\nAccept: application/json\r\n\r\n";
  struct Waiting {
    std::unique_ptr<Connection> connection;
    std::string text;
  };
  std::vector<Waiting> clients(kClients);
  const Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  for (std::size_t i = 0; i < clients.size(); ++i) {
    clients[i].connection = std::make_unique<Connection>(address);
    epoll_event event{.events = EPOLLIN, .data = {.u64 = i}};
    epoll_ctl(epoll.get(), EPOLL_CTL_ADD, clients[i].connection->fd(), &event);
    (void)write_all(clients[i].connection->fd(), request);
  }
  const std::int64_t end = now_ns() + static_cast<std::int64_t>(seconds * 1e9);
  std::vector<epoll_event> events(256);
  std::vector<char> buffer(16 << 10);
  std::size_t in_flight = clients.size();
  while (in_flight > 0) {
    const int ready = epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), 10'000);
    if (ready <= 0) break;
    for (int k = 0; k < ready; ++k) {
      Waiting& one = clients[events[static_cast<std::size_t>(k)].data.u64];
      const ssize_t count = read(one.connection->fd(), buffer.data(), buffer.size());
      if (count <= 0) {
        epoll_ctl(epoll.get(), EPOLL_CTL_DEL, one.connection->fd(), nullptr);
        ++out.other;
        --in_flight;
        continue;
      }
      one.text.append(buffer.data(), static_cast<std::size_t>(count));
      const std::size_t head = one.text.find("\r\n\r\n");
      if (head == std::string::npos) continue;
      const std::size_t at = one.text.find("Content-Length: ");
      const bool chunked = at == std::string::npos || at > head;
      if (chunked
              ? !one.text.ends_with("\r\n0\r\n\r\n")
              : one.text.size() < head + 4 + static_cast<std::size_t>(std::atoll(one.text.c_str() + at + 16)))
        continue;
      const std::string_view answer = one.text;
      if (answer.starts_with("HTTP/1.1 200")) {
        ++out.answered;
      } else if (answer.starts_with("HTTP/1.1 429")) {
        ++out.refused;
        if (answer.find("Retry-After: ") > head) ++out.without_hint;
      } else {
        ++out.other;
      }
      one.text.clear();
      if (now_ns() < end)
        (void)write_all(one.connection->fd(), request);
      else
        --in_flight;
    }
  }
  out.other += in_flight;  // no answer within ten seconds
  return out;
}

void run_api_overload(const Options& options, Report& report) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  Server server;
  const Client client = server.server->client();
  create_many(client, "v1", "pods", "default", 0, kPods, [](int i) { return pod(i, kPadding); });
  const std::string address = server.server->insecure_address();
  flood(address, 0);  // connections, threads and buffers of a thousand clients are there from here on
  const bool peak = reset_peak();
  const double before = rss_mb();
  std::atomic<bool> over{false};
  std::vector<double> health;
  std::thread asks([&] {
    Connection connection(address);
    while (!over) {
      const std::int64_t begin = now_ns();
      connection.send("GET", "/livez");
      connection.receive();
      health.push_back(connection.status() == 200 ? ms_since(begin) : 1e9);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  });
  const Flood seen = flood(address, options.quick ? 3 : 15);
  over = true;
  asks.join();
  const std::string counts = std::to_string(seen.answered) + " answered, " + std::to_string(seen.refused) +
                             " refused by " + std::to_string(kClients) + " clients that do not wait";
  const bool sound = seen.refused > 0 && seen.answered > 0 && seen.without_hint == 0 && seen.other == 0;
  report.add({"overload_sound", sound ? 1.0 : 0.0, "", 1.0, ">=", std::nullopt,
              counts + "; every answer is 200, or 429 with Retry-After" +
                  (seen.other + seen.without_hint > 0
                       ? "; others: " + std::to_string(seen.other) +
                             ", without Retry-After: " + std::to_string(seen.without_hint)
                       : "")});
  report.add({"overload_extra_rss_mb",
              peak ? std::optional<double>(std::max(0.0, memory_mb("VmHWM") - before)) : std::nullopt, "MB",
              64.0, "<=", std::nullopt, "peak above the memory before"});
  report.add({"overload_health_p99_ms", percentile(health, 0.99), "ms", 1000.0, "<=", std::nullopt,
              "GET /livez meanwhile"});
  Connection after(address);
  const std::int64_t begin = now_ns();
  after.send("GET", "/api/v1/namespaces/default/pods/pod-100000");
  after.receive();
  report.add({"overload_recovered_ms",
              after.status() == 200 ? std::optional<double>(ms_since(begin)) : std::nullopt, "ms", 100.0,
              "<=", std::nullopt, "a GET right after it"});
}

const bool api_overload_registered = register_area("api_overload", run_api_overload);
}  // namespace
}  // namespace orchestra::bench::server_area
