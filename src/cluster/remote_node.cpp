// RemoteNode: identity first, then the parts of Node over a RemoteClient. See remote_node.hpp.
#include "orchestra/remote_node.hpp"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "api/object_tree.hpp"
#include "base/control.hpp"
#include "base/fd.hpp"
#include "cluster/node.hpp"
#include "cluster/node_access.hpp"
#include "cluster/node_identity.hpp"
#include "cluster/options.hpp"
#include "image/ops.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/env.hpp"

namespace orchestra {

using namespace std::chrono_literals;

namespace {
constexpr std::size_t kFileMax = 64 << 10;
constexpr Duration kSignWait = 60s;
constexpr Duration kRetryServer = 2s;
constexpr Duration kRenewalRetry = std::chrono::minutes(10);

Error bad(Error::Code code, std::string text) { return Error(code, "join", std::move(text)); }

/// Host and port of https://HOST:PORT.
Result<std::pair<std::string, std::string>> host_of(const std::string& server) {
  const Error wrong =
      bad(Error::invalid, "\"" + server + "\" is not the address of a control plane: https://HOST:PORT");
  if (server.compare(0, 8, "https://") != 0) return wrong;
  const std::string rest = server.substr(8);
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string::npos || colon == 0 || rest.find('/') != std::string::npos) return wrong;
  const std::string port = rest.substr(colon + 1);
  if (port.empty() || port.find_first_not_of("0123456789") != std::string::npos) return wrong;
  std::string host = rest.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return std::pair(host, port);
}

std::vector<std::string> split_servers(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    std::string one = text.substr(at, comma - at);
    while (!one.empty() && one.back() == '/') one.pop_back();
    out.push_back(std::move(one));
    at = comma + 1;
  }
  return out;
}

/// Tried with each server until one is not away.
template <class F>
auto with_any(const std::vector<std::string>& servers, F call) -> decltype(call(servers.front())) {
  auto result = call(servers.front());
  for (std::size_t i = 1; i < servers.size() && !result && result.error().is(Error::unavailable); ++i)
    result = call(servers[i]);
  return result;
}

/// The address that this machine uses towards `server`; no packet is sent.
Result<std::string> address_towards(const std::string& host, const std::string& port) {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (const int code = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); code != 0)
    return bad(Error::unavailable, host + ": " + gai_strerror(code));
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const bool connected = socket && ::connect(socket.get(), found->ai_addr, found->ai_addrlen) == 0;
  const int failed = errno;
  freeaddrinfo(found);
  if (!connected) return system_error("join", "connect", host + ":" + port, failed);
  sockaddr_in own{};
  socklen_t size = sizeof own;
  if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&own), &size) != 0)
    return system_error("join", "getsockname", "", errno);
  char text[INET_ADDRSTRLEN];
  return std::string(inet_ntop(AF_INET, &own.sin_addr, text, sizeof text));
}

/// What a folder remembers of its control plane, so that a start needs neither URL nor the control plane.
struct Kept {
  std::string server, node_name, node_ip, isolation;
  cluster::ClusterFacts facts;
};
Result<std::optional<Kept>> load_kept(const std::string& data_dir) {
  auto text = read_file(data_dir + "/node.json", kFileMax);
  if (!text && text.error().is(Error::not_found)) return std::optional<Kept>();
  if (!text) return text.error();
  ORC_ASSIGN(const json::value value, parse_json(*text));
  return std::optional<Kept>(Kept{string_at(value, "/server"),
                                  string_at(value, "/name"),
                                  string_at(value, "/ip"),
                                  string_at(value, "/isolation"),
                                  {string_at(value, "/podCIDR"), string_at(value, "/serviceCIDR"),
                                   string_at(value, "/apiHost"), bool_at(value, "/loopback")}});
}
Result<void> save_kept(const std::string& data_dir, const Kept& kept) {
  const json::value value = json::object{{"server", kept.server},
                                         {"name", kept.node_name},
                                         {"ip", kept.node_ip},
                                         {"isolation", kept.isolation},
                                         {"podCIDR", kept.facts.pod_cidr},
                                         {"serviceCIDR", kept.facts.service_cidr},
                                         {"apiHost", kept.facts.api_host},
                                         {"loopback", kept.facts.loopback_network}};
  return replace_file(data_dir + "/node.json", to_json(value) + "\n", 0600, true);
}
}  // namespace

std::string default_node_data_dir() { return default_data_dir() + "-node"; }

struct RemoteNode::Impl {
  Impl(Engine& engine_, RemoteNodeOptions options_) : engine(engine_), options(std::move(options_)) {}

