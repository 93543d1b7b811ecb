#include "net/podnet/rtnetlink.hpp"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "net/podnet/rtnetlink_message.hpp"

namespace orchestra::net {
namespace {

constexpr std::size_t kAnswerBytes = 64 << 10;  // the kernel fills at most 32 KiB per read of a dump
constexpr int kDumpTriesMax = 8;
constexpr int kAnswerSecondsMax = 5;

/// The kernel's sentence in an extended acknowledgement, or "".
std::string extended_text(const nlmsghdr* header, const nlmsgerr* error) {
  if ((header->nlmsg_flags & NLM_F_ACK_TLVS) == 0) return "";
  std::size_t skip = sizeof(nlmsgerr);
  if ((header->nlmsg_flags & NLM_F_CAPPED) == 0) skip += ::mnl_nlmsg_get_payload_len(&error->msg);
  if (header->nlmsg_len <= MNL_NLMSG_HDRLEN + skip) return "";
  std::string text;
  const auto* first = reinterpret_cast<const char*>(header) + MNL_NLMSG_HDRLEN + MNL_ALIGN(skip);
  const auto* end = reinterpret_cast<const char*>(header) + header->nlmsg_len;
  walk_attributes(first, end, [&](const nlattr* at) {
    if (::mnl_attr_get_type(at) == NLMSGERR_ATTR_MSG) text = ::mnl_attr_get_str(at);
  });
  return text;
}

Error kernel_error(const nlmsghdr* header, const std::string& what) {
  const auto* error = static_cast<const nlmsgerr*>(::mnl_nlmsg_get_payload(header));
  const std::string text = extended_text(header, error);
  return system_error("podnet", "rtnetlink", text.empty() ? what : what + " (" + text + ")", -error->error);
}

void read_vxlan(const nlattr* data, Link& link) {
  const auto* inside = static_cast<const char*>(::mnl_attr_get_payload(data));
  walk_attributes(inside, inside + ::mnl_attr_get_payload_len(data), [&](const nlattr* nested) {
    if (::mnl_attr_get_type(nested) == IFLA_VXLAN_ID) link.vni = ::mnl_attr_get_u32(nested);
    if (::mnl_attr_get_type(nested) == IFLA_VXLAN_PORT) link.tunnel_port = ntohs(::mnl_attr_get_u16(nested));
    if (::mnl_attr_get_type(nested) == IFLA_VXLAN_LOCAL || ::mnl_attr_get_type(nested) == IFLA_VXLAN_LOCAL6)
      link.tunnel_local = read_address(nested);
  });
}

void read_bridge(const nlattr* data, Link& link) {
  const auto* inside = static_cast<const char*>(::mnl_attr_get_payload(data));
  walk_attributes(inside, inside + ::mnl_attr_get_payload_len(data), [&](const nlattr* nested) {
    if (::mnl_attr_get_type(nested) == IFLA_BR_NF_CALL_IPTABLES)
      link.filters4 = ::mnl_attr_get_u8(nested) != 0;
    if (::mnl_attr_get_type(nested) == IFLA_BR_NF_CALL_IP6TABLES)
      link.filters6 = ::mnl_attr_get_u8(nested) != 0;
  });
}

Link read_link(const nlmsghdr* header) {
  Link link;
  const auto* info = static_cast<const ifinfomsg*>(::mnl_nlmsg_get_payload(header));
  link.index = info->ifi_index;
  link.up = (info->ifi_flags & IFF_UP) != 0;
  for_each_attribute(header, sizeof(ifinfomsg), [&](const nlattr* attribute) {
    switch (::mnl_attr_get_type(attribute)) {
      case IFLA_IFNAME:
        link.name = ::mnl_attr_get_str(attribute);
        break;
      case IFLA_IFALIAS:
        link.alias = ::mnl_attr_get_str(attribute);
        break;
      case IFLA_MTU:
        link.mtu = static_cast<int>(::mnl_attr_get_u32(attribute));
        break;
      case IFLA_MASTER:
        link.master = static_cast<int>(::mnl_attr_get_u32(attribute));
        break;
      case IFLA_LINK:
        link.peer_index = static_cast<int>(::mnl_attr_get_u32(attribute));
        break;
      case IFLA_ADDRESS:
        link.mac.assign(static_cast<const char*>(::mnl_attr_get_payload(attribute)),
                        ::mnl_attr_get_payload_len(attribute));
        break;
      case IFLA_LINKINFO: {
        const auto* inside = static_cast<const char*>(::mnl_attr_get_payload(attribute));
        walk_attributes(inside, inside + ::mnl_attr_get_payload_len(attribute), [&](const nlattr* nested) {
          if (::mnl_attr_get_type(nested) == IFLA_INFO_KIND) link.kind = ::mnl_attr_get_str(nested);
          if (::mnl_attr_get_type(nested) == IFLA_INFO_DATA && link.kind == "vxlan") read_vxlan(nested, link);
          if (::mnl_attr_get_type(nested) == IFLA_INFO_DATA && link.kind == "bridge")
            read_bridge(nested, link);
        });
        break;
      }
      default:
        break;
    }
  });
  return link;
}

Route read_route(const nlmsghdr* header) {
  Route route;
  const auto* message = static_cast<const rtmsg*>(::mnl_nlmsg_get_payload(header));
  route.destination.prefix = message->rtm_dst_len;
  route.destination.base.family = message->rtm_family == AF_INET ? 4 : 6;
  route.type = message->rtm_type;
  route.protocol = message->rtm_protocol;
  route.scope = message->rtm_scope;
  route.table = message->rtm_table;
  route.onlink = (message->rtm_flags & RTNH_F_ONLINK) != 0;
  for_each_attribute(header, sizeof(rtmsg), [&](const nlattr* attribute) {
    switch (::mnl_attr_get_type(attribute)) {
      case RTA_DST:
        route.destination.base = read_address(attribute);
        break;
      case RTA_GATEWAY:
        route.gateway = read_address(attribute);
        break;
      case RTA_PREFSRC:
        route.source = read_address(attribute);
        break;
      case RTA_OIF:
        route.link = static_cast<int>(::mnl_attr_get_u32(attribute));
        break;
      case RTA_PRIORITY:
        route.metric = ::mnl_attr_get_u32(attribute);
        break;
      case RTA_TABLE:
        route.table = ::mnl_attr_get_u32(attribute);
        break;
      default:
        break;
    }
  });
  return route;
}

void write_route(Message& message, const Route& route) {
  auto* body = message.extra<rtmsg>();
  body->rtm_family = route.destination.base.is_v4() ? AF_INET : AF_INET6;
  body->rtm_dst_len = static_cast<unsigned char>(route.destination.prefix);
  body->rtm_table = static_cast<unsigned char>(route.table);
  body->rtm_protocol = route.protocol;
  body->rtm_scope = route.scope;
  body->rtm_type = route.type;
  if (route.onlink) body->rtm_flags = RTNH_F_ONLINK;
  if (route.destination.prefix > 0) put_address(message.header, RTA_DST, route.destination.base);
  if (route.gateway) put_address(message.header, RTA_GATEWAY, *route.gateway);
  if (route.source) put_address(message.header, RTA_PREFSRC, *route.source);
  if (route.link != 0) ::mnl_attr_put_u32(message.header, RTA_OIF, static_cast<std::uint32_t>(route.link));
  if (route.metric != 0) ::mnl_attr_put_u32(message.header, RTA_PRIORITY, route.metric);
}

}  // namespace

Result<RouteSocket> RouteSocket::open() {
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd) return system_error("podnet", "socket", "NETLINK_ROUTE", errno);
  const int on = 1;
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
  const timeval deadline{kAnswerSecondsMax, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
  return RouteSocket(std::move(fd));
}

Result<void> RouteSocket::request(nlmsghdr* message, const std::string& what) {
  message->nlmsg_flags |= NLM_F_ACK;
  message->nlmsg_seq = ++sequence_;
  if (::send(fd_.get(), message, message->nlmsg_len, 0) < 0) {
    return system_error("podnet", "send", what, errno);
  }
  std::vector<char> buffer(kAnswerBytes);
  while (true) {
    const auto size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return system_error("podnet", "recv", what, errno);
    int left = static_cast<int>(size);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); ::mnl_nlmsg_ok(header, left);
         header = ::mnl_nlmsg_next(header, &left)) {
      if (header->nlmsg_seq != sequence_ || header->nlmsg_type != NLMSG_ERROR) continue;
      const auto* error = static_cast<const nlmsgerr*>(::mnl_nlmsg_get_payload(header));
      if (error->error == 0) return {};
      return kernel_error(header, what);
    }
  }
}

