// Which changes are signs of life of a node: tests/scenarios/controllers/nodes.txt has what follows from
// them.
#include "controllers/builtin.hpp"
#include "controllers/common/catalog.hpp"
#include "controllers/nodelifecycle/decide.hpp"
#include "tests/controllers/world.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::controllers;
using test::object_from_line;

namespace {
// Whether the controller notes the change from one object to another; an empty line: no object.
bool noted(const std::string& before, const std::string& after) {
  const Object old = before.empty() ? Object() : object_from_line(before);
  const Object now = object_from_line(after);
  for (const Source& source : make_node_lifecycle_reconciler({})->sources()) {
    if (source.resource == test::resource_of_object(now) && source.observes) return source.observes(old, now);
  }
  return false;
}

std::string lease(const std::string& time, const std::string& ns = "kube-node-lease") {
  return "Lease " + ns + "/n1 spec.renewTime=" + time;
}
std::string node(const std::string& heartbeat, const std::string& rest = "") {
  return R"(Node n1 status.conditions=[{"type":"Ready","status":"True","lastHeartbeatTime":")" + heartbeat +
         R"("}] )" + rest;
}
}  // namespace

TEST_CASE("a renewal of a node's lease is a sign of life whatever time it tells") {
  CHECK(noted("", lease("2026-01-01T00:00:00.000000Z")));
  CHECK(noted(lease("2026-01-01T00:00:00.000000Z"), lease("2026-01-01T00:00:10.000000Z")));
  CHECK(noted(lease("2026-01-01T00:00:10.000000Z"), lease("2026-01-01T00:00:00.000000Z")));
  CHECK_FALSE(
      noted(lease("2026-01-01T00:00:10.000000Z"), lease("2026-01-01T00:00:10.000000Z") + " labels=a:b"));
  CHECK_FALSE(noted("", lease("2026-01-01T00:00:00.000000Z", "kube-system")));
}

TEST_CASE("a node's heartbeat is a sign of life, and no other change of the node is") {
  CHECK(noted("", "Node n1"));
  CHECK(noted(node("2026-01-01T00:00:00Z"), node("2026-01-01T00:05:00Z")));
  CHECK(noted("Node n1", node("2026-01-01T00:05:00Z")));
  CHECK_FALSE(noted(node("2026-01-01T00:00:00Z"), node("2026-01-01T00:00:00Z", "taint=a:NoExecute")));
  CHECK_FALSE(noted(node("2026-01-01T00:00:00Z"), "Node n1"));
  CHECK_FALSE(noted("Node n1", "Node n1 condition=Ready:Unknown"));
}
