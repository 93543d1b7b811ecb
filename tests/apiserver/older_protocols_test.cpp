// Protocols of exec and logs that clients spoke before v4 and v5: plain channels, base64, text instead of a
// Status.
#include <map>

#include "apiserver/streams/spdy_codec.hpp"
#include "apiserver/text.hpp"
#include "net/http/websocket_codec.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/compat/fake_pods.hpp"
#include "tests/support/raw_socket.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::apiserver;
using namespace std::chrono_literals;

namespace {

std::string field(const std::string& head, const std::string& name) {
  const std::string lower = to_lower(head);
  const std::size_t at = lower.find("\r\n" + name + ": ");
  if (at == std::string::npos) return {};
  const std::size_t begin = at + name.size() + 4;
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

struct OldClients {
  test::TempDir folder;
  Engine engine;
  ApiServer server{
      engine, MemoryStore::create(engine),
      ApiServerOptions{
          .listen = "127.0.0.1:0", .insecure_http = "127.0.0.1:0", .data_directory = folder.path()}};
  OldClients() {
    REQUIRE(server.start());
    server.set_pod_streams(std::make_shared<test::FakePods>(engine));
    const auto pod = Object::from_json(
        R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"default"},
            "spec":{"nodeName":"n1","containers":[{"name":"c","image":"i"}]}})");
    REQUIRE(server.client().create(*pod).wait(30s));
  }
  ~OldClients() { server.stop(); }

  /// Asks for an upgrade; the head of the answer.
  std::string upgrade(test::RawSocket& socket, const std::string& path, const std::string& fields) {
    REQUIRE(socket.send("GET /api/v1/namespaces/default/pods/p/" + path +
                        " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n" + fields + "\r\n"));
    std::string head = socket.read_until("\r\n\r\n");
    const std::size_t end = head.find("\r\n\r\n") + 4;
    early = head.substr(end);
    return head.substr(0, end);
  }

  /// "PROTOCOL: what each channel or message said", or the code of the refusal. `input`: one message.
  std::string websocket(const std::string& path, const std::string& offered, const std::string& input = {}) {
    test::RawSocket socket(server.insecure_address());
    const std::string head = upgrade(
        socket, path,
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n" +
            (offered.empty() ? "" : "Sec-WebSocket-Protocol: " + offered + "\r\n"));
    if (!head.starts_with("HTTP/1.1 101")) return head.substr(9, 3);
    REQUIRE(socket.send(http::websocket_masked_frame(http::WebSocketOpcode::pong, "", 7)));
    if (!input.empty())
      REQUIRE(socket.send(http::websocket_masked_frame(http::WebSocketOpcode::text, input, 7)));
    http::WebSocketParser parser(http::WebSocketParser::From::server);
    std::string said = field(head, "sec-websocket-protocol") + ":";
    for (std::string bytes = early; parser.feed(bytes); bytes = socket.read_some()) {
      while (auto message = parser.next()) {
        if (message->kind == http::WebSocketMessage::Kind::close)
          return said + " end " + std::to_string(message->close_code);
        if (message->kind == http::WebSocketMessage::Kind::ping) continue;
        const bool text = message->kind == http::WebSocketMessage::Kind::text;
        std::string payload = message->payload;
        if (!text && path.starts_with("exec") && !payload.empty())
          payload[0] = static_cast<char>('0' + payload[0]);
        said += (text ? " text[" : " [") + payload + "]";
        if (!input.empty()) return said;
      }
      if (socket.timed_out()) break;
    }
    return said + " cut";
  }

  /// "PROTOCOL: what each stream said".
  std::string spdy(const std::string& path, const std::string& offered,
                   const std::vector<std::string>& streams, const std::string& resize = {}) {
    test::RawSocket socket(server.insecure_address());
    const std::string head = upgrade(
        socket, path,
        "Upgrade: SPDY/3.1\r\n" + (offered.empty() ? "" : "X-Stream-Protocol-Version: " + offered + "\r\n"));
    if (!head.starts_with("HTTP/1.1 101")) return head.substr(9, 3);
    SpdyWriter writer;
    std::uint32_t id = 1;
    std::map<std::uint32_t, std::string> names;
    for (const std::string& name : streams) {
      REQUIRE(socket.send(writer.syn_stream(id, {{"streamtype", name}}, false)));
      if (name == "resize") REQUIRE(socket.send(SpdyWriter::data(id, resize, false)));
      names[id] = name;
      id += 2;
    }
    SpdyParser parser;
    std::map<std::string, std::string> said;
    bool over = false;
    std::string bytes = early;
    while (parser.feed(bytes)) {
      while (auto frame = parser.next()) {
        if (frame->type == SpdyFrame::Type::data) said[names[frame->stream]] += frame->payload;
        over = over || frame->type == SpdyFrame::Type::goaway;
      }
      if (over || socket.timed_out()) break;  // the server waits for the client's end of the connection
      bytes = socket.read_some();
    }
    std::string out = field(head, "x-stream-protocol-version") + ":";
    for (const auto& [name, text] : said) {
      if (!text.empty()) out += " " + name + "[" + text + "]";
    }
    return out + (over ? "" : " cut");
  }
  std::string early;
};

