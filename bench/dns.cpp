// orchestra-bench dns: the DNS server under a blaster of our own, on loopback.
//
// CPU of the server per query decides (throughput on shared cores misleads): process time minus the time of
// the blasting thread, which measures itself. The mix is that of a cluster: addresses of both families,
// headless Services, named ports, and search-list misses.
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "bench/bench.hpp"
#include "net/dns/message.hpp"
#include "net/http/address.hpp"
#include "orchestra/dns_server.hpp"

namespace orchestra::bench {
namespace {

constexpr int kOutstanding = 64;

std::int64_t thread_cpu_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

NetworkEndpoint endpoint(int number) {
  NetworkEndpoint out;
  out.address = "10.244." + std::to_string(number / 250 % 250) + "." + std::to_string(number % 250 + 1);
  out.port = 8080;
  out.hostname = "pod-" + std::to_string(number % 4);
  return out;
}

/// `services` with a virtual address, a tenth as many headless ones with four endpoints each.
std::shared_ptr<const NetworkSnapshot> make_zone(int services) {
  auto snapshot = std::make_shared<NetworkSnapshot>();
  auto& synced = snapshot->synced;
  synced.services = synced.endpoint_slices = synced.namespaces = synced.pods = true;
  snapshot->namespaces = {"shop"};
  for (int i = 0; i < services + services / 10; ++i) {
    auto service = std::make_shared<NetworkService>();
    service->ns = "shop";
    service->headless = i >= services;
    service->name = (service->headless ? "h" : "s") + std::to_string(service->headless ? i - services : i);
    NetworkServicePort port;
    port.name = "http";
    port.port = 80;
    if (service->headless) {
      for (int k = 0; k < 4; ++k) port.endpoints.push_back(endpoint(i * 4 + k));
      service->endpoints = port.endpoints;
    } else {
      service->cluster_ips = {"10.96." + std::to_string(i / 250 % 250) + "." + std::to_string(i % 250 + 1)};
    }
    service->ports = {port};
    snapshot->services[{service->ns, service->name}] = service;
  }
  return snapshot;
}

std::string query(const std::string& name, dns::Type type) {
  const dns::Name wire = *dns::make_name(name);
  std::string packet = dns::write_query(0, {.sent = wire, .name = wire, .type = type}, false, false);
  return packet;
}

std::vector<std::string> make_queries(int services, const std::string& kind) {
  std::vector<std::string> out;
  const std::string zone = ".shop.svc.cluster.local";
  for (int i = 0; i < 10000; ++i) {
    const int number = static_cast<int>((static_cast<std::int64_t>(i) * 7919) % services);
    const std::string service = "s" + std::to_string(number),
                      headless = "h" + std::to_string(number % (services / 10));
    const int dice = kind == "a" ? 0 : kind == "nx" ? 99 : i * 37 % 100;
    if (dice < 45) {
      out.push_back(query(service + zone, dns::Type::a));
    } else if (dice < 65) {
      out.push_back(query(service + zone, dns::Type::aaaa));
    } else if (dice < 75) {
      out.push_back(query(headless + zone, dns::Type::a));
    } else if (dice < 80) {
      out.push_back(query("_http._tcp." + service + zone, dns::Type::srv));
    } else {
      out.push_back(query("www.example.com.shop.svc.cluster.local", dns::Type::a));
    }
  }
  return out;
}

struct Outcome {
  double cpu_us = 0, per_second = 0;
};

/// Keeps `kOutstanding` queries in flight for some seconds.
Outcome blast(const std::string& address, std::vector<std::string> queries, double seconds) {
  const auto to = http::parse_address(address).value();
  const Fd fd(::socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), to.get(), to.size) != 0) return {};
  std::array<mmsghdr, kOutstanding> messages{};
  std::array<iovec, kOutstanding> vectors{};
  std::array<std::array<char, 2048>, kOutstanding> answers;
  std::size_t next = 0;
  std::int64_t answered = 0;
  const auto send = [&](int count) {
    for (int i = 0; i < count; ++i) {
      std::string& packet = queries[next++ % queries.size()];
      vectors[i] = {packet.data(), packet.size()};
      messages[i].msg_hdr = {.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    (void)::sendmmsg(fd.get(), messages.data(), static_cast<unsigned>(count), 0);
  };
  const std::int64_t start = now_ns(), cpu = cpu_ns(), own = thread_cpu_ns();
  send(kOutstanding);
  while (now_ns() - start < static_cast<std::int64_t>(seconds * 1e9)) {
    pollfd wait{fd.get(), POLLIN, 0};
    if (::poll(&wait, 1, 200) <= 0) {
      send(kOutstanding);  // lost datagrams
      continue;
    }
    for (int i = 0; i < kOutstanding; ++i) {
      vectors[i] = {answers[i].data(), answers[i].size()};
      messages[i].msg_hdr = {.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    const int got = ::recvmmsg(fd.get(), messages.data(), kOutstanding, MSG_DONTWAIT, nullptr);
    if (got <= 0) continue;
    answered += got;
    send(got);
  }
  const double used = static_cast<double>((cpu_ns() - cpu) - (thread_cpu_ns() - own));
  const double elapsed = static_cast<double>(now_ns() - start);
  const auto count = static_cast<double>(std::max<std::int64_t>(1, answered));
  return {used / 1e3 / count, count / (elapsed / 1e9)};
}

/// Round trip with one query in flight, median in microseconds.
double one_by_one(const std::string& address, const std::vector<std::string>& queries) {
  const auto to = http::parse_address(address).value();
  const Fd fd(::socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), to.get(), to.size) != 0) return 0;
  std::vector<double> times;
  char answer[2048];
  for (int i = 0; i < 5000; ++i) {
    const std::string& packet = queries[static_cast<std::size_t>(i) % queries.size()];
    const std::int64_t start = now_ns();
    if (::send(fd.get(), packet.data(), packet.size(), 0) < 0) break;
    if (::recv(fd.get(), answer, sizeof answer, 0) < 0) break;
    times.push_back(static_cast<double>(now_ns() - start) / 1e3);
  }
  return percentile(times, 0.5);
}

void run(const Options& options, Report& report) {
  const double seconds = options.quick ? 1 : 5;
  Engine engine({.event_threads = 1});
  auto server = DnsServer::create(engine, {.listen = {"127.0.0.1:0"}}).value();
  const std::string address = server->addresses().at(0);
  for (const int services : options.quick ? std::vector{100, 1000} : std::vector{1000, 10000}) {
    const auto snapshot = make_zone(services);
    const std::int64_t start = now_ns();
    server->publish(snapshot);
    const std::string size = "_" + std::to_string(services) + "_services";
    report.add({.name = "dns_publish_ms" + size,
                .value = static_cast<double>(now_ns() - start) / 1e6,
                .unit = "ms",
                .goal = 50});
    const Outcome mix = blast(address, make_queries(services, "mix"), seconds);
    report.add({.name = "dns_cpu_us_mix" + size,
                .value = mix.cpu_us,
                .unit = "us",
                .note = "CPU of the server per query"});
    report.add({.name = "dns_qps_mix" + size,
                .value = mix.per_second,
                .unit = "1/s",
                .op = ">=",
                .note = "one event thread; the blaster takes part of the machine"});
    for (const char* kind : {"a", "nx"}) {
      report.add({.name = std::string("dns_cpu_us_") + kind + size,
                  .value = blast(address, make_queries(services, kind), seconds).cpu_us,
                  .unit = "us"});
    }
    report.add({.name = "dns_p50_us_1_outstanding" + size,
                .value = one_by_one(address, make_queries(services, "mix")),
                .unit = "us"});
  }
  report.add({.name = "ratio_dns_cpu_mix_knot",
              .value = std::nullopt,
              .unit = "ratio",
              .goal = 1.25,
              .note = find_program("knotd").empty() ? "knotd is not installed (Debian package knot)"
                                                    : "the comparison with knotd comes with the net issue"});
}

const bool registered = register_area("dns", run);

}  // namespace
}  // namespace orchestra::bench
