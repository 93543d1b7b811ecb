// The parts of the table that rarely change, as nftables text: hooks, empty maps, chains by width.
//
// Chain names are prefixed because words like `fwd` and `in` are keywords. A rule that looks at the
// original destination of a translated connection tells traffic from outside (node ports, external
// addresses) from traffic to the Service range without any packet mark.
#include <algorithm>
#include <set>

#include "net/lb/nft_transaction.hpp"
#include "net/lb/rule_plan.hpp"

namespace orchestra::net {

namespace {

/// How one family is written.
struct Words {
  std::string ip, address_type, protocol, loopback;
  explicit Words(int family)
      : ip(family == 4 ? "ip" : "ip6"),
        address_type(family == 4 ? "ipv4_addr" : "ipv6_addr"),
        protocol(family == 4 ? "ip protocol" : "meta l4proto"),
        loopback(family == 4 ? "127.0.0.0/8" : "::1") {}
  std::string two_key() const { return protocol + " . th dport"; }
  std::string three_key() const { return ip + " daddr . " + two_key(); }
};

}  // namespace

std::string base_table_text(const BaseTable& base) {
  const Words words(base.table.family);
  const std::string& ip = words.ip;
  const std::string table = "table " + base.table.text();
  const std::string three = "type " + words.address_type + " . inet_proto . inet_service : ";
  const std::string two = "type inet_proto . inet_service : ";
  const std::string three_key = words.three_key(), two_key = words.two_key();
  const std::string not_loopback = ip + " daddr != " + words.loopback + " ";
  std::string out = table + "\ndelete " + table + "\n" + table + " {\n";
  out += " map svc { " + three + "verdict; }\n map none { " + three + "verdict; }\n";
  out += " map np_svc { " + two + "verdict; }\n map np_none { " + two + "verdict; }\n";
  out += " map near { " + three + "verdict; }\n map np_near { " + two + "verdict; }\n";
  out += " set vips { type " + words.address_type + "; }\n set hair { type " + words.address_type + " . " +
         words.address_type + "; }\n";
  out += " set keep { type " + words.address_type + " . inet_proto . inet_service; }\n";
  out += " chain reject_it {\n  meta l4proto tcp reject with tcp reset\n  reject\n }\n";
  out += " chain drop_it {\n  drop\n }\n";
  // Only where a connection begins: nat hooks see the first packet alone.
  out += " chain serve {\n  " + three_key + " vmap @svc\n";
  out += "  " + not_loopback + "fib daddr type local " + two_key + " vmap @np_svc\n }\n";
  // Pods and this node are under no externalTrafficPolicy.
  out += " chain serve_near {\n  " + three_key + " vmap @near\n";
  out += "  " + not_loopback + "fib daddr type local " + two_key + " vmap @np_near\n }\n";
  out += " chain refuse {\n  " + three_key + " vmap @none\n  " + ip + " daddr @vips goto reject_it\n";
  out += "  " + ip + " daddr " + base.service_cidr + " drop\n }\n";
  out += " chain hook_pre {\n  type nat hook prerouting priority dstnat; policy accept;\n";
  out += "  " + ip + " saddr " + base.cluster_cidr + " jump serve_near\n  jump serve\n }\n";
  out += " chain hook_out {\n  type nat hook output priority -100; policy accept;\n";
  out += "  jump serve_near\n  jump serve\n }\n";
  out += " chain hook_post {\n  type nat hook postrouting priority srcnat; policy accept;\n";
  out += "  " + ip + " saddr . " + ip + " daddr @hair ct status dnat snat to " + base.node_gateway + "\n";
  out += "  " + three_key + " @keep return\n";
  out += "  ct status dnat " + ip + " saddr != " + base.cluster_cidr + " ct original " + ip +
         " daddr != " + base.service_cidr + " snat to " + base.node_gateway + "\n }\n";
  out += " chain hook_forward {\n  type filter hook forward priority filter; policy accept;\n";
  out += "  ct state new jump refuse\n }\n";
  out += " chain hook_local_out {\n  type filter hook output priority filter; policy accept;\n";
  out += "  ct state new jump refuse\n }\n";
  out += " chain hook_input {\n  type filter hook input priority filter; policy accept;\n";
  out += "  ct state new " + not_loopback + two_key + " vmap @np_none\n }\n}\n";
  return out;
}

std::string width_text(const NftTable& table, std::size_t from, std::size_t to) {
  const Words words(table.family);
  const std::string add_map = "add map " + table.text() + " ";
  const std::string add_chain = "add chain " + table.text() + " ";
  const std::string add_rule = "add rule " + table.text() + " ";
  const std::string value = words.address_type + " . inet_service; }\n";
  std::string out;
  for (std::size_t k = from; k < to; ++k) {
    const std::string n = std::to_string(k);
    out += add_map + "e" + n + " { type " + words.address_type + " . inet_proto . inet_service : " + value;
    out += add_map + "np_e" + n + " { type inet_proto . inet_service : " + value;
    out += add_chain + "i" + n + "\n" + add_chain + "np_i" + n + "\n";
    out += add_rule + "i" + n + " dnat " + words.ip + " to " + words.three_key() + " map @e" + n + "\n";
    out += add_rule + "np_i" + n + " dnat " + words.ip + " to " + words.two_key() + " map @np_e" + n + "\n";
  }
  for (std::size_t width = from + 1; width <= to; ++width) {
    for (const std::string prefix : {"", "np_"}) {
      const std::string chain = prefix + "n" + std::to_string(width);
      out += add_chain + chain + "\n" + add_rule + chain + " ";
      if (width == 1) {
        out += "goto " + prefix + "i0\n";
        continue;
      }
      out += "numgen random mod " + std::to_string(width) + " vmap { ";
      for (std::size_t k = 0; k < width; ++k) {
        out += (k == 0 ? "" : ", ") + std::to_string(k) + " : goto " + prefix + "i" + std::to_string(k);
      }
      out += " }\n";
    }
  }
  return out;
}

namespace {

std::string key_text(const RuleElement& element) {
  const std::string address = element.address.to_string();
  const std::string ports = std::string(nft_word(element.protocol)) + " . " + std::to_string(element.port);
  switch (element.map) {
    case MapKind::addresses:
      return address;
    case MapKind::hairpin:
      return address + " . " + element.second_address.to_string();
    case MapKind::keep_source:
    case MapKind::service:
    case MapKind::near_service:
    case MapKind::nothing:
    case MapKind::endpoint:
      return address + " . " + ports;
    case MapKind::node_service:
    case MapKind::near_node:
    case MapKind::node_nothing:
    case MapKind::node_endpoint:
      return ports;
  }
  return "";
}

std::string value_text(const RuleElement& element) {
  if (element.map == MapKind::endpoint || element.map == MapKind::node_endpoint) {
    return " : " + element.to_address.to_string() + " . " + std::to_string(element.to_port);
  }
  return element.chain.empty() ? "" : " : goto " + element.chain;
}

}  // namespace

std::string elements_text(const NftTable& table, const std::vector<RuleElement>& elements) {
  std::map<std::string, std::string> by_map;
  for (const auto& element : elements) {
    std::string& list = by_map[map_name(element)];
    if (!list.empty()) list += ", ";
    list += key_text(element) + value_text(element);
  }
  std::string out;
  for (const auto& [map, list] : by_map)
    out += "add element " + table.text() + " " + map + " { " + list + " }\n";
  return out;
}

namespace {

/// One endpoint of one chain: equal for equal ends, so that its clients outlive changes of the others.
std::string target_id(const ServiceChain& chain, std::size_t k) {
  const auto& [address, port] = chain.targets[k];
  std::string id = chain.name.substr(2) + "_";
  for (std::size_t i = 0; i < (address.is_v4() ? 4u : 16u); ++i) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", unsigned{address.bytes[i]});
    id += two;
  }
  return id + "_" + std::to_string(port) + "_" + std::to_string(chain.affinity_seconds);
}

std::string with_port(const IpAddress& address, std::uint16_t port) {
  const std::string text = address.to_string();
  return (address.is_v4() ? text : "[" + text + "]") + ":" + std::to_string(port);
}

/// "numgen inc mod 3"
std::string choice_of(const ServiceChain& chain) {
  return std::string("numgen ") + (chain.in_turn ? "inc" : "random") + " mod " + std::to_string(chain.count);
}

std::string guard_text(const NftTable& table, const ServiceChain& chain) {
  const std::string name = " " + table.text() + " " + chain.name;
  std::string sources;
  for (const std::string& source : chain.sources) sources += (sources.empty() ? "" : ", ") + source;
  return "add chain" + name + "\nflush chain" + name + "\nadd rule" + name + " " + table.word() +
         " saddr != { " + sources + " } drop\nadd rule" + name + " goto " + chain.then + "\n";
}

/// A chain that names its endpoints, each in a chain g_. With affinity, whom each client was given is one
/// dynamic set per endpoint; its timeout starts anew with each connection.
std::string named_chain_text(const NftTable& table, const ServiceChain& chain) {
  constexpr const char* kClientsMax = "65536";  // per endpoint; more are balanced as if they were new
  const Words words(table.family);
  const std::string of_table = " " + table.text() + " ";
  const std::string name = of_table + chain.name;
  const bool affinity = chain.affinity_seconds > 0;
  std::string ends, known, choice;
  for (std::size_t k = 0; k < chain.targets.size(); ++k) {
    const std::string id = target_id(chain, k);
    const auto& [address, port] = chain.targets[k];
    if (affinity) {
      ends += "add set" + of_table + "f_" + id + " { type " + words.address_type +
              "; flags dynamic,timeout; timeout " + std::to_string(chain.affinity_seconds) + "s; size " +
              kClientsMax + "; }\n";
      known += "add rule" + name + " " + words.ip + " saddr @f_" + id + " goto g_" + id + "\n";
    }
    ends += "add chain" + of_table + "g_" + id + "\nflush chain" + of_table + "g_" + id + "\n";
    ends += "add rule" + of_table + "g_" + id + " meta l4proto " + nft_word(chain.protocol) +
            (affinity ? " update @f_" + id + " { " + words.ip + " saddr }" : "") + " dnat " + words.ip +
            " to " + with_port(address, port) + "\n";
    choice += (k == 0 ? "" : ", ") + std::to_string(k) + " : goto g_" + id;
  }
  return "add chain" + name + "\n" + ends + "flush chain" + name + "\n" + known + "add rule" + name + " " +
         choice_of(chain) + " vmap { " + choice + " }\n";
}

}  // namespace

