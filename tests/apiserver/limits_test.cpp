// What the server does when there is too much, when it takes too long, and when its store does not answer.
#include "apiserver/core.hpp"
#include "apiserver/watch_stream.hpp"
#include "base/engine_manual.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/api_server.hpp"
#include "tests/apiserver/answers.hpp"
#include "tests/apiserver/held_store.hpp"
#include "tests/support/raw_socket.hpp"
#include "tests/support/test.hpp"

#include <malloc.h>

#include <thread>

using namespace orchestra;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {
/// A server over HTTP whose store does what the test says.
struct Strained {
  Engine engine;
  std::shared_ptr<HeldStore> store = std::make_shared<HeldStore>(engine);
  ApiServer server;
  std::shared_ptr<HttpClient> http = make_http_client(engine);
  explicit Strained(ApiServerOptions options = {}) : server(engine, store, loopback(std::move(options))) {
    const auto started = server.start();
    REQUIRE_MESSAGE(started, (started ? "" : started.error().to_string()));
  }
  ~Strained() {
    store->release();
    server.stop();
  }
  static ApiServerOptions loopback(ApiServerOptions options) {
    options.insecure_http = "127.0.0.1:0";
    return options;
  }
  HttpRequest request(const std::string& method, const std::string& path, const std::string& body = {},
                      const std::string& type = "application/json") const {
    HttpRequest out;
    out.method = method;
    out.url = "http://" + server.insecure_address() + path;
    out.body = body;
    if (!body.empty()) out.headers = {{"Content-Type", type}};
    return out;
  }
  Pending<HttpResponse> send(const std::string& method, const std::string& path, const std::string& body = {},
                             const std::string& type = "application/json") {
    return http->send(request(method, path, body, type));
  }
  HttpResponse ask(const std::string& method, const std::string& path, const std::string& body = {},
                   const std::string& type = "application/json") {
    auto answer = send(method, path, body, type).wait(60s);
    REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().to_string()));
    return *answer;
  }
  /// Opens a watch and returns what its beginning was answered with; it stays open while `open` lives.
  int open_watch(const std::string& path, std::shared_ptr<std::atomic<bool>> open) {
    Promise<int> status;
    auto answered = status.pending();
    HttpRequest out = request("GET", path);
    out.on_headers = [status](int code, const auto&) -> Result<void> {
      status.set(code);
      return {};
    };
    out.on_body = [open](std::string_view) -> Result<void> {
      if (*open) return {};
      return Error(Error::cancelled, "test", "enough");
    };
    transfers.push_back(http->send(std::move(out)));
    return answered.wait(30s).value();
  }
  std::vector<Pending<HttpResponse>> transfers;
};

/// Of this process; nothing under sanitizers, which have an allocator of their own.
std::size_t allocated_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}
}  // namespace

TEST_CASE("more reads or writes at a time than allowed are told to come again; watches do not count") {
  Strained strained({.reads_in_flight_max = 3, .writes_in_flight_max = 2});
  strained.store->hold();
  std::vector<Pending<HttpResponse>> reads;
  std::vector<Pending<HttpResponse>> writes;
  for (int i = 0; i < 3; ++i) reads.push_back(strained.send("GET", kMaps + "/none"));
  REQUIRE(strained.store->wait_held(3));
  const auto refused = strained.ask("GET", kMaps);
  CHECK(reason(refused) == "429 TooManyRequests");
  CHECK(message(refused) == "too many requests, please try again later");
  CHECK(refused.headers.at("retry-after") == "1");
  CHECK(int_at(parse_json(refused.body).value(), "/details/retryAfterSeconds") == 1);
  // Writes have room of their own, and watches take none.
  for (int i = 0; i < 2; ++i)
    writes.push_back(strained.send("POST", kMaps, map_json("m" + std::to_string(i))));
  REQUIRE(strained.store->wait_held(5));
  CHECK(reason(strained.ask("POST", kMaps, map_json("late"))) == "429 TooManyRequests");
  const auto open = std::make_shared<std::atomic<bool>>(true);
  CHECK(strained.open_watch(kMaps + "?watch=1", open) == 200);
  *open = false;
  strained.store->release();
  for (auto& read : reads) CHECK(read.wait(30s)->status == 404);
  for (auto& write : writes) CHECK(write.wait(30s)->status == 201);
  CHECK(strained.ask("GET", kMaps).status == 200);
  CHECK(strained.ask("GET", kMaps + "/late").status == 404);
}

