#pragma once
// The client's side of a WebSocket over a connection of the HTTP client; see base/http_client.hpp.
#include "base/http_client.hpp"
#include "net/http/client_pool.hpp"

namespace orchestra::http {

Pending<std::shared_ptr<WebSocket>> connect_web_socket(Engine& engine, std::shared_ptr<ClientPool> pool,
                                                       HttpRequest request, WebSocketHandler handler);

}  // namespace orchestra::http
