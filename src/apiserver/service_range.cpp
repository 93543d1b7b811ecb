// The range of Service addresses: see service_range.hpp.
#include "apiserver/service_range.hpp"

#include <arpa/inet.h>

#include <array>
#include <cstdlib>

namespace orchestra::apiserver {

ServiceRange ServiceRange::parse(const std::string& cidr) {
  ServiceRange range;
  range.text = cidr;
  const std::size_t slash = cidr.find('/');
  struct in_addr address {};
  if (slash == std::string::npos || inet_pton(AF_INET, cidr.substr(0, slash).c_str(), &address) != 1)
    return range;
  const int prefix = std::atoi(cidr.c_str() + slash + 1);
  if (prefix < 8 || prefix > 30) return range;
  range.prefix = prefix;
  range.base = ntohl(address.s_addr) & (~std::uint32_t{0} << (32 - prefix));
  return range;
}

Result<void> ServiceRange::check(const std::string& cidr) {
  if (parse(cidr).usable() > 0) return {};
  return Error(
      Error::invalid, "apiserver",
      "service_cidr \"" + cidr + "\" is not an IPv4 range with a prefix of 8 to 30, such as 10.96.0.0/16");
}

std::uint64_t ServiceRange::usable() const {
  return prefix == 32 ? 0 : (std::uint64_t{1} << (32 - prefix)) - 2;
}

std::string ServiceRange::address(std::uint64_t number) const {
  struct in_addr address {};
  address.s_addr = htonl(base + static_cast<std::uint32_t>(number));
  std::array<char, INET_ADDRSTRLEN> text{};
  inet_ntop(AF_INET, &address, text.data(), text.size());
  return text.data();
}

bool ServiceRange::contains(const std::string& address) const {
  struct in_addr parsed {};
  if (inet_pton(AF_INET, address.c_str(), &parsed) != 1) return false;
  const std::uint32_t value = ntohl(parsed.s_addr);
  return value > base && value <= base + usable();
}

}  // namespace orchestra::apiserver
