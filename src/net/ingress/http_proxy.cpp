// HttpProxy: listeners, workers, the published table and its certificates.
#include "orchestra/http_proxy.hpp"

#include <boost/asio/post.hpp>
#include <condition_variable>
#include <mutex>
#include <unordered_map>

#include "base/engine_impl.hpp"
#include "net/http/address.hpp"
#include "net/ingress/path.hpp"
#include "net/ingress/proxy_connection.hpp"
#include "net/ingress/worker.hpp"
#include "orchestra/env.hpp"

namespace orchestra {
namespace {

using ingress::ProxyConnection;
using ingress::ProxyShared;
using ingress::Published;
using ingress::RouteTable;
using ingress::Worker;

constexpr std::size_t kWorkersMax = 64;
constexpr char kDefaultCertificateName[] = "ingress.orchestra.invalid";
constexpr auto kAbortDeadline = std::chrono::seconds(2);  // for cut connections to leave the set

class Proxy : public std::enable_shared_from_this<Proxy>, public TrafficRouter {
 public:
  Proxy(Engine& engine, HttpProxyOptions options)
      : engine_(engine), shared_(new ProxyShared{engine, std::move(options)}) {}

  Result<void> open() {
    const HttpProxyOptions& options = shared_->options;
    if (options.workers == 0 || options.workers > kWorkersMax) {
      return Error(Error::invalid, "ingress", "workers must be between 1 and 64");
    }
    for (const std::string& text : options.trusted_proxies) {
      ORC_ASSIGN(const auto address, http::make_address(text, 0));
      shared_->trusted.push_back(address.host());
    }
    shared_->published.store(std::make_shared<const Published>(Published{RouteTable::compile({}, {}), {}}));
    shared_->on_end = [weak = weak_from_this()](ProxyConnection* connection) {
      if (const auto self = weak.lock()) self->forget(connection);
    };
    if (!options.listen_tls.empty()) ORC_TRY(make_tls());
    for (std::size_t i = 0; i < options.workers; ++i) {
      workers_.push_back(std::make_shared<Worker>(shared_, engine_.random().next()));
    }
    for (const std::string& text : options.listen) ORC_TRY(listen(text, false));
    for (const std::string& text : options.listen_tls) ORC_TRY(listen(text, true));
    return {};
  }

  void publish(std::shared_ptr<const NetworkSnapshot> snapshot) {
    std::lock_guard lock(publish_mutex_);
    snapshot_ = std::move(snapshot);
    publish_locked();
  }

  // TrafficRouter: a change of the plan compiles the last snapshot again.
  Result<std::uint64_t> set_weights(const std::string& route,
                                    std::map<std::string, std::uint32_t> weights) override {
    ORC_TRY(ingress::check_weights(weights));
    return steer(route, [&](ingress::RoutePlan& plan) { plan.weights = std::move(weights); });
  }
  Result<std::uint64_t> set_matches(const std::string& route, std::vector<TrafficMatch> matches) override {
    ORC_TRY(ingress::check_matches(matches));
    return steer(route, [&](ingress::RoutePlan& plan) { plan.matches = std::move(matches); });
  }
  Result<std::uint64_t> reset(const std::string& route) override {
    ORC_TRY(ingress::check_route(route));
    std::lock_guard lock(publish_mutex_);
    plan_.erase(plan_key(route));
    publish_locked();
    return ++plan_version_;
  }
  bool confirmed(std::uint64_t version) const override {
    std::lock_guard lock(publish_mutex_);
    return version <= plan_version_;  // a new request reads the table that was published with it
  }
  std::vector<TrafficObservation> observe(const std::string& route) const override {
    std::lock_guard lock(publish_mutex_);
    std::vector<TrafficObservation> out;
    const auto found = plan_.find(plan_key(route));
    if (found == plan_.end()) return out;
    for (const auto& [backend, counters] : found->second.counters) {
      TrafficObservation one{.backend = backend, .requests = counters->requests};
      for (std::size_t i = 0; i < counters->answers.size(); ++i) one.answers[i] = counters->answers[i];
      one.connect_failures = counters->connect_failures;
      out.push_back(one);
    }
    return out;
  }