Result<bool> RouteSocket::dump_once(nlmsghdr* message, const std::string& what,
                                    const std::function<void(const nlmsghdr*)>& each) {
  message->nlmsg_seq = ++sequence_;
  if (::send(fd_.get(), message, message->nlmsg_len, 0) < 0) {
    return system_error("podnet", "send", what, errno);
  }
  std::vector<char> buffer(kAnswerBytes);
  bool whole = true;
  while (true) {
    const auto size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return system_error("podnet", "recv", what, errno);
    int left = static_cast<int>(size);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); ::mnl_nlmsg_ok(header, left);
         header = ::mnl_nlmsg_next(header, &left)) {
      if (header->nlmsg_seq != sequence_) continue;
      if ((header->nlmsg_flags & NLM_F_DUMP_INTR) != 0) whole = false;
      if (header->nlmsg_type == NLMSG_DONE) return whole;
      if (header->nlmsg_type == NLMSG_ERROR) return kernel_error(header, what);
      each(header);
    }
  }
}

Result<void> RouteSocket::dump(nlmsghdr* message, const std::string& what,
                               const std::function<void(const nlmsghdr*)>& each) {
  for (int attempt = 0; attempt < kDumpTriesMax; ++attempt) {
    std::vector<std::string> found;  // given on only when the dump was consistent
    ORC_ASSIGN(const bool whole, dump_once(message, what, [&](const nlmsghdr* header) {
                 found.emplace_back(reinterpret_cast<const char*>(header), header->nlmsg_len);
               }));
    if (!whole) continue;
    for (const auto& bytes : found) each(reinterpret_cast<const nlmsghdr*>(bytes.data()));
    return {};
  }
  return Error(Error::busy, "podnet",
               what + " changed during each of " + std::to_string(kDumpTriesMax) + " reads");
}

