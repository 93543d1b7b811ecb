// `orchestra dns`: a DNS server of its own, with zone files, a cluster's names, and upstream servers.
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "base/fd.hpp"
#include "examples/cli/cli.hpp"
#include "orchestra/dns_server.hpp"
#include "orchestra/env.hpp"
#include "orchestra/network_feed.hpp"
#include "orchestra/remote_client.hpp"

namespace orchestra::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto kLookInterval = 250ms;  // how often zone files are looked at
constexpr std::size_t kPemBytesMax = 16 << 20;
constexpr const char* kHelp =
    R"(usage: orchestra dns [flags]                          serve
       orchestra dns query NAME [TYPE] [@SERVER[:P]]  ask
       orchestra dns check NAME=FILE..                read zone files and say what is wrong with them

  --listen A:P          address, by UDP and TCP; 0 takes a free port; may be given again (127.0.0.1:53)
  --listen-tls A[:P]    address for DNS over TLS (port 853); may be given again
  --listen-https A[:P]  address for DNS over HTTPS, /dns-query (port 443); may be given again
  --certificate FILE, --key FILE
                        PEM, for these two; read again at SIGHUP
  --zone-file NAME=FILE a zone from a file; read again when it changes, the old one is kept while the new one is
                        bad; may be given again
  --kubeconfig FILE     the names of this cluster's Services and pods
  --zone NAME           of the cluster (cluster.local)
  --ttl N               seconds of the cluster's answers (5)
  --forward A[:P],..    servers to ask for all other names; tls://A[:P]#NAME by TLS; DOMAIN=A[:P],.. for names below
                        that domain only; may be given again
  --forward-policy P    random, round_robin or sequential (random)
  --forward-ca FILE     certificates of who may sign for tls:// servers (the system's)
  --serve-stale N       for N seconds after their end answers serve on while no server answers (0)
  --allow-from RANGE,.. who may ask, besides this machine itself (loopback)
  --reverse RANGE,..    of pods and Services: reverse names in them are the cluster's
  --rate-limit N        answers by UDP per second for a /24 or /56 outside of --reverse (200; 0: no limit)
  --autopath            walk the search lists of pods in the server (needs --kubeconfig and --forward)
  --pods MODE           names of pods: verified, insecure (any address) or disabled (verified)
  --endpoint-pod-names  endpoints without a hostname are called by their pods
  --no-endpoints        no names of endpoints, and so no headless Services
  --ignore-empty-services
                        a Service does not exist while none of its endpoints is ready
  --zonal               ZONE._zone.SERVICE: endpoints of a headless Service in that zone
  --namespaces NS,..    only these namespaces of the cluster
  --namespace-labels EXPRESSION
                        only namespaces with such labels, like team=shop or 'team in (shop, ops)'
  --labels EXPRESSION   only Services and pods with such labels
  --fallthrough NAME,.. below these domains what the cluster does not have is asked of --forward ("." for all)
  --workers N           sockets and threads (1)

query: --tcp asks by TCP; --timeout SECONDS (5); --norecurse. SERVER is the first of /etc/resolv.conf if not given.
Exit status: 0 NOERROR, 3 NXDOMAIN, 10 REFUSED, 5 no answer or SERVFAIL.
)";

/// One zone file, and how it looked when it was last read.
struct ZoneFile {
  std::string name, path;
  struct stat seen {};
};

