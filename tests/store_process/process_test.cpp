// Three real `orchestra store serve` processes: killed, stopped, restarted, damaged, while clients write and
// read; what the clients saw goes through the checker of the simulator.
#include <fstream>

#include "tests/store_process/lab.hpp"

using namespace orchestra;
using namespace orchestra::test;

TEST_CASE("kill -9 of the leader under load: writes go on within seconds, and nothing acknowledged is lost") {
  Lab lab;
  Load load(lab);
  REQUIRE(eventually([&] { return load.acknowledged() > 100; }));
  const std::size_t leader = lab.leader();
  const std::int64_t killed = lab.engine.clock().now().steady_ns;
  lab.children[leader]->end(SIGKILL);
  const std::size_t before = load.acknowledged();
  REQUIRE(eventually([&] { return load.acknowledged() > before + 8; }, 30s));
  MESSAGE("fail-over: ", (load.last_acknowledged_ns() - killed) / 1'000'000, " ms until nine more writes");
  lab.start(leader);
  const std::size_t again = load.acknowledged();
  REQUIRE(eventually([&] { return load.acknowledged() > again + 100; }));
  check(load.finish());
}

TEST_CASE("a leader that is stopped for two seconds serves nothing old when it goes on") {
  Lab lab;
  Load load(lab);
  REQUIRE(eventually([&] { return load.acknowledged() > 50; }));
  const std::size_t leader = lab.leader();
  lab.children[leader]->signal(SIGSTOP);
  const std::int64_t until = lab.engine.clock().now().steady_ns + 2'000'000'000;
  REQUIRE(eventually([&] { return lab.engine.clock().now().steady_ns > until; }));
  const std::size_t before = load.acknowledged();
  lab.children[leader]->signal(SIGCONT);
  REQUIRE(eventually([&] { return load.acknowledged() > before + 100; }));
  check(load.finish());
}

TEST_CASE("all three killed at once come back with everything, and end cleanly on SIGTERM") {
  Lab lab;
  auto client = lab.client(30s);
  for (int i = 0; i < 50; ++i) REQUIRE(client->put("k" + std::to_string(i), "v").wait(kSoon).has_value());
  for (auto& child : lab.children) child->end(SIGKILL);
  for (std::size_t i = 0; i < 3; ++i) lab.start(i);
  auto all = client->range(KeyPrefix("k")).wait(kSoon);
  REQUIRE(all.has_value());
  CHECK(all->count == 50);
  client->stop();
  for (auto& child : lab.children) CHECK(child->end(SIGTERM) == 0);
  CHECK(lab.run({"check", "--data", lab.data(0)}) == 0);
}

TEST_CASE("without repair a corrupted segment is refused with file and offset, and the others go on") {
  Lab lab(3, [](Lab& made) { made.serve_flags = {"--no-repair"}; });
  auto client = lab.client(30s);
  for (int i = 0; i < 50; ++i) REQUIRE(client->put("k" + std::to_string(i), "v").wait(kSoon).has_value());
  const std::size_t victim = (lab.leader() + 1) % 3;
  CHECK(lab.children[victim]->end(SIGTERM) == 0);
  {
    std::fstream segment(lab.data(victim) + "/store/log-00000001.seg",
                         std::ios::in | std::ios::out | std::ios::binary);
    REQUIRE(segment.good());
    segment.seekp(700);
    segment.write("XXXX", 4);
  }
  CHECK(lab.run({"check", "--data", lab.data(victim)}) == 9);
  lab.start(victim);
  CHECK(lab.children[victim]->wait() == 9);
  std::ifstream log(lab.folder / (lab.name(victim) + ".log"));
  const std::string text((std::istreambuf_iterator<char>(log)), {});
  CHECK(text.find("log-00000001.seg is damaged at offset") != std::string::npos);
  CHECK(client->put("after", "v").wait(kSoon).has_value());
  client->stop();
}

TEST_CASE("members and leases from the command line, against any peer") {
  Lab lab;
  const std::string endpoint = lab.clients[1];
  CHECK(lab.run({"put", "a", "1", "--endpoint", endpoint}) == 0);
  CHECK(lab.run({"get", "a", "--endpoint", lab.clients[2]}) == 0);
  CHECK(lab.run({"get", "none", "--endpoint", endpoint}) == 3);
  CHECK(lab.run({"put", "a", "2", "--if-revision", "0", "--endpoint", endpoint}) == 4);
  CHECK(lab.run({"members", "list", "--endpoint", endpoint}) == 0);
  CHECK(lab.run({"members", "promote", "77", "--endpoint", endpoint}) == 3);
  CHECK(lab.run({"lease", "grant", "60s", "--endpoint", endpoint}) == 0);
  CHECK(lab.run({"lease", "list", "--endpoint", endpoint}) == 0);
  CHECK(lab.run({"status", "--endpoint", endpoint}) == 0);
  CHECK(lab.run({"snapshot", "save", lab.folder / "saved", "--endpoint", endpoint}) == 0);
  CHECK(lab.run({"get", "a", "--endpoint", "127.0.0.1:1", "--timeout", "1s"}) == 5);
}
