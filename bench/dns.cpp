// orchestra-bench dns: name servers under a blaster of our own, on loopback.
//
// CPU of the server per query decides (throughput on shared cores misleads). Ours, a bare echo and the
// servers of Debian packages run as processes of their own, one worker each, in turns of the same run. The
// mix is that of a cluster: addresses of both families, headless Services, named ports, and search-list
// misses.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>

#include "bench/bench.hpp"
#include "bench/dns_servers.hpp"
#include "net/dns/message.hpp"
#include "net/http/address.hpp"
#include "orchestra/dns_server.hpp"

namespace orchestra::bench {
namespace {

constexpr int kOutstanding = 64;
constexpr const char* kZone = "cluster.local";

std::string address_of(int number) {
  return "10.96." + std::to_string(number / 250 % 250) + "." + std::to_string(number % 250 + 1);
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
  snapshot->namespaces.set("shop", {});
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
      service->cluster_ips = {address_of(i)};
    }
    service->ports = {port};
    snapshot->services.set({service->ns, service->name}, service);
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

/// The same names for servers that read files.
PeerZone make_files(int services) {
  PeerZone out{.zone = kZone};
  out.first_query = query("s0.shop.svc.cluster.local", dns::Type::a);
  out.zone_file =
      "$ORIGIN cluster.local.\n$TTL 5\n@ SOA ns.dns hostmaster 1 7200 1800 86400 5\n@ NS ns.dns\nns.dns A "
      "10.96.0.10\n";
  for (int i = 0; i < services + services / 10; ++i) {
    const bool headless = i >= services;
    const std::string name =
        (headless ? "h" + std::to_string(i - services) : "s" + std::to_string(i)) + ".shop.svc";
    if (!headless) {
      out.zone_file += name + " A " + address_of(i) + "\n_http._tcp." + name + " SRV 0 100 80 " + name + "\n";
      out.hosts += address_of(i) + " " + name + ".cluster.local\n";
      continue;
    }
    for (int k = 0; k < 4; ++k) out.zone_file += name + " A " + endpoint(i * 4 + k).address + "\n";
  }
  return out;
}

/// Ours, in a process of its own, which waits for its end.
std::unique_ptr<DnsPeer> start_ours(int services, const std::string& forward = {}) {
  return start_own("orchestra", [&](const std::function<void(std::string)>& ready) {
    Engine engine({.event_threads = 1});
    DnsServerOptions options{.listen = {"127.0.0.1:0"}};
    if (!forward.empty()) {
      options.forward = {forward};
      options.zone = "elsewhere.local";
    }
    const auto server = DnsServer::create(engine, options).value();
    if (services > 0) server->publish(make_zone(services));
    ready(server->addresses().at(0));
    while (true) ::pause();
  });
}

struct DnsOutcome {
  double cpu_us = 0, per_second = 0;
};

/// Keeps `kOutstanding` queries in flight for some seconds.
DnsOutcome blast(const DnsPeer& server, std::vector<std::string>& queries, double seconds) {
  const auto to = http::parse_address(server.address()).value();
  const Fd fd(::socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), to.get(), to.size) != 0) return {};
  std::array<mmsghdr, kOutstanding> messages{};
  std::array<iovec, kOutstanding> vectors{};
  static std::array<std::array<char, 2048>, kOutstanding> answers;
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
  const std::int64_t start = now_ns(), cpu = server.cpu_ns();
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
  const auto used = static_cast<double>(server.cpu_ns() - cpu);
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
    pollfd wait{fd.get(), POLLIN, 0};
    if (::poll(&wait, 1, 1000) <= 0 || ::recv(fd.get(), answer, sizeof answer, 0) < 0) continue;
    times.push_back(static_cast<double>(now_ns() - start) / 1e3);
  }
  return percentile(times, 0.5);
}

