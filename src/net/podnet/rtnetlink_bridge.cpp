// RouteSocket: a bridge and its ports.
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "net/podnet/rtnetlink.hpp"
#include "net/podnet/rtnetlink_message.hpp"

namespace orchestra::net {
namespace {

void put_filter(Message& message, bool filters) {
  ::mnl_attr_put_u8(message.header, IFLA_BR_NF_CALL_IPTABLES, filters ? 1 : 0);
  ::mnl_attr_put_u8(message.header, IFLA_BR_NF_CALL_IP6TABLES, filters ? 1 : 0);
}

}  // namespace

Result<void> RouteSocket::add_bridge(const std::string& name, const std::string& mac, int mtu) {
  Message message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  auto* header = message.header;
  message.extra<ifinfomsg>()->ifi_family = AF_UNSPEC;
  ::mnl_attr_put_strz(header, IFLA_IFNAME, name.c_str());
  ::mnl_attr_put(header, IFLA_ADDRESS, mac.size(), mac.data());
  ::mnl_attr_put_u32(header, IFLA_MTU, static_cast<std::uint32_t>(mtu));
  auto* info = ::mnl_attr_nest_start(header, IFLA_LINKINFO);
  ::mnl_attr_put_strz(header, IFLA_INFO_KIND, "bridge");
  auto* data = ::mnl_attr_nest_start(header, IFLA_INFO_DATA);
  ::mnl_attr_put_u32(header, IFLA_BR_FORWARD_DELAY, 0);  // there are no loops among pods
  ::mnl_attr_put_u8(header, IFLA_BR_MCAST_SNOOPING, 0);  // nobody asks who listens, so everybody gets it
  put_filter(message, true);
  ::mnl_attr_nest_end(header, data);
  ::mnl_attr_nest_end(header, info);
  return request(header, "new bridge " + name);
}

Result<void> RouteSocket::set_bridge_filter(int bridge, bool filters) {
  Message message(RTM_NEWLINK, 0);
  auto* body = message.extra<ifinfomsg>();
  body->ifi_family = AF_UNSPEC;
  body->ifi_index = bridge;
  auto* info = ::mnl_attr_nest_start(message.header, IFLA_LINKINFO);
  ::mnl_attr_put_strz(message.header, IFLA_INFO_KIND, "bridge");
  auto* data = ::mnl_attr_nest_start(message.header, IFLA_INFO_DATA);
  put_filter(message, filters);
  ::mnl_attr_nest_end(message.header, data);
  ::mnl_attr_nest_end(message.header, info);
  return request(message.header, "nf_call_iptables of bridge " + std::to_string(bridge));
}

Result<void> RouteSocket::set_bridge_port(int link, int bridge) {
  const std::string what = "port " + std::to_string(link) + " of bridge " + std::to_string(bridge);
  Message join(RTM_NEWLINK, 0);
  auto* body = join.extra<ifinfomsg>();
  body->ifi_family = AF_UNSPEC;
  body->ifi_index = link;
  ::mnl_attr_put_u32(join.header, IFLA_MASTER, static_cast<std::uint32_t>(bridge));
  ORC_TRY(request(join.header, what));
  Message hairpin(RTM_SETLINK, 0);
  body = hairpin.extra<ifinfomsg>();
  body->ifi_family = AF_BRIDGE;
  body->ifi_index = link;
  auto* options = ::mnl_attr_nest_start(hairpin.header, IFLA_PROTINFO);
  ::mnl_attr_put_u8(hairpin.header, IFLA_BRPORT_MODE, 1);
  ::mnl_attr_nest_end(hairpin.header, options);
  return request(hairpin.header, "hairpin of " + what);
}

}  // namespace orchestra::net
