// RouteSocket: the tunnel device between machines that share no link, and whom it knows.
#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "net/podnet/rtnetlink.hpp"
#include "net/podnet/rtnetlink_message.hpp"

namespace orchestra::net {
namespace {

void write_neighbour(Message& message, int link, RouteSocket::Table table, const Neighbour& entry) {
  const bool forwarding = table == RouteSocket::Table::forwarding;
  auto* body = message.extra<ndmsg>();
  body->ndm_family = forwarding ? AF_BRIDGE : entry.address.is_v4() ? AF_INET : AF_INET6;
  body->ndm_ifindex = link;
  body->ndm_state = forwarding ? NUD_PERMANENT | NUD_NOARP : NUD_PERMANENT;
  body->ndm_flags = forwarding ? NTF_SELF : 0;
  put_address(message.header, NDA_DST, entry.address);
  ::mnl_attr_put(message.header, NDA_LLADDR, entry.mac.size(), entry.mac.data());
}

}  // namespace

Result<void> RouteSocket::add_tunnel(const NewTunnel& tunnel) {
  Message message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  auto* header = message.header;
  message.extra<ifinfomsg>()->ifi_family = AF_UNSPEC;
  ::mnl_attr_put_strz(header, IFLA_IFNAME, tunnel.name.c_str());
  ::mnl_attr_put(header, IFLA_ADDRESS, tunnel.mac.size(), tunnel.mac.data());
  ::mnl_attr_put_u32(header, IFLA_MTU, static_cast<std::uint32_t>(tunnel.mtu));
  auto* info = ::mnl_attr_nest_start(header, IFLA_LINKINFO);
  ::mnl_attr_put_strz(header, IFLA_INFO_KIND, "vxlan");
  auto* data = ::mnl_attr_nest_start(header, IFLA_INFO_DATA);
  ::mnl_attr_put_u32(header, IFLA_VXLAN_ID, tunnel.vni);
  ::mnl_attr_put_u16(header, IFLA_VXLAN_PORT, htons(tunnel.port));
  ::mnl_attr_put_u8(header, IFLA_VXLAN_LEARNING, 0);
  if (tunnel.local) put_address(header, IFLA_VXLAN_LOCAL, *tunnel.local);
  ::mnl_attr_nest_end(header, data);
  ::mnl_attr_nest_end(header, info);
  return request(header, "new tunnel " + tunnel.name);
}

Result<void> RouteSocket::set_mtu(int link, int mtu) {
  Message message(RTM_NEWLINK, 0);
  auto* info = message.extra<ifinfomsg>();
  info->ifi_family = AF_UNSPEC;
  info->ifi_index = link;
  ::mnl_attr_put_u32(message.header, IFLA_MTU, static_cast<std::uint32_t>(mtu));
  return request(message.header, "MTU of link " + std::to_string(link));
}

Result<void> RouteSocket::set_mac(int link, const std::string& mac) {
  Message message(RTM_NEWLINK, 0);
  auto* info = message.extra<ifinfomsg>();
  info->ifi_family = AF_UNSPEC;
  info->ifi_index = link;
  ::mnl_attr_put(message.header, IFLA_ADDRESS, mac.size(), mac.data());
  return request(message.header, "hardware address of link " + std::to_string(link));
}

Result<void> RouteSocket::set_neighbour(int link, Table table, const Neighbour& entry) {
  Message message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
  write_neighbour(message, link, table, entry);
  return request(message.header, "neighbour " + entry.address.to_string());
}

Result<void> RouteSocket::remove_neighbour(int link, Table table, const Neighbour& entry) {
  Message message(RTM_DELNEIGH, 0);
  write_neighbour(message, link, table, entry);
  auto done = request(message.header, "removal of neighbour " + entry.address.to_string());
  if (!done && done.error().message().find("ENOENT") != std::string::npos) return {};
  return done;
}

Result<std::vector<Neighbour>> RouteSocket::neighbours(int link, Table table) {
  std::vector<Neighbour> out;
  if (table == Table::forwarding) {
    ORC_TRY(add_neighbours(link, table, AF_BRIDGE, out));
    return out;
  }
  ORC_TRY(add_neighbours(link, table, AF_INET, out));
  ORC_TRY(add_neighbours(link, table, AF_INET6, out));
  return out;
}

Result<void> RouteSocket::add_neighbours(int link, Table table, unsigned char family,
                                         std::vector<Neighbour>& out) {
  const bool forwarding = table == Table::forwarding;
  Message message(RTM_GETNEIGH, NLM_F_DUMP);
  auto* body = message.extra<ndmsg>();
  body->ndm_family = family;
  if (forwarding) {
    body->ndm_ifindex = link;
  } else {
    ::mnl_attr_put_u32(message.header, NDA_IFINDEX, static_cast<std::uint32_t>(link));
  }
  return dump(message.header, "neighbours of link " + std::to_string(link), [&](const nlmsghdr* header) {
    const auto* found = static_cast<const ndmsg*>(::mnl_nlmsg_get_payload(header));
    if (found->ndm_ifindex != link || (found->ndm_state & NUD_PERMANENT) == 0) return;
    Neighbour one;
    bool has_address = false;
    for_each_attribute(header, sizeof(ndmsg), [&](const nlattr* attribute) {
      if (::mnl_attr_get_type(attribute) == NDA_DST) {
        one.address = read_address(attribute);
        has_address = true;
      }
      if (::mnl_attr_get_type(attribute) == NDA_LLADDR) {
        one.mac.assign(static_cast<const char*>(::mnl_attr_get_payload(attribute)),
                       ::mnl_attr_get_payload_len(attribute));
      }
    });
    if (has_address) out.push_back(std::move(one));
  });
}

}  // namespace orchestra::net