  void notice(const std::string& line) const {
    if (options.notice) options.notice(line);
  }
  Result<void> open_folder();
  Result<void> get_identity();
  Result<void> connect();
  Result<void> read_facts();
  Result<cluster::NodeOptions> node_options() const;
  Result<void> start();
  Result<void> start_control();
  Result<void> down(Duration deadline);
  void stop();
  bool pause(Duration time);
  void schedule_renewal(Duration at_least);
  void end_renewal();
  void renew();

  Engine& engine;
  RemoteNodeOptions options;
  RemoteNodeInfo info;
  Kept kept;
  std::shared_ptr<void> lock;
  std::shared_ptr<cluster::NodeIdentity> identity;
  std::vector<std::string> servers;  ///< of kept.server
  RemoteClientOptions remote;
  Client client;
  std::unique_ptr<cluster::Node> node;
  std::unique_ptr<ControlServer> control;
  mutable std::mutex mutex;
  std::condition_variable stopping;
  std::function<void()> stop_call;
  Engine::TimerId renewal = 0;
  int renewing = 0;
  bool stop_asked = false, started = false, starting = false, stopped = false;
};

/// False: stop() was called meanwhile.
bool RemoteNode::Impl::pause(Duration time) {
  std::unique_lock guard(mutex);
  return !stopping.wait_for(guard, time, [&] { return stopped; });
}

Result<void> RemoteNode::Impl::open_folder() {
  if (options.data_dir.empty()) options.data_dir = default_node_data_dir();
  if (options.data_dir.front() != '/') {
    char here[4096];
    if (getcwd(here, sizeof here) == nullptr) return system_error("join", "getcwd", "", errno);
    options.data_dir = std::string(here) + "/" + options.data_dir;
  }
  if (read_file(options.data_dir + "/admin.kubeconfig", 1 << 20))
    return bad(Error::conflict, options.data_dir +
                                    " is the folder of a control plane (`orchestra up`); give the node "
                                    "another one with --data");
  ORC_ASSIGN(lock, cluster::lock_folder(engine, options.data_dir, info.instance));
  info.data_dir = options.data_dir;
  ORC_ASSIGN(const std::optional<Kept> before, load_kept(options.data_dir));
  if (before) kept = *before;
  const std::string name = !options.node_name.empty() ? options.node_name
                           : before                   ? before->node_name
                                                      : cluster::host_name();
  if (before && before->node_name != name)
    return bad(Error::conflict, options.data_dir + " is the folder of node " + before->node_name +
                                    ", not of " + name + "; use its name, or another --data folder");
  kept.node_name = info.node_name = name;
  if (!options.server.empty()) kept.server = options.server;
  if (kept.server.empty())
    return bad(Error::invalid, "which control plane? orchestra join https://HOST:PORT --token-file F");
  info.server = kept.server;
  servers = split_servers(kept.server);
  for (const std::string& server : servers) ORC_TRY(host_of(server));
  if (!options.node_ip.empty()) kept.node_ip = options.node_ip;
  if (options.node_ip.empty()) {
    auto own = with_any(servers, [](const std::string& server) -> Result<std::string> {
      ORC_ASSIGN(const auto host, host_of(server));
      return address_towards(host.first, host.second);
    });
    if (own) kept.node_ip = *own;
    if (!own && kept.node_ip.empty()) return own.error();
  }
  info.node_ip = kept.node_ip;
  return {};
}

/// What the folder keeps, else a new certificate for the token.
Result<void> RemoteNode::Impl::get_identity() {
  identity = std::make_shared<cluster::NodeIdentity>(options.data_dir + "/pki", info.node_name);
  ORC_ASSIGN(const bool known, identity->load(engine.clock().now().wall_ns));
  if (known) return {};
  if (options.token_file.empty())
    return bad(Error::not_found,
               "node " + info.node_name + " has no certificate that is good in " + options.data_dir +
                   "/pki; give --token-file F, a copy of the control plane's DIR/node-token");
  ORC_ASSIGN(const std::string text, read_file(options.token_file, kFileMax));
  auto token = cluster::parse_join_token(text);
  if (!token) return token.error().with_context(options.token_file);
  const auto http = make_http_client(engine);
  ORC_ASSIGN(const std::string ca, with_any(servers, [&](const std::string& server) {
               return cluster::fetch_ca(*http, server, token->ca_hash);
             }));
  ORC_ASSIGN(const cluster::CertificateRequest request, cluster::make_node_request(info.node_name));
  notice("asking " + kept.server + " for a certificate of node " + info.node_name);
  auto certificate = with_any(servers, [&](const std::string& server) {
    RemoteClientOptions bootstrap;
    bootstrap.server = server;
    bootstrap.ca_pem = ca;
    bootstrap.token = token->token;
    return cluster::request_certificate(engine, RemoteClient::connect(engine, bootstrap), request.request_pem,
                                        kSignWait);
  });
  if (!certificate && certificate.error().is(Error::unauthenticated)) {
    return bad(Error::unauthenticated,
               kept.server + " does not know the bootstrap token of " + options.token_file +
                   ", or it has expired: they are good for a day; copy DIR/node-token again");
  }
  if (!certificate) return certificate.error();
  return identity->keep(ca, *certificate, request.key_pem);
}

