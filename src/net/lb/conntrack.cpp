#include "net/lb/conntrack.hpp"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "net/podnet/in_namespace.hpp"
#include "net/podnet/machine_journal.hpp"
#include "net/podnet/rtnetlink_message.hpp"

namespace orchestra::net {
namespace {

constexpr std::size_t kAnswerBytes = 64 << 10;
constexpr int kAnswerSecondsMax = 10;

template <class F>
void walk(const void* first, const void* end, F each) {
  for (const auto* at = static_cast<const nlattr*>(first);
       ::mnl_attr_ok(at, static_cast<int>(static_cast<const char*>(end) - reinterpret_cast<const char*>(at)));
       at = ::mnl_attr_next(at)) {
    each(at);
  }
}

template <class F>
void walk_nested(const nlattr* parent, F each) {
  const auto* first = static_cast<const char*>(::mnl_attr_get_payload(parent));
  walk(first, first + ::mnl_attr_get_payload_len(parent), each);
}

struct Tuple {
  IpAddress source, destination;
  std::uint16_t source_port = 0, destination_port = 0;
  std::uint8_t protocol = 0;
};

Tuple read_tuple(const nlattr* attribute) {
  Tuple out;
  walk_nested(attribute, [&](const nlattr* part) {
    if (::mnl_attr_get_type(part) == CTA_TUPLE_IP) {
      walk_nested(part, [&](const nlattr* field) {
        const auto type = ::mnl_attr_get_type(field);
        if (type == CTA_IP_V4_SRC || type == CTA_IP_V6_SRC) out.source = read_address(field);
        if (type == CTA_IP_V4_DST || type == CTA_IP_V6_DST) out.destination = read_address(field);
      });
    }
    if (::mnl_attr_get_type(part) == CTA_TUPLE_PROTO) {
      walk_nested(part, [&](const nlattr* field) {
        if (::mnl_attr_get_type(field) == CTA_PROTO_NUM) out.protocol = ::mnl_attr_get_u8(field);
        if (::mnl_attr_get_type(field) == CTA_PROTO_SRC_PORT)
          out.source_port = ntohs(::mnl_attr_get_u16(field));
        if (::mnl_attr_get_type(field) == CTA_PROTO_DST_PORT)
          out.destination_port = ntohs(::mnl_attr_get_u16(field));
      });
    }
  });
  return out;
}

nlmsghdr* begin(char* bytes, int type, std::uint16_t flags, std::uint32_t sequence, int family) {
  auto* header = ::mnl_nlmsg_put_header(bytes);
  header->nlmsg_type = static_cast<std::uint16_t>((NFNL_SUBSYS_CTNETLINK << 8) | type);
  header->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  header->nlmsg_seq = sequence;
  auto* body = static_cast<nfgenmsg*>(::mnl_nlmsg_put_extra_header(header, sizeof(nfgenmsg)));
  body->nfgen_family = family == 4 ? AF_INET : AF_INET6;
  body->version = NFNETLINK_V0;
  return header;
}

}  // namespace

bool is_stale(const TrackedFlow& entry, const std::vector<UdpFront>& fronts) {
  const auto leads_away = [&](const UdpFront& wanted) {
    const auto front = std::lower_bound(fronts.begin(), fronts.end(), wanted);
    if (front == fronts.end() || wanted < *front) return false;
    const std::pair server{entry.server, entry.server_port};
    return std::find(front->targets.begin(), front->targets.end(), server) == front->targets.end();
  };
  if (leads_away({false, entry.front, entry.front_port, {}})) return true;
  // A node port is on every address of the node; what was not translated may be another host's port.
  const bool translated = entry.server != entry.front || entry.server_port != entry.front_port;
  return translated && leads_away({true, {}, entry.front_port, {}});
}

Result<ConntrackUse> conntrack_use(const NetworkNamespace& name_space) {
  return in_namespace_get<ConntrackUse>(name_space, []() -> Result<ConntrackUse> {
    ConntrackUse out;
    for (const auto& [name, number] : {std::pair{"net/netfilter/nf_conntrack_count", &out.entries},
                                       {"net/netfilter/nf_conntrack_max", &out.limit}}) {
      ORC_ASSIGN(const std::string text, read_sysctl(name));
      const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), *number);
      if (failed != std::errc() || end == text.data())
        return Error(Error::corrupt, "net", std::string(name) + " is \"" + text + "\"");
    }
    return out;
  });
}

std::string ConntrackAlarm::look(const ConntrackUse& use) {
  if (use.ratio() < kConntrackWellRatio) told_ = false;
  if (use.ratio() < kConntrackWarnRatio || std::exchange(told_, true)) return {};
  return "connection tracking has " + std::to_string(use.entries) + " of " + std::to_string(use.limit) +
         " entries; when there are no more new connections of pods and to Services are dropped: raise "
         "net.netfilter.nf_conntrack_max";
}

