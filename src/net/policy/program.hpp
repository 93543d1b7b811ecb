#pragma once
// From policies to what the kernel evaluates: chains that rarely change, and sets and maps that do. Pure.
//
// Pods that the same policies select share one chain per direction. A chain's rules name sets by what they
// mean ("pods {app=web} of namespace shop"), so a pod that comes or goes is a few elements of sets and maps,
// and only an edited policy changes the structure. The two directions are two base chains at one hook: an
// `accept` of egress ends only its own, so a packet needs both.
// accept() interprets the program as the kernel does; tests compare it with evaluate().
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "net/policy/policy.hpp"

namespace orchestra::net {

/// One `accept` rule: all given parts must fit.
struct ProgramRule {
  std::string peer_set;          ///< pods, by address; empty: see block
  std::optional<IpRange> block;  ///< neither: anybody
  std::vector<IpRange> except;
  std::optional<IpProtocol> protocol;  ///< nullopt: anything
  std::uint16_t first = 0, last = 0;   ///< 0: any port
  std::string port_set;                ///< (address, port) of receivers by port name
  std::string counter;
};
struct ProgramChain {
  bool egress = false;
  std::vector<ProgramRule> rules;  ///< behind the last one: drop
};

struct PolicyProgram {
  using Address = std::uint32_t;  // host order
  std::map<std::string, ProgramChain> chains;
  std::map<std::string, NamespacedName> counters;  ///< counter name -> policy
  std::map<std::string, std::set<Address>> peer_sets;
  std::map<std::string, std::set<std::pair<Address, std::uint16_t>>> port_sets;
  std::map<Address, std::string> ingress, egress;  ///< pods of this node -> chain
  std::set<Address> known;                         ///< all pods of this node
  std::size_t selected = 0;                        ///< pods of this node that a policy limits
  bool active = false;                             ///< there are policies at all

  /// With `cluster6` pods that have IPv6 alone are known by what their addresses are made of.
  static PolicyProgram compile(const PolicySet& set, const NetworkSnapshot& snapshot, const std::string& node,
                               const std::optional<IpRange>& cluster6 = {});
  /// The first packet of a connection. Ends of IPv6 have the number of the IPv4 address that they are made
  /// of, 0 when they are made of none.
  struct Packet {
    IpAddress source, destination;
    Address source_number = 0, destination_number = 0;
    IpProtocol protocol = IpProtocol::tcp;
    std::uint16_t port = 0;
  };
  /// What the kernel would do with it. `local` is the node's pod range.
  bool accept(const Packet& packet, const IpRange& local) const;
  /// Of IPv4.
  bool accept(Address source, Address destination, IpProtocol protocol, std::uint16_t port,
              const IpRange& local) const;
};

/// nftables text. Structure: the table with hooks, chains and empty sets. Equal structure: elements suffice.
/// With `cluster6` it is that of IPv6, whose addresses are made of the IPv4 ones (podnet/dual_stack.hpp).
/// Blocks of addresses are in the table of their own family only.
std::string structure_text(const PolicyProgram& program, const std::string& table, const IpRange& local,
                           const std::optional<IpRange>& cluster6 = {});
/// Commands that bring the elements of `before` to those of `after`; `count` is raised by each element.
std::string element_changes(const PolicyProgram& before, const PolicyProgram& after, const std::string& table,
                            std::size_t& count, const std::optional<IpRange>& cluster6 = {});

}  // namespace orchestra::net
