#pragma once
// Limits answers by UDP to one network of askers: a forged source would have them sent to somebody who never
// asked. Pure: `now` is an argument.
//
// A bucket for each /24 (IPv6: /56) holds a second's worth of answers. Above it every second question gets an
// answer that only says "come by TCP", which is no larger than the question and which an asker that is really
// there can follow; the others get nothing. Memory is fixed: two networks that share a place take turns.
#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "net/dns/cookie.hpp"

namespace orchestra::dns {

enum class RateVerdict : std::uint8_t { answer, slip, drop };

class RateLimiter {
 public:
  /// 0: no limit.
  RateLimiter(std::uint32_t answers_per_second, CookieKey key) : rate_(answers_per_second), key_(key) {
    if (rate_ > 0) buckets_.resize(kBuckets);
  }

  RateVerdict ask(const net::IpAddress& source, std::int64_t now_ns) {
    if (rate_ == 0) return RateVerdict::answer;
    // 3 of 4 octets, or 7 of 16.
    const std::string_view network(reinterpret_cast<const char*>(source.bytes.data()),
                                   source.is_v4() ? 3 : 7);
    const std::uint64_t hash = sip_hash(key_, network) | 1;
    Bucket& bucket = buckets_[(hash >> 32) % kBuckets];
    if (bucket.network != hash) bucket = {hash, static_cast<double>(rate_), now_ns, false};
    const double earned = static_cast<double>(now_ns - bucket.at_ns) * 1e-9 * rate_;
    bucket.left = std::min<double>(rate_, bucket.left + std::max(earned, 0.0));
    bucket.at_ns = now_ns;
    if (bucket.left >= 1) {
      bucket.left -= 1;
      return RateVerdict::answer;
    }
    bucket.slip = !bucket.slip;
    return bucket.slip ? RateVerdict::slip : RateVerdict::drop;
  }

 private:
  static constexpr std::size_t kBuckets = 16384;
  struct Bucket {
    std::uint64_t network = 0;  // its hash; 0: nobody yet
    double left = 0;
    std::int64_t at_ns = 0;
    bool slip = false;
  };
  const std::uint32_t rate_;
  const CookieKey key_;
  std::vector<Bucket> buckets_;
};

}  // namespace orchestra::dns
