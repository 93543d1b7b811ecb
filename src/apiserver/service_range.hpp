#pragma once
// The range of Service addresses, IPv4.
#include <cstdint>
#include <string>

#include "orchestra/result.hpp"

namespace orchestra::apiserver {

struct ServiceRange {
  std::string text;
  std::uint32_t base = 0;  ///< host byte order
  int prefix = 32;

  /// An unusable text gives a range without addresses; `check` says why.
  static ServiceRange parse(const std::string& cidr);
  static Result<void> check(const std::string& cidr);
  /// Addresses without network and broadcast: numbers 1..usable().
  std::uint64_t usable() const;
  std::string address(std::uint64_t number) const;
  bool contains(const std::string& address) const;
};

}  // namespace orchestra::apiserver
