// The ranges of Service addresses: see service_range.hpp.
#include "apiserver/service_range.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace orchestra::apiserver {
namespace {

int bits_of(int family) { return family == 4 ? 32 : 128; }

struct Parsed {
  std::array<std::uint8_t, 16> bytes{};
  int family = 0;
};
std::optional<Parsed> parse_address(const std::string& text) {
  Parsed out;
  if (inet_pton(AF_INET, text.c_str(), out.bytes.data()) == 1) {
    out.family = 4;
  } else if (inet_pton(AF_INET6, text.c_str(), out.bytes.data()) == 1) {
    out.family = 6;
  } else {
    return std::nullopt;
  }
  return out;
}
std::string text_of(const std::array<std::uint8_t, 16>& bytes, int family) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(family == 4 ? AF_INET : AF_INET6, bytes.data(), text.data(), text.size());
  return text.data();
}

/// The last 32 bits: no range has more.
std::uint32_t low_bits(const std::array<std::uint8_t, 16>& bytes, int family) {
  const std::size_t at = family == 4 ? 0 : 12;
  return (std::uint32_t{bytes[at]} << 24) | (std::uint32_t{bytes[at + 1]} << 16) |
         (std::uint32_t{bytes[at + 2]} << 8) | bytes[at + 3];
}
void set_low_bits(std::array<std::uint8_t, 16>& bytes, int family, std::uint32_t value) {
  const std::size_t at = family == 4 ? 0 : 12;
  for (std::size_t i = 0; i < 4; ++i) bytes[at + i] = static_cast<std::uint8_t>(value >> (24 - 8 * i));
}

}  // namespace

ServiceRange ServiceRange::parse(const std::string& cidr) {
  ServiceRange range;
  range.text = cidr;
  const std::size_t slash = cidr.find('/');
  if (slash == std::string::npos) return range;
  const auto address = parse_address(cidr.substr(0, slash));
  int prefix = 0;
  const char* const end = cidr.data() + cidr.size();
  const auto [next, failed] = std::from_chars(cidr.data() + slash + 1, end, prefix);
  if (!address || failed != std::errc() || next != end) return range;
  const bool four = address->family == 4;
  if (prefix < (four ? 8 : 108) || prefix > (four ? 30 : 126)) return range;
  range.prefix = prefix;
  range.family = address->family;
  range.base = address->bytes;
  const std::uint32_t mask = ~std::uint32_t{0} << (bits_of(range.family) - prefix);
  set_low_bits(range.base, range.family, low_bits(range.base, range.family) & mask);
  return range;
}

std::vector<ServiceRange> ServiceRange::parse_all(const std::string& cidrs) {
  std::vector<ServiceRange> out;
  for (std::size_t at = 0; at <= cidrs.size();) {
    const std::size_t end = std::min(cidrs.find(',', at), cidrs.size());
    out.push_back(parse(cidrs.substr(at, end - at)));
    at = end + 1;
  }
  return out;
}

Result<void> ServiceRange::check(const std::string& cidrs) {
  const std::vector<ServiceRange> all = parse_all(cidrs);
  const int first = all.front().family, last = all.back().family;
  if (first != 0 && last != 0 && (all.size() == 1 || (all.size() == 2 && first != last))) return {};
  return Error(
      Error::invalid, "apiserver",
      "service_cidr \"" + cidrs +
          "\" is not an IPv4 range with a prefix of 8 to 30, such as 10.96.0.0/16, an IPv6 range with "
          "a prefix of 108 to 126, or one of each with a comma between them");
}

std::uint64_t ServiceRange::usable() const {
  if (family == 0) return 0;
  return (std::uint64_t{1} << (bits_of(family) - prefix)) - (family == 4 ? 2 : 1);
}

std::string ServiceRange::address(std::uint64_t number) const {
  std::array<std::uint8_t, 16> bytes = base;
  set_low_bits(bytes, family, low_bits(base, family) + static_cast<std::uint32_t>(number));
  return text_of(bytes, family);
}

bool ServiceRange::contains(const std::string& address) const {
  const auto parsed = parse_address(address);
  if (!parsed || parsed->family != family) return false;
  if (family == 6 && !std::equal(base.begin(), base.begin() + 12, parsed->bytes.begin())) return false;
  const std::uint64_t value = low_bits(parsed->bytes, family), first = low_bits(base, family);
  return value > first && value <= first + usable();
}

std::string canonical_address(const std::string& address) {
  const auto parsed = parse_address(address);
  return parsed ? text_of(parsed->bytes, parsed->family) : address;
}

}  // namespace orchestra::apiserver
