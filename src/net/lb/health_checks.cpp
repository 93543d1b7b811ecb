#include "net/lb/health_checks.hpp"

#include <set>

#include "base/json.hpp"
#include "net/podnet/in_namespace.hpp"

namespace orchestra::net {
namespace {

constexpr Duration kCloseGrace = std::chrono::milliseconds(100);
constexpr std::size_t kConnectionsMax = 100;  // of one port: some balancers, each a few at once

std::string quoted(const std::string& text) { return to_json(json::value(text)); }

}  // namespace

std::map<std::uint16_t, HealthCheck> wanted_health_checks(
    const NetworkSnapshot::Table<NetworkService>& services, std::string_view node) {
  std::map<std::uint16_t, HealthCheck> out;
  for (const auto& [name, service] : services) {
    if (service->health_check_port == 0 || service->foreign_proxy) continue;
    std::set<std::string> local;
    for (const NetworkServicePort& port : service->ports) {
      for (const NetworkEndpoint& endpoint : port.endpoints) {
        if (endpoint.ready && endpoint.node == node) local.insert(endpoint.address);
      }
    }
    out.try_emplace(service->health_check_port, HealthCheck{name, service->uid, local.size()});
  }
  return out;
}

HealthAnswer answer_health_check(const HealthCheck& check, bool proxy_healthy) {
  const std::string count = std::to_string(check.local_endpoints);
  HealthAnswer answer;
  answer.status = check.local_endpoints > 0 && proxy_healthy ? 200 : 503;
  answer.headers = {{"Content-Type", "application/json"},
                    {"X-Content-Type-Options", "nosniff"},
                    {"X-Load-Balancing-Endpoint-Weight", count}};
  answer.body = "{\n\t\"service\": {\n\t\t\"namespace\": " + quoted(check.service.ns) +
                ",\n\t\t\"name\": " + quoted(check.service.name) + "\n\t},\n\t\"localEndpoints\": " + count +
                ",\n\t\"serviceProxyHealthy\": " + (proxy_healthy ? "true" : "false") + "\n}";
  return answer;
}

HealthChecks::HealthChecks(Engine& engine, std::string node, NetworkNamespace name_space)
    : engine_(engine),
      node_(std::move(node)),
      name_space_(std::move(name_space)),
      shared_(std::make_shared<Shared>()) {}
HealthChecks::~HealthChecks() { close(); }

void HealthChecks::apply(const NetworkSnapshot& snapshot, std::vector<NetworkRejection>& rejected) {
  using Record = std::shared_ptr<const NetworkService>;
  NetworkSnapshot::Table<NetworkService>::compare(
      applied_, snapshot.services, [&](const NamespacedName& name, const Record*, const Record* is) {
        if (is != nullptr && (*is)->health_check_port != 0) {
          checked_.set(name, *is);
        } else {
          checked_.erase(name);
        }
      });
  applied_ = snapshot.services;
  const auto wanted = wanted_health_checks(checked_, node_);
  {
    std::lock_guard lock(shared_->mutex);
    shared_->checks = wanted;
  }
  for (auto server = servers_.begin(); server != servers_.end();) {
    if (wanted.contains(server->first)) {
      ++server;
      continue;
    }
    for (const auto& each : server->second) each->stop(kCloseGrace);
    server = servers_.erase(server);
  }
  for (const auto& [port, check] : wanted) {
    if (servers_.contains(port)) continue;
    auto four = listen("0.0.0.0", port);
    if (!four) {
      rejected.push_back({"Service", check.service.ns, check.service.name, check.uid,
                          "FailedToStartServiceHealthcheck",
                          "node " + node_ + " failed to start healthcheck \"" + check.service.to_string() +
                              "\" on port " + std::to_string(port) + ": " + four.error().to_string()});
      continue;
    }
    auto& servers = servers_[port];
    servers.push_back(*four);
    // A machine without IPv6 answers by IPv4.
    if (auto six = listen("[::]", port)) servers.push_back(*six);
  }
}

Result<std::shared_ptr<HttpServer>> HealthChecks::listen(const std::string& host, std::uint16_t port) {
  HttpServerOptions options;
  options.listen = host + ":" + std::to_string(port);
  options.connections_max = kConnectionsMax;
  const auto handler = [shared = shared_, port](const HttpServerRequest&,
                                                const std::shared_ptr<HttpResponder>& responder) {
    HealthAnswer answer;
    {
      std::lock_guard lock(shared->mutex);
      const auto found = shared->checks.find(port);
      // Between the Service's removal and the end of its listener.
      if (found != shared->checks.end()) answer = answer_health_check(found->second, shared->proxy_healthy);
    }
    responder->respond(answer.status, std::move(answer.headers), std::move(answer.body));
  };
  return in_namespace_get<std::shared_ptr<HttpServer>>(
      name_space_, [&] { return HttpServer::start(engine_, options, handler); });
}

void HealthChecks::set_proxy_healthy(bool healthy) {
  std::lock_guard lock(shared_->mutex);
  shared_->proxy_healthy = healthy;
}

void HealthChecks::close() {
  for (const auto& [port, servers] : servers_) {
    for (const auto& server : servers) server->stop(kCloseGrace);
  }
  servers_.clear();
}

}  // namespace orchestra::net