  void publish_locked() {
    if (!snapshot_) return;
    const NetworkSnapshot& snapshot = *snapshot_;
    const auto before = shared_->published.load();
    auto next = std::make_shared<Published>();
    next->table = RouteTable::compile(snapshot, {.class_name = shared_->options.class_name}, plan_);
    std::vector<NetworkRejection> rejected = next->table->rejected();
    make_contexts(*next, *before, rejected);
    const std::shared_ptr<const Published> published = next;
    shared_->published.store(published);
    {
      std::lock_guard rejected_lock(mutex_);
      rejected_ = std::move(rejected);
    }
    for (const auto& worker : workers_) {
      boost::asio::post(worker->strand(),
                        [worker, table = published->table] { worker->table_changed(*table); });
    }
  }

  std::vector<std::string> addresses(bool tls) const {
    std::vector<std::string> out;
    for (const Listener& listener : listeners_) {
      if (listener.tls == tls) out.push_back(listener.address.text());
    }
    return out;
  }

  std::string explain(const std::string& host, const std::string& path) const {
    const auto target = ingress::read_target(path);
    if (!target) return "path \"" + path + "\" is malformed: 400";
    return shared_->published.load()->table->explain(ingress::host_name(host), target->path);
  }

  std::vector<IngressStatus> statuses() const {
    std::vector<std::string> shown = shared_->options.status_addresses;
    if (shown.empty()) {
      for (const Listener& listener : listeners_) {
        const std::string address = listener.address.host();
        if (std::find(shown.begin(), shown.end(), address) == shown.end()) shown.push_back(address);
      }
    }
    std::vector<IngressStatus> out;
    for (const NamespacedName& name : shared_->published.load()->table->ingresses())
      out.push_back({name, shown});
    return out;
  }

  std::vector<NetworkRejection> rejected() const {
    std::lock_guard lock(mutex_);
    return rejected_;
  }

  HttpProxyStats stats() const {
    return {.connections = shared_->connections,
            .requests = shared_->requests,
            .retries = shared_->retries,
            .not_routed = shared_->not_routed,
            .upstream_failures = shared_->upstream_failures};
  }

  void stop(Duration grace) {
    shared_->draining = true;
    for (Listener& listener : listeners_) listener.acceptor->stop();
    if (event_context(engine_).stopped()) return;
    for_each([](ProxyConnection& connection) { connection.drain(); });
    for (const auto& worker : workers_)
      boost::asio::post(worker->strand(), [worker] { worker->close_idle(); });
    if (detail::on_event_thread()) {
      // May not wait here: the rest is ended by a timer.
      engine_.after(grace, [self = shared_from_this()] {
        self->for_each([](ProxyConnection& connection) { connection.close(); });
      });
      return;
    }
    if (wait_empty(grace)) return;
    for_each([](ProxyConnection& connection) { connection.close(); });
    wait_empty(kAbortDeadline);
  }

 private:
  struct Listener {
    http::SocketAddress address;
    bool tls = false;
    std::shared_ptr<http::Acceptor> acceptor;
  };

  static std::string plan_key(const std::string& route) {
    const std::size_t slash = std::min(route.find('/'), route.size());
    return ingress::route_key(route.substr(0, slash), route.substr(slash));
  }

