// The objects, and the records that were made of them.
//
// A Service's record is made of the Service and of its slices; it is made again when one of them changes,
// once per snapshot. Two Services that claim one address:port:protocol, or one node port: the older one (by
// creation time, then name) keeps it, and only Services that take part in such a clash are looked at for it.
#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "api/object_tree.hpp"
#include "net/snapshot_parse.hpp"

namespace orchestra {
namespace {

NamespacedName name_of(const Object& object) { return {object.ns(), object.name()}; }

}  // namespace

struct NetworkModel::Impl {
  using Front = std::tuple<std::string, IpProtocol, std::uint16_t>;

  struct Service {
    Object object;                                // empty: only slices name it
    std::map<std::string, Object> slices;         // by name
    std::shared_ptr<const NetworkService> whole;  // before clashing ports are taken away
    std::vector<Front> fronts;
  };

  std::vector<NetworkRejection> bad_ranges;
  std::vector<net::IpRange> loopback;
  NetworkSnapshot now;

  std::map<NamespacedName, Service> services;
  std::map<NamespacedName, NamespacedName> owner_of_slice;
  std::set<NamespacedName> stale_services;
  std::map<Front, std::set<NamespacedName>> claims;
  std::map<NamespacedName, int> contested;  ///< Services with so many fronts that another one claims, too
  std::set<NamespacedName> clipped;         ///< whose record lacks ports
  bool clashes_changed = false;

  std::map<NamespacedName, Object> secrets;
  std::map<NamespacedName, int> named_secrets;  ///< by so many entries of Ingresses
  std::set<NamespacedName> stale_secrets;

  std::map<std::pair<NetworkKind, NamespacedName>, std::vector<NetworkRejection>> rejected;
  std::vector<NetworkRejection> clashes;

  // ---- Services

  void put_slice(const Object& slice) {
    const auto label = slice.labels().find("kubernetes.io/service-name");
    if (label == slice.labels().end()) return remove_slice(name_of(slice));
    const NamespacedName owner{slice.ns(), label->second};
    const auto known = owner_of_slice.find(name_of(slice));
    if (known != owner_of_slice.end() && known->second != owner) remove_slice(name_of(slice));
    owner_of_slice[name_of(slice)] = owner;
    services[owner].slices.insert_or_assign(slice.name(), slice);
    stale_services.insert(owner);
  }

  void remove_slice(const NamespacedName& slice) {
    const auto owner = owner_of_slice.find(slice);
    if (owner == owner_of_slice.end()) return;
    services[owner->second].slices.erase(slice.name);
    stale_services.insert(owner->second);
    rejected.erase({NetworkKind::endpoint_slice, slice});
    owner_of_slice.erase(owner);
  }

  void put_service(const Object& object) {
    services[name_of(object)].object = object;
    stale_services.insert(name_of(object));
  }

  void remove_service(const NamespacedName& name) {
    const auto known = services.find(name);
    if (known == services.end()) return;
    known->second.object = Object();
    stale_services.insert(name);
  }

  void make_services() {
    for (const NamespacedName& name : stale_services) make_service(name);
    stale_services.clear();
    if (clashes_changed) settle_clashes();
    clashes_changed = false;
  }

  void make_service(const NamespacedName& name) {
    const auto found = services.find(name);
    if (found == services.end()) return;
    Service& service = found->second;
    rejected.erase({NetworkKind::service, name});
    for (const auto& [slice, object] : service.slices)
      rejected.erase({NetworkKind::endpoint_slice, {name.ns, slice}});
    release(name, service);
    if (!service.object) {
      set_service(name, nullptr);
      service.whole = nullptr;
      if (service.slices.empty()) services.erase(found);
      return;
    }
    const auto collect = [&](NetworkKind kind, const NamespacedName& about, const auto& parse) {
      std::vector<NetworkRejection> list;
      net::Rejections rejections(list);
      auto made = parse(rejections);
      if (!list.empty()) rejected[{kind, about}] = std::move(list);
      return made;
    };
    auto record = collect(NetworkKind::service, name, [&](net::Rejections& rejections) {
      return net::parse_service(service.object, rejections);
    });
    for (const auto& [slice, object] : service.slices) {
      collect(NetworkKind::endpoint_slice, {name.ns, slice}, [&](net::Rejections& rejections) {
        net::merge_slice(*record, object, loopback, rejections);
        return 0;
      });
    }
    net::finish_endpoints(*record);
    service.whole = std::move(record);
    claim(name, service);
    set_service(name, service.whole);
  }

  /// Puts a record into the snapshot, or takes it away, with what is found by address.
  void set_service(const NamespacedName& name, const std::shared_ptr<const NetworkService>& record) {
    const auto old = now.services.find(name);
    if (old != now.services.end()) {
      const NetworkService& was = *old->second;
      for (const auto& address : was.cluster_ips) now.services_by_address_.erase(std::pair(address, name));
      if (was.headless) {
        for (const auto& endpoint : was.endpoints)
          now.headless_by_address_.erase(std::pair(endpoint.address, name));
      }
    }
    if (!record) {
      now.services.erase(name);
      return;
    }
    now.services.set(name, record);
    for (const auto& address : record->cluster_ips) now.services_by_address_.set({address, name}, record);
    if (!record->headless) return;
    for (const auto& endpoint : record->endpoints)
      now.headless_by_address_.set({endpoint.address, name}, record);
  }