TEST_CASE("what is refused under load takes no memory") {
  Strained strained({.reads_in_flight_max = 1, .writes_in_flight_max = 1});
  strained.store->hold();
  auto read = strained.send("GET", kMaps);
  auto write = strained.send("POST", kMaps, map_json("a"));
  REQUIRE(strained.store->wait_held(2));
  const std::string large = map_json("b", std::string(512 << 10, 'x'));
  const auto burst = [&](int times) {
    for (int i = 0; i < times; ++i) {
      CHECK(strained.ask("GET", kMaps).status == 429);
      CHECK(strained.ask("POST", kMaps, large).status == 429);
    }
  };
  burst(50);  // buffers of both sides have their size
  const std::size_t before = allocated_bytes();
  burst(300);  // 150 MiB of bodies
  CHECK(allocated_bytes() < before + (8 << 20));
  strained.store->release();
  CHECK(read.wait(30s)->status == 200);
  CHECK(write.wait(30s)->status == 201);
}

TEST_CASE("more watches than allowed are told to come again, until one of the others has gone") {
  Strained strained({.watchers_max = 2});
  const std::uint64_t before = strained.store->watchers();
  const auto open = std::make_shared<std::atomic<bool>>(true);
  const auto other = std::make_shared<std::atomic<bool>>(true);
  CHECK(strained.open_watch(kMaps + "?watch=1", open) == 200);
  CHECK(strained.open_watch(kMaps + "?watch=1", other) == 200);
  CHECK(strained.store->watchers() == before + 2);
  const auto refused = strained.ask("GET", kMaps + "?watch=1");
  CHECK(reason(refused) == "429 TooManyRequests");
  CHECK(message(refused) == "too many watches: at most 2 are open at a time");
  CHECK(refused.headers.at("retry-after") == "1");
  // One client vanishes: with the next event at the latest its place is free, in the store as well.
  *open = false;
  REQUIRE(strained.ask("POST", kMaps, map_json("a")).status == 201);
  CHECK_FALSE(strained.transfers.front().wait(30s));
  int again = 429;
  for (int i = 0; i < 1000 && again == 429; ++i) {
    again = strained.open_watch(kMaps + "?watch=1", other);
    if (again == 429)
      std::this_thread::sleep_for(10ms);  // a poll of the outside: when the server has noticed
  }
  CHECK(again == 200);
  CHECK(strained.store->watchers() == before + 2);
  *other = false;
}

TEST_CASE("what a store does not answer in time is 504, and its place is free when the store has answered") {
  Strained strained({.reads_in_flight_max = 1, .request_deadline = 1s});
  strained.store->hold();
  const auto late = strained.ask("GET", kMaps);
  CHECK(reason(late) == "504 Timeout");
  CHECK(message(late) == "Timeout: request did not complete within the allotted timeout");
  CHECK(reason(strained.ask("GET", kMaps + "/a")) == "429 TooManyRequests");
  const auto unknown = strained.ask("POST", kMaps, map_json("a"));
  CHECK(reason(unknown) == "504 Timeout");
  strained.store->release();
  // Nobody was told that the write failed, and it did not.
  CHECK(strained.ask("GET", kMaps + "/a").status == 200);
  const auto page = strained.ask("GET", "/metrics").body;
  CHECK(page.find("resource=\"configmaps\",subresource=\"\",scope=\"resource\",code=\"504\"} 1\n") !=
        std::string::npos);
}

