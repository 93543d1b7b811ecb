// How streams flow: pings by a clock of the test, readers that do not take what comes, SPDY's windows and its
// end, and what a log is asked for.
#include <atomic>
#include <deque>

#include "apiserver/streams/spdy_session.hpp"
#include "apiserver/streams/websocket_connection.hpp"
#include "base/engine_manual.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/env.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/compat/fake_pods.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::apiserver;
using namespace std::chrono_literals;

namespace {
struct StillClock final : Clock {
  std::int64_t at_ns = 1'000'000'000;
  Now now() override { return {at_ns, at_ns}; }
};

/// A connection whose other end is the test, on an engine that the test drives.
class HandDriven final : public DuplexStream {
 public:
  Pending<std::string> read(std::size_t) override {
    ++reads;
    if (input.empty()) {
      reader.emplace();
      return reader->pending();
    }
    std::string bytes = std::move(input.front());
    input.pop_front();
    return Result<std::string>(std::move(bytes));
  }
  Pending<void> write(std::string bytes) override {
    written += bytes;
    if (!stuck) return Result<void>();
    writer.emplace();
    return writer->pending();
  }
  void close_write() override {}
  /// Ends what waits, as a real connection does: it holds who reads and writes.
  void close() override {
    closed = true;
    const auto ended = std::pair(std::exchange(reader, std::nullopt), std::exchange(writer, std::nullopt));
  }
  void put(std::string bytes) {
    if (!reader) {
      input.push_back(std::move(bytes));
      return;
    }
    const Promise<std::string> waiting = *reader;
    reader.reset();
    waiting.set(std::move(bytes));
  }
  std::string take() { return std::exchange(written, {}); }

  std::deque<std::string> input;
  std::optional<Promise<std::string>> reader;
  std::optional<Promise<void>> writer;
  std::string written;
  std::size_t reads = 0;
  bool stuck = false, closed = false;
};

struct ByHand {
  StillClock clock;
  Engine engine{{.event_threads = 0, .clock = &clock}};
  std::shared_ptr<HandDriven> stream = std::make_shared<HandDriven>();

  ~ByHand() {
    stream->close();
    run();
  }
  void run() { run_ready(engine); }
  void later(Duration by) {
    clock.at_ns += by.count();
    run();
  }
};

/// A process of the test: it takes input when it is told to, and has as much output as is read.
struct SlowProcess final : ProcessStream {
  Pending<ProcessChunk> read() override {
    ++reads;
    ProcessChunk chunk;
    if (silent) return Promise<ProcessChunk>(never).pending();
    chunk.bytes = std::string(32 << 10, 'x');
    return Result<ProcessChunk>(std::move(chunk));
  }
  Pending<void> write_stdin(std::string bytes) override {
    taken += bytes.size();
    waiting.emplace();
    return waiting->pending();
  }
  void close_stdin() override {}
  void resize(std::uint16_t, std::uint16_t) override {}
  void close() override {
    closed = true;
    const auto ended = std::pair(std::exchange(never, {}), std::exchange(waiting, std::nullopt));
  }
  Promise<ProcessChunk> never;
  std::optional<Promise<void>> waiting;
  std::size_t reads = 0, taken = 0;
  bool silent = false, closed = false;
};

const std::string kServerPing = websocket_frame(WebSocketOpcode::ping, "");
std::string of_client(WebSocketOpcode opcode, std::string_view payload) {
  return http::websocket_masked_frame(opcode, payload, 0x01020304);
}

/// All frames in some bytes of a SPDY connection.
std::vector<SpdyFrame> frames_of(SpdyParser& parser, const std::string& bytes) {
  REQUIRE(parser.feed(bytes));
  std::vector<SpdyFrame> out;
  while (auto frame = parser.next()) out.push_back(std::move(*frame));
  return out;
}
}  // namespace

