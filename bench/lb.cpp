// orchestra-bench lb: Services and the pod network on a host of its own (a network namespace without uplink).
//
// Times from the event (a new snapshot) to the kernel's answer, so what is measured is what a user waits
// for. Needs root; without it only the userspace relay is measured and the rest says why it is not.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "api/pod_attacher.hpp"
#include "base/fd.hpp"
#include "bench/bench.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/snapshot.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/service_proxy.hpp"

namespace orchestra::bench {
namespace {
using namespace std::chrono_literals;

double milliseconds_since(std::int64_t start) { return static_cast<double>(now_ns() - start) / 1e6; }

std::string service_address(int number) {
  return "10.96." + std::to_string(number / 250) + "." + std::to_string(number % 250 + 1);
}

std::shared_ptr<const NetworkService> make_service(int number, int shift) {
  auto service = std::make_shared<NetworkService>();
  service->ns = "default";
  service->name = "s" + std::to_string(number);
  service->cluster_ips = {service_address(number)};
  NetworkServicePort port;
  port.port = 80;
  for (int i = 0; i < 3; ++i) {
    NetworkEndpoint endpoint;
    const int pod = number * 3 + i + shift;
    endpoint.address = "10.244." + std::to_string(pod / 250 % 250) + "." + std::to_string(pod % 250 + 1);
    endpoint.port = 8080;
    endpoint.node = "n" + std::to_string(pod % 100);
    port.endpoints.push_back(endpoint);
  }
  service->ports = {port};
  return service;
}

std::shared_ptr<NetworkSnapshot> make_snapshot(int services) {
  auto snapshot = std::make_shared<NetworkSnapshot>();
  snapshot->synced.services = snapshot->synced.endpoint_slices = true;
  for (int i = 0; i < services; ++i) {
    auto service = make_service(i, 0);
    snapshot->services.set({service->ns, service->name}, service);
  }
  return snapshot;
}

/// Connect, read to the end, close: as many as fit into the time.
double connections_per_second(const NetworkNamespace& from, const std::string& address, int port,
                              double seconds) {
  double out = 0;
  (void)net::in_namespace(from, [&]() -> Result<void> {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(static_cast<std::uint16_t>(port));
    ::inet_pton(AF_INET, address.c_str(), &name.sin_addr);
    const auto start = now_ns();
    int done = 0;
    while (milliseconds_since(start) < seconds * 1000) {
      Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      // Closing by reset: no TIME_WAIT that fills the port range within a second.
      const linger reset{1, 0};
      ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) continue;
      char byte = 0;
      if (::read(socket.get(), &byte, 1) == 1) ++done;
    }
    out = done * 1000.0 / milliseconds_since(start);
    return {};
  });
  return out;
}

/// A server that says one byte per connection, on a thread until destroyed.
class OneByteServer {
 public:
  OneByteServer(const NetworkNamespace& where, const std::string& address) {
    (void)net::in_namespace(where, [&]() -> Result<void> {
      socket_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in name{};
      name.sin_family = AF_INET;
      ::inet_pton(AF_INET, address.c_str(), &name.sin_addr);
      socklen_t size = sizeof name;
      if (::bind(socket_.get(), reinterpret_cast<sockaddr*>(&name), size) != 0 ||
          ::listen(socket_.get(), 1024) != 0 ||
          ::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&name), &size) != 0) {
        return system_error("bench", "listen", address, errno);
      }
      port_ = ntohs(name.sin_port);
      return {};
    });
    thread_ = std::thread([this] {
      while (true) {
        Fd client(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!client) return;
        (void)::send(client.get(), "x", 1, MSG_NOSIGNAL);
        char byte = 0;
        (void)::read(client.get(), &byte, 1);  // until the client goes
      }
    });
  }
  ~OneByteServer() {
    ::shutdown(socket_.get(), SHUT_RDWR);
    thread_.join();
  }
  int port() const { return port_; }

 private:
  Fd socket_;
  int port_ = 0;
  std::thread thread_;
};

