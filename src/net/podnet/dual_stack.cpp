#include "net/podnet/dual_stack.hpp"

#include <algorithm>

namespace orchestra::net {

constexpr int kPrefixMax = 96;

IpAddress with_prefix(const IpRange& cluster6, const IpAddress& v4) {
  IpAddress out = cluster6.base;
  std::copy_n(v4.bytes.begin(), 4, out.bytes.begin() + 12);
  return out;
}

IpRange with_prefix(const IpRange& cluster6, const IpRange& v4) {
  return {with_prefix(cluster6, v4.base), kPrefixMax + v4.prefix};
}

IpAddress number_of(const IpAddress& address) {
  if (address.is_v4()) return address;
  IpAddress out = IpAddress::v4(0);
  std::copy_n(address.bytes.begin() + 12, 4, out.bytes.begin());
  return out;
}

std::optional<IpRange> numbers_of(const IpRange& range) {
  if (range.base.is_v4()) return range;
  if (range.prefix < kPrefixMax) return std::nullopt;
  return IpRange{number_of(range.base), range.prefix - kPrefixMax};
}

Result<std::optional<IpRange>> parse_cluster6(const std::string& text) {
  if (text.empty()) return std::optional<IpRange>();
  ORC_ASSIGN(const IpRange range, IpRange::parse(text));
  if (range.base.is_v4() || range.prefix > kPrefixMax || range.prefix < 16) {
    return Error(Error::invalid, "podnet",
                 "the IPv6 range of pods " + text + " must be IPv6 with a prefix of /16 to /96");
  }
  return std::optional(range);
}

}  // namespace orchestra::net
