#pragma once
// The fewest events of a failing simulation with which it still fails.
//
// Delta debugging (Zeller, Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002): parts of
// the list are left out, large ones first, as long as the same thing breaks. In the end no single event can
// be left out, unless the bound on runs came first. Every run has the same seed, so what is left is a
// scenario like any other.
#include "orchestra/simulator.hpp"

namespace orchestra {

struct ShrunkScenario {
  SimScenario scenario;
  SimReport report;  ///< of the last run that failed
  std::size_t runs = 0;
  bool smallest = false;  ///< no event can be left out; false: the bound came first
};

/// `report` is what the scenario gave: it must not have passed. The same breaks when the first invariant or
/// expectation that broke is the same but for its numbers.
ORC_API ShrunkScenario shrink_scenario(SimScenario scenario, SimReport report, std::size_t runs_max = 200);

}  // namespace orchestra
