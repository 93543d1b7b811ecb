#include "net/dns/cookie.hpp"

namespace orchestra::dns {
namespace {

constexpr std::uint32_t kCookieSeconds = 3600, kClockSkewSeconds = 300;  // RFC 9018 section 4.3
constexpr std::size_t kServerCookieBytes = 16;

std::uint64_t rotate(std::uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

struct SipState {
  std::uint64_t v0, v1, v2, v3;
  void round() {
    v0 += v1, v1 = rotate(v1, 13) ^ v0, v0 = rotate(v0, 32);
    v2 += v3, v3 = rotate(v3, 16) ^ v2;
    v0 += v3, v3 = rotate(v3, 21) ^ v0;
    v2 += v1, v1 = rotate(v1, 17) ^ v2, v2 = rotate(v2, 32);
  }
  void take(std::uint64_t word) {
    v3 ^= word;
    round(), round();
    v0 ^= word;
  }
};

/// What the hash is over: client cookie, version, reserved octets, time; then the address.
std::string cookie_head(std::string_view client_cookie, std::uint32_t seconds) {
  std::string out(client_cookie);
  out += '\1';
  out.append(3, '\0');
  for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(seconds >> shift & 0xff);
  return out;
}

std::string with_hash(const CookieKey& key, std::string head, const net::IpAddress& client) {
  std::string input = head;
  input.append(reinterpret_cast<const char*>(client.bytes.data()), client.is_v4() ? 4 : 16);
  const std::uint64_t hash = sip_hash(key, input);
  for (int i = 0; i < 8; ++i) head += static_cast<char>(hash >> (8 * i) & 0xff);
  return head;
}

}  // namespace

std::uint64_t sip_hash(const CookieKey& key, std::string_view data) {
  SipState state{key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261,
                 key[1] ^ 0x7465646279746573};
  const auto word_at = [&](std::size_t at, std::size_t size) {
    std::uint64_t word = 0;
    for (std::size_t i = size; i-- > 0;) word = word << 8 | static_cast<std::uint8_t>(data[at + i]);
    return word;
  };
  std::size_t at = 0;
  for (; data.size() - at >= 8; at += 8) state.take(word_at(at, 8));
  state.take(std::uint64_t{data.size() & 0xff} << 56 | word_at(at, data.size() - at));
  state.v2 ^= 0xff;
  for (int i = 0; i < 4; ++i) state.round();
  return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}

std::string make_cookie(const CookieKey& key, std::string_view client_cookie, const net::IpAddress& client,
                        std::uint32_t seconds) {
  return with_hash(key, cookie_head(client_cookie.substr(0, kClientCookieBytes), seconds), client);
}

bool is_own_cookie(const CookieKey& key, std::string_view cookie, const net::IpAddress& client,
                   std::uint32_t seconds) {
  if (cookie.size() != kClientCookieBytes + kServerCookieBytes) return false;
  std::uint32_t made = 0;
  for (std::size_t i = 12; i < 16; ++i) made = made << 8 | static_cast<std::uint8_t>(cookie[i]);
  const auto age = static_cast<std::int32_t>(seconds - made);  // RFC 1982: times may wrap
  if (age > static_cast<std::int32_t>(kCookieSeconds) || age < -static_cast<std::int32_t>(kClockSkewSeconds))
    return false;
  return make_cookie(key, cookie, client, made) == cookie;
}

}  // namespace orchestra::dns
