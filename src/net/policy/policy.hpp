#pragma once
// NetworkPolicy objects as typed rules, and the plain meaning of them: may this packet pass? Pure.
//
// A direction of a pod that no policy selects is open; else only the union of what its policies allow.
// evaluate() follows that sentence word by word, without the tables of the compiled program: it is what
// explain() says, what decides which tracked connections are cut, and what the program is tested against.
// Semantics: networking.k8s.io/v1 NetworkPolicySpec. Addresses are those after Services were translated.
#include <optional>
#include <string>
#include <vector>

#include "net/snapshot.hpp"
#include "orchestra/policy_enforcer.hpp"
#include "orchestra/selector.hpp"

namespace orchestra::net {

/// A peer: pods by selectors, or a block of addresses.
struct PolicyPeer {
  std::optional<IpRange> block;
  std::vector<IpRange> except;
  std::string ns;  ///< without a namespace selector: the policy's own
  std::optional<Selector> namespaces;
  Selector pods;  ///< matches everything when the peer names only namespaces
  /// Equal text, equal peer: names its address set.
  std::string text() const;
};
struct PolicyPort {
  IpProtocol protocol = IpProtocol::tcp;
  std::string name;                   ///< of a container port of the receiving pod
  std::uint16_t first = 0, last = 0;  ///< 0, 0 without a name: any port of the protocol
};
struct PolicyRule {
  std::vector<PolicyPeer> peers;  ///< none: anybody
  std::vector<PolicyPort> ports;  ///< none: any port
};
struct Policy {
  NamespacedName name;
  std::string uid;
  Selector pods;
  bool ingress = false, egress = false;  ///< which directions it closes
  std::vector<PolicyRule> ingress_rules, egress_rules;
};

/// What cannot be read closes the direction without opening anything for it, and says so.
Policy parse_policy(const Object& object, std::vector<NetworkRejection>& rejected);

/// The policies of a snapshot, read once.
struct PolicySet {
  std::vector<Policy> policies;
  std::vector<NetworkRejection> rejected;
  static PolicySet read(const NetworkSnapshot& snapshot);
};

bool selects(const Policy& policy, const NetworkPod& pod);
/// `snapshot` gives the namespaces' labels.
bool is_peer(const PolicyPeer& peer, const NetworkPod& pod, const NetworkSnapshot& snapshot);
/// A pod that policies are about: it has an address of its own and is not finished.
bool is_subject(const NetworkPod& pod);

PolicyVerdict evaluate(const PolicySet& set, const NetworkSnapshot& snapshot, const PolicyFlow& flow);

}  // namespace orchestra::net
