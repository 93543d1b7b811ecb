// Entry of the streams: chooses log or an upgrade protocol. See pod_streams_http.hpp.
#include "apiserver/streams/pod_streams_http.hpp"

#include "api/status.hpp"
#include "apiserver/http_front.hpp"
#include "apiserver/streams/pod_access.hpp"
#include "apiserver/streams/spdy_session.hpp"
#include "apiserver/streams/websocket_connection.hpp"

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

void serve_log(Engine& engine, const PodAccess& pod, std::shared_ptr<HttpResponder> responder) {
  pod.streams->log(pod.target, pod.log)
      .on_ready([&engine, responder = std::move(responder)](Result<std::shared_ptr<ByteStream>> log) {
        if (!log) return send_reply(engine, responder, error_reply(log.error()));
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
};

Result<Upgrade> choose_websocket(const HttpServerRequest& request, bool forward) {
  static const std::vector<std::string> kCommand = {"v5.channel.k8s.io", "v4.channel.k8s.io"};
  static const std::vector<std::string> kForward = {"SPDY/3.1+portforward.k8s.io", "v4.channel.k8s.io"};
  const std::string key = request.header("sec-websocket-key");
  if (request.header("sec-websocket-version") != "13" || key.empty()) {
    return api::bad_request("a WebSocket needs Sec-WebSocket-Version 13 and a Sec-WebSocket-Key");
  }
  const std::string offered = request.header("sec-websocket-protocol");
  for (const std::string& ours : forward ? kForward : kCommand) {
    for (const std::string& theirs : split(offered, ',')) {
      if (trim(theirs) != ours) continue;
      Upgrade upgrade;
      upgrade.kind = !forward              ? Upgrade::Kind::websocket
                     : ours == kForward[0] ? Upgrade::Kind::tunnel
                                           : Upgrade::Kind::channels;
      upgrade.headers = {{"Upgrade", "websocket"},
                         {"Connection", "Upgrade"},
                         {"Sec-WebSocket-Accept", websocket_accept(key)},
                         {"Sec-WebSocket-Protocol", ours}};
      return upgrade;
    }
  }
  return api::bad_request("none of the offered WebSocket protocols (" + offered + ") is served; there are: " +
                          (forward ? kForward[0] + ", " + kForward[1] : kCommand[0] + ", " + kCommand[1]));
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
  static const std::vector<std::string> kCommand = {"v5.channel.k8s.io", "v4.channel.k8s.io"};
  static const std::vector<std::string> kForward = {"portforward.k8s.io"};
  const std::string offered = request.header("x-stream-protocol-version");
  for (const std::string& ours : forward ? kForward : kCommand) {
    for (const std::string& theirs : split(offered, ',')) {
      if (trim(theirs) != ours) continue;
      Upgrade upgrade;
      upgrade.kind = Upgrade::Kind::spdy;
      upgrade.headers = {
          {"Upgrade", "SPDY/3.1"}, {"Connection", "Upgrade"}, {"X-Stream-Protocol-Version", ours}};
      return upgrade;
    }
  }
  return api::bad_request("none of the offered stream protocols (" + offered + ") is served; there are: " +
                          (forward ? kForward[0] : kCommand[0] + ", " + kCommand[1]));
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
                      ? make_spdy_channels(engine, std::move(connection), pod.exec)
                      : make_websocket_channels(engine, std::move(connection));
  run_remote_command(engine, std::move(channels), [pod] { return pod.streams->exec(pod.target, pod.exec); });
}
}  // namespace

void serve_pod_stream(ApiCore& core, Call call, const HttpServerRequest& request,
                      std::shared_ptr<HttpResponder> responder) {
  Engine& engine = core.engine();
  if (call.info.subresource == "log") {
    call.info.verb = "get";
    return find_pod(core, call, [&engine, responder = std::move(responder)](Result<PodAccess> pod) {
      if (!pod) return send_reply(engine, responder, error_reply(pod.error()));
      serve_log(engine, *pod, responder);
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