/// Each server's median over rounds in which all of them had their turn.
std::map<std::string, DnsOutcome> in_turns(const std::vector<const DnsPeer*>& servers, int services,
                                           const std::string& kind, double seconds, int rounds) {
  auto queries = make_queries(services, kind);
  std::map<std::string, std::vector<double>> cpu, speed;
  for (const DnsPeer* server : servers) (void)blast(*server, queries, seconds / 4);  // warm
  for (int round = 0; round < rounds; ++round) {
    for (const DnsPeer* server : servers) {
      const DnsOutcome one = blast(*server, queries, seconds);
      cpu[server->name()].push_back(one.cpu_us);
      speed[server->name()].push_back(one.per_second);
    }
  }
  std::map<std::string, DnsOutcome> out;
  for (const auto& [name, values] : cpu) out[name] = {percentile(values, 0.5), percentile(speed[name], 0.5)};
  return out;
}

class Comparison {
 public:
  Comparison(const Options& options, Report& report) : options_(options), report_(report) {
    std::string pattern = (std::filesystem::temp_directory_path() / "orc-bench-dns-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~Comparison() {
    servers_.clear();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  void run(int services) {
    servers_.push_back(start_ours(services));
    servers_.push_back(start_echo());
    const PeerZone zone = make_files(services);
    for (const char* program : {"knotd", "nsd", "dnsmasq"}) {
      const std::string folder = folder_ + "/" + program;
      std::filesystem::create_directories(folder);
      std::string trouble;
      if (auto peer = start_peer(program, zone, folder, trouble)) {
        servers_.push_back(std::move(peer));
      } else {
        troubles_[program] = trouble;
      }
    }
    const int rounds = options_.quick ? 3 : 5;
    const double seconds = options_.quick ? 0.4 : 2;
    for (const char* kind : {"mix", "a", "nx"}) {
      std::vector<const DnsPeer*> all;
      for (const auto& server : servers_) {
        // dnsmasq has no names of ports but by a list that it walks for each question.
        if (server->name() != "dnsmasq" || std::string(kind) != "mix") all.push_back(server.get());
      }
      add(kind, in_turns(all, services, kind, seconds, rounds));
    }
    const auto queries = make_queries(services, "mix");
    const double ours = one_by_one(servers_[0]->address(), queries),
                 echo = one_by_one(servers_[1]->address(), queries);
    report_.add({.name = "dns_p50_us_1_outstanding", .value = ours, .unit = "us"});
    report_.add(
        {.name = "ratio_dns_p50_us_1_outstanding_echo", .value = ours / echo, .unit = "ratio", .goal = 1.15});
    report_.add({.name = "dns_rss_mib_" + std::to_string(services) + "_services",
                 .value = servers_[0]->rss_mib(),
                 .unit = "MiB",
                 .note = "with what it remembers of these questions"});
    measure_forwarder(services, seconds);
  }

 private:
  void add(const std::string& kind, const std::map<std::string, DnsOutcome>& found) {
    for (const auto& server : servers_) {
      const auto one = found.find(server->name());
      if (one == found.end()) continue;
      const std::string who = server->name() == "orchestra" ? "" : "_" + server->name();
      report_.add({.name = "dns_cpu_us_" + kind + who,
                   .value = one->second.cpu_us,
                   .unit = "us",
                   .note = server->version()});
      report_.add(
          {.name = "dns_qps_" + kind + who, .value = one->second.per_second, .unit = "1/s", .op = ">="});
    }
    const DnsOutcome& ours = found.at("orchestra");
    for (const char* program : {"knotd", "nsd", "dnsmasq"}) {
      const auto peer = found.find(program);
      const bool decides = kind == "mix" && std::string(program) == "knotd";
      const std::string name =
          "ratio_dns_cpu_" + kind + "_" + (std::string(program) == "knotd" ? "knot" : program);
      Metric metric{.name = name, .value = std::nullopt, .unit = "ratio"};
      if (decides) metric.goal = 1.0;
      if (peer != found.end()) {
        metric.value = ours.cpu_us / peer->second.cpu_us;
      } else if (troubles_.count(program) != 0) {
        metric.note = troubles_[program];
      } else {
        continue;
      }
      report_.add(metric);
      if (!decides || peer == found.end()) continue;
      report_.add({.name = "ratio_dns_qps_mix_knot",
                   .value = ours.per_second / peer->second.per_second,
                   .unit = "ratio",
                   .goal = 0.8,
                   .op = ">="});
    }
  }

  void measure_forwarder(int services, double seconds) {
    const auto front = start_ours(0, servers_[0]->address());
    auto queries = make_queries(services, "a");
    queries.resize(1000);
    (void)blast(*front, queries, seconds);
    const double cached = blast(*front, queries, seconds).cpu_us,
                 direct = blast(*servers_[0], queries, seconds).cpu_us;
    report_.add({.name = "dns_forward_cached_cpu_us", .value = cached, .unit = "us"});
    report_.add(
        {.name = "ratio_dns_forward_cached_cpu", .value = cached / direct, .unit = "ratio", .goal = 1.3});
  }

  const Options options_;
  Report& report_;
  std::string folder_;
  std::vector<std::unique_ptr<DnsPeer>> servers_;
  std::map<std::string, std::string> troubles_;
};

Object service_object(int number, const std::string& address, int version) {
  return Object::from_json(R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"s)" +
                           std::to_string(number) + R"(","namespace":"shop","uid":"u)" +
                           std::to_string(number) + R"(","resourceVersion":")" + std::to_string(version) +
                           R"("},"spec":{"clusterIP":")" + address + R"(","clusterIPs":[")" + address +
                           R"("],"ports":[{"name":"http","port":80}]}})")
      .value();
}

