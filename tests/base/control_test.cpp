// The control socket: requests, streams, errors, long paths, the end.
#include "base/control.hpp"

#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "base/base64.hpp"
#include "tests/support/test.hpp"

namespace orchestra {
namespace {
using namespace std::chrono_literals;

struct Served {
  test::TempDir folder;
  Engine engine;
  std::string path = folder / "control.sock";
  ControlServer server{engine, path};
};

TEST_CASE("base64 goes both ways and refuses what is malformed") {
  const std::string all("\0\xFF\x10 abc", 7);
  for (std::size_t size = 0; size <= all.size(); ++size) {
    const std::string bytes = all.substr(0, size);
    CHECK(decode_base64_text(encode_base64_text(bytes)) == bytes);
  }
  CHECK(encode_base64_text("ab") == "YWI=");
  for (const char* bad : {"YWI", "YW=I", "Y===", "Y!I=", "====", "YQ==YQ=="})
    CHECK_FALSE(decode_base64_text(bad).has_value());
}

TEST_CASE("a request gets its lines and its end, over a socket that only its owner may open") {
  Served served;
  served.server.handle("count", [](const json::object& request, ControlReply reply) {
    for (int i = 0; i < request.at("to").as_int64(); ++i) reply.send({{"n", i}});
    reply.done();
  });
  REQUIRE(served.server.start().has_value());
  struct stat info {};
  REQUIRE(::stat(served.path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  auto client = ControlClient::connect(served.path);
  REQUIRE(client.has_value());
  std::int64_t sum = 0;
  auto result = client->call(
      {{"op", "count"}, {"to", 1000}},
      [&](const json::object& line) -> Result<void> {
        sum += line.at("n").as_int64();
        return {};
      },
      60s);
  CHECK(result.has_value());
  CHECK(sum == 499500);
}

TEST_CASE("errors keep their code, message and detail") {
  Served served;
  served.server.handle("fails", [](const json::object&, ControlReply reply) {
    reply.fail(Error(Error::conflict, "test", "key \"a\" is taken"), {{"revision", 7}});
  });
  served.server.handle("forgets", [](const json::object&, ControlReply) {});
  REQUIRE(served.server.start().has_value());
  const auto ask = [&](const char* op) {
    return ControlClient::connect(served.path)->ask({{"op", op}}, 60s);
  };
  auto failed = ask("fails");
  REQUIRE_FALSE(failed.has_value());
  CHECK(failed.error().is(Error::conflict));
  CHECK(failed.error().message() == "key \"a\" is taken");
  REQUIRE(failed.error().detail<json::object>() != nullptr);
  CHECK(failed.error().detail<json::object>()->at("revision").as_int64() == 7);
  CHECK(ask("forgets").error().is(Error::internal));
  CHECK(ask("unheard").error().is(Error::unsupported));
}

TEST_CASE("malformed requests are answered, not dropped") {
  Served served;
  REQUIRE(served.server.start().has_value());
  CHECK(ControlClient::connect(served.path)->ask({}, 60s).error().is(Error::unsupported));
  CHECK(ControlClient::connect(served.path)->ask({{"op", 5}}, 60s).error().is(Error::unsupported));
}

TEST_CASE("a path longer than a socket address works on both ends") {
  test::TempDir folder;
  Engine engine;
  const std::string deep = folder / std::string(60, 'a') + "/" + std::string(60, 'b');
  std::filesystem::create_directories(deep);
  ControlServer server(engine, deep + "/control.sock");
  server.handle("hello", [](const json::object&, ControlReply reply) {
    reply.send({{"text", "hi"}});
    reply.done();
  });
  REQUIRE(server.start().has_value());
  auto client = ControlClient::connect(deep + "/control.sock");
  REQUIRE(client.has_value());
  CHECK(client->ask({{"op", "hello"}}, 60s)->at("text").as_string() == "hi");
}

TEST_CASE("without a socket the client says not_found, with a dead one unavailable") {
  test::TempDir folder;
  CHECK(ControlClient::connect(folder / "control.sock").error().is(Error::not_found));
  Served served;
  REQUIRE(served.server.start().has_value());
  std::filesystem::create_hard_link(served.path, folder / "dead.sock");
  served.server.stop();
  CHECK(ControlClient::connect(folder / "dead.sock").error().is(Error::unavailable));
}

TEST_CASE("stop ends a stream that is open and waits for its handler") {
  Served served;
  std::atomic<bool> ended{false};
  std::atomic<bool> began{false};
  served.server.handle("watch", [&](const json::object&, ControlReply reply) {
    began = true;
    while (!reply.closed()) std::this_thread::yield();
    ended = true;
  });
  REQUIRE(served.server.start().has_value());
  std::thread client([&] {
    auto result = ControlClient::connect(served.path)->ask({{"op", "watch"}}, 60s);
    CHECK(result.error().is(Error::unavailable));
  });
  while (!began) std::this_thread::yield();
  served.server.stop();
  CHECK(ended);
  client.join();
}

TEST_CASE("a client that leaves is noticed by the handler") {
  Served served;
  std::atomic<bool> ended{false};
  served.server.handle("flood", [&](const json::object&, ControlReply reply) {
    while (reply.send({{"data", std::string(1000, 'x')}})) {
    }
    ended = true;
  });
  REQUIRE(served.server.start().has_value());
  auto client = ControlClient::connect(served.path);
  auto stopped = client->call(
      {{"op", "flood"}},
      [](const json::object&) -> Result<void> { return Error(Error::cancelled, "test", "enough"); }, 60s);
  CHECK(stopped.error().is(Error::cancelled));
  client = ControlClient::connect(served.path);  // closes the first
  while (!ended) std::this_thread::yield();
  CHECK(ended);
}

}  // namespace
}  // namespace orchestra
