#pragma once
// What the store's tests share: an engine, and every implementation of StateStore under one name.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/raft_store.hpp"
#include "orchestra/state_store.hpp"
#include "tests/support/test.hpp"

namespace orchestra::store::test {

using namespace std::chrono_literals;
constexpr Duration kSoon = std::chrono::seconds(60);  ///< far more than anything here needs

/// One implementation, fresh and empty.
struct Fixture {
  orchestra::test::TempDir folder;
  Engine engine;
  std::shared_ptr<StateStore> store;
  bool remote = false;  ///< events of watches arrive later than the answers of writes
  virtual ~Fixture() {
    if (store) store->stop();
    store.reset();
  }
  StateStore* operator->() const { return store.get(); }
};

/// Several peers in one process, over real sockets on the loopback.
struct PeersFixture : Fixture {
  std::vector<std::string> list;  ///< NAME=ADDRESS
  std::vector<std::shared_ptr<StateStore>> peers;
  std::function<void(RaftStoreOptions&)> change;
  ~PeersFixture() override {
    for (auto& peer : peers) {
      if (peer) peer->stop();
    }
  }
  void open(std::size_t count, StoreLimits limits);
  void start(std::size_t number, StoreLimits limits);
  bool try_start(std::size_t number, StoreLimits limits, bool may_fail);
};
/// Addresses of the loopback that nobody listens on.
std::vector<std::string> free_addresses(Engine& engine, std::size_t count);

struct Implementation {
  std::string name;
  std::function<std::unique_ptr<Fixture>(StoreLimits)> make;
};
/// Those every conformance test runs on.
const std::vector<Implementation>& implementations();

/// Keep by hand only, so that tests decide when history goes.
inline StoreLimits no_compaction() {
  StoreLimits limits;
  limits.history_age = Duration::zero();
  return limits;
}

inline WriteResult put(StateStore& store, const std::string& key, const std::string& value,
                       PutOptions options = {}) {
  auto result = store.put(key, value, std::move(options)).wait(kSoon);
  REQUIRE_MESSAGE(result.has_value(), (result ? "" : result.error().to_string()));
  return std::move(*result);
}
inline std::string text(const std::optional<KeyValue>& kv) {
  return kv ? std::string(kv->value.bytes()) : std::string("(none)");
}
inline std::string get(StateStore& store, const std::string& key, Revision revision = 0) {
  auto result = store.get(key, {.revision = revision}).wait(kSoon);
  REQUIRE_MESSAGE(result.has_value(), (result ? "" : result.error().to_string()));
  return text(result->kv);
}
/// A txn as an operation of another one.
inline TxnOp nest(Txn txn) {
  TxnOp op;
  op.type = TxnOp::Type::txn;
  op.nested.push_back(std::move(txn));
  return op;
}
/// "a=1 b=2"
std::string list(const RangeResult& result);
/// Waits until `condition` holds; false after kSoon.
bool eventually(const std::function<bool()>& condition);

}  // namespace orchestra::store::test

/// A test case run once per implementation, as subcases; `fixture` is in scope.
#define STORE_TEST_CASE(title) STORE_TEST_CASE_(title, DOCTEST_ANONYMOUS(store_test_))
#define STORE_TEST_CASE_(title, function)                                            \
  static void function(::orchestra::store::test::Fixture& fixture);                  \
  TEST_CASE(title) {                                                                 \
    for (const auto& implementation : ::orchestra::store::test::implementations()) { \
      CAPTURE(implementation.name);                                                  \
      auto made = implementation.make(::orchestra::store::test::no_compaction());    \
      function(*made);                                                               \
    }                                                                                \
  }                                                                                  \
  static void function(::orchestra::store::test::Fixture& fixture)
