#include "cluster/node.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "api/object_tree.hpp"
#include "api/pod_attacher.hpp"
#include "api/pod_runtime.hpp"
#include "base/fd.hpp"
#include "cluster/options.hpp"
#include "net/http/http_server.hpp"
#include "net/podnet/dual_stack.hpp"
#include "net/podnet/machine_journal.hpp"
#include "net/policy/unenforced.hpp"
#include "runtime/pod_runtime_factory.hpp"

namespace orchestra::cluster {

using namespace std::chrono_literals;

namespace {
constexpr int kFallbackPorts = 64;
constexpr std::size_t kReportsMax = 4096;
constexpr auto kRangeWait = 30s;
constexpr auto kPeersAgain = 10s;

const char* name_of(Isolation isolation) {
  return isolation == Isolation::full ? "full" : isolation == Isolation::rootless ? "rootless" : "process";
}
/// Root: /run. Others: their own folder of this boot, or one below /tmp that nobody else can have made.
Result<std::string> state_dir(const std::string& instance) {
  if (geteuid() == 0) return "/run/orchestra/" + instance;
  const char* runtime = getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && *runtime == '/') return std::string(runtime) + "/orchestra/" + instance;
  const std::string own = "/run/user/" + std::to_string(geteuid());
  if (access(own.c_str(), W_OK) == 0) return own + "/orchestra/" + instance;
  const std::string made = "/tmp/orchestra-" + std::to_string(geteuid());
  struct stat info {};
  if (mkdir(made.c_str(), 0700) != 0 && errno != EEXIST) return system_error("cluster", "mkdir", made, errno);
  if (lstat(made.c_str(), &info) != 0) return system_error("cluster", "lstat", made, errno);
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
    return Error(Error::denied, "cluster",
                 made + " is not a folder of ours with mode 0700; remove it, or set XDG_RUNTIME_DIR");
  }
  return made + "/" + instance;
}

Result<RuntimeOptions::Isolation> isolation_of(const std::string& name) {
  if (name == "best" || name.empty()) return RuntimeOptions::Isolation::best;
  if (name == "full") return RuntimeOptions::Isolation::full;
  if (name == "rootless") return RuntimeOptions::Isolation::rootless;
  if (name == "process") return RuntimeOptions::Isolation::process;
  return Error(Error::invalid, "cluster",
               "isolation \"" + name + "\" is not one of best, full, rootless, process");
}
}  // namespace

Result<ChosenRuntime> open_runtime(Engine& engine, const std::string& data_dir, const std::string& instance,
                                   const std::string& isolation) {
  RuntimeOptions options;
  ORC_ASSIGN(options.state_dir, state_dir(instance));
  options.data_dir = data_dir + "/runtime";
  options.instance = instance;
  options.cgroup_parent = "/orchestra-" + instance;
  ORC_ASSIGN(options.isolation, isolation_of(isolation));
  options.move_host_to_leaf = true;
  options.exit_durability = RuntimeOptions::ExitDurability::machine;
  ORC_ASSIGN(auto runtime, make_pod_runtime(engine, options));
  const Isolation level = runtime->isolation();
  return ChosenRuntime{std::move(runtime), level, name_of(level)};
}

Result<ImageStepRunner> make_image_steps(Engine& engine, const std::string& isolation, std::string id) {
  if (id.empty()) {
    char made[9];
    std::snprintf(made, sizeof made, "%08x", static_cast<unsigned>(engine.random().next()));
    id = made;
  }
  RuntimeOptions options;
  ORC_ASSIGN(options.state_dir, state_dir("build-" + id));
  options.data_dir = options.state_dir + "/data";
  options.instance = id;
  options.cgroup_parent = "/orchestra-" + id;
  ORC_ASSIGN(options.isolation, isolation_of(isolation));
  ORC_ASSIGN(auto runner, make_step_runner(engine, options));
  StepRunner* const steps = runner.get();
  const std::string folder = options.state_dir;
  std::shared_ptr<StepRunner> guarded(steps, [runner, folder](StepRunner*) mutable {
    runner.reset();
    (void)remove_tree(folder);
    rmdir(folder.substr(0, folder.rfind('/')).c_str());  // only when nothing of others is there
  });
  const bool rootless = isolation == "rootless" || (isolation != "full" && geteuid() != 0);
  return ImageStepRunner{std::move(guarded), isolation == "process" ? Isolation::process
                                             : rootless             ? Isolation::rootless
                                                                    : Isolation::full};
}

