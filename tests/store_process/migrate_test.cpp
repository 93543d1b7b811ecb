// Moving three real peers into an etcd and back while they are written to.
#include <map>

#include "orchestra/etcd_store.hpp"
#include "tests/store/etcd_server.hpp"
#include "tests/store/support.hpp"
#include "tests/store_process/lab.hpp"

using namespace orchestra;
using namespace orchestra::test;
namespace etcd = orchestra::store::test;

/// What the private etcd waits with.
bool orchestra::store::test::eventually(const std::function<bool()>& condition) {
  return orchestra::test::eventually(condition);
}

namespace {

std::string endpoints(const Lab& lab) {
  std::string list;
  for (const std::string& each : lab.clients) list += (list.empty() ? "orchestra://" : ",") + each;
  return list;
}
std::map<std::string, std::string> all_of(StateStore& store) {
  std::map<std::string, std::string> all;
  const auto range = store.range(KeyPrefix(""), {}).wait(kSoon);
  REQUIRE(range.has_value());
  for (const KeyValue& kv : range->items) all[kv.key] = std::string(kv.value.bytes());
  return all;
}

}  // namespace

TEST_CASE("three peers move into an etcd and back into three others while they are written to") {
  if (!etcd::have_etcd()) ORC_SKIP("migration under load", etcd::kNoEtcd);
  etcd::EtcdServer server;
  const std::string url = "etcd+" + server.url();
  std::map<std::string, std::string> content;
  {
    Lab lab;
    auto client = lab.client(30s);
    for (int i = 0; i < 300; ++i)
      REQUIRE(client->put("fill" + std::to_string(i), "v").wait(kSoon).has_value());
    Load load(lab);
    REQUIRE(eventually([&] { return load.acknowledged() > 30; }));
    Child move({kProgram, "store", "migrate", endpoints(lab), url, "--follow", "2s"},
               lab.folder / "move.log");
    const std::size_t before = load.acknowledged();
    REQUIRE(eventually([&] { return load.acknowledged() > before + 200; }));
    check(load.finish());  // its writers are switched over: the move ends by itself
    CHECK(move.wait() == 0);
    content = all_of(*client);
    client->stop();
  }
  CHECK(content.size() == 303);  // and what the load writes: two keys
  Engine engine;
  EtcdStoreOptions options;
  options.endpoints = {server.url()};
  options.adopt = true;
  auto there = EtcdStore::open(engine, options);
  REQUIRE(there.has_value());
  CHECK(all_of(**there) == content);

  Lab lab;
  auto client = lab.client(30s);
  REQUIRE(client->remove(Key("ready")).wait(kSoon).has_value());
  Child move({kProgram, "store", "migrate", url, endpoints(lab), "--follow", "2s"}, lab.folder / "move.log");
  for (int i = 0; i < 300; ++i) {
    REQUIRE((*there)->put("fill" + std::to_string(i), std::to_string(i)).wait(kSoon).has_value());
    if (i % 10 == 0) REQUIRE((*there)->remove(Key("fill" + std::to_string(i))).wait(kSoon).has_value());
  }
  CHECK(move.wait() == 0);
  CHECK(all_of(*client) == all_of(**there));
  (*there)->stop();
  Load load(lab);
  REQUIRE(eventually([&] { return load.acknowledged() > 30; }));
  // The peers' first values are the etcd's last ones: the history begins with them.
  auto history = load.finish();
  for (int i = 0; i < 3; ++i) {
    sim::Operation first;
    first.type = sim::Operation::Type::write;
    first.key = "k" + std::to_string(i);
    first.value = content[first.key];
    first.called = first.returned = 0;
    history.insert(history.begin(), first);
  }
  const std::string wrong = sim::check_linearizable(history);
  CHECK_MESSAGE(wrong.empty(), wrong);
  client->stop();
}

TEST_CASE("a move that does not follow says that somebody wrote meanwhile") {
  if (!etcd::have_etcd()) ORC_SKIP("migration of a store that is written to", etcd::kNoEtcd);
  etcd::EtcdServer server;
  Lab lab;
  auto client = lab.client(30s);
  for (int done = 0; done < 4000;) {  // so that the copy takes its time
    std::vector<Pending<WriteResult>> some;
    for (; some.size() < 100; ++done) some.push_back(client->put("fill" + std::to_string(done), "v"));
    for (auto& each : some) REQUIRE(each.wait(kSoon).has_value());
  }
  client->stop();
  Load load(lab);
  REQUIRE(eventually([&] { return load.acknowledged() > 30; }));
  CHECK(lab.run({"migrate", endpoints(lab), "etcd+" + server.url()}) == 4);
  check(load.finish());
}
