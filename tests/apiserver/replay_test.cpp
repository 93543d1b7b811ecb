// Recordings of clients that a machine may lack (tests/compat/replay/*.txt), sent to a server in this
// process: each answer has to be what it was. README.md beside them says what a recording holds and how one
// is made. ORC_COMPAT_UPDATE=1 writes the answers of today into the files, for review as a diff.
#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "apiserver/text.hpp"
#include "base/json.hpp"
#include "net/http/body.hpp"
#include "net/http/websocket_codec.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/compat/fake_pods.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/raw_socket.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::apiserver;
namespace fs = std::filesystem;

namespace {

/// A value that the recorded server had made up: the answer's line, and where in that line.
struct MadeUp {
  std::string value, pointer;
  std::size_t line = 0;
};
struct Exchange {
  std::string method, target, body, after;
  std::vector<std::pair<std::string, std::string>> fields;
  std::vector<std::string> asked;   ///< these lines as they are in the file
  std::vector<std::string> answer;  ///< "< ..." and what follows, up to "="
  std::vector<MadeUp> made_up;
  std::vector<std::string> made_up_lines;
};
struct Recording {
  std::vector<std::string> title;
  std::vector<Exchange> exchanges;
};

Recording read_recording(const fs::path& path) {
  Recording out;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    if (line.starts_with("# ")) {
      out.title.push_back(line);
      continue;
    }
    if (line.starts_with("> ")) {
      Exchange& one = out.exchanges.emplace_back();
      const std::size_t space = line.find(' ', 2);
      one.method = line.substr(2, space - 2);
      one.target = line.substr(space + 1);
      one.asked.push_back(line);
      continue;
    }
    REQUIRE_FALSE(out.exchanges.empty());
    Exchange& one = out.exchanges.back();
    if (line.starts_with("<")) {
      one.answer.push_back(line);
      continue;
    }
    if (line.starts_with("= ")) {
      std::istringstream words(line.substr(2));
      MadeUp& value = one.made_up.emplace_back();
      words >> value.value >> value.line >> value.pointer;
      one.made_up_lines.push_back(line);
      continue;
    }
    one.asked.push_back(line);
    if (line.starts_with("|")) {
      one.body += (one.body.empty() ? "" : "\n") + line.substr(std::min<std::size_t>(2, line.size()));
      continue;
    }
    const std::size_t colon = line.find(": ");
    REQUIRE_MESSAGE(colon != std::string::npos, path.filename().string() << ": " << line);
    const std::string name = line.substr(0, colon), value = line.substr(colon + 2);
    if (name == "base64") {
      one.body = base64_decode(value).value();
    } else if (name == "then") {
      one.after = base64_decode(value).value();
    } else {
      one.fields.emplace_back(name, value);
    }
  }
  return out;
}

void write_recording(const fs::path& path, const Recording& recording) {
  std::ofstream file(path);
  for (const std::string& line : recording.title) file << line << "\n";
  for (const Exchange& one : recording.exchanges) {
    file << "\n";
    for (const auto* lines : {&one.asked, &one.answer, &one.made_up_lines}) {
      for (const std::string& line : *lines) file << line << "\n";
    }
  }
}

/// The answer as it matters.
struct Answer {
  int code = 0;
  std::string type, body;
};

std::string name_of(const json::value& object) {
  const std::string name = string_at(object, "/metadata/name");
  return string_at(object, "/kind", "no kind") + (name.empty() ? "" : " " + name);
}

/// One line of what a document is: kinds, names, counts; not the values of a certain run, nor of a certain
/// build.
std::string shape_of(const std::string& text) {
  if (text.starts_with(std::string_view("k8s\0", 4))) return "protobuf";
  const auto tree = parse_json(text);
  if (!tree) return text.size() > 80 || text.find('\0') != std::string::npos ? "bytes" : text;
  const std::string kind = string_at(*tree, "/kind");
  if (kind == "Status") {
    return "Status " + string_at(*tree, "/reason", string_at(*tree, "/status")) + ": " +
           string_at(*tree, "/message");
  }
  if (kind == "Table") {
    std::string columns;
    for (const json::value& column : *array_at(*tree, "/columnDefinitions"))
      columns += (columns.empty() ? "" : ",") + string_at(column, "/name");
    return "Table " + columns + " rows=" + std::to_string(array_at(*tree, "/rows")->size());
  }
  if (const json::array* items = array_at(*tree, "/items"); items != nullptr && kind.ends_with("List")) {
    std::string names;
    const bool objects = !items->empty() && find(items->front(), "/metadata/name") != nullptr;
    if (kind.starts_with("APIGroupDiscovery")) return kind;
    for (const json::value& item : *items)
      names += " " + (objects ? string_at(item, "/metadata/name") : std::string("?"));
    return kind + names;
  }
  if (string_at(*tree, "/type").empty() || find(*tree, "/object") == nullptr)
    return kind.empty() ? "a document" : name_of(*tree);
  const json::value& object = *find(*tree, "/object");
  const bool ends = find(object, "/metadata/annotations/k8s.io~1initial-events-end") != nullptr;
  return string_at(*tree, "/type") + " " + name_of(object) + (ends ? " initial-events-end" : "");
}

