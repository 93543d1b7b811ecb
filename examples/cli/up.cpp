// `orchestra up` and `orchestra down`: the class Cluster with a command line around it.
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "base/control.hpp"
#include "base/fd.hpp"
#include "examples/cli/cli.hpp"
#include "orchestra/cluster.hpp"
#include "orchestra/env.hpp"
#include "orchestra/remote_node.hpp"

namespace orchestra::cli {

using namespace std::chrono_literals;

namespace {
constexpr const char* kUpHelp = R"(usage: orchestra up [flags]
Runs a Kubernetes-compatible cluster of one node in this process until SIGTERM or SIGINT. Pods keep
running when it ends; the next `up` on the same folder adopts them, `orchestra down` ends them.

  --data DIR              everything it keeps (default /var/lib/orchestra, without root ~/.local/share/orchestra)
  --listen ADDR:PORT      API over HTTPS (default 127.0.0.1:6443 or the next free port; port 0 = any)
  --insecure-http A:P     API over plain HTTP, loopback only
  --dns ADDR:PORT         a further address of the DNS server
  --ingress ADDR:PORT     HTTP ingress (default 127.0.0.1:8080 or the next free port)
  --ingress-tls A:P       HTTPS ingress
  --node-name N           name of the Node (default: the host's name)
  --node-ip A             this machine's address for other nodes (default: that of --listen)
  --no-node               control plane only
  --node-grace SECONDS    a node silent for so long is lost, its pods move (default 50, at least 15)
  --isolation LEVEL       best (default), full, rootless or process; with --no-node: of the nodes that join
  --pod-cidr C[,D]        addresses of pods (default 10.244.0.0/16 or the next free range); C and D: of both families, C's
                          first; of IPv6 a range of /16 to /96 such as fd00:10:244::/96, which may also stand alone
  --service-cidr C[,D]    addresses of Services (default 10.96.0.0/16 or the next free range), C of the same family as the
                          pods' first; of IPv6 a range of /108 to /126 such as fd00:10:96::/112
  --pod-network MODE      how pods are attached: routed (default), or bridge: pods of the node share one link (needs the
                          kernel's module br_netfilter); a folder keeps the mode of its first start
  --cni DIR               pods get their network from the CNI plugins that the first *.conflist, *.conf or *.json in
                          DIR names, found in /opt/cni/bin or /usr/lib/cni (needs isolation full)
  --etcd URL[,URL]        keep the state in this etcd cluster (http://, https://, etcd+unix:/SOCKET), not in DIR
  --etcd-adopt            even if its keys under /orchestra/ hold data of another system
  --etcd-cacert F, --etcd-cert F, --etcd-key F, --etcd-user NAME:PASSWORD
  --preload PATH          image archive or folder of archives to import at start; may be repeated
                          (pulls go through the proxies of HTTPS_PROXY, HTTP_PROXY and NO_PROXY)
  --dns-forward IP[:P]    upstream name server; may be repeated (default: /etc/resolv.conf)
  --peers N=HOST:PORT,..  the store's peers of a control plane of several machines, the same list for each;
                          the first founds it. Controllers and scheduler run on the elected one
  --name N                which of the peers this is (default: the node name)
  --peer-listen A:P       where its store listens, if not at its address in --peers
  --token-file F          the cluster's token: DIR/token of the first peer, which makes it
  --insecure-peers        peers talk unencrypted instead of by TLS made from the token
  --audit-log FILE        who asked the API what: one audit.k8s.io/v1 event (JSON) a line is appended (mode 0600)
  --audit-policy FILE     an audit.k8s.io/v1 Policy: what is told of which request (default: level Metadata for all)
  --log-level L           debug, info (default), warning, error
)";
constexpr const char* kJoinHelp =
    R"(usage: orchestra join https://HOST:PORT[,https://HOST:PORT..] --token-file F [flags]
Runs a node of the cluster whose control plane listens there, until SIGTERM or SIGINT. Pods keep running when it
ends and while the control plane is away; the next `join` on the same folder adopts them, `orchestra down --data DIR`
ends them. F is a copy of node-token in the control plane's data folder; it is needed once, then DIR/pki holds a
certificate, and the URL may be left out. Of a control plane of several peers name the API servers of all: the node
goes on with another when one is away, and kubectl reaches its pods through each.

  --token-file F          the token for joining
  --data DIR              everything it keeps (default /var/lib/orchestra-node, without root
                          ~/.local/share/orchestra-node)
  --node-name N           name of the Node (default: the host's name)
  --node-ip A             this machine's address for other nodes (default: the one it reaches the control plane from)
  --isolation LEVEL       best (default), full, rootless or process; must suit the cluster's
  --dns ADDR:PORT         a further address of the DNS server
  --pod-network MODE      routed or bridge, as with `orchestra up`; of this node alone
  --cni DIR               pods get their network from CNI plugins, as with `orchestra up`
  --preload PATH          image archive or folder of archives to import at start; may be repeated
  --dns-forward IP[:P]    upstream name server; may be repeated (default: /etc/resolv.conf)
  --log-level L           debug, info (default), warning, error
)";
constexpr const char* kDownHelp = R"(usage: orchestra down [--data DIR] [--timeout SECONDS]
Ends the pods of this data folder and takes its cgroups, mounts, links, tables and processes off the
machine. Objects, images and logs in the folder stay.
)";

/// The signals that end `up`, waited for on the main thread: the library installs no handlers.
sigset_t block_end_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  sigaddset(&set, SIGUSR1);  // `down` asked over control.sock
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return set;
}

LogSink stderr_sink() {
  return [](const LogRecord& record) { std::fprintf(stderr, "%s\n", format_log_text(record).c_str()); };
}

bool log_level(const std::string& name, LogLevel& level) {
  if (name == "debug")
    level = LogLevel::debug;
  else if (name == "info")
    level = LogLevel::info;
  else if (name == "warning")
    level = LogLevel::warning;
  else if (name == "error")
    level = LogLevel::error;
  else
    return false;
  return true;
}
/// share/orchestra/images beside bin/, where the quickstart puts its images.
std::string images_beside_program() {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0) return {};
  std::string folder(path, static_cast<std::size_t>(length));
  for (int up = 0; up < 2; ++up) folder = folder.substr(0, folder.rfind('/'));
  folder += "/share/orchestra/images";
  return access(folder.c_str(), R_OK) == 0 ? folder : "";
}

/// Appends a line for each event; a file that cannot be written any more is told once.
Result<void> audit_to(const std::string& path, ClusterOptions& options) {
  const int file = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0)
    return Error(Error::io, "up", "--audit-log " + path + " cannot be opened: " + std::strerror(errno));
  auto told = std::make_shared<bool>(false);
  options.audit_sink = [file, path, told](const std::string& event) {
    const std::string line = event + "\n";
    if (write(file, line.data(), line.size()) == static_cast<ssize_t>(line.size()) || *told) return;
    *told = true;
    std::fprintf(stderr, "up: audit events are lost: %s: %s\n", path.c_str(), std::strerror(errno));
  };
  return {};
}