TEST_CASE("a client may ask for less time than the server gives") {
  Strained strained;
  strained.store->hold();
  CHECK(reason(strained.ask("GET", kMaps + "?timeout=20ms")) == "504 Timeout");
  strained.store->release();
  CHECK(strained.ask("GET", kMaps + "?timeout=1m0s").status == 200);
  CHECK(strained.ask("GET", kMaps + "?timeout=0s").status == 200);  // as if none was asked for
  CHECK(message(strained.ask("GET", kMaps + "?timeout=soon")) ==
        "invalid timeout specified in the request URL - time: invalid duration \"soon\"");
  CHECK(message(strained.ask("GET", kMaps + "?timeout=5")) ==
        "invalid timeout specified in the request URL - time: missing unit in duration \"5\"");
  // What takes long by its nature takes no deadline.
  const auto open = std::make_shared<std::atomic<bool>>(true);
  CHECK(strained.open_watch(kMaps + "?watch=1&timeout=soon", open) == 200);
  *open = false;
}

TEST_CASE("what a store says is told as it is: never a success, never a plain failure") {
  Strained strained;
  struct Case {
    Error::Code code;
    const char* answer;
  };
  for (const Case& one :
       {Case{Error::unknown_outcome, "504 Timeout"}, Case{Error::deadline_exceeded, "504 Timeout"},
        Case{Error::unavailable, "503 ServiceUnavailable"}, Case{Error::not_leader, "503 ServiceUnavailable"},
        Case{Error::overloaded, "429 TooManyRequests"}, Case{Error::no_space, "507 InsufficientStorage"},
        Case{Error::io, "500 InternalError"}}) {
    const Error error(one.code, "store", "told so");
    strained.store->fail_writes(error);
    const auto created = strained.ask("POST", kMaps, map_json("none"));
    CHECK(reason(created) == one.answer);
    CHECK(message(created).find("told so") != std::string::npos);
    CHECK(reason(strained.ask("PATCH", kMaps + "/kube-root-ca.crt", R"({"data":{"a":"b"}})",
                              "application/merge-patch+json")) == one.answer);
    CHECK(reason(strained.ask("DELETE", kMaps + "/kube-root-ca.crt")) == one.answer);
    strained.store->fail_writes(std::nullopt);
    strained.store->fail_reads(error);
    CHECK(reason(strained.ask("GET", kMaps + "/kube-root-ca.crt")) == one.answer);
    CHECK(reason(strained.ask("GET", kMaps)) == one.answer);
    CHECK(reason(strained.ask("GET", kMaps + "?watch=1")) == one.answer);
    strained.store->fail_reads(std::nullopt);
    CHECK(strained.ask("GET", kMaps + "/none").status == 404);
  }
  strained.store->fail_writes(Error(Error::unknown_outcome, "store", "told so"), true);
  CHECK(
      message(strained.ask("POST", kMaps, map_json("perhaps"))).find("it may or may not have been applied") !=
      std::string::npos);
  strained.store->fail_writes(std::nullopt);
  CHECK(strained.ask("GET", kMaps + "/perhaps").status == 200);
}

TEST_CASE("a write that somebody else was faster than is done again, as long as its request may take") {
  Strained strained;
  REQUIRE(strained.ask("POST", kMaps, map_json("c")).status == 201);
  // Before each of the next writes another one touches the same object.
  int rivals = 0;
  const auto touch = [&rivals](StateStore& below, const Txn&) {
    if (rivals == 0) return;
    --rivals;
    const std::string key = "/orchestra/objects/core/configmaps/default/c";
    const auto held = below.get(key).wait(30s);
    if (held && held->kv) (void)below.put(key, held->kv->value).wait(30s);
  };
  strained.store->before_write(touch);
  const auto patch = [&](const std::string& body) {
    return strained.ask("PATCH", kMaps + "/c", body, "application/merge-patch+json");
  };
  rivals = 100;
  CHECK(patch(R"({"data":{"a":"1"}})").status == 200);
  CHECK(rivals == 0);
  rivals = 100;
  CHECK(strained.ask("PUT", kMaps + "/c", map_json("c", "unconditional")).status == 200);
  rivals = 3;
  CHECK(strained
            .ask("PATCH", kMaps + "/c?fieldManager=me",
                 R"({"apiVersion":"v1","kind":"ConfigMap","data":{"b":"2"}})", "application/apply-patch+yaml")
            .status == 200);
  // Who names the version that he means is told that it is gone.
  const auto got = parse_json(strained.ask("GET", kMaps + "/c").body).value();
  CHECK(string_at(got, "/data/k") == "unconditional");
  CHECK(string_at(got, "/data/b") == "2");
  const std::string version = string_at(got, "/metadata/resourceVersion");
  rivals = 1;
  CHECK(message(patch(R"({"metadata":{"resourceVersion":")" + version + R"("},"data":{"a":"2"}})")) ==
        "Operation cannot be fulfilled on configmaps \"c\": the object has been modified; please apply your "
        "changes to the latest version and try again");
  strained.store->before_write(nullptr);
}