class Player {
 public:
  explicit Player(const std::string& address) : address_(address) {}

  /// Lines "< ..." of what comes back now.
  std::vector<std::string> play(const Exchange& one) {
    test::RawSocket socket(address_);
    REQUIRE(socket.connected());
    const bool upgrades = !one.after.empty() || one.answer.front().starts_with("< 101");
    std::string head = one.method + " " + today(one.target) + " HTTP/1.1\r\nHost: replay\r\n";
    for (const auto& [name, value] : one.fields) head += name + ": " + value + "\r\n";
    if (!upgrades) head += "Connection: close\r\n";
    const std::string body = today(one.body);
    if (!body.empty() || one.method == "POST" || one.method == "PUT" || one.method == "PATCH")
      head += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    REQUIRE(socket.send(head + "\r\n" + body));
    // A watch is over when as much has come as the client had seen.
    const bool watch = one.target.find("watch=") != std::string::npos;
    const std::size_t lines_wanted = watch ? one.answer.size() - 1 : 0;
    const Answer answer = read_answer(socket, one, upgrades, lines_wanted);
    std::vector<std::string> out{"< " + std::to_string(answer.code) + " " +
                                 answer.type.substr(0, answer.type.find(';'))};
    while (out.front().ends_with(' ')) out.front().pop_back();
    if (upgrades) {
      for (const std::string& line : frames_of(answer.body)) out.push_back("<   " + line);
      return out;
    }
    if (one.method == "HEAD" || answer.body.empty()) return out;
    const std::vector<std::string> lines = watch ? split(answer.body, '\n') : std::vector{answer.body};
    for (const std::string& line : lines) {
      if (line.empty() || (watch && out.size() > lines_wanted)) continue;
      std::string shape = shape_of(line);
      std::replace(shape.begin(), shape.end(), '\n', ' ');
      out.push_back("<   " + shape);
    }
    learn(one, lines);
    return out;
  }

 private:
  Answer read_answer(test::RawSocket& socket, const Exchange& one, bool upgrades, std::size_t lines_wanted) {
    Answer out;
    std::string bytes;
    http::HeadScanner scanner;
    const http::HeadLimits limits;
    while (scanner.scan(bytes, limits).state == http::HeadState::incomplete) {
      const std::string more = socket.read_some();
      if (more.empty()) return out;
      bytes += more;
    }
    http::Head head;
    REQUIRE(http::parse_response_head(std::string_view(bytes).substr(0, scanner.bytes()), limits, one.method,
                                      head)
                .state == http::HeadState::complete);
    out.code = head.status;
    out.type = std::string(head.find("content-type").value_or(""));
    http::BodyDecoder decoder(head.framing, head.content_length);
    bytes.erase(0, scanner.bytes());
    if (out.code == 101) {
      // The client's close answers the server's; sent before that it would end the command.
      REQUIRE(socket.send(without_close(one.after)));
      http::WebSocketParser parser(http::WebSocketParser::From::server);
      for (std::string more = bytes.empty() ? socket.read_some() : bytes; !more.empty();
           more = socket.read_some()) {
        out.body += more;
        REQUIRE(parser.feed(more));
        while (auto message = parser.next()) {
          if (message->kind == http::WebSocketMessage::Kind::close) return out;
        }
      }
      return out;
    }
    if (upgrades) return out;
    const bool watch = one.target.find("watch=") != std::string::npos;
    if (watch && lines_wanted == 0) return out;
    while (true) {
      while (!bytes.empty() && !decoder.done()) {
        const auto step = decoder.decode(bytes);
        REQUIRE(step.error == nullptr);
        out.body += step.data;
        if (step.consumed == 0) break;
        bytes.erase(0, step.consumed);
      }
      const auto lines = static_cast<std::size_t>(std::count(out.body.begin(), out.body.end(), '\n'));
      if (decoder.done() || (lines_wanted != 0 && lines >= lines_wanted)) return out;
      const std::string more = socket.read_some();
      if (more.empty()) return out;
      bytes += more;
    }
  }

