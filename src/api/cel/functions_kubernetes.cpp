// What Kubernetes adds: url, quantity, ip, cidr, format, authorizer
// (apiserver/pkg/cel/library/{urls,quantity,ip,cidr,format,authz}.go).
#include <algorithm>
#include <charconv>

#include "api/cel/functions.hpp"
#include "api/meta.hpp"
#include "base/base64.hpp"

namespace orchestra::api::cel {
namespace {
const std::string* text(const Arguments& a, std::size_t i) { return argument<std::string>(a, i); }

// --- quantity ---------------------------------------------------------------------------------------------
Value quantity(Context&, Arguments& a) {
  if (a.size() != 1 || text(a, 0) == nullptr) return no_overload("quantity");
  auto parsed = Quantity::parse(*text(a, 0));
  return parsed ? Value(*parsed)
                : failure(
                      "quantities must match the regular expression "
                      "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
}
Value is_quantity(Context&, Arguments& a) {
  if (a.size() != 1 || text(a, 0) == nullptr) return no_overload("isQuantity");
  return Quantity::parse(*text(a, 0)).has_value();
}
Value sign(Context&, Arguments& a) {
  const auto* q = argument<Quantity>(a, 0);
  return q == nullptr ? no_overload("sign") : Value(static_cast<std::int64_t>(q->sign()));
}
bool whole(const Quantity& q) { return Quantity::from_int(q.value()) == q; }
Value is_integer(Context&, Arguments& a) {
  const auto* q = argument<Quantity>(a, 0);
  return q == nullptr ? no_overload("isInteger") : Value(whole(*q));
}
Value as_integer(Context&, Arguments& a) {
  const auto* q = argument<Quantity>(a, 0);
  if (q == nullptr) return no_overload("asInteger");
  return whole(*q) ? Value(q->value()) : failure("cannot convert value to integer");
}
Value as_float(Context&, Arguments& a) {
  const auto* q = argument<Quantity>(a, 0);
  return q == nullptr ? no_overload("asApproximateFloat") : Value(q->as_double());
}
template <int Sign>
Value combine(Context&, Arguments& a) {
  const auto* q = argument<Quantity>(a, 0);
  if (q == nullptr || a.size() != 2) return no_overload(Sign > 0 ? "add" : "sub");
  Quantity other;
  if (const auto* p = argument<Quantity>(a, 1)) {
    other = *p;
  } else if (const auto* i = argument<std::int64_t>(a, 1)) {
    other = Quantity::from_int(*i);
  } else {
    return no_overload(Sign > 0 ? "add" : "sub");
  }
  return Sign > 0 ? Value(*q + other) : Value(*q - other);
}
template <class Test>
Value related(Arguments& a, const char* name, Test test) {
  const auto* x = argument<Quantity>(a, 0);
  const auto* y = argument<Quantity>(a, 1);
  if (x == nullptr || y == nullptr) return no_overload(name);
  return test(*x < *y ? -1 : *y < *x ? 1 : 0);
}
Value less_than(Context&, Arguments& a) {
  return related(a, "isLessThan", [](int o) { return Value(o < 0); });
}
Value greater_than(Context&, Arguments& a) {
  return related(a, "isGreaterThan", [](int o) { return Value(o > 0); });
}
Value compare_to(Context&, Arguments& a) {
  return related(a, "compareTo", [](int o) { return Value(static_cast<std::int64_t>(o)); });
}

// --- ip and cidr ------------------------------------------------------------------------------------------
Value to_ip(Context&, Arguments& a) {
  if (a.size() != 1 || text(a, 0) == nullptr) return no_overload("ip");
  const auto parsed = parse_ip(*text(a, 0));
  return parsed ? Value(*parsed)
                : failure("IP Address \"" + *text(a, 0) + "\" parse error during conversion from string");
}
Value is_ip(Context&, Arguments& a) {
  if (a.size() != 1 || text(a, 0) == nullptr) return no_overload("isIP");
  return parse_ip(*text(a, 0)).has_value();
}
Value is_canonical(Context&, Arguments& a) {
  if (a.size() != 1 || text(a, 0) == nullptr) return no_overload("ip.isCanonical");
  const auto parsed = parse_ip(*text(a, 0));
  return parsed ? Value(ip_text(*parsed) == *text(a, 0))
                : failure("IP Address \"" + *text(a, 0) + "\" parse error");
}
template <class Test>
Value ip_test(Arguments& a, const char* name, Test test) {
  const auto* ip = argument<Ip>(a, 0);
  return ip == nullptr || a.size() != 1 ? no_overload(name) : test(*ip);
}
bool all_zero(const Ip& ip) {
  return std::all_of(ip.bytes.begin(), ip.bytes.begin() + (ip.v4 ? 4 : 16),
                     [](unsigned char b) { return b == 0; });
}
bool loopback(const Ip& ip) {
  if (ip.v4) return ip.bytes[0] == 127;
  return std::all_of(ip.bytes.begin(), ip.bytes.begin() + 15, [](unsigned char b) { return b == 0; }) &&
         ip.bytes[15] == 1;
}
bool link_local_multicast(const Ip& ip) {
  if (ip.v4) return ip.bytes[0] == 224 && ip.bytes[1] == 0 && ip.bytes[2] == 0;
  return ip.bytes[0] == 0xFF && (ip.bytes[1] & 0x0F) == 2;
}
bool link_local_unicast(const Ip& ip) {
  if (ip.v4) return ip.bytes[0] == 169 && ip.bytes[1] == 254;
  return ip.bytes[0] == 0xFE && (ip.bytes[1] & 0xC0) == 0x80;
}
bool multicast(const Ip& ip) { return ip.v4 ? (ip.bytes[0] & 0xF0) == 0xE0 : ip.bytes[0] == 0xFF; }
bool broadcast(const Ip& ip) {
  return ip.v4 &&
         std::all_of(ip.bytes.begin(), ip.bytes.begin() + 4, [](unsigned char b) { return b == 255; });
}
Value family(Context&, Arguments& a) {
  return ip_test(a, "family", [](const Ip& ip) { return Value(std::int64_t{ip.v4 ? 4 : 6}); });
}
Value unspecified(Context&, Arguments& a) {
  return ip_test(a, "isUnspecified", [](const Ip& ip) { return Value(all_zero(ip)); });
}
Value is_loopback(Context&, Arguments& a) {
  return ip_test(a, "isLoopback", [](const Ip& ip) { return Value(loopback(ip)); });
}
Value is_llm(Context&, Arguments& a) {
  return ip_test(a, "isLinkLocalMulticast", [](const Ip& ip) { return Value(link_local_multicast(ip)); });
}
Value is_llu(Context&, Arguments& a) {
  return ip_test(a, "isLinkLocalUnicast", [](const Ip& ip) { return Value(link_local_unicast(ip)); });
}
Value is_global(Context&, Arguments& a) {
  return ip_test(a, "isGlobalUnicast", [](const Ip& ip) {
    return Value(!all_zero(ip) && !loopback(ip) && !multicast(ip) && !link_local_unicast(ip) &&
                 !broadcast(ip));
  });
}

bool in_network(const Ip& network, int prefix, const Ip& ip) {
  if (network.v4 != ip.v4) return false;
  for (int bit = 0; bit < prefix; ++bit) {
    const auto byte = static_cast<std::size_t>(bit / 8);
    const int mask = 0x80 >> bit % 8;
    if ((network.bytes[byte] & mask) != (ip.bytes[byte] & mask)) return false;
  }
  return true;
}
Ip masked_ip(const Cidr& cidr) {
  Ip out = cidr.ip;
  const int bits = out.v4 ? 32 : 128;
  for (int bit = cidr.prefix; bit < bits; ++bit)
    out.bytes[static_cast<std::size_t>(bit / 8)] &= static_cast<unsigned char>(~(0x80 >> bit % 8));
  return out;
}
std::optional<Cidr> parse_cidr(const std::string& value) {
  const std::size_t slash = value.find('/');
  if (slash == std::string::npos) return std::nullopt;
  const auto ip = parse_ip(value.substr(0, slash));
  const std::string digits = value.substr(slash + 1);
  int prefix = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), prefix);
  const bool clean = error == std::errc() && end == digits.data() + digits.size() &&
                     (digits.size() == 1 || digits[0] != '0');
  if (!ip || !clean || prefix < 0 || prefix > (ip->v4 ? 32 : 128)) return std::nullopt;
  return Cidr{*ip, prefix};
}
Value to_cidr(Context&, Arguments& a) {
  if (a.size() != 1 || text(a, 0) == nullptr) return no_overload("cidr");
  const auto parsed = parse_cidr(*text(a, 0));
  return parsed
             ? Value(*parsed)
             : failure("network address parse error during conversion from string: \"" + *text(a, 0) + "\"");
}
Value is_cidr(Context&, Arguments& a) {
  if (a.size() != 1 || text(a, 0) == nullptr) return no_overload("isCIDR");
  return parse_cidr(*text(a, 0)).has_value();
}
Value contains_ip(Context&, Arguments& a) {
  const auto* cidr = argument<Cidr>(a, 0);
  if (cidr == nullptr || a.size() != 2) return no_overload("containsIP");
  std::optional<Ip> ip;
  if (const auto* own = argument<Ip>(a, 1)) ip = *own;
  if (const auto* written = text(a, 1)) {
    ip = parse_ip(*written);
    if (!ip) return failure("IP Address \"" + *written + "\" parse error");
  }
  return ip ? Value(in_network(cidr->ip, cidr->prefix, *ip)) : no_overload("containsIP");
}
Value contains_cidr(Context&, Arguments& a) {
  const auto* cidr = argument<Cidr>(a, 0);
  if (cidr == nullptr || a.size() != 2) return no_overload("containsCIDR");
  std::optional<Cidr> other;
  if (const auto* own = argument<Cidr>(a, 1)) other = *own;
  if (const auto* written = text(a, 1)) {
    other = parse_cidr(*written);
    if (!other) return failure("network address parse error: \"" + *written + "\"");
  }
  if (!other) return no_overload("containsCIDR");
  return other->prefix >= cidr->prefix && in_network(cidr->ip, cidr->prefix, masked_ip(*other));
}
Value cidr_ip(Context&, Arguments& a) {
  const auto* cidr = argument<Cidr>(a, 0);
  return cidr == nullptr ? no_overload("ip") : Value(cidr->ip);
}
Value masked(Context&, Arguments& a) {
  const auto* cidr = argument<Cidr>(a, 0);
  return cidr == nullptr ? no_overload("masked") : Value(Cidr{masked_ip(*cidr), cidr->prefix});
}
Value prefix_length(Context&, Arguments& a) {
  const auto* cidr = argument<Cidr>(a, 0);
  return cidr == nullptr ? no_overload("prefixLength") : Value(static_cast<std::int64_t>(cidr->prefix));
}

// --- url --------------------------------------------------------------------------------------------------
// Absolute URIs and absolute paths (Go's url.ParseRequestURI), in the parts that CEL shows.
std::optional<Url> parse_url(const std::string& value) {
  Url url;
  url.text = value;
  std::string rest = value;
  for (const char c : value) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7F) return std::nullopt;
  }
  const std::size_t colon = rest.find("://");
  if (colon != std::string::npos && rest.find('/') > colon) {
    url.scheme = rest.substr(0, colon);
    const bool good =
        !url.scheme.empty() && std::isalpha(static_cast<unsigned char>(url.scheme[0])) &&
        std::all_of(url.scheme.begin(), url.scheme.end(), [](char c) {
          return std::isalnum(static_cast<unsigned char>(c)) || c == '+' || c == '-' || c == '.';
        });
    if (!good) return std::nullopt;
    rest = rest.substr(colon + 3);
    const std::size_t end = rest.find_first_of("/?#");
    std::string authority = rest.substr(0, end);
    rest = end == std::string::npos ? "" : rest.substr(end);
    if (const std::size_t at = authority.rfind('@'); at != std::string::npos)
      authority = authority.substr(at + 1);
    const std::size_t bracket = authority.rfind(']');
    const std::size_t port = authority.rfind(':');
    url.host = authority;
    if (port != std::string::npos && (bracket == std::string::npos || port > bracket)) {
      url.port = authority.substr(port + 1);
      if (!std::all_of(url.port.begin(), url.port.end(), [](char c) { return c >= '0' && c <= '9'; }))
        return std::nullopt;
    }
  } else if (!rest.starts_with('/')) {
    return std::nullopt;
  }
  if (const std::size_t query = rest.find('?'); query != std::string::npos) {
    url.query = rest.substr(query + 1);
    rest = rest.substr(0, query);
  }
  for (std::size_t i = 0; i < rest.size(); ++i) {
    if (rest[i] == '%' && (i + 2 >= rest.size() || !std::isxdigit(static_cast<unsigned char>(rest[i + 1])) ||
                           !std::isxdigit(static_cast<unsigned char>(rest[i + 2])))) {
      return std::nullopt;
    }
  }
  url.path = rest;
  return url;
}
std::string unescaped(const std::string& value) {
  std::string out;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (value[i] == '+') {
      out += ' ';
    } else if (value[i] == '%' && i + 2 < value.size()) {
      int code = 0;
      std::from_chars(value.data() + i + 1, value.data() + i + 3, code, 16);
      out += static_cast<char>(code);
      i += 2;
    } else {
      out += value[i];
    }
  }
  return out;
}
Value to_url(Context&, Arguments& a) {
  if (a.size() != 1 || text(a, 0) == nullptr) return no_overload("url");
  auto parsed = parse_url(*text(a, 0));
  return parsed ? Value(std::move(*parsed))
                : failure("URL parse error during conversion from string: parse \"" + *text(a, 0) +
                          "\": invalid URI for request");
}
Value is_url(Context&, Arguments& a) {
  if (a.size() != 1 || text(a, 0) == nullptr) return no_overload("isURL");
  return parse_url(*text(a, 0)).has_value();
}
template <class Part>
Value url_part(Arguments& a, const char* name, Part part) {
  const auto* url = argument<Url>(a, 0);
  return url == nullptr ? no_overload(name) : part(*url);
}
Value scheme(Context&, Arguments& a) {
  return url_part(a, "getScheme", [](const Url& u) { return Value(u.scheme); });
}
Value host(Context&, Arguments& a) {
  return url_part(a, "getHost", [](const Url& u) { return Value(u.host); });
}
Value hostname(Context&, Arguments& a) {
  return url_part(a, "getHostname", [](const Url& u) {
    std::string name = u.host;
    if (!u.port.empty() || name.ends_with(':')) name = name.substr(0, name.rfind(':'));
    if (name.size() > 1 && name.front() == '[') name = name.substr(1, name.size() - 2);
    return Value(name);
  });
}
Value port(Context&, Arguments& a) {
  return url_part(a, "getPort", [](const Url& u) { return Value(u.port); });
}
Value escaped_path(Context&, Arguments& a) {
  return url_part(a, "getEscapedPath", [](const Url& u) { return Value(u.path); });
}
Value query(Context&, Arguments& a) {
  return url_part(a, "getQuery", [](const Url& u) {
    std::map<std::string, std::vector<Value>> values;
    std::string_view rest = u.query;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find('&'), rest.size());
      const std::string part(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (part.empty()) continue;
      const std::size_t equals = part.find('=');
      values[unescaped(part.substr(0, equals))].emplace_back(
          equals == std::string::npos ? std::string() : unescaped(part.substr(equals + 1)));
    }
    std::vector<std::pair<Value, Value>> members;
    for (auto& [name, list] : values) members.emplace_back(Value(name), make_list(std::move(list)));
    return make_map(std::move(members));
  });
}