TEST_CASE("a write that never wins ends with its deadline") {
  Strained strained({.request_deadline = 1s});
  REQUIRE(strained.ask("POST", kMaps, map_json("c")).status == 201);
  strained.store->before_write([](StateStore& below, const Txn&) {
    const std::string key = "/orchestra/objects/core/configmaps/default/c";
    const auto held = below.get(key).wait(30s);
    if (held && held->kv) (void)below.put(key, held->kv->value).wait(30s);
  });
  CHECK(reason(strained.ask("PATCH", kMaps + "/c", R"({"data":{"a":"1"}})",
                            "application/merge-patch+json")) == "504 Timeout");
  // In process as well, where no timer answers for it.
  auto same = strained.server.client()
                  .patch("v1", "configmaps", "c", "default", PatchType::merge, R"({"data":{"a":"1"}})")
                  .wait(30s);
  REQUIRE_FALSE(same);
  CHECK(same.error().detail<Status>()->code == 504);
  // The rival stays: the last try may still be on its way when its request has been answered.
  CHECK(parse_json(strained.ask("GET", kMaps + "/c").body)->at("data").as_object().size() == 1);
  strained.store->before_write(nullptr);
}

TEST_CASE("what is too large, too deep or too much is refused with its bound, and nothing is stored") {
  Strained strained;
  const std::string path = "/apis/apps/v1/namespaces/default/deployments";
  const auto deployment = [](std::size_t bytes) {
    return R"({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"selector":{"matchLabels":)"
           R"({"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":)"
           R"("i","env":[{"name":"E","value":")" +
           std::string(bytes, 'x') + R"("}]}]}}}})";
  };
  const std::size_t bound = 1536 << 10;
  const auto created = strained.ask("POST", path, deployment(bound));
  CHECK(reason(created) == "413 RequestEntityTooLarge");
  CHECK(message(created).find("at most 1572864 are stored") != std::string::npos);
  CHECK(strained.ask("GET", path + "/d").status == 404);
  CHECK(strained.ask("POST", path, deployment(bound - 4096)).status == 201);
  CHECK(reason(strained.ask("PUT", path + "/d", deployment(bound))) == "413 RequestEntityTooLarge");
  CHECK(reason(strained.ask("PATCH", path + "/d",
                            R"({"metadata":{"annotations":{"a":")" + std::string(8192, 'x') + R"("}}})",
                            "application/merge-patch+json")) == "413 RequestEntityTooLarge");
  CHECK(find(parse_json(strained.ask("GET", path + "/d").body).value(), "/metadata/annotations") == nullptr);

  const auto nested = [](std::size_t depth) {
    return R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"deep"},"x":)" +
           std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  CHECK(reason(strained.ask("POST", kMaps, nested(512))) == "400 BadRequest");
  CHECK(strained.ask("POST", kMaps, nested(511)).status == 201);  // an unknown field, and a warning

  std::string operations;
  for (int i = 0; i < 10'000; ++i)
    operations += std::string(i == 0 ? "" : ",") + R"({"op":"test","path":"/kind","value":"ConfigMap"})";
  const auto json_patch = [&](const std::string& body) {
    return strained.ask("PATCH", kMaps + "/deep", "[" + body + "]", "application/json-patch+json");
  };
  CHECK(json_patch(operations).status == 200);
  const auto more = json_patch(operations + R"(,{"op":"test","path":"/kind","value":"ConfigMap"})");
  CHECK(reason(more) == "413 RequestEntityTooLarge");
  CHECK(message(more) == "The allowed maximum operations in a JSON patch is 10000, got 10001");
}

