// Real processes that come, go and are replaced while clients write and read.
#include <fstream>

#include "tests/store_process/lab.hpp"

using namespace orchestra;
using namespace orchestra::test;

TEST_CASE("a new peer joins, votes and takes the place of the leader, under load") {
  Lab lab;
  Load load(lab);
  REQUIRE(eventually([&] { return load.acknowledged() > 50; }));
  const std::string learner = lab.join_learner();
  REQUIRE(!learner.empty());
  const auto somebody = [&] { return lab.clients[0] + "," + lab.clients[1] + "," + lab.clients[2]; };
  REQUIRE(eventually([&] {
    return lab.run({"members", "promote", learner, "--endpoint", somebody()}) == 0;
  }));
  const std::size_t leader = lab.leader();
  const std::string gone = lab.id_of(lab.name(leader));
  REQUIRE(lab.run({"members", "remove", gone, "--endpoint", somebody()}) == 0);
  const std::size_t before = load.acknowledged();
  lab.children[leader]->end(SIGTERM);
  REQUIRE(eventually([&] { return load.acknowledged() > before + 50; }));
  check(load.finish());
  auto joined = StoreClient::connect(lab.engine, {.endpoints = {lab.clients[3]}, .call_deadline = 5s});
  CHECK((*joined)->get("ready").wait(kSoon)->kv.has_value());
  CHECK(lab.id_of(lab.name(leader)).empty());
  (*joined)->stop();
}

TEST_CASE("a peer whose disk is gone is replaced by one command, under load") {
  Lab lab;
  Load load(lab);
  REQUIRE(eventually([&] { return load.acknowledged() > 50; }));
  const std::size_t gone = (lab.leader() + 1) % 3;
  const std::string old = lab.id_of(lab.name(gone));
  lab.children[gone]->end(SIGKILL);
  std::filesystem::remove_all(lab.data(gone));
  const std::string endpoint = lab.clients[(gone + 1) % 3] + "," + lab.clients[(gone + 2) % 3];
  const std::string address = lab.add_machine();
  Child replace({kProgram, "store", "members", "replace", old, "d", address, "--endpoint", endpoint},
                lab.folder / "replace.log");
  REQUIRE(eventually([&] { return !lab.id_of("d").empty(); }));
  lab.start(3);
  CHECK(replace.wait() == 0);
  CHECK(lab.id_of(lab.name(gone)).empty());
  CHECK(lab.run({"members", "replace", old, "d", address, "--endpoint", endpoint}) == 0);  // done already
  const std::size_t before = load.acknowledged();
  REQUIRE(eventually([&] { return load.acknowledged() > before + 50; }));
  check(load.finish());
}

TEST_CASE("all peers are restarted one after the other under load: nothing is lost, every stop is in order") {
  Lab lab;
  Load load(lab);
  for (std::size_t i = 0; i < 3; ++i) {
    const std::size_t before = load.acknowledged();
    REQUIRE(eventually([&] { return load.acknowledged() > before + 30; }));
    CHECK(lab.children[i]->end(SIGTERM) == 0);
    lab.start(i);
    auto back = StoreClient::connect(lab.engine, {.endpoints = {lab.clients[i]}, .call_deadline = 1s});
    REQUIRE(eventually([&] { return (*back)->get("ready").wait(kSoon).has_value(); }));
    (*back)->stop();
  }
  check(load.finish());
}

TEST_CASE("a peer that was away for too long gets a snapshot while writes go on") {
  // More is written than the leader keeps in its log for the slow.
  Lab lab(3, [](Lab& made) {
    made.serve_flags = {"--log-keep-entries",   "200",     "--log-keep-bytes", "100000",
                        "--snapshot-log-bytes", "1000000", "--segment-bytes",  "1000000"};
  });
  const std::size_t away = (lab.leader() + 1) % 3;
  CHECK(lab.children[away]->end(SIGTERM) == 0);
  auto client = lab.client(60s);
  const std::string value(2 << 10, 'v');
  for (int done = 0; done < 5'000;) {
    std::vector<Pending<WriteResult>> some;
    for (; some.size() < 256; ++done)
      some.push_back(client->put("fill" + std::to_string(done % 2000), value));
    for (auto& each : some) REQUIRE(each.wait(kSoon).has_value());
  }
  Load load(lab);
  lab.start(away);
  auto back = StoreClient::connect(lab.engine, {.endpoints = {lab.clients[away]}, .call_deadline = 5s});
  REQUIRE(
      eventually([&] { return (*back)->range(KeyPrefix("fill"), {.limit = 1}).wait(kSoon).has_value(); }));
  CHECK((*back)->range(KeyPrefix("fill"), {.count_only = true}).wait(kSoon)->count == 2000);
  bool snapshot = false;
  for (const auto& file : std::filesystem::directory_iterator(lab.data(away) + "/store"))
    snapshot |= file.path().filename().string().rfind("snapshot-", 0) == 0;
  CHECK(snapshot);
  REQUIRE(eventually([&] { return load.acknowledged() > 50; }));
  check(load.finish());
  (*back)->stop();
  client->stop();
}

TEST_CASE("an empty disk is told who it is by a majority alone, and once: the rest says what to do") {
  Lab lab(3, [](Lab& made) { made.idle = true; });
  const auto output = [&](std::size_t i) {
    std::ifstream file(lab.folder / (lab.name(i) + ".log"));
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  auto client = lab.client();
  lab.start(0);
  lab.start(1);
  REQUIRE(eventually([&] { return client->put("first", "x").wait(kSoon).has_value(); }));
  // Two of three have begun. Without the second the third must wait: it might have been there before.
  lab.children[1]->end(SIGKILL);
  lab.start(2);
  REQUIRE(
      eventually([&] { return output(2).find("nobody has told this peer who it is") != std::string::npos; }));
  CHECK(output(2).find("ready in") == std::string::npos);
  lab.start(1);
  REQUIRE(eventually([&] { return output(2).find("ready in") != std::string::npos; }));
  // The second lags behind what the other two acknowledge; then the third loses its disk, the first is away.
  lab.children[1]->end(SIGKILL);
  REQUIRE(eventually([&] { return client->put("acknowledged", "x").wait(kSoon).has_value(); }));
  lab.children[0]->end(SIGKILL);
  lab.children[2]->end(SIGKILL);
  std::filesystem::remove_all(lab.data(2));
  std::filesystem::remove(lab.folder / "c.log");
  lab.start(1);
  lab.start(2);
  REQUIRE(
      eventually([&] { return output(2).find("nobody has told this peer who it is") != std::string::npos; }));
  lab.start(0);
  CHECK(lab.children[2]->wait() != 0);
  CHECK(output(2).find("has taken part already and the new peer's disk is empty") != std::string::npos);
  CHECK(output(2).find("orchestra store members replace " + lab.id_of("c")) != std::string::npos);
  REQUIRE(eventually([&] {
    const auto got = client->get("acknowledged").wait(kSoon);
    return got.has_value() && got->kv.has_value();
  }));
  client->stop();
}