  template <class Change>
  Result<std::uint64_t> steer(const std::string& route, Change change) {
    ORC_TRY(ingress::check_route(route));
    std::lock_guard lock(publish_mutex_);
    const std::string key = plan_key(route);
    if (!plan_.contains(key) && plan_.size() >= ingress::kSteeredRoutesMax)
      return Error(
          Error::resource_exhausted, "ingress",
          "more than " + std::to_string(ingress::kSteeredRoutesMax) + " routes are steered; reset some");
    ingress::RoutePlan& plan = plan_[key];
    change(plan);
    if (plan.counters.size() > 4 * ingress::kBackendsPerRouteMax) plan.counters.clear();  // many releases ago
    const auto count = [&](const std::string& backend) {
      auto& counters = plan.counters[backend];
      if (!counters) counters = std::make_shared<ingress::TrafficCounters>();
    };
    for (const auto& [backend, weight] : plan.weights) count(backend);
    for (const TrafficMatch& match : plan.matches) count(match.backend);
    publish_locked();
    return ++plan_version_;
  }

  Result<void> make_tls() {
    ORC_ASSIGN(const auto self_signed, http::make_self_signed(kDefaultCertificateName));
    ORC_ASSIGN(auto fallback, http::make_server_context(self_signed.first, self_signed.second, ""));
    const auto pick = [shared = std::weak_ptr(shared_)](std::string_view name) -> http::SharedTlsContext {
      const auto locked = shared.lock();
      if (!locked) return nullptr;
      const auto published = locked->published.load();
      const auto certificate = published->table->certificate(ingress::host_name(name));
      if (!certificate) return nullptr;
      const auto found = published->contexts.find(certificate->secret);
      return found == published->contexts.end() ? nullptr : found->second;
    };
    ORC_ASSIGN(tls_, http::make_sni_context(std::move(fallback), pick));
    return {};
  }

  /// One TLS context per Secret; an unchanged Secret keeps its own, a broken one keeps the last good.
  void make_contexts(Published& next, const Published& before, std::vector<NetworkRejection>& rejected) {
    for (const auto& certificate : next.table->certificates()) {
      if (next.contexts.contains(certificate->secret)) continue;
      const auto old = before.contexts.find(certificate->secret);
      const auto version = versions_.find(certificate->secret);
      const bool same = old != before.contexts.end() && version != versions_.end() &&
                        version->second == certificate->version;
      if (same) {
        next.contexts.emplace(*old);
        continue;
      }
      auto made = http::make_server_context(certificate->certificate_pem, certificate->key_pem, "");
      if (made) {
        next.contexts.emplace(certificate->secret, *made);
        versions_[certificate->secret] = certificate->version;
        continue;
      }
      if (old != before.contexts.end()) next.contexts.emplace(*old);
      rejected.push_back({"Secret", certificate->secret.ns, certificate->secret.name, "",
                          "InvalidCertificate", made.error().message()});
    }
  }

  Result<void> listen(const std::string& text, bool tls) {
    ORC_ASSIGN(const auto wanted, http::parse_address(text, tls ? 443 : 80));
    ORC_ASSIGN(Fd socket, http::open_listener(wanted, http::Listen::stream, {}));
    Listener listener{.tls = tls};
    ORC_ASSIGN(listener.address, http::local_address(socket.get()));
    const std::string port = std::to_string(listener.address.port());
    listener.acceptor = http::Acceptor::start(engine_, std::move(socket),
                                              [weak = weak_from_this(), tls, port](Fd fd, std::string) {
                                                if (const auto self = weak.lock())
                                                  self->accept(std::move(fd), tls, port);
                                              });
    listeners_.push_back(std::move(listener));
    return {};
  }

  void accept(Fd fd, bool tls, const std::string& port) {
    const auto peer = http::peer_address(fd.get());
    if (!peer) return;  // gone already; the Fd closes
    const std::string client = peer->host();
    std::shared_ptr<ProxyConnection> connection;
    {
      std::lock_guard lock(mutex_);
      const HttpProxyOptions& options = shared_->options;
      if (shared_->draining || connections_.size() >= options.connections_max) return;
      if (per_client_[client] >= options.connections_per_client_max) return;
      ++per_client_[client];
      ++shared_->connections;
      const auto& worker = workers_[next_worker_++ % workers_.size()];
      auto wire = tls ? http::make_tls_wire(worker->strand(), std::move(fd), peer->family(), tls_,
                                            http::TlsRole::server)
                      : http::make_plain_wire(worker->strand(), std::move(fd), peer->family());
      connection = std::make_shared<ProxyConnection>(worker, std::move(wire), client, port, tls);
      connections_.emplace(connection.get(), connection);
    }
    boost::asio::post(connection->strand(), [connection] { connection->start(); });
  }

