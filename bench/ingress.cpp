// orchestra-bench ingress: the L7 proxy between a client and a backend of our own, on loopback.
//
// CPU of the proxy per request decides: process time minus that of the client and backend threads, which
// measure themselves. 64 keep-alive connections, answers of 128 bytes.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <thread>

#include "bench/bench.hpp"
#include "net/http/address.hpp"
#include "orchestra/http_proxy.hpp"

namespace orchestra::bench {
namespace {

constexpr int kConnections = 64;

std::int64_t thread_cpu_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

/// Answers every request head with the same 128 bytes, on one thread.
class Backend {
 public:
  Backend() {
    listener_ =
        http::open_listener(http::parse_address("127.0.0.1:0").value(), http::Listen::stream, {}).value();
    address = http::local_address(listener_.get()).value();
    thread_ = std::thread([this] { serve(); });
  }
  ~Backend() {
    stopping_ = true;
    thread_.join();
  }
  http::SocketAddress address;
  std::atomic<std::int64_t> cpu_ns{0};

 private:
  void serve() {
    const std::string answer =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n" + std::string(128, 'x');
    const Fd poller(::epoll_create1(EPOLL_CLOEXEC));
    const auto watch = [&](int fd) {
      epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
      ::epoll_ctl(poller.get(), EPOLL_CTL_ADD, fd, &event);
    };
    watch(listener_.get());
    std::map<int, Fd> open;
    char bytes[8192];
    while (!stopping_) {
      epoll_event events[64];
      const int count = ::epoll_wait(poller.get(), events, 64, 20);
      for (int i = 0; i < count; ++i) {
        const int fd = events[i].data.fd;
        if (fd == listener_.get()) {
          Fd accepted(::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC));
          watch(accepted.get());
          open.emplace(accepted.get(), std::move(accepted));
        } else if (::recv(fd, bytes, sizeof bytes, 0) <= 0 ||
                   ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) {
          open.erase(fd);
        }
      }
      cpu_ns = thread_cpu_ns();
    }
  }
  Fd listener_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

std::shared_ptr<const NetworkSnapshot> make_routes(const http::SocketAddress& backend, int hosts) {
  auto snapshot = std::make_shared<NetworkSnapshot>();
  auto& synced = snapshot->synced;
  synced.services = synced.endpoint_slices = synced.ingresses = synced.ingress_classes = synced.secrets =
      true;
  auto service = std::make_shared<NetworkService>();
  service->ns = "shop";
  service->name = "web";
  NetworkServicePort port;
  port.port = 80;
  NetworkEndpoint endpoint;
  endpoint.address = backend.host();
  endpoint.port = backend.port();
  port.endpoints = {endpoint};
  service->ports = {port};
  snapshot->services.set({"shop", "web"}, service);
  for (int i = 0; i < hosts; ++i) {
    auto ingress = std::make_shared<NetworkIngress>();
    ingress->ns = "shop";
    ingress->name = "i" + std::to_string(i);
    ingress->class_name = "orchestra";
    ingress->rules = {
        {.host = "h" + std::to_string(i), .paths = {{.backend = {.service = "web", .port = 80}}}}};
    snapshot->ingresses.set({"shop", ingress->name}, ingress);
  }
  return snapshot;
}

struct Outcome {
  double cpu_us = 0, per_second = 0, p99_us = 0;
  std::int64_t errors = 0;
};

/// Keep-alive connections, one request in flight on each.
Outcome load(const std::string& address, const Backend& backend, double seconds) {
  const std::string request = "GET /x HTTP/1.1\r\nHost: h0\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
  const auto to = http::parse_address(address).value();
  const Fd poller(::epoll_create1(EPOLL_CLOEXEC));
  std::map<int, Fd> open;
  std::map<int, std::int64_t> started;
  for (int i = 0; i < kConnections; ++i) {
    Fd fd(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(fd.get(), to.get(), to.size) != 0) continue;
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd.get()}};
    ::epoll_ctl(poller.get(), EPOLL_CTL_ADD, fd.get(), &event);
    open.emplace(fd.get(), std::move(fd));
  }
  Outcome out;
  std::vector<double> times;
  const std::int64_t start = now_ns(), cpu = cpu_ns(), own = thread_cpu_ns(), theirs = backend.cpu_ns;
  const auto send = [&](int fd) {
    started[fd] = now_ns();
    if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) < 0) ++out.errors;
  };
  for (const auto& [fd, owner] : open) send(fd);
  std::int64_t answered = 0;
  char bytes[8192];
  while (now_ns() - start < static_cast<std::int64_t>(seconds * 1e9)) {
    epoll_event events[kConnections];
    const int count = ::epoll_wait(poller.get(), events, kConnections, 100);
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      const ssize_t got = ::recv(fd, bytes, sizeof bytes, 0);
      if (got < 12 || std::string_view(bytes, 12) != "HTTP/1.1 200") {
        ++out.errors;
        open.erase(fd);
        continue;
      }
      ++answered;
      if (times.size() < 200000) times.push_back(static_cast<double>(now_ns() - started[fd]) / 1e3);
      send(fd);
    }
  }
  const double used =
      static_cast<double>((cpu_ns() - cpu) - (thread_cpu_ns() - own) - (backend.cpu_ns - theirs));
  const double done = static_cast<double>(std::max<std::int64_t>(1, answered));
  out.cpu_us = used / 1e3 / done;
  out.per_second = done * 1e9 / static_cast<double>(now_ns() - start);
  out.p99_us = percentile(times, 0.99);
  return out;
}

