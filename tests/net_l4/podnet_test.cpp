// The routed pod network on a test host of its own: attach, detach, crash leftovers, teardown, overlap.
#include <algorithm>

#include "api/pod_attacher.hpp"
#include "base/http_client.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/podnet/routed_network.hpp"
#include "net/podnet/rtnetlink.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/env.hpp"
#include "tests/net_l4/net_lab.hpp"

using namespace orchestra;
using namespace orchestra::net;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {

struct PodnetLab {
  Engine engine;
  TempDir data;
  NetworkNamespace host = make_host();
  PodNetworkOptions options() {
    PodNetworkOptions out;
    out.data_dir = data.path();
    out.instance = "0a1b2c3d";
    out.pod_cidr = "10.244.1.0/24";
    out.cluster_cidr = "10.244.0.0/16";
    out.service_cidr = "10.96.0.0/16";
    out.name_space = host;
    return out;
  }
  std::shared_ptr<PodNetwork> open() {
    auto network = PodNetwork::open(engine, options());
    REQUIRE_MESSAGE(network, (network ? "" : network.error().to_string()));
    return *network;
  }
};

Result<Attachment> attach(PodNetwork& network, const NetworkNamespace& pod, const std::string& uid) {
  return network.attacher()->attach({uid, "default", "pod-" + uid, pod.fd()}).wait(60s);
}

bool has_line(const std::vector<std::string>& lines, const std::string& part) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const std::string& line) { return line.find(part) != std::string::npos; });
}

