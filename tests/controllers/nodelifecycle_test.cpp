// Which leases wake the controller of nodes: tests/scenarios/controllers/nodes.txt has what it decides.
#include "controllers/builtin.hpp"
#include "controllers/common/catalog.hpp"
#include "controllers/nodelifecycle/decide.hpp"
#include "tests/controllers/world.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::controllers;
using test::object_from_line;

namespace {
// The keys that a change of a lease from one time to another wakes; an empty time: no lease.
std::string woken(const std::string& before, const std::string& after,
                  const std::string& ns = "kube-node-lease") {
  const auto lease = [&](const std::string& time) {
    return time.empty() ? Object() : object_from_line("Lease " + ns + "/n1 uid=u1 spec.renewTime=" + time);
  };
  test::World world;
  std::string keys;
  const auto reconciler = make_node_lifecycle_reconciler({});
  for (const Source& source : reconciler->sources()) {
    if (source.resource == leases() && source.keys)
      source.keys(world, lease(before), lease(after), [&](const std::string& key) { keys += key; });
  }
  return keys;
}
}  // namespace

TEST_CASE("a renewed lease wakes nobody, one that is set back wakes its node") {
  CHECK(woken("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:10.000000Z").empty());
  CHECK(woken("2026-01-01T00:00:10.000000Z", "2026-01-01T00:00:10.000000Z").empty());
  CHECK(woken("2026-01-01T00:00:10.000000Z", "2026-01-01T00:00:00.000000Z") == "n1");
  // Other forms of the same times.
  CHECK(woken("2026-01-01T00:00:10Z", "2026-01-01T00:00:10.000000Z").empty());
  CHECK(woken("2026-01-01T00:00:10.000000Z", "2026-01-01T00:00:09Z") == "n1");
  CHECK(woken("2026-01-01T00:00:10.000000+01:00", "2026-01-01T00:00:00.000000Z").empty());
  // New and removed ones, others' leases, and what is no time.
  CHECK(woken("", "2026-01-01T00:00:00.000000Z").empty());
  CHECK(woken("2026-01-01T00:00:10.000000Z", "").empty());
  CHECK(woken("2026-01-01T00:00:10.000000Z", "2026-01-01T00:00:00.000000Z", "kube-system").empty());
  CHECK(woken("2026-01-01T00:00:10.000000Z", "never").empty());
}