TEST_CASE("a WebSocket is pinged each 30 seconds until it ends, and answers the client's pings") {
  ByHand hand;
  auto connection = std::make_shared<WebSocketConnection>(hand.engine, hand.stream);
  bool closed = false;
  connection->start([](WebSocketMessage, std::function<void()> taken) { taken(); }, [&] { closed = true; });
  hand.run();
  CHECK(hand.stream->take().empty());
  hand.later(30s - 1ns);
  CHECK(hand.stream->take().empty());
  for (int round = 0; round < 3; ++round) {
    hand.later(round == 0 ? Duration(1ns) : Duration(30s));
    CHECK(hand.stream->take() == kServerPing);
  }
  hand.stream->put(of_client(WebSocketOpcode::ping, "are you there"));
  hand.run();
  CHECK(hand.stream->take() == websocket_frame(WebSocketOpcode::pong, "are you there"));
  hand.stream->put(of_client(WebSocketOpcode::close, http::websocket_close_payload(1000, "")));
  hand.run();
  CHECK(closed);
  CHECK(hand.stream->take() ==
        websocket_frame(WebSocketOpcode::close, http::websocket_close_payload(1000, "")));
  hand.later(120s);
  CHECK(hand.stream->take().empty());
  CHECK(hand.stream->closed);
}

TEST_CASE(
    "a WebSocket that waits for the other side's close is closed after five seconds, or with its engine") {
  for (const bool engine_ends : {false, true}) {
    CAPTURE(engine_ends);
    ByHand hand;
    auto connection = std::make_shared<WebSocketConnection>(hand.engine, hand.stream);
    bool closed = false;
    connection->start([](WebSocketMessage, std::function<void()>) {}, [&] { closed = true; });
    connection->close(1000, "");
    hand.run();
    CHECK_FALSE(closed);
    if (engine_ends) {
      hand.engine.stop();
    } else {
      hand.later(5s);
    }
    CHECK(closed);
    CHECK(hand.stream->closed);
  }
}

TEST_CASE("a process that does not take its input holds back the client, not the memory of the server") {
  ByHand hand;
  const auto process = std::make_shared<SlowProcess>();
  process->silent = true;
  run_remote_command(hand.engine, make_websocket_channels(hand.engine, hand.stream), [&] {
    return Pending<std::shared_ptr<ProcessStream>>(Result<std::shared_ptr<ProcessStream>>(process));
  });
  hand.run();
  const std::string piece =
      of_client(WebSocketOpcode::binary, std::string(1, '\0') + std::string(60 << 10, 'i'));
  for (int i = 0; i < 20; ++i) hand.stream->put(piece);
  hand.run();
  // One piece is with the process; the connection is not read on until it was taken.
  CHECK(process->taken == 60 << 10);
  const std::size_t reads = hand.stream->reads;
  CHECK(reads <= 2);
  CHECK(hand.stream->input.size() == 19);
  hand.later(29s);
  CHECK(hand.stream->reads == reads);
  process->waiting->set({});
  hand.run();
  CHECK(process->taken == 120 << 10);
  CHECK(hand.stream->input.size() == 18);
  hand.stream->input.clear();
  process->waiting->set({});
  hand.run();
  hand.stream->put("");
  hand.run();
  CHECK(process->closed);
}

TEST_CASE("a client that stops reading holds back the process: one piece is on its way") {
  for (const bool spdy : {false, true}) {
    CAPTURE(spdy);
    ByHand hand;
    const auto process = std::make_shared<SlowProcess>();
    std::shared_ptr<RemoteChannels> channels;
    if (spdy) {
      SpdyWriter writer;
      for (std::uint32_t id = 1; const char* name : {"error", "stdout"}) {
        hand.stream->put(writer.syn_stream(id, {{"streamtype", name}}, false));
        id += 2;
      }
      ExecOptions options{.command = {"yes"}, .in = false, .out = true, .err = false};
      channels = make_spdy_channels(hand.engine, hand.stream, options, {});
    } else {
      channels = make_websocket_channels(hand.engine, hand.stream);
      hand.stream->put(of_client(WebSocketOpcode::pong, ""));
    }
    run_remote_command(hand.engine, channels, [&] {
      hand.stream->stuck = true;  // from here on the client reads nothing
      return Pending<std::shared_ptr<ProcessStream>>(Result<std::shared_ptr<ProcessStream>>(process));
    });
    hand.run();
    hand.later(1s);
    CHECK(process->reads >= 1);
    CHECK(process->reads <= 2);
    const std::size_t reads = process->reads;
    hand.later(10s);
    CHECK(process->reads == reads);
    REQUIRE(hand.stream->writer);
    hand.stream->take();
    const Promise<void> waiting = *hand.stream->writer;
    waiting.set({});
    hand.run();
    CHECK(process->reads > reads);
    CHECK(process->reads <= reads + 2);
    hand.stream->stuck = false;
    process->silent = true;
    hand.stream->writer->set({});
    hand.run();
    hand.stream->put("");
    hand.run();
    CHECK(process->closed);
  }
}

