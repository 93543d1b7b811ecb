#include "net/ingress/balancer.hpp"

#include <algorithm>
#include <set>

namespace orchestra::ingress {
namespace {

constexpr std::int64_t kEjectNs = 30'000'000'000, kEjectNsMax = 300'000'000'000;
constexpr int kServerErrorsMax = 5;

std::string key_of(const Backend& backend) { return backend.service.to_string() + ":" + backend.port; }

}  // namespace

const Endpoint* Balancer::choose(const Backend& backend, const std::vector<std::string>& tried,
                                 std::int64_t now_ns) {
  const std::size_t count = backend.endpoints.size();
  if (count == 0) return nullptr;
  const auto [turn, fresh] = turns_.try_emplace(key_of(backend), seed_);
  const std::uint64_t start = turn->second++;
  const Endpoint* ejected = nullptr;
  for (std::size_t i = 0; i < count; ++i) {
    const Endpoint& endpoint = backend.endpoints[(start + i) % count];
    if (std::find(tried.begin(), tried.end(), endpoint.name) != tried.end()) continue;
    if (!is_ejected(endpoint.name, now_ns)) return &endpoint;
    if (ejected == nullptr) ejected = &endpoint;
  }
  return ejected;  // better one that failed lately than none
}

bool Balancer::is_ejected(const std::string& endpoint, std::int64_t now_ns) const {
  const auto found = health_.find(endpoint);
  return found != health_.end() && found->second.ejected_until_ns > now_ns;
}

void Balancer::connect_failed(const Backend& backend, const std::string& endpoint, std::int64_t now_ns) {
  eject(backend, health_[endpoint], now_ns);
}

void Balancer::answered(const Backend& backend, const std::string& endpoint, int status,
                        std::int64_t now_ns) {
  const auto found = health_.find(endpoint);
  if (status < 500) {
    if (found != health_.end() && found->second.ejected_until_ns <= now_ns) health_.erase(found);
    return;
  }
  Health& health = found != health_.end() ? found->second : health_[endpoint];
  if (++health.server_errors >= kServerErrorsMax) eject(backend, health, now_ns);
}

void Balancer::eject(const Backend& backend, Health& health, std::int64_t now_ns) {
  health.server_errors = 0;
  const std::size_t count = backend.endpoints.size();
  const auto out = static_cast<std::size_t>(
      std::count_if(backend.endpoints.begin(), backend.endpoints.end(),
                    [&](const Endpoint& endpoint) { return is_ejected(endpoint.name, now_ns); }));
  if (count < 2 || out >= std::max<std::size_t>(1, count / 10)) return;
  ++health.ejections;
  health.ejected_until_ns = now_ns + std::min(kEjectNs * health.ejections, kEjectNsMax);
}

void Balancer::keep_only(const RouteTable& table) {
  std::set<std::string, std::less<>> backends, endpoints;
  for (const auto& backend : table.backends()) {
    backends.insert(key_of(*backend));
    for (const Endpoint& endpoint : backend->endpoints) endpoints.insert(endpoint.name);
  }
  std::erase_if(turns_, [&](const auto& entry) { return !backends.contains(entry.first); });
  std::erase_if(health_, [&](const auto& entry) { return !endpoints.contains(entry.first); });
}

}  // namespace orchestra::ingress
