#pragma once
// The network snapshot (the public header holds the records) and the address helpers its readers share.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "orchestra/network_snapshot.hpp"

namespace orchestra::net {

/// An IPv4 or IPv6 address as bytes in network order.
struct IpAddress {
  std::uint8_t family = 4;  ///< 4 or 6
  std::array<std::uint8_t, 16> bytes{};
  static std::optional<IpAddress> parse(std::string_view text);
  static IpAddress v4(std::uint32_t host_order);
  std::string to_string() const;
  bool is_v4() const { return family == 4; }
  std::uint32_t v4_number() const;  ///< host order; only when is_v4()
  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;
};

/// "10.244.1.0/24". Host bits must be zero.
struct IpRange {
  IpAddress base;
  int prefix = 0;
  static Result<IpRange> parse(std::string_view text);
  bool contains(const IpAddress& address) const;
  bool overlaps(const IpRange& other) const;
  std::string to_string() const;
  friend bool operator==(const IpRange&, const IpRange&) = default;
};

/// Why nothing may be sent to this endpoint address (CVE-2021-25737), or nullptr when it is fine.
const char* endpoint_address_refusal(const IpAddress& address);

}  // namespace orchestra::net
