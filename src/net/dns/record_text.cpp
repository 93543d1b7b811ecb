#include "net/dns/record_text.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "net/snapshot.hpp"

namespace orchestra::dns {
namespace {

constexpr std::size_t kStringBytesMax = 255;
constexpr std::uint32_t kTtlMax = 0x7fffffff;

// What the data of a type consists of, a letter a field: n name, 4 and 6 an address, b s i a number of 8, 16
// or 32 bits, t a time to live, c a character string, C all that is left as one text without a length, T one
// or more character strings, h all that is left in hexadecimal.
struct Format {
  Type type;
  const char* name;
  const char* fields;
};
constexpr Format kFormats[] = {
    {Type::a, "A", "4"},           {Type::ns, "NS", "n"},         {Type::cname, "CNAME", "n"},
    {Type::soa, "SOA", "nnitttt"}, {Type::hinfo, "HINFO", "cc"},  {Type::ptr, "PTR", "n"},
    {Type::mx, "MX", "sn"},        {Type::txt, "TXT", "T"},       {Type::aaaa, "AAAA", "6"},
    {Type::srv, "SRV", "sssn"},    {Type{35}, "NAPTR", "sscccn"}, {Type::dname, "DNAME", "n"},
    {Type::ds, "DS", "sbbh"},      {Type{44}, "SSHFP", "bbh"},    {Type{52}, "TLSA", "bbbh"},
    {Type{99}, "SPF", "T"},        {Type{257}, "CAA", "bcC"}};
// Names only: questions may have these types.
constexpr std::pair<Type, const char*> kQuestionTypes[] = {{Type::ixfr, "IXFR"}, {Type::axfr, "AXFR"},
                                                           {Type::any, "ANY"},   {Type{48}, "DNSKEY"},
                                                           {Type{64}, "SVCB"},   {Type{65}, "HTTPS"}};

const Format* format_of(Type type) {
  const auto* found =
      std::find_if(std::begin(kFormats), std::end(kFormats), [&](const Format& f) { return f.type == type; });
  return found == std::end(kFormats) ? nullptr : found;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// The octet at `at`, escapes undone; `at` moves behind it. nullopt for a broken escape.
std::optional<char> next_octet(std::string_view text, std::size_t& at, bool* escaped) {
  *escaped = text[at] == '\\';
  if (!*escaped) return text[at++];
  if (at + 1 >= text.size()) return std::nullopt;
  if (!is_digit(text[at + 1])) {
    at += 2;
    return text[at - 1];
  }
  if (at + 3 >= text.size() || !is_digit(text[at + 2]) || !is_digit(text[at + 3])) return std::nullopt;
  const int value = (text[at + 1] - '0') * 100 + (text[at + 2] - '0') * 10 + (text[at + 3] - '0');
  if (value > 255) return std::nullopt;
  at += 4;
  return static_cast<char>(value);
}

std::optional<std::string> unescape(std::string_view text) {
  std::string out;
  bool escaped = false;
  for (std::size_t at = 0; at < text.size();) {
    const auto c = next_octet(text, at, &escaped);
    if (!c) return std::nullopt;
    out += *c;
  }
  return out;
}

std::optional<std::uint64_t> parse_number(std::string_view text, std::uint64_t max) {
  std::uint64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size() || value > max) return std::nullopt;
  return value;
}

void put_number(std::string& out, std::uint64_t value, int octets) {
  for (int i = octets; i-- > 0;) out += static_cast<char>(value >> (8 * i) & 0xff);
}

std::optional<std::string> parse_hex(std::string_view text) {
  if (text.size() % 2 != 0) return std::nullopt;
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += 2) {
    unsigned value = 0;
    const auto [end, failed] = std::from_chars(text.data() + at, text.data() + at + 2, value, 16);
    if (failed != std::errc() || end != text.data() + at + 2) return std::nullopt;
    out += static_cast<char>(value);
  }
  return out;
}

Error wrong(Type type, const Token* field, const std::string& wanted) {
  const std::string found = field == nullptr ? "there is nothing left" : "\"" + field->text + "\" is not";
  return {Error::invalid, "dns",
          field == nullptr ? "the data of " + type_text(type) + " needs " + wanted + ", and " + found
                           : found + " " + wanted + ", which the data of " + type_text(type) + " needs here"};
}

/// One field of a table row; false and a Wanted text when it does not parse.
bool put_field(char field, const Token& token, std::string_view origin, std::string& out,
               const char*& wanted) {
  const std::string_view text = token.text;
  switch (field) {
    case 'n': {
      wanted = "a domain name";
      const auto name = parse_name(text, origin);
      if (name) out += *name;
      return name.has_value();
    }
    case '4':
    case '6': {
      wanted = field == '4' ? "an IPv4 address" : "an IPv6 address";
      const auto address = net::IpAddress::parse(text);
      if (!address || address->is_v4() != (field == '4')) return false;
      out += address_data(address->bytes.data(), field == '4' ? 4 : 16);
      return true;
    }
    case 'c':
    case 'T':
    case 'C': {
      wanted = "a text of at most 255 octets";
      const auto value = unescape(text);
      if (!value || (field != 'C' && value->size() > kStringBytesMax)) return false;
      if (field != 'C') out += static_cast<char>(value->size());
      out += *value;
      return true;
    }
    case 't': {
      wanted = "a time in seconds or like 1h30m";
      const auto seconds = parse_ttl(text);
      if (seconds) put_number(out, *seconds, 4);
      return seconds.has_value();
    }
    case 'h': {
      wanted = "an even number of hexadecimal digits";
      const auto bytes = parse_hex(text);
      if (bytes) out += *bytes;
      return bytes.has_value();
    }
    default: {
      const int octets = field == 'b' ? 1 : field == 's' ? 2 : 4;
      wanted = octets == 1   ? "a number up to 255"
               : octets == 2 ? "a number up to 65535"
                             : "a number up to 4294967295";
      const auto value = parse_number(text, (std::uint64_t{1} << (8 * octets)) - 1);
      if (value) put_number(out, *value, octets);
      return value.has_value();
    }
  }
}

/// \# LENGTH HEX.. (RFC 3597 section 5)
Result<std::string> parse_generic(Type type, const std::vector<Token>& fields) {
  if (fields.size() < 2) return wrong(type, nullptr, "\\# with a length and hexadecimal digits");
  const auto size = parse_number(fields[1].text, 65535);
  std::string digits;
  for (std::size_t i = 2; i < fields.size(); ++i) digits += fields[i].text;
  auto bytes = parse_hex(digits);
  if (!size) return wrong(type, &fields[1], "a length");
  if (!bytes || bytes->size() != *size) {
    return Error(
        Error::invalid, "dns",
        "the data of " + type_text(type) + " is not " + fields[1].text + " octets in hexadecimal digits");
  }
  // Data of a type that we know must be what read_message would take, or an answer could not be read again.
  if (format_of(type) != nullptr) {
    const std::string text = data_text({std::string(1, '\0'), type, 0, *bytes});
    if (text.starts_with("\\#")) {
      return Error(Error::invalid, "dns", "these octets are no data of " + type_text(type));
    }
  }
  return std::move(*bytes);
}

std::string quoted_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      const std::string number = std::to_string(byte);
      out += '\\' + std::string(3 - number.size(), '0') + number;
    }
  }
  return out + '"';
}

