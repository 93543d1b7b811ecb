// NetProbe: what of the network this machine lets us do, found out by doing it.
//
// Everything happens in a scratch network namespace that is gone with its handle, so nothing has to be
// cleaned up and nothing of the machine is touched. Version numbers are never asked: kernels are patched,
// containers filter system calls, modules may be missing.
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/fd.hpp"
#include "net/lb/nft_netlink.hpp"
#include "net/lb/nft_transaction.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/podnet/rtnetlink.hpp"
#include "net/snapshot.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra {
namespace net {
namespace {

NetworkAbility row(std::string name, const Result<void>& tried, std::string evidence, std::string consequence,
                   std::string remedy) {
  NetworkAbility out;
  out.name = std::move(name);
  out.available = tried.has_value();
  out.evidence = tried ? std::move(evidence) : tried.error().to_string();
  if (!tried) {
    out.consequence = std::move(consequence);
    out.remedy = std::move(remedy);
  }
  return out;
}

Result<void> try_veth(const NetworkNamespace& scratch) {
  ORC_ASSIGN(const NetworkNamespace other, NetworkNamespace::create());
  return in_namespace(scratch, [&]() -> Result<void> {
    ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
    RouteSocket::NewVeth veth;
    veth.name = "orctry";
    veth.peer_name = "eth0";
    veth.peer_namespace = other.fd()->get();
    veth.mac = std::string("\x0a\x58\x00\x00\x00\x01", 6);
    veth.peer_mac = std::string("\x0a\x58\x00\x00\x00\x02", 6);
    ORC_TRY(routes.add_veth(veth));
    ORC_TRY(routes.add_sink("orcsink", 1500));
    Route cover;
    cover.destination = {IpAddress::v4(0xc6336400), 24};  // 198.51.100.0/24, for documentation
    cover.type = 7;
    cover.metric = kLastMetric;
    return routes.add_route(cover);
  });
}

Result<void> try_nftables(const NetworkNamespace& scratch) {
  const NftTable table{nft_table_name("00000000", "_try"), 4};
  ORC_ASSIGN(auto session, NftSession::open(scratch));
  ORC_TRY(session->run(base_table_text({table, "10.244.0.0/16", "10.96.0.0/16", "10.244.0.1"}) +
                       width_text(table, 0, 2)));
  ORC_ASSIGN(NftElements elements, NftElements::open(scratch));
  RuleElement element;
  element.address = IpAddress::v4(0x0a600001);
  element.port = 80;
  element.chain = "n2";
  ORC_TRY(elements.apply(table, {}, {}, {element}));
  return elements.apply(table, {}, {element}, {});
}

/// A listener on port 80 of an address that level process would give to a Service.
Result<void> try_low_port() {
  Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return system_error("net", "socket", "TCP", errno);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(80);
  name.sin_addr.s_addr = htonl(0x7f60fffe);  // 127.96.255.254
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 &&
      errno != EADDRINUSE) {
    return system_error("net", "bind", "127.96.255.254:80", errno);
  }
  return {};
}

}  // namespace
}  // namespace net

std::vector<NetworkAbility> NetProbe::run() {
  using namespace net;
  std::vector<NetworkAbility> out;
  auto scratch = NetworkNamespace::create();
  const Result<void> made = scratch ? Result<void>() : Result<void>(scratch.error());
  out.push_back(row("network namespaces", made, "made one and left it",
                    "pods share the machine's network: level process, addresses in 127.128.0.0/12",
                    "run as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN"));
  const Error missing(Error::unsupported, "net", "not tried: network namespaces do not work");
  out.push_back(row("pod links", scratch ? try_veth(*scratch) : Result<void>(missing),
                    "made a veth pair, a link without wire and an unreachable route",
                    "no routed pod network: level process", "run as root; the kernel needs CONFIG_VETH"));
  out.push_back(
      row("nftables", scratch ? try_nftables(*scratch) : Result<void>(missing),
          "made a table with our maps, added and removed an element",
          "Services go through the userspace relay: clients' addresses are lost, off-cluster traffic of "
          "pods is not masqueraded",
          "run as root; the kernel needs CONFIG_NF_TABLES, NFT_NAT, NFT_NUMGEN, NFT_FIB_INET, NFT_REJECT"));
  out.push_back(row("low ports", try_low_port(), "bound 127.96.255.254:80",
                    "Services of level process with ports below 1024 cannot be served",
                    "sysctl net.ipv4.ip_unprivileged_port_start=0, or CAP_NET_BIND_SERVICE"));
  return out;
}

bool NetProbe::has(const std::vector<NetworkAbility>& abilities, std::string_view name) {
  for (const auto& ability : abilities) {
    if (ability.name == name) return ability.available;
  }
  return false;
}

}  // namespace orchestra
