#include "net/lb/nft_netlink.hpp"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "net/podnet/in_namespace.hpp"

namespace orchestra::net {
namespace {

constexpr std::size_t kElementsPerMessage = 500;  // one nested attribute holds at most 64 KiB
constexpr std::size_t kElementBytesMax =
    128;  // IPv6: a key of 24 bytes with a verdict, or of 32 without a value
constexpr std::size_t kMessageBytes = kElementsPerMessage * kElementBytesMax + 512;
constexpr std::size_t kAnswerBytes = 64 << 10;
constexpr int kSendBufferBytes = 64 << 20;
constexpr int kAnswerSecondsMax = 10;

std::uint16_t nft_type(int message) {
  return static_cast<std::uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | message);
}

std::uint8_t protocol_of(const NftTable& table) { return table.family == 4 ? NFPROTO_IPV4 : NFPROTO_IPV6; }

nlmsghdr* begin_message(char* bytes, std::uint16_t type, std::uint16_t flags, std::uint32_t sequence,
                        std::uint8_t family, std::uint16_t resource) {
  auto* header = ::mnl_nlmsg_put_header(bytes);
  header->nlmsg_type = type;
  header->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  header->nlmsg_seq = sequence;
  auto* body = static_cast<nfgenmsg*>(::mnl_nlmsg_put_extra_header(header, sizeof(nfgenmsg)));
  body->nfgen_family = family;
  body->version = NFNETLINK_V0;
  body->res_id = htons(resource);
  return header;
}

/// Fields of a key or value in network order, each padded to four bytes.
class Registers {
 public:
  void add_address(const IpAddress& address) { add(address.bytes.data(), address.is_v4() ? 4 : 16); }
  void add_protocol(IpProtocol protocol) {
    const std::uint8_t number = protocol == IpProtocol::tcp   ? IPPROTO_TCP
                                : protocol == IpProtocol::udp ? IPPROTO_UDP
                                                              : IPPROTO_SCTP;
    add(&number, sizeof number);
  }
  void add_port(std::uint16_t port) {
    const std::uint16_t big = htons(port);
    add(&big, sizeof big);
  }
  void put(nlmsghdr* header, std::uint16_t type) const {
    auto* nest = ::mnl_attr_nest_start(header, type);
    ::mnl_attr_put(header, NFTA_DATA_VALUE, size_, bytes_);
    ::mnl_attr_nest_end(header, nest);
  }

 private:
  void add(const void* bytes, std::size_t size) {
    std::memcpy(bytes_ + size_, bytes, size);
    size_ += (size + 3) / 4 * 4;
  }
  char bytes_[32] = {};  // two addresses of IPv6
  std::size_t size_ = 0;
};

void put_key(nlmsghdr* header, const RuleElement& element) {
  Registers key;
  switch (element.map) {
    case MapKind::addresses:
      key.add_address(element.address);
      break;
    case MapKind::hairpin:
      key.add_address(element.address);
      key.add_address(element.second_address);
      break;
    case MapKind::keep_source:
    case MapKind::service:
    case MapKind::near_service:
    case MapKind::nothing:
    case MapKind::endpoint:
      key.add_address(element.address);
      key.add_protocol(element.protocol);
      key.add_port(element.port);
      break;
    case MapKind::node_service:
    case MapKind::near_node:
    case MapKind::node_nothing:
    case MapKind::node_endpoint:
      key.add_protocol(element.protocol);
      key.add_port(element.port);
      break;
  }
  key.put(header, NFTA_SET_ELEM_KEY);
}

void put_value(nlmsghdr* header, const RuleElement& element) {
  if (element.map == MapKind::endpoint || element.map == MapKind::node_endpoint) {
    Registers value;
    value.add_address(element.to_address);
    value.add_port(element.to_port);
    value.put(header, NFTA_SET_ELEM_DATA);
    return;
  }
  if (element.chain.empty()) return;  // a set
  auto* data = ::mnl_attr_nest_start(header, NFTA_SET_ELEM_DATA);
  auto* verdict = ::mnl_attr_nest_start(header, NFTA_DATA_VERDICT);
  ::mnl_attr_put_u32(header, NFTA_VERDICT_CODE, htonl(static_cast<std::uint32_t>(NFT_GOTO)));
  ::mnl_attr_put_strz(header, NFTA_VERDICT_CHAIN, element.chain.c_str());
  ::mnl_attr_nest_end(header, verdict);
  ::mnl_attr_nest_end(header, data);
}

/// Collects messages of one batch.
class BatchWriter {
 public:
  BatchWriter(const NftTable& table, std::uint32_t& sequence) : table_(table), sequence_(sequence) {
    edge(NFNL_MSG_BATCH_BEGIN);
  }
  void flush(const std::string& map) { message(NFT_MSG_DELSETELEM, map, nullptr, 0); }
  /// Elements of one map become as few messages as fit.
  void elements(int type, const std::vector<RuleElement>& all) {
    std::map<std::pair<MapKind, std::uint16_t>, std::vector<const RuleElement*>> by_map;
    for (const auto& element : all) by_map[{element.map, element.index}].push_back(&element);
    for (const auto& [map, list] : by_map) {
      const std::string name = map_name(*list.front());
      for (std::size_t at = 0; at < list.size(); at += kElementsPerMessage) {
        message(type, name, &list[at], std::min(kElementsPerMessage, list.size() - at));
      }
    }
  }
  std::string finish() {
    // One acknowledgement, of the last message: it arrives when the whole batch was decided.
    if (last_ != std::string::npos) {
      auto* header = reinterpret_cast<nlmsghdr*>(out_.data() + last_);
      header->nlmsg_flags |= NLM_F_ACK;
    }
    edge(NFNL_MSG_BATCH_END);
    return std::move(out_);
  }