void measure_userspace(const Options& options, Engine& engine, Report& report) {
  ServiceProxyOptions proxy_options;
  proxy_options.node = "n1";
  proxy_options.service_cidr = "127.96.0.0/16";
  proxy_options.mode = ServiceProxyOptions::Mode::userspace;
  auto proxy = ServiceProxy::create(engine, proxy_options).value();
  OneByteServer server({}, "127.128.99.2");
  int port = 0;
  {
    OneByteServer finder({}, "127.96.99.1");
    port = finder.port();
  }
  auto snapshot = std::make_shared<NetworkSnapshot>();
  snapshot->synced.services = snapshot->synced.endpoint_slices = true;
  auto service = std::make_shared<NetworkService>();
  service->name = "bench";
  service->cluster_ips = {"127.96.99.1"};
  NetworkServicePort service_port;
  service_port.port = static_cast<std::uint16_t>(port);
  NetworkEndpoint endpoint;
  endpoint.address = "127.128.99.2";
  endpoint.port = static_cast<std::uint16_t>(server.port());
  service_port.endpoints = {endpoint};
  service->ports = {service_port};
  snapshot->services.set({"", "bench"}, service);
  (void)proxy->apply(snapshot).wait(5s);
  const double seconds = options.quick ? 1 : 5;
  const double direct = connections_per_second({}, "127.128.99.2", server.port(), seconds);
  const double relayed = connections_per_second({}, "127.96.99.1", port, seconds);
  report.add({"lb_userspace_conn_per_s", relayed, "1/s", std::nullopt, ">=", Peer{"direct", "", direct}});
  (void)proxy->teardown().wait(5s);
}

struct KernelHost {
  NetworkNamespace host;
  std::shared_ptr<PodNetwork> network;
  std::shared_ptr<ServiceProxy> proxy;
};

void measure_sync(const Options& options, KernelHost& host, Report& report) {
  const int count = options.quick ? 1000 : 10000;
  auto snapshot = make_snapshot(count);
  auto start = now_ns();
  auto full = host.proxy->apply(snapshot).wait(60s);
  const double full_ms = milliseconds_since(start);
  if (!full)
    return report.add(
        {"lb_full_sync_10kx3_ms", std::nullopt, "ms", 150, "<=", std::nullopt, full.error().to_string()});
  const std::string note = options.quick ? "quick: 1,000 Services" : "";
  report.add({"lb_full_sync_10kx3_ms", full_ms, "ms", 150, "<=", std::nullopt, note});
  std::vector<double> one_change;
  for (int i = 0; i < 200; ++i) {
    auto next = std::make_shared<NetworkSnapshot>(*snapshot);
    auto service = make_service(i, 7);
    next->services.set({service->ns, service->name}, service);
    start = now_ns();
    if (!host.proxy->apply(next).wait(10s)) break;
    one_change.push_back(milliseconds_since(start) * 1000);
    snapshot = next;
  }
  report.add({"lb_one_change_us_p50", percentile(one_change, 0.5), "us", 1000, "<=", std::nullopt, note});
  report.add({"lb_one_change_us_p99", percentile(one_change, 0.99), "us", 5000, "<=", std::nullopt, note});
}