Result<std::string> read_policy(const std::string& path) {
  constexpr std::size_t kPolicyBytesMax = 1 << 20;
  auto text = read_file(path, kPolicyBytesMax);
  if (!text) return text.error().with_context("--audit-policy");
  if (text->empty()) return Error(Error::invalid, "up", "--audit-policy " + path + " is empty");
  return text;
}

constexpr long kLastMoments = 2;  // seconds, of a process that was killed

/// The owner has ended when its lock is free.
bool is_free_within(const std::string& data, long seconds) {
  for (long tenths = 0; tenths < seconds * 10; ++tenths) {
    if (real_disk().lock(data + "/LOCK")) return true;
    pollfd nothing{-1, 0, 0};
    poll(&nothing, 1, 100);
  }
  return false;
}

int wait_for_owner(const std::string& data, long seconds) {
  if (is_free_within(data, seconds)) return 0;
  return report(Error(Error::deadline_exceeded, "down",
                      "the owner of " + data + " has ended its pods but still runs; end it with SIGTERM"));
}
}  // namespace

int run_up(const std::vector<std::string>& args) {
  const Flags flags = Flags::parse(
      args, {"data",        "listen",      "insecure-http", "dns",         "ingress",   "ingress-tls",
             "node-name",   "node-ip",     "node-grace",    "isolation",   "pod-cidr",  "service-cidr",
             "preload",     "dns-forward", "log-level",     "peers",       "cni",       "name",
             "peer-listen", "token-file",  "etcd",          "etcd-cacert", "etcd-cert", "etcd-key",
             "etcd-user",   "audit-log",   "audit-policy",  "pod-network"},
      {"no-node", "insecure-peers", "etcd-adopt", "help"});
  if (flags.has("help")) return std::fputs(kUpHelp, stdout) < 0 ? 1 : 0;
  if (!flags.problem.empty()) return usage_error("up: " + flags.problem + "; see orchestra up --help");
  if (!flags.words.empty())
    return usage_error("up: \"" + flags.words[0] + "\" is not a flag; see orchestra up --help");
  EngineOptions engine_options;
  engine_options.log_sink = stderr_sink();
  if (!log_level(flags.get("log-level", "info"), engine_options.log_level)) {
    return usage_error("up: --log-level " + flags.get("log-level") +
                       " is not one of debug, info, warning, error");
  }
  ClusterOptions options;
  options.data_dir = flags.get("data");
  options.listen = flags.get("listen");
  options.insecure_http = flags.get("insecure-http");
  options.dns = flags.get("dns");
  options.ingress = flags.get("ingress");
  options.ingress_tls = flags.get("ingress-tls");
  options.node_name = flags.get("node-name");
  options.node_ip = flags.get("node-ip");
  options.node = !flags.has("no-node");
  const int grace = std::atoi(flags.get("node-grace", "50").c_str());
  if (grace < 15) {
    return usage_error("up: --node-grace " + flags.get("node-grace") +
                       " is not a number of seconds of at least 15 (agents give a sign of life each 10 s)");
  }
  options.node_grace = std::chrono::seconds(grace);
  options.isolation = flags.get("isolation", "best");
  options.pod_cidr = flags.get("pod-cidr");
  options.pod_network = flags.get("pod-network");
  options.cni = flags.get("cni");
  options.service_cidr = flags.get("service-cidr");
  options.etcd = split_commas(flags.get("etcd"));
  options.etcd_adopt = flags.has("etcd-adopt");
  options.etcd_ca_file = flags.get("etcd-cacert");
  options.etcd_certificate_file = flags.get("etcd-cert");
  options.etcd_key_file = flags.get("etcd-key");
  options.etcd_user = flags.get("etcd-user");
  options.preload = flags.all("preload");
  options.image_proxies = proxies_of_environment();
  if (const std::string beside = images_beside_program(); !beside.empty()) options.preload.push_back(beside);
  options.dns_forward = flags.all("dns-forward");
  options.name = flags.get("name");
  options.peer_listen = flags.get("peer-listen");
  options.token_file = flags.get("token-file");
  options.insecure_peers = flags.has("insecure-peers");
  options.peers = split_commas(flags.get("peers"));
  if (flags.has("audit-policy") && !flags.has("audit-log"))
    return usage_error("up: --audit-policy needs --audit-log FILE, where the events go");
  if (flags.has("audit-log")) {
    if (auto opened = audit_to(flags.get("audit-log"), options); !opened) return report(opened.error());
  }
  if (flags.has("audit-policy")) {
    auto policy = read_policy(flags.get("audit-policy"));
    if (!policy) return report(policy.error());
    options.audit_policy = *policy;
  }
  options.notice = [](const std::string& line) { std::printf("%s\n", line.c_str()); };
  const sigset_t ends = block_end_signals();
  Engine engine(engine_options);
  Cluster cluster(engine, options);
  if (auto started = cluster.start(); !started) return report(started.error());
  const ClusterInfo info = cluster.info();
  std::printf("api https://%s  ingress http://%s  isolation %s  data %s\n", info.api_address.c_str(),
              info.ingress_address.empty() ? "-" : info.ingress_address.c_str(), info.isolation.c_str(),
              info.data_dir.c_str());
  std::printf("export KUBECONFIG=%s\n", info.kubeconfig.c_str());
  std::printf("ready in %lld ms\n", static_cast<long long>(info.ready_ms));
  std::fflush(stdout);
  const pthread_t self = pthread_self();
  cluster.on_stop_requested([self] { pthread_kill(self, SIGUSR1); });
  int signal = 0;
  sigwait(&ends, &signal);
  cluster.stop();
  return 0;
}