Result<ConntrackCleaner> ConntrackCleaner::open(const NetworkNamespace& name_space, int family) {
  return in_namespace_get<ConntrackCleaner>(name_space, [family]() -> Result<ConntrackCleaner> {
    Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
    if (!fd) return system_error("net", "socket", "NETLINK_NETFILTER", errno);
    const timeval deadline{kAnswerSecondsMax, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    return ConntrackCleaner(std::move(fd), family);
  });
}

Result<std::vector<TrackedFlow>> ConntrackCleaner::list() {
  alignas(nlmsghdr) char bytes[64] = {};
  const auto* request = begin(bytes, IPCTNL_MSG_CT_GET, NLM_F_DUMP, ++sequence_, family_);
  if (::send(fd_.get(), request, request->nlmsg_len, 0) < 0) {
    return system_error("net", "send", "conntrack list", errno);
  }
  std::vector<TrackedFlow> out;
  std::vector<char> buffer(kAnswerBytes);
  while (true) {
    const auto size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return system_error("net", "recv", "conntrack list", errno);
    int left = static_cast<int>(size);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); ::mnl_nlmsg_ok(header, left);
         header = ::mnl_nlmsg_next(header, &left)) {
      if (header->nlmsg_seq != sequence_) continue;
      if (header->nlmsg_type == NLMSG_DONE) return out;
      if (header->nlmsg_type == NLMSG_ERROR) {
        const auto* error = static_cast<const nlmsgerr*>(::mnl_nlmsg_get_payload(header));
        return system_error("net", "conntrack", "list", -error->error);
      }
      Tuple original, reply;
      TrackedFlow entry;
      walk(::mnl_nlmsg_get_payload_offset(header, sizeof(nfgenmsg)), ::mnl_nlmsg_get_payload_tail(header),
           [&](const nlattr* attribute) {
             if (::mnl_attr_get_type(attribute) == CTA_TUPLE_REPLY) reply = read_tuple(attribute);
             if (::mnl_attr_get_type(attribute) != CTA_TUPLE_ORIG) return;
             original = read_tuple(attribute);
             entry.original_tuple.assign(static_cast<const char*>(::mnl_attr_get_payload(attribute)),
                                         ::mnl_attr_get_payload_len(attribute));
           });
      if (original.protocol == IPPROTO_TCP) {
        entry.protocol = IpProtocol::tcp;
      } else if (original.protocol == IPPROTO_SCTP) {
        entry.protocol = IpProtocol::sctp;
      } else if (original.protocol != IPPROTO_UDP) {
        continue;
      }
      entry.client = original.source;
      entry.front = original.destination;
      entry.front_port = original.destination_port;
      entry.server = reply.source;
      entry.server_port = reply.source_port;
      out.push_back(std::move(entry));
    }
  }
}

Result<void> ConntrackCleaner::remove(const TrackedFlow& entry) {
  alignas(nlmsghdr) char bytes[512] = {};
  auto* request = begin(bytes, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, ++sequence_, family_);
  ::mnl_attr_put(request, CTA_TUPLE_ORIG | NLA_F_NESTED, entry.original_tuple.size(),
                 entry.original_tuple.data());
  if (::send(fd_.get(), request, request->nlmsg_len, 0) < 0) {
    return system_error("net", "send", "conntrack removal", errno);
  }
  char answer[4096];
  while (true) {
    const auto size = ::recv(fd_.get(), answer, sizeof answer, 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return system_error("net", "recv", "conntrack removal", errno);
    const auto* header = reinterpret_cast<const nlmsghdr*>(answer);
    if (!::mnl_nlmsg_ok(header, static_cast<int>(size)) || header->nlmsg_seq != sequence_ ||
        header->nlmsg_type != NLMSG_ERROR) {
      continue;
    }
    const int failure = -static_cast<const nlmsgerr*>(::mnl_nlmsg_get_payload(header))->error;
    if (failure == 0 || failure == ENOENT) return {};
    return system_error("net", "conntrack", "removal", failure);
  }
}

Result<std::size_t> ConntrackCleaner::remove_stale(std::vector<UdpFront> fronts) {
  if (fronts.empty()) return std::size_t{0};
  std::sort(fronts.begin(), fronts.end());
  return remove_if(
      [&](const TrackedFlow& flow) { return flow.protocol == IpProtocol::udp && is_stale(flow, fronts); });
}

Result<std::size_t> ConntrackCleaner::remove_if(const std::function<bool(const TrackedFlow&)>& gone) {
  ORC_ASSIGN(const std::vector<TrackedFlow> flows, list());
  std::size_t removed = 0;
  for (const auto& flow : flows) {
    if (flow.original_tuple.size() > 256 || !gone(flow)) continue;
    ORC_TRY(remove(flow));
    ++removed;
  }
  return removed;
}

}  // namespace orchestra::net
