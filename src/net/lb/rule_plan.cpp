#include "net/lb/rule_plan.hpp"

#include <algorithm>
#include <cstdio>

namespace orchestra::net {
namespace {

constexpr int kAffinitySecondsMax = 86'400;
constexpr const char* kBalanceAnnotation = "orchestra.dev/load-balance";

std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const unsigned char c : text) hash = (hash ^ c) * 1099511628211ull;
  return hash;
}

/// Compiles one Service; the members are what all its ports share.
class ServiceCompiler {
 public:
  ServiceCompiler(const NetworkService& service, std::string_view node, PlanFamily family,
                  std::string_view zone)
      : service_(service), node_(node), zone_(zone), family_(family) {}

  ServiceRules compile() {
    // What has cluster addresses of the other family only, has node ports and others of that only, too.
    has_family_ = family_.alone || (service_.cluster_ips.empty() && family_.family == 4);
    for (const auto& text : service_.cluster_ips) has_family_ = has_family_ || is_of_family(text);
    read_balance();
    read_source_ranges();
    for (const auto& text : service_.cluster_ips) add_address(text, true);
    for (const auto& text : service_.external_ips) add_address(text, false);
    for (const auto& text : service_.load_balancer_ips) add_address(text, false, guarded_);
    for (const auto& port : service_.ports) compile_port(port);
    sort_elements();
    return std::move(rules_);
  }

 private:
  struct Front {
    IpAddress address;
    bool cluster = true;
    bool guarded = false;  // not for everybody
  };

  bool is_of_family(const std::string& text) const {
    const auto address = IpAddress::parse(text);
    return address && address->family == family_.family;
  }
  /// Once, where there are two plans.
  void reject_once(std::string reason, std::string message) {
    if (family_.family == 4 || family_.alone) reject(std::move(reason), std::move(message));
  }

  void reject(std::string reason, std::string message) {
    rules_.rejected.push_back(
        {"Service", service_.ns, service_.name, service_.uid, std::move(reason), std::move(message)});
  }

  void read_balance() {
    const auto wish = service_.annotations.find(kBalanceAnnotation);
    if (wish == service_.annotations.end() || wish->second == "random") return;
    round_robin_ = wish->second == "round_robin";
    if (!round_robin_) {
      reject_once("InvalidAnnotation", std::string(kBalanceAnnotation) + " is \"" + wish->second +
                                           "\"; want random or round_robin; random is used");
    }
  }

  /// As kube-proxy reads them: bits behind the prefix do not count, those of the other family are for the
  /// other table (an address of a family without any range is for nobody, where kube-proxy lets everybody
  /// in). Nobody is let in by a range that cannot be read.
  void read_source_ranges() {
    guarded_ = !service_.source_ranges.empty();
    std::vector<IpRange> ranges;
    for (const std::string& written : service_.source_ranges) {
      const auto range = read_range(written);
      if (!range) {
        reject_once("InvalidSourceRange",
                    "\"" + written + "\" in loadBalancerSourceRanges is not an address range");
      } else if (range->base.family == family_.family) {
        if (range->prefix == 0) guarded_ = false;  // everybody
        ranges.push_back(*range);
      }
    }
    // Two ranges are apart, or one lies in the other.
    std::stable_sort(ranges.begin(), ranges.end(),
                     [](const IpRange& a, const IpRange& b) { return a.prefix < b.prefix; });
    std::vector<IpRange> apart;
    for (const IpRange& range : ranges) {
      const bool inside = std::any_of(apart.begin(), apart.end(),
                                      [&](const IpRange& wider) { return wider.contains(range.base); });
      if (!inside) apart.push_back(range);
    }
    for (const IpRange& range : apart) sources_.push_back(range.to_string());
  }
  static std::optional<IpRange> read_range(std::string_view text) {
    const auto first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t");
    if (first == std::string_view::npos) return std::nullopt;
    text = text.substr(first, last - first + 1);
    const auto slash = text.find('/');
    const auto address = IpAddress::parse(text.substr(0, slash));
    if (!address || slash == std::string_view::npos) return std::nullopt;
    const std::string zero = address->is_v4() ? "0.0.0.0" : "::";
    auto range = IpRange::parse(zero + std::string(text.substr(slash)));
    if (!range) return std::nullopt;
    for (int bit = 0; bit < range->prefix; ++bit) {
      const auto at = static_cast<std::size_t>(bit / 8);
      const int mask = 0x80 >> bit % 8;
      range->base.bytes[at] = static_cast<std::uint8_t>(range->base.bytes[at] | (address->bytes[at] & mask));
    }
    return *range;
  }

