#include "net/http/forward_proxy.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "base/base64.hpp"
#include "net/http/address.hpp"

namespace orchestra::http {
namespace {

constexpr std::uint16_t kPortDefault = 80;

std::string small(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return out;
}

/// "%40" as "@": in the user's name and password only.
std::string without_escapes(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    const char* first = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(first, first + 2, value, 16).ptr == first + 2) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

/// The bytes of an address literal: 4 or 16; empty: none.
std::string address_bytes(const std::string& host) {
  const auto address = make_address(host, 0);
  if (!address) return {};
  if (address->family() == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(address->get());
    return {reinterpret_cast<const char*>(&v4->sin_addr), 4};
  }
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address->get());
  return {reinterpret_cast<const char*>(&v6->sin6_addr), 16};
}

/// Whether "10.0.0.0/8" holds the address.
bool block_holds(const std::string& block, const std::string& address) {
  const std::size_t slash = block.find('/');
  if (slash == std::string::npos) return false;
  const std::string base = address_bytes(block.substr(0, slash));
  unsigned bits = 0;
  const char* end = block.data() + block.size();
  if (block.data() + slash + 1 == end || std::from_chars(block.data() + slash + 1, end, bits).ptr != end ||
      base.empty() || base.size() != address.size() || bits > base.size() * 8)
    return false;
  if (std::memcmp(base.data(), address.data(), bits / 8) != 0) return false;
  const unsigned rest = bits % 8;
  return rest == 0 || ((base[bits / 8] ^ address[bits / 8]) & (0xff << (8 - rest) & 0xff)) == 0;
}

bool is_this_machine(const std::string& host, const std::string& address) {
  if (host == "localhost" || host.ends_with(".localhost")) return true;
  if (address.size() == 4) return address[0] == 127;
  return address == std::string(15, '\0') + '\1';
}
}  // namespace

Result<ForwardProxy> parse_forward_proxy(std::string_view text) {
  ForwardProxy proxy;
  std::string_view rest = text;
  const std::size_t at = rest.rfind('@');
  const auto bad = [&](const std::string& why) {
    const std::string shown(at == std::string_view::npos ? text : text.substr(at + 1));
    return Error(Error::invalid, "http", "proxy \"" + shown + "\": " + why + "; write http://host:port");
  };
  if (const std::size_t scheme = rest.find("://"); scheme != std::string_view::npos) {
    if (rest.substr(0, scheme) != "http") return bad("only proxies that speak plain HTTP are supported");
    rest.remove_prefix(scheme + 3);
  }
  if (const std::size_t sign = rest.rfind('@'); sign != std::string_view::npos) {
    const std::string_view login = rest.substr(0, sign);
    const std::size_t colon = std::min(login.find(':'), login.size());
    const std::string user = without_escapes(login.substr(0, colon));
    const std::string password = colon < login.size() ? without_escapes(login.substr(colon + 1)) : "";
    proxy.authorization = "Basic " + encode_base64_text(user + ":" + password);
    rest.remove_prefix(sign + 1);
  }
  auto url = parse_url("http://" + std::string(rest));
  if (!url) return bad("it is not the address of a proxy");
  if (url->target != "/") return bad("it has a path");
  proxy.host = url->host;
  proxy.port = url->port != 0 ? url->port : kPortDefault;
  return proxy;
}

bool is_named_by(std::string_view no_proxy, const Url& url) {
  const std::string host = small(url.host), address = address_bytes(url.host);
  if (is_this_machine(host, address)) return true;
  while (!no_proxy.empty()) {
    const std::size_t end = std::min(no_proxy.find_first_of(", "), no_proxy.size());
    std::string name = small(no_proxy.substr(0, end));
    no_proxy.remove_prefix(std::min(end + 1, no_proxy.size()));
    if (name.empty()) continue;
    if (name == "*") return true;
    // A port is what follows the only colon, or the bracket of an IPv6 address.
    const std::size_t colon = name.rfind(':');
    const bool bracketed = name[0] == '[';
    const bool has_port =
        colon != std::string::npos && (bracketed ? name[colon - 1] == ']' : name.find(':') == colon);
    if (has_port) {
      if (name.substr(colon + 1) != std::to_string(url.port)) continue;
      name.resize(colon);
    }
    if (bracketed && name.back() == ']') name = name.substr(1, name.size() - 2);
    if (!address.empty()) {
      if (address_bytes(name) == address || block_holds(name, address)) return true;
      continue;
    }
    if (name.starts_with("*.")) name.erase(0, 1);
    if (name[0] == '.' ? host.ends_with(name) : host == name || host.ends_with("." + name)) return true;
  }
  return false;
}

Result<std::optional<ForwardProxy>> proxy_for(const ForwardProxies& proxies, const Url& url) {
  const std::string& chosen = url.tls() ? proxies.https : proxies.http;
  if (chosen.empty() || url.scheme == "unix" || is_named_by(proxies.no_proxy, url))
    return std::optional<ForwardProxy>();
  ORC_ASSIGN(ForwardProxy proxy, parse_forward_proxy(chosen));
  return std::optional<ForwardProxy>(std::move(proxy));
}

}  // namespace orchestra::http

namespace orchestra {

ForwardProxies proxies_of_environment() {
  const auto value = [](const char* lower, const char* upper) {
    const char* found = std::getenv(lower);
    if (found == nullptr && upper != nullptr) found = std::getenv(upper);
    return std::string(found == nullptr ? "" : found);
  };
  const bool cgi = std::getenv("REQUEST_METHOD") != nullptr;
  return {value("http_proxy", cgi ? nullptr : "HTTP_PROXY"), value("https_proxy", "HTTPS_PROXY"),
          value("no_proxy", "NO_PROXY")};
}

}  // namespace orchestra
