// What holds for lists and watches whatever is written meanwhile, tried with random writes: a list and the
// changes that follow are the later list, joined pages are the whole list, two servers on one store show one
// order. A failure prints its seed: ORC_SEED=N test_apiserver -tc="property*" replays it.
#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/remote_client.hpp"
#include "tests/api/random_value.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;
using test::Chance;

namespace {
struct TwoClients {
  test::TempDir folder;
  Engine engine;
  std::shared_ptr<StateStore> store = MemoryStore::create(engine);
  ApiServer server{engine, store,
                   ApiServerOptions{.listen = "127.0.0.1:0",
                                    .data_directory = folder.path(),
                                    .bookmark_interval = std::chrono::milliseconds(200)}};
  std::vector<Client> clients;
  TwoClients() {
    REQUIRE(server.start());
    clients.push_back(server.client());
    clients.push_back(RemoteClient::from_kubeconfig_text(engine, server.kubeconfig().value()).value());
  }
  ~TwoClients() { server.stop(); }
};

/// Pods that are made, labelled, change their phase and go, by chance.
class Writer {
 public:
  Writer(Client client, Chance& chance) : client_(std::move(client)), chance_(chance) {}

  void write() {
    const std::string ns = chance_.any_of<const char*>({"default", "kube-public"});
    const std::string name = "p" + std::to_string(chance_.below(12));
    const bool there = there_.contains({ns, name});
    if (!there) {
      REQUIRE(client_.create(pod(ns, name)).wait(30s));
      there_.insert({ns, name});
    } else if (chance_.one_in(3)) {
      REQUIRE(client_.remove("v1", "pods", name, ns).wait(30s));
      there_.erase({ns, name});
    } else if (chance_.one_in(2)) {
      WriteOptions options;
      options.subresource = "status";
      const std::string phase = chance_.any_of<const char*>({"Pending", "Running"});
      REQUIRE(client_
                  .patch("v1", "pods", name, ns, PatchType::merge, R"({"status":{"phase":")" + phase + "\"}}",
                         options)
                  .wait(30s));
    } else {
      const std::string app = chance_.any_of<const char*>({"web", "db"});
      REQUIRE(client_
                  .patch("v1", "pods", name, ns, PatchType::merge,
                         R"({"metadata":{"labels":{"app":")" + app + "\"}}}")
                  .wait(30s));
    }
  }
  /// One that every selector here matches.
  void write_last() { REQUIRE(client_.create(pod("default", "zz-last", "web")).wait(30s)); }

 private:
  Object pod(const std::string& ns, const std::string& name, std::string app = {}) {
    if (app.empty()) app = chance_.any_of<const char*>({"web", "db"});
    return Object::from_json(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":")" + name +
                             R"(","namespace":")" + ns + R"(","labels":{"app":")" + app +
                             R"("}},"spec":{"containers":[{"name":"c","image":"i"}]}})")
        .value();
  }
  Client client_;
  Chance& chance_;
  std::set<std::pair<std::string, std::string>> there_;
};

std::map<std::string, std::string> versions_of(const std::vector<Object>& objects) {
  std::map<std::string, std::string> out;
  for (const Object& object : objects) out[object.ns() + "/" + object.name()] = object.resource_version();
  return out;
}

/// What somebody knows who listed once and follows a watch.
class Follower {
 public:
  Follower(Client client, ListOptions which) : client_(std::move(client)), which_(std::move(which)) {
    list();
  }

