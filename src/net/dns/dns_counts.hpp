#pragma once
// Questions by type, and answers by type and response code, as a server's threads count them.
//
// The types are those that people look at, the rest is "other": so the counts are a small table of atomics,
// and who asks for odd types makes no new series. Any thread.
#include <array>
#include <atomic>
#include <cstdint>

#include "net/dns/message.hpp"
#include "orchestra/dns_server.hpp"

namespace orchestra::dns {

class DnsCounts {
 public:
  static constexpr std::array kTypes = {"other", "A",     "AAAA", "ANY", "CNAME", "DNSKEY", "DS",   "HTTPS",
                                        "MX",    "NAPTR", "NS",   "PTR", "SOA",   "SRV",    "SVCB", "TXT"};
  static constexpr std::array kRcodes = {"other",  "NOERROR", "FORMERR",  "SERVFAIL", "NXDOMAIN",
                                         "NOTIMP", "REFUSED", "YXDOMAIN", "BADVERS"};

  static constexpr std::size_t type_index(std::uint16_t type) {
    switch (type) {
      case 1:
        return 1;
      case 28:
        return 2;
      case 255:
        return 3;
      case 5:
        return 4;
      case 48:
        return 5;
      case 43:
        return 6;
      case 65:
        return 7;
      case 15:
        return 8;
      case 35:
        return 9;
      case 2:
        return 10;
      case 12:
        return 11;
      case 6:
        return 12;
      case 33:
        return 13;
      case 64:
        return 14;
      case 16:
        return 15;
      default:
        return 0;
    }
  }
  static constexpr std::size_t rcode_index(Rcode rcode) {
    const auto number = static_cast<std::size_t>(rcode);
    return number <= 6 ? number + 1 : rcode == Rcode::bad_version ? 8 : 0;
  }

  void asked(std::size_t type, std::uint64_t amount = 1) {
    asked_[type].fetch_add(amount, std::memory_order_relaxed);
  }
  void answered(std::size_t type, std::size_t rcode, std::uint64_t amount = 1) {
    answered_[type][rcode].fetch_add(amount, std::memory_order_relaxed);
  }
  /// What was counted at all.
  void tell(DnsStats& stats) const {
    for (std::size_t type = 0; type < kTypes.size(); ++type) {
      if (const std::uint64_t count = asked_[type]; count > 0) stats.requests.emplace(kTypes[type], count);
      for (std::size_t rcode = 0; rcode < kRcodes.size(); ++rcode) {
        if (const std::uint64_t count = answered_[type][rcode]; count > 0)
          stats.responses.emplace(std::pair(kTypes[type], kRcodes[rcode]), count);
      }
    }
  }

 private:
  std::array<std::atomic<std::uint64_t>, kTypes.size()> asked_{};
  std::array<std::array<std::atomic<std::uint64_t>, kRcodes.size()>, kTypes.size()> answered_{};
};

/// What a listener answered from its memory in one go, to be counted at once. Remembered are answers and "no
/// such name".
struct RememberedCounts {
  std::uint64_t answers = 0, name_errors = 0, forwarded = 0;
  std::array<std::array<std::uint32_t, 2>, DnsCounts::kTypes.size()> by_type{};  ///< [type][is a name error]

  void add(std::uint16_t type, bool name_error, bool upstream) {
    ++answers;
    name_errors += name_error;
    forwarded += upstream;
    ++by_type[DnsCounts::type_index(type)][name_error];
  }
};

}  // namespace orchestra::dns
