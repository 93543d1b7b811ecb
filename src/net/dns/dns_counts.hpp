#pragma once
// Questions by type, and answers by type and response code, as a server's threads count them.
//
// The types are those that people look at, the rest is "other": so the counts are a small table of atomics,
// and who asks for odd types makes no new series. Any thread.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "net/dns/message.hpp"
#include "net/dns/record_text.hpp"
#include "orchestra/dns_server.hpp"

namespace orchestra::dns {

class DnsCounts {
 public:
  /// Types and response codes with a count of their own, rising; index 0 of a table is all others.
  static constexpr std::array<std::uint16_t, 15> kTypes = {1,  2,  5,  6,  12, 15, 16, 28,
                                                           33, 35, 43, 48, 64, 65, 255};
  static constexpr std::array<std::uint16_t, 8> kRcodes = {0, 1, 2, 3, 4, 5, 6, 16};
  static constexpr std::size_t kTypeCount = kTypes.size() + 1, kRcodeCount = kRcodes.size() + 1;

  static constexpr std::size_t type_index(std::uint16_t type) { return index_in(kTypes, type); }
  static constexpr std::size_t rcode_index(Rcode rcode) {
    return index_in(kRcodes, static_cast<std::uint16_t>(rcode));
  }

  void asked(std::size_t type, std::uint64_t amount = 1) {
    asked_[type].fetch_add(amount, std::memory_order_relaxed);
  }
  void answered(std::size_t type, std::size_t rcode, std::uint64_t amount = 1) {
    answered_[type][rcode].fetch_add(amount, std::memory_order_relaxed);
  }
  /// What was counted at all.
  void tell(DnsStats& stats) const {
    for (std::size_t type = 0; type < kTypeCount; ++type) {
      const std::string name = type == 0 ? "other" : type_text(Type{kTypes[type - 1]});
      if (const std::uint64_t count = asked_[type]; count > 0) stats.requests.emplace(name, count);
      for (std::size_t rcode = 0; rcode < kRcodeCount; ++rcode) {
        const std::uint64_t count = answered_[type][rcode];
        if (count > 0)
          stats.responses.emplace(std::pair(name, rcode == 0 ? "other" : rcode_text(kRcodes[rcode - 1])),
                                  count);
      }
    }
  }

 private:
  template <std::size_t N>
  static constexpr std::size_t index_in(const std::array<std::uint16_t, N>& all, std::uint16_t one) {
    const auto at = std::lower_bound(all.begin(), all.end(), one);
    return at != all.end() && *at == one ? static_cast<std::size_t>(at - all.begin()) + 1 : 0;
  }
  std::array<std::atomic<std::uint64_t>, kTypeCount> asked_{};
  std::array<std::array<std::atomic<std::uint64_t>, kRcodeCount>, kTypeCount> answered_{};
};

/// What a listener answered from its memory in one go, to be counted at once. Remembered are answers and "no
/// such name".
struct RememberedCounts {
  std::uint64_t answers = 0, name_errors = 0, forwarded = 0;
  std::array<std::array<std::uint32_t, 2>, DnsCounts::kTypeCount> by_type{};  ///< [type][is a name error]

  void add(std::uint16_t type, bool name_error, bool upstream) {
    ++answers;
    name_errors += name_error;
    forwarded += upstream;
    ++by_type[DnsCounts::type_index(type)][name_error];
  }
};

}  // namespace orchestra::dns
