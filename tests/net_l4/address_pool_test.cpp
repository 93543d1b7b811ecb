// The address pool: no double use, cool-down, exhaustion, journal.
#include <set>

#include "net/podnet/address_pool.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::net;

namespace {
constexpr std::int64_t kSecond = 1'000'000'000;
AddressPool make_pool(const char* range = "10.244.1.0/29") {
  return AddressPool::create(IpRange::parse(range).value(), 60 * kSecond).value();
}
std::string reserve(AddressPool& pool, const std::string& uid, std::int64_t now) {
  auto lease = pool.reserve(uid, "ns", uid, now);
  return lease ? lease->address.to_string() : lease.error().message();
}
}  // namespace

TEST_CASE("the node has the first address and pods have the others, each once") {
  auto pool = make_pool("10.244.1.0/24");
  CHECK(pool.node_address().to_string() == "10.244.1.1");
  std::set<std::string> seen;
  for (int i = 0; i < 253; ++i) CHECK(seen.insert(reserve(pool, "p" + std::to_string(i), 0)).second);
  CHECK(seen.count("10.244.1.0") == 0);
  CHECK(seen.count("10.244.1.1") == 0);
  CHECK(seen.count("10.244.1.255") == 0);
  CHECK(seen.count("10.244.1.254") == 1);
  auto none = pool.reserve("one too many", "ns", "x", 0);
  REQUIRE_FALSE(none);
  CHECK(none.error().is(Error::resource_exhausted));
  CHECK(none.error().message() == "no address left in 10.244.1.0/24: 253 in use");
}

TEST_CASE("asking twice gives the same address") {
  auto pool = make_pool();
  const auto first = reserve(pool, "a", 0);
  CHECK(reserve(pool, "a", 5) == first);
  CHECK(reserve(pool, "b", 5) != first);
}

TEST_CASE("a released address is given out again only after 60 s, and the error says so") {
  auto pool = make_pool();  // 5 pod addresses
  for (int i = 0; i < 5; ++i) reserve(pool, "p" + std::to_string(i), 0);
  CHECK(pool.release("p2", 100 * kSecond));
  CHECK_FALSE(pool.release("p2", 100 * kSecond));
  auto early = pool.reserve("new", "ns", "new", 159 * kSecond);
  REQUIRE_FALSE(early);
  CHECK(early.error().message() ==
        "no address left in 10.244.1.0/29: 4 in use, 1 released less than 60 s ago");
  CHECK(reserve(pool, "new", 160 * kSecond) == "10.244.1.4");
}

TEST_CASE("addresses go round robin, so a fresh one is preferred to a cooled one") {
  auto pool = make_pool();
  CHECK(reserve(pool, "a", 0) == "10.244.1.2");
  pool.release("a", 0);
  CHECK(reserve(pool, "b", 3600 * kSecond) == "10.244.1.3");
}

TEST_CASE("the journal carries leases, cool-downs and the round over a restart") {
  auto pool = make_pool();
  reserve(pool, "a", 0);
  reserve(pool, "b", 0);
  pool.release("a", 10 * kSecond);
  auto again = make_pool();
  REQUIRE(again.load(pool.journal(), 20 * kSecond));
  CHECK(again.journal() == pool.journal());
  CHECK(reserve(again, "b", 20 * kSecond) == "10.244.1.3");
  CHECK(reserve(again, "c", 20 * kSecond) == "10.244.1.4");
  CHECK(reserve(again, "d", 20 * kSecond) == "10.244.1.5");
  CHECK(reserve(again, "e", 20 * kSecond) == "10.244.1.6");
  CHECK_FALSE(again.reserve("f", "ns", "f", 20 * kSecond));
  CHECK(reserve(again, "f", 71 * kSecond) == "10.244.1.2");
}