  /// Takes what is there; with `patience` until zz-last was seen.
  void follow(Duration patience = Duration::zero()) {
    while (patience == Duration::zero() || !known_.contains("default/zz-last")) {
      auto batch = patience == Duration::zero() ? watch_->poll() : watch_->next(patience);
      if (!batch) {
        const auto error = watch_->error();
        if (!error) {
          REQUIRE_MESSAGE(patience == Duration::zero(), "nothing came");
          return;
        }
        REQUIRE_MESSAGE((error->is(Error::expired) || error->is(Error::compacted)), error->to_string());
        list();
        continue;
      }
      for (const ObjectChange& change : *batch) {
        if (!take(change)) break;
      }
    }
  }
  const std::map<std::string, std::string>& known() const { return known_; }
  std::map<std::string, std::string> listed() const {
    return versions_of(client_.list("v1", "pods", which_).wait(30s).value().items);
  }
  int lists = 0;

 private:
  void list() {
    ++lists;
    const ObjectList all = client_.list("v1", "pods", which_).wait(30s).value();
    known_ = versions_of(all.items);
    ListOptions from = which_;
    from.resource_version = all.resource_version;
    auto opened = client_.watch("v1", "pods", from);
    REQUIRE(opened);
    watch_ = std::move(*opened);
  }
  /// False: the watch was begun anew.
  bool take(const ObjectChange& change) {
    if (change.type == ObjectChange::Type::bookmark) return true;
    if (change.type == ObjectChange::Type::error) {
      REQUIRE(change.object.get_int("/code") == 410);
      list();
      return false;
    }
    const std::string key = change.object.ns() + "/" + change.object.name();
    const bool known = known_.contains(key);
    // Who listed knows what is modified or removed, and does not know what is added.
    CHECK_MESSAGE(known == (change.type != ObjectChange::Type::added), key);
    if (change.type == ObjectChange::Type::removed) {
      known_.erase(key);
    } else {
      known_[key] = change.object.resource_version();
    }
    return true;
  }
  Client client_;
  ListOptions which_;
  std::optional<ObjectWatch> watch_;
  std::map<std::string, std::string> known_;
};
}  // namespace

TEST_CASE("property: a list and the changes after it are the later list, for fast and slow watchers") {
  for (std::uint64_t seed = test::first_seed(); seed < test::first_seed() + test::seed_count(3); ++seed) {
    CAPTURE(seed);
    Chance chance(seed);
    TwoClients both;
    Writer writer(both.clients[0], chance);
    std::vector<std::unique_ptr<Follower>> followers;
    const auto begin = [&] {
      for (const Client& client : both.clients) {
        for (const ListOptions& which :
             {ListOptions{}, ListOptions{.labels = "app=web"}, ListOptions{.fields = "status.phase=Pending"},
              ListOptions{.ns = "default", .labels = "app!=db", .fields = "status.phase!=Running"}})
          followers.push_back(std::make_unique<Follower>(client, which));
      }
    };
    begin();
    for (int step = 0; step < 300; ++step) {
      writer.write();
      if (step == 150) begin();  // some come when there is much already
      if (chance.one_in(60)) REQUIRE(both.store->compact(both.store->revision()).wait(30s));
      // The first two of four are read often, the next seldom, the last never until the end.
      for (std::size_t i = 0; i < followers.size(); ++i) {
        if (i % 4 < 2 ? chance.one_in(3) : i % 4 == 2 && chance.one_in(60)) followers[i]->follow();
      }
    }
    writer.write_last();
    int lists = 0;
    for (const auto& follower : followers) {
      follower->follow(30s);
      CHECK(follower->known() == follower->listed());
      lists += follower->lists;
    }
    MESSAGE("seed " << seed << ": " << followers.size() << " watchers, " << lists << " lists");
  }
}