  void add_address(const std::string& text, bool cluster, bool guarded = false) {
    const auto address = IpAddress::parse(text);
    if (!address || (family_.alone && address->family != family_.family)) {
      reject("UnsupportedAddress", "address " + text + " is not " + (family_.family == 4 ? "IPv4" : "IPv6") +
                                       "; it is not served by the kernel's rules");
      return;
    }
    if (address->family != family_.family) return;
    if (!has_family_) {
      reject(
          "UnsupportedAddress",
          "address " + text + " is of a family that the Service has no cluster address of; it is not served");
      return;
    }
    fronts_.push_back({*address, cluster, guarded});
  }

  void compile_port(const NetworkServicePort& port) {
    if (!has_family_) return;
    const auto inside = targets(port, TrafficOrigin::internal);
    const auto outside = targets(port, TrafficOrigin::external);
    const std::string near = near_chain(port);
    if (service_.external_local) {
      for (const auto& [address, target_port] : outside.list)
        keep_source(address, target_port, port.protocol);
    }
    for (const auto& front : fronts_) {
      RuleElement key;
      key.map = MapKind::service;
      key.address = front.address;
      key.protocol = port.protocol;
      key.port = port.port;
      add_port(key, front.cluster ? inside : outside, port, front.guarded);
      if (front.cluster) add_shared(MapKind::addresses, front.address, {});
      if (!front.cluster && !near.empty()) {
        const std::string guard = front.guarded ? guard_chain(key, port, near, " near") : near;
        add_near(key, MapKind::near_service, guard);
      }
      ++rules_.ports;
    }
    if (port.node_port != 0) {
      RuleElement key;
      key.map = MapKind::node_service;
      key.protocol = port.protocol;
      key.port = port.node_port;
      add_port(key, outside, port);
      add_near(key, MapKind::near_node, near);
      ++rules_.ports;
    }
  }

  struct Targets {
    std::vector<std::pair<IpAddress, std::uint16_t>> list;
    std::vector<IpAddress> here;  ///< on this node: only they can meet themselves
    bool drop = false;
  };

  Targets targets(const NetworkServicePort& port, TrafficOrigin origin) {
    // Who is ready among those of the other family says nothing here.
    const bool mixed = std::any_of(port.endpoints.begin(), port.endpoints.end(),
                                   [&](const NetworkEndpoint& one) { return !is_of_family(one.address); });
    NetworkServicePort own;
    if (mixed) {
      own = port;
      std::erase_if(own.endpoints, [&](const NetworkEndpoint& one) { return !is_of_family(one.address); });
    }
    const EndpointChoice choice = usable_endpoints(service_, mixed ? own : port, node_, origin, zone_);
    Targets out;
    out.drop = choice.drop;
    for (const auto& endpoint : choice.chosen) {
      const auto address = IpAddress::parse(endpoint.address);
      if (!address) continue;
      out.list.emplace_back(*address, endpoint.port);
      if (endpoint.node == node_ || endpoint.node.empty() || node_.empty()) out.here.push_back(*address);
    }
    if (out.list.size() > kServiceEndpointsMax) {
      if (origin == TrafficOrigin::internal) {
        reject("TooManyEndpoints", "port \"" + port.name + "\" has " + std::to_string(out.list.size()) +
                                       " endpoints; the first " + std::to_string(kServiceEndpointsMax) +
                                       " are used");
      }
      out.list.resize(kServiceEndpointsMax);
    }
    return out;
  }

