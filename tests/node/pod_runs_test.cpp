// Pod workers take turns: however many start at once, there is a thread for what they wait for.
#include "node/pod_runs.hpp"

#include <atomic>

#include "tests/support/test.hpp"

namespace orchestra {

using namespace std::chrono_literals;

TEST_CASE("more pods than threads start at once: each gets the thread that it waits for") {
  constexpr int kPods = 200;
  Engine engine;
  node::PodRuns runs(engine);
  std::atomic<int> running{0}, most{0}, done{0};
  const Promise<> posted, all;
  for (int i = 0; i < kPods; ++i) {
    REQUIRE(runs.post([&] {
      // Nobody asks for a second thread before all are there: else the first ones would be through by then.
      (void)posted.pending().wait(60s);
      const int now = ++running;
      for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
      }
      const auto inner = engine.run_blocking([]() -> Result<int> { return 1; }).wait(30s);
      --running;
      if (inner && ++done == kPods) all.set({});
    }));
  }
  posted.set({});
  CHECK(all.pending().wait(60s));
  CHECK(done == kPods);
  CHECK(most <= static_cast<int>(node::PodRuns::kRunningMax));
  engine.stop();
}

}  // namespace orchestra