TEST_CASE(
    "SPDY: data that nobody takes stop the connection at 64 KiB; each taken piece gives its window back") {
  ByHand hand;
  const auto session = std::make_shared<SpdySession>(hand.engine, hand.stream);
  std::shared_ptr<SpdyStream> opened;
  session->start([&](std::shared_ptr<SpdyStream> stream) { opened = std::move(stream); }, [] {});
  SpdyWriter writer;
  SpdyParser parser;
  hand.stream->put(writer.syn_stream(1, {{"streamtype", "stdin"}}, false));
  hand.run();
  REQUIRE(opened);
  CHECK(frames_of(parser, hand.stream->take()).at(0).type == SpdyFrame::Type::syn_reply);
  for (int i = 0; i < 40; ++i) hand.stream->put(SpdyWriter::data(1, std::string(20 << 10, 'd'), false));
  hand.run();
  // 64 KiB and the piece that passed it; the rest stays with the kernel, and so with the client.
  CHECK(hand.stream->input.size() == 36);
  CHECK(frames_of(parser, hand.stream->take()).empty());

  std::size_t taken = 0;
  std::function<void()> more;
  opened->on_data([&](std::string bytes, bool, std::function<void()> next) {
    taken += bytes.size();
    more = std::move(next);
  });
  hand.run();
  CHECK(taken == 20 << 10);
  std::size_t windows = 0;
  for (int i = 0; i < 40; ++i) {
    REQUIRE(more);
    const auto next = std::exchange(more, nullptr);
    next();
    hand.run();
    for (const SpdyFrame& frame : frames_of(parser, hand.stream->take())) {
      CHECK(frame.type == SpdyFrame::Type::window_update);
      CHECK(frame.stream == 1);
      windows += frame.value;
    }
    CHECK(windows == static_cast<std::size_t>(i + 1) * (20 << 10));
  }
  CHECK(taken == 40 * (20 << 10));
  CHECK(hand.stream->input.empty());
  hand.stream->put("");
  hand.run();
}

TEST_CASE(
    "SPDY: GOAWAY names the last stream and gives the client some seconds; one of the client changes "
    "nothing") {
  for (const bool polite : {true, false}) {
    CAPTURE(polite);
    ByHand hand;
    const auto session = std::make_shared<SpdySession>(hand.engine, hand.stream);
    bool closed = false;
    std::vector<std::shared_ptr<SpdyStream>> streams;
    session->start([&](std::shared_ptr<SpdyStream> stream) { streams.push_back(std::move(stream)); },
                   [&] { closed = true; });
    SpdyWriter writer;
    SpdyParser parser;
    hand.stream->put(writer.syn_stream(1, {{"streamtype", "error"}}, false));
    hand.stream->put(SpdyWriter::window_update(1, 4096));
    hand.stream->put(SpdyWriter::goaway(0, 0));
    hand.stream->put(SpdyWriter::ping(5));
    hand.stream->put(SpdyWriter::ping(4));  // ours, as an answer
    hand.stream->put(writer.syn_stream(7, {{"streamtype", "stdin"}}, false));
    hand.run();
    CHECK(streams.size() == 2);
    std::string seen;
    for (const SpdyFrame& frame : frames_of(parser, hand.stream->take()))
      seen += frame.type == SpdyFrame::Type::ping ? "ping " + std::to_string(frame.value) + ";"
                                                  : "reply " + std::to_string(frame.stream) + ";";
    CHECK(seen == "reply 1;ping 5;reply 7;");
    session->close();
    hand.run();
    const auto end = frames_of(parser, hand.stream->take());
    REQUIRE(end.size() == 1);
    CHECK(end[0].type == SpdyFrame::Type::goaway);
    CHECK(end[0].value == 7);
    CHECK_FALSE(hand.stream->closed);
    if (polite) {
      hand.stream->put("");
      hand.run();
    } else {
      hand.later(5s - 1ns);
      CHECK_FALSE(hand.stream->closed);
      hand.later(1ns);
    }
    CHECK(hand.stream->closed);
    CHECK(closed);
  }
}

