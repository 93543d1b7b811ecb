// DnsServer: checks the options, opens the sockets, ties listeners, zone and forwarder together.
#include "orchestra/dns_server.hpp"

#include <algorithm>
#include <mutex>

#include "net/dns/service.hpp"
#include "net/dns/tcp_listener.hpp"
#include "net/dns/udp_listener.hpp"

namespace orchestra {
namespace {

constexpr std::size_t kForwardMax = 15;
constexpr std::size_t kZoneBytesMax = 60;  // leaves room for host, service and namespace labels of 63 each
constexpr std::uint32_t kTtlMax = 3600;
constexpr int kPortTriesMax = 16;  // for a free port that UDP and TCP both have

Result<std::vector<net::IpRange>> parse_ranges(const std::vector<std::string>& texts, const char* option) {
  std::vector<net::IpRange> ranges;
  for (const std::string& text : texts) {
    auto range = net::IpRange::parse(text);
    if (!range) return range.error().with_context(std::string("DNS option ") + option);
    ranges.push_back(*range);
  }
  return ranges;
}

struct Sockets {
  Fd udp, tcp;
  http::SocketAddress address;
};

Result<Sockets> open_sockets(const http::SocketAddress& wanted) {
  std::optional<Error> last;
  for (int i = 0; i < kPortTriesMax; ++i) {
    Sockets sockets;
    ORC_ASSIGN(sockets.udp, http::open_listener(wanted, http::Listen::datagram, {}));
    ORC_ASSIGN(sockets.address, http::local_address(sockets.udp.get()));
    auto tcp = http::open_listener(sockets.address, http::Listen::stream, {});
    if (tcp) {
      sockets.tcp = std::move(*tcp);
      return sockets;
    }
    last = tcp.error();
    if (wanted.port() != 0) break;
  }
  return *last;
}

class Server final : public DnsServer {
 public:
  ~Server() override { Server::stop(); }

  static Result<std::shared_ptr<DnsServer>> open(Engine& engine, const DnsServerOptions& options) {
    if (options.ttl > kTtlMax) {
      return Error(Error::invalid, "dns", "ttl " + std::to_string(options.ttl) + " is above 3600 seconds");
    }
    const auto zone = dns::make_name(options.zone);
    if (!zone || zone->size() < 3 || zone->size() > kZoneBytesMax) {
      return Error(Error::invalid, "dns",
                   "zone \"" + options.zone + "\" is no domain name of at most 58 characters");
    }
    if (options.listen.empty()) return Error(Error::invalid, "dns", "no address to listen on");
    auto server = std::make_shared<Server>();
    std::vector<Sockets> all;
    for (const std::string& text : options.listen) {
      ORC_ASSIGN(const auto wanted, http::parse_address(text, 53));
      ORC_ASSIGN(Sockets sockets, open_sockets(wanted));
      server->addresses_.push_back(sockets.address.text());
      all.push_back(std::move(sockets));
    }
    ORC_ASSIGN(const auto upstream, upstream_servers(options, all));
    server->forwarder_ =
        std::make_shared<dns::Forwarder>(engine, upstream, options.forward_policy, options.cache_bytes_max);
    dns::ZoneOptions zone_options{.zone = options.zone, .ttl = options.ttl};
    ORC_ASSIGN(zone_options.reverse_ranges, parse_ranges(options.reverse_ranges, "reverse_ranges"));
    ORC_ASSIGN(auto allowed, parse_ranges(options.allow_from, "allow_from"));
    for (const Sockets& sockets : all) {
      const net::IpAddress own = dns::ip_of(sockets.address);
      zone_options.own_addresses.push_back(own);
      allowed.push_back({own, own.is_v4() ? 32 : 128});  // this machine, asking its own address
    }
    if (options.allow_from.empty()) {
      for (const char* loopback : {"127.0.0.0/8", "::1/128"})
        allowed.push_back(*net::IpRange::parse(loopback));
    }
    server->service_ =
        std::make_shared<dns::Service>(std::move(zone_options), std::move(allowed), server->forwarder_);
    for (Sockets& sockets : all) {
      server->udp_.push_back(dns::start_udp_listener(engine, std::move(sockets.udp), server->service_));
      server->tcp_.push_back(dns::start_tcp_listener(engine, std::move(sockets.tcp), server->service_));
    }
    return std::shared_ptr<DnsServer>(std::move(server));
  }

  void publish(std::shared_ptr<const NetworkSnapshot> snapshot) override {
    service_->publish(std::move(snapshot));
  }
  std::vector<std::string> addresses() const override { return addresses_; }
  DnsStats stats() const override { return service_ ? service_->stats() : DnsStats{}; }

  void stop() override {
    std::lock_guard lock(mutex_);
    for (const auto& listener : std::exchange(udp_, {})) listener->stop();
    for (const auto& listener : std::exchange(tcp_, {})) listener->stop();
    if (forwarder_) forwarder_->stop();
  }

 private:
  static Result<std::vector<http::SocketAddress>> upstream_servers(const DnsServerOptions& options,
                                                                   const std::vector<Sockets>& own) {
    if (options.forward.size() > kForwardMax) {
      return Error(Error::invalid, "dns", "more than 15 upstream servers to forward to");
    }
    std::vector<http::SocketAddress> servers;
    for (const std::string& text : options.forward) {
      auto address = http::parse_address(
          text.find(':') != text.rfind(':') && text.front() != '[' ? "[" + text + "]" : text, 53);
      if (!address) return address.error().with_context("DNS option forward");
      const bool loops = std::any_of(own.begin(), own.end(), [&](const Sockets& sockets) {
        return sockets.address.text() == address->text();
      });
      if (loops) {
        return Error(Error::invalid, "dns",
                     "upstream server " + text + " is this server itself; name the servers behind it");
      }
      servers.push_back(*address);
    }
    return servers;
  }

  std::mutex mutex_;
  std::vector<std::string> addresses_;
  std::shared_ptr<dns::Forwarder> forwarder_;
  std::shared_ptr<dns::Service> service_;
  std::vector<std::shared_ptr<dns::UdpListener>> udp_;
  std::vector<std::shared_ptr<dns::TcpListener>> tcp_;
};

}  // namespace

Result<std::shared_ptr<DnsServer>> DnsServer::create(Engine& engine, DnsServerOptions options) {
  return Server::open(engine, options);
}

}  // namespace orchestra
