// Ranges of both families for nodes; those of IPv4 alone are in tests/scenarios/controllers/nodeipam.txt.
#include "controllers/nodeipam/decide.hpp"
#include "tests/controllers/world.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::controllers;

TEST_CASE("a node of a cluster with two families gets a range of each, the second made of the first") {
  test::World world;
  world.add(test::object_from_line("Node a"));
  world.add(test::object_from_line("Node b spec.podCIDR=10.244.1.0/24"));
  const auto ipam = make_node_ipam_reconciler({"10.244.0.0/16,fd00:10:244::/96", 24});
  REQUIRE(world.apply(ipam->decide("all", world, world.now())));
  const auto ranges = [&](const std::string& name) {
    return to_json(*find(tree(world.get(nodes(), "", name)), "/spec"));
  };
  CHECK(ranges("a") ==
        R"({"podCIDR":"10.244.0.0/24","podCIDRs":["10.244.0.0/24","fd00:10:244::af4:0/120"]})");
  CHECK(ranges("b") == R"({"podCIDR":"10.244.1.0/24"})");  // what a Node has stays
}

TEST_CASE("where IPv6 comes first a node's range of it does, and where it is alone there is no other") {
  const auto given = [](const char* cluster) {
    test::World world;
    world.add(test::object_from_line("Node a"));
    world.add(test::object_from_line("Node b"));
    const auto ipam = make_node_ipam_reconciler({cluster, 24});
    REQUIRE(world.apply(ipam->decide("all", world, world.now())));
    world.add(test::object_from_line("Node c"));  // the others' ranges are taken
    REQUIRE(world.apply(ipam->decide("all", world, world.now())));
    std::string out;
    for (const char* name : {"a", "b", "c"})
      out += to_json(*find(tree(world.get(nodes(), "", name)), "/spec"));
    return out;
  };
  CHECK(given("fd00:10:244::/96,10.244.0.0/16") ==
        R"({"podCIDR":"fd00:10:244::af4:0/120","podCIDRs":["fd00:10:244::af4:0/120","10.244.0.0/24"]})"
        R"({"podCIDR":"fd00:10:244::af4:100/120","podCIDRs":["fd00:10:244::af4:100/120","10.244.1.0/24"]})"
        R"({"podCIDR":"fd00:10:244::af4:200/120","podCIDRs":["fd00:10:244::af4:200/120","10.244.2.0/24"]})");
  CHECK(given("fd00:10:244::/96") ==
        R"({"podCIDR":"fd00:10:244::af4:0/120","podCIDRs":["fd00:10:244::af4:0/120"]})"
        R"({"podCIDR":"fd00:10:244::af4:100/120","podCIDRs":["fd00:10:244::af4:100/120"]})"
        R"({"podCIDR":"fd00:10:244::af4:200/120","podCIDRs":["fd00:10:244::af4:200/120"]})");
}
