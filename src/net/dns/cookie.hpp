#pragma once
// DNS cookies (RFC 7873, in the form of RFC 9018): a client that shows one has received an answer of ours at
// its address before, so the address is not forged. Pure.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "net/snapshot.hpp"

namespace orchestra::dns {

using CookieKey = std::array<std::uint64_t, 2>;

constexpr std::size_t kClientCookieBytes = 8;
/// The cookie of an answer: the client's eight octets, then ours for it and its address.
std::string make_cookie(const CookieKey& key, std::string_view client_cookie, const net::IpAddress& client,
                        std::uint32_t seconds);
/// Ours, of the last hour.
bool is_own_cookie(const CookieKey& key, std::string_view cookie, const net::IpAddress& client,
                   std::uint32_t seconds);
/// SipHash-2-4 (Aumasson, Bernstein 2012).
std::uint64_t sip_hash(const CookieKey& key, std::string_view data);

}  // namespace orchestra::dns
