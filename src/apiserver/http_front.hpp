#pragma once
// From HTTP to Calls and back: authentication, negotiation, in-flight limits, and the paths that are not
// resources (health, version, metrics, discovery, OpenAPI).
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "apiserver/core.hpp"
#include "apiserver/request_metrics.hpp"
#include "net/http/http_server.hpp"

namespace orchestra::apiserver {

struct FrontOptions {
  std::size_t reads_in_flight_max = 400, writes_in_flight_max = 200;
  Duration bookmark_interval = std::chrono::seconds(60);
  Duration request_deadline = std::chrono::seconds(60);  ///< 504
  std::shared_ptr<Metrics> registry = {};                ///< never null
};

class NodeTunnels;
class WatchStream;

class HttpFront : public std::enable_shared_from_this<HttpFront> {
 public:
  struct Endpoint {
    std::string content_type;
    std::function<std::string()> text;
  };
  HttpFront(std::shared_ptr<ApiCore> core, FrontOptions options);

  /// `trusted`: the listener of insecure_http, where everybody is an administrator.
  void handle(HttpServerRequest request, std::shared_ptr<HttpResponder> responder, bool trusted);

  /// Who takes the tunnels of node agents; before the first request.
  void set_tunnels(std::shared_ptr<NodeTunnels> tunnels) { tunnels_ = std::move(tunnels); }
  void set_ready(bool ready) { ready_ = ready; }
  void set_address(std::string address);
  void add_endpoint(const std::string& path, Endpoint endpoint);
  /// Ends watches.
  void stop();
  bool stopped() const { return stopped_; }

 private:
  struct Exchange;  // one request and its responder
  void authenticated(const std::shared_ptr<Exchange>& exchange, Result<Identity> user);
  Result<void> set_deadline(Exchange& exchange) const;
  void watch_deadline(const std::shared_ptr<Exchange>& exchange);
  /// True for the first who has an answer; whoever comes later is not heard.
  bool claim(Exchange& exchange) const;
  void reply(const std::shared_ptr<Exchange>& exchange, Reply reply) const;
  void send(const Exchange& exchange, Reply reply) const;
  static void compress(const Exchange& exchange, Reply& reply);
  void resource(const std::shared_ptr<Exchange>& exchange);
  void watch(const std::shared_ptr<Exchange>& exchange);
  void stream(const std::shared_ptr<Exchange>& exchange);
  void tunnel(const std::shared_ptr<Exchange>& exchange);
  Reply fixed(const Exchange& exchange);
  Reply health(const Exchange& exchange, const std::string& check) const;
  Reply openapi(const Exchange& exchange) const;
  Reply openid(const Exchange& exchange) const;
  Reply discovery(const Exchange& exchange) const;
  Reply metrics(const Exchange& exchange) const;
  void collect(MetricSink& sink) const;

  std::shared_ptr<ApiCore> core_;
  std::shared_ptr<NodeTunnels> tunnels_;
  FrontOptions options_;
  std::atomic<bool> ready_{false}, stopped_{false};
  std::atomic<std::size_t> reads_{0}, writes_{0};
  mutable std::mutex mutex_;
  std::string address_;
  std::map<std::string, Endpoint> endpoints_;
  std::vector<std::weak_ptr<WatchStream>> watches_;  ///< also ended ones, until the next sweep
  std::size_t sweep_at_ = 64;
  mutable RequestMetrics requests_;
  /// Documents that depend on the registry only, built once per registry.
  struct Documents;
  std::shared_ptr<Documents> documents_;
  std::shared_ptr<void> collecting_;  ///< last: no reading of ours outlives what it reads
};

/// Writes a reply: short bodies at once, long ones in pieces as fast as the client reads. What is not read by
/// `deadline_ns` (steady clock; 0: none) is cut off.
void send_reply(Engine& engine, const std::shared_ptr<HttpResponder>& responder, Reply reply,
                std::int64_t deadline_ns = 0);

}  // namespace orchestra::apiserver