  static std::vector<Front> fronts_of(const NetworkService& service, const NetworkServicePort& port) {
    std::vector<Front> out;
    for (const auto* list : {&service.cluster_ips, &service.external_ips, &service.load_balancer_ips}) {
      for (const auto& address : *list) out.emplace_back(address, port.protocol, port.port);
    }
    if (port.node_port != 0) out.emplace_back("node port", port.protocol, port.node_port);
    return out;
  }

  void claim(const NamespacedName& name, Service& service) {
    for (const auto& port : service.whole->ports) {
      for (Front& front : fronts_of(*service.whole, port)) {
        auto& by = claims[front];
        if (!by.insert(name).second) continue;  // another port of the same Service
        service.fronts.push_back(std::move(front));
        if (by.size() == 1) continue;
        clashes_changed = true;
        if (by.size() > 2) {
          ++contested[name];
        } else {
          for (const NamespacedName& one : by) ++contested[one];
        }
      }
    }
  }

  void release(const NamespacedName& name, Service& service) {
    const auto less = [&](const NamespacedName& one) {
      if (--contested[one] == 0) contested.erase(one);
    };
    if (contested.contains(name) || clipped.contains(name)) clashes_changed = true;
    for (const Front& front : service.fronts) {
      const auto by = claims.find(front);
      by->second.erase(name);
      if (by->second.empty()) {
        claims.erase(by);
        continue;
      }
      less(name);
      if (by->second.size() == 1) less(*by->second.begin());
    }
    service.fronts.clear();
  }

  /// Takes away ports whose address is claimed twice; the older Service wins.
  void settle_clashes() {
    std::set<NamespacedName> before;
    before.swap(clipped);
    clashes.clear();
    for (const NamespacedName& name : before) {
      const auto known = services.find(name);
      if (known != services.end() && known->second.whole) set_service(name, known->second.whole);
    }
    std::vector<std::tuple<std::string, NamespacedName>> by_age;
    for (const auto& [name, fronts] : contested)
      by_age.emplace_back(string_at(tree(services[name].object), "/metadata/creationTimestamp"), name);
    std::sort(by_age.begin(), by_age.end());
    std::map<Front, NamespacedName> taken;
    for (const auto& [age, name] : by_age) clip(name, taken);
  }

  void clip(const NamespacedName& name, std::map<Front, NamespacedName>& taken) {
    const Service& service = services[name];
    auto record = std::make_shared<NetworkService>(*service.whole);
    net::Rejections rejections(clashes);
    const auto loses = [&](const NetworkServicePort& port) {
      std::vector<Front> fronts = fronts_of(*service.whole, port);
      for (const Front& front : fronts) {
        const auto owner = taken.find(front);
        if (owner == taken.end() || owner->second == name) continue;
        rejections.add(service.object, "AddressClash",
                       std::get<0>(front) + " " + std::to_string(std::get<2>(front)) + "/" +
                           to_string(std::get<1>(front)) + " belongs to the Service " +
                           owner->second.to_string() + "; port \"" + port.name + "\" is not served");
        return true;
      }
      for (Front& front : fronts) taken.emplace(std::move(front), name);
      return false;
    };
    if (std::erase_if(record->ports, loses) == 0) return;
    clipped.insert(name);
    set_service(name, record);
  }

  // ---- pods, nodes, namespaces

  void set_pod(const NamespacedName& name, std::shared_ptr<const NetworkPod> record) {
    const auto has_addresses = [](const NetworkPod& pod) { return !pod.finished && !pod.host_network; };
    const auto old = now.pods.find(name);
    if (old != now.pods.end() && has_addresses(*old->second)) {
      for (const auto& address : old->second->addresses) now.pods_by_address_.erase(std::pair(address, name));
    }
    if (!record) {
      now.pods.erase(name);
      return;
    }
    if (has_addresses(*record)) {
      for (const auto& address : record->addresses) now.pods_by_address_.set({address, name}, record);
    }
    now.pods.set(name, std::move(record));
  }

  // ---- Ingresses and their certificates

  void set_ingress(const NamespacedName& name, std::shared_ptr<const NetworkIngress> record) {
    const auto old = now.ingresses.find(name);
    if (old != now.ingresses.end()) {
      for (const auto& entry : old->second->tls) name_secret({name.ns, entry.secret}, -1);
    }
    if (!record) {
      now.ingresses.erase(name);
      return;
    }
    for (const auto& entry : record->tls) name_secret({name.ns, entry.secret}, 1);
    now.ingresses.set(name, std::move(record));
  }

  void name_secret(const NamespacedName& secret, int by) {
    int& count = named_secrets[secret];
    count += by;
    if (count == 0) named_secrets.erase(secret);
    stale_secrets.insert(secret);
  }