void remove_empty_state(const std::string& instance) {
  const auto found = state_dir(instance);
  if (!found) return;
  const std::string& folder = *found;
  if (rmdir((folder + "/pods").c_str()) != 0) return;  // it has pods, or was never made
  (void)remove_tree(folder);
  rmdir(folder.substr(0, folder.rfind('/')).c_str());  // only when it is empty
}

Node::Node(Engine& engine, Client client, NodeOptions options, ChosenRuntime runtime)
    : engine_(engine),
      client_(std::move(client)),
      options_(std::move(options)),
      runtime_(std::move(runtime)) {}

Node::~Node() { stop(); }

Result<void> Node::open_images() {
  ImageStoreOptions options;
  options.dir = options_.data_dir + "/images";
  options.preload_dirs = options_.preload;
  options.preload_dirs.push_back(options_.data_dir + "/preload");
  options.overlay = runtime_.isolation == Isolation::full;
  options.http = make_http_client(engine_, options_.image_proxies);
  options.spawner = make_spawner(engine_);
  options.collect.automatic = true;
  ORC_ASSIGN(images_, ImageStore::open(engine_, std::move(options)));
  if (runtime_.isolation == Isolation::full && !images_->overlay_problem().empty())
    degraded_.push_back("image roots are copies: " + images_->overlay_problem());
  return {};
}

/// This node's part of the pods' IPv6 addresses: made of the IPv4 one.
std::string Node::pod_range6() const {
  const auto range = net::IpRange::parse(pod_range_);
  const auto six = net::parse_cluster6(options_.pods.v6);
  return range && six && *six ? net::with_prefix(**six, *range).to_string() : "";
}

namespace {
/// What the Node was given, in the form that numbers pods: its range of IPv4, or that its IPv6 one is made
/// of.
std::string given_range(const json::value& node) {
  std::vector<std::string> all;
  if (const json::array* list = array_at(node, "/spec/podCIDRs")) {
    for (const json::value& one : *list) {
      if (one.is_string()) all.emplace_back(one.get_string());
    }
  }
  if (all.empty()) all.push_back(string_at(node, "/spec/podCIDR"));
  std::string numbers;
  for (const std::string& text : all) {
    const auto range = net::IpRange::parse(text);
    if (range && range->base.is_v4()) return text;
    if (range) {
      if (const auto made = net::numbers_of(*range)) numbers = made->to_string();
    }
  }
  return numbers;
}
}  // namespace

