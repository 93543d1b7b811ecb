// ApiServer: certificates, bootstrap objects and listeners around the generic engine.
#include "orchestra/api_server.hpp"

#include <mutex>

#include "apiserver/audit/audit.hpp"
#include "apiserver/auth/access.hpp"
#include "apiserver/auth/tokens.hpp"
#include "apiserver/bootstrap.hpp"
#include "apiserver/client_in_process.hpp"
#include "apiserver/http_front.hpp"
#include "apiserver/pki.hpp"
#include "apiserver/seal/sealed_store.hpp"
#include "apiserver/service_range.hpp"
#include "apiserver/streams/node_tunnels.hpp"
#include "apiserver/type_source.hpp"
#include "apiserver/webhook/webhook.hpp"
#include "base/engine_manual.hpp"
#include "base/fd.hpp"

namespace orchestra {
namespace {
using namespace apiserver;
constexpr Duration kStopGrace = std::chrono::seconds(2);
constexpr Duration kReleaseWait = std::chrono::seconds(10);  // longer than any call of the store
constexpr std::size_t kConfigBytesMax = 1 << 20;
constexpr Duration kBootstrapEvery = std::chrono::seconds(30);  // deleted bootstrap objects come back

std::string host_of(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  return host;
}
int port_of(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  return colon == std::string::npos ? 0 : std::atoi(address.c_str() + colon + 1);
}
bool is_loopback(const std::string& host) {
  return host.starts_with("127.") || host == "::1" || host == "localhost";
}
bool is_any(const std::string& host) { return host.empty() || host == "0.0.0.0" || host == "::"; }
}  // namespace

struct ApiServer::Impl : std::enable_shared_from_this<ApiServer::Impl> {
  Impl(Engine& e, std::shared_ptr<StateStore> s, ApiServerOptions o)
      : engine(e),
        options(std::move(o)),
        below(s),
        store(std::make_shared<SealedStore>(std::move(s))),
        core(std::make_shared<ApiCore>(e, store, core_options())),
        tunnels(std::make_shared<NodeTunnels>(e)) {
    core->set_pod_streams(tunnels);
    if (options.registry) return;
    options.registry = Metrics::create();
    collecting = options.registry->collect(collect_process);
  }

  CoreOptions core_options() const {
    CoreOptions out;
    out.service_cidr = options.service_cidr;
    out.node_port_min = options.node_port_min;
    out.node_port_max = options.node_port_max;
    out.watchers_max = options.watchers_max;
    out.request_deadline = options.request_deadline;
    return out;
  }
  std::vector<std::string> certificate_names() const {
    std::vector<std::string> names = {"localhost",
                                      "kubernetes",
                                      "kubernetes.default",
                                      "kubernetes.default.svc",
                                      "kubernetes.default.svc.cluster.local",
                                      "127.0.0.1",
                                      "::1",
                                      ServiceRange::parse_all(options.service_cidr).front().address(1)};
    const std::string host = host_of(options.listen);
    if (!is_any(host) && !is_loopback(host)) names.push_back(host);
    if (is_loopback(host) && host != "localhost" && host != "127.0.0.1" && host != "::1")
      names.push_back(host);
    names.insert(names.end(), options.certificate_names.begin(), options.certificate_names.end());
    if (!advertised.empty()) names.push_back(host_of(advertised));
    return names;
  }
  Result<void> check_options() const;
  Result<void> listen_https();
  Result<void> listen_http();
  Result<void> renew();
  void schedule_renewal();
  Result<void> open_tokens();
  Result<void> open_sealer();
  BootstrapOptions bootstrap_options() const;
  void schedule_bootstrap();
  HttpServer::Handler handler(bool trusted) const {
    return [front = front, trusted](HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
      front->handle(std::move(request), std::move(responder), trusted);
    };
  }