/// Removed links go in the background.
bool is_gone(const NetworkNamespace& where, const std::string& part) {
  const auto deadline = real_clock().now().steady_ns + 60'000'000'000;
  while (has_line(machine_state(where), part)) {
    if (real_clock().now().steady_ns > deadline) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("two pods and their node reach one another, and a pod cannot forge its source") {
  NEEDS_ROOT("two pods and their node reach one another, and a pod cannot forge its source");
  PodnetLab lab;
  auto network = lab.open();
  auto pod_a = NetworkNamespace::create().value(), pod_b = NetworkNamespace::create().value();
  auto a = attach(*network, pod_a, "uid-a");
  REQUIRE_MESSAGE(a, (a ? "" : a.error().to_string()));
  auto b = attach(*network, pod_b, "uid-b").value();
  CHECK(a->addresses == std::vector<std::string>{"10.244.1.2"});
  CHECK(b.addresses == std::vector<std::string>{"10.244.1.3"});
  CHECK(a->mtu == 1500);
  CHECK(a->link == "orc0a1b2c3d0102");
  TcpAnswerer in_b(pod_b, "0.0.0.0", 8080, "b here");
  CHECK(ask_tcp(pod_a, "10.244.1.3", 8080) == "b here");
  CHECK(in_b.last_client() == "10.244.1.2");
  CHECK(ask_tcp(lab.host, "10.244.1.3", 8080) == "b here");
  CHECK(in_b.last_client() == "10.244.1.1");
  TcpAnswerer on_node(lab.host, "10.244.1.1", 5353, "node here");
  CHECK(ask_tcp(pod_a, "10.244.1.1", 5353) == "node here");
  CHECK(ask_tcp(pod_b, "127.0.0.1", 8080) == "b here");
  CHECK(sysctl_in(lab.host, "net/ipv4/conf/orc0a1b2c3d0102/rp_filter") == "1");
  network->teardown().wait(60s).value();
}

TEST_CASE("unassigned pod and Service addresses are unreachable at once instead of leaving by the uplink") {
  NEEDS_ROOT("unassigned pod and Service addresses are unreachable at once instead of leaving by the uplink");
  PodnetLab lab;
  auto outside = make_host();
  wire(lab.host, "uplink", "192.0.2.1/24", outside, "eth0", "192.0.2.2/24");
  in_namespace(lab.host, []() -> Result<void> {
    ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
    Route all;
    all.link = (*routes.find_link("uplink"))->index;
    all.gateway = IpAddress::parse("192.0.2.2");
    return routes.add_route(all);
  }).value();
  auto network = lab.open();
  auto pod = NetworkNamespace::create().value();
  attach(*network, pod, "uid-a").value();
  Capture uplink(outside, "eth0");
  CHECK(ask_tcp(lab.host, "10.244.1.77", 80) == "error: EHOSTUNREACH");
  CHECK(ask_tcp(lab.host, "10.244.9.1", 80) == "error: EHOSTUNREACH");
  CHECK(ask_tcp(pod, "10.244.9.1", 80) == "error: EHOSTUNREACH");
  ask_tcp(lab.host, "10.96.0.77", 80, 200);  // no proxy runs: the gateway link swallows it
  ask_tcp(pod, "10.96.0.77", 80, 200);
  CHECK(uplink.ipv4_frames() == 0);
  // What is outside of the cluster does leave, with the node's address.
  TcpAnswerer server(outside, "192.0.2.2", 80, "outside");
  CHECK(ask_tcp(pod, "192.0.2.2", 80) == "outside");
  CHECK(server.last_client() == "192.0.2.1");
  CHECK(uplink.ipv4_frames() > 0);
  network->teardown().wait(60s).value();
}

TEST_CASE("attach and detach may be repeated") {
  NEEDS_ROOT("attach and detach may be repeated");
  PodnetLab lab;
  auto network = lab.open();
  auto pod = NetworkNamespace::create().value();
  const auto first = attach(*network, pod, "uid-a").value();
  const auto second = attach(*network, pod, "uid-a").value();
  CHECK(first.addresses == second.addresses);
  CHECK(network->attacher()->list().value().size() == 1);
  network->attacher()->detach("uid-a").wait(60s).value();
  network->attacher()->detach("uid-a").wait(60s).value();
  CHECK(network->attacher()->list().value().empty());
  CHECK(ask_tcp(lab.host, "10.244.1.2", 80) == "error: EHOSTUNREACH");  // cut off when detach() answers
  // The same pod again at once: another address, the old one cools down.
  CHECK(attach(*network, pod, "uid-a").value().addresses.front() == "10.244.1.3");
  CHECK(is_gone(lab.host, "orc0a1b2c3d0102"));
  CHECK(ask_tcp(lab.host, "10.244.1.3", 80) == "error: ECONNREFUSED");
  network->attacher()->detach("uid-a").wait(60s).value();
  CHECK(is_gone(lab.host, "orc0a1b2c3d0103"));
  CHECK_FALSE(has_line(machine_state(pod), "eth0"));
  network->teardown().wait(60s).value();
}

TEST_CASE("a restart adopts pods, with and without the address journal, and removes half-made links") {
  NEEDS_ROOT("a restart adopts pods, with and without the address journal, and removes half-made links");
  PodnetLab lab;
  auto pod_a = NetworkNamespace::create().value(), pod_b = NetworkNamespace::create().value();
  {
    auto network = lab.open();
    attach(*network, pod_a, "uid-a").value();
    attach(*network, pod_b, "uid-b").value();
  }
  TcpAnswerer in_b(pod_b, "0.0.0.0", 8080, "b here");
  CHECK(ask_tcp(pod_a, "10.244.1.3", 8080) == "b here");  // nobody runs: the kernel goes on
  SUBCASE("with the journal") {}
  SUBCASE("without the journal") { std::filesystem::remove(lab.data / "addresses.json"); }
  SUBCASE("with a damaged journal") { write_file(lab.data / "addresses.json", "{\"range\":").value(); }
  in_namespace(lab.host,
               []() -> Result<void> {  // an attach that was killed before it set the alias
                 ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
                 return routes.add_sink("orc0a1b2c3d0199", 1500);
               })
      .value();
  auto network = lab.open();
  CHECK_FALSE(has_line(machine_state(lab.host), "orc0a1b2c3d0199"));
  CHECK(network->attacher()->list().value().size() == 2);
  CHECK(attach(*network, pod_a, "uid-a").value().addresses.front() == "10.244.1.2");
  CHECK(ask_tcp(pod_a, "10.244.1.3", 8080) == "b here");
  CHECK(network->reconcile({"uid-b"}).wait(60s).value() == 1);
  CHECK(is_gone(lab.host, "orc0a1b2c3d0102"));
  CHECK(ask_tcp(lab.host, "10.244.1.3", 8080) == "b here");
  network->teardown().wait(60s).value();
}

TEST_CASE("two hundred attachments leave no descriptor, link or address behind") {
  NEEDS_ROOT("two hundred attachments leave no descriptor, link or address behind");
  PodnetLab lab;
  auto options = lab.options();
  options.address_cooldown = Duration::zero();
  auto network = PodNetwork::open(lab.engine, options).value();
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                         std::filesystem::directory_iterator{});
  };
  auto pod = NetworkNamespace::create().value();
  attach(*network, pod, "warm").value();
  network->attacher()->detach("warm").wait(60s).value();
  pod = NetworkNamespace::create().value();  // the link goes in the background: another pod never meets it
  const auto before = descriptors();
  for (int i = 0; i < 200; ++i) {
    const std::string uid = "uid-" + std::to_string(i / 4);  // each pod comes back three times
    const auto attached = attach(*network, pod, uid);
    REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().to_string()), " in round ", i);
    const auto detached = network->attacher()->detach(uid).wait(60s);
    REQUIRE_MESSAGE(detached, (detached ? "" : detached.error().to_string()), " in round ", i);
    if (i % 4 == 3) pod = NetworkNamespace::create().value();
  }
  CHECK(descriptors() == before);
  CHECK(network->attacher()->list().value().empty());
  CHECK(is_gone(lab.host, "orc0a1b2c3d"));
  network->teardown().wait(60s).value();
}

