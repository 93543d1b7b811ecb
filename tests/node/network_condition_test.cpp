// The Node's condition NetworkUnavailable: there while the pods' network says what is wrong with it.
#include "base/json.hpp"
#include "node/node_status.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

namespace {

std::string condition_of(const std::string& trouble, const json::value& before) {
  node::MachineFacts facts;
  facts.network_trouble = trouble;
  const json::object status =
      node::node_status({}, facts, "192.0.2.1", {}, {}, before, {.wall_ns = 0, .steady_ns = 0});
  for (const json::value& one : status.at("conditions").as_array()) {
    if (string_at(one, "/type") == "NetworkUnavailable")
      return string_at(one, "/status") + " " + string_at(one, "/reason") + ": " + string_at(one, "/message");
  }
  return "none";
}

}  // namespace

TEST_CASE("a node whose pod network is broken says so with the remedy, and that it works again afterwards") {
  CHECK(condition_of("", json::object{}) == "none");
  CHECK(condition_of("modprobe br_netfilter", json::object{}) ==
        "True PodNetworkBroken: modprobe br_netfilter");
  const json::value broken = json::object{
      {"status", json::object{{"conditions", json::array{json::object{{"type", "NetworkUnavailable"},
                                                                      {"status", "True"}}}}}}};
  CHECK(condition_of("", broken) == "False PodNetworkReady: the pods' network works");
}
