#pragma once
// Which endpoint gets the next request, and which ones are left alone for a while. Pure: `now` is given.
//
// Round robin per Service port. Passive health: a refused connection, or five answers of 5xx in a row, takes
// an endpoint out for 30 s, longer each time, at most 5 minutes. At most a tenth of the endpoints (but at
// least one) is out at a time and never the last one. State is kept by the endpoint's name, so it survives
// new tables.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "net/ingress/route_table.hpp"

namespace orchestra::ingress {

class Balancer {
 public:
  /// `seed` gives workers different starting points.
  explicit Balancer(std::uint64_t seed) : seed_(seed) {}

  /// nullptr when every endpoint is in `tried`.
  const Endpoint* choose(const Backend& backend, const std::vector<std::string>& tried, std::int64_t now_ns);
  void connect_failed(const Backend& backend, const std::string& endpoint, std::int64_t now_ns);
  void answered(const Backend& backend, const std::string& endpoint, int status, std::int64_t now_ns);
  bool is_ejected(const std::string& endpoint, std::int64_t now_ns) const;
  /// Forgets Services and endpoints that no longer exist.
  void keep_only(const RouteTable& table);

 private:
  struct Health {
    int server_errors = 0;  ///< in a row
    int ejections = 0;
    std::int64_t ejected_until_ns = 0;
  };
  void eject(const Backend& backend, Health& health, std::int64_t now_ns);

  const std::uint64_t seed_;
  std::map<std::string, std::uint64_t, std::less<>> turns_;
  std::map<std::string, Health, std::less<>> health_;
};

}  // namespace orchestra::ingress
