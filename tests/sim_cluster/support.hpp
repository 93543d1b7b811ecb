#pragma once
// What the tests of simulated clusters share.
#include "orchestra/simulator.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test {

inline SimScenario scenario_of(const std::string& text) {
  auto parsed = SimScenario::from_yaml(text);
  REQUIRE_MESSAGE(parsed, (parsed ? "" : parsed.error().to_string()));
  return *parsed;
}
/// How many lines of the timeline hold these words.
inline std::size_t told(const SimReport& report, const std::string& what) {
  std::size_t times = 0;
  for (const SimNote& note : report.timeline) times += note.what.find(what) != std::string::npos ? 1 : 0;
  return times;
}

}  // namespace orchestra::test