TEST_CASE("a body that ends before its length stores nothing") {
  Strained strained;
  const std::string body = map_json("cut");
  const auto begun = [&](std::size_t length) {
    RawSocket socket(strained.server.insecure_address());
    socket.send("POST " + kMaps +
                " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " +
                std::to_string(length) + "\r\nConnection: close\r\n\r\n" + body);
    socket.shutdown_write();
    return socket.read_all();
  };
  CHECK(begun(body.size() + 1).find(" 201 ") == std::string::npos);
  CHECK(strained.ask("GET", kMaps + "/cut").status == 404);
  CHECK(begun(body.size()).starts_with("HTTP/1.1 201 "));
}

TEST_CASE("a watch whose history has gone is told so in the stream, and ends in order") {
  Strained strained;
  std::string seen;
  Promise<void> first;
  auto begun = first.pending();
  HttpRequest request = strained.request("GET", kMaps + "?watch=1");
  request.on_body = [&seen, first](std::string_view bytes) -> Result<void> {
    seen += bytes;
    first.set(Result<void>());
    return {};
  };
  auto transfer = strained.http->send(std::move(request));
  REQUIRE(begun.wait(30s));  // the ConfigMap that every namespace has
  strained.store->end_watches(Error(Error::compacted, "store", "history begins at revision 9"));
  REQUIRE(transfer.wait(30s));
  const std::string last = seen.substr(seen.rfind('\n', seen.size() - 2) + 1);
  const auto event = parse_json(last).value();
  CHECK(string_at(event, "/type") == "ERROR");
  CHECK(string_at(event, "/object/kind") == "Status");
  CHECK(int_at(event, "/object/code") == 410);
  CHECK(string_at(event, "/object/reason") == "Expired");
}

namespace {
/// A client that takes the pieces when the test says so.
class SlowClient final : public HttpBodyWriter {
 public:
  Pending<void> write(std::string bytes) override {
    text += bytes;
    ++pieces;
    taken_ = Promise<void>();
    return taken_->pending();
  }
  bool dispatch(std::shared_ptr<HttpBodyTask>) override {
    return false;
  }  // no events of its own: the engine's
  void finish() override { finished = true; }
  void abort() override {}
  void on_closed(std::function<void()> call) override { closed_ = std::move(call); }
  /// The piece that is on its way has arrived.
  void take() {
    if (auto taken = std::exchange(taken_, std::nullopt)) taken->set(Result<void>());
  }
  void leave() {
    if (closed_) std::exchange(closed_, nullptr)();
    const auto lost = std::exchange(taken_, std::nullopt);  // the piece on its way; it holds the watch
  }
  std::size_t count(const std::string& type) const {
    const std::string sought = "\"type\":\"" + type + "\"";
    std::size_t found = 0;
    for (std::size_t at = text.find(sought); at != std::string::npos; at = text.find(sought, at + 1)) ++found;
    return found;
  }

  std::string text;
  int pieces = 0;
  bool finished = false;

