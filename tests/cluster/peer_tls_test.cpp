// TLS between the peers of a control plane, from its token alone.
#include "cluster/peer_tls.hpp"

#include <condition_variable>
#include <mutex>

#include "store/transport/shell/tls_transport.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {

StoreTls tls_of(const std::string& token, const std::vector<std::string>& addresses = {"127.0.0.1"}) {
  auto made = cluster::make_peer_tls(token, addresses, real_random());
  REQUIRE_MESSAGE(made.has_value(), made.error().to_string());
  return *made;
}

/// Dials `server`'s listener with `client`'s certificate; what came of it.
Result<void> meet(const StoreTls& server, const StoreTls& client) {
  Engine engine;
  auto here = store::make_tls_transport(engine, server);
  auto there = store::make_tls_transport(engine, client);
  REQUIRE(here.has_value());
  REQUIRE(there.has_value());
  Promise<std::string> heard;
  auto wait = heard.pending();
  auto listening = (*here)->listen("127.0.0.1:0", [heard](auto) {
    TransportHandler handler;
    handler.on_message = [heard](std::string text) { heard.set(std::move(text)); };
    handler.on_closed = [heard](const Error& why) { heard.set(why); };
    return handler;
  });
  REQUIRE(listening.has_value());
  auto connected = (*there)->connect((*listening)->address(), {}).wait(60s);
  if (!connected) return connected.error();
  (void)(*connected)->send("hello");
  auto got = wait.wait(60s);
  (*connected)->close();
  return got ? Result<void>() : Result<void>(got.error());
}

}  // namespace

TEST_CASE("whoever has the token makes the same authority, and a certificate that the others trust") {
  const StoreTls a = tls_of("one-token-of-a-cluster"), b = tls_of("one-token-of-a-cluster");
  CHECK(a.ca_pem == b.ca_pem);
  CHECK(a.certificate_pem != b.certificate_pem);
  CHECK(a.key_pem != b.key_pem);
  CHECK(meet(a, b).has_value());
}

TEST_CASE("another token is another authority: neither side takes the other") {
  const StoreTls good = tls_of("one-token-of-a-cluster"), bad = tls_of("another-token-of-a-cluster");
  CHECK(good.ca_pem != bad.ca_pem);
  const auto refused = meet(good, bad);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().is(Error::denied));  // for good: not tried again for a minute
}

TEST_CASE("a certificate is good at the addresses that it names only") {
  const std::string token = "one-token-of-a-cluster";
  CHECK_FALSE(meet(tls_of(token, {"192.0.2.1"}), tls_of(token)).has_value());
}

TEST_CASE("a folder remembers the authority of its cluster, and a token that makes another one is refused") {
  test::TempDir folder;
  const StoreTls good = tls_of("one-token-of-a-cluster"), bad = tls_of("another-token-of-a-cluster");
  CHECK(cluster::check_peer_authority(folder.path(), bad).has_value());  // nothing is known yet
  REQUIRE(cluster::keep_peer_authority(folder.path(), good).has_value());
  CHECK(cluster::check_peer_authority(folder.path(), tls_of("one-token-of-a-cluster")).has_value());
  const auto refused = cluster::check_peer_authority(folder.path(), bad);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().is(Error::denied));
  CHECK(refused.error().message().find("--token-file") != std::string::npos);
}