int run_join(const std::vector<std::string>& args) {
  const Flags flags = Flags::parse(args,
                                   {"token-file", "data", "node-name", "node-ip", "isolation", "dns",
                                    "preload", "dns-forward", "log-level", "cni", "pod-network"},
                                   {"help"});
  if (flags.has("help")) return std::fputs(kJoinHelp, stdout) < 0 ? 1 : 0;
  if (!flags.problem.empty()) return usage_error("join: " + flags.problem + "; see orchestra join --help");
  if (flags.words.size() > 1)
    return usage_error("join: \"" + flags.words[1] + "\" is too much; see orchestra join --help");
  EngineOptions engine_options;
  engine_options.log_sink = stderr_sink();
  if (!log_level(flags.get("log-level", "info"), engine_options.log_level)) {
    return usage_error("join: --log-level " + flags.get("log-level") +
                       " is not one of debug, info, warning, error");
  }
  RemoteNodeOptions options;
  if (!flags.words.empty()) options.server = flags.words[0];
  options.token_file = flags.get("token-file");
  options.data_dir = flags.get("data");
  options.node_name = flags.get("node-name");
  options.node_ip = flags.get("node-ip");
  options.isolation = flags.get("isolation", "best");
  options.dns = flags.get("dns");
  options.pod_network = flags.get("pod-network");
  options.cni = flags.get("cni");
  options.preload = flags.all("preload");
  options.image_proxies = proxies_of_environment();
  if (const std::string beside = images_beside_program(); !beside.empty()) options.preload.push_back(beside);
  options.dns_forward = flags.all("dns-forward");
  options.notice = [](const std::string& line) {
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
  };
  const sigset_t ends = block_end_signals();
  Engine engine(engine_options);
  RemoteNode node(engine, options);
  // start() may wait for a control plane that is away; signals end the wait.
  std::atomic<bool> ready{false};
  const pthread_t self = pthread_self();
  Result<void> started;
  std::thread starter([&] {
    started = node.start();
    ready = true;
    if (!started) pthread_kill(self, SIGUSR1);
    if (!started) return;
    const RemoteNodeInfo info = node.info();
    std::printf("node %s of %s  address %s  pods %s  isolation %s  data %s\n", info.node_name.c_str(),
                info.server.c_str(), info.node_ip.c_str(),
                info.pod_cidr.empty() ? "-" : info.pod_cidr.c_str(), info.isolation.c_str(),
                info.data_dir.c_str());
    std::printf("ready in %lld ms\n", static_cast<long long>(info.ready_ms));
    std::fflush(stdout);
  });
  node.on_stop_requested([self] { pthread_kill(self, SIGUSR1); });
  int signal = 0;
  sigwait(&ends, &signal);
  if (!ready) node.stop();
  starter.join();
  node.stop();
  return started || signal != SIGUSR1 ? 0 : report(started.error());
}

