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