bool looks_same(const struct stat& a, const struct stat& b) {
  return a.st_ino == b.st_ino && a.st_size == b.st_size && a.st_mtim.tv_sec == b.st_mtim.tv_sec &&
         a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

/// All that a repeated flag lists.
std::vector<std::string> lists_of(const Flags& flags, const std::string& name) {
  std::vector<std::string> out;
  for (const std::string& text : flags.all(name)) {
    for (std::string& one : split_commas(text)) out.push_back(std::move(one));
  }
  return out;
}

Result<std::size_t> number_flag(const Flags& flags, const std::string& name, std::size_t other,
                                std::size_t max) {
  if (!flags.has(name)) return other;
  const std::string text = flags.get(name);
  char* end = nullptr;
  const unsigned long long value = std::strtoull(text.c_str(), &end, 10);
  if (text.empty() || text[0] < '0' || text[0] > '9' || *end != '\0' || value > max) {
    return Error(Error::invalid, "dns",
                 "--" + name + " " + text + ": it has to be a number up to " + std::to_string(max));
  }
  return static_cast<std::size_t>(value);
}

Result<void> forward_flags(const Flags& flags, DnsServerOptions& options) {
  for (const std::string& text : flags.all("forward")) {
    const auto equals = text.find('=');
    const auto servers = split_commas(equals == std::string::npos ? text : text.substr(equals + 1));
    auto& to = equals == std::string::npos ? options.forward : options.forward_zones[text.substr(0, equals)];
    to.insert(to.end(), servers.begin(), servers.end());
  }
  const std::string policy = flags.get("forward-policy", "random");
  if (policy == "round_robin") {
    options.forward_policy = DnsForwardPolicy::round_robin;
  } else if (policy == "sequential") {
    options.forward_policy = DnsForwardPolicy::sequential;
  } else if (policy != "random") {
    return Error(Error::invalid, "dns", "--forward-policy " + policy + ": random, round_robin or sequential");
  }
  if (flags.has("forward-ca")) {
    ORC_ASSIGN(options.forward_ca_pem, read_file(flags.get("forward-ca"), kPemBytesMax));
  }
  return {};
}

Result<DnsClusterNames> cluster_names(const Flags& flags) {
  DnsClusterNames names;
  const std::string pods = flags.get("pods", "verified");
  if (pods == "insecure") {
    names.pods = DnsPodNames::insecure;
  } else if (pods == "disabled") {
    names.pods = DnsPodNames::disabled;
  } else if (pods != "verified") {
    return Error(Error::invalid, "dns", "--pods " + pods + ": verified, insecure or disabled");
  }
  names.endpoint_pod_names = flags.has("endpoint-pod-names");
  names.no_endpoints = flags.has("no-endpoints");
  names.ignore_empty_services = flags.has("ignore-empty-services");
  names.zonal = flags.has("zonal");
  names.namespaces = lists_of(flags, "namespaces");
  names.namespace_labels = flags.get("namespace-labels");
  names.labels = flags.get("labels");
  names.fallthrough = lists_of(flags, "fallthrough");
  return names;
}

Result<DnsServerOptions> options_of(const Flags& flags) {
  DnsServerOptions options;
  if (flags.has("listen")) options.listen = flags.all("listen");
  options.listen_tls = flags.all("listen-tls");
  options.listen_https = flags.all("listen-https");
  if (!flags.has("listen") && (flags.has("listen-tls") || flags.has("listen-https"))) options.listen.clear();
  if (flags.has("certificate") || flags.has("key")) {
    ORC_ASSIGN(options.certificate_pem, read_file(flags.get("certificate"), kPemBytesMax));
    ORC_ASSIGN(options.key_pem, read_file(flags.get("key"), kPemBytesMax));
  }
  options.zone = flags.has("kubeconfig") ? flags.get("zone", "cluster.local") : "";
  ORC_ASSIGN(options.names, cluster_names(flags));
  options.allow_from = lists_of(flags, "allow-from");
  options.reverse_ranges = lists_of(flags, "reverse");
  options.autopath = flags.has("autopath");
  ORC_TRY(forward_flags(flags, options));
  ORC_ASSIGN(const std::size_t ttl, number_flag(flags, "ttl", options.ttl, 3600));
  ORC_ASSIGN(options.workers, number_flag(flags, "workers", 1, 64));
  ORC_ASSIGN(const std::size_t stale, number_flag(flags, "serve-stale", 0, 86400));
  ORC_ASSIGN(const std::size_t rate,
             number_flag(flags, "rate-limit", options.answers_per_second, 1'000'000'000));
  options.ttl = static_cast<std::uint32_t>(ttl);
  options.stale_seconds = static_cast<std::uint32_t>(stale);
  options.answers_per_second = static_cast<std::uint32_t>(rate);
  return options;
}

Result<std::vector<ZoneFile>> zone_files(const std::vector<std::string>& texts) {
  std::vector<ZoneFile> out;
  for (const std::string& text : texts) {
    const auto equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
      return Error(Error::invalid, "dns", "\"" + text + "\" is not NAME=FILE, like shop.example=shop.zone");
    }
    out.push_back({.name = text.substr(0, equals), .path = text.substr(equals + 1)});
  }
  return out;
}

/// How the file looks is taken before it is read: a change meanwhile is seen the next time.
Result<void> load(DnsServer& server, ZoneFile& file) {
  file.seen = {};
  (void)::stat(file.path.c_str(), &file.seen);
  ORC_ASSIGN(auto zone, DnsZone::from_master_file(file.path, file.name));
  return server.add_zone(std::move(zone));
}

void reload_changed(DnsServer& server, std::vector<ZoneFile>& files) {
  for (ZoneFile& file : files) {
    struct stat now {};
    // A file that is away for a moment (an editor's rename) is no change.
    if (::stat(file.path.c_str(), &now) != 0 || looks_same(now, file.seen)) continue;
    const auto loaded = load(server, file);
    if (loaded) {
      std::fprintf(stderr, "orchestra: zone %s is read again from %s\n", file.name.c_str(),
                   file.path.c_str());
    } else {
      std::fprintf(stderr, "orchestra: zone %s stays as it was: %s\n", file.name.c_str(),
                   loaded.error().message().c_str());
    }
  }
}

/// A certificate that is wrong changes nothing.
void reload_certificate(DnsServer& server, const Flags& flags) {
  if (!flags.has("certificate")) return;
  const auto certificate = read_file(flags.get("certificate"), kPemBytesMax),
             key = read_file(flags.get("key"), kPemBytesMax);
  const Result<void> done = !certificate ? Result<void>(certificate.error())
                            : !key       ? Result<void>(key.error())
                                         : server.set_certificate(*certificate, *key);
  std::fprintf(stderr, "orchestra: %s\n",
               done ? "the certificate is read again"
                    : ("the certificate stays as it was: " + done.error().message()).c_str());
}

struct ClusterNames {
  std::shared_ptr<NetworkFeed> feed;
  ~ClusterNames() {
    if (feed) feed->stop();
  }
};

Result<void> follow_cluster(Engine& engine, const std::string& kubeconfig, std::shared_ptr<DnsServer> server,
                            ClusterNames& names) {
  ORC_ASSIGN(const Client client, RemoteClient::from_kubeconfig(engine, kubeconfig));
  ORC_ASSIGN(names.feed, NetworkFeed::start(engine, client, {.ingresses = false}));
  names.feed->subscribe(
      [server](std::shared_ptr<const NetworkSnapshot> snapshot) { server->publish(snapshot); });
  return {};
}

Result<int> serve(const Flags& flags) {
  const std::int64_t begin_ns = real_clock().now().steady_ns;
  sigset_t ends;
  sigemptyset(&ends);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&ends, signal);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  ORC_ASSIGN(const DnsServerOptions options, options_of(flags));
  ORC_ASSIGN(std::vector<ZoneFile> files, zone_files(flags.all("zone-file")));
  EngineOptions engine_options;
  engine_options.event_threads = std::max<std::size_t>(options.workers, 1);
  engine_options.log_sink = [](const LogRecord& record) {
    std::fprintf(stderr, "%s\n", format_log_text(record).c_str());
  };
  Engine engine(engine_options);
  ORC_ASSIGN(const std::shared_ptr<DnsServer> server, DnsServer::create(engine, options));
  for (ZoneFile& file : files) ORC_TRY(load(*server, file));
  ClusterNames names;
  if (flags.has("kubeconfig")) ORC_TRY(follow_cluster(engine, flags.get("kubeconfig"), server, names));
  for (const std::string& address : server->addresses()) std::printf("dns %s\n", address.c_str());
  const std::int64_t took_ns = real_clock().now().steady_ns - begin_ns;
  std::printf("ready in %lld ms\n", static_cast<long long>(took_ns / 1'000'000));
  std::fflush(stdout);
  const timespec interval{.tv_sec = 0, .tv_nsec = std::chrono::nanoseconds(kLookInterval).count()};
  while (true) {
    const int signal = sigtimedwait(&ends, nullptr, &interval);
    if (signal == SIGTERM || signal == SIGINT) break;
    if (signal == SIGHUP) {
      for (ZoneFile& file : files) file.seen = {};
      reload_certificate(*server, flags);
    }
    reload_changed(*server, files);
  }
  server->stop();
  return 0;
}

int check_files(const std::vector<std::string>& texts) {
  const auto files = zone_files(texts);
  if (!files) return usage_error("dns check: " + files.error().message());
  int status = 0;
  for (const ZoneFile& file : *files) {
    const auto zone = DnsZone::from_master_file(file.path, file.name);
    if (zone) {
      std::printf("zone %s: %zu records\n", file.name.c_str(), (*zone)->record_count());
    } else {
      status = report(zone.error());
    }
  }
  return status;
}

}  // namespace

