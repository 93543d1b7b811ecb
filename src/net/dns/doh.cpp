#include "net/dns/doh.hpp"

#include <algorithm>

#include "base/base64.hpp"
#include "net/dns/message.hpp"

namespace orchestra::dns {
namespace {

constexpr std::string_view kDohPath = "/dns-query";
constexpr std::size_t kEncodedMax = (kDohQueryBytesMax * 4 + 2) / 3;

DohQuery doh_refusal(int status, std::string why) {
  return {.status = status, .packet = {}, .why = std::move(why)};
}

/// RFC 4648 section 5, without padding.
std::optional<std::string> decode_base64url(std::string_view text) {
  std::string plain(text);
  for (char& c : plain) {
    if (c == '+' || c == '/' || c == '=') return std::nullopt;
    if (c == '-') c = '+';
    if (c == '_') c = '/';
  }
  plain.append((4 - plain.size() % 4) % 4, '=');
  return decode_base64_text(plain);
}

std::optional<std::string_view> parameter(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view one = query.substr(0, end);
    if (one.starts_with(name) && one.substr(name.size()).starts_with('=')) return one.substr(name.size() + 1);
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return std::nullopt;
}

DohQuery read_get(std::string_view query) {
  const auto text = parameter(query, "dns");
  if (!text) return doh_refusal(400, "the parameter dns is missing");
  if (text->size() > kEncodedMax) return doh_refusal(414, "the query is longer than 4096 octets");
  auto packet = decode_base64url(*text);
  if (!packet) return doh_refusal(400, "the parameter dns is not base64url without padding");
  return {.status = 200, .packet = std::move(*packet), .why = {}};
}

DohQuery read_post(std::string_view content_type, std::string_view body) {
  content_type = content_type.substr(0, content_type.find(';'));
  while (content_type.ends_with(' ')) content_type.remove_suffix(1);
  if (to_lower(content_type) != kDohType)
    return doh_refusal(415, "the body has to be " + std::string(kDohType));
  if (body.size() > kDohQueryBytesMax) return doh_refusal(413, "the query is longer than 4096 octets");
  return {.status = 200, .packet = std::string(body), .why = {}};
}

}  // namespace

DohQuery read_doh(std::string_view method, std::string_view target, std::string_view content_type,
                  std::string_view body) {
  const std::size_t mark = std::min(target.find('?'), target.size());
  if (target.substr(0, mark) != kDohPath) return doh_refusal(404, "there is only /dns-query here");
  if (method != "GET" && method != "POST") return doh_refusal(405, "GET or POST");
  DohQuery out = method == "GET" ? read_get(target.substr(std::min(mark + 1, target.size())))
                                 : read_post(content_type, body);
  if (out.status == 200 && out.packet.size() < kHeaderBytes) return doh_refusal(400, "that is no DNS query");
  return out;
}

std::uint32_t doh_seconds(std::string_view answer) {
  const auto message = read_message(answer);
  if (!message) return 0;
  const bool no = message->rcode == static_cast<std::uint16_t>(Rcode::name_error) || message->answers.empty();
  if (message->rcode != 0 && message->rcode != static_cast<std::uint16_t>(Rcode::name_error)) return 0;
  if (no && message->authority.empty()) return 0;
  std::uint32_t seconds = UINT32_MAX;
  for (const Record& record : message->answers) seconds = std::min(seconds, record.ttl);
  if (!no) return seconds;
  for (const Record& record : message->authority) {
    seconds = std::min(seconds, record.ttl);
    if (record.type != Type::soa) continue;
    if (const auto minimum = soa_minimum(record.data)) seconds = std::min(seconds, *minimum);
  }
  return seconds;
}

}  // namespace orchestra::dns