  Engine& engine;
  ApiServerOptions options;
  std::shared_ptr<StateStore> below;
  std::shared_ptr<SealedStore> store;
  std::shared_ptr<void> handles = std::make_shared<char>();  ///< each client and watch of the host has a copy
  std::shared_ptr<ApiCore> core;
  std::shared_ptr<NodeTunnels> tunnels;
  std::shared_ptr<Pki> pki;
  std::shared_ptr<AuditLog> audit;
  std::shared_ptr<HttpFront> front;
  std::shared_ptr<void> collecting;
  std::shared_ptr<TypeSource> types;
  std::shared_ptr<HttpServer> https, http, pods;
  std::string advertised;  ///< address:port that pods reach; empty: that of https
  std::mutex mutex;        ///< guards start, stop and the timers
  std::mutex bootstrap_mutex;
  const std::shared_ptr<std::string> roles_seen = std::make_shared<std::string>();  ///< under it
  Engine::TimerId renewal = 0, again = 0;
  bool started = false;
};

Result<void> ApiServer::Impl::check_options() const {
  ORC_TRY(ServiceRange::check(options.service_cidr));
  if (options.node_port_min < 1 || options.node_port_max > 65535 ||
      options.node_port_min > options.node_port_max) {
    return Error(Error::invalid, "apiserver",
                 "node ports " + std::to_string(options.node_port_min) + "-" +
                     std::to_string(options.node_port_max) + " are not a range within 1-65535");
  }
  if (!options.insecure_http.empty() && !is_loopback(host_of(options.insecure_http))) {
    return Error(
        Error::invalid, "apiserver",
        "insecure_http \"" + options.insecure_http +
            "\" is not a loopback address: everybody who reaches it is an administrator; use 127.0.0.1 or "
            "[::1], or HTTPS");
  }
  return {};
}

Result<void> ApiServer::Impl::listen_https() {
  if (options.listen.empty()) return {};
  ORC_ASSIGN(KeyPair serving, pki->issue_server("kube-apiserver", certificate_names()));
  HttpServerOptions http_options;
  http_options.listen = options.listen;
  http_options.tls = true;
  http_options.certificate_pem = serving.certificate_pem;
  http_options.key_pem = serving.key_pem;
  http_options.client_ca_pem = pki->ca_pem();
  http_options.connections_max = options.connections_max;
  ORC_ASSIGN(https, HttpServer::start(engine, http_options, handler(false)));
  return {};
}

Result<void> ApiServer::Impl::listen_http() {
  if (options.insecure_http.empty()) return {};
  HttpServerOptions http_options;
  http_options.listen = options.insecure_http;
  http_options.connections_max = options.connections_max;
  ORC_ASSIGN(http, HttpServer::start(engine, http_options, handler(true)));
  return {};
}

Result<void> ApiServer::Impl::renew() {
  ORC_ASSIGN(KeyPair serving, pki->issue_server("kube-apiserver", certificate_names()));
  ORC_TRY(https->set_certificate(serving.certificate_pem, serving.key_pem));
  return pods ? pods->set_certificate(serving.certificate_pem, serving.key_pem) : Result<void>();
}

// At two thirds of the certificate's life.
void ApiServer::Impl::schedule_renewal() {
  if (!https) return;
  renewal = engine.after(options.certificate_life * 2 / 3, [self = weak_from_this()] {
    const auto impl = self.lock();
    if (!impl) return;
    std::lock_guard lock(impl->mutex);
    if (!impl->started) return;
    if (auto renewed = impl->renew(); !renewed) {
      impl->engine.log(LogLevel::error, "apiserver",
                       "the serving certificate could not be renewed: " + renewed.error().to_string());
    }
    impl->schedule_renewal();
  });
}

Result<void> ApiServer::Impl::open_sealer() {
  std::string path = options.encryption_config;
  if (path.empty() && options.data_directory.empty()) return {};
  if (path.empty()) {
    path = options.data_directory + "/pki/encryption.yaml";
    auto there = read_file(path, kConfigBytesMax);
    if (!there && there.error().is(Error::not_found)) {
      ORC_TRY(replace_file(path, Sealer::make_config(engine.random()), 0600, true));
    }
  }
  ORC_ASSIGN(const std::string text, read_file(path, kConfigBytesMax));
  auto sealer = Sealer::parse(text, engine.random(), options.kms);
  if (!sealer) return sealer.error().with_context(path);
  store->set_sealer(std::move(*sealer));
  return {};
}

Result<void> ApiServer::Impl::open_tokens() {
  auto authority = std::make_shared<TokenAuthority>(
      TokenAuthority{.issuer = nullptr, .verifier = TokenVerifier(options.service_account_issuer)});
  ORC_ASSIGN(authority->issuer, TokenIssuer::create(pki->token_key(), options.service_account_issuer));
  ORC_TRY(authority->verifier.add_key(pki->token_key()));
  for (const std::string& key : options.service_account_keys) {
    if (auto added = authority->verifier.add_key(key); !added)
      return added.error().with_context("service_account_keys");
  }
  authority->audiences = {options.service_account_issuer};
  authority->admin_token = pki->admin_token();
  authority->ca_pem = pki->ca_pem();
  if (options.authenticate_token) {
    authority->host = [ask =
                           options.authenticate_token](const std::string& token) -> std::optional<Identity> {
      auto known = ask(token);
      if (!known) return std::nullopt;
      return Identity{known->name, known->uid, known->groups, known->extra};
    };
  }
  core->set_tokens(std::move(authority));
  return {};
}

BootstrapOptions ApiServer::Impl::bootstrap_options() const {
  BootstrapOptions out;
  out.roles_seen = roles_seen;
  out.service_cidr = options.service_cidr;
  out.ca_pem = pki->ca_pem();
  const std::string address = !advertised.empty() ? advertised : https ? https->address() : std::string();
  if (const std::string host = host_of(address); !address.empty() && !is_any(host)) {
    out.advertise_host = host;
    out.advertise_port = port_of(address);
  }
  return out;
}

// Again only when the last one is done: one that waits for a store without a majority must not meet itself.
void ApiServer::Impl::schedule_bootstrap() {
  again = engine.after(kBootstrapEvery, [self = weak_from_this()] {
    const auto impl = self.lock();
    if (!impl) return;
    const auto next = [impl] {
      std::lock_guard lock(impl->mutex);
      if (impl->started) impl->schedule_bootstrap();
    };
    const auto queued = impl->engine.post_blocking([impl, next] {
      BootstrapOptions wanted;
      {
        std::lock_guard lock(impl->mutex);
        if (!impl->started) return;
        wanted = impl->bootstrap_options();
      }
      {
        std::lock_guard one(impl->bootstrap_mutex);
        if (auto made = bootstrap(impl->core, wanted); !made) {
          impl->engine.log(LogLevel::warning, "apiserver",
                           "bootstrap objects are not complete: " + made.error().to_string());
        }
      }
      next();
    });
    if (!queued) next();
  });
}

ApiServer::ApiServer(Engine& engine, std::shared_ptr<StateStore> store, ApiServerOptions options)
    : impl_(std::make_shared<Impl>(engine, std::move(store), std::move(options))) {}
/// The answers of the last calls may still hold the store for a moment, on threads of its own or the
/// engine's. It is let go of here, after them, so that the host finds it free; unless clients of the host
/// still use it.
ApiServer::~ApiServer() {
  stop();
  const std::shared_ptr<StateStore> below = std::move(impl_->below);
  const std::shared_ptr<void> handles = std::move(impl_->handles);
  const bool waits = !driven_by_hand(impl_->engine);
  Pending<> released = impl_->store->released();
  impl_.reset();
  if (waits && handles.use_count() == 1) (void)released.wait(kReleaseWait);
}

Result<void> ApiServer::start() {
  Impl& impl = *impl_;
  std::lock_guard lock(impl.mutex);
  if (impl.started) return {};
  ORC_TRY(impl.check_options());
  PkiOptions pki_options;
  pki_options.certificate_life = impl.options.certificate_life;
  if (!impl.options.data_directory.empty()) pki_options.directory = impl.options.data_directory + "/pki";
  ORC_ASSIGN(impl.pki, Pki::open(impl.engine.clock(), impl.engine.random(), std::move(pki_options)));
  impl.core->set_continue_secret(impl.pki->secret());
  ORC_TRY(impl.open_sealer());
  ORC_TRY(impl.open_tokens());
  ORC_TRY(impl.core->access().open());
  ORC_TRY(impl.core->webhooks().list(true));  // read once before anybody writes
  FrontOptions front_options;
  front_options.reads_in_flight_max = impl.options.reads_in_flight_max;
  front_options.writes_in_flight_max = impl.options.writes_in_flight_max;
  front_options.bookmark_interval = impl.options.bookmark_interval;
  front_options.request_deadline = impl.options.request_deadline;
  if (impl.options.audit_sink) {
    ORC_ASSIGN(AuditPolicy policy, AuditPolicy::parse(impl.options.audit_policy));
    impl.audit = std::make_shared<AuditLog>(impl.engine, std::move(policy), impl.options.audit_sink,
                                            impl.options.audit_queue_max);
    impl.core->set_audit(impl.audit);
  }
  front_options.registry = impl.options.registry;
  impl.front = std::make_shared<HttpFront>(impl.core, std::move(front_options));
  impl.front->set_tunnels(impl.tunnels);
  ORC_TRY(impl.listen_https());
  ORC_TRY(impl.listen_http());
  impl.started = true;
  const std::string address = impl.https ? impl.https->address() : std::string();
  impl.front->set_address(address);
  ORC_TRY(bootstrap(impl.core, impl.bootstrap_options()));
  impl.types = std::make_shared<TypeSource>(impl.core);
  ORC_TRY(impl.types->start());
  impl.front->set_ready(true);
  impl.schedule_renewal();
  impl.schedule_bootstrap();
  return {};
}

std::uint64_t ApiServer::audit_dropped() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->audit ? impl_->audit->dropped() : 0;
}

