// The codecs below exec, attach and port-forward.
#include "apiserver/streams/remote_command.hpp"
#include "apiserver/streams/spdy_codec.hpp"
#include "apiserver/streams/spdy_dictionary.hpp"
#include "apiserver/streams/websocket_connection.hpp"
#include "net/http/websocket_codec.hpp"
#include "tests/compat/fake_pods.hpp"
#include "tests/support/test.hpp"

#include <zlib.h>

using namespace orchestra;
using namespace orchestra::apiserver;
using namespace orchestra::http;
using namespace std::chrono_literals;

namespace {
std::string masked_frame(int opcode, const std::string& payload, bool final = true) {
  std::string frame;
  frame += static_cast<char>((final ? 0x80 : 0) | opcode);
  frame += static_cast<char>(0x80 | payload.size());
  const std::string mask = "abcd";
  frame += mask;
  for (std::size_t i = 0; i < payload.size(); ++i) frame += static_cast<char>(payload[i] ^ mask[i % 4]);
  return frame;
}
}  // namespace

TEST_CASE("the handshake answers the key of RFC 6455") {
  CHECK(websocket_accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

TEST_CASE("a WebSocket message arrives whole however its bytes are cut") {
  const std::string bytes = masked_frame(2, "he", false) + masked_frame(9, "p") + masked_frame(0, "llo");
  WebSocketParser parser;
  std::vector<WebSocketMessage> messages;
  for (const char c : bytes) {
    REQUIRE(parser.feed(std::string(1, c)));
    while (auto message = parser.next()) messages.push_back(*message);
  }
  REQUIRE(messages.size() == 2);
  CHECK(messages[0].kind == WebSocketMessage::Kind::ping);
  CHECK(messages[1].payload == "hello");
}

TEST_CASE("frames of a client that break the protocol name the close code") {
  WebSocketParser unmasked;
  CHECK(unmasked.feed(websocket_frame(WebSocketOpcode::binary, "x")).error().message().starts_with("1002"));
  WebSocketParser stray;
  CHECK(stray.feed(masked_frame(0, "x")).error().message().starts_with("1002"));
  WebSocketParser huge;
  const std::string head(
      "\x82\xff\x00\x00\x00\x00\x7f\xff\xff\xff"
      "abcd",
      14);
  CHECK(huge.feed(head).error().message().starts_with("1009"));
}

TEST_CASE("the SPDY dictionary is the one of the draft") {
  const std::string& dictionary = spdy_dictionary();
  CHECK(dictionary.size() == 1423);
  CHECK(adler32(adler32(0, nullptr, 0), reinterpret_cast<const Bytef*>(dictionary.data()),
                static_cast<uInt>(dictionary.size())) == 0xe3c6a7c2);
}

TEST_CASE("SPDY frames survive the way there, block after block in one compression context") {
  SpdyWriter writer;
  std::string bytes = writer.syn_stream(1, {{"streamtype", "error"}}, false);
  bytes += writer.syn_stream(3, {{"streamtype", "stdin"}, {"port", "80"}}, false);
  bytes += SpdyWriter::data(3, "hello", true);
  bytes += SpdyWriter::ping(7);
  bytes += SpdyWriter::rst_stream(1, 5);
  SpdyParser parser;
  std::vector<SpdyFrame> frames;
  for (const char c : bytes) {
    REQUIRE(parser.feed(std::string(1, c)));
    while (auto frame = parser.next()) frames.push_back(*frame);
  }
  REQUIRE(frames.size() == 5);
  CHECK(frames[0].headers.at("streamtype") == "error");
  CHECK(frames[1].headers.at("port") == "80");
  CHECK(frames[2].payload == "hello");
  CHECK(frames[2].final);
  CHECK(frames[3].value == 7);
  CHECK(frames[4].type == SpdyFrame::Type::rst_stream);
}

TEST_CASE("a damaged header block ends the SPDY connection instead of being guessed at") {
  SpdyWriter writer;
  std::string bytes = writer.syn_stream(1, {{"streamtype", "error"}}, false);
  bytes[20] = static_cast<char>(bytes[20] ^ 0x55);
  SpdyParser parser;
  CHECK_FALSE(parser.feed(bytes));
}

TEST_CASE("the end of a command is a Status") {
  CHECK(exit_status_json({ProcessChunk::Channel::exit, "", 0, std::nullopt}) ==
        R"({"metadata":{},"status":"Success"})");
  const std::string failed = exit_status_json({ProcessChunk::Channel::exit, "", 3, std::nullopt});
  CHECK(failed.find(R"("reason":"ExitCode","message":"3")") != std::string::npos);
  CHECK(parse_resize(R"({"Width":80,"Height":24})") == std::make_pair(std::uint16_t{80}, std::uint16_t{24}));
  CHECK_FALSE(parse_resize("{\"Width\":-1,\"Height\":24}"));
}

namespace {
/// A connection whose other end is the test: reads wait for `arrive`, writes are kept.
class Recorded final : public DuplexStream {
 public:
  Pending<std::string> read(std::size_t) override { return input.take(); }
  Pending<void> write(std::string bytes) override {
    written.put(std::move(bytes));
    return Result<void>();
  }
  void close_write() override {}
  void close() override { input.put(""); }
  test::Channel<std::string> input, written;
};
}  // namespace

TEST_CASE("a WebSocket's output waits for the client's first sign, the answer to a ping or a message") {
  for (const std::string& sign : {masked_frame(10, ""), masked_frame(2, std::string("\0in", 3))}) {
    Engine engine;
    const auto stream = std::make_shared<Recorded>();
    test::FakePods pods(engine);
    run_remote_command(engine, make_websocket_channels(engine, stream), [&] {
      return pods.exec({}, {.command = {"echo", "early"}});
    });
    CHECK(stream->written.take().wait(30s).value() == websocket_frame(WebSocketOpcode::ping, ""));
    auto output = stream->written.take();
    CHECK_FALSE(output.wait(50ms));
    stream->input.put(sign);
    CHECK(output.wait(30s).value() == websocket_frame(WebSocketOpcode::binary, std::string("\1early\n", 7)));
    stream->close();
    engine.stop();
  }
}

TEST_CASE("input and a size that come before the process are both kept") {
  struct Early final : RemoteChannels {
    void start(std::function<void()> ready, OnInput on_input) override {
      ready();
      on_input({RemoteInput::Kind::standard_input, "first "}, [] {});
      on_input({RemoteInput::Kind::resize, "", 80, 24}, [] {});
      on_input({RemoteInput::Kind::end_of_input}, [] {});
    }
    Pending<void> write(ProcessChunk::Channel, std::string bytes) override {
      text += bytes;
      return Result<void>();
    }
    void finish(std::string status_json) override { ended.set(status_json); }
    std::string text;
    Promise<std::string> ended;
  };
  Engine engine;
  const Promise<std::shared_ptr<ProcessStream>> late;
  const auto channels = std::make_shared<Early>();
  run_remote_command(engine, channels, [&] { return late.pending(); });
  test::FakePods pods(engine);
  late.set(pods.exec({}, {.command = {"keyboard"}}).wait(60s));
  CHECK(channels->ended.pending().wait(30s).value().find("Success") != std::string::npos);
  CHECK(channels->text == "first 80x24\n");
  engine.stop();
}
