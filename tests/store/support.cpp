#include "tests/store/support.hpp"

#include <thread>

#include "orchestra/etcd_store.hpp"
#include "orchestra/raft_store.hpp"
#include "tests/store/etcd_server.hpp"

namespace orchestra::store::test {

namespace {

std::unique_ptr<Fixture> make_etcd_fixture(StoreLimits limits) {
  struct EtcdFixture : Fixture {
    EtcdServer server;  // ends after the store: ~Fixture stops it, this destructor does so before
    ~EtcdFixture() override {
      if (store) store->stop();
      store.reset();
    }
  };
  auto fixture = std::make_unique<EtcdFixture>();
  EtcdStoreOptions options;
  options.endpoints = {fixture->server.url()};
  options.limits = limits;
  auto opened = EtcdStore::open(fixture->engine, options);
  REQUIRE_MESSAGE(opened.has_value(), (opened ? "" : opened.error().to_string()));
  fixture->store = *opened;
  return fixture;
}

std::vector<Implementation> all_implementations() {
  std::vector<Implementation> all{
      {"MemoryStore",
       [](StoreLimits limits) {
         auto fixture = std::make_unique<Fixture>();
         fixture->store = MemoryStore::create(fixture->engine, {.limits = limits});
         return fixture;
       }},
      {"RaftStore, one peer",
       [](StoreLimits limits) {
         auto fixture = std::make_unique<Fixture>();
         RaftStoreOptions options;
         options.data_dir = fixture->folder / "store";
         options.limits = limits;
         auto opened = RaftStore::open(fixture->engine, options);
         REQUIRE_MESSAGE(opened.has_value(), (opened ? "" : opened.error().to_string()));
         fixture->store = *opened;
         return fixture;
       }},
  };
  if (have_etcd()) all.push_back({"EtcdStore", make_etcd_fixture});
  return all;
}

}  // namespace

const std::vector<Implementation>& implementations() {
  static const std::vector<Implementation> all = all_implementations();
  return all;
}

std::string list(const RangeResult& result) {
  std::string out;
  for (const KeyValue& kv : result.items) {
    out += (out.empty() ? "" : " ") + kv.key + "=" + std::string(kv.value.bytes());
  }
  return out;
}

bool eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + kSoon;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace orchestra::store::test
