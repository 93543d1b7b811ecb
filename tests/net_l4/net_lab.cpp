#include "tests/net_l4/net_lab.hpp"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <thread>

#include "net/lb/nft_transaction.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/podnet/machine_journal.hpp"
#include "net/podnet/range_check.hpp"
#include "net/podnet/rtnetlink.hpp"

namespace orchestra::test {
using namespace orchestra::net;

namespace {

/// Of either family; sin6_port lies where sin_port does.
sockaddr_in6 to_sockaddr(const std::string& address, int port) {
  sockaddr_in6 out{};
  out.sin6_port = htons(static_cast<std::uint16_t>(port));
  const bool v6 = address.find(':') != std::string::npos;
  out.sin6_family = v6 ? AF_INET6 : AF_INET;
  void* bytes = v6 ? static_cast<void*>(&out.sin6_addr) : &reinterpret_cast<sockaddr_in*>(&out)->sin_addr;
  REQUIRE(::inet_pton(out.sin6_family, address.c_str(), bytes) == 1);
  return out;
}

std::string to_text(const sockaddr_in6& address) {
  char text[INET6_ADDRSTRLEN] = {};
  const bool v6 = address.sin6_family == AF_INET6;
  const void* bytes = v6 ? static_cast<const void*>(&address.sin6_addr)
                         : &reinterpret_cast<const sockaddr_in*>(&address)->sin_addr;
  ::inet_ntop(address.sin6_family, bytes, text, sizeof text);
  return text;
}

/// A socket of the namespace; it stays there whoever uses it.
Fd socket_in(const NetworkNamespace& where, int type, const std::string& address = "") {
  const int family = address.find(':') == std::string::npos ? AF_INET : AF_INET6;
  Fd out;
  in_namespace(where, [&]() -> Result<void> {
    out = Fd(::socket(family, type | SOCK_CLOEXEC, 0));
    return {};
  }).value();
  REQUIRE(out);
  return out;
}

int local_port(const Fd& socket) {
  sockaddr_in6 name{};
  socklen_t size = sizeof name;
  REQUIRE(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&name), &size) == 0);
  return ntohs(name.sin6_port);
}

Fd bound_socket(const NetworkNamespace& where, int type, const std::string& address, int port) {
  Fd out = socket_in(where, type, address);
  const int on = 1;
  ::setsockopt(out.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const auto name = to_sockaddr(address, port);
  REQUIRE_MESSAGE(::bind(out.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0,
                  "bind " << address << ":" << port << ": " << std::strerror(errno));
  return out;
}

std::string error_text(int number) {
  if (number == EAGAIN || number == EINPROGRESS || number == ETIMEDOUT) return "error: timeout";
  return std::string("error: ") + ::strerrorname_np(number);
}

void set_deadline(const Fd& socket, int milliseconds) {
  const timeval deadline{milliseconds / 1000, (milliseconds % 1000) * 1000};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof deadline);
}

}  // namespace

bool can_make_namespaces() { return ::geteuid() == 0 && NetworkNamespace::create().has_value(); }

bool has_bridge_module() {
  return in_namespace_get<std::string>(make_host(),
                                       [] { return read_sysctl("net/bridge/bridge-nf-call-iptables"); })
      .has_value();
}

NetworkNamespace make_host() {
  auto host = NetworkNamespace::create().value();
  in_namespace(host, []() -> Result<void> {
    ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
    ORC_ASSIGN(auto lo, routes.find_link("lo"));
    return routes.set_link(lo->index, std::nullopt, true);
  }).value();
  return host;
}

std::string sysctl_in(const NetworkNamespace& where, const std::string& name) {
  return in_namespace_get<std::string>(where, [&] { return read_sysctl(name); }).value();
}

void set_sysctl_in(const NetworkNamespace& where, const std::string& name, const std::string& value) {
  in_namespace(where, [&] { return write_sysctl(name, value); }).value();
}