// --- format -----------------------------------------------------------------------------------------------
const std::map<std::string, std::vector<std::string> (*)(const std::string&)>& formats() {
  using Errors = std::vector<std::string>;
  const static std::map<std::string, Errors (*)(const std::string&)> kFormats = {
      {"dns1123Label",
       [](const std::string& v) {
         const std::string e = check_dns1123_label(v);
         return e.empty() ? Errors() : Errors{e};
       }},
      {"dns1123Subdomain",
       [](const std::string& v) {
         const std::string e = check_dns1123_subdomain(v);
         return e.empty() ? Errors() : Errors{e};
       }},
      {"dns1035Label",
       [](const std::string& v) {
         const std::string e = check_dns1035_label(v);
         return e.empty() ? Errors() : Errors{e};
       }},
      {"qualifiedName",
       [](const std::string& v) {
         const std::string e = check_qualified_name(v);
         return e.empty() ? Errors() : Errors{e};
       }},
      {"labelValue",
       [](const std::string& v) {
         const std::string e = check_label_value(v);
         return e.empty() ? Errors() : Errors{e};
       }},
      {"dns1123LabelPrefix",
       [](const std::string& v) {
         const std::string e = check_dns1123_label(v.ends_with('-') ? v + "a" : v);
         return e.empty() ? Errors() : Errors{e};
       }},
      {"dns1123SubdomainPrefix",
       [](const std::string& v) {
         const std::string e = check_dns1123_subdomain(v.ends_with('-') ? v + "a" : v);
         return e.empty() ? Errors() : Errors{e};
       }},
      {"dns1035LabelPrefix",
       [](const std::string& v) {
         const std::string e = check_dns1035_label(v.ends_with('-') ? v + "a" : v);
         return e.empty() ? Errors() : Errors{e};
       }},
      {"uri", [](const std::string& v) { return parse_url(v) ? Errors() : Errors{"must be a valid URI"}; }},
      {"uuid",
       [](const std::string& v) {
         bool good = v.size() == 36;
         for (std::size_t i = 0; good && i < v.size(); ++i) {
           const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
           good = dash ? v[i] == '-' : std::isxdigit(static_cast<unsigned char>(v[i])) != 0;
         }
         return good ? Errors() : Errors{"does not match the UUID format"};
       }},
      {"byte",
       [](const std::string& v) { return decode_base64_text(v) ? Errors() : Errors{"invalid base64"}; }},
      {"date",
       [](const std::string& v) {
         return v.size() == 10 && parse_time(v + "T00:00:00Z") ? Errors() : Errors{"invalid date"};
       }},
      {"datetime",
       [](const std::string& v) { return parse_time(v) ? Errors() : Errors{"invalid datetime"}; }},
  };
  return kFormats;
}
template <const char* Name>
Value named_format(Context&, Arguments& a) {
  return a.empty() ? Value(Format{Name}) : no_overload(Name);
}
Value format_named(Context&, Arguments& a) {
  if (a.size() != 1 || text(a, 0) == nullptr) return no_overload("format.named");
  return formats().contains(*text(a, 0)) ? some(Value(Format{*text(a, 0)})) : none();
}
Value validate(Context&, Arguments& a) {
  const auto* format = argument<Format>(a, 0);
  if (format == nullptr || a.size() != 2 || text(a, 1) == nullptr) return no_overload("validate");
  const auto errors = formats().at(format->name)(*text(a, 1));
  if (errors.empty()) return none();
  std::vector<Value> list;
  for (const std::string& error : errors) list.emplace_back(error);
  return some(make_list(std::move(list)));
}
constexpr char kDnsLabel[] = "dns1123Label", kDnsSubdomain[] = "dns1123Subdomain",
               kDns1035[] = "dns1035Label", kQualified[] = "qualifiedName",
               kLabelPrefix[] = "dns1123LabelPrefix", kSubdomainPrefix[] = "dns1123SubdomainPrefix",
               k1035Prefix[] = "dns1035LabelPrefix", kLabelValue[] = "labelValue", kUri[] = "uri",
               kUuid[] = "uuid", kByte[] = "byte", kDate[] = "date", kDateTime[] = "datetime";

