#include "net/ingress/proxy_connection.hpp"

#include <boost/asio/error.hpp>

#include "net/ingress/forwarding.hpp"
#include "net/ingress/path.hpp"

namespace orchestra::ingress {
namespace {

constexpr std::size_t kReadBytes = 16 << 10;
constexpr std::size_t kIdleReadBytes = 4 << 10;
constexpr std::size_t kReadAheadBytesMax = 64 << 10;  // pipelined requests; then reading stops
constexpr std::size_t kLingerBytesMax = 256 << 10;
constexpr auto kLingerDeadline = std::chrono::seconds(2);

}  // namespace

ProxyConnection::ProxyConnection(std::shared_ptr<Worker> worker, std::shared_ptr<http::Wire> wire,
                                 std::string client_ip, std::string local_port, bool tls)
    : worker_(std::move(worker)),
      wire_(std::move(wire)),
      client_ip_(std::move(client_ip)),
      local_port_(std::move(local_port)),
      tls_(tls),
      deadline_(std::make_shared<http::Deadline>(worker_->shared().engine, wire_->strand())) {}

void ProxyConnection::start() {
  deadline_->set(options().header_deadline, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->head_expired();
  });
  wire_->handshake([self = shared_from_this()](http::ErrorCode failed) {
    if (failed || self->state_ == State::closed) return self->close();
    self->server_name_ = host_name(self->wire_->tls_server_name());
    self->advance();
  });
}

// --- reading ---

void ProxyConnection::read_client() {
  // While a write to the upstream server points into the buffer it must not move.
  if (reading_ || ended_ || state_ == State::closed || upstream_busy_) return;
  reading_ = true;
  char* room = buffer_.prepare(state_ == State::head && buffer_.empty() ? kIdleReadBytes : kReadBytes);
  wire_->read_some(room, buffer_.room(),
                   [self = shared_from_this()](http::ErrorCode failed, std::size_t bytes) {
                     self->reading_ = false;
                     self->buffer_.commit(bytes);
                     self->ended_ |= static_cast<bool>(failed);
                     self->advance();
                   });
}

void ProxyConnection::advance() {
  switch (state_) {
    case State::head:
      return advance_head();
    case State::connecting:
      if (ended_) return close();
      if (buffer_.size() < kReadAheadBytesMax) read_client();
      return;
    case State::exchanging:
      if (!request_sent_) return pump_request();
      if (ended_) return close();  // the client is gone: nobody waits for the answer
      if (buffer_.size() < kReadAheadBytesMax) read_client();
      return;
    case State::tunnel:
      return tunnel_to_upstream();
    case State::lingering:
      return advance_lingering();
    case State::closed:
      return;
  }
}

void ProxyConnection::advance_head() {
  const http::HeadLimits limits{.head_bytes_max = options().header_bytes_max};
  http::HeadResult result = scanner_.scan(buffer_.view(), limits);
  if (result.state == http::HeadState::incomplete) {
    if (ended_ || ((draining_ || worker_->shared().draining) && buffer_.empty())) return close();
    await_head();
    return read_client();
  }
  http::Head head;
  if (result.state == http::HeadState::complete) {
    result = http::parse_request_head(buffer_.view().substr(0, scanner_.bytes()), limits, head);
  }
  if (result.state == http::HeadState::bad) return refuse(result.status, result.why);
  head_begun_ = first_ = false;
  ++worker_->shared().requests;
  const bool routed = begin_request(head);
  if (state_ != State::head) return;  // refused
  buffer_.consume(head.bytes);
  scanner_.reset();
  if (!routed) return;
  state_ = State::connecting;
  choose_upstream();
}

/// Deadlines while a head is incomplete; the one for the head is absolute.
void ProxyConnection::await_head() {
  buffer_.release();
  if (first_ || (head_begun_ && !buffer_.empty())) return;
  head_begun_ = !buffer_.empty();
  deadline_->set(head_begun_ ? options().header_deadline : options().idle_deadline,
                 [weak = weak_from_this()] {
                   if (const auto self = weak.lock()) self->head_expired();
                 });
}

void ProxyConnection::head_expired() {
  buffer_.empty() ? close() : refuse(408, "the request head did not come in time");
}

