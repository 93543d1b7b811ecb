#pragma once
// A worker of the proxy: a strand with its connections, its idle upstream connections and its balancer.
//
// A client connection lives on one worker, and so do the upstream connections it uses; nothing of a request
// takes a lock. The table is swapped for all workers at once; a request keeps the one it started with.
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/bounded_queue.hpp"
#include "base/shared_slot.hpp"
#include "net/http/read_buffer.hpp"
#include "net/http/wire.hpp"
#include "net/ingress/balancer.hpp"
#include "net/ingress/route_table.hpp"
#include "orchestra/http_proxy.hpp"

namespace orchestra::ingress {

/// What new requests and handshakes see.
struct Published {
  std::shared_ptr<const RouteTable> table;
  std::map<NamespacedName, http::SharedTlsContext> contexts;  // by Secret
};

/// What all workers of one proxy share.
struct ProxyShared {
  Engine& engine;
  HttpProxyOptions options;
  std::vector<std::string> trusted;  ///< addresses of trusted proxies
  SharedSlot<const Published> published;
  std::atomic<bool> draining{false};
  std::atomic<std::uint64_t> requests{0}, retries{0}, not_routed{0}, upstream_failures{0}, connections{0};
  std::function<void(class ProxyConnection*)> on_end;
};

struct UpstreamConnection {
  std::shared_ptr<http::Wire> wire;
  http::ReadBuffer buffer;
  std::string endpoint;
  bool reused = false;
  std::int64_t idle_since_ns = 0;
};

class Worker : public std::enable_shared_from_this<Worker> {
 public:
  Worker(std::shared_ptr<ProxyShared> shared, std::uint64_t seed);

  ProxyShared& shared() { return *shared_; }
  const http::Strand& strand() const { return strand_; }
  Balancer& balancer() { return balancer_; }
  std::int64_t now_ns() const;
  std::uint64_t next_random();  ///< for shares of traffic; not for secrets
  /// 16 hexadecimal digits; unique, not secret.
  std::string next_request_id();

  /// An idle connection that its server has not closed, or nullptr.
  std::unique_ptr<UpstreamConnection> take(const std::string& endpoint);
  void give(std::unique_ptr<UpstreamConnection> connection);
  /// Closes what belongs to endpoints that are gone or about to go.
  void table_changed(const RouteTable& table);
  void close_idle();
  /// Keeps a request until the backend has endpoints, or no route sends there any more: `resume` is called
  /// then, in order. Full: resource_exhausted. Needs options.hold.
  Result<void> hold(const Backend& backend, std::function<void()> resume);

 private:
  void release_held(const RouteTable& table);
  void sweep();
  std::shared_ptr<ProxyShared> shared_;
  http::Strand strand_;
  Balancer balancer_;
  std::uint64_t request_seed_;
  std::map<std::string, std::deque<std::unique_ptr<UpstreamConnection>>> idle_;
  std::map<std::pair<NamespacedName, std::string>, BoundedQueue<std::function<void()>>> held_;
  std::shared_ptr<http::Deadline> sweeper_;
  bool sweeping_ = false;
};

}  // namespace orchestra::ingress
