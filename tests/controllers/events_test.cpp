// Events of controllers: repeats are counted, who talks too much is cut, and nobody waits for the server.
#include <condition_variable>
#include <mutex>

#include "base/json.hpp"
#include "orchestra/reconciler.hpp"
#include "tests/controllers/world.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {

struct TestClock : Clock {
  std::atomic<std::int64_t> ns{1'767'225'600'000'000'000};
  Now now() override { return {ns, ns}; }
};

/// Takes events; keeps what they are now, by name.
class EventServer : public Client::Impl {
 public:
  Pending<ApiResponse> request(ApiRequest request) override {
    std::unique_lock lock(mutex);
    ApiResponse response;
    if (request.verb == "create" && request.resource == "events") {
      const json::value body = parse_json(request.body).value();
      events[string_at(body, "/metadata/name")] = body;
    } else if (request.verb == "patch" && events.contains(request.name)) {
      const json::value patch = parse_json(request.body).value();
      for (const auto& [field, value] : patch.get_object()) events[request.name].as_object()[field] = value;
    } else {
      response.code = 404;
      response.body = R"({"kind":"Status","code":404,"reason":"NotFound","message":"gone"})";
    }
    ++requests;
    changed.notify_all();
    if (!held) return Result<ApiResponse>(response);
    Promise<ApiResponse> later;
    waiting.emplace_back(later, response);
    return later.pending();
  }
  void answer_all() {
    std::vector<std::pair<Promise<ApiResponse>, ApiResponse>> all;
    {
      std::lock_guard lock(mutex);
      held = false;
      all.swap(waiting);
    }
    for (auto& [promise, response] : all) promise.set(response);
  }
  /// "reason message xCOUNT" of each, sorted.
  std::vector<std::string> told() {
    std::lock_guard lock(mutex);
    std::vector<std::string> out;
    for (const auto& [name, event] : events)
      out.push_back(string_at(event, "/reason") + " " + string_at(event, "/message") + " x" +
                    std::to_string(int_at(event, "/count")));
    std::sort(out.begin(), out.end());
    return out;
  }
  bool wait(const std::function<bool()>& done) {
    const auto end = std::chrono::steady_clock::now() + 60s;
    while (!done()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::unique_lock lock(mutex);
      changed.wait_for(lock, 20ms);
    }
    return true;
  }

  Pending<ObjectList> list(ApiRequest) override { return unsupported(); }
  Result<ObjectWatch> watch(ApiRequest) override { return unsupported(); }
  Pending<std::vector<ApiResponse>> batch(std::vector<ApiRequest>) override { return unsupported(); }
  Pending<std::shared_ptr<ByteStream>> log(ApiRequest) override { return unsupported(); }
  Pending<std::shared_ptr<ProcessStream>> exec(ApiRequest) override { return unsupported(); }
  Pending<std::shared_ptr<DuplexStream>> port_forward(ApiRequest, int) override { return unsupported(); }

  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, json::value> events;
  std::vector<std::pair<Promise<ApiResponse>, ApiResponse>> waiting;
  std::size_t requests = 0;
  bool held = false;

 private:
  static Error unsupported() { return Error(Error::unsupported, "test", "not part of this server"); }
};

struct House {
  TestClock clock;
  Engine engine{EngineOptions{.clock = &clock}};
  std::shared_ptr<EventServer> server = std::make_shared<EventServer>();
  EventRecorder events;
  explicit House(EventRecorderOptions options = {}) : events(engine, Client(server), std::move(options)) {}
  ~House() {
    events.stop();
    engine.stop();
  }
  void say(const std::string& name, const std::string& reason, const std::string& message) {
    events.record("test", test::object_from_line("Pod shop/" + name + " app=web"), "Normal", reason, message);
  }
};

}  // namespace

TEST_CASE("the same event again raises a count; another message, reason or object is an event of its own") {
  House house;
  for (int i = 0; i < 3; ++i) house.say("a", "Pulled", "image v1");
  house.say("a", "Pulled", "image v2");
  house.say("a", "Started", "image v1");
  house.say("b", "Pulled", "image v1");
  const std::vector<std::string> expected{"Pulled image v1 x1", "Pulled image v1 x3", "Pulled image v2 x1",
                                          "Started image v1 x1"};
  CHECK(house.server->wait([&] { return house.server->told() == expected; }));
  CHECK(house.events.dropped() == 0);
}

TEST_CASE("an object has 25 events at once, then one in five minutes; others are not cut for it") {
  House house;
  for (int i = 0; i < 40; ++i) house.say("loud", "Says", std::to_string(i));
  house.say("quiet", "Says", "one word");
  REQUIRE(house.server->wait([&] { return house.server->told().size() == 26; }));
  CHECK(house.events.dropped() == 15);
  house.clock.ns += Duration(299s).count();
  house.say("loud", "Says", "too early");
  CHECK(house.events.dropped() == 16);
  house.clock.ns += Duration(1s).count();
  house.say("loud", "Says", "in time");
  CHECK(house.server->wait([&] { return house.server->told().size() == 27; }));
  CHECK(house.events.dropped() == 16);
}

TEST_CASE("a server that does not answer costs events beyond the queue, and nobody any time") {
  House house({.queue_max = 10, .burst = 1000});
  house.server->held = true;
  for (int i = 0; i < 100; ++i) house.say("a", "Says", std::to_string(i));
  // One is under way, ten wait.
  CHECK(house.events.dropped() == 89);
  house.server->answer_all();
  CHECK(house.server->wait([&] { return house.server->told().size() == 11; }));
}
