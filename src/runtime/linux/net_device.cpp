// The library never changes its own namespace: a child that shares our memory enters the container's, and
// does there what a socket of that namespace is needed for (try_in_child.hpp). Requests are put together
// before; the child only sends them.
#include "runtime/linux/net_device.hpp"

#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/fd.hpp"
#include "runtime/domain.hpp"
#include "runtime/linux/try_in_child.hpp"

namespace orchestra::runtime {
namespace {
constexpr std::size_t kRequestBytes = 256, kAnswerBytes = 8192;
constexpr int kCountedNamesMax = 1024;  ///< tried for a name with %d

/// One request, of fixed size so that the child needs no memory.
struct Request {
  alignas(nlmsghdr) std::array<char, kRequestBytes> bytes{};
  nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(bytes.data()); }
  const nlmsghdr* header() const { return reinterpret_cast<const nlmsghdr*>(bytes.data()); }

  template <class Body>
  Request(std::uint16_t type, std::uint16_t flags, const Body& body) {
    *header() = {static_cast<std::uint32_t>(NLMSG_LENGTH(sizeof body)), type,
                 static_cast<std::uint16_t>(NLM_F_REQUEST | flags), 1, 0};
    std::memcpy(NLMSG_DATA(header()), &body, sizeof body);
  }
  void add(std::uint16_t type, const void* value, std::size_t size) {
    auto* attribute = reinterpret_cast<rtattr*>(bytes.data() + NLMSG_ALIGN(header()->nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = static_cast<std::uint16_t>(RTA_LENGTH(size));
    std::memcpy(RTA_DATA(attribute), value, size);
    header()->nlmsg_len = NLMSG_ALIGN(header()->nlmsg_len) + RTA_ALIGN(attribute->rta_len);
  }
  bool has_room(std::size_t size) const {
    return NLMSG_ALIGN(header()->nlmsg_len) + RTA_SPACE(size) <= kRequestBytes;
  }
};

/// The answer to a request that has one: 0, or an errno. The body of the first message goes to `body`.
int ask(int socket, const Request& request, void* body = nullptr, std::size_t size = 0) {
  if (send(socket, request.bytes.data(), request.header()->nlmsg_len, 0) < 0) return errno;
  alignas(nlmsghdr) char answer[kAnswerBytes];
  ssize_t n = 0;
  do n = recv(socket, answer, sizeof answer, 0);
  while (n < 0 && errno == EINTR);
  if (n < static_cast<ssize_t>(sizeof(nlmsghdr))) return n < 0 ? errno : EPROTO;
  const auto* header = reinterpret_cast<const nlmsghdr*>(answer);
  if (header->nlmsg_type == NLMSG_ERROR) return -static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
  if (body != nullptr && header->nlmsg_len >= NLMSG_LENGTH(size)) std::memcpy(body, NLMSG_DATA(header), size);
  return 0;
}

Request find_by_name(const char* name) {
  Request request(RTM_GETLINK, 0, ifinfomsg{});
  request.add(IFLA_IFNAME, name, std::strlen(name) + 1);
  return request;
}

/// What the child does and how far it came.
struct Move {
  int name_space = -1, index = 0;
  char name[IFNAMSIZ] = {};  ///< wanted, then the one it has
  std::vector<Request> addresses;
  const char* step = "";
};

int open_socket() { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE); }

/// "eth%d" becomes the first name of that shape that is free there.
int choose_name(int there, char* name) {
  char* mark = std::strstr(name, "%d");
  if (mark == nullptr) return 0;
  char shape[IFNAMSIZ];
  std::memcpy(shape, name, sizeof shape);
  for (int i = 0; i < kCountedNamesMax; ++i) {
    std::snprintf(name, IFNAMSIZ, "%.*s%d%s", static_cast<int>(mark - name), shape, i,
                  shape + (mark - name) + 2);
    const int found = ask(there, find_by_name(name));
    if (found == ENODEV) return 0;
    if (found != 0) return found;
  }
  return EEXIST;
}

/// Runs in the child: system calls only.
int move_device(long argument) {
  Move& move = *reinterpret_cast<Move*>(argument);
  move.step = "netlink socket";
  const int here = open_socket();
  if (here < 0) return errno;
  move.step = "enter the container's network namespace";
  if (setns(move.name_space, CLONE_NEWNET) != 0) return errno;
  const int there = open_socket();
  if (there < 0) return errno;
  move.step = "name in the container";
  if (const int failed = choose_name(there, move.name)) return failed;
  move.step = "move it into the container";
  ifinfomsg link{};
  link.ifi_index = move.index;
  Request moving(RTM_NEWLINK, NLM_F_ACK, link);
  moving.add(IFLA_NET_NS_FD, &move.name_space, sizeof move.name_space);
  moving.add(IFLA_IFNAME, move.name, std::strlen(move.name) + 1);
  if (const int failed = ask(here, moving)) return failed;
  move.step = "find it in the container";
  if (const int failed = ask(there, find_by_name(move.name), &link, sizeof link)) return failed;
  move.step = "set an address";
  for (Request& request : move.addresses) {
    static_cast<ifaddrmsg*>(NLMSG_DATA(request.header()))->ifa_index =
        static_cast<std::uint32_t>(link.ifi_index);
    if (const int failed = ask(there, request); failed != 0 && failed != EEXIST) return failed;
  }
  move.step = "set it up";
  link.ifi_flags = link.ifi_change = IFF_UP;
  return ask(there, Request(RTM_NEWLINK, NLM_F_ACK, link));
}

/// The request that gives one listed address again, or nothing for one that does not move along.
std::optional<Request> address_again(const nlmsghdr* message, int index) {
  if (message->nlmsg_type != RTM_NEWADDR) return std::nullopt;
  ifaddrmsg body = *static_cast<const ifaddrmsg*>(NLMSG_DATA(message));
  if (static_cast<int>(body.ifa_index) != index || body.ifa_scope != RT_SCOPE_UNIVERSE) return std::nullopt;
  std::uint32_t flags = body.ifa_flags;
  const auto* all = reinterpret_cast<const rtattr*>(reinterpret_cast<const char*>(NLMSG_DATA(message)) +
                                                    NLMSG_ALIGN(sizeof body));
  auto left = static_cast<int>(message->nlmsg_len - NLMSG_SPACE(sizeof body));
  for (const rtattr* one = all; RTA_OK(one, left); one = RTA_NEXT(one, left)) {
    if (one->rta_type == IFA_FLAGS) std::memcpy(&flags, RTA_DATA(one), sizeof flags);
  }
  if ((flags & IFA_F_PERMANENT) == 0) return std::nullopt;
  body.ifa_flags = IFA_F_PERMANENT;
  Request request(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body);
  left = static_cast<int>(message->nlmsg_len - NLMSG_SPACE(sizeof body));
  for (const rtattr* one = all; RTA_OK(one, left); one = RTA_NEXT(one, left)) {
    const bool kept =
        one->rta_type == IFA_LOCAL || one->rta_type == IFA_ADDRESS || one->rta_type == IFA_BROADCAST;
    if (kept && request.has_room(RTA_PAYLOAD(one)))
      request.add(one->rta_type, RTA_DATA(one), RTA_PAYLOAD(one));
  }
  const std::uint32_t kept_flags = flags & (IFA_F_PERMANENT | IFA_F_NOPREFIXROUTE | IFA_F_NODAD);
  request.add(IFA_FLAGS, &kept_flags, sizeof kept_flags);
  return request;
}

Result<std::vector<Request>> addresses_of(const Fd& socket, int index) {
  const Request listing(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{});
  if (send(socket.get(), listing.bytes.data(), listing.header()->nlmsg_len, 0) < 0)
    return system_error(kDomain, "send", "RTM_GETADDR", errno);
  std::vector<Request> addresses;
  std::vector<char> answer(64 << 10);
  while (true) {
    const ssize_t n = recv(socket.get(), answer.data(), answer.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(kDomain, "recv", "RTM_GETADDR", errno);
    auto left = static_cast<std::uint32_t>(n);
    for (auto* message = reinterpret_cast<nlmsghdr*>(answer.data()); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      if (message->nlmsg_type == NLMSG_DONE) return addresses;
      if (message->nlmsg_type == NLMSG_ERROR)
        return system_error(kDomain, "RTM_GETADDR", "", -static_cast<nlmsgerr*>(NLMSG_DATA(message))->error);
      if (auto again = address_again(message, index)) addresses.push_back(*again);
    }
  }
}
}  // namespace

Result<void> move_net_devices(const std::map<std::string, std::string>& devices, int pid) {
  if (devices.empty()) return {};
  ORC_ASSIGN(const Fd name_space, open_file("/proc/" + std::to_string(pid) + "/ns/net", O_RDONLY));
  const Fd socket(open_socket());
  if (!socket) return system_error(kDomain, "socket", "netlink", errno);
  for (const auto& [name, name_there] : devices) {
    const std::string what = "linux.netDevices." + name;
    ifinfomsg link{};
    if (const int failed = ask(socket.get(), find_by_name(name.c_str()), &link, sizeof link)) {
      if (failed == ENODEV)
        return Error(Error::not_found, kDomain, what + ": this network namespace has no device of that name");
      return system_error(kDomain, "RTM_GETLINK", what, failed);
    }
    Move move;
    move.name_space = name_space.get();
    move.index = link.ifi_index;
    name_there.copy(move.name, sizeof move.name - 1);
    ORC_ASSIGN(move.addresses, addresses_of(socket, link.ifi_index));
    if (const int failed = try_in_child(move_device, reinterpret_cast<long>(&move)))
      return system_error(kDomain, move.step, what, failed);
  }
  return {};
}

}  // namespace orchestra::runtime
