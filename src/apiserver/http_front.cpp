// Requests over HTTP: see http_front.hpp.
#include "apiserver/http_front.hpp"

#include "api/cel/value.hpp"
#include "api/status.hpp"
#include "api/tunnel/frame.hpp"
#include "apiserver/auth/tokens.hpp"
#include "apiserver/encode.hpp"
#include "apiserver/gzip.hpp"
#include "apiserver/http_documents.hpp"
#include "apiserver/http_exchange.hpp"
#include "apiserver/streams/node_tunnels.hpp"
#include "apiserver/streams/pod_proxy.hpp"
#include "apiserver/streams/pod_streams_http.hpp"
#include "apiserver/watch_cursor.hpp"
#include "apiserver/watch_stream.hpp"
#include "base/json.hpp"

namespace orchestra::apiserver {
namespace {

constexpr std::size_t kWholeBodyMax = 64 << 10;  // what a connection may hold of an answer nobody reads

/// A long body, one piece at a time: the next is made when the last was taken by the kernel. A client that
/// has not taken all of it by the deadline of its request is cut off, as upstream's filters/timeout.go does.
class PieceWriter : public std::enable_shared_from_this<PieceWriter> {
 public:
  PieceWriter(Engine& engine, std::shared_ptr<HttpBodyWriter> writer,
              std::function<std::optional<std::string>()> more)
      : engine_(engine), writer_(std::move(writer)), more_(std::move(more)) {}
  void start(std::int64_t deadline_ns) {
    if (deadline_ns != 0) {
      const std::int64_t left = std::max<std::int64_t>(0, deadline_ns - engine_.clock().now().steady_ns);
      timer_ = engine_.after(Duration(left), [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->writer_->abort();
      });
    }
    next();
  }

 private:
  void next() {
    auto piece = more_();
    if (!piece) {
      writer_->finish();
      return end();
    }
    auto self = shared_from_this();
    writer_->write(std::move(*piece)).on_ready([self](Result<void> written) {
      if (!written) return self->end();  // the client is gone
      self->engine_.post([self] { self->next(); });
    });
  }
  void end() {
    if (timer_ != 0) engine_.cancel_timer(timer_);
  }

