// shrink_scenario(): see shrink.hpp.
#include "sim/shrink.hpp"

#include <algorithm>

namespace orchestra {
namespace {

// What broke first, without times and counts: the same mistake at another second is the same.
std::string complaint(const SimReport& report) {
  const std::vector<std::string>& all = report.violations.empty() ? report.failures : report.violations;
  std::string text = all.empty() ? std::string() : all.front();
  std::erase_if(text, [](char letter) { return letter >= '0' && letter <= '9'; });
  return text;
}

}  // namespace

ShrunkScenario shrink_scenario(SimScenario scenario, SimReport report, std::size_t runs_max) {
  const std::string wanted = complaint(report);
  ShrunkScenario best{std::move(scenario), std::move(report), 0, false};
  // Without the events [begin, begin + count).
  const auto fails_without = [&](std::size_t begin, std::size_t count) {
    SimScenario less = best.scenario;
    const auto first = less.events.begin() + static_cast<std::ptrdiff_t>(begin);
    less.events.erase(first, first + static_cast<std::ptrdiff_t>(count));
    ++best.runs;
    SimReport again = SimCluster(less).run();
    if (again.passed() || complaint(again) != wanted) return false;
    best.scenario = std::move(less);
    best.report = std::move(again);
    return true;
  };
  std::size_t count = std::max<std::size_t>(1, best.scenario.events.size() / 2);
  while (!best.scenario.events.empty()) {
    bool smaller = false;
    for (std::size_t begin = 0; begin < best.scenario.events.size();) {
      if (best.runs == runs_max) return best;
      const std::size_t here = std::min(count, best.scenario.events.size() - begin);
      if (fails_without(begin, here)) {
        smaller = true;  // what came behind is here now
      } else {
        begin += here;
      }
    }
    if (count == 1 && !smaller) break;
    count = std::max<std::size_t>(1, count / 2);
  }
  best.smallest = true;
  return best;
}

}  // namespace orchestra
