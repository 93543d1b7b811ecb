#pragma once
// Forward proxies for what this program fetches, as curl and others understand HTTPS_PROXY and NO_PROXY.
// Since 0.2.
#include <string>

#include "orchestra/error.hpp"

namespace orchestra {

/// By the scheme of the URL: "http://[user:password@]host[:port]"; empty: none. https goes through by
/// CONNECT. Never used for this machine itself, for unix sockets and for what `no_proxy` names: a list,
/// separated by commas, of domains (with all below them; ".domain": only those below), addresses, blocks of
/// addresses, or "*". Each may have a port.
struct ForwardProxies {
  std::string http = {}, https = {}, no_proxy = {};
};
/// From HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or the same in lower case, which comes first. HTTP_PROXY in
/// upper case does not count in a CGI program (REQUEST_METHOD is set): there a client writes it
/// (CVE-2016-5385).
ORC_API ForwardProxies proxies_of_environment();

}  // namespace orchestra