  void forget(ProxyConnection* connection) {
    std::lock_guard lock(mutex_);
    if (--per_client_[connection->client_ip()] == 0) per_client_.erase(connection->client_ip());
    connections_.erase(connection);
    if (connections_.empty()) empty_.notify_all();
  }

  template <class F>
  void for_each(F call) {
    std::vector<std::shared_ptr<ProxyConnection>> all;
    {
      std::lock_guard lock(mutex_);
      for (const auto& [key, connection] : connections_) all.push_back(connection);
    }
    for (const auto& connection : all) {
      boost::asio::post(connection->strand(), [connection, call] { call(*connection); });
    }
  }

  bool wait_empty(Duration deadline) {
    std::unique_lock lock(mutex_);
    return empty_.wait_for(lock, deadline, [&] { return connections_.empty(); });
  }

  Engine& engine_;
  const std::shared_ptr<ProxyShared> shared_;
  http::SharedTlsContext tls_;
  std::vector<std::shared_ptr<Worker>> workers_;
  std::vector<Listener> listeners_;
  mutable std::mutex publish_mutex_;
  std::shared_ptr<const NetworkSnapshot> snapshot_;  ///< the last one published
  ingress::TrafficPlan plan_;
  std::uint64_t plan_version_ = 0;
  std::map<NamespacedName, std::string> versions_;  // of the Secrets whose contexts are published
  mutable std::mutex mutex_;
  std::condition_variable empty_;
  std::vector<NetworkRejection> rejected_;
  std::unordered_map<ProxyConnection*, std::shared_ptr<ProxyConnection>> connections_;
  std::unordered_map<std::string, std::size_t> per_client_;
  std::size_t next_worker_ = 0;
};

/// What the user holds: its end stops the proxy, whose connections may live a little longer.
class ProxyHandle final : public HttpProxy {
 public:
  explicit ProxyHandle(std::shared_ptr<Proxy> proxy) : proxy_(std::move(proxy)) {}
  ~ProxyHandle() override { proxy_->stop(Duration::zero()); }
  void publish(std::shared_ptr<const NetworkSnapshot> snapshot) override {
    if (snapshot) proxy_->publish(std::move(snapshot));
  }
  std::vector<std::string> addresses() const override { return proxy_->addresses(false); }
  std::vector<std::string> tls_addresses() const override { return proxy_->addresses(true); }
  std::string explain(const std::string& host, const std::string& path) const override {
    return proxy_->explain(host, path);
  }
  TrafficRouter& traffic() override { return *proxy_; }
  std::vector<IngressStatus> statuses() const override { return proxy_->statuses(); }
  std::vector<NetworkRejection> rejected() const override { return proxy_->rejected(); }
  HttpProxyStats stats() const override { return proxy_->stats(); }
  void stop(Duration grace) override { proxy_->stop(grace); }

 private:
  std::shared_ptr<Proxy> proxy_;
};

}  // namespace

Result<std::shared_ptr<HttpProxy>> HttpProxy::create(Engine& engine, HttpProxyOptions options) {
  auto proxy = std::make_shared<Proxy>(engine, std::move(options));
  auto handle = std::make_shared<ProxyHandle>(proxy);  // stops what is open when open() fails half-way
  ORC_TRY(proxy->open());
  return std::shared_ptr<HttpProxy>(std::move(handle));
}

}  // namespace orchestra