int run_dns(const std::vector<std::string>& args) {
  const Flags flags =
      Flags::parse(args, {"listen",           "listen-tls", "listen-https", "certificate", "key",
                          "zone-file",        "kubeconfig", "zone",         "ttl",         "forward",
                          "forward-policy",   "forward-ca", "serve-stale",  "allow-from",  "reverse",
                          "rate-limit",       "workers",    "timeout",      "pods",        "namespaces",
                          "namespace-labels", "labels",     "fallthrough"},
                   {"autopath", "endpoint-pod-names", "no-endpoints", "ignore-empty-services", "zonal", "tcp",
                    "norecurse", "help"});
  if (flags.has("help")) return std::fputs(kHelp, stdout) < 0 ? 1 : 0;
  if (!flags.problem.empty()) return usage_error("dns: " + flags.problem);
  if (!flags.words.empty() && flags.words[0] == "query") return run_dns_query(flags);
  if (flags.words.size() > 1 && flags.words[0] == "check")
    return check_files({flags.words.begin() + 1, flags.words.end()});
  if (!flags.words.empty())
    return usage_error("dns: \"" + flags.words[0] + "\" is not known; see orchestra dns --help");
  if (!flags.has("zone-file") && !flags.has("kubeconfig") && !flags.has("forward"))
    return usage_error("dns: nothing to serve; give --zone-file, --kubeconfig or --forward");
  const auto done = serve(flags);
  return done ? *done : report(done.error());
}

}  // namespace orchestra::cli