Result<std::size_t> ApiServer::reencrypt() { return impl_->store->reencrypt(); }

Result<void> ApiServer::serve_pods(const std::string& address) {
  Impl& impl = *impl_;
  BootstrapOptions wanted;
  {
    std::lock_guard lock(impl.mutex);
    if (!impl.started || !impl.https) {
      return Error(Error::invalid, "apiserver", "serve_pods needs a started server with `listen`");
    }
    impl.advertised = address;
    HttpServerOptions http_options;
    ORC_ASSIGN(KeyPair serving, impl.pki->issue_server("kube-apiserver", impl.certificate_names()));
    http_options.listen = address;
    http_options.tls = true;
    http_options.certificate_pem = serving.certificate_pem;
    http_options.key_pem = serving.key_pem;
    http_options.client_ca_pem = impl.pki->ca_pem();
    http_options.connections_max = impl.options.connections_max;
    auto opened = HttpServer::start(impl.engine, http_options, impl.handler(false));
    if (!opened) {
      impl.advertised.clear();
      return opened.error();
    }
    impl.pods = *opened;
    impl.advertised = impl.pods->address();
    wanted = impl.bootstrap_options();
  }
  std::lock_guard one(impl.bootstrap_mutex);
  return bootstrap(impl.core, wanted);
}