  void make_secrets() {
    for (const NamespacedName& name : stale_secrets) {
      rejected.erase({NetworkKind::secret, name});
      const auto object = secrets.find(name);
      std::vector<NetworkRejection> list;
      net::Rejections rejections(list);
      std::shared_ptr<const NetworkTlsSecret> record;
      if (object != secrets.end() && named_secrets.contains(name))
        record = net::parse_tls_secret(object->second, rejections);
      if (!list.empty()) rejected[{NetworkKind::secret, name}] = std::move(list);
      if (record) {
        now.tls_secrets.set(name, std::move(record));
      } else {
        now.tls_secrets.erase(name);
      }
    }
    stale_secrets.clear();
  }

  void put_ingress(const Object& object) {
    std::vector<NetworkRejection> list;
    net::Rejections rejections(list);
    set_ingress(name_of(object), net::parse_ingress(object, rejections));
    rejected.erase({NetworkKind::ingress, name_of(object)});
    if (!list.empty()) rejected[{NetworkKind::ingress, name_of(object)}] = std::move(list);
  }
};

NetworkModel::NetworkModel(const std::vector<std::string>& loopback_ranges)
    : impl_(std::make_unique<Impl>()) {
  for (const auto& text : loopback_ranges) {
    if (auto range = net::IpRange::parse(text)) {
      impl_->loopback.push_back(*range);
    } else {
      impl_->bad_ranges.push_back({"", "", text, "", "InvalidRange", range.error().message()});
    }
  }
}

NetworkModel::~NetworkModel() = default;

void NetworkModel::put(NetworkKind kind, const Object& object) {
  Impl& model = *impl_;
  NetworkSnapshot& now = model.now;
  switch (kind) {
    case NetworkKind::service:
      return model.put_service(object);
    case NetworkKind::endpoint_slice:
      return model.put_slice(object);
    case NetworkKind::pod:
      return model.set_pod(name_of(object), net::parse_pod(object));
    case NetworkKind::node:
      return now.nodes.set(name_of(object), net::parse_node(object));
    case NetworkKind::name_space:
      return now.namespaces.set(object.name(), object.labels());
    case NetworkKind::ingress:
      return model.put_ingress(object);
    case NetworkKind::ingress_class:
      return now.ingress_classes.set({"", object.name()}, net::parse_ingress_class(object));
    case NetworkKind::secret:
      model.secrets.insert_or_assign(name_of(object), object);
      model.stale_secrets.insert(name_of(object));
      return;
    case NetworkKind::network_policy:
      return now.network_policies.set(name_of(object), object);
  }
}

void NetworkModel::remove(NetworkKind kind, const Object& object) {
  Impl& model = *impl_;
  NetworkSnapshot& now = model.now;
  const NamespacedName name = name_of(object);
  switch (kind) {
    case NetworkKind::service:
      return model.remove_service(name);
    case NetworkKind::endpoint_slice:
      return model.remove_slice(name);
    case NetworkKind::pod:
      return model.set_pod(name, nullptr);
    case NetworkKind::node:
      now.nodes.erase(name);
      return;
    case NetworkKind::name_space:
      now.namespaces.erase(object.name());
      return;
    case NetworkKind::ingress:
      model.rejected.erase({kind, name});
      return model.set_ingress(name, nullptr);
    case NetworkKind::ingress_class:
      now.ingress_classes.erase(NamespacedName{"", object.name()});
      return;
    case NetworkKind::secret:
      model.secrets.erase(name);
      model.stale_secrets.insert(name);
      return;
    case NetworkKind::network_policy:
      now.network_policies.erase(name);
      return;
  }
}

void NetworkModel::set_synced(NetworkKind kind, bool synced) {
  NetworkSnapshot::Synced& all = impl_->now.synced;
  switch (kind) {
    case NetworkKind::service:
      all.services = synced;
      return;
    case NetworkKind::endpoint_slice:
      all.endpoint_slices = synced;
      return;
    case NetworkKind::pod:
      all.pods = synced;
      return;
    case NetworkKind::node:
      all.nodes = synced;
      return;
    case NetworkKind::name_space:
      all.namespaces = synced;
      return;
    case NetworkKind::ingress:
      all.ingresses = synced;
      return;
    case NetworkKind::ingress_class:
      all.ingress_classes = synced;
      return;
    case NetworkKind::secret:
      all.secrets = synced;
      return;
    case NetworkKind::network_policy:
      all.network_policies = synced;
      return;
  }
}

std::shared_ptr<const NetworkSnapshot> NetworkModel::snapshot(std::int64_t revision) {
  Impl& model = *impl_;
  model.make_services();
  model.make_secrets();
  auto snapshot = std::make_shared<NetworkSnapshot>(model.now);
  snapshot->revision = revision;
  snapshot->rejected = model.bad_ranges;
  const auto add = [&](const std::vector<NetworkRejection>& list) {
    snapshot->rejected.insert(snapshot->rejected.end(), list.begin(), list.end());
  };
  for (const auto& [about, list] : model.rejected) add(list);
  add(model.clashes);
  return snapshot;
}

}  // namespace orchestra