Result<std::string> Node::claim_range() {
  ORC_ASSIGN(Ranges kept, load_ranges(options_.data_dir));
  if (!kept.node.empty() || options_.offline) return kept.node;
  const std::string& name = options_.node_name;
  auto known = client_.get("v1", "nodes", name).wait(10s);
  if (!known && known.error().is(Error::not_found)) {
    const json::value node =
        json::object{{"apiVersion", "v1"}, {"kind", "Node"}, {"metadata", json::object{{"name", name}}}};
    known = client_.create(object_from_tree(node)).wait(10s);
  }
  if (!known) return known.error().with_context("node " + name);
  kept.node = given_range(tree(*known));
  if (kept.node.empty()) {
    ListOptions own;
    own.fields = "metadata.name=" + name;
    ORC_ASSIGN(ObjectWatch watch, client_.watch("v1", "nodes", own));
    const std::int64_t until = engine_.clock().now().steady_ns + Duration(kRangeWait).count();
    while (kept.node.empty()) {
      const auto changes = watch.next(1s);
      if (!changes && watch.error()) return watch.error()->with_context("watching node " + name);
      if (changes) {
        for (const ObjectChange& change : *changes) {
          if (kept.node.empty()) kept.node = given_range(tree(change.object));
        }
      }
      if (kept.node.empty() && engine_.clock().now().steady_ns > until) {
        return Error(
            Error::deadline_exceeded, "cluster",
            "node " + name +
                " was given no range of pod addresses within 30 s: the controller node-ipam does not run, "
                "or the range is used up (see the events of the Node)");
      }
    }
    watch.cancel();
  }
  ORC_TRY(save_ranges(options_.data_dir,
                      {join_ranges(options_.pods), join_ranges(options_.services), kept.node}));
  return kept.node;
}

namespace {
Result<PodNetworkOptions::Mode> mode_of(const std::string& wanted, const std::string& folder) {
  std::string mode = wanted;
  if (mode.empty()) {
    ORC_ASSIGN(const net::MachineJournal kept, net::MachineJournal::open(folder));
    mode = kept.state().mode;
  }
  if (mode == "bridge") return PodNetworkOptions::Mode::bridge;
  if (mode.empty() || mode == "routed") return PodNetworkOptions::Mode::routed;
  return Error(Error::invalid, "cluster", "--pod-network " + mode + " is not one of routed, bridge");
}
}  // namespace

Result<void> Node::open_network() {
  const std::string folder = options_.data_dir + "/net";
  ORC_ASSIGN(const PodNetworkOptions::Mode mode, mode_of(options_.pod_network, folder));
  if (options_.pod_network == "bridge" && (loopback_network() || !options_.cni.empty())) {
    return Error(
        Error::unsupported, "cluster",
        "--pod-network bridge " +
            (loopback_network()
                 ? "needs isolation level full: pods have no network namespaces at level " + runtime_.name
                 : "and --cni are two networks for the same pods: give one of them"));
  }
  if (loopback_network() && !options_.cni.empty()) {
    return Error(Error::unsupported, "cluster",
                 "--cni " + options_.cni +
                     " needs isolation level full: pods have no network namespaces at level " +
                     runtime_.name);
  }
  if (loopback_network()) {
    degraded_.push_back(
        runtime_.isolation == Isolation::process
            ? "isolation level process: no network, mount or process namespaces, no cpu and memory limits"
            : "isolation level rootless: pods use the machine's network, with addresses of 127.128.0.0/12; "
              "files "
              "of images belong to root inside");
    // Instances on one machine need addresses of their own.
    ProcessPodNetworkOptions options;
    options.data_dir = folder;
    options.node_index = static_cast<int>(std::strtoul(options_.instance.substr(0, 3).c_str(), nullptr, 16));
    ORC_ASSIGN(attacher_, make_process_pod_network(engine_, options));
    dialer_ = make_process_pod_dialer(engine_, attacher_);
    return {};
  }
  PodNetworkOptions options;
  options.data_dir = folder;
  options.instance = options_.instance;
  options.cluster_cidr = numbers_of(options_.pods);
  options.cluster_cidr6 = options_.pods.v6;
  options.ipv4 = !options_.pods.v4.empty();
  options.ipv6_first = options_.pods.six_first;
  ORC_ASSIGN(pod_range_, claim_range());
  options.pod_cidr = pod_range_;
  options.service_cidr = options_.services.v4;
  options.service_cidr6 = options_.services.v6;
  options.node_address = options_.node_ip;
  options.mode = mode;
  auto runtime = runtime_.runtime;
  const auto namespace_of = [runtime](const std::string& uid) -> Result<std::shared_ptr<Fd>> {
    ORC_ASSIGN(auto pods, runtime->list().wait(10s));
    for (const PodRecord& pod : pods) {
      if (pod.config.uid == uid && pod.sandbox.network_namespace) return pod.sandbox.network_namespace;
    }
    return Error(Error::not_found, "cluster", "pod " + uid + " has no network namespace here");
  };
  options.namespace_of = namespace_of;
  ORC_ASSIGN(network_, PodNetwork::open(engine_, options));
  attacher_ = network_->attacher();
  // Addresses of pods that are gone are given back; those that run keep theirs.
  ORC_ASSIGN(const auto pods, runtime->list().wait(30s));
  std::set<std::string> live;
  for (const PodRecord& pod : pods) live.insert(pod.config.uid);
  ORC_TRY(open_cni(live));
  ORC_TRY(network_->reconcile(std::move(live)).wait(30s));
  dialer_ = make_pod_dialer(engine_, namespace_of);
  return {};
}

