// Addresses and ranges of both families: parsing, printing, membership.
//
// inet_pton is the only parser (it refuses the octal and short forms that inet_aton takes), inet_ntop the
// only printer, so equal addresses have equal text.
#include <arpa/inet.h>

#include <cstring>

#include "net/snapshot.hpp"

namespace orchestra::net {
namespace {

bool has_prefix(const IpAddress& address, const IpAddress& base, int prefix) {
  const int whole = prefix / 8;
  const int rest = prefix % 8;
  if (std::memcmp(address.bytes.data(), base.bytes.data(), static_cast<std::size_t>(whole)) != 0)
    return false;
  if (rest == 0) return true;
  const int shift = 8 - rest;
  const auto at = static_cast<std::size_t>(whole);
  return (address.bytes[at] >> shift) == (base.bytes[at] >> shift);
}

}  // namespace

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  const std::string copy(text);
  IpAddress address;
  address.family = copy.find(':') == std::string::npos ? 4 : 6;
  const int family = address.is_v4() ? AF_INET : AF_INET6;
  if (::inet_pton(family, copy.c_str(), address.bytes.data()) != 1) return std::nullopt;
  return address;
}

IpAddress IpAddress::v4(std::uint32_t host_order) {
  IpAddress address;
  for (std::size_t i = 0; i < 4; ++i)
    address.bytes[i] = static_cast<std::uint8_t>(host_order >> (24 - 8 * i));
  return address;
}

std::string IpAddress::to_string() const {
  char text[INET6_ADDRSTRLEN] = {};
  ::inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes.data(), text, sizeof text);
  return text;
}

std::uint32_t IpAddress::v4_number() const {
  return (std::uint32_t{bytes[0]} << 24) | (std::uint32_t{bytes[1]} << 16) | (std::uint32_t{bytes[2]} << 8) |
         std::uint32_t{bytes[3]};
}

Result<IpRange> IpRange::parse(std::string_view text) {
  const auto bad = [&](const char* why) {
    return Error(
        Error::invalid, "net",
        "\"" + std::string(text) + "\" is not an address range: " + why + " (want e.g. 10.244.0.0/16)");
  };
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return bad("the prefix length is missing");
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return bad("the address cannot be read");
  const auto length = text.substr(slash + 1);
  if (length.empty() || length.size() > 3) return bad("the prefix length cannot be read");
  int prefix = 0;
  for (const char digit : length) {
    if (digit < '0' || digit > '9') return bad("the prefix length cannot be read");
    prefix = prefix * 10 + (digit - '0');
  }
  const int bits = address->is_v4() ? 32 : 128;
  if (prefix > bits) return bad("the prefix length is too large");
  for (int bit = prefix; bit < bits; ++bit) {
    if ((address->bytes[static_cast<std::size_t>(bit / 8)] >> (7 - bit % 8)) & 1) {
      return bad("bits behind the prefix are set");
    }
  }
  return IpRange{*address, prefix};
}

bool IpRange::contains(const IpAddress& address) const {
  return address.family == base.family && has_prefix(address, base, prefix);
}

bool IpRange::overlaps(const IpRange& other) const {
  if (base.family != other.base.family) return false;
  return prefix <= other.prefix ? contains(other.base) : other.contains(base);
}

std::string IpRange::to_string() const { return base.to_string() + "/" + std::to_string(prefix); }

const char* endpoint_address_refusal(const IpAddress& address) {
  const auto& bytes = address.bytes;
  if (address.is_v4()) {
    if (bytes[0] == 0) return "is unspecified";
    if (bytes[0] == 127) return "is in the loopback range 127.0.0.0/8";
    if (bytes[0] == 169 && bytes[1] == 254) return "is in the link-local range 169.254.0.0/16";
    if (bytes[0] >= 224 && bytes[0] < 240) return "is multicast";
    if (address.v4_number() == 0xffffffffu) return "is the broadcast address";
    return nullptr;
  }
  bool zero_head = true;
  for (std::size_t i = 0; i < 15; ++i) zero_head = zero_head && bytes[i] == 0;
  if (zero_head && bytes[15] == 0) return "is unspecified";
  if (zero_head && bytes[15] == 1) return "is the loopback address";
  if (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80) return "is in the link-local range fe80::/10";
  if (bytes[0] == 0xff) return "is multicast";
  static constexpr std::uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (std::memcmp(bytes.data(), kMapped, sizeof kMapped) == 0) return "is an IPv4 address in IPv6 form";
  return nullptr;
}

}  // namespace orchestra::net