 private:
  void edge(std::uint16_t type) {
    alignas(nlmsghdr) char bytes[64] = {};
    auto* header = begin_message(bytes, type, 0, ++sequence_, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
    out_.append(bytes, header->nlmsg_len);
  }
  void message(int type, const std::string& map, const RuleElement* const* first, std::size_t count) {
    const std::uint16_t flags = type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0;
    auto* header = begin_message(scratch_.data(), nft_type(type), flags, ++sequence_, protocol_of(table_), 0);
    ::mnl_attr_put_strz(header, NFTA_SET_ELEM_LIST_TABLE, table_.name.c_str());
    ::mnl_attr_put_strz(header, NFTA_SET_ELEM_LIST_SET, map.c_str());
    if (count > 0) {
      auto* list = ::mnl_attr_nest_start(header, NFTA_SET_ELEM_LIST_ELEMENTS);
      for (std::size_t i = 0; i < count; ++i) {
        auto* element = ::mnl_attr_nest_start(header, static_cast<std::uint16_t>(i + 1));
        put_key(header, *first[i]);
        if (type == NFT_MSG_NEWSETELEM) put_value(header, *first[i]);
        ::mnl_attr_nest_end(header, element);
      }
      ::mnl_attr_nest_end(header, list);
    }
    last_ = out_.size();
    out_.append(scratch_.data(), header->nlmsg_len);
  }

  const NftTable& table_;
  std::uint32_t& sequence_;
  std::string out_;
  std::size_t last_ = std::string::npos;
  std::vector<char> scratch_ = std::vector<char>(kMessageBytes);
};

}  // namespace

std::string encode_element_batch(const NftTable& table, const std::vector<std::string>& flush,
                                 const std::vector<RuleElement>& removed,
                                 const std::vector<RuleElement>& added, std::uint32_t& sequence) {
  BatchWriter writer(table, sequence);
  for (const auto& map : flush) writer.flush(map);
  writer.elements(NFT_MSG_DELSETELEM, removed);
  writer.elements(NFT_MSG_NEWSETELEM, added);
  return writer.finish();
}

Result<NftElements> NftElements::open(const NetworkNamespace& name_space) {
  return in_namespace_get<NftElements>(name_space, []() -> Result<NftElements> {
    Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
    if (!fd) return system_error("net", "socket", "NETLINK_NETFILTER", errno);
    const int size = kSendBufferBytes;
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0) {
      ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    }
    const int on = 1;
    ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
    ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
    const timeval deadline{kAnswerSecondsMax, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    return NftElements(std::move(fd));
  });
}

Result<void> NftElements::send(const std::string& bytes) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (::sendto(fd_.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&kernel),
               sizeof kernel) < 0) {
    return system_error("net", "send", "nftables batch of " + std::to_string(bytes.size()) + " bytes", errno);
  }
  return {};
}

/// Waits for the answer to `last`; an error of any message from `first` on fails the whole batch.
Result<void> NftElements::read_answers(std::uint32_t first, std::uint32_t last) {
  std::vector<char> buffer(kAnswerBytes);
  Result<void> answer;
  while (true) {
    const auto size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return system_error("net", "recv", "nftables answer", errno);
    int left = static_cast<int>(size);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); ::mnl_nlmsg_ok(header, left);
         header = ::mnl_nlmsg_next(header, &left)) {
      if (header->nlmsg_seq < first || header->nlmsg_seq > last || header->nlmsg_type != NLMSG_ERROR)
        continue;
      const auto* error = static_cast<const nlmsgerr*>(::mnl_nlmsg_get_payload(header));
      if (error->error != 0 && answer) {
        answer = system_error("net", "nftables", "map elements", -error->error);
      }
      // The batch's own frame is refused as a whole (no permission): nothing else will come.
      if (header->nlmsg_seq == last || header->nlmsg_seq == first) return answer;
    }
  }
}