  Engine& engine_;
  std::shared_ptr<HttpBodyWriter> writer_;
  std::function<std::optional<std::string>()> more_;
  Engine::TimerId timer_ = 0;
};

/// A body that is here already as the only piece of a long one.
std::function<std::optional<std::string>()> one_piece(std::string body) {
  return [left = std::optional<std::string>(std::move(body))]() mutable {
    return std::exchange(left, std::nullopt);
  };
}

bool is_stream(const std::string& subresource) {
  return subresource == "log" || subresource == "exec" || subresource == "attach" ||
         subresource == "portforward" || subresource == "proxy";
}
bool is_tunnel(const RequestInfo& info) {
  return info.group == tunnel::kGroup && info.version == tunnel::kVersion &&
         info.resource == tunnel::kResource && info.subresource == tunnel::kSubresource && info.ns.empty() &&
         !info.name.empty();
}

bool is_long_running(const RequestInfo& info) {
  return info.verb == "watch" || is_stream(info.subresource) || is_tunnel(info);
}
bool is_long(const Reply& reply) { return reply.more != nullptr || reply.body.size() >= kGzipFrom; }

bool is_served(const api::TypePtr& type, const RequestInfo& info) {
  return type != nullptr && (info.subresource.empty() || type->subresource(info.subresource) != nullptr);
}

AuditOrigin origin_of(const HttpServerRequest& request) {
  std::string address = request.peer.address.substr(0, request.peer.address.rfind(':'));
  if (address.starts_with('[') && address.ends_with(']')) address = address.substr(1, address.size() - 2);
  return {request.target, request.header("user-agent"), std::move(address), request.header("audit-id")};
}

bool is_write(const std::string& verb) { return verb != "get" && verb != "list" && verb != "watch"; }
}  // namespace

void HttpFront::compress(const Exchange& exchange, Reply& reply) {
  if (!is_long(reply) || exchange.header("accept-encoding").find("gzip") == std::string::npos) return;
  reply.headers.emplace_back("Content-Encoding", "gzip");
  reply.headers.emplace_back("Vary", "Accept-Encoding");
  if (reply.more) {
    reply.more = gzip_pieces(std::move(reply.more));
  } else {
    reply.body = gzip(reply.body, 1);
  }
}

void send_reply(Engine& engine, const std::shared_ptr<HttpResponder>& responder, Reply reply,
                std::int64_t deadline_ns) {
  HttpResponder::Headers headers;
  if (!reply.content_type.empty()) headers.emplace_back("Content-Type", reply.content_type);
  headers.emplace_back("Cache-Control", "no-cache, private");
  for (auto& header : reply.headers) headers.push_back(std::move(header));
  if (!reply.more) return responder->respond(reply.code, std::move(headers), std::move(reply.body));
  auto writer = responder->start(reply.code, std::move(headers));
  std::make_shared<PieceWriter>(engine, std::move(writer), std::move(reply.more))->start(deadline_ns);
}

HttpFront::HttpFront(std::shared_ptr<ApiCore> core, FrontOptions options)
    : core_(std::move(core)),
      options_(std::move(options)),
      requests_(options_.registry),
      documents_(std::make_shared<Documents>()) {
  collecting_ = options_.registry->collect([this](MetricSink& sink) { collect(sink); });
}

void HttpFront::set_address(std::string address) {
  std::lock_guard lock(mutex_);
  address_ = std::move(address);
}
void HttpFront::add_endpoint(const std::string& path, Endpoint endpoint) {
  std::lock_guard lock(mutex_);
  endpoints_[path] = std::move(endpoint);
}

void HttpFront::handle(HttpServerRequest request, std::shared_ptr<HttpResponder> responder, bool trusted) {
  Engine& engine = core_->engine();
  auto exchange = std::make_shared<Exchange>();
  exchange->began_ns = engine.clock().now().steady_ns;
  auto info = parse_request(request.method, request.target);
  if (!info)
    return send_reply(engine, responder,
                      error_reply(api::bad_request("the path or query of the request is malformed")));
  exchange->request = std::move(request);
  exchange->responder = std::move(responder);
  exchange->info = std::move(*info);
  if (const auto& audit = core_->audit()) {
    exchange->audit = audit->begin(exchange->info, origin_of(exchange->request));
    exchange->responder = AuditLog::watch(exchange->audit, std::move(exchange->responder));
  }
  if (auto set = set_deadline(*exchange); !set) return reply(exchange, error_reply(set.error()));
  auto self = shared_from_this();
  apiserver::authenticate(
      core_, exchange->request, trusted, [exchange](const Identity& behind) { exchange->user = behind; },
      [self, exchange](Result<Identity> user) { self->authenticated(exchange, std::move(user)); });
  watch_deadline(exchange);
}

// A client may ask for less time than the server gives; zero and below mean that it does not.
Result<void> HttpFront::set_deadline(Exchange& exchange) const {
  if (is_long_running(exchange.info)) return {};
  std::int64_t allowed = options_.request_deadline.count();
  if (const std::string text = query_value(exchange.info.query, "timeout"); !text.empty()) {
    const auto asked = api::cel::parse_duration(text);
    if (!asked) {
      const bool digits = text.find_first_not_of("0123456789") == std::string::npos;
      return api::bad_request(std::string("invalid timeout specified in the request URL - time: ") +
                              (digits ? "missing unit in" : "invalid") + " duration \"" + text + "\"");
    }
    if (*asked > 0) allowed = std::min(allowed, *asked);
  }
  exchange.deadline_ns = exchange.began_ns + allowed;
  return {};
}

// Only what was not answered at once needs a timer.
void HttpFront::watch_deadline(const std::shared_ptr<Exchange>& exchange) {
  if (exchange->deadline_ns == 0 || exchange->answered) return;
  Engine& engine = core_->engine();
  const std::int64_t left = exchange->deadline_ns - engine.clock().now().steady_ns;
  exchange->timer =
      engine.after(Duration(std::max<std::int64_t>(0, left)), [self = shared_from_this(), exchange] {
        if (!self->claim(*exchange)) return;
        Reply late = error_reply(api::timed_out(kTimedOut));
        Engine& own = self->core_->engine();
        self->requests_.count(exchange->info, exchange->served, late.code,
                              own.clock().now().steady_ns - exchange->began_ns);
        if (exchange->audit) exchange->audit->answered(late);
        self->send(*exchange, std::move(late));
      });
  if (exchange->answered) engine.cancel_timer(exchange->timer);
}

bool HttpFront::claim(Exchange& exchange) const {
  if (exchange.answered.exchange(true)) return false;
  if (const Engine::TimerId timer = exchange.timer; timer != 0) core_->engine().cancel_timer(timer);
  return true;
}

void HttpFront::reply(const std::shared_ptr<Exchange>& exchange, Reply reply) const {
  if (claim(*exchange)) send(*exchange, std::move(reply));
}

// What encoding has not indented: errors, other Statuses, discovery.
void HttpFront::send(const Exchange& exchange, Reply reply) const {
  const auto pretty = exchange.info.query.find("pretty");
  const bool document =
      exchange.info.is_resource || reply.code >= 400 || exchange.info.path.starts_with("/api");
  if (pretty != exchange.info.query.end() && document && !reply.more && reply.body.starts_with('{') &&
      !reply.body.starts_with("{\n") && query_flag(exchange.info.query, "pretty")) {
    if (const auto tree = parse_json(reply.body)) reply.body = to_pretty_json(*tree);
  }
  if (!exchange.deprecation.empty())
    reply.headers.insert(reply.headers.begin(), warning_header(exchange.deprecation));
  // Lists have no bound; a single object has one, and is told with its length.
  if (exchange.info.verb == "list" && !reply.more && reply.body.size() > kWholeBodyMax)
    reply.more = one_piece(std::move(reply.body));
  send_reply(core_->engine(), exchange.responder, std::move(reply), exchange.deadline_ns);
}

void HttpFront::authenticated(const std::shared_ptr<Exchange>& exchange, Result<Identity> user) {
  if (!user) {
    if (exchange->audit && exchange->user.user.empty()) exchange->audit->refused();
    if (exchange->audit && !exchange->user.user.empty()) exchange->audit->received(exchange->user);
    return reply(exchange, error_reply(user.error()));
  }
  exchange->user = std::move(*user);
  if (exchange->audit) {
    exchange->audit->received(exchange->user);
    exchange->audit->request(exchange->request.body, exchange->header("content-type"));
  }
  if (is_tunnel(exchange->info)) return tunnel(exchange);
  if (exchange->info.is_resource) return resource(exchange);
  if (auto allowed = authorize(*core_, exchange->user, exchange->info, exchange->notes()); !allowed)
    return reply(exchange, error_reply(allowed.error()));
  Reply answer = fixed(*exchange);
  requests_.count(exchange->info, true, answer.code,
                  core_->engine().clock().now().steady_ns - exchange->began_ns);
  reply(exchange, std::move(answer));
}

void HttpFront::resource(const std::shared_ptr<Exchange>& exchange) {
  Engine& engine = core_->engine();
  const bool streams = is_stream(exchange->info.subresource);
  // The engine asks for everything else itself.
  if (streams || exchange->info.verb == "watch") {
    auto allowed = authorize(*core_, exchange->user, exchange->info, exchange->notes());
    // Running a command is no read, whatever the method of the upgrade was (upstream since 1.35).
    const bool reads = exchange->info.subresource == "log" || exchange->info.subresource == "proxy";
    if (allowed && streams && !reads && exchange->info.verb == "get") {
      RequestInfo create = exchange->info;
      create.verb = "create";
      allowed = authorize(*core_, exchange->user, create, exchange->notes());
    }
    if (!allowed) return reply(exchange, error_reply(allowed.error()));
  }
  if (streams) return stream(exchange);
  const api::TypePtr known =
      core_->registry()->find(exchange->info.group, exchange->info.version, exchange->info.resource);
  const api::TypeVersion* version = known ? known->version(exchange->info.version) : nullptr;
  if (version != nullptr) exchange->deprecation = version->deprecation;
  if (exchange->info.verb == "watch") return watch(exchange);
  Call call;
  auto want = negotiate(exchange->header("accept"), exchange->info.query,
                        forms_of(known.get(), exchange->info.subresource));
  if (!want) return reply(exchange, error_reply(want.error()));
  call.want = *want;
  call.want.managed_fields = true;
  call.user = exchange->user;
  call.body = std::move(exchange->request.body);
  call.content_type = exchange->header("content-type");
  if (call.content_type.empty()) call.content_type = "application/json";
  call.user_agent = exchange->header("user-agent");
  call.info = exchange->info;
  call.deadline_ns = exchange->deadline_ns;
  if (exchange->audit) call.notes = exchange->audit->notes();

  const bool write = is_write(exchange->info.verb);
  std::atomic<std::size_t>& in_flight = write ? writes_ : reads_;
  if (++in_flight > (write ? options_.writes_in_flight_max : options_.reads_in_flight_max)) {
    --in_flight;
    return reply(exchange, error_reply(api::too_many_requests("too many requests, please try again later")));
  }
  auto self = shared_from_this();
  exchange->served = is_served(known, exchange->info);
  auto run = [self, exchange, call = std::move(call), &in_flight]() mutable {
    self->core_->handle(std::move(call), [self, exchange, &in_flight](Reply answer) {
      --in_flight;  // also of a request whose client was told that it took too long: it was at work until now
      if (!self->claim(*exchange)) return;
      Engine& own = self->core_->engine();
      self->requests_.count(exchange->info, exchange->served, answer.code,
                            own.clock().now().steady_ns - exchange->began_ns);
      if (exchange->audit) exchange->audit->answered(answer);
      compress(*exchange, answer);
      self->send(*exchange, std::move(answer));
    });
  };
  // Lists and collections may take long; event threads must stay free for watches.
  if (exchange->info.verb == "list" || exchange->info.verb == "deletecollection") {
    auto shared = std::make_shared<decltype(run)>(std::move(run));
    if (auto queued = engine.post_blocking([shared] { (*shared)(); }); !queued) {
      --in_flight;
      reply(exchange, error_reply(api::too_many_requests("too many requests, please try again later")));
    }
    return;
  }
  run();
}

void HttpFront::watch(const std::shared_ptr<Exchange>& exchange) {
  Engine& engine = core_->engine();
  Call call;
  call.info = exchange->info;
  call.user = exchange->user;
  const api::TypePtr known = core_->registry()->find(call.info.group, call.info.version, call.info.resource);
  auto want = negotiate(exchange->header("accept"), exchange->info.query,
                        forms_of(known.get(), call.info.subresource));
  auto type = want ? core_->resolve(call.info) : Result<api::TypePtr>(want.error());
  auto request = type ? read_watch(*core_, call, *type) : Result<WatchRequest>(type.error());
  auto cursor = request ? WatchCursor::open(*core_, std::move(*request))
                        : Result<std::unique_ptr<WatchCursor>>(request.error());
  requests_.count(call.info, is_served(known, call.info), cursor ? 200 : api::status_of(cursor.error()).code,
                  0);
  if (!cursor) return send(*exchange, error_reply(cursor.error()));
  WatchStreamOptions options;
  options.want = *want;
  options.want.pretty = false;
  options.want.managed_fields = true;
  options.api_version = (*type)->gvk(call.info.version).version;
  options.bookmark_interval = options_.bookmark_interval;
  options.timeout_text = query_value(call.info.query, "timeoutSeconds");
  auto self = shared_from_this();
  options.stopped = [self] { return self->stopped(); };
  std::vector<std::pair<std::string, std::string>> headers{
      {"Content-Type",
       want->protobuf ? "application/vnd.kubernetes.protobuf;stream=watch" : "application/json"},
      {"Cache-Control", "no-cache, private"}};
  if (!exchange->deprecation.empty()) headers.push_back(warning_header(exchange->deprecation));
  auto writer = exchange->responder->start(200, std::move(headers));
  auto stream = WatchStream::run(engine, std::move(*cursor), std::move(writer), std::move(options));
  std::lock_guard lock(mutex_);
  if (watches_.size() >= sweep_at_) {
    std::erase_if(watches_, [](const std::weak_ptr<WatchStream>& one) { return one.expired(); });
    sweep_at_ = std::max<std::size_t>(64, 2 * watches_.size());
  }
  watches_.push_back(std::move(stream));
}

void HttpFront::stop() {
  stopped_ = true;
  collecting_.reset();
  std::vector<std::weak_ptr<WatchStream>> watches;
  {
    std::lock_guard lock(mutex_);
    watches.swap(watches_);
  }
  for (const auto& one : watches) {
    if (auto stream = one.lock()) stream->kick();
  }
}

// A node's own agent, or whoever may `create` the subresource `tunnel` of nodes.
void HttpFront::tunnel(const std::shared_ptr<Exchange>& exchange) {
  RequestInfo wanted = exchange->info;
  wanted.verb = "create";
  const bool own =
      exchange->user.in_group("system:nodes") && exchange->user.user == "system:node:" + exchange->info.name;
  auto allowed = own ? Result<void>() : authorize(*core_, exchange->user, wanted, exchange->notes());
  if (!allowed || tunnels_ == nullptr || stopped()) {
    const Error why = allowed ? api::service_unavailable("this server takes no tunnels") : allowed.error();
    return send(*exchange, error_reply(why));
  }
  tunnels_->accept(exchange->info.name, exchange->request, exchange->responder);
}

void HttpFront::stream(const std::shared_ptr<Exchange>& exchange) {
  Call call;
  call.info = exchange->info;
  call.user = exchange->user;
  if (exchange->audit) call.notes = exchange->audit->notes();
  if (call.info.subresource == "proxy")
    return serve_proxy(*core_, std::move(call), exchange->request, exchange->responder);
  serve_pod_stream(*core_, std::move(call), exchange->request, exchange->responder);
}

}  // namespace orchestra::apiserver