void ApiServer::stop() {
  Impl& impl = *impl_;
  std::shared_ptr<HttpServer> https;
  std::shared_ptr<HttpServer> http;
  std::shared_ptr<HttpServer> pods;
  {
    std::lock_guard lock(impl.mutex);
    if (!impl.started) return;
    impl.started = false;
    if (impl.types) impl.types->stop();
    https = std::move(impl.https);
    http = std::move(impl.http);
    pods = std::move(impl.pods);
    impl.https = nullptr;
    impl.http = nullptr;
    impl.pods = nullptr;
    if (impl.renewal != 0) impl.engine.cancel_timer(impl.renewal);
    if (impl.again != 0) impl.engine.cancel_timer(impl.again);
    impl.front->stop();
    impl.front->set_ready(false);
  }
  impl.tunnels->stop();
  if (pods) pods->stop(kStopGrace);
  if (https) https->stop(kStopGrace);
  if (http) http->stop(kStopGrace);
}

Client ApiServer::client() const {
  return make_in_process_client(impl_->core, Identity::masters(), impl_->handles);
}
Client ApiServer::client_as(const std::string& user, const std::vector<std::string>& groups) const {
  Identity identity{user, "", groups, {}};
  identity.groups.emplace_back("system:authenticated");
  return make_in_process_client(impl_->core, std::move(identity), impl_->handles);
}

Result<std::string> ApiServer::kubeconfig() const {
  std::lock_guard lock(impl_->mutex);
  KubeconfigOptions options;
  if (impl_->https) {
    std::string address = impl_->https->address();
    if (is_any(host_of(address))) address = "127.0.0.1:" + std::to_string(port_of(address));
    options.server = "https://" + address;
    options.ca_pem = impl_->pki->ca_pem();
    ORC_ASSIGN(options.client, impl_->pki->issue_client("kubernetes-admin", {"system:masters"}));
  } else if (impl_->http) {
    options.server = "http://" + impl_->http->address();
    options.token = impl_->pki->admin_token();
  } else {
    return Error(Error::invalid, "apiserver",
                 "this server listens nowhere; a kubeconfig needs `listen` or `insecure_http`");
  }
  return kubeconfig_text(options);
}

Result<void> ApiServer::write_kubeconfig(const std::string& path) const {
  ORC_ASSIGN(const std::string text, kubeconfig());
  return replace_file(path, text, 0600, false);
}

std::string ApiServer::address() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->https ? impl_->https->address() : std::string();
}
std::string ApiServer::insecure_address() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->http ? impl_->http->address() : std::string();
}
std::string ApiServer::ca_pem() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->pki ? impl_->pki->ca_pem() : std::string();
}

Result<std::string> ApiServer::sign_certificate(const std::string& request_pem,
                                                const std::vector<std::string>& usages, Duration life) const {
  std::shared_ptr<Pki> pki;
  {
    std::lock_guard lock(impl_->mutex);
    pki = impl_->pki;
  }
  if (!pki) return Error(Error::unavailable, "apiserver", "the server has no authority before it is started");
  return pki->sign_request(request_pem, usages, life);
}

void ApiServer::set_pod_streams(std::shared_ptr<PodStreams> streams, const std::string& node) {
  impl_->tunnels->set_local(std::move(streams), node);
}
std::shared_ptr<MetricsSource> ApiServer::node_metrics() const { return impl_->tunnels; }
void ApiServer::set_computed(const std::string& group, const std::string& resource, ComputedSource source) {
  impl_->core->set_computed(group, resource, std::move(source));
}
std::shared_ptr<Metrics> ApiServer::metrics() const { return impl_->options.registry; }
void ApiServer::add_endpoint(const std::string& path, const std::string& content_type,
                             std::function<std::string()> text) {
  if (impl_->front) impl_->front->add_endpoint(path, {content_type, std::move(text)});
}

}  // namespace orchestra
