#pragma once
// Idle connections of the HTTP client, by origin, and the TLS settings they were made with.
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/http_client.hpp"
#include "net/http/read_buffer.hpp"
#include "net/http/url.hpp"
#include "net/http/wire.hpp"
#include "orchestra/forward_proxies.hpp"

namespace orchestra::http {

struct ClientConnection {
  std::shared_ptr<Wire> wire;
  ReadBuffer buffer;
  std::string key;
  bool reused = false;
  std::int64_t idle_since_ns = 0;
};

class ClientPool : public std::enable_shared_from_this<ClientPool> {
 public:
  ClientPool(Engine& engine, ForwardProxies proxies = {}) : proxies(std::move(proxies)), engine_(engine) {}

  const ForwardProxies proxies;

  /// Connections with equal keys are exchangeable.
  std::string key_of(const Url& url, const HttpRequest& request, const SharedTlsContext& tls) const;
  /// Equal options share a context, so that handshakes can resume and the bundle is read once.
  Result<SharedTlsContext> tls_context(const TlsOptions& options);

  /// The most recently used idle connection that its peer has not closed, or nullptr.
  std::unique_ptr<ClientConnection> take(const std::string& key);
  void give(std::unique_ptr<ClientConnection> connection);

 private:
  void sweep();

  Engine& engine_;
  std::mutex mutex_;
  std::map<std::string, std::deque<std::unique_ptr<ClientConnection>>> idle_;
  std::size_t idle_count_ = 0;
  bool sweeping_ = false;
  std::map<std::string, SharedTlsContext> contexts_;
};

}  // namespace orchestra::http