 private:
  std::optional<Promise<void>> taken_;
  std::function<void()> closed_;
};

EngineOptions by_hand() {
  EngineOptions options;
  options.event_threads = 0;
  return options;
}

/// A watch of ConfigMaps whose client is slow, on an engine that does nothing by itself.
struct SlowWatch {
  Engine engine{by_hand()};
  std::shared_ptr<StateStore> store = MemoryStore::create(engine);
  ApiServer server{engine, store, {}};
  std::shared_ptr<apiserver::ApiCore> core =
      std::make_shared<apiserver::ApiCore>(engine, store, apiserver::CoreOptions{});
  std::shared_ptr<SlowClient> client = std::make_shared<SlowClient>();
  std::vector<std::shared_ptr<SlowClient>> clients;
  int written = 0;
  SlowWatch() {
    REQUIRE(server.start());
    REQUIRE(server.client().create(Object::from_json(map_json("c")).value()).wait(30s));
    settle();
  }
  ~SlowWatch() {
    for (const auto& one : clients) one->leave();
    settle();
    server.stop();
  }
  /// Everything that can be done now is done.
  void settle() {
    while (run_ready(engine) > 0) {
    }
  }
  void touch(int times, std::size_t bytes = 1) {
    for (int i = 0; i < times; ++i) {
      const std::string value = std::to_string(written++) + std::string(bytes, 'x');
      REQUIRE(server.client()
                  .patch("v1", "configmaps", "c", "default", PatchType::merge,
                         R"({"data":{"k":")" + value + "\"}}")
                  .wait(30s));
    }
    settle();
  }
  void take() {
    client->take();
    settle();
  }
  std::size_t events() const { return client->count("MODIFIED"); }
  void run(Revision after, apiserver::WatchStreamOptions options,
           const std::shared_ptr<SlowClient>& taker = nullptr) {
    clients.push_back(taker ? taker : client);
    run(after, std::move(options), std::shared_ptr<HttpBodyWriter>(clients.back()));
  }
  void run(Revision after, apiserver::WatchStreamOptions options, std::shared_ptr<HttpBodyWriter> writer) {
    apiserver::Call call;
    call.info =
        apiserver::parse_request("GET", kMaps + "?watch=1&resourceVersion=" + std::to_string(after)).value();
    const api::TypePtr type = core->resolve(call.info).value();
    auto request = apiserver::read_watch(*core, call, type);
    REQUIRE(request);
    auto cursor = apiserver::WatchCursor::open(*core, std::move(*request));
    REQUIRE(cursor);
    options.api_version = "v1";
    (void)apiserver::WatchStream::run(engine, std::move(*cursor), std::move(writer), std::move(options));
    settle();
  }
};
}  // namespace

TEST_CASE("a watch whose client lies 1,024 events behind ends once it has taken what it was sent") {
  SlowWatch slow;
  slow.run(slow.store->revision(), {});
  slow.touch(1);
  CHECK(slow.client->pieces == 1);
  CHECK(slow.core->watchers == 1);
  slow.touch(1024);
  CHECK(slow.core->watchers == 1);
  slow.take();  // as many as are kept for it
  CHECK(slow.client->pieces == 2);
  CHECK(slow.events() == 1025);
  slow.touch(1024);
  CHECK(slow.core->watchers == 1);
  slow.touch(1);
  // Its place is free although it has not taken anything yet.
  CHECK(slow.core->watchers == 0);
  CHECK_FALSE(slow.client->finished);
  slow.touch(1);
  slow.take();
  CHECK(slow.client->finished);
  CHECK(slow.events() == 1025);
  CHECK(slow.client->count("ERROR") == 0);
}

TEST_CASE("a watch whose client lies 8 MiB behind ends as well") {
  SlowWatch slow;
  slow.run(slow.store->revision(), {});
  slow.touch(1);
  slow.touch(8, 1000 << 10);
  slow.take();
  CHECK(slow.client->pieces == 2);
  CHECK(slow.events() == 9);
  slow.touch(9, 1000 << 10);
  CHECK(slow.core->watchers == 0);
  slow.take();
  CHECK(slow.client->finished);
  CHECK(slow.events() == 9);
}

TEST_CASE("a client that catches up with the past is not too slow") {
  SlowWatch slow;
  const Revision past = slow.store->revision();
  slow.touch(20, 1000 << 10);  // more than one piece holds
  slow.run(past, {});
  CHECK(slow.client->pieces == 1);
  CHECK(slow.events() < 20);
  slow.touch(1200);
  for (int i = 0; i < 20 && slow.events() < 1220; ++i) slow.take();
  CHECK(slow.events() == 1220);
  CHECK(slow.core->watchers == 1);
}