TEST_CASE("property: joined pages are the list that was there when the first was asked for") {
  for (std::uint64_t seed = test::first_seed(); seed < test::first_seed() + test::seed_count(3); ++seed) {
    CAPTURE(seed);
    Chance chance(seed);
    TwoClients both;
    Writer writer(both.clients[0], chance);
    for (int i = 0; i < 40; ++i) writer.write();
    for (int round = 0; round < 20; ++round) {
      const Client& client = both.clients[chance.below(2)];
      ListOptions which;
      if (chance.one_in(2)) which.ns = "default";
      if (chance.one_in(2)) which.labels = "app=web";
      if (chance.one_in(3)) which.fields = "status.phase=Running";
      const ObjectList whole = client.list("v1", "pods", which).wait(30s).value();
      std::vector<Object> joined;
      which.limit = static_cast<std::int64_t>(1 + chance.below(7));
      for (int pages = 0;; ++pages) {
        const ObjectList page = client.list("v1", "pods", which).wait(30s).value();
        CHECK(page.resource_version == whole.resource_version);
        CHECK(page.items.size() <= static_cast<std::size_t>(which.limit));
        joined.insert(joined.end(), page.items.begin(), page.items.end());
        if (page.continue_token.empty()) break;
        which.continue_token = page.continue_token;
        REQUIRE(pages < 100);
        for (std::uint64_t writes = chance.below(4); writes > 0; --writes) writer.write();
      }
      REQUIRE(joined.size() == whole.items.size());
      for (std::size_t i = 0; i < joined.size(); ++i) CHECK(joined[i] == whole.items[i]);
    }
  }
}

TEST_CASE("property: two servers on one store show one order of events, whoever wrote") {
  Engine engine;
  const std::shared_ptr<StateStore> store = MemoryStore::create(engine);
  ApiServer first(engine, store), second(engine, store, {.listen = "127.0.0.1:0"});
  REQUIRE(first.start());
  REQUIRE(second.start());
  const std::vector<Client> clients = {
      first.client(), second.client(),
      RemoteClient::from_kubeconfig_text(engine, second.kubeconfig().value()).value()};
  std::vector<ObjectWatch> watches;
  for (const Client& client : clients)
    watches.push_back(client
                          .watch("v1", "configmaps",
                                 {.ns = "default", .resource_version = std::to_string(store->revision())})
                          .value());
  constexpr int kEach = 60;
  std::atomic<int> done{0};
  std::vector<std::thread> writers;
  for (std::size_t w = 0; w < clients.size(); ++w) {
    writers.emplace_back([&, w] {
      Chance chance(test::first_seed() * 7 + w);
      for (int i = 0; i < kEach; ++i) {
        // Names are shared, so the writers meet; who loses has written nothing.
        const std::string name = "m" + std::to_string(chance.below(5));
        const Client& client = clients[w];
        if (chance.one_in(4)) {
          if (client.remove("v1", "configmaps", name, "default").wait(30s)) ++done;
        } else {
          const Object map =
              Object::from_json(R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":")" + name +
                                R"("},"data":{"by":")" + std::to_string(w) + "-" + std::to_string(i) +
                                R"("}})")
                  .value();
          if (client.create(map).wait(30s) || client.update(map).wait(30s)) ++done;
        }
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  REQUIRE(
      clients[0]
          .create(
              Object::from_json(R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"zz"}})").value())
          .wait(30s));
  std::vector<std::vector<std::string>> seen(watches.size());
  for (std::size_t i = 0; i < watches.size(); ++i) {
    std::int64_t last = 0;
    for (bool over = false; !over;) {
      const auto batch = watches[i].next(30s);
      REQUIRE(batch);
      for (const ObjectChange& change : *batch) {
        if (change.type == ObjectChange::Type::bookmark) continue;
        const std::int64_t revision = std::stoll(change.object.resource_version());
        CHECK(revision > last);
        last = revision;
        seen[i].push_back(std::to_string(static_cast<int>(change.type)) + " " + change.object.name() + " " +
                          change.object.resource_version() + " " +
                          change.object.get("/data/by").value_or(""));
        over = over || change.object.name() == "zz";
      }
    }
    watches[i].cancel();
  }
  CHECK(seen[0].size() == static_cast<std::size_t>(done) + 1);
  CHECK(seen[1] == seen[0]);
  CHECK(seen[2] == seen[0]);
  second.stop();
  first.stop();
}
