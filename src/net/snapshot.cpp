// Looking things up in a snapshot.
#include "net/snapshot.hpp"

namespace orchestra {

const char* to_string(IpProtocol protocol) {
  switch (protocol) {
    case IpProtocol::tcp:
      return "TCP";
    case IpProtocol::udp:
      return "UDP";
    case IpProtocol::sctp:
      return "SCTP";
  }
  return "TCP";
}

const NetworkServicePort* NetworkService::find_port(std::string_view port_name) const {
  for (const auto& port : ports) {
    if (port.name == port_name) return &port;
  }
  return nullptr;
}

const NetworkServicePort* NetworkService::find_port(std::uint16_t number) const {
  for (const auto& port : ports) {
    if (port.port == number) return &port;
  }
  return nullptr;
}

std::shared_ptr<const NetworkSnapshot> NetworkSnapshot::build(const NetworkInputs& inputs) {
  NetworkModel model(inputs.loopback_ranges);
  const std::pair<NetworkKind, const NetworkInput*> all[] = {
      {NetworkKind::service, &inputs.services},
      {NetworkKind::endpoint_slice, &inputs.endpoint_slices},
      {NetworkKind::pod, &inputs.pods},
      {NetworkKind::node, &inputs.nodes},
      {NetworkKind::name_space, &inputs.namespaces},
      {NetworkKind::ingress, &inputs.ingresses},
      {NetworkKind::ingress_class, &inputs.ingress_classes},
      {NetworkKind::secret, &inputs.secrets},
      {NetworkKind::network_policy, &inputs.network_policies},
  };
  for (const auto& [kind, input] : all) {
    for (const Object& object : input->objects) model.put(kind, object);
    model.set_synced(kind, input->synced);
  }
<<<<<<< HEAD

  void build_services() {
    std::map<NamespacedName, std::vector<const Object*>> slices;
    for (const auto& slice : inputs.endpoint_slices.objects) {
      const auto owner = slice.labels().find("kubernetes.io/service-name");
      if (owner != slice.labels().end()) slices[{slice.ns(), owner->second}].push_back(&slice);
    }
    for (const auto& object : inputs.services.objects) {
      const NamespacedName key{object.ns(), object.name()};
      auto& own = slices[key];
      std::sort(own.begin(), own.end(),
                [](const Object* a, const Object* b) { return a->name() < b->name(); });
      std::string version = object.uid() + ":" + object.resource_version();
      bool known = !object.resource_version().empty();
      for (const Object* slice : own) {
        known = known && !slice->resource_version().empty();
        version += " " + slice->name() + ":" + slice->resource_version();
      }
      out.services[key] = service_record(key, object, own, known ? version : "");
      if (known) out.service_versions_[key] = std::move(version);
    }
  }

  std::shared_ptr<const NetworkService> service_record(const NamespacedName& key, const Object& object,
                                                       const std::vector<const Object*>& slices,
                                                       const std::string& version) {
    if (previous != nullptr && !version.empty()) {
      const auto old_version = previous->service_versions_.find(key);
      const auto old = previous->services.find(key);
      // A record that had something refused is parsed again, so that the refusal is reported again.
      if (old_version != previous->service_versions_.end() && old_version->second == version &&
          old != previous->services.end() && !was_rejected(object, slices)) {
        return old->second;
      }
    }
    auto service = net::parse_service(object, rejections);
    for (const Object* slice : slices) net::merge_slice(*service, *slice, loopback, rejections);
    net::finish_endpoints(*service);
    return service;
  }

  bool was_rejected(const Object& object, const std::vector<const Object*>& slices) const {
    const auto about = [](const NetworkRejection& rejection, const Object& candidate) {
      return rejection.kind == candidate.kind() && rejection.ns == candidate.ns() &&
             rejection.name == candidate.name();
    };
    for (const auto& rejection : previous->rejected) {
      if (about(rejection, object)) return true;
      for (const Object* slice : slices) {
        if (about(rejection, *slice)) return true;
      }
    }
    return false;
  }

  /// Takes away ports whose address is claimed twice; the older Service wins.
  void refuse_clashes() {
    std::vector<const Object*> by_age;
    for (const auto& object : inputs.services.objects) by_age.push_back(&object);
    std::stable_sort(by_age.begin(), by_age.end(), [](const Object* a, const Object* b) {
      const auto age = [](const Object* o) {
        return std::make_tuple(string_at(tree(*o), "/metadata/creationTimestamp"), o->ns(), o->name());
      };
      return age(a) < age(b);
    });
    std::map<std::tuple<std::string, IpProtocol, std::uint16_t>, NamespacedName> claims;
    for (const Object* object : by_age) {
      auto& record = out.services[{object->ns(), object->name()}];
      std::vector<std::size_t> lost;
      for (std::size_t i = 0; i < record->ports.size(); ++i) {
        if (!claim(claims, *record, record->ports[i], *object)) lost.push_back(i);
      }
      if (lost.empty()) continue;
      auto changed = std::make_shared<NetworkService>(*record);
      for (auto index = lost.rbegin(); index != lost.rend(); ++index) {
        changed->ports.erase(changed->ports.begin() + static_cast<std::ptrdiff_t>(*index));
      }
      record = std::move(changed);
    }
  }

  bool claim(std::map<std::tuple<std::string, IpProtocol, std::uint16_t>, NamespacedName>& claims,
             const NetworkService& service, const NetworkServicePort& port, const Object& object) {
    std::vector<std::tuple<std::string, IpProtocol, std::uint16_t>> wanted;
    for (const auto& address : service.cluster_ips) wanted.emplace_back(address, port.protocol, port.port);
    for (const auto& address : service.external_ips) wanted.emplace_back(address, port.protocol, port.port);
    for (const auto& address : service.load_balancer_ips)
      wanted.emplace_back(address, port.protocol, port.port);
    if (port.node_port != 0) wanted.emplace_back("node port", port.protocol, port.node_port);
    for (const auto& key : wanted) {
      const auto taken = claims.find(key);
      if (taken == claims.end() || taken->second == NamespacedName{service.ns, service.name}) continue;
      rejections.add(object, "AddressClash",
                     std::get<0>(key) + " " + std::to_string(std::get<2>(key)) + "/" +
                         to_string(std::get<1>(key)) + " belongs to the Service " +
                         taken->second.to_string() + "; port \"" + port.name + "\" is not served");
      return false;
    }
    for (auto& key : wanted) claims.emplace(std::move(key), NamespacedName{service.ns, service.name});
    return true;
  }

  template <class T, class Parse>
  void build_table(const NetworkInput& input, NetworkSnapshot::Table<T> NetworkSnapshot::*table,
                   Parse parse) {
    for (const auto& object : input.objects) {
      const NamespacedName key{object.ns(), object.name()};
      if (previous != nullptr && !object.resource_version().empty()) {
        const auto old = (previous->*table).find(key);
        if (old != (previous->*table).end() && old->second->uid == object.uid() &&
            old->second->resource_version == object.resource_version()) {
          (out.*table)[key] = old->second;
          continue;
        }
      }
      if (auto record = parse(object)) (out.*table)[key] = std::move(record);
    }
  }

  void build_ingresses() {
    for (const auto& object : inputs.ingresses.objects) {
      out.ingresses[{object.ns(), object.name()}] = net::parse_ingress(object, rejections);
    }
    for (const auto& object : inputs.ingress_classes.objects) {
      out.ingress_classes[{"", object.name()}] = net::parse_ingress_class(object);
    }
    std::set<NamespacedName> named;
    for (const auto& [key, ingress] : out.ingresses) {
      for (const auto& entry : ingress->tls) named.insert({key.ns, entry.secret});
    }
    for (const auto& object : inputs.secrets.objects) {
      const NamespacedName key{object.ns(), object.name()};
      if (!named.contains(key)) continue;
      if (auto secret = net::parse_tls_secret(object, rejections)) out.tls_secrets[key] = std::move(secret);
    }
  }

  void index() {
    for (const auto& [key, pod] : out.pods) {
      if (pod->finished || pod->host_network) continue;
      for (const auto& address : pod->addresses) out.pods_by_address_[address] = pod.get();
    }
    for (const auto& [key, service] : out.services) {
      for (const auto& address : service->cluster_ips)
        out.services_by_address_.emplace(address, service.get());
    }
  }

  void build() {
    out.revision = inputs.revision;
    out.synced = {
        inputs.services.synced,        inputs.endpoint_slices.synced, inputs.pods.synced,
        inputs.nodes.synced,           inputs.namespaces.synced,      inputs.ingresses.synced,
        inputs.ingress_classes.synced, inputs.secrets.synced,         inputs.network_policies.synced};
    build_ranges();
    build_services();
    refuse_clashes();
    build_table(inputs.pods, &NetworkSnapshot::pods, [](const Object& o) { return net::parse_pod(o); });
    build_table(inputs.nodes, &NetworkSnapshot::nodes, [](const Object& o) { return net::parse_node(o); });
    for (const auto& object : inputs.namespaces.objects) {
      out.namespaces.insert(object.name());
      out.namespace_labels.emplace(object.name(), object.labels());
    }
    build_ingresses();
    out.network_policies = inputs.network_policies.objects;
    index();
  }
};

std::shared_ptr<const NetworkSnapshot> NetworkSnapshot::build(const NetworkInputs& inputs,
                                                              const NetworkSnapshot* previous) {
  auto snapshot = std::make_shared<NetworkSnapshot>();
  SnapshotBuilder{inputs, previous, *snapshot}.build();
  return snapshot;
=======
  return model.snapshot(inputs.revision);
>>>>>>> ecef2fa (The network's model: a change of one object costs what it touches)
}

namespace {
template <class T>
const T* find_in(const NetworkSnapshot::Table<T>& table, std::string_view ns, std::string_view name) {
  const auto found = table.find({std::string(ns), std::string(name)});
  return found == table.end() ? nullptr : found->second.get();
}
}  // namespace

const NetworkService* NetworkSnapshot::find_service(std::string_view ns, std::string_view name) const {
  return find_in(services, ns, name);
}

const NetworkPod* NetworkSnapshot::find_pod(std::string_view ns, std::string_view name) const {
  return find_in(pods, ns, name);
}

const NetworkTlsSecret* NetworkSnapshot::find_tls_secret(std::string_view ns, std::string_view name) const {
  return find_in(tls_secrets, ns, name);
}

namespace {
/// Every record with this address, by name.
template <class Table, class F>
void each_with_address(const Table& table, std::string_view address, F&& f) {
  for (auto at = table.lower_bound(std::pair(std::string(address), NamespacedName{}));
       at != table.end() && at->first.first == address; ++at)
    f(at->second.get());
}
}  // namespace

const NetworkPod* NetworkSnapshot::find_pod_by_address(std::string_view address) const {
  const NetworkPod* last = nullptr;
  each_with_address(pods_by_address_, address, [&](const NetworkPod* pod) { last = pod; });
  return last;
}

const NetworkService* NetworkSnapshot::find_service_by_address(std::string_view address) const {
  const NetworkService* first = nullptr;
  each_with_address(services_by_address_, address,
                    [&](const NetworkService* service) { first = first != nullptr ? first : service; });
  return first;
}

std::vector<const NetworkService*> NetworkSnapshot::find_headless_by_address(std::string_view address) const {
  std::vector<const NetworkService*> out;
  each_with_address(headless_by_address_, address,
                    [&](const NetworkService* service) { out.push_back(service); });
  return out;
}

std::string_view NetworkSnapshot::zone_of(std::string_view node) const {
  const NetworkNode* found = find_in(nodes, "", node);
  return found == nullptr ? std::string_view() : std::string_view(found->zone);
}

}  // namespace orchestra
