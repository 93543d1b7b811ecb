#include "apiserver/streams/pod_proxy.hpp"

#include <algorithm>

#include "api/status.hpp"
#include "apiserver/gzip.hpp"
#include "apiserver/http_front.hpp"
#include "apiserver/streams/proxy_target.hpp"
#include "net/http/body.hpp"
#include "net/http/tls_stream.hpp"

namespace orchestra::apiserver {
namespace {

constexpr std::size_t kReadBytes = 32 << 10;
/// Of a packed page, unpacked at a time: a thousand times as much comes out at most.
constexpr std::size_t kPackedBytes = 2 << 10;

/// Of one connection only (RFC 9110 section 7.6.1).
bool is_hop_by_hop(std::string_view name) {
  static constexpr std::string_view kNames[] = {"connection",
                                                "keep-alive",
                                                "proxy-authenticate",
                                                "proxy-authorization",
                                                "proxy-connection",
                                                "te",
                                                "trailer",
                                                "transfer-encoding",
                                                "upgrade"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

/// What the client says to us and not to the pod.
bool stays_here(std::string_view name, std::string_view connection) {
  if (name == "authorization" || name == "host" || name == "content-length" || name == "expect") return true;
  return name.starts_with("impersonate-") || name.starts_with("x-forwarded-") || is_hop_by_hop(name) ||
         http::list_contains(connection, name);
}

/// A page of HTML, packed in a way that is known here or not at all.
bool has_links(const http::Head& head) {
  const std::string type = to_lower(head.find("content-type").value_or(""));
  const std::string packed = to_lower(head.find("content-encoding").value_or(""));
  return trim(std::string_view(type).substr(0, type.find(';'))) == "text/html" &&
         (packed.empty() || packed == "identity" || packed == "gzip") && !head.find("location");
}

/// An Upgrade field counts where Connection names it (RFC 9110 section 7.8).
std::string asked_upgrade(const HttpServerRequest& request) {
  const bool meant = http::list_contains(request.header("connection"), "upgrade");
  return meant ? request.header("upgrade") : std::string();
}

Error bad_gateway(const std::string& why) {
  return api::status_error(api::make_status(502, "BadGateway", "error trying to reach the pod: " + why));
}

/// One exchange. The connection's callbacks come one after another, for one read is outstanding at a time.
class ProxyExchange : public std::enable_shared_from_this<ProxyExchange> {
 public:
  /// `upgrade`: the protocol that the client asks to go on with; empty: none.
  struct Asked {
    std::string method, upgrade;
    LinkBase links;
  };
  ProxyExchange(Engine& engine, std::shared_ptr<DuplexStream> socket, Asked asked,
                std::shared_ptr<HttpResponder> responder)
      : engine_(engine),
        socket_(std::move(socket)),
        asked_(std::move(asked)),
        responder_(std::move(responder)) {}

  void start(std::string request) {
    responder_->on_closed([socket = socket_] { socket->close(); });
    socket_->write(std::move(request)).on_ready([self = shared_from_this()](Result<void> written) {
      if (!written) return self->fail(written.error().to_string());
      self->read_head();
    });
  }

 private:
  void fail(const std::string& why) {
    socket_->close();
    send_reply(engine_, responder_, error_reply(bad_gateway(why)));
  }

  void read_head() {
    socket_->read(kReadBytes).on_ready([self = shared_from_this()](Result<std::string> bytes) {
      if (!bytes) return self->fail(bytes.error().to_string());
      if (bytes->empty()) return self->fail("the connection ended before its answer");
      self->buffer_ += *bytes;
      self->engine_.post([self] { self->look_at_head(); });
    });
  }

  void look_at_head() {
    const http::HeadLimits limits;
    const http::HeadResult scanned = scanner_.scan(buffer_, limits);
    if (scanned.state == http::HeadState::incomplete) return read_head();
    http::Head head;
    http::HeadResult parsed = scanned;
    if (scanned.state == http::HeadState::complete) {
      parsed = http::parse_response_head(std::string_view(buffer_).substr(0, scanner_.bytes()), limits,
                                         asked_.method, head);
    }
    if (parsed.state != http::HeadState::complete)
      return fail(std::string("its answer is not HTTP: ") + parsed.why);
    const std::size_t bytes = scanner_.bytes();
    if (head.status == 101) return switch_protocols(head, bytes);
    if (head.status < 200) {  // 100 Continue and its like: the answer follows
      buffer_.erase(0, bytes);
      scanner_.reset();
      return look_at_head();
    }
    body_ = http::BodyDecoder(head.framing, head.content_length);
    HttpResponder::Headers headers = proxied_answer(head, asked_.links);
    const int status = head.status;
    const bool for_head = asked_.method == "HEAD";
    const bool page = has_links(head);
    if (page && !body_.done()) {
      links_.emplace(asked_.links);
      if (to_lower(head.find("content-encoding").value_or("")) == "gzip") packed_.emplace();
      std::erase_if(headers, [](const auto& field) { return to_lower(field.first) == "content-encoding"; });
    }
    // Of a page that would come with other links the length is not known.
    const auto told = page ? std::nullopt : head.find("content-length");
    if (for_head && told) headers.emplace_back("Content-Length", std::string(*told));
    const bool length_known = !for_head || told.has_value() || status == 204 || status == 304;
    buffer_.erase(0, bytes);  // the head's views end here
    if (body_.done()) {
      socket_->close();
      if (length_known) return responder_->respond(status, std::move(headers), "");
      return responder_->start(status, std::move(headers))->finish();  // GET would come in chunks
    }
    writer_ = responder_->start(status, std::move(headers));
    writer_->on_closed([socket = socket_] { socket->close(); });
    pass_body();
  }

  // What is here goes out, then more is read: a slow client stops the pod, nothing piles up.
  void pass_body() {
    std::string out;
    std::size_t used = 0;  // taken away once: each chunk of a few bytes would move all that is behind it
    const std::size_t most = packed_ ? std::min(kPackedBytes, buffer_.size()) : buffer_.size();
    while (used < most && !body_.done()) {
      const http::BodyDecoder::Step step = body_.decode(std::string_view(buffer_).substr(used, most - used));
      if (step.error != nullptr) return cut();
      out += step.data;
      if (step.consumed == 0) break;
      used += step.consumed;
    }
    buffer_.erase(0, used);
    if (packed_) {
      auto unpacked = packed_->feed(out);
      if (!unpacked) return cut();
      out = std::move(*unpacked);
    }
    if (links_) out = links_->feed(out);
    if (out.empty()) return go_on(used != 0);
    writer_->write(std::move(out)).on_ready([self = shared_from_this(), used](Result<void> written) {
      if (!written) return self->socket_->close();
      self->engine_.post([self, used] { self->go_on(used != 0); });
    });
  }

  void go_on(bool progress) {
    if (body_.done()) return end();
    if (progress && !buffer_.empty()) return pass_body();
    read_body();
  }

  void read_body() {
    socket_->read(kReadBytes).on_ready([self = shared_from_this()](Result<std::string> bytes) {
      if (!bytes) return self->cut();
      if (bytes->empty()) return self->body_.end_of_stream() ? self->end() : self->cut();
      self->buffer_ += *bytes;
      self->engine_.post([self] { self->pass_body(); });
    });
  }

  void end() {
    socket_->close();
    const std::string rest = links_ ? links_->finish() : std::string();
    if (rest.empty()) return writer_->finish();
    writer_->write(rest).on_ready([writer = writer_](Result<void> written) {
      if (written) writer->finish();
    });
  }
  void cut() {
    socket_->close();
    writer_->abort();
  }

  // 101: from here on both sides speak what the client asked for. A pod that switches without being asked, or
  // to something else, would have its bytes read as answers to the client's next requests.
  void switch_protocols(const http::Head& head, std::size_t bytes) {
    const std::string chosen(head.find("upgrade").value_or(""));
    if (asked_.upgrade.empty() || !head.upgrade || !http::equal_ignoring_case(chosen, asked_.upgrade)) {
      return fail("it switched to the protocol \"" + chosen + "\" when \"" + asked_.upgrade +
                  "\" was requested");
    }
    HttpResponder::Headers headers = proxied_answer(head, asked_.links);
    headers.emplace_back("Connection", "Upgrade");
    headers.emplace_back("Upgrade", chosen);
    buffer_.erase(0, bytes);
    auto client = responder_->upgrade(std::move(headers));
    if (!buffer_.empty()) {
      client->write(std::exchange(buffer_, {})).on_ready([self = shared_from_this(), client](Result<void>) {
        pump(self->engine_, self->socket_, client);
      });
    } else {
      pump(engine_, socket_, client);
    }
    pump(engine_, client, socket_);
  }

  static void pump(Engine& engine, const std::shared_ptr<DuplexStream>& from,
                   const std::shared_ptr<DuplexStream>& to) {
    from->read(kReadBytes).on_ready([&engine, from, to](Result<std::string> bytes) {
      if (!bytes || bytes->empty()) {
        bytes ? to->close_write() : to->close();
        return;
      }
      to->write(std::move(*bytes)).on_ready([&engine, from, to](Result<void> written) {
        if (!written) return from->close();
        engine.post([&engine, from, to] { pump(engine, from, to); });
      });
    });
  }

  Engine& engine_;
  const std::shared_ptr<DuplexStream> socket_;
  const Asked asked_;
  const std::shared_ptr<HttpResponder> responder_;
  std::string buffer_;
  http::HeadScanner scanner_;
  http::BodyDecoder body_;
  std::shared_ptr<HttpBodyWriter> writer_;
  std::optional<HtmlLinks> links_;  ///< of a page that has some
  std::optional<Gunzip> packed_;
};

/// `connected`: a way into the pod, by TLS where that was asked for.
Pending<std::shared_ptr<DuplexStream>> connect(Engine& engine, PodStreams& streams,
                                               const ProxyTarget& target) {
  auto plain = streams.port_forward(target.pod, target.port);
  if (!target.tls) return plain;
  auto context = http::make_client_context({.verify = false});
  if (!context) return context.error();
  Promise<std::shared_ptr<DuplexStream>> promise;
  auto pending = promise.pending();
  plain.on_ready([&engine, context = *context, promise](Result<std::shared_ptr<DuplexStream>> socket) {
    if (!socket) return promise.set(socket.error());
    http::open_tls_stream(engine, context, std::move(*socket))
        .on_ready(
            [promise](Result<std::shared_ptr<DuplexStream>> opened) { promise.set(std::move(opened)); });
  });
  return pending;
}

void read_page(ApiCore& core, const std::string& node, const HttpServerRequest& request,
               const ProxyPath& path, const std::shared_ptr<HttpResponder>& responder) {
  Engine& engine = core.engine();
  if (request.method != "GET" && request.method != "HEAD") {
    return send_reply(engine, responder,
                      error_reply(api::status_error(api::make_status(
                          405, "MethodNotAllowed",
                          "the agent of node " + node + " is only read (GET), not " + request.method))));
  }
  core.pod_streams()->page(node, path.rest).on_ready([&engine, responder](Result<NodePage> page) {
    if (page)
      return responder->respond(page->code, {{"Content-Type", page->content_type}}, std::move(page->body));
    const bool known = page.error().detail<Status>() != nullptr;
    const Error why =
        known
            ? page.error()
            : api::service_unavailable("error trying to reach the node's agent: " + page.error().to_string());
    send_reply(engine, responder, error_reply(why));
  });
}

void reach(ApiCore& core, const ProxyTarget& target, const HttpServerRequest& request, const ProxyPath& path,
           const std::shared_ptr<HttpResponder>& responder) {
  Engine& engine = core.engine();
  const auto streams = core.pod_streams();
  if (streams == nullptr) {
    return send_reply(engine, responder,
                      error_reply(api::service_unavailable(
                          "no node agent is connected to this server, so pods cannot be reached")));
  }
  if (target.pod.pod.empty()) return read_page(core, target.pod.node, request, path, responder);
  const std::string port = ":" + std::to_string(target.port), host = target.pod.pod + port;
  std::string message = proxied_request(request, path, host);
  ProxyExchange::Asked asked{
      request.method, asked_upgrade(request), {path.prefix, {host}, request.header("host")}};
  if (!target.address.empty()) {
    const bool v6 = target.address.find(':') != std::string::npos;
    asked.links.hosts.push_back((v6 ? "[" + target.address + "]" : target.address) + port);
  }
  connect(engine, *streams, target)
      .on_ready([&engine, asked = std::move(asked), responder,
                 message = std::move(message)](Result<std::shared_ptr<DuplexStream>> socket) mutable {
        if (!socket) {
          const bool known = socket.error().detail<Status>() != nullptr;
          const Error why = known ? socket.error() : bad_gateway(socket.error().to_string());
          return send_reply(engine, responder, error_reply(why));
        }
        std::make_shared<ProxyExchange>(engine, *socket, std::move(asked), responder)
            ->start(std::move(message));
      });
}

}  // namespace

ProxyPath split_proxy_path(std::string_view target, std::size_t segments) {
  const std::size_t question = std::min(target.find('?'), target.size());
  std::size_t at = 0;
  for (std::size_t seen = 0; seen < segments && at < question; ++seen) {
    while (at < question && target[at] == '/') ++at;
    while (at < question && target[at] != '/') ++at;
  }
  return {std::string(target.substr(0, at)), std::string(target.substr(at))};
}

bool is_proxy_path(std::string_view target) {
  return std::all_of(target.begin(), target.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

std::string proxied_request(const HttpServerRequest& request, const ProxyPath& path,
                            const std::string& host) {
  const bool slash = !path.rest.empty() && path.rest[0] == '/';
  const std::string upgrade = asked_upgrade(request);
  std::string out = request.method + " " + (slash ? path.rest : "/" + path.rest) + " HTTP/1.1\r\n";
  const auto add = [&out](std::string_view name, std::string_view value) {
    out.append(name).append(": ").append(value).append("\r\n");
  };
  add("Host", host);
  const std::string connection = request.header("connection");
  for (const auto& [name, value] : request.headers) {
    if (!stays_here(name, connection)) add(name, value);
  }
  add("X-Forwarded-For", request.peer.address.substr(0, request.peer.address.rfind(':')));
  if (const std::string asked = request.header("host"); !asked.empty()) add("X-Forwarded-Host", asked);
  add("X-Forwarded-Uri", path.prefix + path.rest.substr(0, path.rest.find('?')));
  if (!upgrade.empty()) {
    add("Connection", "Upgrade");
    add("Upgrade", upgrade);
  } else {
    add("Connection", "close");
  }
  const bool has_body = !request.body.empty() || request.method == "POST" || request.method == "PUT" ||
                        request.method == "PATCH";
  if (has_body) add("Content-Length", std::to_string(request.body.size()));
  return out + "\r\n" + request.body;
}

HttpResponder::Headers proxied_answer(const http::Head& head, const LinkBase& base) {
  HttpResponder::Headers out;
  const std::string connection = std::string(head.find("connection").value_or(""));
  for (const http::Field& field : head.fields) {
    const std::string name = to_lower(field.name);
    if (is_hop_by_hop(name) || name == "content-length" || http::list_contains(connection, name)) continue;
    if (name.starts_with("access-control-allow-")) continue;
    std::string value(field.value);
    if (name == "location") value = proxied_link(base, value);
    out.emplace_back(std::string(field.name), std::move(value));
  }
  return out;
}

void serve_proxy(ApiCore& core, Call call, const HttpServerRequest& request,
                 std::shared_ptr<HttpResponder> responder) {
  // /api/v1/namespaces/NS/pods/NAME/proxy, or /api/v1/nodes/NAME/proxy.
  const ProxyPath path = split_proxy_path(request.target, call.info.ns.empty() ? 5 : 7);
  if (!is_proxy_path(request.target)) {
    return send_reply(core.engine(), responder,
                      error_reply(api::bad_request("the path of the request is malformed")));
  }
  const bool bare = path.rest.empty() || path.rest[0] == '?';
  if (bare && (request.method == "GET" || request.method == "HEAD")) {  // so that relative links work
    return responder->respond(301, {{"Location", path.prefix + "/" + path.rest}}, "");
  }
  auto self = core.shared_from_this();
  find_proxy_target(core, call, [self, request, path, responder](Result<ProxyTarget> target) {
    if (!target) return send_reply(self->engine(), responder, error_reply(target.error()));
    reach(*self, *target, request, path, responder);
  });
}

}  // namespace orchestra::apiserver
