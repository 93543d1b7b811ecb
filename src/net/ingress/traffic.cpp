#include "net/ingress/traffic.hpp"

#include <algorithm>
#include <numeric>

namespace orchestra::ingress {
namespace {

Error bad(const std::string& message) { return Error(Error::invalid, "ingress", message); }

bool fits(const TrafficCondition& condition, std::string_view value) {
  switch (condition.kind) {
    case TrafficCondition::Kind::exact:
      return value == condition.value;
    case TrafficCondition::Kind::prefix:
      return value.starts_with(condition.value);
    case TrafficCondition::Kind::suffix:
      return value.ends_with(condition.value);
    case TrafficCondition::Kind::present:
      return true;
  }
  return false;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

/// True if one of the `name=value` parts between `separator`s fits; a part without "=" has an empty value.
bool any_part_fits(const TrafficCondition& condition, std::string_view parts, char separator) {
  while (!parts.empty()) {
    const std::size_t end = std::min(parts.find(separator), parts.size());
    const std::string_view part = trimmed(parts.substr(0, end));
    parts.remove_prefix(std::min(end + 1, parts.size()));
    const std::size_t equals = std::min(part.find('='), part.size());
    if (part.substr(0, equals) != condition.name) continue;
    if (fits(condition, part.substr(std::min(equals + 1, part.size())))) return true;
  }
  return false;
}

bool meets(const TrafficCondition& condition, const http::Head& head, std::string_view query) {
  switch (condition.source) {
    case TrafficCondition::Source::method:
      return fits(condition, head.method);
    case TrafficCondition::Source::query:
      return any_part_fits(condition, query.empty() ? query : query.substr(1), '&');
    case TrafficCondition::Source::header:
      return std::any_of(head.fields.begin(), head.fields.end(), [&](const http::Field& field) {
        return http::equal_ignoring_case(field.name, condition.name) && fits(condition, field.value);
      });
    case TrafficCondition::Source::cookie:
      return std::any_of(head.fields.begin(), head.fields.end(), [&](const http::Field& field) {
        return http::equal_ignoring_case(field.name, "cookie") && any_part_fits(condition, field.value, ';');
      });
  }
  return false;
}

}  // namespace

const SplitTarget* Split::choose(const http::Head& head, std::string_view query, std::uint64_t random) const {
  for (const Match& match : matches) {
    const bool all = std::all_of(match.conditions.begin(), match.conditions.end(),
                                 [&](const auto& condition) { return meets(condition, head, query); });
    if (all) return &match.to;
  }
  if (total == 0) return nullptr;
  const std::uint64_t point = random % total;  // the bias of the remainder is below 2^-27
  for (const Share& share : shares) {
    if (point < share.up_to) return &share.to;
  }
  return nullptr;
}

std::string route_key(std::string_view host, std::string_view path) {
  while (!path.empty() && path.back() == '/') path.remove_suffix(1);
  std::string key(host);
  if (path.empty()) return key + "/";
  return key += path;
}

Result<void> check_route(const std::string& route) {
  const std::size_t slash = route.find('/');
  const bool host_fits =
      slash == 0 ||
      (slash != std::string::npos &&
       std::all_of(route.begin(), route.begin() + static_cast<std::ptrdiff_t>(slash),
                   [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '-' || c == '*'; }));
  if (host_fits && route.size() <= 4096) return {};
  return bad("route \"" + route.substr(0, 200) + "\" is not HOST/PATH, as in shop.example/api");
}

Result<void> check_weights(const std::map<std::string, std::uint32_t>& weights) {
  if (weights.size() > kBackendsPerRouteMax)
    return bad("a route has at most " + std::to_string(kBackendsPerRouteMax) + " backends, not " +
               std::to_string(weights.size()));
  std::uint64_t sum = 0;
  for (const auto& [name, weight] : weights) {
    if (name.empty()) return bad("a backend needs the name of a Service");
    sum += weight;
  }
  if (sum == 0) return bad("at least one weight must be above 0, else no request could be answered");
  return {};
}

Result<void> check_matches(const std::vector<TrafficMatch>& matches) {
  if (matches.size() > kMatchesPerRouteMax)
    return bad("a route has at most " + std::to_string(kMatchesPerRouteMax) + " matches");
  for (const TrafficMatch& match : matches) {
    if (match.backend.empty()) return bad("a match needs the name of a Service as its backend");
    if (match.conditions.empty()) return bad("a match needs a condition; all requests are the weights' part");
    if (match.conditions.size() > kConditionsPerMatchMax)
      return bad("a match has at most " + std::to_string(kConditionsPerMatchMax) + " conditions");
    for (const TrafficCondition& condition : match.conditions) {
      const bool named = condition.source != TrafficCondition::Source::method;
      if (named && condition.name.empty())
        return bad("a condition on a header, cookie or query needs a name");
    }
  }
  return {};
}

}  // namespace orchestra::ingress
