#pragma once
// Heads as they are passed on: hop-by-hop fields dropped, forwarding fields set, exactly one framing. Pure.
//
// What a client says in Connection cannot remove Host, Authorization, Content-* or X-Forwarded-*. Forwarding
// fields of clients are removed unless they come through a trusted proxy. Names with an underscore are
// dropped: CGI-like backends read `_` and `-` as the same.
#include <cstdint>
#include <string>
#include <string_view>

#include "net/http/head.hpp"

namespace orchestra::ingress {

struct Forwarding {
  std::string_view client_ip, host, port;
  bool tls = false;
  bool trusted = false;         ///< the peer may have set forwarding fields: keep and extend them
  std::string_view request_id;  ///< used when the client sent none
};
/// The request head for the upstream server; `target` is in normal form.
std::string upstream_head(const http::Head& head, std::string_view target, const Forwarding& forwarding);

/// How an answer goes to the client.
struct Delivery {
  http::Framing framing = http::Framing::none;
  bool keep_alive = true;
  std::string head;
};
Delivery client_head(const http::Head& head, int client_minor_version, bool client_keeps_alive,
                     bool is_head_request);

/// GET, HEAD, PUT, DELETE, OPTIONS, TRACE (RFC 9110 section 9.2.2)
bool is_idempotent(std::string_view method);

}  // namespace orchestra::ingress