TEST_CASE("a journal of another range, or with an address twice, is refused") {
  auto pool = make_pool();
  CHECK_FALSE(pool.load(R"({"range":"10.9.0.0/24","leases":[]})", 0));
  CHECK_FALSE(pool.load("{", 0));
  CHECK_FALSE(pool.load(R"({"range":"10.244.1.0/29","leases":[{"uid":"a","address":"10.244.1.2"},
                            {"uid":"b","address":"10.244.1.2"}]})",
                        0));
  auto other = make_pool();
  CHECK_FALSE(other.load(R"({"range":"10.244.1.0/29","leases":[{"uid":"a","address":"10.244.1.1"}]})", 0));
}

TEST_CASE("a pod that is found with its address keeps it") {
  auto pool = make_pool();
  CHECK(pool.adopt("old", *IpAddress::parse("10.244.1.5")));
  CHECK_FALSE(pool.adopt("other", *IpAddress::parse("10.244.1.5")));
  CHECK_FALSE(pool.adopt("gateway thief", *IpAddress::parse("10.244.1.1")));
  CHECK(reserve(pool, "old", 0) == "10.244.1.5");
}

TEST_CASE("ranges that cannot hold pods are refused") {
  CHECK_FALSE(AddressPool::create(IpRange::parse("10.0.0.0/30").value(), 0));
  CHECK_FALSE(AddressPool::create(IpRange::parse("fd00::/64").value(), 0));
  CHECK_FALSE(IpRange::parse("10.244.1.1/24"));
  CHECK_FALSE(IpRange::parse("10.244.1.0"));
  CHECK_FALSE(IpRange::parse("10.244.1.0/33"));
  CHECK_FALSE(IpRange::parse("010.1.1.0/24"));
}

TEST_CASE("host ports belong to one pod at a time, and the journal keeps them") {
  const std::int64_t now = 0;
  AddressPool pool = make_pool();
  reserve(pool, "a", now);
  reserve(pool, "b", now);
  const HostPort any{IpProtocol::tcp, "", 80, 8080}, one{IpProtocol::tcp, "192.0.2.1", 80, 8080};
  const HostPort other{IpProtocol::tcp, "192.0.2.2", 80, 8080}, udp{IpProtocol::udp, "", 80, 8080};
  CHECK(pool.set_host_ports("a", {one, udp}).value());
  CHECK_FALSE(pool.set_host_ports("a", {one, udp}).value());
  CHECK(pool.set_host_ports("b", {any}).error().is(Error::conflict));
  CHECK(pool.set_host_ports("b", {one}).error().is(Error::conflict));
  CHECK(pool.set_host_ports("b", {other}).value());
  CHECK(pool.set_host_ports("nobody", {other}).error().is(Error::not_found));
  AddressPool read = make_pool();
  read.load(pool.journal(), now).value();
  CHECK(read.find("a")->host_ports == std::vector<HostPort>{one, udp});
  CHECK(read.journal() == pool.journal());
  pool.release("a", now);
  CHECK(pool.set_host_ports("b", {any}).value());
}

TEST_CASE("a pod that asks for one port of the machine twice is refused and keeps what it had") {
  AddressPool pool = make_pool();
  reserve(pool, "a", 0);
  const HostPort web{IpProtocol::tcp, "", 80, 8080}, same{IpProtocol::tcp, "", 80, 9090};
  const HostPort narrow{IpProtocol::tcp, "192.0.2.1", 80, 9090}, udp{IpProtocol::udp, "", 80, 9090};
  CHECK(pool.set_host_ports("a", {web}).value());
  const auto refused = pool.set_host_ports("a", {web, same});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().is(Error::invalid));
  CHECK(refused.error().message() == "the pod asks for port 80/TCP of this machine twice");
  CHECK(pool.find("a")->host_ports == std::vector<HostPort>{web});
  CHECK_FALSE(pool.set_host_ports("a", {web, web}));
  CHECK(pool.set_host_ports("a", {web, narrow, udp}).value());
}
