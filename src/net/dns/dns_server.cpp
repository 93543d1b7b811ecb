// DnsServer: checks the options, opens the sockets, ties listeners, zone and forwarder together.
#include "orchestra/dns_server.hpp"

#include <algorithm>
#include <mutex>

#include "net/dns/doh_listener.hpp"
#include "net/dns/service.hpp"
#include "net/dns/tcp_listener.hpp"
#include "net/dns/udp_listener.hpp"
#include "orchestra/env.hpp"

namespace orchestra {
namespace {

constexpr std::size_t kForwardMax = 15;
constexpr std::size_t kZoneBytesMax = 60;  // leaves room for host, service and namespace labels of 63 each
constexpr std::uint32_t kTtlMax = 3600, kStaleSecondsMax = 86400;
constexpr std::size_t kWorkersMax = 64;
constexpr std::string_view kTlsPrefix = "tls://";
constexpr int kTlsPort = 853, kHttpsPort = 443;
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
  std::vector<Fd> udp;  // one for each worker
  Fd tcp;
  http::SocketAddress address;
};

/// All on one port. Sharing it is for ourselves only: the first look finds whether somebody else has it.
Result<std::vector<Fd>> open_datagrams(const http::SocketAddress& wanted, std::size_t workers) {
  std::vector<Fd> out;
  http::SocketAddress address = wanted;
  {
    ORC_ASSIGN(Fd alone, http::open_listener(wanted, http::Listen::datagram, {}));
    ORC_ASSIGN(address, http::local_address(alone.get()));
    if (workers == 1) {
      out.push_back(std::move(alone));
      return out;
    }
  }
  for (std::size_t i = 0; i < workers; ++i) {
    ORC_ASSIGN(Fd one, http::open_listener(address, http::Listen::datagram, {.reuse_port = true}));
    out.push_back(std::move(one));
  }
  return out;
}

Result<Sockets> open_sockets(const http::SocketAddress& wanted, std::size_t workers) {
  std::optional<Error> last;
  for (int i = 0; i < kPortTriesMax; ++i) {
    Sockets sockets;
    ORC_ASSIGN(sockets.udp, open_datagrams(wanted, workers));
    ORC_ASSIGN(sockets.address, http::local_address(sockets.udp[0].get()));
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
    ORC_TRY(check(options));
    auto server = std::make_shared<Server>();
    std::vector<Sockets> all;
    for (const std::string& text : options.listen) {
      ORC_ASSIGN(const auto wanted, http::parse_address(text, 53));
      ORC_ASSIGN(Sockets sockets, open_sockets(wanted, options.workers));
      server->addresses_.push_back(sockets.address.text());
      all.push_back(std::move(sockets));
    }
    std::vector<Fd> tls_sockets;
    std::vector<net::IpAddress> own;
    for (const Sockets& sockets : all) own.push_back(dns::ip_of(sockets.address));
    for (const std::string& text : options.listen_tls) {
      ORC_ASSIGN(const auto wanted, http::parse_address(text, kTlsPort));
      ORC_ASSIGN(Fd socket, http::open_listener(wanted, http::Listen::stream, {}));
      ORC_ASSIGN(const auto address, http::local_address(socket.get()));
      server->addresses_.push_back(std::string(kTlsPrefix) + address.text());
      own.push_back(dns::ip_of(address));
      tls_sockets.push_back(std::move(socket));
    }
    std::vector<std::string> https;
    for (const std::string& text : options.listen_https) {
      ORC_ASSIGN(const auto wanted, http::parse_address(text, kHttpsPort));
      own.push_back(dns::ip_of(wanted));
      https.push_back(wanted.text());
    }
    ORC_TRY(server->make_service(engine, options, all, own));
    for (Sockets& sockets : all) {
      for (Fd& udp : sockets.udp) {
        ORC_ASSIGN(auto listener, dns::start_udp_listener(engine, std::move(udp), server->service_));
        server->udp_.push_back(std::move(listener));
      }
      server->tcp_.push_back(dns::start_tcp_listener(engine, std::move(sockets.tcp), server->service_));
    }
    if (!tls_sockets.empty()) {
      ORC_ASSIGN(const auto tls, http::make_server_context(options.certificate_pem, options.key_pem, ""));
      for (Fd& socket : tls_sockets)
        server->tls_.push_back(dns::start_tcp_listener(engine, std::move(socket), server->service_, tls));
    }
    for (const std::string& address : https) {
      ORC_ASSIGN(auto listener, dns::start_doh_listener(engine, address, options.certificate_pem,
                                                        options.key_pem, server->service_));
      server->addresses_.push_back("https://" + listener->address() + "/dns-query");
      server->https_.push_back(std::move(listener));
    }
    return std::shared_ptr<DnsServer>(std::move(server));
  }

  void publish(std::shared_ptr<const NetworkSnapshot> snapshot) override {
    service_->publish(std::move(snapshot));
  }
  Result<void> add_zone(std::shared_ptr<const DnsZone> zone) override {
    return service_->add_zone(std::move(zone));
  }
  Result<void> remove_zone(const std::string& name) override { return service_->remove_zone(name); }
  Result<void> set_certificate(const std::string& certificate_pem, const std::string& key_pem) override {
    ORC_ASSIGN(const auto tls, http::make_server_context(certificate_pem, key_pem, ""));
    std::lock_guard lock(mutex_);
    for (const auto& listener : tls_) listener->set_tls(tls);
    for (const auto& listener : https_) ORC_TRY(listener->set_certificate(certificate_pem, key_pem));
    return {};
  }
  std::vector<std::string> addresses() const override { return addresses_; }
  DnsStats stats() const override { return service_ ? service_->stats() : DnsStats{}; }

  void stop() override {
    std::lock_guard lock(mutex_);
    for (const auto& listener : std::exchange(udp_, {})) listener->stop();
    for (auto* list : {&tcp_, &tls_}) {
      for (const auto& listener : std::exchange(*list, {})) listener->stop();
    }
    for (const auto& listener : std::exchange(https_, {})) listener->stop(Duration::zero());
    if (service_) service_->stop();
  }

 private:
  static Result<void> check(const DnsServerOptions& options) {
    const auto invalid = [](const std::string& text) { return Error(Error::invalid, "dns", text); };
    if (options.ttl > kTtlMax)
      return invalid("ttl " + std::to_string(options.ttl) + " is above 3600 seconds");
    const auto zone = dns::make_name(options.zone);
    if (!zone || (zone->size() < 3 && !options.zone.empty()) || zone->size() > kZoneBytesMax)
      return invalid("zone \"" + options.zone + "\" is no domain name of at most 58 characters");
    const bool secure = !options.listen_tls.empty() || !options.listen_https.empty();
    if (options.listen.empty() && !secure) return invalid("no address to listen on");
    if (secure && (options.certificate_pem.empty() || options.key_pem.empty()))
      return invalid("listen_tls and listen_https need certificate_pem and key_pem");
    if (options.workers < 1 || options.workers > kWorkersMax)
      return invalid("workers " + std::to_string(options.workers) + " is not 1 to 64");
    if (options.stale_seconds > kStaleSecondsMax)
      return invalid("stale_seconds " + std::to_string(options.stale_seconds) + " is above 86400");
    if (options.autopath && (options.forward.empty() || options.zone.empty()))
      return invalid("autopath needs forward, and a cluster's zone");
    return {};
  }

  Result<void> make_service(Engine& engine, const DnsServerOptions& options, const std::vector<Sockets>& own,
                            const std::vector<net::IpAddress>& own_addresses) {
    dns::ServiceOptions service{.zone = {.zone = options.zone, .ttl = options.ttl}};
    ORC_ASSIGN(service.zone.names, dns::NameRules::read(options.names));
    ORC_ASSIGN(service.zone.reverse_ranges, parse_ranges(options.reverse_ranges, "reverse_ranges"));
    ORC_ASSIGN(service.allow_from, parse_ranges(options.allow_from, "allow_from"));
    service.unlimited = service.zone.reverse_ranges;
    for (const Sockets& sockets : own) service.zone.own_addresses.push_back(dns::ip_of(sockets.address));
    for (const net::IpAddress& address : own_addresses) {
      // This machine, asking its own address.
      service.allow_from.push_back({address, address.is_v4() ? 32 : 128});
      service.unlimited.push_back({address, address.is_v4() ? 32 : 128});
    }
    for (const char* loopback : {"127.0.0.0/8", "::1/128"}) {
      service.unlimited.push_back(*net::IpRange::parse(loopback));
      if (options.allow_from.empty()) service.allow_from.push_back(service.unlimited.back());
    }
    service.answers_per_second = options.answers_per_second;
    service.autopath = options.autopath;
    if (options.metrics) {
      ORC_ASSIGN(const auto durations,
                 options.metrics->histogram("orchestra_dns_request_duration_seconds",
                                            "From the arrival of a question to its answer.",
                                            {0.00001, 0.00005, 0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008,
                                             0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2, 4, 8}));
      service.durations = durations.with({});
    }
    engine.random().fill(service.cookie_key.data(), sizeof service.cookie_key);
    const auto forwarder = [&](std::vector<dns::Upstream> servers, const dns::Name& domain) {
      return std::make_shared<dns::Forwarder>(engine, std::move(servers), options.forward_policy,
                                              options.cache_bytes_max, options.stale_seconds, domain);
    };
    ORC_ASSIGN(auto servers, upstream_servers(options.forward, options.forward_ca_pem, own));
    dns::Service::StubForwarders stubs;
    for (const auto& [name, texts] : options.forward_zones) {
      const auto wire = dns::make_name(name);
      if (!wire || texts.empty()) {
        return Error(Error::invalid, "dns",
                     "forward_zones: \"" + name + "\" needs to be a domain with servers");
      }
      ORC_ASSIGN(auto stub, upstream_servers(texts, options.forward_ca_pem, own));
      stubs.emplace(*wire, forwarder(std::move(stub), *wire));
    }
    service_ = std::make_shared<dns::Service>(
        engine, std::move(service), forwarder(std::move(servers), dns::Name(1, '\0')), std::move(stubs));
    return {};
  }

  /// "192.0.2.53", "192.0.2.53:5353", "tls://192.0.2.53#dns.example" (port 853).
  static Result<std::vector<dns::Upstream>> upstream_servers(const std::vector<std::string>& texts,
                                                             const std::string& ca_pem,
                                                             const std::vector<Sockets>& own) {
    if (texts.size() > kForwardMax) {
      return Error(Error::invalid, "dns", "more than 15 upstream servers to forward to");
    }
    std::vector<dns::Upstream> servers;
    for (const std::string& text : texts) {
      dns::Upstream server;
      std::string place = text;
      const bool tls = place.starts_with(kTlsPrefix);
      if (tls) {
        const auto hash = place.find('#');
        if (hash == std::string::npos || hash + 1 == place.size()) {
          return Error(Error::invalid, "dns",
                       "upstream server " + text + " needs the name in its certificate: tls://ADDRESS#NAME");
        }
        server.tls_name = place.substr(hash + 1);
        place = place.substr(kTlsPrefix.size(), hash - kTlsPrefix.size());
        ORC_ASSIGN(server.tls, http::make_client_context({.ca_pem = ca_pem}));
      }
      if (place.find(':') != place.rfind(':') && !place.starts_with('[')) place = "[" + place + "]";
      auto address = http::parse_address(place, tls ? kTlsPort : 53);
      if (!address) return address.error().with_context("DNS option forward");
      const bool loops = std::any_of(own.begin(), own.end(), [&](const Sockets& sockets) {
        return sockets.address.text() == address->text();
      });
      if (loops) {
        return Error(Error::invalid, "dns",
                     "upstream server " + text + " is this server itself; name the servers behind it");
      }
      server.address = *address;
      servers.push_back(std::move(server));
    }
    return servers;
  }

  std::mutex mutex_;
  std::vector<std::string> addresses_;
  std::shared_ptr<dns::Service> service_;
  std::vector<std::shared_ptr<dns::UdpListener>> udp_;
  std::vector<std::shared_ptr<dns::TcpListener>> tcp_, tls_;
  std::vector<std::shared_ptr<HttpServer>> https_;
};

}  // namespace

Result<std::shared_ptr<DnsServer>> DnsServer::create(Engine& engine, DnsServerOptions options) {
  return Server::open(engine, options);
}

}  // namespace orchestra