void measure_connections(const Options& options, KernelHost& host, Report& report) {
  auto pod_a = NetworkNamespace::create().value(), pod_b = NetworkNamespace::create().value();
  auto attacher = host.network->attacher();
  (void)attacher->attach({"bench-a", "default", "a", pod_a.fd()}).wait(5s);
  const auto b = attacher->attach({"bench-b", "default", "b", pod_b.fd()}).wait(5s);
  if (!b) return;
  OneByteServer server(pod_b, "0.0.0.0");
  auto snapshot = make_snapshot(options.quick ? 1000 : 10000);
  auto service = std::make_shared<NetworkService>();
  service->name = "bench";
  service->cluster_ips = {"10.96.255.1"};
  NetworkServicePort port;
  port.port = 80;
  NetworkEndpoint endpoint;
  endpoint.address = b->addresses.front();
  endpoint.port = static_cast<std::uint16_t>(server.port());
  port.endpoints = {endpoint};
  service->ports = {port};
  snapshot->services.set({"", "bench"}, service);
  (void)host.proxy->apply(snapshot).wait(60s);
  const double seconds = options.quick ? 1 : 5;
  const double direct = connections_per_second(pod_a, b->addresses.front(), server.port(), seconds);
  const double through = connections_per_second(pod_a, "10.96.255.1", 80, seconds);
  report.add({"lb_conn_per_s_10ksvc", through, "1/s", std::nullopt, ">=", Peer{"direct", "", direct}});
}

void measure_pods(const Options& options, KernelHost& host, Report& report) {
  const int count = options.quick ? 50 : 200;
  auto attacher = host.network->attacher();
  std::vector<double> attach_ms, detach_ms;
  for (int i = 0; i < count; ++i) {
    auto pod = NetworkNamespace::create().value();
    const std::string uid = "bench-" + std::to_string(i);
    auto start = now_ns();
    if (!attacher->attach({uid, "default", uid, pod.fd()}).wait(5s)) break;
    attach_ms.push_back(milliseconds_since(start));
    start = now_ns();
    (void)attacher->detach(uid).wait(5s);
    detach_ms.push_back(milliseconds_since(start));
  }
  report.add({"podnet_attach_ms_p50", percentile(attach_ms, 0.5), "ms", 5});
  report.add({"podnet_detach_ms_p50", percentile(detach_ms, 0.5), "ms", 5});
}

void run_lb(const Options& options, Report& report) {
  Engine engine;
  measure_userspace(options, engine, report);
  auto made = NetworkNamespace::create();
  if (!made) {
    for (const char* name :
         {"lb_full_sync_10kx3_ms", "lb_one_change_us_p50", "lb_conn_per_s_10ksvc", "podnet_attach_ms_p50"}) {
      report.add({name, std::nullopt, "", std::nullopt, "<=", std::nullopt,
                  "needs root: " + made.error().to_string()});
    }
    return;
  }
  const std::string data =
      (std::filesystem::temp_directory_path() / ("orc-bench-lb-" + std::to_string(::getpid()))).string();
  KernelHost host;
  host.host = *made;
  PodNetworkOptions network;
  network.data_dir = data;
  network.instance = "bbbbbbbb";
  network.pod_cidr = "10.244.1.0/24";
  network.cluster_cidr = "10.244.0.0/16";
  network.service_cidr = "10.96.0.0/16";
  network.name_space = host.host;
  auto start = now_ns();
  host.network = PodNetwork::open(engine, network).value();
  report.add({"podnet_open_ms", milliseconds_since(start), "ms"});
  ServiceProxyOptions proxy;
  proxy.node = "n1";
  proxy.instance = network.instance;
  proxy.cluster_cidr = network.cluster_cidr;
  proxy.service_cidr = network.service_cidr;
  proxy.node_gateway = host.network->node_address();
  proxy.name_space = host.host;
  proxy.mode = ServiceProxyOptions::Mode::nftables;
  start = now_ns();
  host.proxy = ServiceProxy::create(engine, proxy).value();
  report.add({"lb_open_ms", milliseconds_since(start), "ms"});
  measure_pods(options, host, report);
  measure_sync(options, host, report);
  measure_connections(options, host, report);
  (void)host.proxy->teardown().wait(10s);
  (void)host.network->teardown().wait(10s);
  std::error_code ignored;
  std::filesystem::remove_all(data, ignored);
}

const bool lb_registered = register_area("lb", run_lb);

}  // namespace
}  // namespace orchestra::bench
