#pragma once
// URLs as the HTTP client needs them: http, https, and unix sockets ("unix:/path/sock:/uri"). Pure.
#include <cstdint>
#include <string>
#include <string_view>

#include "orchestra/result.hpp"

namespace orchestra::http {

struct Url {
  std::string scheme;  ///< http, https, unix
  std::string host;    ///< without brackets; unix: the socket's path
  std::uint16_t port = 0;
  std::string target;  ///< path and query, at least "/"

  bool tls() const { return scheme == "https"; }
  bool same_origin(const Url& other) const {
    return scheme == other.scheme && host == other.host && port == other.port;
  }
  /// Value of the Host field: no default port, IPv6 in brackets.
  std::string authority() const;
  std::string text() const;
};

/// User names and passwords in a URL are refused: they end up in logs.
Result<Url> parse_url(std::string_view text);
/// A Location field, relative to the URL that answered with it (RFC 3986 section 5.2).
Result<Url> resolve_url(const Url& base, std::string_view location);

}  // namespace orchestra::http
