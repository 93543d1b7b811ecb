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
  return model.snapshot(inputs.revision);
}

namespace {
template <class T>
const T* find_in(const NetworkSnapshot::Table<T>& table, std::string_view ns, std::string_view name) {
  const auto found = table.find(NamespacedName{std::string(ns), std::string(name)});
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
