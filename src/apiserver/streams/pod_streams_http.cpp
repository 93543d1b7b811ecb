// Entry of the streams: chooses log or an upgrade protocol. See pod_streams_http.hpp.
#include "apiserver/streams/pod_streams_http.hpp"

#include <algorithm>

#include "api/status.hpp"
#include "apiserver/http_front.hpp"
#include "apiserver/streams/pod_access.hpp"
#include "apiserver/streams/spdy_session.hpp"
#include "apiserver/streams/websocket_connection.hpp"
#include "net/http/head.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kLogChunkBytes = 64 << 10;
constexpr std::size_t kForwardedPortsMax = 127;  // two channels each, and a channel is a byte

/// One log, copied chunk by chunk: the next is read when the last was taken by the kernel.
class LogCopy : public std::enable_shared_from_this<LogCopy> {
 public:
  LogCopy(Engine& engine, std::shared_ptr<ByteStream> log, std::shared_ptr<HttpBodyWriter> writer)
      : engine_(engine), log_(std::move(log)), writer_(std::move(writer)) {}

  void start() {
    // The client going away ends a read that waits for more (follow).
    writer_->on_closed([log = log_] { log->close(); });
    next();
  }

 private:
  void next() {
    auto self = shared_from_this();
    log_->read(kLogChunkBytes).on_ready([self](Result<std::string> chunk) {
      if (!chunk) return self->writer_->abort();
      if (chunk->empty()) {
        self->log_->close();
        return self->writer_->finish();
      }
      self->writer_->write(std::move(*chunk)).on_ready([self](Result<void> written) {
        if (!written) return self->log_->close();
        self->engine_.post([self] { self->next(); });
      });
    });
  }

  Engine& engine_;
  std::shared_ptr<ByteStream> log_;
  std::shared_ptr<HttpBodyWriter> writer_;
};

using Protocols = std::vector<std::string>;

/// The protocol to speak, of those that the client offers: `first` wherever it is named, else the client's
/// order (wsstream.Conn). A client that names none gets the empty one, which is the oldest.
Result<std::string> choose_protocol(const std::string& offered, const std::string& first,
                                    const Protocols& others, const char* what) {
  if (trim(offered).empty()) return std::string();
  Protocols all{first};
  all.insert(all.end(), others.begin(), others.end());
  std::string chosen;
  for (const std::string& one : split(offered, ',')) {
    const std::string theirs(trim(one));
    const bool served = std::find(all.begin(), all.end(), theirs) != all.end();
    if (served && (chosen.empty() || theirs == first)) chosen = theirs;
  }
  if (!chosen.empty()) return chosen;
  std::string list;
  for (const std::string& one : all) list += (list.empty() ? "" : ", ") + one;
  return api::bad_request("none of the offered " + std::string(what) + " (" + offered +
                          ") is served; there are: " + list);
}

/// The fields of the answer 101.
Result<HttpResponder::Headers> accept_websocket(const HttpServerRequest& request,
                                                const std::string& protocol) {
  const std::string key = request.header("sec-websocket-key");
  if (request.header("sec-websocket-version") != "13" || key.empty()) {
    return api::bad_request("a WebSocket needs Sec-WebSocket-Version 13 and a Sec-WebSocket-Key");
  }
  HttpResponder::Headers headers{
      {"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Sec-WebSocket-Accept", websocket_accept(key)}};
  if (!protocol.empty()) headers.emplace_back("Sec-WebSocket-Protocol", protocol);
  return headers;
}

/// How a log goes out: in a body, or as messages.
struct LogWay {
  bool websocket = false, base64 = false;
  HttpResponder::Headers headers;
};
Result<LogWay> choose_log_way(const HttpServerRequest& request) {
  LogWay way;
  way.websocket = to_lower(request.header("upgrade")) == "websocket" &&
                  http::list_contains(request.header("connection"), "upgrade");
  if (!way.websocket) return way;
  ORC_ASSIGN(const std::string chosen,
             choose_protocol(request.header("sec-websocket-protocol"), "binary.k8s.io",
                             {"base64.binary.k8s.io"}, "WebSocket protocols"));
  way.base64 = chosen == "base64.binary.k8s.io";
  ORC_ASSIGN(way.headers, accept_websocket(request, chosen));
  return way;
}

void serve_log(Engine& engine, const PodAccess& pod, LogWay way, std::shared_ptr<HttpResponder> responder) {
  pod.streams->log(pod.target, pod.log)
      .on_ready([&engine, way = std::move(way),
                 responder = std::move(responder)](Result<std::shared_ptr<ByteStream>> log) {
        if (!log) return send_reply(engine, responder, error_reply(log.error()));
        if (way.websocket)
          return run_websocket_log(engine, responder->upgrade(way.headers), std::move(*log), way.base64);
        auto writer =
            responder->start(200, {{"Content-Type", "text/plain"}, {"Cache-Control", "no-cache, private"}});
        std::make_shared<LogCopy>(engine, std::move(*log), std::move(writer))->start();
      });
}

/// What the client wants to speak on the upgraded connection.
struct Upgrade {
  enum class Kind : std::uint8_t { websocket, tunnel, channels, spdy };
  Kind kind = Kind::websocket;
  HttpResponder::Headers headers;
  ChannelCoding channels = {};
  SpdyCoding spdy = {};
};