void run_ingress(const Options& options, Report& report) {
  const double seconds = options.quick ? 2 : 8;
  Engine engine({.event_threads = 1});
  const Backend backend;
  auto proxy = HttpProxy::create(engine, {.listen = {"127.0.0.1:0"}, .workers = 1}).value();
  const std::string address = proxy->addresses().at(0);
  double first = 0;
  for (const int hosts : {1, 1000}) {
    const auto snapshot = make_routes(backend.address, hosts);
    const std::int64_t start = now_ns();
    proxy->publish(snapshot);
    const std::string size = "_" + std::to_string(hosts) + "_routes";
    report.add({.name = "routes_publish_ms" + size,
                .value = static_cast<double>(now_ns() - start) / 1e6,
                .unit = "ms",
                .goal = 200});
    const Outcome outcome = load(address, backend, seconds);
    report.add({.name = "ingress_cpu_us_per_request" + size,
                .value = outcome.cpu_us,
                .unit = "us",
                .note = "CPU of the proxy"});
    report.add({.name = "ingress_req_per_s" + size,
                .value = outcome.per_second,
                .unit = "1/s",
                .op = ">=",
                .note = "one worker; client and backend take part of the machine"});
    report.add({.name = "ingress_p99_us" + size, .value = outcome.p99_us, .unit = "us"});
    report.add({.name = "ingress_errors" + size,
                .value = static_cast<double>(outcome.errors),
                .unit = "requests",
                .goal = 0});
    if (hosts == 1) first = outcome.cpu_us;
    if (hosts != 1) {
      report.add({.name = "routes_1000_cost_ratio",
                  .value = outcome.cpu_us / std::max(first, 0.001),
                  .unit = "ratio",
                  .goal = 1.05});
    }
  }
  std::atomic<bool> stop{false};
  std::thread swapper([&] {
    const auto one = make_routes(backend.address, 1), many = make_routes(backend.address, 100);
    while (!stop) {
      proxy->publish(one);
      proxy->publish(many);
    }
  });
  const Outcome swapped = load(address, backend, seconds / 2);
  stop = true;
  swapper.join();
  report.add(
      {.name = "swap_errors", .value = static_cast<double>(swapped.errors), .unit = "requests", .goal = 0});
  report.add({.name = "ratio_cpu_nginx",
              .value = std::nullopt,
              .unit = "ratio",
              .goal = 1.2,
              .note = find_program("nginx").empty()
                          ? "nginx is not installed (Debian package nginx-light)"
                          : "the comparison with nginx comes with the ingress issue"});
}

const bool ingress_registered = register_area("ingress", run_ingress);

}  // namespace
}  // namespace orchestra::bench
