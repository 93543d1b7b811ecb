#include "net/dns/cluster_zone.hpp"

#include <algorithm>
#include <charconv>

namespace orchestra::dns {
namespace {

constexpr char kSpecificationVersion[] = "1.1.0";

std::string address_record_data(const net::IpAddress& address) {
  return address_data(address.bytes.data(), address.is_v4() ? 4 : 16);
}

Type type_of(const net::IpAddress& address) { return address.is_v4() ? Type::a : Type::aaaa; }

bool equal_lower(std::string_view text, std::string_view lower) { return to_lower(text) == lower; }

/// `label` as "_tcp" names a protocol.
std::optional<IpProtocol> protocol_of(std::string_view label) {
  if (label == "_tcp") return IpProtocol::tcp;
  if (label == "_udp") return IpProtocol::udp;
  if (label == "_sctp") return IpProtocol::sctp;
  return std::nullopt;
}

bool is_label(const std::string& text) { return !text.empty() && text.size() <= kLabelBytesMax; }

/// Labels come from validated object names; a longer one is cut rather than written as a broken name.
Name prefixed(std::string_view label, const Name& name) {
  label = label.substr(0, kLabelBytesMax);
  Name out(1, static_cast<char>(label.size()));
  out += label;
  return out += name;
}

std::vector<net::IpAddress> parse_all(const std::vector<std::string>& texts) {
  std::vector<net::IpAddress> out;
  for (const std::string& text : texts) {
    if (const auto address = net::IpAddress::parse(text)) out.push_back(*address);
  }
  return out;
}

}  // namespace

Result<NameRules> NameRules::read(const DnsClusterNames& names) {
  NameRules out{.pods = names.pods,
                .endpoint_pod_names = names.endpoint_pod_names,
                .no_endpoints = names.no_endpoints,
                .ignore_empty_services = names.ignore_empty_services,
                .zonal = names.zonal,
                .namespaces = {names.namespaces.begin(), names.namespaces.end()},
                .namespace_labels = {},
                .labels = {},
                .fallthrough = {}};
  if (names.no_endpoints && names.ignore_empty_services) {
    return Error(Error::invalid, "dns",
                 "ignore_empty_services looks at endpoints, which no_endpoints leaves out");
  }
  ORC_ASSIGN(out.namespace_labels, Selector::parse(names.namespace_labels));
  ORC_ASSIGN(out.labels, Selector::parse(names.labels));
  for (const std::string& text : names.fallthrough) {
    const std::optional<Name> name = text == "." ? Name(1, '\0') : make_name(text);
    if (!name) return Error(Error::invalid, "dns", "fallthrough: \"" + text + "\" is no domain name");
    out.fallthrough.push_back(*name);
  }
  return out;
}

/// Labels below the zone, read from the right: labels[0] is "svc".
struct ClusterZone::Labels {
  std::vector<std::string_view> all;
  std::size_t size() const { return all.size(); }
  std::string_view operator[](std::size_t i) const { return i < all.size() ? all[i] : std::string_view(); }
};

ClusterZone::ClusterZone(ZoneOptions options, std::shared_ptr<const NetworkSnapshot> snapshot,
                         const ClusterZone* before)
    : options_(std::move(options)), snapshot_(std::move(snapshot)) {
  zone_ = make_name(options_.zone).value_or(*make_name("cluster.local"));
  primary_ = prefixed("ns", prefixed("dns", zone_));
  if (options_.names.zonal) learn_zones(before);
}

/// Looks at Services that changed only.
void ClusterZone::learn_zones(const ClusterZone* before) {
  static const NetworkSnapshot::Table<NetworkService> kNone;
  const bool known = before != nullptr && before->zone_labels_;
  auto labels = known ? std::make_shared<ZoneLabels>(*before->zone_labels_) : std::make_shared<ZoneLabels>();
  if (snapshot_) {
    NetworkSnapshot::Table<NetworkService>::compare(
        known && before->snapshot_ ? before->snapshot_->services : kNone, snapshot_->services,
        [&](const NamespacedName&, const auto*, const std::shared_ptr<const NetworkService>* service) {
          if (service == nullptr) return;
          for (const NetworkEndpoint& endpoint : (*service)->endpoints) {
            if (!endpoint.zone.empty()) labels->insert(to_lower(endpoint.zone));
          }
        });
  }
  zone_labels_ = std::move(labels);
}

bool ClusterZone::has_namespace(std::string_view ns) const {
  if (!options_.names.namespaces.empty() && !options_.names.namespaces.contains(ns)) return false;
  const auto found = snapshot_->namespaces.find(std::string(ns));
  return found != snapshot_->namespaces.end() && options_.names.namespace_labels.matches(found->second);
}

const NetworkService* ClusterZone::find_service(std::string_view ns, std::string_view name) const {
  const NetworkService* service = snapshot_->find_service(ns, name);
  if (service == nullptr || !shows(*service)) return nullptr;
  const bool empty = std::none_of(service->endpoints.begin(), service->endpoints.end(),
                                  [&](const NetworkEndpoint& one) { return is_usable(*service, one); });
  const bool of_endpoints = !service->headless && service->type != "ExternalName";
  return options_.names.ignore_empty_services && of_endpoints && empty ? nullptr : service;
}

bool ClusterZone::is_usable(const NetworkService& service, const NetworkEndpoint& endpoint) const {
  return !options_.names.no_endpoints && (endpoint.ready || service.publish_not_ready);
}

std::string ClusterZone::host_label(const NetworkEndpoint& endpoint) const {
  if (is_label(endpoint.hostname)) return to_lower(endpoint.hostname);
  if (options_.names.endpoint_pod_names && is_label(endpoint.pod_name)) return to_lower(endpoint.pod_name);
  return dashed(endpoint.address);
}

/// Addresses behind a Service's name: its virtual ones, or those of its usable endpoints.
std::vector<net::IpAddress> ClusterZone::addresses_of(const NetworkService& service) const {
  if (!service.headless) return parse_all(service.cluster_ips);
  std::vector<net::IpAddress> out;
  for (const NetworkEndpoint& endpoint : service.endpoints) {
    if (!is_usable(service, endpoint)) continue;
    if (const auto address = net::IpAddress::parse(endpoint.address)) out.push_back(*address);
  }
  return out;
}

Answer ClusterZone::answer(const Question& question, std::uint32_t rotation) const {
  Answer out;
  if (is_reverse_name(question.name)) {
    const auto address = reverse_address(question.name);
    if (!address) {
      out.ours = false;
      return out;
    }
    answer_reverse(*address, question.name, question.type, out);
    pass_on(question.name, out);
    return out;
  }
  if (!is_below_or_equal(question.name, zone_)) {
    out.ours = false;
    return out;
  }
  answer_name(question.name, question.type, rotation, out);
  pass_on(question.name, out);
  if (question.type == Type::any && out.rcode == Rcode::no_error && out.chase == std::nullopt) {
    // RFC 8482: one small record, of no use to amplify.
    out.answers = {record(question.name, Type::hinfo, txt_data("RFC8482") + txt_data(""))};
    out.authority.clear();
    out.additional.clear();
  }
  return out;
}

void ClusterZone::pass_on(const Name& name, Answer& out) const {
  out.passes_on = out.ours && out.rcode == Rcode::name_error &&
                  std::any_of(options_.names.fallthrough.begin(), options_.names.fallthrough.end(),
                              [&](const Name& domain) { return is_below_or_equal(name, domain); });
}

void ClusterZone::answer_name(const Name& name, Type type, std::uint32_t rotation, Answer& out) const {
  Labels labels{labels_of(std::string_view(name).substr(0, name.size() - zone_.size()))};
  // The prefix has no zero octet of its own, so labels_of stopped at its end.
  std::reverse(labels.all.begin(), labels.all.end());
  if (labels.size() == 0) return answer_apex(name, type, out);
  if (labels.size() == 1 && labels[0] == "dns-version") {
    if (type != Type::txt) return no_data(out);
    out.answers.push_back(record(name, Type::txt, txt_data(kSpecificationVersion)));
    return;
  }
  if (labels[0] == "dns" && labels.size() <= 2 && (labels.size() == 1 || labels[1] == "ns")) {
    if (labels.size() == 1) return no_data(out);
    std::vector<net::IpAddress> addresses = options_.own_addresses;
    const auto* service = snapshot_ ? snapshot_->find_service("kube-system", "kube-dns") : nullptr;
    if (service != nullptr && !service->headless) addresses = parse_all(service->cluster_ips);
    return add_addresses(name, type, addresses, out);
  }
  if (labels[0] == "svc") return answer_service(labels, name, type, rotation, out);
  if (labels[0] == "pod") return answer_pod(labels, name, type, out);
  no_name(out);
}

void ClusterZone::answer_apex(const Name& name, Type type, Answer& out) const {
  if (type == Type::soa) {
    out.answers.push_back(soa());
  } else if (type == Type::ns) {
    out.answers.push_back(record(name, Type::ns, primary_));
    Answer glue;
    answer_name(primary_, Type::a, 0, glue);
    out.additional = std::move(glue.answers);
  } else {
    no_data(out);
  }
}

void ClusterZone::answer_pod(const Labels& labels, const Name& name, Type type, Answer& out) const {
  if (!snapshot_ || !snapshot_->synced.pods || !snapshot_->synced.namespaces) {
    return not_ready(out, "pods");
  }
  const DnsPodNames mode = options_.names.pods;
  if (labels.size() == 1) return no_data(out);
  if (mode == DnsPodNames::disabled || !has_namespace(labels[1])) return no_name(out);
  if (labels.size() == 2) return no_data(out);
  if (labels.size() > 3) return no_name(out);
  std::string text(labels[2]);
  std::replace(text.begin(), text.end(), '-', '.');
  auto address = net::IpAddress::parse(text);
  if (!address) {
    std::replace(text.begin(), text.end(), '.', ':');
    address = net::IpAddress::parse(text);
  }
  if (!address) return no_name(out);
  if (mode == DnsPodNames::verified) {
    const NetworkPod* pod = snapshot_->find_pod_by_address(address->to_string());
    if (pod == nullptr || pod->ns != labels[1] || !options_.names.labels.matches(pod->labels))
      return no_name(out);
  }
  add_addresses(name, type, {*address}, out);
}

void ClusterZone::answer_service(const Labels& labels, const Name& name, Type type, std::uint32_t rotation,
                                 Answer& out) const {
  if (!snapshot_ || !snapshot_->synced.services || !snapshot_->synced.endpoint_slices ||
      !snapshot_->synced.namespaces) {
    return not_ready(out, "Services");
  }
  if (labels.size() == 1) return no_data(out);
  if (!has_namespace(labels[1])) return no_name(out);
  if (labels.size() == 2) return no_data(out);
  const NetworkService* service = find_service(labels[1], labels[2]);
  if (service == nullptr) return no_name(out);
  if (service->type == "ExternalName") {
    if (labels.size() > 3) return no_name(out);
    return answer_external(*service, name, type, out);
  }
  if (labels.size() == 3) {
    auto addresses = addresses_of(*service);
    if (service->headless && addresses.empty()) return no_name(out);
    if (addresses.size() > 1) {
      std::rotate(addresses.begin(), addresses.begin() + rotation % addresses.size(), addresses.end());
    }
    return add_addresses(name, type, addresses, out);
  }
  if (options_.names.zonal && labels[3] == "_zone") return answer_zonal(*service, labels, name, type, out);
  if (protocol_of(labels[3])) return answer_port(*service, labels, name, type, out);
  if (labels.size() == 4) return answer_host(*service, labels[3], name, type, out);
  no_name(out);
}

/// `_port._tcp.service`: named ports only. `_tcp.service` exists where such a port does.
void ClusterZone::answer_port(const NetworkService& service, const Labels& labels, const Name& name,
                              Type type, Answer& out) const {
  const IpProtocol protocol = *protocol_of(labels[3]);
  const bool wants_port = labels.size() == 5 && labels[4].starts_with('_');
  if (labels.size() > 4 && !wants_port) return no_name(out);
  const Name base = service_name(service);
  bool exists = false;
  std::vector<Record> found, targets;
  for (const NetworkServicePort& port : service.ports) {
    if (port.name.empty() || port.protocol != protocol) continue;
    if (wants_port && !equal_lower(port.name, labels[4].substr(1))) continue;
    exists |= !service.headless;
    if (!service.headless) {
      found.push_back(record(name, Type::srv, srv_data(0, 100, port.port, base)));
      for (const net::IpAddress& address : parse_all(service.cluster_ips)) {
        targets.push_back(record(base, type_of(address), address_record_data(address)));
      }
      continue;
    }
    for (const NetworkEndpoint& endpoint : port.endpoints) {
      const auto address = net::IpAddress::parse(endpoint.address);
      if (!is_usable(service, endpoint) || !address) continue;
      exists = true;
      const Name host = prefixed(host_label(endpoint), base);
      found.push_back(record(name, Type::srv, srv_data(0, 100, endpoint.port, host)));
      targets.push_back(record(host, type_of(*address), address_record_data(*address)));
    }
  }
  if (!exists) return no_name(out);
  if (!wants_port || type != Type::srv) return no_data(out);
  out.answers = std::move(found);
  out.additional = std::move(targets);
}

void ClusterZone::answer_host(const NetworkService& service, std::string_view host, const Name& name,
                              Type type, Answer& out) const {
  std::vector<net::IpAddress> addresses;
  for (const NetworkEndpoint& endpoint : service.endpoints) {
    if (!is_usable(service, endpoint) || host_label(endpoint) != host) continue;
    if (const auto address = net::IpAddress::parse(endpoint.address)) addresses.push_back(*address);
  }
  if (addresses.empty()) return no_name(out);
  add_addresses(name, type, addresses, out);
}

/// `zone._zone.service` of headless Services. `_zone.service` exists where such names may; a zone in which
/// there is no endpoint of the Service (now) exists as well, so that it can be told from a wrong name.
void ClusterZone::answer_zonal(const NetworkService& service, const Labels& labels, const Name& name,
                               Type type, Answer& out) const {
  if (!service.headless || options_.names.no_endpoints || labels.size() > 5) return no_name(out);
  if (labels.size() == 4) return no_data(out);
  if (!zone_labels_->contains(labels[4])) return no_name(out);
  const auto is_there = [&](const NetworkEndpoint& endpoint) {
    return is_usable(service, endpoint) && equal_lower(endpoint.zone, labels[4]);
  };
  if (type != Type::srv) {
    std::vector<net::IpAddress> addresses;
    for (const NetworkEndpoint& endpoint : service.endpoints) {
      const auto address = net::IpAddress::parse(endpoint.address);
      if (is_there(endpoint) && address) addresses.push_back(*address);
    }
    return add_addresses(name, type, addresses, out);
  }
  std::set<Name> told;
  for (const NetworkServicePort& port : service.ports) {
    for (const NetworkEndpoint& endpoint : port.endpoints) {
      const auto address = net::IpAddress::parse(endpoint.address);
      if (!is_there(endpoint) || !address) continue;
      const Name host = prefixed(host_label(endpoint), service_name(service));
      out.answers.push_back(record(name, Type::srv, srv_data(0, 100, endpoint.port, host)));
      Record target = record(host, type_of(*address), address_record_data(*address));
      if (told.insert(target.name + target.data).second) out.additional.push_back(std::move(target));
    }
  }
  if (out.answers.empty()) no_data(out);
}

/// Where the alias goes on is not decided here, be the target in this zone: see ZoneSet.
void ClusterZone::answer_external(const NetworkService& service, const Name& name, Type type,
                                  Answer& out) const {
  const auto target = make_name(service.external_name);
  if (!target) {
    out = {.rcode = Rcode::server_failure};
    return;
  }
  out.answers.push_back(record(name, Type::cname, *target));
  if (type != Type::cname && type != Type::any) out.chase = *target;
}

/// That of the Service which has the address, else those of headless ones with such an endpoint.
std::vector<Name> ClusterZone::reverse_names(const net::IpAddress& address) const {
  std::vector<Name> out;
  if (!snapshot_) return out;
  const std::string text = address.to_string();
  const NetworkService* service = snapshot_->find_service_by_address(text);
  if (service != nullptr && shows(*service) && has_namespace(service->ns)) {
    out.push_back(service_name(*service));
    return out;
  }
  for (const NetworkService* headless : snapshot_->find_headless_by_address(text)) {
    if (!shows(*headless) || !has_namespace(headless->ns)) continue;
    for (const NetworkEndpoint& endpoint : headless->endpoints) {
      if (endpoint.address == text && is_usable(*headless, endpoint))
        out.push_back(prefixed(host_label(endpoint), service_name(*headless)));
    }
  }
  return out;
}

void ClusterZone::answer_reverse(const net::IpAddress& address, const Name& name, Type type,
                                 Answer& out) const {
  const bool in_range = std::any_of(options_.reverse_ranges.begin(), options_.reverse_ranges.end(),
                                    [&](const net::IpRange& range) { return range.contains(address); });
  std::vector<Name> names = reverse_names(address);
  if (names.empty() && !in_range) {
    out.ours = false;
    return;
  }
  const bool synced = snapshot_ && snapshot_->synced.services && snapshot_->synced.endpoint_slices &&
                      snapshot_->synced.namespaces;
  if (!synced) {
    not_ready(out, "Services");
  } else if (names.empty()) {
    no_name(out);
  } else if (type != Type::ptr) {
    no_data(out);
  } else {
    for (Name& target : names) out.answers.push_back(record(name, Type::ptr, std::move(target)));
  }
}

void ClusterZone::add_addresses(const Name& name, Type type, const std::vector<net::IpAddress>& addresses,
                                Answer& out) const {
  const std::size_t before = out.answers.size();
  for (const net::IpAddress& address : addresses) {
    if (type_of(address) == type) out.answers.push_back(record(name, type, address_record_data(address)));
  }
  if (out.answers.size() == before) no_data(out);
}

void ClusterZone::not_ready(Answer& out, const char* what) const {
  out.rcode = Rcode::server_failure;
  out.extended = ExtendedError{kNotReady, std::string("the cluster's ") + what + " are not known yet"};
}

void ClusterZone::no_name(Answer& out) const {
  out.rcode = Rcode::name_error;
  out.authority = {soa()};
}

Record ClusterZone::soa() const {
  const auto serial = static_cast<std::uint32_t>(snapshot_ ? snapshot_->revision : 0);
  const Name mailbox = prefixed("hostmaster", zone_);
  return {zone_, Type::soa, options_.ttl, soa_data(primary_, mailbox, serial, options_.ttl)};
}

Name ClusterZone::service_name(const NetworkService& service) const {
  return prefixed(service.name, prefixed(service.ns, prefixed("svc", zone_)));
}

std::string dashed(std::string_view address) {
  std::string out(address);
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c == '.' || c == ':'; }, '-');
  // "fd00::" would end with a dash, which no host name may.
  if (!out.empty() && out.back() == '-') out += '0';
  if (!out.empty() && out.front() == '-') out.insert(0, "0");
  return out;
}

bool is_reverse_name(std::string_view name) {
  static const Name v4 = *make_name("in-addr.arpa"), v6 = *make_name("ip6.arpa");
  return is_below_or_equal(name, v4) || is_below_or_equal(name, v6);
}

std::optional<net::IpAddress> reverse_address(std::string_view name) {
  auto labels = labels_of(name);
  if (labels.size() < 3) return std::nullopt;
  const bool v4 = labels[labels.size() - 2] == "in-addr";
  labels.resize(labels.size() - 2);
  std::string text;
  if (v4) {
    if (labels.size() != 4) return std::nullopt;
    for (std::size_t i = 4; i-- > 0;) {
      if (!text.empty()) text += '.';
      text += labels[i];
    }
    return net::IpAddress::parse(text);
  }
  if (labels.size() != 32) return std::nullopt;
  for (std::size_t i = 0; i < 32; ++i) {
    const std::string_view nibble = labels[31 - i];
    if (nibble.size() != 1) return std::nullopt;
    if (i > 0 && i % 4 == 0) text += ':';
    text += nibble;
  }
  return net::IpAddress::parse(text);
}

}  // namespace orchestra::dns