std::vector<std::string> ServiceChain::objects() const {
  std::vector<std::string> chains, sets;
  for (std::size_t k = 0; k < targets.size(); ++k) {
    chains.push_back("chain g_" + target_id(*this, k));
    if (affinity_seconds > 0) sets.push_back("set f_" + target_id(*this, k));
  }
  chains.insert(chains.end(), sets.begin(), sets.end());
  return chains;
}

std::string service_chain_text(const NftTable& table, const ServiceChain& chain) {
  if (!chain.targets.empty()) return named_chain_text(table, chain);
  if (!chain.then.empty()) return guard_text(table, chain);
  const std::string name = table.text() + " " + chain.name;
  const std::string prefix = chain.node_port ? "np_i" : "i";
  std::string out = "add chain " + name + "\nflush chain " + name + "\nadd rule " + name + " ";
  if (chain.count == 1) return out + "goto " + prefix + "0\n";
  out += choice_of(chain) + " vmap { ";
  for (std::size_t k = 0; k < chain.count; ++k) {
    out += (k == 0 ? "" : ", ") + std::to_string(k) + " : goto " + prefix + std::to_string(k);
  }
  return out + " }\n";
}

namespace {

/// "10.0.0.1 expires 29s500ms" of a listed element; "" for what has another form.
std::string kept_client(std::string_view element, int family) {
  std::vector<std::string_view> words;
  for (std::size_t at = 0; (at = element.find_first_not_of(" \t\n", at)) != std::string_view::npos;) {
    const std::size_t end = std::min(element.find_first_of(" \t\n", at), element.size());
    words.push_back(element.substr(at, end - at));
    at = end;
  }
  const auto expires = std::find(words.begin(), words.end(), "expires");
  if (words.size() < 3 || expires == words.end() || expires + 1 == words.end()) return {};
  const auto address = IpAddress::parse(words.front());
  const bool time = expires[1].find_first_not_of("0123456789dhms") == std::string_view::npos;
  if (!address || address->family != family || !time) return {};
  return address->to_string() + " expires " + std::string(expires[1]);
}

}  // namespace

