// What is cut at 1000 addresses: Endpoints, which say so, and slices that mirror Endpoints written by hand.
#include "controllers/builtin.hpp"
#include "tests/controllers/world.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::controllers;

namespace {

std::string address(int number) {
  return "10." + std::to_string(number / 65536) + "." + std::to_string(number / 256 % 256) + "." +
         std::to_string(number % 256);
}

}  // namespace

TEST_CASE("a slice that mirrors Endpoints has 1000 addresses at most, ready ones first") {
  for (const int ready : {900, 1000, 1500}) {
    CAPTURE(ready);
    test::World world;
    world.add(test::object_from_line("Service shop/legacy"));
    json::array addresses, others;
    for (int i = 0; i < ready; ++i) addresses.push_back(json::object{{"ip", address(i)}});
    for (int i = 0; i < 500; ++i) others.push_back(json::object{{"ip", address(100'000 + i)}});
    json::value endpoints = tree(test::object_from_line("Endpoints shop/legacy"));
    set_at(endpoints, "/subsets",
           json::array{json::object{{"addresses", addresses},
                                    {"notReadyAddresses", others},
                                    {"ports", json::array{json::object{{"port", 80}}}}}});
    world.add(object_from_tree(endpoints));
    const auto reconciler = make_reconciler("endpointslice-mirroring", {});
    REQUIRE(world.apply(reconciler->decide("shop/legacy", world, world.now())));
    const std::vector<Object> slices = world.objects(endpoint_slices()).list();
    REQUIRE(slices.size() == 1);
    const json::array& list = *array_at(tree(slices.front()), "/endpoints");
    CHECK(list.size() == 1000);
    const auto ready_ones = std::count_if(
        list.begin(), list.end(), [](const json::value& each) { return bool_at(each, "/conditions/ready"); });
    CHECK(ready_ones == std::min(ready, 1000));
  }
}

TEST_CASE("Endpoints of more than 1000 pods are cut and say that they are, until they are fewer again") {
  test::World world;
  world.add(test::object_from_line(
      R"(Service shop/web app=web spec.ports=[{"port":80,"protocol":"TCP","targetPort":80}])"));
  std::vector<Object> all;
  for (int i = 0; i < 1001; ++i) {
    all.push_back(world.add(test::object_from_line(
        "Pod shop/p" + std::to_string(i) +
        " app=web node=n1 phase=Running ready=yes status.podIP=" + address(i) + " image=v1")));
  }
  const auto reconciler = make_reconciler("endpoints", {});
  const auto addresses = [&] {
    REQUIRE(world.apply(reconciler->decide("shop/web", world, world.now())));
    const Object now = world.get(endpoints(), "shop", "web");
    const json::array* subsets = array_at(tree(now), "/subsets");
    REQUIRE(subsets != nullptr);
    std::size_t count = 0;
    for (const json::value& subset : *subsets) count += array_at(subset, "/addresses")->size();
    return count;
  };
  const auto mark = [&] {
    const Object now = world.get(endpoints(), "shop", "web");
    const auto found = now.annotations().find("endpoints.kubernetes.io/over-capacity");
    return found == now.annotations().end() ? std::string() : found->second;
  };
  CHECK(addresses() == 1000);
  CHECK(mark() == "truncated");
  world.erase(pods(), all.back());
  CHECK(addresses() == 1000);
  CHECK(mark().empty());
}