TEST_CASE("teardown leaves the machine as it was") {
  NEEDS_ROOT("teardown leaves the machine as it was");
  PodnetLab lab;
  set_sysctl_in(lab.host, "net/ipv4/ip_forward", "0");
  const auto before = machine_state(lab.host);
  const auto redirects = sysctl_in(lab.host, "net/ipv4/conf/all/send_redirects");
  auto pod = NetworkNamespace::create().value();
  auto network = lab.open();
  attach(*network, pod, "uid-a").value();
  CHECK(sysctl_in(lab.host, "net/ipv4/ip_forward") == "1");
  bool listed = false;
  for (const auto& change : network->machine_changes())
    listed = listed || change.what == "net/ipv4/ip_forward";
  CHECK(listed);
  CHECK(ruleset(lab.host).find("orc_0a1b2c3d_out") != std::string::npos);
  SUBCASE("by the running network") { network->teardown().wait(60s).value(); }
  SUBCASE("after a crash") {
    network.reset();
    PodNetwork::remove_leftovers(lab.data.path(), lab.host).value();
    PodNetwork::remove_leftovers(lab.data.path(), lab.host).value();
  }
  CHECK(machine_state(lab.host) == before);
  CHECK(ruleset(lab.host).empty());
  CHECK(sysctl_in(lab.host, "net/ipv4/ip_forward") == "0");
  CHECK(sysctl_in(lab.host, "net/ipv4/conf/all/send_redirects") == redirects);
  CHECK_FALSE(std::filesystem::exists(lab.data / "network.json"));
}

TEST_CASE("a range that the machine routes is refused with both named, and a free one is found") {
  NEEDS_ROOT("a range that the machine routes is refused with both named, and a free one is found");
  PodnetLab lab;
  auto other = make_host();
  wire(lab.host, "office", "10.244.7.1/24", other, "eth0", "10.244.7.2/24");
  const auto before = machine_state(lab.host);
  auto network = PodNetwork::open(lab.engine, lab.options());
  REQUIRE_FALSE(network);
  CHECK(network.error().message().find("--pod-cidr 10.244.0.0/16 overlaps the machine's route 10.244.7.") !=
        std::string::npos);
  CHECK(network.error().message().find("dev office") != std::string::npos);
  CHECK(machine_state(lab.host) == before);
  CHECK(PodNetwork::find_free_range("10.244.0.0/16", lab.host).value() == "10.245.0.0/16");
  CHECK(PodNetwork::find_free_range("10.96.0.0/16", lab.host).value() == "10.96.0.0/16");
}