Result<void> NftElements::apply(const NftTable& table, const std::vector<std::string>& flush,
                                const std::vector<RuleElement>& removed,
                                const std::vector<RuleElement>& added) {
  if (flush.empty() && removed.empty() && added.empty()) return {};
  const std::uint32_t first = sequence_ + 1;
  const std::string bytes = encode_element_batch(table, flush, removed, added, sequence_);
  ORC_TRY(send(bytes));
  return read_answers(first, sequence_ - 1);  // the last number is the closing frame's
}

Result<std::uint32_t> NftElements::generation() {
  alignas(nlmsghdr) char bytes[64] = {};
  const auto* header = begin_message(bytes, nft_type(NFT_MSG_GETGEN), 0, ++sequence_, NFPROTO_UNSPEC, 0);
  ORC_TRY(send(std::string(bytes, header->nlmsg_len)));
  std::vector<char> buffer(kAnswerBytes);
  while (true) {
    const auto size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return system_error("net", "recv", "nftables generation", errno);
    int left = static_cast<int>(size);
    for (auto* answer = reinterpret_cast<nlmsghdr*>(buffer.data()); ::mnl_nlmsg_ok(answer, left);
         answer = ::mnl_nlmsg_next(answer, &left)) {
      if (answer->nlmsg_seq != sequence_) continue;
      if (answer->nlmsg_type == NLMSG_ERROR) {
        const auto* error = static_cast<const nlmsgerr*>(::mnl_nlmsg_get_payload(answer));
        return system_error("net", "nftables", "generation", -error->error);
      }
      const auto* first =
          static_cast<const nlattr*>(::mnl_nlmsg_get_payload_offset(answer, sizeof(nfgenmsg)));
      for (const auto* at = first;
           ::mnl_attr_ok(at, static_cast<int>(static_cast<const char*>(::mnl_nlmsg_get_payload_tail(answer)) -
                                              reinterpret_cast<const char*>(at)));
           at = ::mnl_attr_next(at)) {
        if (::mnl_attr_get_type(at) == NFTA_GEN_ID) return ntohl(::mnl_attr_get_u32(at));
      }
    }
  }
}

Result<std::optional<NftElements::TableState>> NftElements::table_state(const NftTable& table) {
  TableState state;
  std::vector<char> buffer(kAnswerBytes);
  for (const int type : {NFT_MSG_GETTABLE, NFT_MSG_GETRULE}) {
    alignas(nlmsghdr) char bytes[512] = {};
    const std::uint16_t flags = type == NFT_MSG_GETRULE ? NLM_F_DUMP : 0;
    auto* request = begin_message(bytes, nft_type(type), flags, ++sequence_, protocol_of(table), 0);
    ::mnl_attr_put_strz(request, 1, table.name.c_str());  // NFTA_TABLE_NAME and NFTA_RULE_TABLE
    ORC_TRY(send(std::string(bytes, request->nlmsg_len)));
    bool done = false;
    while (!done) {
      const auto size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0) return system_error("net", "recv", "nftables table " + table.text(), errno);
      int left = static_cast<int>(size);
      for (auto* answer = reinterpret_cast<nlmsghdr*>(buffer.data()); ::mnl_nlmsg_ok(answer, left) && !done;
           answer = ::mnl_nlmsg_next(answer, &left)) {
        if (answer->nlmsg_seq != sequence_) continue;
        if (answer->nlmsg_type == NLMSG_ERROR) {
          const auto* error = static_cast<const nlmsgerr*>(::mnl_nlmsg_get_payload(answer));
          if (error->error == -ENOENT) return std::optional<TableState>();
          return system_error("net", "nftables", "table " + table.text(), -error->error);
        }
        if (answer->nlmsg_type == NLMSG_DONE) {
          done = true;
        } else if (type == NFT_MSG_GETRULE) {
          ++state.rules;
        } else {
          const auto* at =
              static_cast<const nlattr*>(::mnl_nlmsg_get_payload_offset(answer, sizeof(nfgenmsg)));
          const auto* end = static_cast<const char*>(::mnl_nlmsg_get_payload_tail(answer));
          for (; ::mnl_attr_ok(at, static_cast<int>(end - reinterpret_cast<const char*>(at)));
               at = ::mnl_attr_next(at)) {
            if (::mnl_attr_get_type(at) == NFTA_TABLE_HANDLE) state.handle = be64toh(::mnl_attr_get_u64(at));
          }
          done = true;
        }
      }
    }
  }
  return std::optional<TableState>(state);
}

}  // namespace orchestra::net
