// The simulated network: virtual time, order, cuts, and the same run for the same seed.
#include "sim/sim_transport.hpp"

#include "base/engine_manual.hpp"
#include "sim/sim_env.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::sim;
using namespace std::chrono_literals;

namespace {
/// Two hosts a and b, b listens; drives virtual time.
struct Lab {
  explicit Lab(std::uint64_t seed, SimNetworkOptions options = {})
      : random(seed), network(engine, random, options) {
    listener = std::move(b->listen("b:0", [this](std::shared_ptr<TransportConnection> connection) {
                 accepted = std::move(connection);
                 return TransportHandler{[this](std::string text) { note("b got " + text); },
                                         [this](const Error& why) { note("b lost it: " + why.message()); }};
               })).value();
  }
  void run(Duration time) {
    const std::int64_t end = clock.now().steady_ns + time.count();
    while (true) {
      run_ready(engine);
      const auto next = next_timer_ns(engine);
      if (!next || *next > end) break;
      clock.advance(Duration(std::max<std::int64_t>(0, *next - clock.now().steady_ns)));
    }
    clock.advance(Duration(end - clock.now().steady_ns));
    run_ready(engine);
  }
  std::shared_ptr<TransportConnection> dial() {
    auto pending =
        a->connect(listener->address(), {[this](std::string text) { note("a got " + text); },
                                         [this](const Error& why) { note("a lost it: " + why.message()); }});
    run(1s);
    auto connected = pending.wait(0s);
    return connected ? *connected : nullptr;
  }
  void note(const std::string& line) { log += std::to_string(clock.now().steady_ns) + " " + line + "\n"; }

  SimClock clock;
  SimRandom random;
  Engine engine{EngineOptions{.event_threads = 0, .clock = &clock}};
  SimNetwork network;
  std::unique_ptr<Transport> a = network.host("a"), b = network.host("b");
  std::unique_ptr<TransportListener> listener;
  std::shared_ptr<TransportConnection> accepted;
  std::string log;
};

std::string some_run(std::uint64_t seed) {
  Lab lab(seed, {.resets_per_million = 20'000});
  auto connection = lab.dial();
  for (int i = 0; i < 50 && connection; ++i) {
    (void)connection->send(std::to_string(i));
    if (lab.accepted) (void)lab.accepted->send("re " + std::to_string(i));
    lab.run(3ms);
  }
  return lab.log;
}
}  // namespace

TEST_CASE("messages arrive whole and in order, in virtual time only") {
  Lab lab(7, {.delay_min = 1ms, .delay_max = 50ms});
  auto connection = lab.dial();
  REQUIRE(connection);
  for (const char* text : {"one", "two", "three"}) REQUIRE(connection->send(text));
  CHECK(lab.log.empty());
  lab.run(200ms);
  const std::size_t one = lab.log.find("b got one"), two = lab.log.find("b got two"),
                    three = lab.log.find("b got three");
  REQUIRE(three != std::string::npos);
  CHECK(one < two);
  CHECK(two < three);
}

TEST_CASE("a cut link resets connections and refuses new ones until it heals") {
  Lab lab(7);
  auto connection = lab.dial();
  REQUIRE(connection);
  lab.network.cut("a", "b");
  lab.run(10ms);
  CHECK(lab.log.find("a lost it") != std::string::npos);
  CHECK(lab.log.find("b lost it") != std::string::npos);
  CHECK_FALSE(connection->send("late"));
  CHECK(lab.dial() == nullptr);
  lab.network.heal();
  CHECK(lab.dial() != nullptr);
}

TEST_CASE("a one-way cut swallows one direction and leaves the other") {
  Lab lab(7);
  auto connection = lab.dial();
  REQUIRE(connection);
  lab.network.cut("a", "b", true);
  REQUIRE(connection->send("into the void"));
  REQUIRE(lab.accepted->send("hello"));
  lab.run(100ms);
  CHECK(lab.log.find("b got") == std::string::npos);
  CHECK(lab.log.find("a got hello") != std::string::npos);
}

TEST_CASE("one seed gives one run, another seed another") {
  const std::string first = some_run(42);
  CHECK_FALSE(first.empty());
  CHECK(first == some_run(42));
  CHECK(first != some_run(43));
}