Result<void> RemoteNode::Impl::connect() {
  remote.server = servers.front();
  remote.more_servers.assign(servers.begin() + 1, servers.end());
  remote.ca_pem = identity->ca_pem();
  remote.user_agent = "orchestra-node";
  remote.renewed = [identity = identity] { return identity->pair(); };
  client = RemoteClient::connect(engine, remote);
  return {};
}

/// The cluster's ranges; a control plane that is away is waited for, while the pods of before run on.
Result<void> RemoteNode::Impl::read_facts() {
  const std::int64_t until = engine.clock().now().steady_ns + options.server_wait.count();
  for (bool told = false;; told = true) {
    auto facts = cluster::read_cluster_facts(client);
    if (facts) {
      kept.facts = *facts;
      return save_kept(options.data_dir, kept);
    }
    const Error& why = facts.error();
    const bool away =
        why.is(Error::unavailable) || why.is(Error::deadline_exceeded) || why.is(Error::overloaded);
    if (!away || engine.clock().now().steady_ns > until) return why;
    if (!told) notice("waiting for the control plane: " + why.to_string());
    if (!pause(kRetryServer))
      return bad(Error::cancelled, "the node was stopped while it waited for its control plane");
  }
}

Result<cluster::NodeOptions> RemoteNode::Impl::node_options() const {
  cluster::NodeOptions out;
  out.data_dir = options.data_dir;
  out.instance = info.instance;
  out.node_name = info.node_name;
  out.isolation = info.isolation;
  ORC_ASSIGN(out.pods, cluster::split_ranges("the cluster's pod-cidr", kept.facts.pod_cidr));
  ORC_ASSIGN(out.services, cluster::split_ranges("the cluster's service-cidr", kept.facts.service_cidr));
  out.api_host = kept.facts.api_host;
  out.dns = options.dns;
  out.with_ingress = false;
  const bool same_machine = std::any_of(servers.begin(), servers.end(), [](const std::string& server) {
    const auto host = host_of(server);
    return host && (host->first.compare(0, 4, "127.") == 0 || host->first == "localhost");
  });
  out.with_services = !(kept.facts.loopback_network && same_machine);
  out.node_ip = kept.facts.loopback_network ? "" : kept.node_ip;
  out.pod_network = options.pod_network;
  out.cni = options.cni;
  out.preload = options.preload;
  out.image_proxies = options.image_proxies;
  out.dns_forward = options.dns_forward;
  out.notice = options.notice;
  return out;
}

Result<void> RemoteNode::Impl::start_control() {
  control = std::make_unique<ControlServer>(engine, options.data_dir + "/control.sock");
  auto steps = cluster::make_image_steps(engine, info.isolation, info.instance);
  register_image_ops(*control, node->images(), steps ? *steps : ImageStepRunner{});
  control->handle("down", [this](const json::object& request, const ControlReply& reply) {
    const std::int64_t seconds = int_at(json::value(request), "/seconds", 120);
    if (auto ended = node->remove_everything(std::chrono::seconds(seconds)); !ended)
      return reply.fail(ended.error());
    reply.done();
    std::function<void()> call;
    {
      std::lock_guard guard(mutex);
      stop_asked = true;
      call = stop_call;
    }
    if (call) call();
  });
  return control->start();
}

Result<void> RemoteNode::Impl::start() {
  const std::int64_t begin = engine.clock().now().steady_ns;
  ORC_TRY(open_folder());
  ORC_TRY(get_identity());
  ORC_TRY(connect());
  ORC_TRY(read_facts());
  ORC_ASSIGN(cluster::ChosenRuntime runtime,
             cluster::open_runtime(engine, options.data_dir, info.instance, options.isolation));
  info.isolation = runtime.name;
  if ((runtime.isolation != Isolation::full) != kept.facts.loopback_network) {
    return bad(Error::conflict,
               "pods of this cluster have " +
                   std::string(kept.facts.loopback_network
                                   ? "addresses of 127.0.0.0/8 (its control plane runs at level "
                                     "process or rootless)"
                                   : "a network of their own (level full)") +
                   ", this node would run them at level " + runtime.name + "; use --isolation " +
                   (kept.facts.loopback_network ? "process" : "full, as root"));
  }
  kept.isolation = runtime.name;
  ORC_TRY(save_kept(options.data_dir, kept));
  ORC_ASSIGN(cluster::NodeOptions parts, node_options());
  parts.remote = remote;
  node = std::make_unique<cluster::Node>(engine, client, parts, std::move(runtime));
  ORC_TRY(node->start());
  info.pod_cidr = node->pod_range();
  info.dns_address = node->dns_address();
  info.degraded = node->degraded();
  ORC_TRY(start_control());
  schedule_renewal(1s);
  info.ready_ms = (engine.clock().now().steady_ns - begin) / 1'000'000;
  for (const std::string& line : info.degraded) notice("degraded: " + line);
  return {};
}

