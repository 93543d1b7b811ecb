// Logs, commands and connections of pods through PodClient: in process, over HTTPS, and against servers that
// know less than ours.
#include "tests/compat/fake_pods.hpp"

#include "apiserver/streams/client_streams.hpp"
#include "apiserver/streams/spdy_session.hpp"
#include "apiserver/streams/websocket_connection.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/pod_client.hpp"
#include "orchestra/remote_client.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {
struct StreamCluster {
  test::TempDir folder;
  Engine engine;
  ApiServer server{engine, MemoryStore::create(engine),
                   ApiServerOptions{.listen = "127.0.0.1:0", .data_directory = folder.path()}};
  std::vector<Client> clients;  // in process, and over HTTPS

  StreamCluster() {
    REQUIRE(server.start());
    server.set_pod_streams(std::make_shared<test::FakePods>(engine));
    REQUIRE(server.write_kubeconfig(folder / "kubeconfig"));
    clients.push_back(server.client());
    clients.push_back(RemoteClient::from_kubeconfig(engine, folder / "kubeconfig").value());
    make_pod("web", R"([{"name":"c","image":"i"}])");
    make_pod("pair", R"([{"name":"a","image":"i"},{"name":"b","image":"i"}])");
  }
  ~StreamCluster() { server.stop(); }
  void make_pod(const std::string& name, const std::string& containers) {
    const std::string text = R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":")" + name +
                             R"(","namespace":"default"},"spec":{"nodeName":"n1","containers":)" +
                             containers + "}}";
    const auto made = clients[0].create(Object::from_json(text).value()).wait(30s);
    REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
  }
};

std::string read_all(ByteStream& stream) {
  std::string all;
  while (true) {
    auto bytes = stream.read(1000).wait(30s);
    if (!bytes) return all + "ERROR " + bytes.error().message();
    if (bytes->empty()) return all;
    all += *bytes;
  }
}
/// "out|err|exit 3"
std::string run(ProcessStream& process) {
  std::string out, err;
  while (true) {
    auto chunk = process.read().wait(30s);
    if (!chunk) return "ERROR " + chunk.error().message();
    if (chunk->channel == ProcessChunk::Channel::standard_output) out += chunk->bytes;
    if (chunk->channel == ProcessChunk::Channel::standard_error) err += chunk->bytes;
    if (chunk->channel != ProcessChunk::Channel::exit) continue;
    if (chunk->failure) return out + "|" + err + "|" + chunk->failure->message();
    return out + "|" + err + "|exit " + std::to_string(chunk->exit_code);
  }
}
template <class T>
std::string refused(Pending<T> pending) {
  auto answer = pending.wait(30s);
  return answer ? "no error" : answer.error().message();
}
}  // namespace

TEST_CASE("logs, commands and connections of pods are the same in process and over HTTPS") {
  StreamCluster cluster;
  for (const Client& client : cluster.clients) {
    const PodClient pods(client);
    CHECK(read_all(**pods.log({"default", "web"}).wait(30s)) == "first line\nsecond line\nthird line\n");
    CHECK(read_all(**pods.log({"default", "web"}, {.tail_lines = 1}).wait(30s)) == "third line\n");
    const auto exec = [&](std::vector<std::string> command) {
      auto process = pods.exec({"default", "web"}, {.command = std::move(command)}).wait(30s);
      return process ? run(**process) : "ERROR " + process.error().message();
    };
    CHECK(exec({"echo", "two words", "&c=d", ""}) == "two words &c=d \n||exit 0");
    CHECK(exec({"exit", "3"}) == "|leaving with 3\n|exit 3");
    CHECK(exec({"no-such"}) == "|no-such: not found\n|exit 127");
    const std::string big = exec({"big", "3000000"});
    CHECK(big.size() == 3000000 + std::string("||exit 0").size());
    CHECK(run(**pods.attach({"default", "web"}, {}).wait(30s)) == "attached\n||exit 0");
  }
}