Result<void> Node::open_cni(const std::set<std::string>& live) {
  CniOptions options;
  options.data_dir = options_.data_dir + "/net/cni";
  options.configuration_dir = options_.cni;  // empty: for what was added before only
  ORC_ASSIGN(cni_, CniRuntime::open(engine_, options));
  if (options_.cni.empty() && cni_->known().empty()) return {};
  attacher_ = make_cni_attacher(cni_, attacher_, !options_.cni.empty());
  auto collected = cni_->collect(live).wait(120s);
  if (!collected)
    degraded_.push_back("networks of pods that are gone were not all taken back: " +
                        collected.error().to_string());
  if (options_.cni.empty()) return {};
  auto ready = cni_->status().wait(120s);
  if (!ready) return ready.error().with_context("--cni " + options_.cni);
  return {};
}

Result<void> Node::open_services() {
  if (!options_.with_services) return {};
  ServiceProxyOptions options;
  options.node = options_.node_name;
  options.instance = options_.instance;
  options.cluster_cidr = options_.pods.v4;
  options.service_cidr = options_.services.v4;
  // The node's address of IPv4, also where that of IPv6 is the first, or the only one.
  const std::string number = pod_range_.empty() ? attacher_->node_address() : address_in(pod_range_, 1);
  if (!options_.services.v4.empty()) options.node_gateway = number;
  if (const auto own = net::IpAddress::parse(number); own && !options_.services.v6.empty()) {
    ORC_ASSIGN(const auto six, net::parse_cluster6(options_.pods.v6));
    options.cluster_cidr6 = options_.pods.v6;
    options.service_cidr6 = options_.services.v6;
    if (six) options.node_gateway6 = net::with_prefix(*six, *own).to_string();
  }
  if (loopback_network()) options.mode = ServiceProxyOptions::Mode::userspace;
  options.local_route = !loopback_network();
  ORC_ASSIGN(proxy_, ServiceProxy::create(engine_, options));
  if (options_.registry) {
    ORC_ASSIGN(const auto family, options_.registry->histogram(
                                      "orchestra_net_sync_seconds", "Until Services were as a snapshot says.",
                                      {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                       0.25, 0.5, 1, 2.5, 5, 10}));
    sync_seconds_ = family.with({});
  }
  if (!loopback_network() && std::string(proxy_->mode()) == "userspace") {
    degraded_.push_back(
        "Services by a userspace proxy: nftables does not work here, NetworkPolicy cannot be enforced");
  }
  return {};
}

/// Where they cannot be enforced, each policy gets a Warning event instead: never silence.
void Node::open_policies() {
  if (loopback_network() || !proxy_ || std::string(proxy_->mode()) != "nftables") return;
  PolicyEnforcerOptions options;
  options.node = options_.node_name;
  options.instance = options_.instance;
  options.pod_cidr = pod_range_;
  options.cluster_cidr6 = options_.pods.v6;
  options.ipv4 = !options_.pods.v4.empty();
  auto made = PolicyEnforcer::create(engine_, options);
  if (made) {
    policies_ = *made;
  } else {
    degraded_.push_back("NetworkPolicies are not enforced: " + made.error().to_string());
  }
}

