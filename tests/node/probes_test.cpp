// Probes by TCP against real sockets of loopback: a port that listens, one that does not, a named one.
#include "node/probes.hpp"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <atomic>
#include <condition_variable>
#include <thread>

#include "tests/node/fake_parts.hpp"

using namespace orchestra;
using namespace orchestra::node;
using namespace orchestra::node_test;

namespace {

/// A socket that has a port of its own; it refuses connections until it listens.
struct Port {
  Fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  int number = 0;
  Port() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    socklen_t size = sizeof address;
    REQUIRE(getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    number = ntohs(address.sin_port);
  }
  void listen() { REQUIRE(::listen(socket.get(), 64) == 0); }
};

struct Reports {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<ProbeReport> all;
  std::size_t from = 0;  ///< the first that nobody has waited for
  void add(ProbeReport report) {
    std::lock_guard lock(mutex);
    all.push_back(std::move(report));
    changed.notify_all();
  }
  /// The next one that is `success`, after the last that was waited for.
  std::optional<ProbeReport> wait(bool success) {
    std::unique_lock lock(mutex);
    std::optional<ProbeReport> found;
    changed.wait_for(lock, 60s, [&] {
      for (std::size_t i = from; i < all.size() && !found; ++i) {
        if (all[i].success != success) continue;
        found = all[i];
        from = i + 1;
      }
      return found.has_value();
    });
    return found;
  }
};

/// Probes of a container on loopback, which report to `reports`.
std::shared_ptr<ContainerProbes> probes_of(Engine& engine, Journal& journal, const json::value& container,
                                           Reports& reports) {
  auto probes =
      std::make_shared<ContainerProbes>(engine, std::make_shared<FakeRuntime>(journal), nullptr,
                                        ProbeTarget{"u", "u-main-0", "127.0.0.1", container},
                                        [&reports](ProbeReport report) { reports.add(std::move(report)); });
  probes->start();
  return probes;
}

}  // namespace

TEST_CASE("a connection is tried at an address and a port, and what went wrong is said") {
  Port port;
  const std::string at = "dial tcp 127.0.0.1:" + std::to_string(port.number);
  CHECK(try_connect("127.0.0.1", port.number, 30s) == at + ": connect: Connection refused");
  port.listen();
  CHECK(try_connect("127.0.0.1", port.number, 30s).empty());
  CHECK(try_connect("web", port.number, 30s).find("not an IP address") != std::string::npos);
  const json::value container = *parse_json(R"({"ports":[{"name":"web","containerPort":81}]})");
  const json::value named("web"), unknown("api"), plain(82);
  CHECK(resolve_port(container, &named) == 81);
  CHECK(resolve_port(container, &unknown) == 0);
  CHECK(resolve_port(container, &plain) == 82);
}

TEST_CASE("a tcp probe succeeds while somebody listens at the named port, and fails when nobody does") {
  Journal journal;
  Engine engine;
  Reports reports;
  Port port;
  const json::value container = *parse_json(
      R"({"ports":[{"name":"web","containerPort":)" + std::to_string(port.number) +
      R"(}],"readinessProbe":{"tcpSocket":{"port":"web"},"periodSeconds":1,"timeoutSeconds":30,"failureThreshold":1}})");
  const auto probes = probes_of(engine, journal, container, reports);
  const auto refused = reports.wait(false);
  REQUIRE(refused);
  CHECK(refused->kind == ProbeKind::readiness);
  CHECK(refused->decided);
  CHECK(refused->message.find("Connection refused") != std::string::npos);
  port.listen();
  const auto heard = reports.wait(true);
  REQUIRE(heard);
  CHECK(heard->decided);
  probes->stop();
  probes->drain();
  engine.stop();
}

TEST_CASE("a gRPC probe fails where nobody listens, and succeeds when the service says that it serves") {
  Journal journal;
  Engine engine;
  Reports reports;
  Port port;
  const json::value container =
      *parse_json(R"({"readinessProbe":{"grpc":{"port":)" + std::to_string(port.number) +
                  R"(},"periodSeconds":1,"timeoutSeconds":30,"failureThreshold":1}})");
  const auto probes = probes_of(engine, journal, container, reports);
  const auto refused = reports.wait(false);
  REQUIRE(refused);
  CHECK(refused->message.find("Connection refused") != std::string::npos);
  port.listen();
  std::atomic<bool> over{false};
  std::thread serving([&] {
    // SETTINGS, and DATA of stream 1: a message whose status is 1, SERVING.
    const char answer[] =
        "\0\0\0\4\0\0\0\0\0"
        "\0\0\7\0\1\0\0\0\1"
        "\0\0\0\0\2\x08\x01";
    while (!over) {
      const Fd connection(accept(port.socket.get(), nullptr, nullptr));
      if (!connection || over) continue;
      (void)send(connection.get(), answer, sizeof answer - 1, MSG_NOSIGNAL);
      char bytes[512];
      while (recv(connection.get(), bytes, sizeof bytes, 0) > 0) {
      }
    }
  });
  const auto heard = reports.wait(true);
  CHECK(heard.has_value());
  probes->stop();
  probes->drain();
  over = true;
  shutdown(port.socket.get(), SHUT_RDWR);  // accept ends
  serving.join();
  engine.stop();
}
