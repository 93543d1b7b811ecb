#pragma once
// Which backend of a route a request goes to, when somebody steers it: matches first, then weights. Pure.
//
// A plan is what was asked for, by route key; compiled into a table it becomes a Split of the route, with
// real backends. A share is chosen per request, so that keep-alive never pins a client to a variant.
#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/http/head.hpp"
#include "orchestra/traffic_router.hpp"

namespace orchestra::ingress {

struct Backend;

constexpr std::size_t kBackendsPerRouteMax = 16, kMatchesPerRouteMax = 32, kConditionsPerMatchMax = 8;
constexpr std::size_t kSteeredRoutesMax = 10'000;

/// Of one backend of one route; counted on the workers, read by observe().
struct TrafficCounters {
  std::atomic<std::uint64_t> requests{0}, connect_failures{0};
  std::array<std::atomic<std::uint64_t>, 5> answers{};
  void answered(int status) {
    if (status >= 100 && status < 600) ++answers[static_cast<std::size_t>(status / 100 - 1)];
  }
};

struct RoutePlan {
  std::map<std::string, std::uint32_t> weights;
  std::vector<TrafficMatch> matches;
  std::map<std::string, std::shared_ptr<TrafficCounters>>
      counters;  ///< by backend; also of earlier ones, at most 96
};
using TrafficPlan = std::map<std::string, RoutePlan, std::less<>>;

/// One backend that requests may be sent to.
struct SplitTarget {
  std::shared_ptr<const Backend> backend;
  std::shared_ptr<TrafficCounters> counters;
};
struct Split {
  struct Match {
    std::vector<TrafficCondition> conditions;
    SplitTarget to;
  };
  struct Share {
    std::uint64_t up_to = 0;  ///< exclusive bound in [0, total)
    SplitTarget to;
  };
  std::vector<Match> matches;
  std::vector<Share> shares;  ///< none: requests without a match go where the rule says
  std::uint64_t total = 0;

  /// nullptr: where the rule says. `random` is any number; `query` has its "?" or is empty.
  const SplitTarget* choose(const http::Head& head, std::string_view query, std::uint64_t random) const;
};

/// "shop.example/api" from the host and path of a rule; final slashes do not count.
std::string route_key(std::string_view host, std::string_view path);
Result<void> check_route(const std::string& route);
Result<void> check_weights(const std::map<std::string, std::uint32_t>& weights);
Result<void> check_matches(const std::vector<TrafficMatch>& matches);

}  // namespace orchestra::ingress
