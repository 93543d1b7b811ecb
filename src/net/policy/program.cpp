#include "net/policy/program.hpp"

#include <algorithm>

#include "net/lb/nft_transaction.hpp"
#include "net/podnet/dual_stack.hpp"

namespace orchestra::net {
namespace {

/// A name for nftables from a text of any length: FNV-1a (RFC draft-eastlake-fnv), 64 bits. Two texts with
/// one name would merge two sets; at 10^5 sets the chance is below 10^-9.
std::string name_of(const char* prefix, const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char c : text) hash = (hash ^ c) * 0x100000001b3;
  char out[32];
  std::snprintf(out, sizeof out, "%s_%016llx", prefix, static_cast<unsigned long long>(hash));
  return out;
}

std::optional<std::uint32_t> number_of_pod(const NetworkPod& pod, const std::optional<IpRange>& cluster6) {
  std::optional<std::uint32_t> out;
  for (const std::string& text : pod.addresses) {
    const auto address = IpAddress::parse(text);
    if (address && address->is_v4()) return address->v4_number();
    if (address && cluster6 && cluster6->contains(*address)) out = number_of(*address).v4_number();
  }
  return out;
}

class Compiler {
 public:
  Compiler(const PolicySet& set, const NetworkSnapshot& snapshot, const std::optional<IpRange>& cluster6)
      : set_(set), snapshot_(snapshot), cluster6_(cluster6) {}

  PolicyProgram compile(const std::string& node) {
    program_.active = !set_.policies.empty();
    if (!program_.active) return std::move(program_);
    for (const auto& [name, pod] : snapshot_.pods) {
      if (pod->node == node && is_subject(*pod)) add_pod(*pod);
    }
    return std::move(program_);
  }

 private:
  void add_pod(const NetworkPod& pod) {
    const auto address = number_of_pod(pod, cluster6_);
    if (!address) return;
    program_.known.insert(*address);
    std::vector<const Policy*> closing[2];
    for (const Policy& policy : set_.policies) {
      if (!selects(policy, pod)) continue;
      if (policy.ingress) closing[0].push_back(&policy);
      if (policy.egress) closing[1].push_back(&policy);
    }
    if (!closing[0].empty()) program_.ingress.emplace(*address, chain(closing[0], false));
    if (!closing[1].empty()) program_.egress.emplace(*address, chain(closing[1], true));
    if (!closing[0].empty() || !closing[1].empty()) ++program_.selected;
  }

  std::string chain(const std::vector<const Policy*>& policies, bool egress) {
    std::string key;
    for (const Policy* policy : policies) key += policy->name.to_string() + "\n";
    const std::string name = name_of(egress ? "out" : "in", key);
    const auto [made, fresh] = program_.chains.try_emplace(name);
    if (!fresh) return name;
    made->second.egress = egress;
    for (const Policy* policy : policies) {
      const std::string counter = name_of(egress ? "ce" : "ci", policy->name.to_string());
      program_.counters.emplace(counter, policy->name);
      for (const PolicyRule& rule : egress ? policy->egress_rules : policy->ingress_rules)
        add_rule(made->second, rule, counter);
    }
    return name;
  }

  /// Every pair of a peer and a port is one rule.
  void add_rule(ProgramChain& chain, const PolicyRule& rule, const std::string& counter) {
    static const std::vector<PolicyPeer> kAnybody(1);
    const bool anybody = rule.peers.empty();
    for (const PolicyPeer& peer : anybody ? kAnybody : rule.peers) {
      ProgramRule made{.counter = counter};
      if (peer.block) {
        made.block = peer.block;
        for (const IpRange& range : peer.except) {
          if (range.base.family == peer.block->base.family) made.except.push_back(range);
        }
      } else if (!anybody) {
        made.peer_set = peer_set(peer);
      }
      if (rule.ports.empty()) chain.rules.push_back(made);
      for (const PolicyPort& port : rule.ports) {
        ProgramRule with_port = made;
        with_port.protocol = port.protocol;
        with_port.first = port.first;
        with_port.last = port.last;
        if (!port.name.empty()) with_port.port_set = port_set(port);
        chain.rules.push_back(std::move(with_port));
      }
    }
  }