std::string hex_text(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : bytes) {
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[static_cast<unsigned char>(c) & 0xf];
  }
  return out;
}

/// An uncompressed name at the front of `data`, taken off; nullopt when there is none.
std::optional<std::string_view> take_name(std::string_view& data) {
  std::size_t at = 0;
  while (at < data.size() && octet(data, at) != 0) {
    if (octet(data, at) > kLabelBytesMax) return std::nullopt;
    at += octet(data, at) + 1u;
  }
  if (at >= data.size() || at + 1 > kNameBytesMax) return std::nullopt;
  const std::string_view name = data.substr(0, at + 1);
  data.remove_prefix(at + 1);
  return name;
}

/// The text of one field, taken off the front of `data`; nullopt when the data is too short for it.
std::optional<std::string> take_field(char field, std::string_view& data) {
  const auto take = [&](std::size_t size) {
    const std::string_view out = data.substr(0, size);
    data.remove_prefix(size);
    return out;
  };
  switch (field) {
    case 'n': {
      const auto name = take_name(data);
      if (!name) return std::nullopt;
      const std::string text = to_text(*name);
      return text == "." ? text : text + ".";
    }
    case '4':
    case '6': {
      const std::size_t size = field == '4' ? 4 : 16;
      if (data.size() < size) return std::nullopt;
      net::IpAddress address;
      address.family = field == '4' ? 4 : 6;
      std::memcpy(address.bytes.data(), take(size).data(), size);
      return address.to_string();
    }
    case 'c': {
      if (data.empty() || data.size() < 1u + octet(data, 0)) return std::nullopt;
      const std::size_t size = octet(data, 0);
      data.remove_prefix(1);
      return quoted_text(take(size));
    }
    case 'C':
      return quoted_text(take(data.size()));
    case 'h':
      return hex_text(take(data.size()));
    default: {
      const std::size_t octets = field == 'b' ? 1 : field == 's' ? 2 : 4;
      if (data.size() < octets) return std::nullopt;
      std::uint64_t value = 0;
      for (const char c : take(octets)) value = value << 8 | static_cast<unsigned char>(c);
      return std::to_string(value);
    }
  }
}

std::optional<std::string> known_text(const Format& format, std::string_view data) {
  std::string out;
  for (const char* field = format.fields; *field != '\0'; ++field) {
    const bool many = *field == 'T';
    do {
      const auto text = take_field(many ? 'c' : *field, data);
      if (!text) return std::nullopt;
      out += (out.empty() ? "" : " ") + *text;
    } while (many && !data.empty());
  }
  if (!data.empty()) return std::nullopt;
  return out;
}

}  // namespace

std::string type_text(Type type) {
  if (const Format* format = format_of(type)) return format->name;
  for (const auto& [known, name] : kQuestionTypes) {
    if (known == type) return name;
  }
  return "TYPE" + std::to_string(static_cast<int>(type));
}