TEST_CASE("a watch whose history has gone while its client was catching up is told so") {
  SlowWatch slow;
  const Revision past = slow.store->revision();
  slow.touch(20, 1000 << 10);
  slow.run(past, {});
  REQUIRE(slow.store->compact(slow.store->revision()).wait(30s));
  slow.take();
  CHECK(slow.client->pieces == 2);
  CHECK(slow.client->count("ERROR") == 1);
  slow.take();
  CHECK(slow.client->finished);
}

namespace {
/// A client that takes everything at once and keeps what it was handed.
class QuickClient final : public HttpBodyWriter {
 public:
  using Text = std::shared_ptr<const std::string>;
  Pending<void> write(std::string bytes) override {
    taken.push_back(std::make_shared<const std::string>(std::move(bytes)));
    return Result<void>();
  }
  std::optional<Pending<void>> write_now(const Text& bytes) override {
    taken.push_back(bytes);
    return std::nullopt;
  }
  bool dispatch(std::shared_ptr<HttpBodyTask> task) override {
    task->run_in_order();
    return true;
  }
  void finish() override { finished = true; }
  void abort() override {}
  void on_closed(std::function<void()> call) override { closed_ = std::move(call); }
  void leave() { std::exchange(closed_, nullptr)(); }

  std::vector<Text> taken;
  bool finished = false;

 private:
  std::function<void()> closed_;
};
}  // namespace

TEST_CASE("the bytes of one event are the same ones for all watches that want it in the same form") {
  SlowWatch slow;
  const Revision now = slow.store->revision();
  apiserver::WatchStreamOptions partial;
  partial.want.form = apiserver::Form::partial;
  apiserver::WatchStreamOptions table;
  table.want.form = apiserver::Form::table;
  std::vector<std::shared_ptr<QuickClient>> clients;
  for (const auto& options :
       {apiserver::WatchStreamOptions{}, apiserver::WatchStreamOptions{}, partial, table, table}) {
    clients.push_back(std::make_shared<QuickClient>());
    slow.run(now, options, std::static_pointer_cast<HttpBodyWriter>(clients.back()));
  }
  slow.touch(1);
  for (const auto& client : clients) REQUIRE(client->taken.size() == 1);
  CHECK(clients[0]->taken[0] == clients[1]->taken[0]);
  CHECK(clients[2]->taken[0]->find("PartialObjectMetadata") != std::string::npos);
  CHECK(clients[3]->taken[0] != clients[4]->taken[0]);  // rows say how old an object is
  // The next event is another one, and a deletion is no change.
  slow.touch(1);
  REQUIRE(clients[1]->taken.size() == 2);
  CHECK(*clients[1]->taken[1] != *clients[1]->taken[0]);
  REQUIRE(slow.server.client().remove("v1", "configmaps", "c", "default").wait(30s));
  slow.settle();
  REQUIRE(clients[1]->taken.size() == 3);
  CHECK(clients[1]->taken[2]->starts_with("{\"type\":\"DELETED\""));
  CHECK(clients[0]->taken[2] == clients[1]->taken[2]);
  for (const auto& client : clients) client->leave();
  slow.settle();
  CHECK(slow.core->watchers == 0);
}

TEST_CASE("a watch whose server stops ends behind the event that came last") {
  SlowWatch slow;
  bool stopping = false;
  apiserver::WatchStreamOptions options;
  options.stopped = [&] { return stopping; };
  const auto client = std::make_shared<QuickClient>();
  slow.run(slow.store->revision(), options, std::static_pointer_cast<HttpBodyWriter>(client));
  slow.touch(1);
  CHECK_FALSE(client->finished);
  stopping = true;
  slow.touch(1);
  CHECK(client->taken.size() == 2);
  CHECK(client->finished);
  CHECK(slow.core->watchers == 0);
  client->leave();
}