void Node::report(const NetworkRejection& one) {
  {
    std::lock_guard lock(report_mutex_);
    if (reported_.size() >= kReportsMax) reported_.clear();
    if (!reported_.insert(one.kind + one.uid + one.ns + one.name + one.reason + one.message).second) return;
  }
  engine_.log(LogLevel::warning, "cluster", one.message,
              {{"kind", one.kind}, {"object", one.ns + "/" + one.name}});
  static const std::map<std::string, std::string> kVersions{{"Service", "v1"},
                                                            {"EndpointSlice", "discovery.k8s.io/v1"},
                                                            {"Ingress", "networking.k8s.io/v1"},
                                                            {"NetworkPolicy", "networking.k8s.io/v1"},
                                                            {"Secret", "v1"},
                                                            {"Node", "v1"}};
  const auto version = kVersions.find(one.kind);
  if (version == kVersions.end()) return;
  const Object about = object_from_tree(
      json::object{{"apiVersion", version->second},
                   {"kind", one.kind},
                   {"metadata", json::object{{"name", one.name}, {"namespace", one.ns}, {"uid", one.uid}}}});
  events_->record("orchestra-network", about, "Warning", one.reason, one.message);
}

void Node::apply_policies(std::shared_ptr<const NetworkSnapshot> snapshot) {
  if (!snapshot->synced.network_policies || !snapshot->synced.pods || !snapshot->synced.namespaces) return;
  if (!policies_) {
    for (const net::UnenforcedPolicy& one : net::unenforced_policies(*snapshot)) report(one.report);
    return;
  }
  auto applied = policies_->apply(std::move(snapshot)).wait(10s);
  if (!applied) {
    engine_.log(LogLevel::error, "cluster", "NetworkPolicies were not applied",
                {{"error", applied.error().to_string()}});
    return;
  }
  for (const NetworkRejection& one : applied->rejected) report(one);
}

Result<void> Node::open_dns() {
  DnsServerOptions options;
  options.listen.clear();
  const std::string address = attacher_->dns_address();
  if (!address.empty()) options.listen.push_back(with_port(address, 53));
  if (!options_.dns.empty()) options.listen.push_back(options_.dns);
  if (options.listen.empty()) return {};
  options.forward = options_.dns_forward;
  if (options.forward.empty())
    options.forward = parse_resolv_conf(read_file("/etc/resolv.conf", 64 << 10).value_or(""), true).servers;
  if (options.forward.size() > 15) options.forward.resize(15);
  options.allow_from = {"127.0.0.0/8"};
  for (const std::string& range :
       {options_.pods.v4, options_.pods.v6, options_.services.v4, options_.services.v6}) {
    if (range.empty()) continue;
    if (range != options_.services.v4 && range != options_.services.v6) options.allow_from.push_back(range);
    options.reverse_ranges.push_back(range);
  }
  options.metrics = options_.registry;
  auto opened = DnsServer::create(engine_, options);
  if (!opened && loopback_network() && opened.error().is(Error::denied)) {
    degraded_.push_back("names do not resolve in pods: " + opened.error().to_string());
    return {};
  }
  if (!opened) return opened.error().with_context("DNS");
  dns_ = *opened;
  return {};
}

Result<void> Node::open_ingress() {
  HttpProxyOptions options;
  const bool asked = !options_.ingress.empty();
  auto [host, port] = split_address(asked ? options_.ingress : "127.0.0.1:8080");
  if (port < 0)
    return Error(Error::invalid, "cluster",
                 "ingress address \"" + options_.ingress + "\" is not ADDRESS:PORT");
  if (!options_.ingress_tls.empty()) options.listen_tls = {options_.ingress_tls};
  for (int attempt = 0;; ++attempt) {
    options.listen = {host + ":" + std::to_string(port + attempt)};
    auto opened = HttpProxy::create(engine_, options);
    if (opened) {
      ingress_ = *opened;
      if (attempt > 0) notice("ingress: 127.0.0.1:8080 is taken, using " + options.listen[0]);
      return {};
    }
    if (asked || !opened.error().is(Error::busy) || attempt >= kFallbackPorts)
      return opened.error().with_context("ingress");
  }
}