  void add_port(RuleElement key, const Targets& to, const NetworkServicePort& port, bool guarded = false) {
    const bool node_port = key.map == MapKind::node_service;
    if (to.list.empty()) {
      key.map = node_port ? MapKind::node_nothing : MapKind::nothing;
      key.chain = to.drop ? "drop_it" : "reject_it";
      rules_.elements.push_back(std::move(key));
      return;
    }
    rules_.width = std::max(rules_.width, to.list.size());
    RuleElement service = key;
    if (round_robin_ || service_.affinity_client_ip) {
      service.chain = own_chain(key, to, port);
    } else {
      service.chain = (node_port ? "np_n" : "n") + std::to_string(to.list.size());
    }
    if (guarded) service.chain = guard_chain(key, port, service.chain, "", to.list.size());
    rules_.elements.push_back(std::move(service));
    for (std::size_t i = 0; i < to.list.size(); ++i) {
      RuleElement endpoint = key;
      endpoint.map = node_port ? MapKind::node_endpoint : MapKind::endpoint;
      endpoint.index = static_cast<std::uint16_t>(i);
      endpoint.to_address = to.list[i].first;
      endpoint.to_port = to.list[i].second;
      rules_.elements.push_back(std::move(endpoint));
    }
    for (const IpAddress& address : to.here) add_shared(MapKind::hairpin, address, address);
  }

  std::string own_chain(const RuleElement& key, const Targets& to, const NetworkServicePort& port) {
    const bool node_port = key.map == MapKind::node_service;
    ServiceChain chain{.name = chain_name(port, key_text_of(key.address) + (node_port ? " node" : "")),
                       .count = to.list.size(),
                       .node_port = node_port,
                       .in_turn = !service_.affinity_client_ip};
    if (service_.affinity_client_ip) name_targets(chain, to, port);
    rules_.chains.push_back(chain);
    return chain.name;
  }

  /// Of a port with externalTrafficPolicy Local: whom pods and this node reach by its outside addresses. "":
  /// nobody.
  std::string near_chain(const NetworkServicePort& port) {
    const bool outside =
        port.node_port != 0 ||
        std::any_of(fronts_.begin(), fronts_.end(), [](const Front& front) { return !front.cluster; });
    if (!service_.external_local || !outside) return {};
    const Targets to = targets(port, TrafficOrigin::near);
    if (to.list.empty()) return {};
    ServiceChain chain{.name = chain_name(port, "near"),
                       .count = to.list.size(),
                       .in_turn = round_robin_ && !service_.affinity_client_ip};
    name_targets(chain, to, port);
    for (const IpAddress& address : to.here) add_shared(MapKind::hairpin, address, address);
    rules_.chains.push_back(chain);
    return chain.name;
  }
  void add_near(RuleElement key, MapKind map, const std::string& chain) {
    if (chain.empty()) return;
    key.map = map;
    key.chain = chain;
    rules_.elements.push_back(std::move(key));
  }

  /// `count` endpoints of the maps: the chain that it leads to needs as many, and so this one grows and
  /// shrinks in the same order. The address itself may always: what the node sends to one that it holds comes
  /// from there.
  std::string guard_chain(const RuleElement& key, const NetworkServicePort& port, const std::string& then,
                          const std::string& which, std::size_t count = 1) {
    ServiceChain chain{.name = chain_name(port, key_text_of(key.address) + " guard" + which), .count = count};
    chain.then = then;
    chain.sources = sources_;
    const bool inside = std::any_of(sources_.begin(), sources_.end(), [&](const std::string& source) {
      return IpRange::parse(source)->contains(key.address);
    });
    if (!inside) chain.sources.push_back(key.address.to_string());
    rules_.chains.push_back(chain);
    return chain.name;
  }

  void name_targets(ServiceChain& chain, const Targets& to, const NetworkServicePort& port) const {
    if (service_.affinity_client_ip)
      chain.affinity_seconds = std::clamp(service_.affinity_seconds, 1, kAffinitySecondsMax);
    chain.protocol = port.protocol;
    chain.targets = to.list;
  }
  std::string chain_name(const NetworkServicePort& port, const std::string& front) const {
    char name[24] = {};
    const std::string identity = service_.ns + "/" + service_.name + ":" + std::to_string(port.port) + "/" +
                                 to_string(port.protocol) + "@" + front;
    std::snprintf(name, sizeof name, "s_%016llx", static_cast<unsigned long long>(fnv1a(identity)));
    return name;
  }

  /// As earlier versions wrote it, so that an address keeps its chain's name over an update of the program.
  static std::string key_text_of(const IpAddress& address) {
    return address.is_v4() ? std::to_string(address.v4_number()) : address.to_string();
  }