Result<Upgrade> choose_websocket(const HttpServerRequest& request, bool forward) {
  static const std::string kTunnel = "SPDY/3.1+portforward.k8s.io";
  const std::string offered = request.header("sec-websocket-protocol");
  const char* what = "WebSocket protocols";
  auto chosen = forward ? choose_protocol(offered, kTunnel, {"v4.channel.k8s.io"}, what)
                        : choose_protocol(offered, "v5.channel.k8s.io",
                                          {"v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io",
                                           "base64.channel.k8s.io"},
                                          what);
  if (!chosen) return chosen.error();
  Upgrade upgrade;
  if (forward) upgrade.kind = *chosen == kTunnel ? Upgrade::Kind::tunnel : Upgrade::Kind::channels;
  upgrade.channels.base64 = chosen->find("base64.") != std::string::npos;
  upgrade.channels.status_as_text = !chosen->starts_with("v");
  ORC_ASSIGN(upgrade.headers, accept_websocket(request, *chosen));
  return upgrade;
}

/// The query's ports, as `ports=80&ports=81` or `ports=80,81`.
Result<std::vector<int>> ports_of(const Query& query) {
  std::vector<int> ports;
  const auto [begin, end] = query.equal_range("ports");
  for (auto it = begin; it != end; ++it) {
    for (const std::string& text : split(it->second, ',')) {
      const int port = std::atoi(text.c_str());
      if (port < 1 || port > 65535 || std::to_string(port) != text)
        return api::bad_request("port \"" + text + "\" is not a number in 1-65535");
      ports.push_back(port);
    }
  }
  if (ports.empty()) return api::bad_request("query parameter \"ports\" is required");
  if (ports.size() > kForwardedPortsMax)
    return api::bad_request("at most " + std::to_string(kForwardedPortsMax) +
                            " ports are forwarded by one connection");
  return ports;
}

Result<Upgrade> choose_spdy(const HttpServerRequest& request, bool forward) {
  const std::string offered = request.header("x-stream-protocol-version");
  const char* what = "stream protocols";
  auto chosen =
      forward ? choose_protocol(offered, "portforward.k8s.io", {}, what)
              : choose_protocol(
                    offered, "v5.channel.k8s.io",
                    {"v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"}, what);
  if (!chosen) return chosen.error();
  Upgrade upgrade;
  upgrade.kind = Upgrade::Kind::spdy;
  const bool oldest = !chosen->starts_with("v");
  upgrade.spdy.resizes = !oldest && !chosen->starts_with("v2");
  upgrade.spdy.status_as_text = !upgrade.spdy.resizes || chosen->starts_with("v3");
  upgrade.headers = {{"Upgrade", "SPDY/3.1"}, {"Connection", "Upgrade"}};
  if (!chosen->empty()) upgrade.headers.emplace_back("X-Stream-Protocol-Version", *chosen);
  return upgrade;
}

Result<Upgrade> choose_upgrade(const HttpServerRequest& request, bool forward) {
  const std::string wanted = to_lower(request.header("upgrade"));
  if (wanted == "websocket") return choose_websocket(request, forward);
  if (wanted == "spdy/3.1") return choose_spdy(request, forward);
  return api::bad_request("Upgrade request required");
}

void serve_upgraded(Engine& engine, const Upgrade& upgrade, const PodAccess& pod, bool forward,
                    const std::vector<int>& ports, const std::shared_ptr<HttpResponder>& responder) {
  std::shared_ptr<DuplexStream> connection = responder->upgrade(upgrade.headers);
  if (forward) {
    if (upgrade.kind == Upgrade::Kind::channels)
      return run_websocket_forward(engine, std::move(connection), pod.target, pod.streams, ports);
    if (upgrade.kind == Upgrade::Kind::tunnel)
      connection = make_websocket_tunnel(engine, std::move(connection));
    return run_port_forward(engine, std::move(connection), pod.target, pod.streams);
  }
  auto channels = upgrade.kind == Upgrade::Kind::spdy
                      ? make_spdy_channels(engine, std::move(connection), pod.exec, upgrade.spdy)
                      : make_websocket_channels(engine, std::move(connection), upgrade.channels);
  run_remote_command(engine, std::move(channels), [pod] { return pod.streams->exec(pod.target, pod.exec); });
}
}  // namespace

void serve_pod_stream(ApiCore& core, Call call, const HttpServerRequest& request,
                      std::shared_ptr<HttpResponder> responder) {
  Engine& engine = core.engine();
  if (call.info.subresource == "log") {
    call.info.verb = "get";
    const auto way = choose_log_way(request);
    return find_pod(core, call, [&engine, way, responder = std::move(responder)](Result<PodAccess> pod) {
      if (!pod) return send_reply(engine, responder, error_reply(pod.error()));
      if (!way) return send_reply(engine, responder, error_reply(way.error()));
      serve_log(engine, *pod, *way, responder);
    });
  }
  const bool forward = call.info.subresource == "portforward";
  auto upgrade = choose_upgrade(request, forward);
  std::vector<int> ports;
  if (upgrade && upgrade->kind == Upgrade::Kind::channels) {
    if (auto wanted = ports_of(call.info.query)) {
      ports = std::move(*wanted);
    } else {
      upgrade = wanted.error();
    }
  }
  find_pod(core, call,
           [&engine, upgrade, forward, ports, responder = std::move(responder)](Result<PodAccess> pod) {
             if (!pod) return send_reply(engine, responder, error_reply(pod.error()));
             if (!upgrade) return send_reply(engine, responder, error_reply(upgrade.error()));
             serve_upgraded(engine, *upgrade, *pod, forward, ports, responder);
           });
}

}  // namespace orchestra::apiserver
