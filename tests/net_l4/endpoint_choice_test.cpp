// Which endpoints are used: all combinations of ready, serving, terminating and place.
#include "orchestra/service_proxy.hpp"
#include "tests/net_l4/snapshot_objects.hpp"

using namespace orchestra;
using namespace orchestra::test;

namespace {

NetworkEndpoint endpoint(int number, int state, const char* node = "n1") {
  NetworkEndpoint out;
  out.address = "10.244.1." + std::to_string(number);
  out.port = 8080;
  out.ready = (state & 1) != 0;
  out.serving = (state & 2) != 0;
  out.terminating = (state & 4) != 0;
  out.node = node;
  return out;
}

}  // namespace

TEST_CASE("ready endpoints are used; serving and terminating ones only when none is ready") {
  NetworkService service;
  for (int first = 0; first < 8; ++first) {
    for (int second = 0; second < 8; ++second) {
      NetworkServicePort port;
      port.endpoints = {endpoint(1, first), endpoint(2, second)};
      const auto choice = usable_endpoints(service, port, "n1");
      const bool any_ready = ((first | second) & 1) != 0;
      std::size_t expected = 0;
      for (const int state : {first, second}) {
        expected += any_ready ? (state & 1) : static_cast<std::size_t>((state & 6) == 6);
      }
      CAPTURE(first);
      CAPTURE(second);
      CHECK(choice.chosen.size() == expected);
      CHECK(choice.chosen.size() + choice.excluded.size() == 2);
      CHECK(choice.why_none.empty() == (expected > 0));
      CHECK_FALSE(choice.drop);
      for (const auto& other : choice.excluded) CHECK_FALSE(other.reason.empty());
    }
  }
}

TEST_CASE("a Local policy keeps to this node and drops when only other nodes have endpoints") {
  NetworkService service;
  service.internal_local = true;
  NetworkServicePort port;
  port.endpoints = {endpoint(1, 3, "n1"), endpoint(2, 3, "n2")};
  CHECK(usable_endpoints(service, port, "n1").chosen.size() == 1);
  CHECK(usable_endpoints(service, port, "n1", TrafficOrigin::external).chosen.size() == 2);
  const auto none = usable_endpoints(service, port, "n3");
  CHECK(none.chosen.empty());
  CHECK(none.drop);
  CHECK(none.excluded.front().reason == "on node \"n1\" (internalTrafficPolicy: Local)");
  port.endpoints = {endpoint(1, 0, "n2")};
  CHECK_FALSE(usable_endpoints(service, port, "n1").drop);  // nobody has one: refuse
  // Neither policy is for pods and nodes that use an outside address.
  service.external_local = true;
  port.endpoints = {endpoint(1, 3, "n1"), endpoint(2, 3, "n2")};
  CHECK(usable_endpoints(service, port, "n3", TrafficOrigin::external).drop);
  CHECK(usable_endpoints(service, port, "n3", TrafficOrigin::near).chosen.size() == 2);
}

TEST_CASE("headless, ExternalName and foreign Services are not ours") {
  NetworkServicePort port;
  port.endpoints = {endpoint(1, 3)};
  NetworkService headless, external, foreign;
  headless.headless = true;
  external.type = "ExternalName";
  foreign.foreign_proxy = true;
  for (const auto* service : {&headless, &external, &foreign}) {
    const auto choice = usable_endpoints(*service, port, "n1");
    CHECK(choice.not_ours);
    CHECK(choice.chosen.empty());
    CHECK_FALSE(choice.why_none.empty());
  }
}

TEST_CASE("hints narrow to the node, else to the zone, where every ready endpoint has them") {
  NetworkService service;
  NetworkServicePort port;
  const auto hinted = [](int number, int state, const char* node, const char* zone, bool to_node) {
    NetworkEndpoint out = endpoint(number, state, node);
    if (*zone != '\0') out.for_zones = {zone};
    if (to_node) out.for_nodes = {node};
    return out;
  };
  const auto chosen = [&](const char* node, const char* zone,
                          TrafficOrigin origin = TrafficOrigin::internal) {
    std::string out;
    for (const auto& one : usable_endpoints(service, port, node, origin, zone).chosen)
      out += one.address.substr(one.address.rfind('.') + 1);
    return out;
  };
  port.endpoints = {hinted(1, 3, "n1", "a", false), hinted(2, 3, "n2", "a", false),
                    hinted(3, 3, "n3", "b", false)};
  CHECK(chosen("n1", "a") == "12");
  CHECK(chosen("n3", "b") == "3");
  CHECK(chosen("n4", "c") == "123");  // nothing is hinted for this zone
  CHECK(chosen("n4", "") == "123");   // a node without a zone
  CHECK(usable_endpoints(service, port, "n3", TrafficOrigin::internal, "b").excluded.front().reason ==
        "for clients of other zones (hints)");

  port.endpoints = {hinted(1, 3, "n1", "a", true), hinted(2, 3, "n2", "a", true),
                    hinted(3, 3, "n3", "b", true)};
  CHECK(chosen("n1", "a") == "1");
  CHECK(chosen("n4", "a") == "12");  // no endpoint on this node: the zone
  CHECK(usable_endpoints(service, port, "n1", TrafficOrigin::internal, "a").excluded.front().reason ==
        "for clients on other nodes (hints)");

  // One ready endpoint without a hint, and none counts; what is not ready does not matter.
  port.endpoints.push_back(hinted(4, 3, "n4", "", false));
  CHECK(chosen("n1", "a") == "1234");
  port.endpoints.back() = hinted(4, 0, "n4", "", false);
  CHECK(chosen("n1", "a") == "1");

  // The only endpoints of the zone go: everybody's are used; when nobody is ready, those that still serve.
  port.endpoints = {hinted(1, 6, "n1", "a", false), hinted(3, 3, "n3", "b", false)};
  CHECK(chosen("n1", "a") == "3");
  port.endpoints = {hinted(1, 6, "n1", "a", false), hinted(3, 6, "n3", "b", false)};
  CHECK(chosen("n1", "a") == "13");

  // A Local policy goes first: hints say nothing more. A pod that uses an outside address is under none.
  service.external_local = true;
  port.endpoints = {hinted(1, 3, "n1", "b", false), hinted(2, 3, "n2", "a", false)};
  CHECK(chosen("n1", "a", TrafficOrigin::external) == "1");
  CHECK(chosen("n1", "a", TrafficOrigin::near) == "2");
}