Result<std::vector<Link>> RouteSocket::links() {
  Message message(RTM_GETLINK, NLM_F_DUMP);
  message.extra<ifinfomsg>()->ifi_family = AF_UNSPEC;
  std::vector<Link> out;
  ORC_TRY(dump(message.header, "list of links",
               [&](const nlmsghdr* header) { out.push_back(read_link(header)); }));
  return out;
}

Result<bool> RouteSocket::ask(nlmsghdr* message, const std::string& what, std::uint16_t wanted, int absent,
                              const std::function<void(const nlmsghdr*)>& answer) {
  message->nlmsg_seq = ++sequence_;
  if (::send(fd_.get(), message, message->nlmsg_len, 0) < 0) {
    return system_error("podnet", "send", what, errno);
  }
  std::vector<char> buffer(kAnswerBytes);
  while (true) {
    const auto size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return system_error("podnet", "recv", what, errno);
    int left = static_cast<int>(size);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); ::mnl_nlmsg_ok(header, left);
         header = ::mnl_nlmsg_next(header, &left)) {
      if (header->nlmsg_seq != sequence_) continue;
      if (header->nlmsg_type == wanted) {
        answer(header);
        return true;
      }
      if (header->nlmsg_type != NLMSG_ERROR) continue;
      const auto* error = static_cast<const nlmsgerr*>(::mnl_nlmsg_get_payload(header));
      if (error->error == -absent) return false;
      return kernel_error(header, what);
    }
  }
}

