#pragma once
// Ranges of Service addresses: of IPv4, of IPv6, or one of each. The first is of the family of Services that
// do not say which.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra::apiserver {

struct ServiceRange {
  std::string text;
  std::array<std::uint8_t, 16> base{};  ///< network order; IPv4 uses the first four
  int prefix = 0;
  int family = 0;  ///< 4, 6; 0: a range without addresses

  /// One range, IPv4 with a prefix of 8 to 30 or IPv6 with one of 108 to 126. An unusable text gives a range
  /// without addresses; `check` says why.
  static ServiceRange parse(const std::string& cidr);
  /// "10.96.0.0/16" or "10.96.0.0/16,fd00:10:96::/112", or the other way round.
  static std::vector<ServiceRange> parse_all(const std::string& cidrs);
  static Result<void> check(const std::string& cidrs);
  /// Addresses without the first one and IPv4's broadcast: numbers 1..usable().
  std::uint64_t usable() const;
  std::string address(std::uint64_t number) const;
  bool contains(const std::string& address) const;
};

/// One text for each address: how allocations are named. As it is when it is no address.
std::string canonical_address(const std::string& address);

}  // namespace orchestra::apiserver