  void keep_source(const IpAddress& address, std::uint16_t port, IpProtocol protocol) {
    RuleElement element;
    element.map = MapKind::keep_source;
    element.address = address;
    element.port = port;
    element.protocol = protocol;
    rules_.elements.push_back(element);
  }

  void add_shared(MapKind map, const IpAddress& address, const IpAddress& second) {
    RuleElement element;
    element.map = map;
    element.address = address;
    element.second_address = second;
    rules_.elements.push_back(element);
  }

  void sort_elements() {
    auto& all = rules_.elements;
    std::stable_sort(all.begin(), all.end(),
                     [](const RuleElement& a, const RuleElement& b) { return a.key() < b.key(); });
    all.erase(std::unique(all.begin(), all.end(),
                          [](const RuleElement& a, const RuleElement& b) { return a.key() == b.key(); }),
              all.end());
  }

  const NetworkService& service_;
  std::string_view node_, zone_;
  const PlanFamily family_;
  bool has_family_ = true;
  bool round_robin_ = false, guarded_ = false;
  std::vector<std::string> sources_;
  std::vector<Front> fronts_;
  ServiceRules rules_;
};

/// The chain itself, or the one that it guards.
const std::string& leads_to(const ServiceRules& rules, const std::string& name) {
  for (const ServiceChain& chain : rules.chains) {
    if (chain.name == name && !chain.then.empty()) return chain.then;
  }
  return name;
}

/// UDP fronts that either version has, with the newer version's endpoints.
void collect_udp(RuleBatch& batch, const ServiceRules& before, const ServiceRules& after) {
  std::map<std::tuple<bool, IpAddress, std::uint16_t>, UdpFront> fronts;
  for (const auto* rules : {&before, &after}) {
    for (const auto& element : rules->elements) {
      if (element.protocol != IpProtocol::udp || element.map == MapKind::keep_source) continue;
      const bool node_port = element.map == MapKind::node_service || element.map == MapKind::node_nothing ||
                             element.map == MapKind::node_endpoint || element.map == MapKind::near_node;
      auto& front = fronts[{node_port, element.address, element.port}];
      front.node_port = node_port;
      front.address = element.address;
      front.port = element.port;
      const bool endpoint = element.map == MapKind::endpoint || element.map == MapKind::node_endpoint;
      if (endpoint && rules == &after) front.targets.emplace_back(element.to_address, element.to_port);
      const bool near = element.map == MapKind::near_service || element.map == MapKind::near_node;
      if (!near || rules != &after) continue;
      for (const ServiceChain& chain : after.chains) {
        if (chain.name == leads_to(after, element.chain))
          front.targets.insert(front.targets.end(), chain.targets.begin(), chain.targets.end());
      }
    }
  }
  for (auto& [key, front] : fronts) batch.udp_fronts.push_back(std::move(front));
}

bool is_shared(const RuleElement& element) {
  return element.map == MapKind::addresses || element.map == MapKind::hairpin ||
         element.map == MapKind::keep_source;
}

}  // namespace

std::string map_name(const RuleElement& element) {
  switch (element.map) {
    case MapKind::service:
      return "svc";
    case MapKind::node_service:
      return "np_svc";
    case MapKind::near_service:
      return "near";
    case MapKind::near_node:
      return "np_near";
    case MapKind::nothing:
      return "none";
    case MapKind::node_nothing:
      return "np_none";
    case MapKind::addresses:
      return "vips";
    case MapKind::hairpin:
      return "hair";
    case MapKind::keep_source:
      return "keep";
    case MapKind::endpoint:
      return "e" + std::to_string(element.index);
    case MapKind::node_endpoint:
      return "np_e" + std::to_string(element.index);
  }
  return "";
}

ServiceRules compile_service(const NetworkService& service, std::string_view node, PlanFamily family,
                             std::string_view zone) {
  if (service.foreign_proxy || service.headless || service.type == "ExternalName") return {};
  return ServiceCompiler(service, node, family, zone).compile();
}

/// An element that several Services share is added with the first and removed with the last of them.
void RulePlan::count(RuleBatch& batch, const RuleElement& element, int by) {
  const SharedKey key{element.map, element.address, element.second_address, element.protocol, element.port};
  int& users = shared_[key];
  const bool was = users > 0;
  users += by;
  const bool is = users > 0;
  if (!was && is) batch.added.push_back(element);
  if (was && !is) batch.removed.push_back(element);
  if (!is) shared_.erase(key);
}