Result<std::optional<Link>> RouteSocket::find_link(const std::string& name) {
  Message message(RTM_GETLINK, 0);
  message.extra<ifinfomsg>()->ifi_family = AF_UNSPEC;
  ::mnl_attr_put_strz(message.header, IFLA_IFNAME, name.c_str());
  std::optional<Link> out;
  ORC_TRY(ask(message.header, "link " + name, RTM_NEWLINK, ENODEV,
              [&](const nlmsghdr* header) { out = read_link(header); }));
  return out;
}

Result<void> RouteSocket::add_veth(const NewVeth& veth) {
  Message message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  message.extra<ifinfomsg>()->ifi_family = AF_UNSPEC;
  auto* header = message.header;
  const auto put_common = [&](const std::string& name, const std::string& mac) {
    ::mnl_attr_put_strz(header, IFLA_IFNAME, name.c_str());
    ::mnl_attr_put(header, IFLA_ADDRESS, mac.size(), mac.data());
    ::mnl_attr_put_u32(header, IFLA_MTU, static_cast<std::uint32_t>(veth.mtu));
    ::mnl_attr_put_u32(header, IFLA_NUM_TX_QUEUES, 1);
    ::mnl_attr_put_u32(header, IFLA_NUM_RX_QUEUES, 1);
  };
  put_common(veth.name, veth.mac);
  auto* info = ::mnl_attr_nest_start(header, IFLA_LINKINFO);
  ::mnl_attr_put_strz(header, IFLA_INFO_KIND, "veth");
  auto* data = ::mnl_attr_nest_start(header, IFLA_INFO_DATA);
  auto* peer = ::mnl_attr_nest_start(header, VETH_INFO_PEER);
  ::mnl_nlmsg_put_extra_header(header, sizeof(ifinfomsg));
  put_common(veth.peer_name, veth.peer_mac);
  if (veth.peer_namespace >= 0) {
    ::mnl_attr_put_u32(header, IFLA_NET_NS_FD, static_cast<std::uint32_t>(veth.peer_namespace));
  }
  ::mnl_attr_nest_end(header, peer);
  ::mnl_attr_nest_end(header, data);
  ::mnl_attr_nest_end(header, info);
  return request(header, "new veth pair " + veth.name);
}

Result<void> RouteSocket::add_sink(const std::string& name, int mtu) {
  Result<void> done;
  for (const char* kind : {"dummy", "bridge"}) {
    done = add_simple_link(name, kind, mtu, false);
    if (done || !done.error().is(Error::unsupported)) return done;
  }
  return done;
}

Result<void> RouteSocket::add_rate_link(const std::string& name, int mtu) {
  return add_simple_link(name, "ifb", mtu, true);
}

Result<void> RouteSocket::add_simple_link(const std::string& name, const char* kind, int mtu,
                                          bool one_queue) {
  Message message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  auto* body = message.extra<ifinfomsg>();
  body->ifi_family = AF_UNSPEC;
  body->ifi_flags = body->ifi_change = IFF_NOARP;  // nobody is there to be asked
  ::mnl_attr_put_strz(message.header, IFLA_IFNAME, name.c_str());
  ::mnl_attr_put_u32(message.header, IFLA_MTU, static_cast<std::uint32_t>(mtu));
  if (one_queue) {
    ::mnl_attr_put_u32(message.header, IFLA_NUM_TX_QUEUES, 1);
    ::mnl_attr_put_u32(message.header, IFLA_NUM_RX_QUEUES, 1);
  }
  auto* info = ::mnl_attr_nest_start(message.header, IFLA_LINKINFO);
  ::mnl_attr_put_strz(message.header, IFLA_INFO_KIND, kind);
  ::mnl_attr_nest_end(message.header, info);
  return request(message.header, "new link " + name);
}

Result<void> RouteSocket::set_link(int index, const std::optional<std::string>& alias, bool up) {
  Message message(RTM_NEWLINK, 0);
  auto* info = message.extra<ifinfomsg>();
  info->ifi_family = AF_UNSPEC;
  info->ifi_index = index;
  info->ifi_change = IFF_UP;
  info->ifi_flags = up ? IFF_UP : 0;
  if (alias) ::mnl_attr_put(message.header, IFLA_IFALIAS, alias->size(), alias->data());
  return request(message.header, "link " + std::to_string(index));
}

