#pragma once
// TrafficRouter: what share of the requests of a route each backend gets, and what came of it.
//
// Progressive delivery speaks to this interface; HttpProxy::traffic() implements it for our own proxy. A
// route is "HOST/PATH" as in the rule of an Ingress ("shop.example/api", "/" for any host); a backend is a
// Service of the namespace of that Ingress, at the port that the rule names. Any thread. Since 0.1.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/result.hpp"

namespace orchestra {

/// One condition on a request.
struct TrafficCondition {
  enum class Source : std::uint8_t { header, cookie, query, method };
  enum class Kind : std::uint8_t { exact, prefix, suffix, present };
  Source source = Source::header;
  std::string name;  ///< of the header (any case), cookie or query parameter; empty for the method
  Kind kind = Kind::exact;
  std::string value;
};
/// Requests that meet all conditions go to the backend, before any weights.
struct TrafficMatch {
  std::vector<TrafficCondition> conditions;  ///< at least one
  std::string backend;
};

/// What was seen of one backend of a route since the proxy started.
struct TrafficObservation {
  std::string backend;
  std::uint64_t requests = 0;
  std::uint64_t answers[5] = {};  ///< by status class: 1xx .. 5xx, as the client got them
  std::uint64_t connect_failures = 0;
};

class ORC_API TrafficRouter {
 public:
  virtual ~TrafficRouter() = default;
  /// Shares are weight / sum. 0 takes no new request at once; running ones end normally. Answers the version
  /// that holds it. `invalid`: no weight above 0, more than 16 backends, or a route that is not HOST/PATH.
  /// A route that no Ingress has yet waits for one.
  virtual Result<std::uint64_t> set_weights(const std::string& route,
                                            std::map<std::string, std::uint32_t> weights) = 0;
  /// Replaces the matches of the route; at most 32 of at most 8 conditions.
  virtual Result<std::uint64_t> set_matches(const std::string& route, std::vector<TrafficMatch> matches) = 0;
  /// The route goes where its Ingress says again.
  virtual Result<std::uint64_t> reset(const std::string& route) = 0;
  /// True once every new request follows `version` or a later one.
  virtual bool confirmed(std::uint64_t version) const = 0;
  virtual std::vector<TrafficObservation> observe(const std::string& route) const = 0;
};

}  // namespace orchestra
