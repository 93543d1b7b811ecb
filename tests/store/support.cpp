#include "tests/store/support.hpp"

#include <unistd.h>

#include <filesystem>
#include <thread>

#include "orchestra/env.hpp"
#include "orchestra/etcd_store.hpp"
#include "orchestra/raft_store.hpp"
#include "orchestra/store_client.hpp"
#include "tests/store/etcd_server.hpp"

namespace orchestra::store::test {

namespace {
struct ClientFixture : Fixture {
  std::shared_ptr<StateStore> served;
  std::unique_ptr<StoreServer> server;
  ~ClientFixture() override {
    if (store) store->stop();
    store.reset();
    server.reset();
    served->stop();
  }
};
}  // namespace

std::vector<std::string> free_addresses(Engine& engine, std::size_t count) {
  // On a loopback address of this process alone, which no outgoing connection takes for its own end.
  const auto id = static_cast<unsigned>(::getpid());
  const std::string own = "127." + std::to_string(64 + (id >> 16 & 63)) + "." +
                          std::to_string(id >> 8 & 255) + "." + std::to_string(id & 255);
  std::vector<std::unique_ptr<TransportListener>> listeners;
  std::vector<std::string> addresses;
  for (std::size_t i = 0; i < count; ++i) {
    auto listener = engine.transport().listen(own + ":0", [](auto) { return TransportHandler{}; });
    REQUIRE(listener.has_value());
    addresses.push_back((*listener)->address());
    listeners.push_back(std::move(*listener));
  }
  return addresses;
}

void PeersFixture::open(std::size_t count, StoreLimits limits) {
  // A free port may be taken by somebody's outgoing connection before its peer listens: then all again.
  for (int attempt = 0;; ++attempt) {
    const auto addresses = free_addresses(engine, count);
    list.clear();
    for (std::size_t i = 0; i < count; ++i)
      list.push_back(std::string(1, static_cast<char>('a' + i)) + "=" + addresses[i]);
    peers.assign(count, nullptr);
    std::size_t opened = 0;
    while (opened < count && try_start(opened, limits, attempt < 9)) ++opened;
    if (opened == count) return;
    for (auto& peer : peers) {
      if (peer) peer->stop();
    }
    peers.clear();
    for (const std::string& peer : list) std::filesystem::remove_all(folder / peer.substr(0, 1));
  }
}

void PeersFixture::start(std::size_t number, StoreLimits limits) { (void)try_start(number, limits, false); }

/// False only where a taken port `may_fail`.
bool PeersFixture::try_start(std::size_t number, StoreLimits limits, bool may_fail) {
  RaftStoreOptions options;
  options.name = list[number].substr(0, 1);
  options.data_dir = folder / options.name;
  options.initial_peers = list;
  options.limits = limits;
  use_lan_fast_timing(options);
  if (change) change(options);
  auto opened = RaftStore::open(engine, options);
  if (!opened && may_fail && opened.error().to_string().find("in use") != std::string::npos) return false;
  REQUIRE_MESSAGE(opened.has_value(), (opened ? "" : opened.error().to_string()));
  peers[number] = *opened;
  return true;
}

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
      {"StoreClient of a StoreServer",
       [](StoreLimits limits) {
         auto fixture = std::make_unique<ClientFixture>();
         fixture->served = MemoryStore::create(fixture->engine, {.limits = limits});
         fixture->server = std::make_unique<StoreServer>(fixture->engine, fixture->served,
                                                         StoreServer::Options{.listen = "127.0.0.1:0"});
         REQUIRE(fixture->server->start().has_value());
         auto client = StoreClient::connect(fixture->engine, {.endpoints = {fixture->server->address()}});
         REQUIRE(client.has_value());
         fixture->store = std::move(*client);
         fixture->remote = true;
         (void)fixture->store->get("x").wait(kSoon);  // it is connected, and knows the revision
         return fixture;
       }},
      {"RaftStore, three peers, called on the second",
       [](StoreLimits limits) {
         auto fixture = std::make_unique<PeersFixture>();
         fixture->open(3, limits);
         fixture->store = std::move(fixture->peers[1]);
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
