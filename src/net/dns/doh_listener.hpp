#pragma once
// DNS over HTTPS (RFC 8484) on the library's HTTP server: /dns-query, by HTTP/1.1 and HTTP/2.
#include <memory>

#include "net/dns/service.hpp"
#include "net/http/http_server.hpp"

namespace orchestra::dns {

/// `address` with a port; the PEM texts are the server's certificate and key. Who may not ask gets a 403.
Result<std::shared_ptr<HttpServer>> start_doh_listener(Engine& engine, const std::string& address,
                                                       const std::string& certificate_pem,
                                                       const std::string& key_pem,
                                                       std::shared_ptr<Service> service);

}  // namespace orchestra::dns
