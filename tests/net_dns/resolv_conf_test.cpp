#include "api/resolv_conf.hpp"

#include "tests/support/test.hpp"

namespace orchestra {
namespace {
const std::string kHost =
    "# made by hand\nnameserver 192.0.2.53\nsearch corp.example\noptions timeout:3 rotate\n";
}

TEST_CASE("ClusterFirst puts the cluster's domains before the host's") {
  const auto conf = resolv_conf({.ns = "shop", .cluster_servers = {"10.244.0.1"}, .host_file = kHost});
  CHECK(conf.text ==
        "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\n"
        "nameserver 10.244.0.1\n"
        "options ndots:5\n");
  CHECK(conf.dropped.empty());
}

TEST_CASE("Default takes the host's file, and so does ClusterFirst on the host's network") {
  const std::string host = "search corp.example\nnameserver 192.0.2.53\noptions timeout:3 rotate\n";
  CHECK(
      resolv_conf({.policy = "Default", .ns = "shop", .cluster_servers = {"10.244.0.1"}, .host_file = kHost})
          .text == host);
  CHECK(
      resolv_conf({.host_network = true, .ns = "shop", .cluster_servers = {"10.244.0.1"}, .host_file = kHost})
          .text == host);
  CHECK(resolv_conf({.ns = "shop", .host_file = kHost}).text == host);
  CHECK(resolv_conf({.policy = "ClusterFirstWithHostNet",
                     .host_network = true,
                     .ns = "shop",
                     .cluster_servers = {"10.244.0.1"},
                     .host_file = kHost})
            .text.find("nameserver 10.244.0.1\n") != std::string::npos);
}

TEST_CASE("None is dnsConfig alone, and dnsConfig is merged into the others") {
  ResolvConfInput input{
      .policy = "None", .ns = "shop", .cluster_servers = {"10.244.0.1"}, .host_file = kHost};
  input.servers = {"1.1.1.1"};
  input.searches = {"a.example"};
  input.options = {{"ndots", "2"}, {"edns0", std::nullopt}};
  CHECK(resolv_conf(input).text == "search a.example\nnameserver 1.1.1.1\noptions ndots:2 edns0\n");
  input.policy = "ClusterFirst";
  CHECK(resolv_conf(input).text ==
        "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example a.example\n"
        "nameserver 10.244.0.1\nnameserver 1.1.1.1\n"
        "options ndots:2 edns0\n");
}

TEST_CASE("what is above the limits is dropped and named") {
  ResolvConfInput input{.policy = "None"};
  input.servers = {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"};
  for (int i = 0; i < 40; ++i) input.searches.push_back("d" + std::to_string(i) + "." + std::string(60, 'x'));
  const auto conf = resolv_conf(input);
  CHECK(conf.text.find("10.0.0.3") != std::string::npos);
  CHECK(conf.text.find("10.0.0.4") == std::string::npos);
  CHECK(conf.text.find("d30.") != std::string::npos);
  CHECK(conf.text.find("d31.") == std::string::npos);
  CHECK(conf.dropped.size() == 1 + 9);
  CHECK(conf.dropped[0].find("10.0.0.4") != std::string::npos);
}

TEST_CASE("the stub of systemd-resolved is replaced by its own list") {
  CHECK(host_resolv_conf_path("nameserver 127.0.0.53\n") == "/run/systemd/resolve/resolv.conf");
  CHECK(host_resolv_conf_path(kHost) == "/etc/resolv.conf");
}

}  // namespace orchestra