/// From the changed object to the first answer that shows it: snapshot, publish, question.
void measure_change(int services, int changes, Report& report) {
  Engine engine({.event_threads = 1});
  const auto server = DnsServer::create(engine, {.listen = {"127.0.0.1:0"}}).value();
  NetworkModel model;
  for (const NetworkKind kind :
       {NetworkKind::service, NetworkKind::endpoint_slice, NetworkKind::name_space, NetworkKind::pod})
    model.set_synced(kind, true);
  model.put(NetworkKind::name_space,
            Object::from_json(
                R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","resourceVersion":"1"}})")
                .value());
  for (int i = 0; i < services; ++i) model.put(NetworkKind::service, service_object(i, address_of(i), 1));
  server->publish(model.snapshot(1));
  const auto to = http::parse_address(server->addresses().at(0)).value();
  const Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), to.get(), to.size) != 0) return;
  std::vector<double> times;
  for (int i = 0; i < changes; ++i) {
    const int number = i * 97 % services;
    const std::int64_t start = now_ns();
    // An address that nobody has yet.
    const std::string address = "10.97." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1);
    model.put(NetworkKind::service, service_object(number, address, i + 2));
    server->publish(model.snapshot(i + 2));
    const std::string packet = query("s" + std::to_string(number) + ".shop.svc.cluster.local", dns::Type::a);
    char answer[2048];
    (void)::send(fd.get(), packet.data(), packet.size(), 0);
    const ssize_t size = ::recv(fd.get(), answer, sizeof answer, 0);
    times.push_back(static_cast<double>(now_ns() - start) / 1e6);
    const auto message = dns::read_message({answer, static_cast<std::size_t>(std::max<ssize_t>(size, 0))});
    const bool shown = message && message->answers.size() == 1 &&
                       static_cast<std::uint8_t>(message->answers[0].data[1]) == 97;
    if (!shown) {
      report.add({.name = "dns_change_to_answer_ms_p99",
                  .value = std::nullopt,
                  .unit = "ms",
                  .note = "an answer did not show the change"});
      return;
    }
  }
  const std::string size = "_" + std::to_string(services) + "_services";
  report.add({.name = "dns_change_to_answer_ms_p50" + size, .value = percentile(times, 0.5), .unit = "ms"});
  report.add({.name = "dns_change_to_answer_ms_p99" + size,
              .value = percentile(times, 0.99),
              .unit = "ms",
              .goal = 50});
}

void run_dns(const Options& options, Report& report) {
  // First what forks, while this process has one thread.
  Comparison(options, report).run(options.quick ? 1000 : 10000);
  if (!options.quick) {
    const auto large = start_ours(100000);
    auto queries = make_queries(100000, "mix");
    (void)blast(*large, queries, 3);
    report.add(
        {.name = "dns_rss_mib_100000_services", .value = large->rss_mib(), .unit = "MiB", .goal = 200});
  }
  for (const int services : options.quick ? std::vector{1000} : std::vector{1000, 11000}) {
    measure_change(services, options.quick ? 50 : 300, report);
  }
}

const bool dns_registered = register_area("dns", run_dns);

}  // namespace
}  // namespace orchestra::bench