  std::string peer_set(const PolicyPeer& peer) {
    const std::string name = name_of("s", peer.text());
    const auto [made, fresh] = program_.peer_sets.try_emplace(name);
    if (!fresh) return name;
    for (const auto& [key, pod] : snapshot_.pods) {
      if (!is_peer(peer, *pod, snapshot_)) continue;
      if (const auto address = number_of_pod(*pod, cluster6_)) made->second.insert(*address);
    }
    return name;
  }

  std::string port_set(const PolicyPort& port) {
    const std::string name = name_of("q", port.name + "/" + nft_word(port.protocol));
    const auto [made, fresh] = program_.port_sets.try_emplace(name);
    if (!fresh) return name;
    for (const auto& [key, pod] : snapshot_.pods) {
      const auto address = is_subject(*pod) ? number_of_pod(*pod, cluster6_) : std::nullopt;
      if (!address) continue;
      for (const NetworkPodPort& one : pod->ports) {
        if (one.name == port.name && one.protocol == port.protocol) made->second.insert({*address, one.port});
      }
    }
    return name;
  }

  const PolicySet& set_;
  const NetworkSnapshot& snapshot_;
  const std::optional<IpRange> cluster6_;
  PolicyProgram program_;
};

/// How one family is written.
struct Family {
  std::optional<IpRange> cluster6;
  std::string ip() const { return cluster6 ? "ip6" : "ip"; }
  std::string type() const { return cluster6 ? "ipv6_addr" : "ipv4_addr"; }
  std::string text_of(std::uint32_t address) const {
    const IpAddress v4 = IpAddress::v4(address);
    return (cluster6 ? with_prefix(*cluster6, v4) : v4).to_string();
  }
};

std::string rule_text(const ProgramRule& rule, bool egress, const Family& family) {
  if (rule.block && rule.block->base.is_v4() == family.cluster6.has_value()) return "";
  const std::string peer = family.ip() + (egress ? " daddr " : " saddr ");
  std::string out = "  ";
  if (!rule.peer_set.empty()) out += peer + "@" + rule.peer_set + " ";
  if (rule.block && rule.block->prefix != 0) out += peer + rule.block->to_string() + " ";
  for (const IpRange& range : rule.except) out += peer + "!= " + range.to_string() + " ";
  if (!rule.port_set.empty()) {
    out += "meta l4proto " + std::string(nft_word(*rule.protocol)) + " " + family.ip() +
           " daddr . th dport @" + rule.port_set + " ";
  } else if (rule.protocol && rule.first == 0) {
    out += "meta l4proto " + std::string(nft_word(*rule.protocol)) + " ";
  } else if (rule.protocol) {
    out += std::string(nft_word(*rule.protocol)) + " dport " + std::to_string(rule.first);
    if (rule.last != rule.first) out += "-" + std::to_string(rule.last);
    out += " ";
  }
  return out + "counter name " + rule.counter + " accept\n";
}

/// Elements as text, by set or map.
std::map<std::string, std::set<std::string>> elements_of(const PolicyProgram& program, const Family& family) {
  std::map<std::string, std::set<std::string>> out;
  const auto text_of = [&](std::uint32_t address) { return family.text_of(address); };
  for (const auto& [name, set] : program.peer_sets) {
    for (const auto address : set) out[name].insert(text_of(address));
  }
  for (const auto& [name, set] : program.port_sets) {
    for (const auto& [address, port] : set) out[name].insert(text_of(address) + " . " + std::to_string(port));
  }
  for (const auto& [address, chain] : program.ingress)
    out["ingress"].insert(text_of(address) + " : goto " + chain);
  for (const auto& [address, chain] : program.egress)
    out["egress"].insert(text_of(address) + " : goto " + chain);
  for (const auto address : program.known) {
    out["known"].insert(text_of(address));
    out["itself"].insert(text_of(address) + " . " + text_of(address));
  }
  return out;
}

}  // namespace

PolicyProgram PolicyProgram::compile(const PolicySet& set, const NetworkSnapshot& snapshot,
                                     const std::string& node, const std::optional<IpRange>& cluster6) {
  return Compiler(set, snapshot, cluster6).compile(node);
}

bool PolicyProgram::accept(Address source, Address destination, IpProtocol protocol, std::uint16_t port,
                           const IpRange& local) const {
  return accept({IpAddress::v4(source), IpAddress::v4(destination), source, destination, protocol, port},
                local);
}