/// Fills request_. Refuses what must not go on; false without a refusal when it was answered here.
bool ProxyConnection::begin_request(const http::Head& head) {
  const auto target = read_target(head.target);
  if (head.method == "CONNECT") return refuse(405, "CONNECT is not served here"), false;
  if (!target) return refuse(400, "the target is malformed"), false;
  const std::string host_field = target->authority.empty() ? std::string(head.host) : target->authority;
  const std::string host = host_name(host_field);

  request_ = {};
  request_.method = head.method;
  request_.framing = head.framing;
  request_.minor_version = head.minor_version;
  request_.keep_alive = head.keep_alive && !draining_ && !worker_->shared().draining;
  request_.upgrade = head.upgrade && head.framing == http::Framing::none;
  request_.idempotent = is_idempotent(head.method);
  request_.published = worker_->shared().published.load();
  request_body_ = http::BodyDecoder(head.framing, head.content_length);
  request_sent_ = request_body_.done();
  response_begun_ = false;
  lingered_bytes_ = 0;

  const RouteTable& table = *request_.published->table;
  if (!table.synced()) return refuse(503, "the routes are not known yet"), false;
  if (tls_ && !server_name_.empty() && table.certificate(host) != table.certificate(server_name_)) {
    return refuse(421, "this host is not served on this connection"), false;
  }
  request_.route = table.match(host, target->path);
  if (request_.route == nullptr) {
    ++worker_->shared().not_routed;
    return refuse(404, "no route matches this host and path"), false;
  }
  choose_backend(head, target->query);
  const std::uint64_t body_bytes_max = request_.route->body_bytes_max;
  if (body_bytes_max != 0 && head.framing == http::Framing::length && head.content_length > body_bytes_max) {
    return refuse(413, "the request body is too large"), false;
  }
  const auto& trusted = worker_->shared().trusted;
  const std::string request_id = worker_->next_request_id();
  const Forwarding forwarding{
      .client_ip = client_ip_,
      .host = host_field,
      .port = local_port_,
      .tls = tls_,
      .trusted = std::find(trusted.begin(), trusted.end(), client_ip_) != trusted.end(),
      .request_id = request_id};
  const std::string text = target->text();
  request_.upstream_head = upstream_head(head, text, forwarding);
  return true;
}

/// The rule's Service, unless somebody steers this route.
void ProxyConnection::choose_backend(const http::Head& head, std::string_view query) {
  request_.backend = request_.route->backend;
  if (!request_.route->split) return;
  const SplitTarget* chosen = request_.route->split->choose(head, query, worker_->next_random());
  if (chosen == nullptr) return;
  request_.backend = chosen->backend;
  request_.counters = chosen->counters;
  if (request_.counters) ++request_.counters->requests;
}

// --- answers of our own ---

/// An answer before the request went anywhere. A request without a body keeps its connection.
void ProxyConnection::refuse(int status, const std::string& why) {
  const bool reusable = status != 400 && status != 408 && status != 431 && status != 414 && status != 505 &&
                        status != 421 && status != 413 && request_sent_ && request_.keep_alive &&
                        scanner_.bytes() > 0;
  if (reusable) {
    buffer_.consume(scanner_.bytes());
    scanner_.reset();
  } else {
    request_.keep_alive = false;
  }
  state_ = State::exchanging;
  request_sent_ = true;
  answer_error(status, why);
}

void ProxyConnection::answer_error(int status, const std::string& why) {
  if (request_.counters) request_.counters->answered(status);
  deadline_->set(options().stream_idle_deadline, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->close();
  });
  const std::string body = request_.method == "HEAD" ? "" : std::to_string(status) + " " + why + "\n";
  to_client_ = "HTTP/1.1 " + std::to_string(status) + " " + std::string(http::reason_phrase(status)) +
               "\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
  if (!request_.keep_alive) to_client_ += "Connection: close\r\n";
  if (status == 503) to_client_ += "Retry-After: 1\r\n";
  to_client_ += "\r\n" + body;
  client_busy_ = true;
  wire_->write({http::asio::buffer(to_client_)},
               [self = shared_from_this()](http::ErrorCode failed, std::size_t) {
                 self->client_busy_ = false;
                 if (failed || self->state_ == State::closed) return self->close();
                 self->end_exchange();
               });
}

// --- ending ---

/// The answer is out: the next request, or the end of the connection.
void ProxyConnection::end_exchange() {
  if (state_ == State::closed) return;
  if (!request_.keep_alive || !request_sent_ || draining_ || worker_->shared().draining) return linger();
  request_.published.reset();
  request_.route = nullptr;
  state_ = State::head;
  advance();
}

/// What the client still sends is read for a moment, so that the answer is not lost in a reset.
void ProxyConnection::linger() {
  state_ = State::lingering;
  deadline_->set(kLingerDeadline, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->close();
  });
  wire_->shutdown_write();
  advance();
}

void ProxyConnection::advance_lingering() {
  lingered_bytes_ += buffer_.size();
  buffer_.consume(buffer_.size());
  if (ended_ || lingered_bytes_ > kLingerBytesMax) return close();
  read_client();
}

void ProxyConnection::drain() {
  draining_ = true;
  if (state_ == State::head && buffer_.empty() && !first_) close();
}

void ProxyConnection::close() {
  if (state_ == State::closed) return;
  const auto self = shared_from_this();
  state_ = State::closed;
  ++attempt_;
  deadline_->clear();
  wire_->close();
  if (upstream_) upstream_->wire->close();
  worker_->shared().on_end(this);
}

void ProxyConnection::set_deadline(Duration delay, int status, const char* why) {
  deadline_->set(delay, [weak = weak_from_this(), status, why] {
    if (const auto self = weak.lock()) self->expired(status, why);
  });
}

void ProxyConnection::expired(int status, const char* why) {
  if (response_begun_ || status == 0) return close();
  fail_upstream(status, why);
}

}  // namespace orchestra::ingress