TEST_CASE("input reaches a command and ends, also when it is long; a terminal has a size") {
  StreamCluster cluster;
  for (const Client& client : cluster.clients) {
    const PodClient pods(client);
    auto cat = pods.exec({"default", "web"}, {.command = {"cat"}, .in = true}).wait(30s).value();
    const std::string text(200'000, 'i');
    REQUIRE(cat->write_stdin(text).wait(30s));
    REQUIRE(cat->write_stdin("end").wait(30s));
    cat->close_stdin();
    CHECK(run(*cat) == text + "end||exit 0");
    auto size =
        pods.exec({"default", "web"}, {.command = {"size"}, .in = true, .tty = true}).wait(30s).value();
    size->resize(132, 43);
    CHECK(run(*size) == "132x43\n||exit 0");
  }
}

TEST_CASE("a forwarded connection carries both directions and ends; nobody listening is told") {
  StreamCluster cluster;
  for (const Client& client : cluster.clients) {
    const PodClient pods(client);
    auto connection = pods.port_forward({"default", "web"}, 80).wait(30s).value();
    REQUIRE(connection->write("ping").wait(30s));
    CHECK(connection->read(100).wait(30s).value() == "echo: ping");
    connection->close_write();
    CHECK(read_all(*connection).empty());
    auto refused = pods.port_forward({"default", "web"}, 1).wait(30s);
    const std::string why = refused ? read_all(**refused) : refused.error().message();
    CHECK(why.find("nothing listens on port 1") != std::string::npos);
  }
}

TEST_CASE("what cannot be is refused in the words of the server, on both ways") {
  StreamCluster cluster;
  for (const Client& client : cluster.clients) {
    const PodClient pods(client);
    CHECK(refused(pods.exec({"default", "pair"}, {.command = {"echo"}}))
              .find("a container name must be specified for pod pair, choose one of: [a b]") !=
          std::string::npos);
    CHECK(run(**pods.exec({"default", "pair", "b"}, {.command = {"exit", "0"}}).wait(30s)) ==
          "|leaving with 0\n|exit 0");
    CHECK(refused(pods.exec({"default", "none"}, {.command = {"echo"}})).find("pods \"none\" not found") !=
          std::string::npos);
    CHECK(refused(pods.exec({"default", "web"}, {})).find("needs a command") != std::string::npos);
    CHECK(refused(pods.port_forward({"default", "none"}, 80)).find("not found") != std::string::npos);
    CHECK(refused(pods.port_forward({"default", "web"}, 70000)).find("70000") != std::string::npos);
  }
  CHECK(refused(PodClient(Client()).log({"default", "web"})).find("no Client") != std::string::npos);
}

TEST_CASE("eviction and tokens of accounts through PodClient") {
  StreamCluster cluster;
  for (const Client& client : cluster.clients) {
    const PodClient pods(client);
    const auto token = pods.token("default", "default", {"vault"}, 600).wait(30s);
    REQUIRE_MESSAGE(token, (token ? "" : token.error().to_string()));
    CHECK(token->token.size() > 100);
    CHECK(token->expires.ends_with("Z"));
    cluster.make_pod("leaves", R"([{"name":"c","image":"i"}])");
    CHECK(pods.evict({"default", "leaves"}, {.grace_period_seconds = 0}).wait(30s));
    CHECK(refused(pods.evict({"default", "leaves"})).find("not found") != std::string::npos);
  }
}

TEST_CASE("a command whose connection breaks says so, and dropping it ends it") {
  StreamCluster cluster;
  const PodClient pods(cluster.clients[1]);
  auto cat = pods.exec({"default", "web"}, {.command = {"cat"}, .in = true}).wait(30s).value();
  REQUIRE(cat->write_stdin("x").wait(30s));
  CHECK(cat->read().wait(30s)->bytes == "x");
  cluster.server.stop();
  CHECK(run(*cat).find("before the command's exit was told") != std::string::npos);
}

TEST_CASE("servers that know v4 alone, or SPDY alone, serve commands and connections too") {
  Engine engine;
  const auto pods = std::make_shared<test::FakePods>(engine);
  std::string seen;
  auto old =
      HttpServer::start(
          engine, {.listen = "127.0.0.1:0"},
          [&](HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
            const bool forward = request.target.find("portforward") != std::string::npos;
            if (request.headers["upgrade"] == "websocket") {
              // An old server takes the subprotocol that it knows; of tunnels it knows nothing.
              if (forward) return responder->respond(400, {}, "unable to upgrade");
              auto stream = responder->upgrade(
                  {{"Upgrade", "websocket"},
                   {"Connection", "Upgrade"},
                   {"Sec-WebSocket-Accept", http::websocket_accept(request.headers["sec-websocket-key"])},
                   {"Sec-WebSocket-Protocol", "v4.channel.k8s.io"}});
              return apiserver::run_remote_command(engine, apiserver::make_websocket_channels(engine, stream),
                                                   [&] {
                                                     return pods->exec({}, {.command = {"echo", "v4"}});
                                                   });
            }
            seen = request.method + " " + request.headers["x-stream-protocol-version"];
            auto stream = responder->upgrade({{"Upgrade", "SPDY/3.1"},
                                              {"Connection", "Upgrade"},
                                              {"X-Stream-Protocol-Version", "portforward.k8s.io"}});
            apiserver::run_port_forward(engine, stream, {}, pods);
          })
          .value();
  const PodClient client(RemoteClient::connect(engine, {.server = "http://" + old->address()}));
  CHECK(run(**client.exec({"default", "p"}, {.command = {"echo", "v4"}}).wait(30s)) == "v4\n||exit 0");
  auto connection = client.port_forward({"default", "p"}, 80).wait(30s).value();
  CHECK(seen == "POST portforward.k8s.io");
  REQUIRE(connection->write("hi").wait(30s));
  CHECK(connection->read(100).wait(30s).value() == "echo: hi");
  connection->close();
}

TEST_CASE("a server that upgrades to something else is refused") {
  Engine engine;
  auto wrong = HttpServer::start(
                   engine, {.listen = "127.0.0.1:0"},
                   [](HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
                     (void)responder->upgrade({{"Upgrade", "websocket"},
                                               {"Connection", "Upgrade"},
                                               {"Sec-WebSocket-Accept",
                                                http::websocket_accept(request.headers["sec-websocket-key"])},
                                               {"Sec-WebSocket-Protocol", "chat"}});
                   })
                   .value();
  const PodClient client(RemoteClient::connect(engine, {.server = "http://" + wrong->address()}));
  CHECK(refused(client.exec({"default", "p"}, {.command = {"x"}})).find("chat") != std::string::npos);
}

TEST_CASE("how a command ended is read from the Status, whatever a server makes of it") {
  using apiserver::exit_of_status;
  CHECK(exit_of_status(R"({"status":"Success"})").exit_code == 0);
  const auto three = exit_of_status(
      R"({"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}})");
  CHECK(three.exit_code == 3);
  CHECK_FALSE(three.failure);
  CHECK(exit_of_status(R"({"status":"Failure","message":"no runtime","code":500})")
            .failure->message()
            .find("no runtime") != std::string::npos);
  CHECK(exit_of_status("command terminated").failure);
}