bool PolicyProgram::accept(const Packet& packet, const IpRange& local) const {
  const Address source = packet.source_number, destination = packet.destination_number;
  if (!active) return true;
  const auto closed = [&](Address address) {
    return local.contains(IpAddress::v4(address)) && !known.contains(address);
  };
  if (closed(source) || closed(destination)) return false;
  if (source == destination && known.contains(source)) return true;
  const auto passes = [&](const std::map<Address, std::string>& by_pod, Address pod, Address peer,
                          const IpAddress& peer_address) {
    const auto found = by_pod.find(pod);
    if (found == by_pod.end()) return true;
    const auto& rules = chains.at(found->second).rules;
    return std::any_of(rules.begin(), rules.end(), [&](const ProgramRule& rule) {
      if (!rule.peer_set.empty() && !peer_sets.at(rule.peer_set).contains(peer)) return false;
      if (rule.block && !rule.block->contains(peer_address)) return false;
      for (const IpRange& range : rule.except) {
        if (range.contains(peer_address)) return false;
      }
      if (rule.protocol && *rule.protocol != packet.protocol) return false;
      if (!rule.port_set.empty()) return port_sets.at(rule.port_set).contains({destination, packet.port});
      return rule.first == 0 || (packet.port >= rule.first && packet.port <= rule.last);
    });
  };
  return passes(egress, source, destination, packet.destination) &&
         passes(ingress, destination, source, packet.source);
}

std::string structure_text(const PolicyProgram& program, const std::string& table, const IpRange& local,
                           const std::optional<IpRange>& cluster6) {
  const Family family{cluster6};
  const std::string ip = family.ip(), type = family.type();
  const std::string own = (cluster6 ? with_prefix(*cluster6, local) : local).to_string();
  const std::string head = "table " + ip + " " + table;
  std::string out = head + "\ndelete " + head + "\n" + head + " {\n";
  out += " map ingress { type " + type + " : verdict; }\n map egress { type " + type + " : verdict; }\n";
  out += " set known { type " + type + "; }\n set itself { type " + type + " . " + type + "; }\n";
  for (const auto& [name, policy] : program.counters) out += " counter " + name + " { }\n";
  for (const auto& [name, set] : program.peer_sets) out += " set " + name + " { type " + type + "; }\n";
  for (const auto& [name, set] : program.port_sets)
    out += " set " + name + " { type " + type + " . inet_service; }\n";
  for (const auto& [name, chain] : program.chains) {
    out += " chain " + name + " {\n";
    for (const ProgramRule& rule : chain.rules) out += rule_text(rule, chain.egress, family);
    out += "  counter drop\n }\n";
  }
  const std::string from = "  " + ip + " saddr ", to = "  " + ip + " daddr ";
  const std::string known =
      "  ct state established,related accept\n" + from + ". " + ip + " daddr @itself accept\n";
  out += " chain hook_egress {\n  type filter hook forward priority 10; policy accept;\n" + known;
  if (program.active) out += from + own + " " + ip + " saddr != @known counter drop\n";
  out += from + "vmap @egress\n }\n";
  out += " chain hook_ingress {\n  type filter hook forward priority 11; policy accept;\n" + known;
  if (program.active) out += to + own + " " + ip + " daddr != @known counter drop\n";
  return out + to + "vmap @ingress\n }\n}\n";
}

std::string element_changes(const PolicyProgram& before, const PolicyProgram& after, const std::string& table,
                            std::size_t& count, const std::optional<IpRange>& cluster6) {
  const Family family{cluster6};
  const auto old_elements = elements_of(before, family), new_elements = elements_of(after, family);
  std::string removed, added;
  const auto difference = [&](const auto& from, const auto& without, const char* command, std::string& out) {
    for (const auto& [name, elements] : from) {
      const auto other = without.find(name);
      std::string list;
      for (const std::string& element : elements) {
        if (other != without.end() && other->second.contains(element)) continue;
        ++count;
        list += (list.empty() ? "" : ", ") + element;
      }
      if (!list.empty())
        out += std::string(command) + " element " + family.ip() + " " + table + " " + name + " { " + list +
               " }\n";
    }
  };
  difference(old_elements, new_elements, "delete", removed);
  difference(new_elements, old_elements, "add", added);
  return removed + added;
}

}  // namespace orchestra::net