// A timer that is armed counts as work from then on, so that none can run after stop().
void RemoteNode::Impl::schedule_renewal(Duration at_least) {
  const Duration wait(identity->renew_at_ns() - engine.clock().now().wall_ns);
  std::lock_guard guard(mutex);
  if (stopped) return;
  ++renewing;
  renewal = engine.after(std::max(at_least, wait), [this] {
    if (!engine.post_blocking([this] { renew(); })) end_renewal();
  });
}

void RemoteNode::Impl::renew() {
  bool wanted = false;
  {
    std::lock_guard guard(mutex);
    wanted = !stopped;
  }
  if (wanted) {
    auto request = cluster::make_node_request(info.node_name);
    auto certificate = request ? cluster::request_certificate(engine, client, request->request_pem, kSignWait)
                               : Result<std::string>(request.error());
    auto done = certificate ? identity->keep(identity->ca_pem(), *certificate, request->key_pem)
                            : Result<void>(certificate.error());
    if (done) {
      engine.log(LogLevel::info, "join", "the node's certificate was renewed", {});
    } else {
      engine.log(LogLevel::warning, "join", "the node's certificate was not renewed; it is tried again",
                 {{"error", done.error().to_string()}});
    }
    schedule_renewal(done ? Duration(1s) : kRenewalRetry);
  }
  end_renewal();  // the last thing: stop() waits for it
}

void RemoteNode::Impl::end_renewal() {
  std::lock_guard guard(mutex);
  --renewing;
  stopping.notify_all();
}

void RemoteNode::Impl::stop() {
  {
    std::unique_lock guard(mutex);
    if (stopped) return;
    stopped = true;
    stopping.notify_all();
    if (renewal != 0 && engine.cancel_timer(renewal)) --renewing;
    stopping.wait(guard, [&] { return renewing == 0 && !starting; });
  }
  if (control) control->stop();
  if (node) node->stop();
  node.reset();
  control.reset();
  lock.reset();
}

Result<void> RemoteNode::Impl::down(Duration deadline) {
  Result<void> result;
  if (!node) {
    // Nobody to ask: what runs here ends, by the records of the runtime.
    ORC_TRY(open_folder());
    if (kept.isolation.empty()) return {};  // it never came so far as to run anything
    ORC_ASSIGN(cluster::ChosenRuntime runtime,
               cluster::open_runtime(engine, options.data_dir, info.instance, kept.isolation));
    info.isolation = runtime.name;
    ORC_ASSIGN(cluster::NodeOptions parts, node_options());
    parts.serve = false;
    parts.offline = true;
    node = std::make_unique<cluster::Node>(engine, Client(), parts, std::move(runtime));
    ORC_TRY(node->start());
  }
  result = node->remove_everything(deadline);
  stop();
  return result;
}

RemoteNode::RemoteNode(Engine& engine, RemoteNodeOptions options)
    : impl_(std::make_unique<Impl>(engine, std::move(options))) {}
RemoteNode::~RemoteNode() { stop(); }

Result<void> RemoteNode::start() {
  if (impl_->started) return bad(Error::invalid, "start() was called before; make another RemoteNode");
  impl_->started = true;
  {
    std::lock_guard guard(impl_->mutex);
    impl_->starting = true;
  }
  auto result = impl_->start();
  if (!result && impl_->node) impl_->node->undo_start();
  const bool holds_folder = impl_->lock != nullptr;
  {
    std::lock_guard guard(impl_->mutex);  // a stop() that came meanwhile goes on from here
    impl_->starting = false;
    impl_->stopping.notify_all();
  }
  if (result) return result;
  impl_->stop();
  if (holds_folder) cluster::remove_empty_state(impl_->info.instance);
  return result;
}
void RemoteNode::stop() { impl_->stop(); }
Result<void> RemoteNode::down(Duration deadline) { return impl_->down(deadline); }
Client RemoteNode::client() const { return impl_->client; }
RemoteNodeInfo RemoteNode::info() const { return impl_->info; }
bool RemoteNode::connected() const { return impl_->node && impl_->node->connected(); }
bool RemoteNode::stop_requested() const {
  std::lock_guard guard(impl_->mutex);
  return impl_->stop_asked;
}
void RemoteNode::on_stop_requested(std::function<void()> call) {
  std::lock_guard guard(impl_->mutex);
  impl_->stop_call = std::move(call);
}
bool RemoteNode::owns(const std::string& data_dir) {
  return access((data_dir + "/node.json").c_str(), F_OK) == 0;
}

}  // namespace orchestra