int run_down(const std::vector<std::string>& args) {
  const Flags flags = Flags::parse(args, {"data", "timeout"}, {"help"});
  if (flags.has("help")) return std::fputs(kDownHelp, stdout) < 0 ? 1 : 0;
  if (!flags.problem.empty()) return usage_error("down: " + flags.problem + "; see orchestra down --help");
  const std::string data = flags.has("data") ? flags.get("data") : default_data_dir();
  const long seconds = std::atol(flags.get("timeout", "120").c_str());
  if (seconds <= 0)
    return usage_error("down: --timeout " + flags.get("timeout") + " is not a number of seconds above 0");
  if (access(data.c_str(), F_OK) != 0) {
    return report(
        Error(Error::not_found, "down",
              "data folder " + data + " does not exist; name the one of `orchestra up` with --data"));
  }
  EngineOptions engine_options;
  engine_options.log_sink = stderr_sink();
  engine_options.log_level = LogLevel::warning;
  block_end_signals();
  Engine engine(engine_options);
  // A running owner does it itself; a folder without one is opened here, without any listener.
  if (auto owner = ControlClient::connect(data + "/control.sock")) {
    auto ended =
        owner->ask(json::object{{"op", "down"}, {"seconds", seconds}}, std::chrono::seconds(seconds + 10));
    if (ended || ended.error().is(Error::not_found)) return wait_for_owner(data, seconds);
    if (!is_free_within(data, kLastMoments)) return report(ended.error());
  }
  (void)is_free_within(data, kLastMoments);  // or it is being killed just now
  if (RemoteNode::owns(data)) {
    RemoteNodeOptions options;
    options.data_dir = data;
    RemoteNode node(engine, options);
    if (auto ended = node.down(std::chrono::seconds(seconds)); !ended) return report(ended.error());
    return 0;
  }
  ClusterOptions options;
  options.data_dir = data;
  options.serve_http = false;
  Cluster cluster(engine, options);
  if (auto started = cluster.start(); !started) return report(started.error());
  if (auto ended = cluster.down(std::chrono::seconds(seconds)); !ended) return report(ended.error());
  return 0;
}

}  // namespace orchestra::cli
