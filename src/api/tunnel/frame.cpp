// The codec of the node tunnel: see frame.hpp.
#include "api/tunnel/frame.hpp"

#include <algorithm>

#include "base/json.hpp"

namespace orchestra::tunnel {
namespace {
constexpr std::size_t kHeadBytes = 5;
constexpr int kChannels = 3;

Error bad(const std::string& what) { return Error(Error::invalid, "tunnel", what); }

void put(std::string& out, std::uint32_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
}
std::uint32_t take(std::string_view from, std::size_t at, int bytes) {
  std::uint32_t out = 0;
  for (int i = 0; i < bytes; ++i)
    out = out << 8 | static_cast<unsigned char>(from[at + static_cast<std::size_t>(i)]);
  return out;
}

/// Codes travel by name: the two ends may be of different versions.
Error::Code code_of(std::string_view name) {
  for (int code = Error::invalid; code <= Error::internal; ++code) {
    if (name == to_string(static_cast<Error::Code>(code))) return static_cast<Error::Code>(code);
  }
  return Error::internal;
}

json::object error_json(const Error& error) {
  return {{"code", to_string(error.code())}, {"message", error.to_string()}};
}
Error error_of(const json::value& tree) {
  return Error(code_of(string_at(tree, "/code")), "node",
               string_at(tree, "/message", "the node ended the stream"));
}

constexpr Request::Kind kKinds[] = {Request::Kind::log, Request::Kind::exec, Request::Kind::port_forward,
                                    Request::Kind::page};
const char* kind_name(Request::Kind kind) {
  switch (kind) {
    case Request::Kind::log:
      return "log";
    case Request::Kind::exec:
      return "exec";
    case Request::Kind::port_forward:
      return "port-forward";
    case Request::Kind::page:
      break;
  }
  return "page";
}

std::optional<std::int64_t> optional_at(const json::value& tree, const char* pointer) {
  if (find(tree, pointer) == nullptr) return std::nullopt;
  return int_at(tree, pointer);
}

json::object use_json(std::int64_t at, std::int64_t window, std::int64_t working_set) {
  return {{"at", at}, {"window", window}, {"workingSet", working_set}};
}
}  // namespace

std::string encode(const Frame& frame) {
  std::string out;
  out.reserve(kHeadBytes + 5 + frame.payload.size());
  out += static_cast<char>(frame.type);
  put(out, frame.stream, 4);
  if (frame.type == FrameType::data) out += static_cast<char>(frame.channel);
  if (frame.type == FrameType::credit) put(out, frame.credit, 4);
  if (frame.type == FrameType::resize) {
    put(out, frame.columns, 2);
    put(out, frame.rows, 2);
  }
  return out += frame.payload;
}

Result<Frame> decode(std::string_view message) {
  if (message.size() < kHeadBytes || message.size() > kMessageBytesMax)
    return bad("a message of " + std::to_string(message.size()) + " bytes is no frame");
  Frame frame;
  const auto type = static_cast<unsigned char>(message[0]);
  if (type < static_cast<unsigned>(FrameType::open) || type > static_cast<unsigned>(FrameType::statistics))
    return bad("frame type " + std::to_string(type) + " is not known");
  frame.type = static_cast<FrameType>(type);
  frame.stream = take(message, 1, 4);
  if ((frame.stream == 0) != (frame.type == FrameType::statistics))
    return bad("stream " + std::to_string(frame.stream) + " with frame type " + std::to_string(type));
  std::string_view rest = message.substr(kHeadBytes);
  switch (frame.type) {
    case FrameType::data:
      if (rest.empty() || rest.size() - 1 > kDataBytesMax)
        return bad("a data frame of " + std::to_string(rest.size()) + " bytes");
      frame.channel = static_cast<std::uint8_t>(rest[0]);
      if (frame.channel >= kChannels) return bad("channel " + std::to_string(frame.channel));
      rest.remove_prefix(1);
      break;
    case FrameType::credit:
      if (rest.size() != 4) return bad("a credit frame has 4 bytes");
      frame.credit = take(rest, 0, 4);
      rest = {};
      break;
    case FrameType::resize:
      if (rest.size() != 4) return bad("a resize frame has 4 bytes");
      frame.columns = static_cast<std::uint16_t>(take(rest, 0, 2));
      frame.rows = static_cast<std::uint16_t>(take(rest, 2, 2));
      rest = {};
      break;
    default:
      break;
  }
  frame.payload = std::string(rest);
  return frame;
}

std::string encode_request(const Request& request) {
  const PodTarget& target = request.target;
  json::object out{{"kind", kind_name(request.kind)},
                   {"target", json::object{{"ns", target.ns},
                                           {"pod", target.pod},
                                           {"uid", target.uid},
                                           {"container", target.container},
                                           {"node", target.node}}}};
  if (request.kind == Request::Kind::port_forward) out["port"] = request.port;
  if (request.kind == Request::Kind::page) out["path"] = request.path;
  if (request.kind == Request::Kind::exec) {
    json::array command;
    for (const std::string& word : request.exec.command) command.push_back(json::string(word));
    out["exec"] = json::object{{"command", std::move(command)},
                               {"in", request.exec.in},
                               {"out", request.exec.out},
                               {"err", request.exec.err},
                               {"tty", request.exec.tty}};
  }
  if (request.kind == Request::Kind::log) {
    json::object log{{"follow", request.log.follow},
                     {"previous", request.log.previous},
                     {"timestamps", request.log.timestamps},
                     {"sinceTime", request.log.since_time}};
    if (request.log.since_seconds) log["sinceSeconds"] = *request.log.since_seconds;
    if (request.log.tail_lines) log["tailLines"] = *request.log.tail_lines;
    if (request.log.limit_bytes) log["limitBytes"] = *request.log.limit_bytes;
    out["log"] = std::move(log);
  }
  return to_json(out);
}

Result<Request> decode_request(const std::string& text) {
  ORC_ASSIGN(const json::value tree, parse_json(text));
  Request request;
  const std::string kind = string_at(tree, "/kind");
  const auto known = std::find_if(std::begin(kKinds), std::end(kKinds),
                                  [&](Request::Kind one) { return kind == kind_name(one); });
  if (known == std::end(kKinds))
    return Error(Error::unsupported, "tunnel", "this node agent does not know the request \"" + kind + "\"");
  request.kind = *known;
  request.target = {string_at(tree, "/target/ns"), string_at(tree, "/target/pod"),
                    string_at(tree, "/target/uid"), string_at(tree, "/target/container"),
                    string_at(tree, "/target/node")};
  request.port = static_cast<int>(int_at(tree, "/port"));
  request.path = string_at(tree, "/path");
  if (const json::array* command = array_at(tree, "/exec/command")) {
    for (const json::value& word : *command) {
      if (!word.is_string()) return bad("a word of the command is no string");
      request.exec.command.emplace_back(word.get_string());
    }
  }
  request.exec.in = bool_at(tree, "/exec/in");
  request.exec.out = bool_at(tree, "/exec/out");
  request.exec.err = bool_at(tree, "/exec/err");
  request.exec.tty = bool_at(tree, "/exec/tty");
  request.log.follow = bool_at(tree, "/log/follow");
  request.log.previous = bool_at(tree, "/log/previous");
  request.log.timestamps = bool_at(tree, "/log/timestamps");
  request.log.since_time = string_at(tree, "/log/sinceTime");
  request.log.since_seconds = optional_at(tree, "/log/sinceSeconds");
  request.log.tail_lines = optional_at(tree, "/log/tailLines");
  request.log.limit_bytes = optional_at(tree, "/log/limitBytes");
  return request;
}

std::string encode_error(const Error& error) { return to_json(error_json(error)); }
Error decode_error(const std::string& text) {
  auto tree = parse_json(text);
  return error_of(tree ? *tree : json::value());
}

std::string encode_exit(const ProcessChunk& exit) {
  json::object out{{"code", exit.exit_code}};
  if (exit.failure) out["error"] = error_json(*exit.failure);
  return to_json(out);
}
Result<ProcessChunk> decode_exit(const std::string& text) {
  ORC_ASSIGN(const json::value tree, parse_json(text));
  ProcessChunk exit;
  exit.channel = ProcessChunk::Channel::exit;
  exit.exit_code = static_cast<int>(int_at(tree, "/code"));
  if (const json::value* error = find(tree, "/error")) exit.failure = error_of(*error);
  return exit;
}

std::string encode_page(const NodePage& page) {
  return to_json(json::object{{"code", page.code}, {"contentType", page.content_type}}) + "\n" + page.body;
}
Result<NodePage> decode_page(const std::string& bytes) {
  const std::size_t line = bytes.find('\n');
  if (line == std::string::npos) return bad("a page of a node without a head");
  ORC_ASSIGN(const json::value head, parse_json(bytes.substr(0, line)));
  const std::int64_t code = int_at(head, "/code");
  if (code < 200 || code > 599) return bad("a page of a node with the code " + std::to_string(code));
  return NodePage{static_cast<int>(code), string_at(head, "/contentType"), bytes.substr(line + 1)};
}

std::string encode_statistics(const Statistics& statistics) {
  json::array pods;
  for (const PodUse& pod : statistics.pods) {
    json::object one = use_json(pod.at_ns, pod.window_ns, pod.working_set);
    one["uid"] = pod.uid;
    one["ns"] = pod.ns;
    one["name"] = pod.name;
    json::object labels;
    for (const auto& [key, value] : pod.labels) labels[key] = value;
    one["labels"] = std::move(labels);
    json::array containers;
    for (const ContainerUse& each : pod.containers) {
      containers.push_back(json::object{
          {"name", each.container}, {"nanocores", each.nanocores}, {"workingSet", each.working_set}});
    }
    one["containers"] = std::move(containers);
    pods.push_back(std::move(one));
  }
  json::array nodes;
  for (const NodeUse& node : statistics.nodes) {
    json::object one = use_json(node.at_ns, node.window_ns, node.working_set);
    one["name"] = node.name;
    one["nanocores"] = node.nanocores;
    nodes.push_back(std::move(one));
  }
  return to_json(json::object{{"pods", std::move(pods)}, {"nodes", std::move(nodes)}});
}

Result<Statistics> decode_statistics(const std::string& text) {
  ORC_ASSIGN(const json::value tree, parse_json(text));
  Statistics out;
  if (const json::array* pods = array_at(tree, "/pods")) {
    for (const json::value& one : *pods) {
      PodUse pod{string_at(one, "/uid"),
                 string_at(one, "/ns"),
                 string_at(one, "/name"),
                 {},
                 int_at(one, "/at"),
                 int_at(one, "/window"),
                 {},
                 int_at(one, "/workingSet")};
      if (const json::object* labels = object_at(one, "/labels")) {
        for (const auto& [key, value] : *labels) {
          if (value.is_string()) pod.labels.emplace(std::string(key), std::string(value.get_string()));
        }
      }
      if (const json::array* containers = array_at(one, "/containers")) {
        for (const json::value& each : *containers)
          pod.containers.push_back(
              {string_at(each, "/name"), int_at(each, "/nanocores"), int_at(each, "/workingSet")});
      }
      out.pods.push_back(std::move(pod));
    }
  }
  if (const json::array* nodes = array_at(tree, "/nodes")) {
    for (const json::value& one : *nodes)
      out.nodes.push_back({string_at(one, "/name"), int_at(one, "/at"), int_at(one, "/window"),
                           int_at(one, "/nanocores"), int_at(one, "/workingSet")});
  }
  return out;
}

}  // namespace orchestra::tunnel