std::string kept_clients_text(const NftTable& table, std::string_view listing,
                              const std::vector<ServiceChain>& chains) {
  std::set<std::string, std::less<>> wanted;  // "set f_1"
  for (const ServiceChain& chain : chains) {
    for (std::string& object : chain.objects()) {
      if (object.starts_with("set ")) wanted.insert(std::move(object));
    }
  }
  std::string out;
  for (std::size_t at = 0; (at = listing.find("set f_", at)) != std::string_view::npos;) {
    const std::size_t name_end = std::min(listing.find(' ', at + 4), listing.size());
    const std::string_view name = listing.substr(at, name_end - at);
    const std::size_t next = std::min(listing.find("set f_", name_end), listing.size());
    const std::string_view body = listing.substr(name_end, next - name_end);
    at = next;
    const std::size_t begin = body.find("elements = {"), end = body.find('}', begin);
    if (!wanted.contains(name) || begin == std::string_view::npos || end == std::string_view::npos) continue;
    std::string clients;
    for (std::size_t one = begin + 12; one < end;) {
      const std::size_t comma = std::min(body.find(',', one), end);
      const std::string client = kept_client(body.substr(one, comma - one), table.family);
      if (!client.empty()) clients += (clients.empty() ? "" : ", ") + client;
      one = comma + 1;
    }
    if (!clients.empty())
      out += "add element " + table.text() + " " + std::string(name.substr(4)) + " { " + clients + " }\n";
  }
  return out;
}

}  // namespace orchestra::net
