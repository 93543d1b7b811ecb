#include "net/ingress/route_table.hpp"

#include <algorithm>
#include <charconv>
#include <map>

namespace orchestra::ingress {
namespace {

constexpr char kBodySizeAnnotation[] = "nginx.ingress.kubernetes.io/proxy-body-size";

/// "8m", "512k", "1g", "100", "0" (unlimited); nullopt for anything else.
std::optional<std::uint64_t> parse_body_size(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc{} || number > (1u << 30)) return std::nullopt;
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (unit.empty()) return number;
  if (unit == "k" || unit == "K") return number << 10;
  if (unit == "m" || unit == "M") return number << 20;
  if (unit == "g" || unit == "G") return number << 30;
  return std::nullopt;
}

std::string without_final_slash(std::string path) {
  while (!path.empty() && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

/// Builds one table; oldest Ingress first, so that the first to claim a host and path keeps it.
class RouteCompiler {
 public:
  RouteCompiler(const NetworkSnapshot& snapshot, const RouteTable::Options& options, const TrafficPlan& plan)
      : snapshot_(snapshot), options_(options), plan_(plan), table_(std::make_shared<RouteTable>()) {}

  std::shared_ptr<const RouteTable> compile() {
    const NetworkSnapshot::Synced& synced = snapshot_.synced;
    table_->synced_ = synced.ingresses && synced.ingress_classes && synced.services && synced.endpoint_slices;
    find_classes();
    std::vector<const NetworkIngress*> ours;
    for (const auto& [name, ingress] : snapshot_.ingresses) {
      if (is_ours(*ingress)) ours.push_back(ingress.get());
    }
    std::stable_sort(ours.begin(), ours.end(), [](const NetworkIngress* a, const NetworkIngress* b) {
      return a->created < b->created;  // RFC 3339 in UTC orders as text; the table's order settles ties
    });
    for (const NetworkIngress* ingress : ours) add(*ingress);
    for (const auto& [key, backend] : backends_) table_->backends_.push_back(backend);
    return table_;
  }

 private:
  void find_classes() {
    for (const auto& [name, entry] : snapshot_.ingress_classes) {
      if (entry->is_default) ++defaults_;
      if (entry->controller != kController) continue;
      our_classes_.push_back(entry->name);
      default_is_ours_ |= entry->is_default;
    }
  }

  bool is_ours(const NetworkIngress& ingress) {
    if (!ingress.class_name.empty()) {
      if (std::find(our_classes_.begin(), our_classes_.end(), ingress.class_name) != our_classes_.end())
        return true;
      const bool known = snapshot_.ingress_classes.contains({"", ingress.class_name});
      return ingress.class_name == options_.class_name && !known;
    }
    if (default_is_ours_ && defaults_ > 1) {
      reject(ingress, "SeveralDefaultClasses",
             "it names no class and " + std::to_string(defaults_) +
                 " IngressClasses are marked as default; set spec.ingressClassName");
      return false;
    }
    return default_is_ours_;
  }

  void add(const NetworkIngress& ingress) {
    table_->ingresses_.push_back({ingress.ns, ingress.name});
    const std::uint64_t body_bytes_max = body_limit(ingress);
    const auto make = [&](const std::string& host, const IngressPath& path) {
      auto route = std::make_shared<Route>();
      route->host = host;
      route->path = path.path;
      route->type = path.type;
      route->ingress = {ingress.ns, ingress.name};
      route->backend = backend(ingress, path.backend);
      const auto steered = plan_.find(route_key(host, path.path));
      if (steered != plan_.end()) route->split = split(ingress, path.backend, steered->second);
      route->body_bytes_max = body_bytes_max;
      table_->routes_.push_back(route);
      return route.get();
    };
    const Route* otherwise = nullptr;
    if (ingress.default_backend) {
      otherwise = make("", {.path = "", .backend = *ingress.default_backend});
      if (ingress.rules.empty() && table_->default_ != nullptr) {
        reject(ingress, "DefaultBackendTaken", "an older Ingress has the default backend already");
      } else if (ingress.rules.empty()) {
        table_->default_ = otherwise;
      }
    }
    for (const IngressRule& rule : ingress.rules) {
      RouteTable::HostRoutes* host = host_of(ingress, rule.host);
      if (host == nullptr) continue;
      for (const IngressPath& path : rule.paths) {
        const bool exact = path.type == IngressPathType::exact;
        auto& taken = exact ? host->exact : host->prefix;
        const std::string key = exact ? path.path : without_final_slash(path.path);
        if (const auto found = taken.find(key); found != taken.end()) {
          refuse_duplicate(ingress, rule.host, path.path, *found->second);
        } else {
          taken.emplace(key, make(rule.host, path));
        }
      }
      if (host->otherwise == nullptr) host->otherwise = otherwise;
    }
    add_certificates(ingress);
  }

  RouteTable::HostRoutes* host_of(const NetworkIngress& ingress, const std::string& host) {
    if (!host.starts_with("*.")) {
      if (host.find('*') == std::string::npos) return &table_->hosts_[host];
      reject(ingress, "InvalidHost", "host \"" + host + "\" may hold * only as its whole first label");
      return nullptr;
    }
    return &table_->wildcards_[host.substr(2)];
  }

  void refuse_duplicate(const NetworkIngress& ingress, const std::string& host, const std::string& path,
                        const Route& older) {
    if (older.ingress == NamespacedName{ingress.ns, ingress.name}) return;
    reject(ingress, "PathTaken",
           "host \"" + host + "\" path \"" + path + "\" belongs to the older Ingress " +
               older.ingress.to_string());
  }

  /// The plan's names are Services of the Ingress's namespace, at the port of the rule.
  std::shared_ptr<const Split> split(const NetworkIngress& ingress, const IngressBackend& rule,
                                     const RoutePlan& plan) {
    auto made = std::make_shared<Split>();
    const auto target = [&](const std::string& service) {
      IngressBackend wanted = rule;
      wanted.service = service;
      const auto counters = plan.counters.find(service);
      return SplitTarget{backend(ingress, wanted),
                         counters == plan.counters.end() ? nullptr : counters->second};
    };
    for (const TrafficMatch& match : plan.matches)
      made->matches.push_back({match.conditions, target(match.backend)});
    for (const auto& [service, weight] : plan.weights) {
      if (weight == 0) continue;
      made->total += weight;
      made->shares.push_back({made->total, target(service)});
    }
    return made;
  }

  std::shared_ptr<const Backend> backend(const NetworkIngress& ingress, const IngressBackend& wanted) {
    const std::string port = wanted.port_name.empty() ? std::to_string(wanted.port) : wanted.port_name;
    const std::string key = ingress.ns + "/" + wanted.service + ":" + port;
    auto& known = backends_[key];
    if (known) return known;
    auto made = std::make_shared<Backend>();
    made->service = {ingress.ns, wanted.service};
    made->port = port;
    fill(*made, wanted);
    if (made->endpoints.empty() && snapshot_.synced.services &&
        !snapshot_.find_service(ingress.ns, wanted.service)) {
      reject(ingress, "ServiceNotFound",
             "Service \"" + wanted.service + "\" does not exist in namespace " + ingress.ns);
    }
    known = made;
    return made;
  }

  void fill(Backend& backend, const IngressBackend& wanted) {
    const NetworkService* service = snapshot_.find_service(backend.service.ns, backend.service.name);
    if (service == nullptr) {
      backend.why_none = "the Service does not exist";
      return;
    }
    if (service->type == "ExternalName") {
      backend.why_none =
          "the Service is an ExternalName, which could reach inside the cluster (CVE-2021-25740)";
      return;
    }
    const NetworkServicePort* port =
        wanted.port_name.empty() ? service->find_port(wanted.port) : service->find_port(wanted.port_name);
    if (port == nullptr) {
      backend.why_none = "the Service has no port " + backend.port;
      return;
    }
    // Ready endpoints; when there are none, those that terminate but still serve.
    const auto add = [&](auto usable) {
      for (const NetworkEndpoint& endpoint : port->endpoints) {
        const auto address = http::make_address(endpoint.address, endpoint.port);
        if (usable(endpoint) && address) backend.endpoints.push_back({address->text(), *address});
      }
    };
    add([](const NetworkEndpoint& endpoint) { return endpoint.ready; });
    if (backend.endpoints.empty()) {
      add([](const NetworkEndpoint& endpoint) { return endpoint.serving && endpoint.terminating; });
    }
    if (backend.endpoints.empty()) backend.why_none = "none of its endpoints is ready";
  }

  std::uint64_t body_limit(const NetworkIngress& ingress) {
    const auto annotation = ingress.annotations.find(kBodySizeAnnotation);
    if (annotation == ingress.annotations.end()) return kBodyBytesMax;
    if (const auto parsed = parse_body_size(annotation->second)) return *parsed;
    reject(
        ingress, "InvalidAnnotation",
        std::string(kBodySizeAnnotation) + " \"" + annotation->second + "\" is no size like 8m; 1m is used");
    return kBodyBytesMax;
  }

  void add_certificates(const NetworkIngress& ingress) {
    for (const IngressTls& tls : ingress.tls) {
      const NetworkTlsSecret* secret = snapshot_.find_tls_secret(ingress.ns, tls.secret);
      if (secret == nullptr) {
        if (!tls.secret.empty() && snapshot_.synced.secrets) {
          reject(ingress, "SecretNotFound",
                 "Secret \"" + tls.secret +
                     "\" for TLS is missing or broken; its hosts get the default certificate");
        }
        continue;
      }
      const auto certificate = std::make_shared<const Certificate>(Certificate{
          {secret->ns, secret->name}, secret->resource_version, secret->certificate_pem, secret->key_pem});
      std::vector<std::string> hosts = tls.hosts;
      if (hosts.empty()) {
        for (const IngressRule& rule : ingress.rules) hosts.push_back(rule.host);
      }
      for (std::string host : hosts) {
        std::transform(host.begin(), host.end(), host.begin(),
                       [](unsigned char c) { return std::tolower(c); });
        if (host.empty()) continue;
        // Oldest Ingress first: a later one cannot take over a host's certificate.
        if (host.starts_with("*.")) {
          table_->wildcard_certificates_.emplace(host.substr(2), certificate);
        } else {
          table_->certificates_.emplace(host, certificate);
        }
      }
    }
  }

  void reject(const NetworkIngress& ingress, std::string reason, std::string message) {
    table_->rejected_.push_back(
        {"Ingress", ingress.ns, ingress.name, ingress.uid, std::move(reason), std::move(message)});
  }

  const NetworkSnapshot& snapshot_;
  const RouteTable::Options& options_;
  const TrafficPlan& plan_;
  std::shared_ptr<RouteTable> table_;
  std::vector<std::string> our_classes_;
  int defaults_ = 0;
  bool default_is_ours_ = false;
  std::map<std::string, std::shared_ptr<const Backend>> backends_;
};

std::shared_ptr<const RouteTable> RouteTable::compile(const NetworkSnapshot& snapshot, const Options& options,
                                                      const TrafficPlan& plan) {
  return RouteCompiler(snapshot, options, plan).compile();
}

std::shared_ptr<const Backend> RouteTable::backend(const NamespacedName& service,
                                                   std::string_view port) const {
  const auto found = std::find_if(backends_.begin(), backends_.end(), [&](const auto& one) {
    return one->service == service && one->port == port;
  });
  return found == backends_.end() ? nullptr : *found;
}

const Route* RouteTable::HostRoutes::find(std::string_view path) const {
  if (const auto found = exact.find(std::string(path)); found != exact.end()) return found->second;
  std::string prefix_path = without_final_slash(std::string(path));
  while (true) {
    if (const auto found = prefix.find(prefix_path); found != prefix.end()) return found->second;
    const std::size_t slash = prefix_path.rfind('/');
    if (slash == std::string::npos) return otherwise;
    prefix_path.resize(slash);
  }
}

const RouteTable::HostRoutes* RouteTable::find_host(std::string_view host) const {
  if (const auto found = hosts_.find(std::string(host)); found != hosts_.end() && !host.empty())
    return &found->second;
  const std::size_t dot = host.find('.');
  if (dot != std::string_view::npos && dot > 0) {
    const auto found = wildcards_.find(std::string(host.substr(dot + 1)));
    if (found != wildcards_.end()) return &found->second;
  }
  const auto any = hosts_.find("");
  return any == hosts_.end() ? nullptr : &any->second;
}

const Route* RouteTable::match(std::string_view host, std::string_view path) const {
  const HostRoutes* routes = find_host(host);
  const Route* route = routes == nullptr ? nullptr : routes->find(path);
  return route != nullptr ? route : default_;
}

std::shared_ptr<const Certificate> RouteTable::certificate(std::string_view host) const {
  if (const auto found = certificates_.find(std::string(host)); found != certificates_.end())
    return found->second;
  const std::size_t dot = host.find('.');
  if (dot == std::string_view::npos) return nullptr;
  const auto found = wildcard_certificates_.find(std::string(host.substr(dot + 1)));
  return found == wildcard_certificates_.end() ? nullptr : found->second;
}

std::vector<std::shared_ptr<const Certificate>> RouteTable::certificates() const {
  std::vector<std::shared_ptr<const Certificate>> out;
  for (const auto* by_host : {&certificates_, &wildcard_certificates_}) {
    for (const auto& [host, certificate] : *by_host) out.push_back(certificate);
  }
  return out;
}

std::string RouteTable::explain(std::string_view host, std::string_view path) const {
  const std::string request = "http://" + std::string(host) + std::string(path);
  const Route* route = match(host, path);
  if (route == nullptr) {
    const bool known = find_host(host) != nullptr;
    return request + ": 404, " +
           (known ? "the host has rules, but none for this path"
                  : "no Ingress of our class has a rule for this host");
  }
  static constexpr const char* kTypes[] = {"Exact", "Prefix", "ImplementationSpecific"};
  std::string out = request + ": Ingress " + route->ingress.to_string();
  out += route->path.empty() ? ", default backend"
                             : ", host \"" + route->host + "\" path \"" + route->path + "\" (" +
                                   kTypes[static_cast<int>(route->type)] + ")";
  if (route->split) {
    for (const Split::Match& match : route->split->matches) {
      out += ", " + std::to_string(match.conditions.size()) + " conditions to Service " +
             match.to.backend->service.to_string();
    }
    std::uint64_t before = 0;
    for (const Split::Share& share : route->split->shares) {
      out += ", " + std::to_string(share.up_to - before) + " of " + std::to_string(route->split->total) +
             " to Service " + share.to.backend->service.to_string();
      before = share.up_to;
    }
    if (route->split->total != 0) return out;
  }
  out += ", Service " + route->backend->service.to_string() + ":" + route->backend->port;
  if (route->backend->endpoints.empty()) return out + ": 503, " + route->backend->why_none;
  out += ", endpoints";
  for (const Endpoint& endpoint : route->backend->endpoints) out += " " + endpoint.name;
  return out;
}

}  // namespace orchestra::ingress