std::optional<Type> parse_type(std::string_view text) {
  const std::string lower = to_lower(text);
  for (const Format& format : kFormats) {
    if (lower == to_lower(format.name)) return format.type;
  }
  for (const auto& [type, name] : kQuestionTypes) {
    if (lower == to_lower(name)) return type;
  }
  if (!lower.starts_with("type")) return std::nullopt;
  const auto number = parse_number(std::string_view(lower).substr(4), 65535);
  if (!number) return std::nullopt;
  return static_cast<Type>(*number);
}

std::optional<Name> parse_name(std::string_view text, std::string_view origin) {
  if (text == "@") return Name(origin);
  if (text == ".") return Name(1, '\0');
  if (text.empty()) return std::nullopt;
  Name out(1, '\0');
  std::size_t length_at = 0;
  bool ended = false;  // by a dot: the name is absolute, if nothing follows
  bool escaped = false;
  for (std::size_t at = 0; at < text.size();) {
    const auto c = next_octet(text, at, &escaped);
    if (!c) return std::nullopt;
    if (ended) {
      length_at = out.size();
      out += '\0';
      ended = false;
    }
    const std::size_t length = out.size() - length_at - 1;
    if (*c == '.' && !escaped) {
      if (length == 0) return std::nullopt;
      ended = true;
      continue;
    }
    if (length >= kLabelBytesMax) return std::nullopt;
    out[length_at] = static_cast<char>(length + 1);
    out += *c;
  }
  if (ended) {
    out += '\0';
  } else {
    out += origin;
  }
  if (out.size() > kNameBytesMax) return std::nullopt;
  return to_lower(out);
}

std::optional<std::uint32_t> parse_ttl(std::string_view text) {
  std::uint64_t all = 0;
  bool unit = false;
  while (!text.empty()) {
    std::uint64_t value = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failed != std::errc() || value > kTtlMax) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    std::uint64_t seconds = 1;
    if (!text.empty()) {
      const char c = text.front() | 0x20;
      seconds = c == 's' ? 1 : c == 'm' ? 60 : c == 'h' ? 3600 : c == 'd' ? 86400 : c == 'w' ? 604800 : 0;
      text.remove_prefix(1);
      unit = true;
    } else if (unit) {
      return std::nullopt;  // 1h30
    }
    all += value * seconds;
    if (seconds == 0 || all > kTtlMax) return std::nullopt;
    if (text.empty()) return static_cast<std::uint32_t>(all);
  }
  return std::nullopt;
}

Result<std::string> parse_data(Type type, const std::vector<Token>& fields, std::string_view origin) {
  if (!fields.empty() && !fields[0].quoted && fields[0].text == "\\#") return parse_generic(type, fields);
  const Format* format = format_of(type);
  if (format == nullptr) return wrong(type, nullptr, "the form \\# LENGTH HEX");
  std::string out;
  std::size_t at = 0;
  for (const char* field = format->fields; *field != '\0'; ++field) {
    const char* wanted = "";
    if (*field == 'h') {  // digits may come in several words
      Token digits;
      for (; at < fields.size(); ++at) digits.text += fields[at].text;
      if (digits.text.empty() || !put_field('h', digits, origin, out, wanted))
        return wrong(type, &digits, "an even number of hexadecimal digits");
      continue;
    }
    do {
      const Token none;
      if (at >= fields.size()) {
        (void)put_field(*field, none, origin, out, wanted);
        return wrong(type, nullptr, wanted);
      }
      if (!put_field(*field, fields[at], origin, out, wanted)) return wrong(type, &fields[at], wanted);
      ++at;
    } while (*field == 'T' && at < fields.size());
  }
  if (at < fields.size()) {
    return Error(Error::invalid, "dns",
                 "\"" + fields[at].text + "\" is more than the data of " + type_text(type) + " has");
  }
  if (out.size() > 65535 - kNameBytesMax - kHeaderBytes) {
    return Error(Error::invalid, "dns", "the data of " + type_text(type) + " is longer than a message");
  }
  return out;
}

std::string data_text(const Record& record) {
  if (const Format* format = format_of(record.type)) {
    if (auto text = known_text(*format, record.data)) return *text;
  }
  return "\\# " + std::to_string(record.data.size()) +
         (record.data.empty() ? "" : " " + hex_text(record.data));
}

std::string record_text(const Record& record) {
  const std::string name = to_text(record.name);
  return (name == "." ? name : name + ".") + " " + std::to_string(record.ttl) + " " +
         (record.klass == kClassIn ? "IN" : "CLASS" + std::to_string(record.klass)) + " " +
         type_text(record.type) + " " + data_text(record);
}

std::string rcode_text(int rcode) {
  constexpr const char* kNames[] = {"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN",
                                    "NOTIMP",  "REFUSED", "YXDOMAIN"};
  if (rcode >= 0 && rcode < 7) return kNames[rcode];
  return rcode == 16 ? "BADVERS" : "RCODE" + std::to_string(rcode);
}

}  // namespace orchestra::dns
