#include "net/http/client_pool.hpp"

#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <cerrno>

#include "orchestra/env.hpp"

namespace orchestra::http {
namespace {

constexpr auto kIdle = std::chrono::seconds(30);  // below what servers usually wait
constexpr std::size_t kIdlePerOriginMax = 16;
constexpr std::size_t kIdleMax = 256;
constexpr std::size_t kContextsMax = 64;

/// True if the peer neither closed nor spoke out of turn.
bool is_usable(Wire& wire) {
  char byte = 0;
  return ::recv(wire.native(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
         (errno == EAGAIN || errno == EWOULDBLOCK);
}

/// The wire is closed where all its life happens: on its strand.
void discard(std::unique_ptr<ClientConnection> connection) {
  auto wire = connection->wire;
  asio::post(wire->strand(), [wire] { wire->close(); });
}

}  // namespace

std::string ClientPool::key_of(const Url& url, const HttpRequest& request,
                               const SharedTlsContext& tls) const {
  return url.scheme + '\n' + url.host + '\n' + std::to_string(url.port) + '\n' + request.connect_address +
         '\n' + request.tls.server_name + '\n' + std::to_string(reinterpret_cast<std::uintptr_t>(tls.get()));
}

Result<SharedTlsContext> ClientPool::tls_context(const TlsOptions& options) {
  const std::string key = std::string(options.verify ? "1" : "0") + '\n' + options.ca_pem + '\n' +
                          options.certificate_pem + '\n' + options.key_pem;
  std::lock_guard lock(mutex_);
  if (const auto found = contexts_.find(key); found != contexts_.end()) return found->second;
  ORC_ASSIGN(auto context, make_client_context({.verify = options.verify,
                                                .ca_pem = options.ca_pem,
                                                .certificate_pem = options.certificate_pem,
                                                .key_pem = options.key_pem}));
  if (contexts_.size() >= kContextsMax) contexts_.clear();
  contexts_.emplace(key, context);
  return context;
}

std::unique_ptr<ClientConnection> ClientPool::take(const std::string& key) {
  std::lock_guard lock(mutex_);
  const auto found = idle_.find(key);
  while (found != idle_.end() && !found->second.empty()) {
    auto connection = std::move(found->second.back());
    found->second.pop_back();
    --idle_count_;
    const bool usable = is_usable(*connection->wire);
    if (found->second.empty() && usable) idle_.erase(found);
    if (usable) {
      connection->reused = true;
      return connection;
    }
    discard(std::move(connection));
  }
  return nullptr;
}

void ClientPool::give(std::unique_ptr<ClientConnection> connection) {
  connection->idle_since_ns = engine_.clock().now().steady_ns;
  connection->buffer.release();
  std::lock_guard lock(mutex_);
  auto& same = idle_[connection->key];
  if (idle_count_ >= kIdleMax || same.size() >= kIdlePerOriginMax) return discard(std::move(connection));
  same.push_back(std::move(connection));
  ++idle_count_;
  if (std::exchange(sweeping_, true)) return;
  engine_.after(kIdle, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->sweep();
  });
}

void ClientPool::sweep() {
  std::lock_guard lock(mutex_);
  const std::int64_t oldest = engine_.clock().now().steady_ns - Duration(kIdle).count();
  for (auto origin = idle_.begin(); origin != idle_.end();) {
    auto& connections = origin->second;
    while (!connections.empty() && connections.front()->idle_since_ns <= oldest) {
      discard(std::move(connections.front()));
      connections.pop_front();
      --idle_count_;
    }
    origin = connections.empty() ? idle_.erase(origin) : std::next(origin);
  }
  sweeping_ = idle_count_ > 0;
  if (!sweeping_) return;
  engine_.after(kIdle / 2, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->sweep();
  });
}

}  // namespace orchestra::http
