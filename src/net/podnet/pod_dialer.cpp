// PodDialer: a connected socket inside a pod.
//
// The socket is made by a helper thread that joined the pod's namespace and stays there for its life; the
// connect itself happens on a worker with a deadline. At level process there are no namespaces: a pod's
// 127.0.0.1 is its own 127.128.x.y, and no other address of the machine is reached by this way.
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "api/pod_attacher.hpp"
#include "base/fd.hpp"
#include "base/http_client.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/snapshot.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra {
namespace {
using net::IpAddress;

struct SocketName {
  sockaddr_storage bytes{};
  socklen_t size = 0;
};

SocketName to_socket_name(const IpAddress& address, int port) {
  SocketName name;
  if (address.is_v4()) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&name.bytes);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<std::uint16_t>(port));
    v4->sin_addr.s_addr = htonl(address.v4_number());
    name.size = sizeof *v4;
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&name.bytes);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<std::uint16_t>(port));
    std::copy(address.bytes.begin(), address.bytes.end(), v6->sin6_addr.s6_addr);
    name.size = sizeof *v6;
  }
  return name;
}

/// Connects within `deadline`; the socket is blocking afterwards.
Result<void> connect_within(const Fd& socket, const SocketName& name, const std::string& target,
                            Duration deadline) {
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&name.bytes), name.size) != 0) {
    if (errno != EINPROGRESS) return system_error("net", "connect", target, errno);
    pollfd wait{socket.get(), POLLOUT, 0};
    const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(deadline).count();
    int ready = 0;
    do {
      ready = ::poll(&wait, 1, static_cast<int>(milliseconds));
    } while (ready < 0 && errno == EINTR);
    if (ready == 0) {
      return Error(Error::deadline_exceeded, "net",
                   "connect " + target + ": no answer within " + std::to_string(milliseconds) + " ms");
    }
    int failure = 0;
    socklen_t size = sizeof failure;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &failure, &size) != 0) failure = errno;
    if (failure != 0) return system_error("net", "connect", target, failure);
  }
  const int flags = ::fcntl(socket.get(), F_GETFL);
  if (::fcntl(socket.get(), F_SETFL, flags & ~O_NONBLOCK) != 0)
    return system_error("net", "fcntl", target, errno);
  return {};
}

Result<std::shared_ptr<Fd>> dial_from(const NetworkNamespace& where, const std::string& host, int port,
                                      Duration deadline) {
  const auto address = IpAddress::parse(host == "localhost" ? "127.0.0.1" : host);
  const std::string target = host + ":" + std::to_string(port);
  if (!address || port < 1 || port > 65535) {
    return Error(Error::invalid, "net", "\"" + target + "\" is not an address and a port of 1-65535");
  }
  auto socket = net::in_namespace_get<Fd>(where, [&]() -> Result<Fd> {
    Fd fd(::socket(address->is_v4() ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return system_error("net", "socket", target, errno);
    return fd;
  });
  if (!socket) return socket.error();
  ORC_TRY(connect_within(*socket, to_socket_name(*address, port), target, deadline));
  return std::make_shared<Fd>(std::move(socket).value());
}

class NamespaceDialer final : public PodDialer {
 public:
  using Find = std::function<Result<std::shared_ptr<Fd>>(const std::string&)>;
  NamespaceDialer(Engine& engine, Find find) : engine_(engine), find_(std::move(find)) {}
  Pending<std::shared_ptr<Fd>> dial(std::string pod_uid, std::string address, int port,
                                    Duration deadline) override {
    return engine_.run_blocking(
        [find = find_, pod_uid, address, port, deadline]() -> Result<std::shared_ptr<Fd>> {
          ORC_ASSIGN(std::shared_ptr<Fd> name_space, find(pod_uid));
          return dial_from(NetworkNamespace(std::move(name_space)), address, port, deadline);
        });
  }

 private:
  Engine& engine_;
  Find find_;
};

class ProcessDialer final : public PodDialer {
 public:
  ProcessDialer(Engine& engine, std::shared_ptr<PodAttacher> network)
      : engine_(engine), network_(std::move(network)) {}
  Pending<std::shared_ptr<Fd>> dial(std::string pod_uid, std::string address, int port,
                                    Duration deadline) override {
    return engine_.run_blocking(
        [network = network_, pod_uid, address, port, deadline]() -> Result<std::shared_ptr<Fd>> {
          ORC_ASSIGN(const std::vector<Attachment> pods, network->list());
          for (const auto& pod : pods) {
            if (pod.pod_uid != pod_uid || pod.addresses.empty()) continue;
            const std::string& own = pod.addresses.front();
            if (address != "127.0.0.1" && address != "localhost" && address != own) {
              return Error(Error::denied, "net", "address " + address + " is not the pod's " + own);
            }
            return dial_from({}, own, port, deadline);
          }
          return Error(Error::not_found, "net", "pod " + pod_uid + " has no address here");
        });
  }

 private:
  Engine& engine_;
  std::shared_ptr<PodAttacher> network_;
};

}  // namespace

std::shared_ptr<PodDialer> make_pod_dialer(
    Engine& engine, std::function<Result<std::shared_ptr<Fd>>(const std::string& pod_uid)> namespace_of) {
  return std::make_shared<NamespaceDialer>(engine, std::move(namespace_of));
}

std::shared_ptr<PodDialer> make_process_pod_dialer(Engine& engine, std::shared_ptr<PodAttacher> network) {
  return std::make_shared<ProcessDialer>(engine, std::move(network));
}

}  // namespace orchestra