Result<void> Node::start() {
  ORC_TRY(make_directories(options_.data_dir + "/net", 0700));
  degraded_ = runtime_.runtime->not_enforced();
  ORC_TRY(open_images());
  ORC_TRY(open_network());
  ORC_TRY(open_services());  // also without serving: it takes over the rules that down() removes
  open_policies();
  if (options_.serve) {
    ORC_TRY(open_dns());
    if (options_.with_ingress) ORC_TRY(open_ingress());
    std::vector<std::string> loopback;
    if (loopback_network()) loopback = {kProcessPodCidr, kProcessServiceCidr};
    NetworkFeedOptions feed;
    feed.loopback_ranges = loopback;
    feed.network_policies = true;
    feed.ingresses = options_.with_ingress;
    events_ = std::make_unique<EventRecorder>(engine_, client_,
                                              EventRecorderOptions{.reporting_instance = options_.node_name});
    ORC_ASSIGN(feed_, NetworkFeed::start(engine_, client_, feed));
    if (network_) {
      peers_ =
          std::make_shared<PeerRoutes>(engine_, network_, kPeersAgain, [this](const std::string& problem) {
            report({"Node", "", options_.node_name, "", "NoRouteToNode", problem});
          });
    }
    feed_->subscribe([this](std::shared_ptr<const NetworkSnapshot> snapshot) {
      if (dns_) dns_->publish(snapshot);
      if (ingress_) ingress_->publish(snapshot);
      if (peers_ && snapshot->synced.nodes) {
        peers_->apply(peers_of(*snapshot, options_.node_name));
        std::string server = second_name_server(*snapshot, options_.node_name);
        std::lock_guard lock(report_mutex_);
        second_name_server_ = std::move(server);
      }
      apply_services(snapshot);
      apply_policies(snapshot);
      if (ingress_) publish_ingress_status();
    });
  }
  NodeAgentOptions options;
  options.node_name = options_.node_name;
  options.data_dir = options_.data_dir;
  options.api_host = options_.api_host;
  const Resolver host = parse_resolv_conf(read_file("/etc/resolv.conf", 64 << 10).value_or(""), true);
  options.host_search = host.search;
  options.host_nameservers = host.servers;
  options.pod_cidr =
      join_ranges({options_.pods.v4.empty() ? "" : pod_range_, pod_range6(), options_.pods.six_first});
  options.node_ip = options_.node_ip;
  options.agent_id = options_.instance;
  options.remote = options_.remote;
  if (options_.offline) options.manifest_dir = options_.data_dir + "/no-manifests";  // there is none
  options.isolation_name = runtime_.name;
  options.degraded = degraded_;
  options.second_name_server = [this] {
    std::lock_guard lock(report_mutex_);
    return second_name_server_;
  };
  if (loopback_network()) {
    options.network_lacks = "at isolation level " + runtime_.name +
                            " pods use the machine's network, and no NetworkPolicy is enforced";
  } else if (!policies_) {
    options.network_lacks = "NetworkPolicies are not enforced here";
  }
  if (!options_.registry) {
    options_.registry = Metrics::create();
    collecting_.push_back(options_.registry->collect(collect_process));
    collecting_.push_back(options_.registry->collect([this](MetricSink& sink) { collect(sink); }));
  }
  NodeAgentParts parts{runtime_.runtime, images_->service(),        attacher_,
                       dialer_,          make_http_client(engine_), options_.registry};
  agent_ = std::make_unique<NodeAgent>(engine_, client_, parts, options);
  return agent_->start();
}