void RulePlan::change(RuleBatch& batch, const ServiceRules& before, const ServiceRules& after) {
  auto old = before.elements.begin();
  auto now = after.elements.begin();
  const auto remove = [&](const RuleElement& element) {
    is_shared(element) ? count(batch, element, -1) : batch.removed.push_back(element);
  };
  const auto add = [&](const RuleElement& element) {
    is_shared(element) ? count(batch, element, 1) : batch.added.push_back(element);
  };
  while (old != before.elements.end() || now != after.elements.end()) {
    if (now == after.elements.end() || (old != before.elements.end() && old->key() < now->key())) {
      remove(*old++);
    } else if (old == before.elements.end() || now->key() < old->key()) {
      add(*now++);
    } else {
      if (!(*old == *now)) {  // a map's value cannot be changed in place
        remove(*old);
        add(*now);
      }
      ++old;
      ++now;
    }
  }
  collect_udp(batch, before, after);
  const auto find = [](const ServiceRules& rules, const std::string& name) -> const ServiceChain* {
    for (const auto& chain : rules.chains) {
      if (chain.name == name) return &chain;
    }
    return nullptr;
  };
  for (const auto& chain : after.chains) {
    const auto* known = find(before, chain.name);
    if (known != nullptr && *known == chain) continue;
    // A chain must never point at an endpoint that is not there: it grows after, and shrinks before, the
    // maps, unless it names the endpoints itself.
    const bool grows = known != nullptr && known->count < chain.count && chain.targets.empty();
    (grows ? batch.chains_after : batch.chains_before).push_back(chain);
  }
  // From the last one: a chain goes before the one that it leads to.
  for (auto known = before.chains.rbegin(); known != before.chains.rend(); ++known) {
    const ServiceChain& chain = *known;
    const auto* kept = find(after, chain.name);
    if (kept == nullptr) batch.objects_removed.push_back("chain " + chain.name);
    const auto still = kept == nullptr ? std::vector<std::string>() : kept->objects();
    for (std::string& object : chain.objects()) {
      if (std::find(still.begin(), still.end(), object) == still.end())
        batch.objects_removed.push_back(std::move(object));
    }
  }
  batch.width = std::max(batch.width, after.width);
}

RuleBatch RulePlan::update(const NetworkSnapshot& snapshot) {
  RuleBatch batch;
  batch.full = !known_;
  const std::string_view zone = snapshot.zone_of(node_);
  const bool same_zone = zone == zone_;
  zone_ = zone;
  using Table = NetworkSnapshot::Table<NetworkService>;
  using Record = std::shared_ptr<const NetworkService>;
  Table::compare(applied_, snapshot.services,
                 [&](const NamespacedName& name, const Record* was, const Record* is) {
                   if (was != nullptr && is != nullptr && **was == **is) return;
                   change_service(batch, name, is == nullptr ? nullptr : is->get());
                 });
  if (known_ && !same_zone) {
    for (const auto& [name, service] : snapshot.services) change_service(batch, name, service.get());
  }
  for (const auto& [name, list] : rejected_)
    batch.rejected.insert(batch.rejected.end(), list.begin(), list.end());
  applied_ = snapshot.services;
  known_ = true;
  return batch;
}

void RulePlan::change_service(RuleBatch& batch, const NamespacedName& name, const NetworkService* service) {
  static const ServiceRules nothing;
  const auto known = services_.find(name);
  ServiceRules rules;
  if (service != nullptr) rules = compile_service(*service, node_, family_, zone_);
  change(batch, known == services_.end() ? nothing : known->second, rules);
  rejected_.erase(name);
  if (!rules.rejected.empty()) rejected_[name] = std::move(rules.rejected);
  ports_ += rules.ports;
  if (known != services_.end()) ports_ -= known->second.ports;
  if (!rules.elements.empty()) {
    services_.insert_or_assign(name, std::move(rules));
  } else if (known != services_.end()) {
    services_.erase(known);
  }
}

void RulePlan::forget() {
  known_ = false;
  applied_ = {};
  services_.clear();
  rejected_.clear();
  shared_.clear();
  ports_ = 0;
}

}  // namespace orchestra::net