TEST_CASE("who waits to be woken is let go of by an engine that ends") {
  struct Silent final : apiserver::WakeList::Sleeper {
    void woken() override {}
    std::shared_ptr<apiserver::WakeList> list;
  };
  std::weak_ptr<Silent> waits;
  {
    Engine engine(by_hand());
    const auto sleeper = std::make_shared<Silent>();
    sleeper->list = std::make_shared<apiserver::WakeList>(engine);
    waits = sleeper;
    for (int i = 0; i < 100; ++i) sleeper->list->add(sleeper);
    CHECK_FALSE(waits.expired());
  }
  CHECK(waits.expired());
}

TEST_CASE("who is woken is called once for each time, in order, and leaves room for others in between") {
  Engine engine(by_hand());
  const auto list = std::make_shared<apiserver::WakeList>(engine);
  std::vector<std::string> calls;
  struct Named final : apiserver::WakeList::Sleeper {
    Named(std::vector<std::string>& seen, std::string word) : calls(seen), name(std::move(word)) {}
    void woken() override { calls.push_back(name); }
    std::vector<std::string>& calls;
    const std::string name;
  };
  constexpr std::size_t kMany = 5 * apiserver::WakeList::kAtATime;
  std::vector<std::string> wanted;
  for (std::size_t i = 0; i < kMany; ++i) {
    wanted.push_back(std::to_string(i % 7));
    list->add(std::make_shared<Named>(calls, wanted.back()));
  }
  std::size_t between = 0;
  engine.post([&] { between = calls.size(); });
  while (run_ready(engine) > 0) {
  }
  CHECK(calls == wanted);
  CHECK(between == apiserver::WakeList::kJobsMax * apiserver::WakeList::kAtATime);
  list->add(std::make_shared<Named>(calls, "later"));
  while (run_ready(engine) > 0) {
  }
  CHECK(calls.back() == "later");
  CHECK(calls.size() == kMany + 1);
}

TEST_CASE("an event is made once for all watches that want it in the same form, and forgotten in time") {
  SlowWatch slow;
  const Revision past = slow.store->revision();
  slow.touch(1);
  apiserver::WatchStreamOptions options;
  options.want.form = apiserver::Form::partial;
  slow.run(past, options);
  const auto held =
      slow.store->get("/orchestra/objects/core/configmaps/default/c").wait(30s).value().kv.value();
  const api::TypePtr type = api::TypeRegistry::builtin()->find("", "v1", "configmaps");
  apiserver::EventTexts& texts = slow.core->event_texts();
  const auto key = apiserver::EventTexts::key_of(*type, "v1", options.want, held.value, held.mod_revision);
  const auto made = texts.find(key);
  REQUIRE(made);
  CHECK(made->find("\"kind\":\"PartialObjectMetadata\"") != std::string::npos);
  // Who comes later gets what is there.
  texts.keep(key, type, held.value, std::make_shared<const std::string>("\"made before\""));
  const auto late = std::make_shared<SlowClient>();
  slow.touch(1);  // one event alone is the one that was made last, and is there as a whole
  slow.run(past, options, late);
  CHECK(late->text.starts_with("{\"type\":\"MODIFIED\",\"object\":\"made before\"}\n"));
  // Not in another form, and not for ever.
  auto whole = options.want;
  whole.form = apiserver::Form::json;
  CHECK_FALSE(apiserver::EventTexts::keeps(*type, "v1", whole));
  whole.protobuf = true;
  CHECK(apiserver::EventTexts::keeps(*type, "v1", whole));
  CHECK_FALSE(texts.find(apiserver::EventTexts::key_of(*type, "v1", whole, held.value, held.mod_revision)));
  const auto large = std::make_shared<const std::string>(std::string(1 << 20, 'x'));
  for (Revision other = 1; other <= 10; ++other) {
    texts.keep(apiserver::EventTexts::key_of(*type, "v1", options.want, held.value, 1'000'000 + other), type,
               held.value, large);
  }
  CHECK_FALSE(texts.find(key));
  late->leave();
}
