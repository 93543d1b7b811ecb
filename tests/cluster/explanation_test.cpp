// orchestra.dev/v1 podexplanations: what the scheduler of the cluster says, through the API.
#include "orchestra/object.hpp"
#include "tests/cluster/control_plane.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {

constexpr const char* kVersion = "orchestra.dev/v1";

void create(const Client& client, const std::string& json) {
  const auto made = client.create(Object::from_json(json).value()).wait(60s);
  REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
}

std::string node(const std::string& name, const std::string& cpu) {
  return R"({"apiVersion":"v1","kind":"Node","metadata":{"name":")" + name +
         R"("},"status":{"allocatable":{"cpu":")" + cpu +
         R"(","memory":"1Gi","pods":"10"},"conditions":[{"type":"Ready","status":"True"}]}})";
}

std::string pod(const std::string& name, const std::string& cpu) {
  return R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":")" + name +
         R"(","namespace":"shop"},"spec":{"containers":[{"name":"c","image":"web:1","resources":{"requests":{"cpu":")" +
         cpu + R"("}}}]}})";
}

}  // namespace

TEST_CASE("why a pod has no node, and why it has the one that it has, is an object of the API") {
  test::ControlPlane plane;
  const Client client = plane.client();
  create(client, R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}})");
  create(client, node("large", "4"));
  create(client, node("small", "1"));
  // A node is born with the taint not-ready; the control plane takes it away.
  for (const char* name : {"large", "small"}) {
    REQUIRE(test::until([&] {
      const auto got = client.get("v1", "nodes", name).wait(60s);
      return got && got->get("/spec/taints").value_or("").empty();
    }));
  }
  const auto status = [&](const std::string& name, const std::string& pointer) {
    const auto got = client.get(kVersion, "podexplanations", name, "shop").wait(60s);
    return got ? got->get(pointer).value_or("") : got.error().to_string();
  };

  create(client, pod("fits", "2"));
  REQUIRE(test::until([&] { return status("fits", "/nodeName") == "large"; }));
  CHECK(status("fits", "/wouldGoTo") == "large");
  CHECK(status("fits", "/nodes/1/name") == "small");
  CHECK(status("fits", "/nodes/1/fits") == "false");
  CHECK(status("fits", "/nodes/1/reasons/0") == "Insufficient cpu");
  CHECK(status("fits", "/nodes/1/plugin") == "NodeResourcesFit");
  CHECK(status("fits", "/nodes/0/fits") == "true");
  CHECK(std::stoll(status("fits", "/nodes/0/score")) > 0);
  CHECK(status("fits", "/nodes/0/scores/0/weight") != "");

  create(client, pod("huge", "9"));
  REQUIRE(test::until([&] { return status("huge", "/message").find("0/2 nodes") == 0; }));
  CHECK(status("huge", "/message").find("2 Insufficient cpu") != std::string::npos);
  CHECK(status("huge", "/nodeName").empty());
  CHECK(status("huge", "/wouldGoTo").empty());

  // A list is of those that wait, with what they were told.
  REQUIRE(test::until([&] {
    const auto all = client.list(kVersion, "podexplanations", {.ns = "shop"}).wait(60s);
    return all && all->items.size() == 1 && all->items[0].name() == "huge" &&
           all->items[0].get("/message").value_or("").find("2 Insufficient cpu") != std::string::npos;
  }));
  CHECK(client.list(kVersion, "podexplanations").wait(60s).value().items.size() == 1);
  CHECK(client.list(kVersion, "podexplanations", {.ns = "default"}).wait(60s).value().items.empty());
  const auto missing = client.get(kVersion, "podexplanations", "nobody", "shop").wait(60s);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().is(Error::not_found));
}