TEST_CASE("when somebody takes one of the ranges at the last moment, none of the others stays covered") {
  NEEDS_ROOT("when somebody takes one of the ranges at the last moment, none of the others stays covered");
  auto host = make_host();
  auto routes = in_namespace_get<RouteSocket>(host, [] { return RouteSocket::open(); }).value();
  const auto range = [](const char* text) { return IpRange::parse(text).value(); };
  add_covers(routes, {range("10.96.0.0/16")}).value();
  const auto before = machine_state(host);
  const auto six = routes.routes(6).value().size();
  CHECK_FALSE(add_covers(routes, {range("10.244.0.0/16"), range("fd00:10:244::/112"), range("10.96.0.0/16"),
                                  range("10.97.0.0/16")}));
  CHECK(machine_state(host) == before);
  CHECK(routes.routes(6).value().size() == six);
}

TEST_CASE("a second instance with the same ranges is refused, with other ranges it works beside the first") {
  NEEDS_ROOT(
      "a second instance with the same ranges is refused, with other ranges it works beside the first");
  PodnetLab lab;
  TempDir second_data;
  auto first = lab.open();
  auto options = lab.options();
  options.data_dir = second_data.path();
  options.instance = "99999999";
  auto refused = PodNetwork::open(lab.engine, options);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message().find("another Orchestra instance") != std::string::npos);
  options.pod_cidr = "10.250.1.0/24";
  options.cluster_cidr = "10.250.0.0/16";
  options.service_cidr = "10.251.0.0/16";
  auto second = PodNetwork::open(lab.engine, options).value();
  auto pod_a = NetworkNamespace::create().value(), pod_b = NetworkNamespace::create().value();
  attach(*first, pod_a, "uid-a").value();
  CHECK(attach(*second, pod_b, "uid-a").value().addresses.front() == "10.250.1.2");
  second->teardown().wait(60s).value();
  TcpAnswerer in_a(pod_a, "0.0.0.0", 80, "a here");
  CHECK(ask_tcp(lab.host, "10.244.1.2", 80) == "a here");
  first->teardown().wait(60s).value();
}

TEST_CASE("a pod dialer reaches programs that listen on 127.0.0.1 inside the pod") {
  NEEDS_ROOT("a pod dialer reaches programs that listen on 127.0.0.1 inside the pod");
  PodnetLab lab;
  auto network = lab.open();
  auto pod = NetworkNamespace::create().value();
  attach(*network, pod, "uid-a").value();
  TcpAnswerer server(pod, "127.0.0.1", 6379, "only inside");
  auto dialer = make_pod_dialer(lab.engine, [&](const std::string& uid) -> Result<std::shared_ptr<Fd>> {
    if (uid == "uid-a") return pod.fd();
    return Error(Error::not_found, "test", "no pod " + uid);
  });
  auto connected = dialer->dial("uid-a", "127.0.0.1", 6379, 2s).wait(60s);
  REQUIRE(connected);
  CHECK(read_all(**connected) == "only inside");
  CHECK(dialer->dial("uid-a", "127.0.0.1", 6380, 2s).wait(60s).error().message().find("ECONNREFUSED") !=
        std::string::npos);
  CHECK(dialer->dial("uid-x", "127.0.0.1", 6379, 2s).wait(60s).error().is(Error::not_found));
  network->teardown().wait(60s).value();
}

TEST_CASE("the probe says what works, and leaves nothing behind") {
  const auto abilities = NetProbe::run();
  REQUIRE(abilities.size() == 4);
  for (const auto& ability : abilities) {
    CAPTURE(ability.name);
    CHECK_FALSE(ability.evidence.empty());
    CHECK(ability.available == ability.consequence.empty());
    CHECK(ability.available == ability.remedy.empty());
  }
  CHECK(NetProbe::has(abilities, "network namespaces") == can_make_namespaces());
  CHECK_FALSE(NetProbe::has(abilities, "teleportation"));
  if (!can_make_namespaces())
    ORC_SKIP("the probe says what works, and leaves nothing behind", "needs root for the rest");
  CHECK(NetProbe::has(abilities, "pod links"));
  CHECK(NetProbe::has(abilities, "nftables"));
  CHECK_FALSE(has_line(machine_state({}), "orctry"));
}