// --- authorizer -------------------------------------------------------------------------------------------
using Stage = AccessQuery::Stage;
/// A step that sets one field and moves on.
Value access_step(Arguments& a, const char* name, Stage from, Stage to, std::string AccessQuery::*field) {
  const auto* query = argument<AccessQuery>(a, 0);
  if (query == nullptr || query->stage != from || a.size() != 2 || text(a, 1) == nullptr)
    return no_overload(name);
  AccessQuery next = *query;
  next.stage = to;
  next.*field = *text(a, 1);
  return next;
}
Value access_path(Context&, Arguments& a) {
  return access_step(a, "path", Stage::authorizer, Stage::path, &AccessQuery::path);
}
Value access_group(Context&, Arguments& a) {
  return access_step(a, "group", Stage::authorizer, Stage::group, &AccessQuery::group);
}
Value access_resource(Context&, Arguments& a) {
  return access_step(a, "resource", Stage::group, Stage::resource, &AccessQuery::resource);
}
Value access_subresource(Context&, Arguments& a) {
  return access_step(a, "subresource", Stage::resource, Stage::resource, &AccessQuery::subresource);
}
Value access_namespace(Context&, Arguments& a) {
  return access_step(a, "namespace", Stage::resource, Stage::resource, &AccessQuery::ns);
}
Value access_name(Context&, Arguments& a) {
  return access_step(a, "name", Stage::resource, Stage::resource, &AccessQuery::name);
}
Value access_account(Context&, Arguments& a) {
  const auto* query = argument<AccessQuery>(a, 0);
  if (query == nullptr || query->stage != Stage::authorizer || a.size() != 3 || !text(a, 1) || !text(a, 2))
    return no_overload("serviceAccount");
  AccessQuery next = *query;
  next.user_ns = *text(a, 1);
  next.user_name = *text(a, 2);
  return next;
}
Value access_check(Context& context, Arguments& a) {
  constexpr std::uint64_t kCheckCost = 350'000;  // as upstream: a check may leave the process there
  const auto* query = argument<AccessQuery>(a, 0);
  if (query == nullptr || a.size() != 2 || text(a, 1) == nullptr) return no_overload("check");
  if (query->stage != Stage::path && query->stage != Stage::resource) return no_overload("check");
  if (!context.spend(kCheckCost)) return failure("over budget");
  if (!context.authorize) return failure("no authorizer is available here");
  AccessQuery decision = *query;
  decision.verb = *text(a, 1);
  std::tie(decision.allowed, decision.reason) = context.authorize(decision);
  decision.stage = Stage::decision;
  return decision;
}
template <class Part>
Value decided(Arguments& a, const char* name, Part part) {
  const auto* query = argument<AccessQuery>(a, 0);
  return query == nullptr || query->stage != Stage::decision ? no_overload(name) : part(*query);
}
Value allowed(Context&, Arguments& a) {
  return decided(a, "allowed", [](const AccessQuery& q) { return Value(q.allowed); });
}
Value reason(Context&, Arguments& a) {
  return decided(a, "reason", [](const AccessQuery& q) { return Value(q.reason); });
}
Value errored(Context&, Arguments& a) {
  return decided(a, "errored", [](const AccessQuery&) { return Value(false); });
}
Value error(Context&, Arguments& a) {
  return decided(a, "error", [](const AccessQuery&) { return Value(""); });
}
}  // namespace

