// The cache of an informer is what the store holds after any sequence of faults: in virtual time, on an
// engine that is driven by hand, so that a seed decides everything. A failure prints its seed;
// ORC_INFORMER_SEED replays it.
#include <cstdlib>
#include <map>
#include <random>

#include "base/engine_manual.hpp"
#include "base/json.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/informer.hpp"
#include "tests/apiserver/held_store.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {
class VirtualClock final : public Clock {
 public:
  Now now() override { return {1'800'000'000'000'000'000 + steady_ns, steady_ns}; }
  std::int64_t steady_ns = 1;
};

EngineOptions driven(Clock& clock) {
  EngineOptions options;
  options.event_threads = 0;
  options.clock = &clock;
  return options;
}

/// One server, one informer, one writer, and everything that can happen between them.
class FaultyWorld {
 public:
  explicit FaultyWorld(std::uint64_t seed) : chance_(seed) {
    set_pump(engine_, [this](std::int64_t until) { return step(until); });
    REQUIRE(server_.start());
    writer_ = server_.client();
    maps_.on_event([this](const Object& old, const Object& now) { told(old, now); });
    REQUIRE(maps_.start());
  }
  ~FaultyWorld() {
    heal();
    run_for(1s);
    maps_.stop();
    server_.stop();
    run_for(1s);
  }

  void disturb(int times) {
    for (int i = 0; i < times; ++i) {
      const unsigned what = below(16);
      if (what < 9) {
        write();
      } else if (what == 9) {
        store_->end_watches(Error(Error::unavailable, "test", "cut"));
      } else if (what == 10) {
        store_->end_watches(Error(Error::compacted, "test", "forgotten"));
      } else if (what == 11) {
        (void)store_->compact(store_->revision()).wait(0s);
      } else if (what == 12) {
        store_->fail_reads(Error(Error::unavailable, "test", "down"));
      } else if (what == 13) {
        store_->fail_reads(Error(Error::deadline_exceeded, "test", "no answer"));
      } else if (what == 14) {
        heal();
      } else {
        run_for(Duration(std::int64_t{1'000'000} << below(16)));  // 1 ms to 33 s
      }
      if (below(3) == 0) run_for(0s);
    }
  }
  void heal() {
    store_->fail_reads(std::nullopt);
    store_->release();
  }
  void run_for(Duration time) {
    const std::int64_t until = clock_.steady_ns + time.count();
    while (step(until)) {
    }
  }

  using Picture = std::map<std::string, std::string>;  // name -> uid and resourceVersion
  Picture cached() const { return picture(maps_.cache().list()); }
  Picture stored() {
    auto list = writer_.list("v1", "configmaps", {.ns = "default"});
    run_for(1s);
    auto answer = list.wait(0s);
    REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().to_string()));
    return picture(answer->items);
  }
  const Picture& heard() const { return heard_; }
  int contradictions() const { return contradictions_; }

 private:
  static std::string version_of(const Object& object) {
    return std::string(object.uid()) + "@" + std::string(object.resource_version());
  }
  static Picture picture(const std::vector<Object>& objects) {
    Picture out;
    for (const Object& object : objects) out[std::string(object.name())] = version_of(object);
    return out;
  }
  // Whoever only listens must come to the same picture: each change begins with what was told before.
  void told(const Object& old, const Object& now) {
    const std::string name(now ? now.name() : old.name());
    const auto known = heard_.find(name);
    const bool fits = old ? known != heard_.end() && known->second == version_of(old) : known == heard_.end();
    if (!fits) ++contradictions_;
    if (now) {
      heard_[name] = version_of(now);
    } else {
      heard_.erase(name);
    }
  }
  void write() {
    const std::string name = "m" + std::to_string(below(12));
    const json::value map{{"apiVersion", "v1"},
                          {"kind", "ConfigMap"},
                          {"metadata", {{"name", name}, {"namespace", "default"}}},
                          {"data", {{"k", std::to_string(chance_())}}}};
    const Object object = Object::from_json(to_json(map)).value();
    switch (below(3)) {
      case 0:
        return (void)writer_.create(object);
      case 1:
        return (void)writer_.patch("v1", "configmaps", name, "default", PatchType::merge, to_json(map));
      default:
        return (void)writer_.remove("v1", "configmaps", name, "default");
    }
  }
  unsigned below(unsigned bound) { return static_cast<unsigned>(chance_() % bound); }
  bool step(std::int64_t until) {
    if (run_ready(engine_) > 0) return true;
    const auto next = next_timer_ns(engine_);
    if (!next || *next > until) {
      clock_.steady_ns = std::max(clock_.steady_ns, until);
      return false;
    }
    clock_.steady_ns = std::max(clock_.steady_ns, *next);
    return true;
  }

  std::mt19937_64 chance_;
  VirtualClock clock_;
  Engine engine_{driven(clock_)};
  std::shared_ptr<HeldStore> store_ = std::make_shared<HeldStore>(engine_);
  ApiServer server_{engine_, store_};
  Client writer_;
  InformerCore maps_{engine_, server_.client(), {"v1", "configmaps"}, {.ns = "default"}};
  Picture heard_;
  int contradictions_ = 0;
};
}  // namespace

TEST_CASE("the cache of an informer is what the store holds, whatever happened in between") {
  const char* chosen = std::getenv("ORC_INFORMER_SEED");
  const std::uint64_t first = chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : 1;
  const std::uint64_t count = chosen != nullptr ? 1 : 20;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    CAPTURE(seed);
    FaultyWorld world(seed);
    for (int round = 0; round < 4; ++round) {
      world.disturb(60);
      world.heal();
      world.run_for(70s);  // the longest pause between two tries, and a deadline
      const auto stored = world.stored();
      REQUIRE(world.cached() == stored);
      REQUIRE(world.heard() == stored);
      REQUIRE(world.contradictions() == 0);
    }
  }
}