std::vector<std::string> machine_state(const NetworkNamespace& where) {
  auto routes = in_namespace_get<RouteSocket>(where, [] { return RouteSocket::open(); }).value();
  std::vector<std::string> out;
  const auto links = routes.links().value();
  for (const auto& link : links) {
    out.push_back("link " + link.name + " " + link.kind + " " + link.alias);
    for (const auto& address : routes.addresses(link.index).value()) {
      out.push_back("address " + address.to_string() + " on " + link.name);
    }
  }
  for (const auto& route : routes.routes().value()) {
    out.push_back("route " + std::to_string(route.table) + " " + describe_route(route, links));
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::string ruleset(const NetworkNamespace& where) {
  return NftSession::open(where).value()->list("list ruleset").value();
}

void run_nft(const NetworkNamespace& where, const std::string& commands) {
  NftSession::open(where).value()->run(commands).value();
}

void wire(const NetworkNamespace& a, const std::string& a_link, const std::string& a_address,
          const NetworkNamespace& b, const std::string& b_link, const std::string& b_address) {
  const auto configure = [](const std::string& name, const std::string& address) -> Result<void> {
    ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
    ORC_ASSIGN(auto link, routes.find_link(name));
    const auto slash = address.find('/');
    ORC_TRY(routes.add_address(link->index, *IpAddress::parse(address.substr(0, slash)),
                               std::stoi(address.substr(slash + 1))));
    return routes.set_link(link->index, std::nullopt, true);
  };
  in_namespace(a, [&]() -> Result<void> {
    ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
    RouteSocket::NewVeth veth;
    veth.name = a_link;
    veth.peer_name = b_link;
    veth.peer_namespace = b.fd()->get();
    veth.mac = std::string("\x02\x00\x00\x00\x00\x01", 6);
    veth.peer_mac = std::string("\x02\x00\x00\x00\x00\x02", 6);
    ORC_TRY(routes.add_veth(veth));
    return configure(a_link, a_address);
  }).value();
  in_namespace(b, [&] { return configure(b_link, b_address); }).value();
}

struct TcpAnswerer::Impl {
  Fd socket;
  std::string answer;
  std::atomic<bool> stop{false};
  std::atomic<int> connections{0};
  std::mutex mutex;
  std::string last_client;
  std::thread thread;

  void serve() {
    while (!stop) {
      pollfd wait{socket.get(), POLLIN, 0};
      if (::poll(&wait, 1, 20) <= 0) continue;
      sockaddr_in6 client{};
      socklen_t size = sizeof client;
      Fd connection(::accept4(socket.get(), reinterpret_cast<sockaddr*>(&client), &size, SOCK_CLOEXEC));
      if (!connection) continue;
      {
        std::lock_guard lock(mutex);
        last_client = to_text(client);
      }
      ++connections;
      (void)write_all(connection.get(), answer);
    }
  }
};

TcpAnswerer::TcpAnswerer(const NetworkNamespace& where, const std::string& address, int port,
                         std::string answer)
    : impl_(std::make_unique<Impl>()) {
  impl_->socket = bound_socket(where, SOCK_STREAM, address, port);
  REQUIRE(::listen(impl_->socket.get(), 256) == 0);
  impl_->answer = std::move(answer);
  impl_->thread = std::thread([impl = impl_.get()] { impl->serve(); });
}

TcpAnswerer::~TcpAnswerer() {
  impl_->stop = true;
  impl_->thread.join();
}

int TcpAnswerer::port() const { return local_port(impl_->socket); }
int TcpAnswerer::connections() const { return impl_->connections; }
std::string TcpAnswerer::last_client() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->last_client;
}

struct UdpAnswerer::Impl {
  Fd socket;
  std::string answer;
  std::atomic<bool> stop{false};
  std::thread thread;

  void serve() {
    while (!stop) {
      pollfd wait{socket.get(), POLLIN, 0};
      if (::poll(&wait, 1, 20) <= 0) continue;
      char bytes[2048];
      sockaddr_in6 client{};
      socklen_t size = sizeof client;
      if (::recvfrom(socket.get(), bytes, sizeof bytes, 0, reinterpret_cast<sockaddr*>(&client), &size) < 0)
        continue;
      (void)::sendto(socket.get(), answer.data(), answer.size(), 0, reinterpret_cast<sockaddr*>(&client),
                     size);
    }
  }
};

UdpAnswerer::UdpAnswerer(const NetworkNamespace& where, const std::string& address, int port,
                         std::string answer)
    : impl_(std::make_unique<Impl>()) {
  impl_->socket = bound_socket(where, SOCK_DGRAM, address, port);
  impl_->answer = std::move(answer);
  impl_->thread = std::thread([impl = impl_.get()] { impl->serve(); });
}

UdpAnswerer::~UdpAnswerer() {
  impl_->stop = true;
  impl_->thread.join();
}

int UdpAnswerer::port() const { return local_port(impl_->socket); }

std::string ask_tcp(const NetworkNamespace& from, const std::string& address, int port, int milliseconds) {
  Fd socket = socket_in(from, SOCK_STREAM, address);
  set_deadline(socket, milliseconds);
  const auto name = to_sockaddr(address, port);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0)
    return error_text(errno);
  return read_all(socket);
}

std::string read_all(const Fd& socket) {
  std::string out;
  char bytes[4096];
  while (true) {
    const auto got = ::read(socket.get(), bytes, sizeof bytes);
    if (got < 0) return error_text(errno);
    if (got == 0) return out;
    out.append(bytes, static_cast<std::size_t>(got));
  }
}

UdpClient::UdpClient(const NetworkNamespace& from, const std::string& address, int port)
    : socket_(socket_in(from, SOCK_DGRAM, address)) {
  const auto name = to_sockaddr(address, port);
  REQUIRE(::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0);
}

std::string UdpClient::ask(int milliseconds) {
  set_deadline(socket_, milliseconds);
  char bytes[2048];
  while (::recv(socket_.get(), bytes, sizeof bytes, MSG_DONTWAIT) >=
         0) {  // late answers to earlier questions
  }
  if (::send(socket_.get(), "?", 1, 0) != 1) return error_text(errno);
  const auto got = ::recv(socket_.get(), bytes, sizeof bytes, 0);
  if (got < 0) return error_text(errno);
  return std::string(bytes, static_cast<std::size_t>(got));
}

std::string ask_udp(const NetworkNamespace& from, const std::string& address, int port, int milliseconds) {
  return UdpClient(from, address, port).ask(milliseconds);
}

Capture::Capture(const NetworkNamespace& where, const std::string& link) {
  in_namespace(where, [&]() -> Result<void> {
    socket_ = Fd(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_IP)));
    sockaddr_ll name{};
    name.sll_family = AF_PACKET;
    name.sll_protocol = htons(ETH_P_IP);
    name.sll_ifindex = static_cast<int>(::if_nametoindex(link.c_str()));
    if (::bind(socket_.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) {
      return system_error("test", "bind", link, errno);
    }
    return {};
  }).value();
}

int Capture::ipv4_frames() {
  char bytes[2048];
  while (::recv(socket_.get(), bytes, sizeof bytes, 0) >= 0) ++seen_;
  return seen_;
}

}  // namespace orchestra::test