const Library& kubernetes_library() {
  static const Library kLibrary{{{"quantity", quantity},
                                 {"isQuantity", is_quantity},
                                 {"ip", to_ip},
                                 {"isIP", is_ip},
                                 {"ip.isCanonical", is_canonical},
                                 {"cidr", to_cidr},
                                 {"isCIDR", is_cidr},
                                 {"url", to_url},
                                 {"isURL", is_url},
                                 {"format.named", format_named},
                                 {"format.dns1123Label", named_format<kDnsLabel>},
                                 {"format.dns1123Subdomain", named_format<kDnsSubdomain>},
                                 {"format.dns1035Label", named_format<kDns1035>},
                                 {"format.qualifiedName", named_format<kQualified>},
                                 {"format.dns1123LabelPrefix", named_format<kLabelPrefix>},
                                 {"format.dns1123SubdomainPrefix", named_format<kSubdomainPrefix>},
                                 {"format.dns1035LabelPrefix", named_format<k1035Prefix>},
                                 {"format.labelValue", named_format<kLabelValue>},
                                 {"format.uri", named_format<kUri>},
                                 {"format.uuid", named_format<kUuid>},
                                 {"format.byte", named_format<kByte>},
                                 {"format.date", named_format<kDate>},
                                 {"format.datetime", named_format<kDateTime>}},
                                {{"sign", sign},
                                 {"isInteger", is_integer},
                                 {"asInteger", as_integer},
                                 {"asApproximateFloat", as_float},
                                 {"add", combine<1>},
                                 {"sub", combine<-1>},
                                 {"isLessThan", less_than},
                                 {"isGreaterThan", greater_than},
                                 {"compareTo", compare_to},
                                 {"family", family},
                                 {"isUnspecified", unspecified},
                                 {"isLoopback", is_loopback},
                                 {"isLinkLocalMulticast", is_llm},
                                 {"isLinkLocalUnicast", is_llu},
                                 {"isGlobalUnicast", is_global},
                                 {"containsIP", contains_ip},
                                 {"containsCIDR", contains_cidr},
                                 {"ip", cidr_ip},
                                 {"masked", masked},
                                 {"prefixLength", prefix_length},
                                 {"getScheme", scheme},
                                 {"getHost", host},
                                 {"getHostname", hostname},
                                 {"getPort", port},
                                 {"getEscapedPath", escaped_path},
                                 {"getQuery", query},
                                 {"validate", validate},
                                 {"path", access_path},
                                 {"group", access_group},
                                 {"resource", access_resource},
                                 {"subresource", access_subresource},
                                 {"namespace", access_namespace},
                                 {"name", access_name},
                                 {"serviceAccount", access_account},
                                 {"check", access_check},
                                 {"allowed", allowed},
                                 {"reason", reason},
                                 {"errored", errored},
                                 {"error", error}}};
  return kLibrary;
}

}  // namespace orchestra::api::cel
