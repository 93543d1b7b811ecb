// Cluster: the parts in the order of their dependence, and back.
//
// Start: folder, lock and instance; store; API server; then controllers, scheduler and node at once. Every
// part gets the same Client. A failed step undoes those before it.
#include "orchestra/cluster.hpp"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <tuple>

#include "api/object_tree.hpp"
#include "base/control.hpp"
#include "base/fd.hpp"
#include "cluster/control_loops.hpp"
#include "cluster/node.hpp"
#include "cluster/node_access.hpp"
#include "cluster/options.hpp"
#include "cluster/peer_tls.hpp"
#include "cluster/shared_keys.hpp"
#include "image/ops.hpp"
#include "metrics/resource_metrics.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/env.hpp"
#include "orchestra/etcd_store.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/metrics.hpp"
#include "orchestra/raft_store.hpp"
#include "sched/explanation.hpp"
#include "store/ops.hpp"

namespace orchestra {

using namespace std::chrono_literals;

namespace {
constexpr int kFallbackPorts = 64;
constexpr auto kLeaderTtl = std::chrono::seconds(5);  ///< after a kill -9 another takes over this much later
constexpr Duration kMajorityWait = std::chrono::minutes(2);
constexpr Duration kTokenEvery = std::chrono::hours(1);  ///< the token for joining is looked at
constexpr Duration kTokenEnd =
    std::chrono::seconds(15);  ///< what is under way then; its calls end within 10 s
constexpr std::size_t kKubeconfigBytesMax = 1 << 20;

}  // namespace

struct Cluster::Impl {
  Impl(Engine& engine_, ClusterOptions options_) : engine(engine_), options(std::move(options_)) {
    if (options.registry) return;
    options.registry = Metrics::create();
    process = options.registry->collect(collect_process);
  }

  void notice(const std::string& line) {
    if (options.notice) options.notice(line);
  }
  Result<void> open_folder();
  Result<void> choose_ranges(bool loopback_network);
  Result<void> open_store();
  Result<void> open_etcd();
  Result<void> start_api();
  Result<void> start_control();
  Result<void> secure_peers(RaftStoreOptions& raft);
  Result<void> share_keys(const std::string& own_name);
  Result<void> make_ingress_class();
  void reach_from_pods();
  void serve_explanations();
  void serve_metrics(const std::vector<std::shared_ptr<MetricsSource>>& sources);
  std::string own_address() const;
  Result<void> let_nodes_join();
  void keep_token(const cluster::NodeAccessOptions& access);
  void end_token_work();
  Result<void> make_storage_class();
  Result<void> start();
  void stop();