Result<void> RouteSocket::remove_link(int index) {
  Message message(RTM_DELLINK, 0);
  auto* info = message.extra<ifinfomsg>();
  info->ifi_family = AF_UNSPEC;
  info->ifi_index = index;
  auto done = request(message.header, "removal of link " + std::to_string(index));
  if (!done && done.error().message().find("ENODEV") != std::string::npos) return {};
  return done;
}

Result<void> RouteSocket::add_address(int link, const IpAddress& address, int prefix) {
  Message message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
  auto* body = message.extra<ifaddrmsg>();
  body->ifa_family = address.is_v4() ? AF_INET : AF_INET6;
  body->ifa_flags = address.is_v4() ? 0 : IFA_F_NODAD;
  body->ifa_prefixlen = static_cast<std::uint8_t>(prefix);
  body->ifa_scope = RT_SCOPE_UNIVERSE;
  body->ifa_index = static_cast<std::uint32_t>(link);
  put_address(message.header, IFA_LOCAL, address);
  put_address(message.header, IFA_ADDRESS, address);
  if (address.is_v4() && prefix < 31) {
    const std::uint32_t hosts = ~std::uint32_t{0} >> prefix;
    put_address(message.header, IFA_BROADCAST, IpAddress::v4(address.v4_number() | hosts));
  }
  return request(message.header, "address " + address.to_string());
}

Result<std::vector<IpAddress>> RouteSocket::addresses(int link) {
  Message message(RTM_GETADDR, NLM_F_DUMP);
  auto* body = message.extra<ifaddrmsg>();
  body->ifa_family = AF_INET;
  body->ifa_index = static_cast<std::uint32_t>(link);
  std::vector<IpAddress> out;
  ORC_TRY(dump(message.header, "addresses of link " + std::to_string(link), [&](const nlmsghdr* header) {
    const auto* found = static_cast<const ifaddrmsg*>(::mnl_nlmsg_get_payload(header));
    if (static_cast<int>(found->ifa_index) != link) return;
    for_each_attribute(header, sizeof(ifaddrmsg), [&](const nlattr* attribute) {
      if (::mnl_attr_get_type(attribute) == IFA_LOCAL) out.push_back(read_address(attribute));
    });
  }));
  return out;
}

Result<void> RouteSocket::add_route(const Route& route, IfExists if_exists) {
  const auto how = if_exists == IfExists::refuse ? NLM_F_EXCL : NLM_F_REPLACE;
  Message message(RTM_NEWROUTE, static_cast<std::uint16_t>(NLM_F_CREATE | how));
  write_route(message, route);
  return request(message.header, "route " + route.destination.to_string());
}

Result<void> RouteSocket::remove_route(const Route& route) {
  Message message(RTM_DELROUTE, 0);
  write_route(message, route);
  auto done = request(message.header, "removal of route " + route.destination.to_string());
  if (!done && done.error().message().find("ESRCH") != std::string::npos) return {};
  return done;
}

Result<std::vector<Route>> RouteSocket::routes(int family) {
  Message message(RTM_GETROUTE, NLM_F_DUMP);
  message.extra<rtmsg>()->rtm_family = family == 4 ? AF_INET : AF_INET6;
  std::vector<Route> out;
  ORC_TRY(dump(message.header, "list of routes",
               [&](const nlmsghdr* header) { out.push_back(read_route(header)); }));
  return out;
}

Result<Route> RouteSocket::lookup(const IpAddress& address) {
  Message message(RTM_GETROUTE, 0);
  auto* body = message.extra<rtmsg>();
  body->rtm_family = AF_INET;
  body->rtm_dst_len = 32;
  put_address(message.header, RTA_DST, address);
  Route out;
  ORC_ASSIGN(const bool found, ask(message.header, "route to " + address.to_string(), RTM_NEWROUTE,
                                   ENETUNREACH, [&](const nlmsghdr* header) { out = read_route(header); }));
  if (!found) return Error(Error::unavailable, "podnet", "no route leads to " + address.to_string());
  return out;
}

}  // namespace orchestra::net