const std::string kEcho = "exec?command=echo&command=hi&stdout=true&stderr=true";
const std::string kExit = "exec?command=exit&command=3&stdout=true&stderr=true";
const std::string kFailed = "command terminated with non-zero exit code: exit status 3";
const std::string kSuccess = R"({"metadata":{},"status":"Success"})";

}  // namespace

TEST_CASE("exec speaks the WebSocket protocols of all ages, in the client's order") {
  OldClients served;
  CHECK(served.websocket(kEcho, "v4.channel.k8s.io") ==
        "v4.channel.k8s.io: [1hi\n] [3" + kSuccess + "] end 1000");
  CHECK(served.websocket(kEcho, "channel.k8s.io") == "channel.k8s.io: [1hi\n] end 1000");
  CHECK(served.websocket(kEcho, "") == ": [1hi\n] end 1000");
  CHECK(served.websocket(kExit, "channel.k8s.io") ==
        "channel.k8s.io: [2leaving with 3\n] [3" + kFailed + "] end 1000");
  CHECK(served.websocket(kEcho, "base64.channel.k8s.io") == "base64.channel.k8s.io: text[1aGkK] end 1000");
  CHECK(served.websocket(kExit, "base64.channel.k8s.io") ==
        "base64.channel.k8s.io: text[2" + base64_encode("leaving with 3\n") + "] text[3" +
            base64_encode(kFailed) + "] end 1000");
  CHECK(served.websocket(kEcho, "v4.base64.channel.k8s.io") ==
        "v4.base64.channel.k8s.io: text[1aGkK] text[3" + base64_encode(kSuccess) + "] end 1000");
  const std::string cat = "exec?command=cat&stdin=true&stdout=true";
  CHECK(served.websocket(cat, "base64.channel.k8s.io", "0aGVsbG8=") ==
        "base64.channel.k8s.io: text[1" + base64_encode("hello") + "]");
  CHECK(served.websocket(kEcho, "base64.channel.k8s.io, channel.k8s.io")
            .starts_with("base64.channel.k8s.io: "));
  CHECK(served.websocket(kEcho, "channel.k8s.io, v5.channel.k8s.io").starts_with("v5.channel.k8s.io: "));
  CHECK(served.websocket(kEcho, "v9.channel.k8s.io") == "400");
}

TEST_CASE("a WebSocket that offers compression gets none, and its messages come as they are") {
  OldClients served;
  test::RawSocket socket(served.server.insecure_address());
  const std::string head = served.upgrade(
      socket, kEcho,
      "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n"
      "Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
      "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame\r\n");
  REQUIRE(head.starts_with("HTTP/1.1 101"));
  CHECK(to_lower(head).find("sec-websocket-extensions") == std::string::npos);
  std::string bytes = served.early;
  while (bytes.find("hi\n") == std::string::npos) {
    const std::string more = socket.read_some();
    REQUIRE_FALSE(more.empty());
    bytes += more;
  }
  // A frame that claims to be compressed (RSV1) breaks the protocol.
  http::WebSocketParser parser(http::WebSocketParser::From::client);
  std::string frame = http::websocket_masked_frame(http::WebSocketOpcode::binary, "x", 7);
  frame[0] = static_cast<char>(frame[0] | 0x40);
  const auto fed = parser.feed(frame);
  REQUIRE_FALSE(fed);
  CHECK(fed.error().message().starts_with("1002"));
}

TEST_CASE("a log comes as messages of a WebSocket, after an empty one") {
  OldClients served;
  const std::string lines = "[first line\n] [second line\n] [third line\n]";
  CHECK(served.websocket("log", "binary.k8s.io") == "binary.k8s.io: [] " + lines + " end 1000");
  CHECK(served.websocket("log", "") == ": [] " + lines + " end 1000");
  CHECK(served.websocket("log?tailLines=1&follow=true", "base64.binary.k8s.io") ==
        "base64.binary.k8s.io: text[] text[" + base64_encode("third line\n") + "] text[" +
            base64_encode("followed\n") + "] end 1000");
  CHECK(served.websocket("log", "channel.k8s.io") == "400");
  CHECK(served.websocket("log?container=none", "binary.k8s.io") == "400");
}

TEST_CASE("exec speaks the SPDY protocols of all ages") {
  OldClients served;
  const std::vector<std::string> outputs = {"error", "stdout", "stderr"};
  CHECK(served.spdy(kEcho, "v5.channel.k8s.io, v4.channel.k8s.io", outputs) ==
        "v5.channel.k8s.io: error[" + kSuccess + "] stdout[hi\n]");
  for (const std::string version : {"v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io", ""}) {
    CHECK(served.spdy(kEcho, version, outputs) == version + ": stdout[hi\n]");
    CHECK(served.spdy(kExit, version, outputs) ==
          version + ": error[" + kFailed + "] stderr[leaving with 3\n]");
  }
  // A terminal has a stream for its size from v3 on; before, nobody waits for one.
  CHECK(served.spdy("exec?command=size&stdout=true&tty=true", "v3.channel.k8s.io",
                    {"error", "stdout", "resize"},
                    R"({"Width":80,"Height":24})") == "v3.channel.k8s.io: stdout[80x24\n]");
  CHECK(served.spdy("exec?command=echo&command=hi&stdout=true&tty=true", "v2.channel.k8s.io",
                    {"error", "stdout"}) == "v2.channel.k8s.io: stdout[hi\n]");
  CHECK(served.spdy(kEcho, "v9.channel.k8s.io", outputs) == "400");
}