void Node::apply_services(std::shared_ptr<const NetworkSnapshot> snapshot) {
  if (!proxy_) return;
  if (!snapshot->synced.services || !snapshot->synced.endpoint_slices) return;
  const std::int64_t begin_ns = engine_.clock().now().steady_ns;
  auto applied = proxy_->apply(snapshot).wait(10s);
  if (sync_seconds_)
    sync_seconds_->observe(static_cast<double>(engine_.clock().now().steady_ns - begin_ns) / 1e9);
  if (!applied) {
    engine_.log(LogLevel::warning, "cluster", "Services were not applied",
                {{"error", applied.error().to_string()}});
    return;
  }
  for (const NetworkRejection& one : applied->rejected) report(one);
  const ServiceProxyStats stats = proxy_->stats();
  if (const std::string problem = conntrack_alarm_.look({stats.tracked, stats.tracked_max}); !problem.empty())
    report({"Node", "", options_.node_name, "", "ConntrackTableFilling", problem});
}

void Node::publish_ingress_status() {
  for (const IngressStatus& one : ingress_->statuses()) {
    auto now = client_.get("networking.k8s.io/v1", "ingresses", one.ingress.name, one.ingress.ns).wait(5s);
    if (!now) continue;
    json::array wanted;
    for (const std::string& address : one.addresses) wanted.push_back(json::object{{"ip", address}});
    const json::value* before = find(tree(*now), "/status/loadBalancer/ingress");
    if (before != nullptr && *before == json::value(wanted)) continue;
    const json::value patch = json::object{
        {"status", json::object{{"loadBalancer", json::object{{"ingress", std::move(wanted)}}}}}};
    WriteOptions options;
    options.subresource = "status";
    (void)client_
        .patch("networking.k8s.io/v1", "ingresses", one.ingress.name, one.ingress.ns, PatchType::merge,
               to_json(patch), options)
        .wait(5s);
  }
}

std::string Node::gateway() const { return attacher_ ? attacher_->node_address() : std::string(); }
std::string Node::ingress_address() const {
  return ingress_ && !ingress_->addresses().empty() ? ingress_->addresses().front() : "";
}
std::string Node::dns_address() const {
  return dns_ && !dns_->addresses().empty() ? dns_->addresses().front() : "";
}

void Node::stop() {
  if (stopped_) return;
  stopped_ = true;
  if (agent_) agent_->stop();
  collecting_.clear();
  if (feed_) feed_->stop();
  if (peers_) peers_->stop();
  if (events_) events_->stop();
  if (ingress_) ingress_->stop(1s);
  if (dns_) dns_->stop();
}

void Node::undo_start() {
  const auto pods = runtime_.runtime->list().wait(10s);
  if (!pods || !pods->empty()) return stop();
  if (auto removed = remove_everything(10s); !removed) {
    engine_.log(LogLevel::warning, "cluster", "what a failed start had made was not removed",
                {{"error", removed.error().to_string()}});
  }
}

Result<void> Node::remove_everything(Duration deadline) {
  if (agent_) ORC_TRY(agent_->remove_all_pods(deadline));
  stop();
  if (proxy_) ORC_TRY(proxy_->teardown().wait(deadline));
  if (policies_) ORC_TRY(policies_->teardown().wait(deadline));
  if (network_) ORC_TRY(network_->teardown().wait(deadline));
  agent_.reset();
  proxy_.reset();
  policies_.reset();
  network_.reset();
  runtime_.runtime.reset();
  ORC_ASSIGN(const std::string builds, state_dir("build-" + options_.instance));
  ORC_ASSIGN(const std::string folder, state_dir(options_.instance));
  ORC_TRY(remove_tree(builds));
  ORC_TRY(remove_tree(folder));
  rmdir(folder.substr(0, folder.rfind('/')).c_str());  // only when it is empty
  return {};
}

}  // namespace orchestra::cluster