  Engine& engine;
  ClusterOptions options;
  ClusterInfo info;
  std::shared_ptr<void> lock;
  std::shared_ptr<StateStore> store;
  std::unique_ptr<ApiServer> server;
  std::shared_ptr<cluster::ControlLoops> loops;
  std::string cluster_token;
  std::unique_ptr<cluster::Node> node;
  std::unique_ptr<ControlServer> control;
  std::shared_ptr<void> process;
  std::vector<std::shared_ptr<void>> collecting;  ///< before stop() touches what they read
  std::mutex mutex;
  std::condition_variable token_idle;
  Engine::TimerId token_timer = 0;
  int token_work = 0;
  std::function<void()> stop_call;
  bool stop_asked = false, started = false, stopped = false;
};

Result<void> Cluster::Impl::open_folder() {
  if (options.data_dir.empty()) options.data_dir = default_data_dir();
  if (options.data_dir.front() != '/') {
    char here[4096];
    if (getcwd(here, sizeof here) == nullptr) return system_error("cluster", "getcwd", "", errno);
    options.data_dir = std::string(here) + "/" + options.data_dir;
  }
  ORC_ASSIGN(lock, cluster::lock_folder(engine, options.data_dir, info.instance));
  info.data_dir = options.data_dir;
  info.node_name = options.node_name.empty() ? cluster::host_name() : options.node_name;
  return {};
}

Result<void> Cluster::Impl::choose_ranges(bool loopback_network) {
  if (loopback_network) {
    info.pod_cidr = cluster::kProcessPodCidr;
    info.service_cidr = cluster::kProcessServiceCidr;
    for (const auto& [option, asked, used] :
         {std::tuple("--pod-cidr", &options.pod_cidr, &info.pod_cidr),
          {"--service-cidr", &options.service_cidr, &info.service_cidr}}) {
      if (!asked->empty() && *asked != *used)
        info.degraded.push_back(std::string(option) + " " + *asked +
                                " is not used: without isolation level full " + "addresses are of " + *used);
    }
    return {};
  }
  ORC_ASSIGN(cluster::Ranges kept, cluster::load_ranges(options.data_dir));
  const auto pick = [&](const std::string& asked, const std::string& before, const char* standard,
                        const char* what) -> Result<std::string> {
    if (!asked.empty()) return asked;
    if (!before.empty()) return before;
    if (!options.node) return std::string(standard);
    ORC_ASSIGN(std::string range, PodNetwork::find_free_range(standard));
    if (range != standard)
      notice(std::string(what) + ": " + standard + " is in use on this machine, using " + range);
    return range;
  };
  ORC_ASSIGN(info.pod_cidr, pick(options.pod_cidr, kept.pods, cluster::kDefaultPodCidr, "pods"));
  ORC_ASSIGN(info.service_cidr,
             pick(options.service_cidr, kept.services, cluster::kDefaultServiceCidr, "services"));
  for (auto [option, range] :
       {std::pair("--pod-cidr", &info.pod_cidr), {"--service-cidr", &info.service_cidr}}) {
    ORC_ASSIGN(const cluster::FamilyRanges both, cluster::split_ranges(option, *range));
    *range = cluster::join_ranges(both);
  }
  if (!kept.pods.empty() && (kept.pods != info.pod_cidr || kept.services != info.service_cidr)) {
    return Error(Error::conflict, "cluster",
                 "this data folder was made with --pod-cidr " + kept.pods + " --service-cidr " +
                     kept.services + "; use the same ranges, or another --data folder");
  }
  ORC_TRY(cluster::check_ranges(info.pod_cidr, info.service_cidr));
  return cluster::save_ranges(options.data_dir, {info.pod_cidr, info.service_cidr, kept.node});
}

Result<void> Cluster::Impl::open_store() {
  if (options.memory_store) {
    store = MemoryStore::create(engine);
    return {};
  }
  if (!options.etcd.empty()) return open_etcd();
  RaftStoreOptions raft;
  raft.data_dir = options.data_dir + "/store";
  raft.name = info.node_name;
  if (!options.peers.empty()) {
    if (!options.name.empty()) raft.name = options.name;
    raft.initial_peers = options.peers;
    raft.peer_listen = options.peer_listen;
    ORC_TRY(secure_peers(raft));
  }
  auto opened = RaftStore::open(engine, raft);
  if (!opened && opened.error().is(Error::denied) && !raft.peer_tls.empty())
    return opened.error().with_context(
        "the peers do not trust each other: is the token (--token-file) the one of this cluster, and have "
        "all "
        "peers been started without --insecure-peers?");
  if (!opened) return opened.error();
  store = std::move(*opened);
  if (options.peers.empty()) return {};
  ORC_TRY(share_keys(raft.name));
  return raft.peer_tls.empty() ? Result<void>()
                               : cluster::keep_peer_authority(options.data_dir, raft.peer_tls);
}

/// Token, and from it the TLS between peers.
Result<void> Cluster::Impl::secure_peers(RaftStoreOptions& raft) {
  const auto name_of = [](const std::string& peer) { return peer.substr(0, peer.find('=')); };
  ORC_ASSIGN(cluster_token,
             cluster::load_token(options.data_dir, options.token_file,
                                 name_of(options.peers.front()) == raft.name, engine.random()));
  if (options.insecure_peers) return {};
  std::vector<std::string> addresses;
  for (const std::string& peer : options.peers) {
    const std::size_t equals = peer.find('=');
    if (equals != std::string::npos && name_of(peer) == raft.name)
      addresses.push_back(cluster::split_address(peer.substr(equals + 1)).first);
  }
  ORC_ASSIGN(raft.peer_tls, cluster::make_peer_tls(cluster_token, addresses, engine.random()));
  return cluster::check_peer_authority(options.data_dir, raft.peer_tls);
}

/// Certificate authority and keys come from the store. The first peer of a new cluster makes them; the others
/// wait until they are there.
Result<void> Cluster::Impl::share_keys(const std::string& own_name) {
  const bool first = options.peers.front().substr(0, options.peers.front().find('=')) == own_name;
  notice("store: waiting for a majority of " + std::to_string(options.peers.size()) + " peers");
  const std::int64_t until = engine.clock().now().steady_ns + kMajorityWait.count();
  while (true) {
    auto taken = cluster::take_shared_keys(*store, options.data_dir, cluster_token);
    if (taken && *taken) return {};
    if (taken && first) return {};  // none yet: the API server makes them, put_shared_keys() follows
    if (!taken && !taken.error().is(Error::unavailable)) return taken.error();
    if (engine.clock().now().steady_ns > until) {
      if (!taken) return taken.error().with_context("the store has no majority");
      return Error(
          Error::deadline_exceeded, "cluster",
          "the first peer, " + options.peers.front() + ", has not put the shared keys into the store");
    }
    const Promise<> nobody;
    (void)nobody.pending().wait(200ms);
  }
}

Result<void> Cluster::Impl::open_etcd() {
  EtcdStoreOptions etcd;
  etcd.prefix = "/orchestra/";
  etcd.adopt = options.etcd_adopt;
  etcd.compact_age = std::chrono::minutes(5);
  for (std::string url : options.etcd) {
    if (url.compare(0, 5, "etcd+") == 0) url.erase(0, 5);  // etcd+unix:, as `orchestra store` has it
    etcd.endpoints.push_back(std::move(url));
  }
  for (const auto& [file, to] : {std::pair(&options.etcd_ca_file, &etcd.ca_pem),
                                 {&options.etcd_certificate_file, &etcd.certificate_pem},
                                 {&options.etcd_key_file, &etcd.key_pem}}) {
    if (file->empty()) continue;
    ORC_ASSIGN(*to, engine.disk().read_file(*file, 1u << 20));
  }
  if (!options.etcd_user.empty()) {
    const std::size_t colon = options.etcd_user.find(':');
    if (colon == std::string::npos)
      return Error(Error::invalid, "cluster", "the etcd user must be NAME:PASSWORD");
    etcd.username = options.etcd_user.substr(0, colon);
    etcd.password = options.etcd_user.substr(colon + 1);
  }
  ORC_ASSIGN(store, EtcdStore::open(engine, etcd));
  return {};
}

Result<void> Cluster::Impl::start_api() {
  ApiServerOptions api;
  api.data_directory = options.data_dir;
  api.service_cidr = info.service_cidr;
  api.insecure_http = options.insecure_http;
  api.audit_sink = options.audit_sink;
  api.audit_policy = options.audit_policy;
  api.registry = options.registry;
  if (!options.node_ip.empty()) api.certificate_names.push_back(options.node_ip);
  if (options.listen.compare(0, 8, "0.0.0.0:") == 0) {
    // Nodes and users come by an address of this machine.
    if (const std::string own = cluster::default_address(); !own.empty())
      api.certificate_names.push_back(own);
  }
  if (!options.serve_http) {
    server = std::make_unique<ApiServer>(engine, store, api);
    return server->start();
  }
  const bool asked = !options.listen.empty();
  const auto [host, port] = cluster::split_address(asked ? options.listen : "127.0.0.1:6443");
  if (port < 0)
    return Error(Error::invalid, "cluster", "API address \"" + options.listen + "\" is not ADDRESS:PORT");
  for (int attempt = 0;; ++attempt) {
    api.listen = host + ":" + std::to_string(port + attempt);
    server = std::make_unique<ApiServer>(engine, store, api);
    auto started = server->start();
    if (started) {
      if (attempt > 0) notice("api: 127.0.0.1:6443 is taken, using " + api.listen);
      break;
    }
    server.reset();
    if (asked || !started.error().is(Error::busy) || attempt >= kFallbackPorts) return started.error();
  }
  info.api_address = server->address();
  info.insecure_address = server->insecure_address();
  info.kubeconfig = options.data_dir + "/admin.kubeconfig";
  auto written = server->write_kubeconfig(info.kubeconfig);
  if (written || !written.error().is(Error::no_space)) return written;
  // On a full disk the one of the last start still opens this API, if the address is the same.
  const auto kept = read_file(info.kubeconfig, kKubeconfigBytesMax);
  if (!kept || kept->find("https://" + info.api_address) == std::string::npos) return written;
  notice("kubeconfig: the disk is full; the one of the last start is kept");
  return {};
}

Result<void> Cluster::Impl::make_ingress_class() {
  auto classes = server->client().list("networking.k8s.io/v1", "ingressclasses").wait(5s);
  if (!classes) return classes.error();
  bool has_default = false;
  for (const Object& one : classes->items) {
    if (one.name() == "orchestra") return {};
    const auto it = one.annotations().find("ingressclass.kubernetes.io/is-default-class");
    has_default = has_default || (it != one.annotations().end() && it->second == "true");
  }
  json::value object = json::object{{"apiVersion", "networking.k8s.io/v1"},
                                    {"kind", "IngressClass"},
                                    {"metadata", json::object{{"name", "orchestra"}}},
                                    {"spec", json::object{{"controller", "orchestra.dev/ingress"}}}};
  if (!has_default)
    set_at(object, "/metadata/annotations/ingressclass.kubernetes.io~1is-default-class", "true");
  ORC_ASSIGN(const Object made, Object::from_json(to_json(object)));
  auto created = server->client().create(made).wait(5s);
  if (!created && !created.error().is(Error::already_exists)) return created.error();
  return {};
}

// Pods reach the API at the node gateway; what stands in the way is told, not fatal.
void Cluster::Impl::reach_from_pods() {
  const auto [host, port] = cluster::split_address(info.api_address);
  const std::string gateway = node->gateway();
  if (gateway.empty() || host == "0.0.0.0" || host == "[::]") return;
  auto opened = server->serve_pods(cluster::with_port(gateway, port));
  if (!opened && opened.error().is(Error::busy)) opened = server->serve_pods(cluster::with_port(gateway, 0));
  if (!opened) info.degraded.push_back("pods cannot reach the API: " + opened.error().to_string());
}

// The class whose volumes are folders of the node; the default one, unless there is another.
Result<void> Cluster::Impl::make_storage_class() {
  auto classes = server->client().list("storage.k8s.io/v1", "storageclasses").wait(5s);
  if (!classes) return classes.error();
  bool has_default = false;
  for (const Object& one : classes->items) {
    if (one.name() == "local-path") return {};
    const auto it = one.annotations().find("storageclass.kubernetes.io/is-default-class");
    has_default = has_default || (it != one.annotations().end() && it->second == "true");
  }
  json::value object = json::object{{"apiVersion", "storage.k8s.io/v1"},
                                    {"kind", "StorageClass"},
                                    {"metadata", json::object{{"name", "local-path"}}},
                                    {"provisioner", "orchestra.dev/local-path"},
                                    {"reclaimPolicy", "Delete"},
                                    {"volumeBindingMode", "WaitForFirstConsumer"},
                                    {"allowVolumeExpansion", true}};
  if (!has_default)
    set_at(object, "/metadata/annotations/storageclass.kubernetes.io~1is-default-class", "true");
  ORC_ASSIGN(const Object made, Object::from_json(to_json(object)));
  auto created = server->client().create(made).wait(5s);
  if (!created && !created.error().is(Error::already_exists)) return created.error();
  return {};
}

Result<void> Cluster::Impl::start_control() {
  control = std::make_unique<ControlServer>(engine, options.data_dir + "/control.sock");
  register_store_ops(*control, store);
  if (node) {
    auto steps = cluster::make_image_steps(engine, info.isolation, info.instance);
    register_image_ops(*control, node->images(), steps ? *steps : ImageStepRunner{});
  }
  control->handle("store.reencrypt", [this](const json::object&, const ControlReply& reply) {
    auto written = server->reencrypt();
    if (!written) return reply.fail(written.error());
    (void)reply.send({{"rewritten", *written}});
    reply.done();
  });
  control->handle("down", [this](const json::object& request, const ControlReply& reply) {
    const std::int64_t seconds = int_at(json::value(request), "/seconds", 120);
    Result<void> ended;
    if (node) ended = node->remove_everything(std::chrono::seconds(seconds));
    if (!ended) return reply.fail(ended.error());
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

Result<void> Cluster::Impl::start() {
  const std::int64_t begin = engine.clock().now().steady_ns;
  ORC_TRY(open_folder());
  cluster::ChosenRuntime runtime;
  if (options.node) {
    ORC_ASSIGN(runtime, cluster::open_runtime(engine, options.data_dir, info.instance, options.isolation));
    info.isolation = runtime.name;
  }
  // Without a node here, --isolation says what the nodes that join run at.
  const bool loopback_network = options.node
                                    ? runtime.isolation != Isolation::full
                                    : options.isolation == "process" || options.isolation == "rootless";
  ORC_TRY(choose_ranges(loopback_network));
  ORC_TRY(open_store());
  ORC_TRY(start_api());
  const Client client = server->client();
  cluster::ControlLoopsOptions loops_options;
  loops_options.elect = !options.peers.empty();
  loops_options.ttl = kLeaderTtl;
  loops_options.identity = loops_options.elect
                               ? (options.name.empty() ? info.node_name : options.name) + " " + info.instance
                               : info.node_name;
  loops_options.controllers.node_grace = options.node_grace;
  loops_options.controllers.root_ca_pem = server->ca_pem();
  loops_options.controllers.sign_certificate = [this](const std::string& request,
                                                      const std::vector<std::string>& usages, Duration life) {
    return server->sign_certificate(request, usages, life);
  };
  loops_options.controllers.local_volume_root = options.data_dir + "/volumes";
  if (info.pod_cidr != cluster::kProcessPodCidr) loops_options.controllers.pod_cidr = info.pod_cidr;
  loops_options.scheduler.process_level = loopback_network;
  loops_options.scheduler.metrics = loops_options.controllers.metrics = options.registry;
  if (loops_options.elect) {
    ORC_ASSIGN(const bool shared, cluster::take_shared_keys(*store, options.data_dir, cluster_token));
    if (!shared) {
      ORC_TRY(cluster::put_shared_keys(*store, options.data_dir, cluster_token, engine.random()));
    }
  }
  loops = std::make_shared<cluster::ControlLoops>(engine, client, store, loops_options);
  ORC_TRY(loops->start());
  ORC_TRY(make_ingress_class());
  ORC_TRY(make_storage_class());
  if (options.node) {
    cluster::NodeOptions node_options;
    node_options.data_dir = options.data_dir;
    node_options.instance = info.instance;
    node_options.node_name = info.node_name;
    node_options.isolation = info.isolation;
    ORC_ASSIGN(node_options.pods, cluster::split_ranges("--pod-cidr", info.pod_cidr));
    ORC_ASSIGN(node_options.services, cluster::split_ranges("--service-cidr", info.service_cidr));
    node_options.api_host = cluster::address_in(info.service_cidr, 1);
    node_options.dns = options.dns;
    node_options.ingress = options.ingress;
    node_options.ingress_tls = options.ingress_tls;
    node_options.serve = options.serve_http;
    node_options.pod_network = options.pod_network;
    node_options.cni = options.cni;
    node_options.preload = options.preload;
    node_options.image_proxies = options.image_proxies;
    node_options.dns_forward = options.dns_forward;
    node_options.notice = options.notice;
    node_options.node_ip = own_address();
    node_options.registry = options.registry;
    node = std::make_unique<cluster::Node>(engine, client, node_options, std::move(runtime));
    ORC_TRY(node->start());
    server->set_pod_streams(node->streams(), info.node_name);
    if (options.serve_http) reach_from_pods();
    info.ingress_address = node->ingress_address();
    info.dns_address = node->dns_address();
    info.service_proxy = node->proxy_mode();
    for (const std::string& line : node->degraded()) info.degraded.push_back(line);
  }
  std::vector<std::shared_ptr<MetricsSource>> sources{server->node_metrics()};
  if (node) sources.push_back(node->metrics());
  if (options.metrics) sources = {options.metrics};
  serve_metrics(sources);
  if (!info.api_address.empty()) ORC_TRY(let_nodes_join());
  ORC_TRY(start_control());
  serve_explanations();
  collecting.push_back(options.registry->collect([this](MetricSink& sink) {
    if (node) node->collect(sink);
    if (loops) loops->collect(sink);
  }));
  info.ready_ms = (engine.clock().now().steady_ns - begin) / 1'000'000;
  for (const std::string& line : info.degraded) notice("degraded: " + line);
  return {};
}

void Cluster::Impl::serve_explanations() {
  server->set_computed(
      "orchestra.dev", "podexplanations",
      // Weakly: what it has holds the server.
      [weak = std::weak_ptr(loops)](const std::string& ns,
                                    const std::string& name) -> Result<std::vector<Object>> {
        const auto running = weak.lock();
        const auto scheduler = running ? running->scheduler() : nullptr;
        if (!scheduler) {
          return Error(Error::unavailable, "cluster",
                       "the scheduler does not run in this process at the moment; ask the elected peer");
        }
        std::vector<PodAnswer> answers;
        if (name.empty()) {
          answers = scheduler->waiting_pods(ns);
        } else if (auto answer = scheduler->explain_pod(ns, name)) {
          answers.push_back(std::move(*answer));
        } else if (!answer.error().is(Error::not_found)) {
          return answer.error();
        }
        std::vector<Object> out;
        for (const PodAnswer& answer : answers)
          out.push_back(object_from_tree(sched::pod_explanation(answer)));
        return out;
      });
}

void Cluster::Impl::serve_metrics(const std::vector<std::shared_ptr<MetricsSource>>& sources) {
  server->set_computed("metrics.k8s.io", "pods",
                       [sources](const std::string& ns, const std::string&) -> Result<std::vector<Object>> {
                         std::vector<Object> out;
                         for (const auto& source : sources) {
                           for (const PodUse& pod : source->pods(ns))
                             out.push_back(object_from_tree(metrics::pod_metrics(pod)));
                         }
                         return out;
                       });
  server->set_computed("metrics.k8s.io", "nodes",
                       [sources](const std::string&, const std::string&) -> Result<std::vector<Object>> {
                         std::vector<Object> out;
                         for (const auto& source : sources) {
                           for (const NodeUse& one : source->nodes())
                             out.push_back(object_from_tree(metrics::node_metrics(one)));
                         }
                         return out;
                       });
}

// The address at which other machines reach this one; empty: nobody does.
std::string Cluster::Impl::own_address() const {
  if (!options.node_ip.empty()) return options.node_ip;
  const std::string host = cluster::split_address(info.api_address).first;
  if (host == "0.0.0.0" || host == "[::]") return cluster::default_address();
  return host.empty() || host[0] == '[' || host.compare(0, 4, "127.") == 0 ? std::string() : host;
}

Result<void> Cluster::Impl::let_nodes_join() {
  cluster::NodeAccessOptions access;
  access.data_dir = options.data_dir;
  const auto [host, port] = cluster::split_address(info.api_address);
  const std::string own = own_address();
  access.server = "https://" + (own.empty() ? host : own) + ":" + std::to_string(port);
  access.ca_pem = server->ca_pem();
  access.pod_cidr = info.pod_cidr;
  access.service_cidr = info.service_cidr;
  access.api_host = cluster::address_in(info.service_cidr, 1);
  access.loopback_network = info.pod_cidr == cluster::kProcessPodCidr;
  auto made = cluster::make_node_access(engine, server->client(), access);
  if (made) {
    keep_token(access);
    return made;
  }
  // A full disk or a store without a majority must not keep the cluster from starting: nodes cannot join
  // until then.
  info.degraded.push_back("nodes cannot join: " + made.error().to_string());
  keep_token(access);
  return {};
}

// A timer that is armed counts as work from then on, so that none can run after stop().
void Cluster::Impl::keep_token(const cluster::NodeAccessOptions& access) {
  std::lock_guard guard(mutex);
  if (stopped) return;
  ++token_work;
  token_timer = engine.after(kTokenEvery, [this, access] {
    const auto queued = engine.post_blocking([this, access] {
      bool wanted = false;
      {
        std::lock_guard inner(mutex);
        wanted = !stopped;
      }
      if (wanted) {
        if (auto done = cluster::make_node_access(engine, server->client(), access); !done) {
          engine.log(LogLevel::warning, "cluster", "the token for joining was not renewed",
                     {{"error", done.error().to_string()}});
        }
      }
      keep_token(access);
      end_token_work();  // the last thing: stop() waits for it
    });
    if (!queued) end_token_work();
  });
}

void Cluster::Impl::end_token_work() {
  std::lock_guard guard(mutex);
  --token_work;
  token_idle.notify_all();
}

void Cluster::Impl::stop() {
  {
    std::unique_lock guard(mutex);
    if (stopped) return;
    stopped = true;
    if (token_timer != 0 && engine.cancel_timer(token_timer)) --token_work;
    token_idle.wait_for(guard, kTokenEnd, [&] { return token_work == 0; });
  }
  collecting.clear();
  if (control) control->stop();
  if (node) node->stop();
  if (loops) loops->stop();
  if (server) server->stop();
  node.reset();
  loops.reset();
  server.reset();
  if (store) store->stop();
  store.reset();
  control.reset();
  lock.reset();
}

Cluster::Cluster(Engine& engine, ClusterOptions options)
    : impl_(std::make_unique<Impl>(engine, std::move(options))) {}
Cluster::~Cluster() { stop(); }

Result<void> Cluster::start() {
  if (impl_->started)
    return Error(Error::invalid, "cluster", "start() was called before; make another Cluster");
  impl_->started = true;
  auto result = impl_->start();
  if (result) return result;
  if (impl_->node) impl_->node->undo_start();
  const bool holds_folder = impl_->lock != nullptr;
  impl_->stop();
  if (holds_folder) cluster::remove_empty_state(impl_->info.instance);
  return result;
}
void Cluster::stop() { impl_->stop(); }

Result<void> Cluster::down(Duration deadline) {
  Result<void> result;
  impl_->collecting.clear();  // a reading would ask a node that is being taken apart
  if (impl_->node) result = impl_->node->remove_everything(deadline);
  impl_->stop();
  return result;
}

Client Cluster::client() const { return impl_->server ? impl_->server->client() : Client(); }
std::shared_ptr<StateStore> Cluster::store() const { return impl_->store; }
std::shared_ptr<Metrics> Cluster::metric_registry() const { return impl_->options.registry; }
ClusterInfo Cluster::info() const { return impl_->info; }
bool Cluster::stop_requested() const {
  std::lock_guard guard(impl_->mutex);
  return impl_->stop_asked;
}
void Cluster::on_stop_requested(std::function<void()> call) {
  std::lock_guard guard(impl_->mutex);
  impl_->stop_call = std::move(call);
}

}  // namespace orchestra
