#include "net/policy/policy.hpp"

#include <algorithm>

#include "api/object_tree.hpp"

namespace orchestra::net {
namespace {

Error unreadable(std::string message) { return Error(Error::invalid, "net", std::move(message)); }

Result<Selector> read_selector(const json::value& owner, std::string_view pointer) {
  const json::value* value = find(owner, pointer);
  if (value == nullptr || value->is_null()) return Selector();
  auto parsed = Selector::from_label_selector(to_json(*value));
  if (!parsed) return parsed.error().with_context(std::string(pointer.substr(1)));
  return parsed;
}

Result<PolicyPeer> read_peer(const json::value& item, const std::string& own_namespace) {
  PolicyPeer peer;
  if (find(item, "/ipBlock") != nullptr) {
    ORC_ASSIGN(peer.block, IpRange::parse(string_at(item, "/ipBlock/cidr")));
    if (const auto* except = array_at(item, "/ipBlock/except")) {
      for (const auto& part : *except) {
        ORC_ASSIGN(const IpRange range,
                   IpRange::parse(part.is_string() ? std::string(part.as_string()) : ""));
        peer.except.push_back(range);
      }
    }
    return peer;
  }
  ORC_ASSIGN(peer.pods, read_selector(item, "/podSelector"));
  if (const auto* namespaces = find(item, "/namespaceSelector"); namespaces && !namespaces->is_null()) {
    ORC_ASSIGN(peer.namespaces, read_selector(item, "/namespaceSelector"));
  } else {
    peer.ns = own_namespace;
  }
  return peer;
}

Result<PolicyPort> read_port(const json::value& item) {
  PolicyPort port;
  const std::string protocol = string_at(item, "/protocol");
  if (protocol == "UDP") {
    port.protocol = IpProtocol::udp;
  } else if (protocol == "SCTP") {
    port.protocol = IpProtocol::sctp;
  } else if (!protocol.empty() && protocol != "TCP") {
    return unreadable("protocol \"" + protocol + "\" is not TCP, UDP or SCTP");
  }
  const json::value* number = find(item, "/port");
  if (number == nullptr || number->is_null()) return port;
  if (number->is_string()) {
    port.name = std::string(number->as_string());
    return port;
  }
  const std::int64_t first = int_at(item, "/port"), last = int_at(item, "/endPort", first);
  if (first < 1 || last > 65535 || last < first)
    return unreadable("ports " + std::to_string(first) + "-" + std::to_string(last) +
                      " do not lie in order between 1 and 65535");
  port.first = static_cast<std::uint16_t>(first);
  port.last = static_cast<std::uint16_t>(last);
  return port;
}

Result<PolicyRule> read_rule(const json::value& item, const char* peers, const std::string& own_namespace) {
  PolicyRule rule;
  if (const auto* list = array_at(item, peers)) {
    for (const auto& peer : *list) {
      ORC_ASSIGN(PolicyPeer read, read_peer(peer, own_namespace));
      rule.peers.push_back(std::move(read));
    }
  }
  if (const auto* list = array_at(item, "/ports")) {
    for (const auto& port : *list) {
      ORC_ASSIGN(PolicyPort read, read_port(port));
      rule.ports.push_back(std::move(read));
    }
  }
  return rule;
}

NetworkRejection refuse(const Object& object, const char* reason, std::string message) {
  return {"NetworkPolicy", object.ns(), object.name(), object.uid(), reason, std::move(message)};
}

std::vector<PolicyRule> read_rules(const Object& object, const char* list, const char* peers,
                                   std::vector<NetworkRejection>& rejected) {
  std::vector<PolicyRule> out;
  const auto* rules = array_at(tree(object), list);
  if (rules == nullptr) return out;
  for (std::size_t i = 0; i < rules->size(); ++i) {
    auto rule = read_rule(rules->at(i), peers, object.ns());
    if (rule) {
      out.push_back(std::move(*rule));
    } else {
      rejected.push_back(refuse(
          object, "InvalidRule",
          std::string(list + 1) + "[" + std::to_string(i) + "] allows nothing: " + rule.error().message()));
    }
  }
  return out;
}

bool port_fits(const PolicyPort& port, const PolicyFlow& flow, const NetworkPod* receiver) {
  if (port.protocol != flow.protocol) return false;
  if (port.name.empty()) return port.first == 0 || (flow.port >= port.first && flow.port <= port.last);
  if (receiver == nullptr) return false;
  return std::any_of(receiver->ports.begin(), receiver->ports.end(), [&](const NetworkPodPort& one) {
    return one.name == port.name && one.port == flow.port && one.protocol == port.protocol;
  });
}

bool peer_fits(const PolicyPeer& peer, const IpAddress& address, const NetworkPod* pod,
               const NetworkSnapshot& snapshot) {
  if (!peer.block) return pod != nullptr && is_peer(peer, *pod, snapshot);
  if (!peer.block->contains(address)) return false;
  return std::none_of(peer.except.begin(), peer.except.end(),
                      [&](const IpRange& out) { return out.contains(address); });
}

bool rule_allows(const PolicyRule& rule, const PolicyFlow& flow, const IpAddress& peer_address,
                 const NetworkPod* peer_pod, const NetworkPod* receiver, const NetworkSnapshot& snapshot) {
  const bool peer =
      rule.peers.empty() || std::any_of(rule.peers.begin(), rule.peers.end(), [&](const auto& one) {
        return peer_fits(one, peer_address, peer_pod, snapshot);
      });
  if (!peer) return false;
  return rule.ports.empty() || std::any_of(rule.ports.begin(), rule.ports.end(),
                                           [&](const auto& one) { return port_fits(one, flow, receiver); });
}

}  // namespace

std::string PolicyPeer::text() const {
  if (block) {
    std::string out = "block " + block->to_string();
    for (const IpRange& range : except) out += " but " + range.to_string();
    return out;
  }
  const std::string where = namespaces ? "namespaces {" + namespaces->to_string() + "}" : "namespace " + ns;
  return where + " pods {" + pods.to_string() + "}";
}

Policy parse_policy(const Object& object, std::vector<NetworkRejection>& rejected) {
  const json::value& root = tree(object);
  Policy policy{.name = {object.ns(), object.name()}, .uid = object.uid()};
  if (auto pods = read_selector(root, "/spec/podSelector")) {
    policy.pods = std::move(*pods);
  } else {  // errs on the closed side: every pod of the namespace
    rejected.push_back(refuse(object, "InvalidSelector",
                              pods.error().message() + "; the policy selects every pod of its namespace"));
  }
  const auto* types = array_at(root, "/spec/policyTypes");
  if (types != nullptr && !types->empty()) {
    for (const auto& type : *types) {
      policy.ingress = policy.ingress || (type.is_string() && type.as_string() == "Ingress");
      policy.egress = policy.egress || (type.is_string() && type.as_string() == "Egress");
    }
  } else {
    policy.ingress = true;
    policy.egress = array_at(root, "/spec/egress") != nullptr;
  }
  policy.ingress_rules = read_rules(object, "/spec/ingress", "/from", rejected);
  policy.egress_rules = read_rules(object, "/spec/egress", "/to", rejected);
  return policy;
}

PolicySet PolicySet::read(const NetworkSnapshot& snapshot) {
  PolicySet set;
  for (const auto& [name, object] : snapshot.network_policies)
    set.policies.push_back(parse_policy(object, set.rejected));
  return set;
}

bool is_subject(const NetworkPod& pod) {
  return !pod.finished && !pod.host_network && !pod.addresses.empty();
}

bool selects(const Policy& policy, const NetworkPod& pod) {
  return policy.name.ns == pod.ns && is_subject(pod) && policy.pods.matches(pod.labels);
}

bool is_peer(const PolicyPeer& peer, const NetworkPod& pod, const NetworkSnapshot& snapshot) {
  if (peer.block || !is_subject(pod)) return false;
  if (peer.namespaces) {
    const auto labels = snapshot.namespaces.find(pod.ns);
    if (labels == snapshot.namespaces.end() || !peer.namespaces->matches(labels->second)) return false;
  } else if (pod.ns != peer.ns) {
    return false;
  }
  return peer.pods.matches(pod.labels);
}

PolicyVerdict evaluate(const PolicySet& set, const NetworkSnapshot& snapshot, const PolicyFlow& flow) {
  const auto source = IpAddress::parse(flow.source), destination = IpAddress::parse(flow.destination);
  if (!source || !destination) return {false, "source or destination is not an IP address"};
  if (*source == *destination) return {true, "a pod reaches itself"};
  const NetworkPod* const from = snapshot.find_pod_by_address(flow.source);
  const NetworkPod* const to = snapshot.find_pod_by_address(flow.destination);
  std::string why;
  const auto direction = [&](bool egress) -> bool {
    const NetworkPod* const pod = egress ? from : to;
    const char* const word = egress ? "egress" : "ingress";
    std::string closing;
    if (pod != nullptr) {
      for (const Policy& policy : set.policies) {
        if (!(egress ? policy.egress : policy.ingress) || !selects(policy, *pod)) continue;
        closing += (closing.empty() ? "" : ", ") + policy.name.to_string();
        const auto& rules = egress ? policy.egress_rules : policy.ingress_rules;
        for (std::size_t i = 0; i < rules.size(); ++i) {
          if (!rule_allows(rules[i], flow, egress ? *destination : *source, egress ? to : from, to, snapshot))
            continue;
          why += std::string(why.empty() ? "" : "; ") + word + " rule " + std::to_string(i + 1) +
                 " of policy " + policy.name.to_string() + " allows it";
          return true;
        }
      }
    }
    if (closing.empty()) {
      if (pod != nullptr)
        why += std::string(why.empty() ? "" : "; ") + "no policy limits the " + word + " of pod " + pod->ns +
               "/" + pod->name;
      return true;
    }
    why = "no " + std::string(word) + " rule of the policies of pod " + pod->ns + "/" + pod->name + " (" +
          closing + ") allows it";
    return false;
  };
  if (!direction(true)) return {false, why};
  if (!direction(false)) return {false, why};
  return {true, why.empty() ? "neither end is a pod" : why};
}

}  // namespace orchestra::net