namespace {
/// Pods that remember what a log was asked for.
struct AskedPods final : PodStreams {
  explicit AskedPods(Engine& engine) : fake(engine) {}
  Pending<std::shared_ptr<ByteStream>> log(PodTarget target, LogOptions options) override {
    asked.push_back(options);
    return fake.log(std::move(target), {});
  }
  Pending<std::shared_ptr<ProcessStream>> exec(PodTarget target, ExecOptions options) override {
    return fake.exec(std::move(target), std::move(options));
  }
  Pending<std::shared_ptr<DuplexStream>> port_forward(PodTarget target, int port) override {
    return fake.port_forward(std::move(target), port);
  }
  Pending<NodePage> page(std::string node, std::string path) override {
    return fake.page(std::move(node), std::move(path));
  }
  test::FakePods fake;
  std::vector<LogOptions> asked;  ///< read when the answer is there
};
}  // namespace

TEST_CASE(
    "a log is asked for as the query says: since when, how many lines and bytes; what cannot be is refused") {
  Engine engine;
  ApiServer server(engine, MemoryStore::create(engine), {.insecure_http = "127.0.0.1:0"});
  REQUIRE(server.start());
  const auto pods = std::make_shared<AskedPods>(engine);
  server.set_pod_streams(pods);
  REQUIRE(server.client()
              .create(Object::from_json(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p",
                "namespace":"default"},"spec":{"nodeName":"n1","containers":[{"name":"c","image":"i"}]}})")
                          .value())
              .wait(30s));
  const auto http = make_http_client(engine);
  const auto log = [&](const std::string& query) {
    HttpRequest request;
    request.url = "http://" + server.insecure_address() + "/api/v1/namespaces/default/pods/p/log?" + query;
    auto answer = http->send(std::move(request)).wait(30s);
    REQUIRE(answer);
    return answer->status == 200 ? std::string("ok") : answer->body;
  };
  REQUIRE(log("sinceSeconds=5&limitBytes=100&tailLines=0&timestamps=true") == "ok");
  REQUIRE(pods->asked.size() == 1);
  CHECK(pods->asked[0].since_seconds == 5);
  CHECK(pods->asked[0].limit_bytes == 100);
  CHECK(pods->asked[0].tail_lines == 0);
  CHECK(pods->asked[0].timestamps);
  CHECK_FALSE(pods->asked[0].follow);
  CHECK(pods->asked[0].since_time.empty());
  REQUIRE(log("sinceTime=2026-01-02T03%3A04%3A05Z&follow=true&previous=true") == "ok");
  REQUIRE(pods->asked.size() == 2);
  CHECK(pods->asked[1].since_time == "2026-01-02T03:04:05Z");
  CHECK_FALSE(pods->asked[1].since_seconds);
  CHECK_FALSE(pods->asked[1].limit_bytes);
  CHECK(pods->asked[1].follow);
  CHECK(pods->asked[1].previous);
  const auto refusal = [&](const std::string& query) {
    const auto status = parse_json(log(query)).value();
    return std::to_string(int_at(status, "/code")) + " " + string_at(status, "/message");
  };
  const std::string invalid = "422 PodLogOptions \"p\" is invalid: ";
  CHECK(refusal("sinceSeconds=0") == invalid + "sinceSeconds: Invalid value: 0: must be greater than 0");
  CHECK(refusal("sinceSeconds=-1") == invalid + "sinceSeconds: Invalid value: -1: must be greater than 0");
  CHECK(refusal("limitBytes=0") == invalid + "limitBytes: Invalid value: 0: must be greater than 0");
  CHECK(refusal("tailLines=-1") ==
        invalid + "tailLines: Invalid value: -1: must be greater than or equal to 0");
  CHECK(refusal("sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z") ==
        invalid + "[]: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified");
  CHECK(refusal("tailLines=1.5") == "400 strconv.ParseInt: parsing \"1.5\": invalid syntax");
  CHECK(refusal("tailLines=9223372036854775808") ==
        "400 strconv.ParseInt: parsing \"9223372036854775808\": value out of range");
  CHECK(refusal("sinceTime=yesterday") ==
        "400 parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as "
        "\"2006\"");
  CHECK(pods->asked.size() == 2);  // none of those reached a pod
  server.stop();
}
