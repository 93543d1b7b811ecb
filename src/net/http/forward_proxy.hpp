#pragma once
// Which requests go through a forward proxy, and through which. Pure.
//
// The rules are those of curl and of Go's net/http/httpproxy, which users know from HTTPS_PROXY and NO_PROXY.
#include <optional>
#include <string>

#include "net/http/url.hpp"
#include "orchestra/forward_proxies.hpp"

namespace orchestra::http {

struct ForwardProxy {
  std::string host;
  std::uint16_t port = 0;
  std::string authorization;  ///< of Proxy-Authorization; empty: none
};
/// "http://[user:password@]host[:port]", or without the scheme. Errors never show the password.
Result<ForwardProxy> parse_forward_proxy(std::string_view text);
/// Whether `no_proxy` names the URL's host: "*", a domain with all below it, ".domain" for those below only,
/// an address, a block of addresses, each with or without a port. The machine itself is always named.
bool is_named_by(std::string_view no_proxy, const Url& url);
/// Nothing: straight to the server.
Result<std::optional<ForwardProxy>> proxy_for(const ForwardProxies& proxies, const Url& url);

}  // namespace orchestra::http