  /// Frames of a client (each shorter than 64 KiB) but those that close the connection.
  static std::string without_close(const std::string& frames) {
    constexpr unsigned char kClose = 8;
    std::string out;
    std::size_t at = 0;
    while (at + 2 <= frames.size()) {
      std::size_t size = static_cast<unsigned char>(frames[at + 1]) & 0x7f, head = 6;
      if (size == 126) {
        size = static_cast<unsigned char>(frames[at + 2]) * 256u + static_cast<unsigned char>(frames[at + 3]);
        head = 8;
      }
      if ((static_cast<unsigned char>(frames[at]) & 15) != kClose) out += frames.substr(at, head + size);
      at += head + size;
    }
    return out;
  }

  /// What the server said on each channel, and the Status at the end; pings and empty messages are none.
  static std::vector<std::string> frames_of(const std::string& bytes) {
    http::WebSocketParser parser(http::WebSocketParser::From::server);
    if (!parser.feed(bytes)) return {"no WebSocket"};
    std::map<char, std::string> channels;
    std::vector<std::string> out;
    while (auto message = parser.next()) {
      if (message->kind == http::WebSocketMessage::Kind::close)
        out.push_back("close " + std::to_string(message->close_code));
      if (message->kind == http::WebSocketMessage::Kind::binary && message->payload.size() > 1)
        channels[message->payload[0]] += message->payload.substr(1);
    }
    std::vector<std::string> lines;
    for (const auto& [channel, text] : channels) {
      const std::string number = "channel " + std::to_string(static_cast<int>(channel)) + ": ";
      lines.push_back(number + to_json(json::value(json::string(
                                   text.size() > 200 ? std::to_string(text.size()) + " bytes" : text))));
    }
    lines.insert(lines.end(), out.begin(), out.end());
    return lines;
  }

  void learn(const Exchange& one, const std::vector<std::string>& lines) {
    for (const MadeUp& each : one.made_up) {
      if (each.line >= lines.size()) continue;
      const auto tree = parse_json(lines[each.line]);
      if (tree && find(*tree, each.pointer) != nullptr) known_[each.value] = string_at(*tree, each.pointer);
    }
  }

  /// What was recorded, with the values of this run. A resourceVersion counts only where one stands.
  std::string today(std::string text) const {
    for (const auto& [then, now] : known_) {
      if (then.find_first_not_of("0123456789") != std::string::npos) {
        replace(text, then, now);
      } else {
        for (const std::string front : {"resourceVersion=", "\"resourceVersion\":\"",
                                        "\"path\":\"/metadata/resourceVersion\",\"value\":\""})
          replace(text, front + then, front + now);
      }
    }
    return text;
  }
  static void replace(std::string& text, const std::string& from, const std::string& to) {
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    std::size_t at = 0;
    while ((at = text.find(from, at)) != std::string::npos) {
      const std::size_t end = at + from.size();
      const bool longer = end < text.size() && digit(text[end]) && digit(from.back());
      if (!longer) text.replace(at, from.size(), to);
      at = longer ? end : at + to.size();
    }
  }

  const std::string address_;
  std::map<std::string, std::string> known_;
};

void play(const fs::path& path) {
  CAPTURE(path.filename().string());
  Recording recording = read_recording(path);
  REQUIRE_FALSE(recording.exchanges.empty());
  test::TempDir folder;
  Engine engine;
  ApiServer server(
      engine, MemoryStore::create(engine),
      {.listen = "127.0.0.1:0", .insecure_http = "127.0.0.1:0", .data_directory = folder.path()});
  REQUIRE(server.start());
  server.set_pod_streams(std::make_shared<test::FakePods>(engine));
  const bool update = std::getenv("ORC_COMPAT_UPDATE") != nullptr;
  Player player(server.insecure_address());
  for (Exchange& one : recording.exchanges) {
    const std::vector<std::string> came = player.play(one);
    if (update) {
      one.answer = came;
      continue;
    }
    INFO(one.asked.front());
    CHECK(came == one.answer);
  }
  if (update) write_recording(path, recording);
  server.stop();
}

}  // namespace

TEST_CASE("recorded clients get the answers that they had") {
  std::set<fs::path> files;
  for (const auto& entry : fs::directory_iterator(ORCHESTRA_SOURCE_DIR "/tests/compat/replay")) {
    if (entry.path().extension() == ".txt") files.insert(entry.path());
  }
  REQUIRE_FALSE(files.empty());
  for (const fs::path& file : files) play(file);
}
