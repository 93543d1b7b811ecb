#pragma once
// Records as people write them: the presentation format of RFC 1035 section 5, both ways. Pure.
//
// One table says for each type what its data consists of; reading, printing and the zone files' parser all
// walk it, so that what one of them knows the others know. Types that the table lacks have the form of
// RFC 3597: TYPE1234 \# 4 0A000001.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/dns/message.hpp"
#include "orchestra/result.hpp"

namespace orchestra::dns {

/// A word of a zone file with its escapes still in it.
struct Token {
  std::string text;
  bool quoted = false;
};

/// "AAAA", "TYPE65280"; the other way round in any case.
std::string type_text(Type type);
std::optional<Type> parse_type(std::string_view text);
/// "web", "web.shop.example.", "@"; relative ones below `origin`; \. and \065 mean the octet itself.
std::optional<Name> parse_name(std::string_view text, std::string_view origin);
/// 300, 1h30m, 2w; nullopt above 2^31-1 seconds.
std::optional<std::uint32_t> parse_ttl(std::string_view text);
/// The data of a record of this type. `invalid` says which field is wrong, and how it should look.
Result<std::string> parse_data(Type type, const std::vector<Token>& fields, std::string_view origin);
/// "0 100 80 web.shop.example."
std::string data_text(const Record& record);
/// "web.shop.example. 5 IN A 10.96.0.1"
std::string record_text(const Record& record);
/// "NXDOMAIN", "RCODE23"
std::string rcode_text(int rcode);

}  // namespace orchestra::dns
