// The feed follows a real API server: snapshots grow with writes, folded, in order, and say what is synced.
#include <condition_variable>
#include <mutex>

#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/network_feed.hpp"
#include "tests/net_l4/snapshot_objects.hpp"

using namespace orchestra;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {

/// Waits until a snapshot fulfils a condition.
class Waiter {
 public:
  void take(std::shared_ptr<const NetworkSnapshot> snapshot) {
    std::lock_guard lock(mutex_);
    if (newest_ && snapshot->revision < newest_->revision) ordered_ = false;
    newest_ = std::move(snapshot);
    ++count_;
    changed_.notify_all();
  }
  template <class F>
  bool until(F condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 10s, [&] { return newest_ && condition(*newest_); });
  }
  bool ordered() const {
    std::lock_guard lock(mutex_);
    return ordered_;
  }
  int count() const {
    std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const NetworkSnapshot> newest_;
  bool ordered_ = true;
  int count_ = 0;
};

}  // namespace

TEST_CASE("the feed publishes what the API server has, in order, with few builds for many writes") {
  Engine engine;
  auto store = MemoryStore::create(engine);
  ApiServer server(engine, store);
  REQUIRE(server.start());
  Client client = server.client();
  Waiter waiter;
  auto feed = NetworkFeed::start(engine, client).value();
  feed->subscribe([&](std::shared_ptr<const NetworkSnapshot> snapshot) { waiter.take(std::move(snapshot)); });
  REQUIRE(feed->wait_synced().wait(60s));
  CHECK(waiter.until([](const NetworkSnapshot& s) { return s.namespaces.contains("default"); }));
  constexpr int kServices = 50;
  const int before = waiter.count();
  for (int i = 0; i < kServices; ++i) {
    auto created = client
                       .create(from_text(R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web-)" +
                                         std::to_string(i) +
                                         R"(","namespace":"default"},"spec":{"ports":[{"port":80}]}})"))
                       .wait(60s);
    REQUIRE_MESSAGE(created, (created ? "" : created.error().to_string()));
  }
  CHECK(waiter.until([](const NetworkSnapshot& s) { return s.services.size() >= kServices; }));
  CHECK(waiter.count() - before <= 2 * kServices + 2);
  CHECK(waiter.ordered());
  const auto snapshot = feed->latest();
  REQUIRE(snapshot->find_service("default", "web-7") != nullptr);
  CHECK(snapshot->find_service("default", "web-7")->cluster_ips.size() == 1);
  REQUIRE(client.remove("v1", "services", "web-7", "default").wait(60s));
  CHECK(waiter.until([](const NetworkSnapshot& s) { return s.find_service("default", "web-7") == nullptr; }));
  feed->stop();
  feed->stop();
  server.stop();
}
