// Which pods end in which phase of a shutdown (kubelet's groupByPriority and migrateConfig).
#include "node/shutdown.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::node;
using namespace std::chrono_literals;

TEST_CASE("without phases ordinary pods end first, then critical ones") {
  const auto phases = shutdown_phases({.normal = 20s, .critical = 5s});
  REQUIRE(phases.size() == 2);
  CHECK(phases[0].grace == 20s);
  CHECK(phases[1].grace == 5s);
  CHECK(shutdown_phase_of(phases, -10) == 0);
  CHECK(shutdown_phase_of(phases, 0) == 0);
  CHECK(shutdown_phase_of(phases, 1'999'999'999) == 0);
  CHECK(shutdown_phase_of(phases, 2'000'000'000) == 1);
  CHECK(shutdown_phase_of(phases, 2'000'001'000) == 1);
}

TEST_CASE("phases by priority run from the lowest to the highest, each from its priority on") {
  const auto phases = shutdown_phases({.by_priority = {{100'000, 10s}, {0, 60s}, {10'000, 180s}}});
  REQUIRE(phases.size() == 3);
  CHECK(phases[0].grace == 60s);
  CHECK(phases[1].grace == 180s);
  CHECK(phases[2].grace == 10s);
  CHECK(shutdown_phase_of(phases, -1) == 0);  // below all: the lowest
  CHECK(shutdown_phase_of(phases, 9'999) == 0);
  CHECK(shutdown_phase_of(phases, 10'000) == 1);
  CHECK(shutdown_phase_of(phases, 99'999) == 1);
  CHECK(shutdown_phase_of(phases, 100'000) == 2);
  CHECK(shutdown_phase_of(phases, 2'000'000'000) == 2);
}
