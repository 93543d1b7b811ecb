// The upstream half of a proxy connection: choosing, connecting, sending, receiving, trying again.
#include <boost/asio/error.hpp>

#include "net/ingress/forwarding.hpp"
#include "net/ingress/proxy_connection.hpp"
#include "orchestra/request_hold.hpp"

namespace orchestra::ingress {
namespace {

constexpr std::size_t kReadBytes = 16 << 10;
constexpr int kLossesMax = 2;  // connections that ended without an answer, per request

std::string chunk_size(std::size_t bytes) {
  char text[24];
  const int size = std::snprintf(text, sizeof text, "%zx\r\n", bytes);
  return {text, static_cast<std::size_t>(size)};
}

}  // namespace

// --- choosing and connecting ---

void ProxyConnection::choose_upstream() {
  const Backend& backend = *request_.backend;
  if (backend.endpoints.empty()) return hold_request();
  Balancer& balancer = worker_->balancer();
  std::vector<std::string> passed_over = request_.tried;
  if (!request_.avoid.empty()) passed_over.push_back(request_.avoid);
  const Endpoint* endpoint = balancer.choose(backend, passed_over, worker_->now_ns());
  if (endpoint == nullptr && !request_.avoid.empty()) {
    endpoint = balancer.choose(backend, request_.tried, worker_->now_ns());
  }
  if (endpoint == nullptr) return fail_upstream(502, "no endpoint of the service accepts connections");
  ++attempt_;
  upstream_ended_ = upstream_busy_ = reading_upstream_ = false;
  response_bytes_ = 0;
  response_scanner_.reset();
  if (request_.losses == 0) upstream_ = worker_->take(endpoint->name);
  upstream_ ? send_request() : connect(*endpoint);
}

/// A Service that is scaled to zero on purpose gets its requests when its first endpoint is ready.
void ProxyConnection::hold_request() {
  RequestHold* const hold = options().hold.get();
  const bool may_wait =
      hold != nullptr && !worker_->shared().draining && hold->holds(request_.backend->service);
  if (!may_wait) return fail_upstream(503, "no endpoint of the service is ready");
  ++attempt_;
  const auto kept = worker_->hold(*request_.backend, [weak = weak_from_this(), attempt = attempt_] {
    const auto self = weak.lock();
    if (self && self->attempt_ == attempt) self->resume_request();
  });
  if (!kept) return fail_upstream(503, kept.error().message());
  if (!std::exchange(request_.held, true))
    set_deadline(options().hold_deadline, 503, "no endpoint of the service became ready in time");
  advance();  // notices a client that goes away meanwhile
}

/// The table changed: the same Service port in it, or none any more.
void ProxyConnection::resume_request() {
  const auto published = worker_->shared().published.load();
  const auto backend = published->table->backend(request_.backend->service, request_.backend->port);
  if (backend == nullptr) return fail_upstream(503, "the route went while the request waited");
  request_.backend = backend;
  choose_upstream();
}

void ProxyConnection::connect(const Endpoint& endpoint) {
  state_ = State::connecting;
  set_deadline(options().connect_deadline, 504, "the service did not accept the connection in time");
  http::connect_socket(strand(), endpoint.address,
                       [self = shared_from_this(), name = endpoint.name, attempt = attempt_](
                           http::ErrorCode failed, Fd socket) {
                         if (self->attempt_ == attempt) self->on_connected(name, failed, std::move(socket));
                       });
  advance();  // notices a client that goes away meanwhile
}

void ProxyConnection::on_connected(const std::string& endpoint, http::ErrorCode failed, Fd socket) {
  if (failed) {
    worker_->balancer().connect_failed(*request_.backend, endpoint, worker_->now_ns());
    if (request_.counters) ++request_.counters->connect_failures;
    request_.tried.push_back(endpoint);
    ++worker_->shared().retries;
    return choose_upstream();
  }
  upstream_ = std::make_unique<UpstreamConnection>();
  const auto peer = http::peer_address(socket.get());
  upstream_->wire = http::make_plain_wire(strand(), std::move(socket), peer ? peer->family() : AF_INET);
  upstream_->endpoint = endpoint;
  send_request();
}

// --- sending ---

void ProxyConnection::send_request() {
  state_ = State::exchanging;
  set_deadline(options().response_deadline, 504, "the service did not answer in time");
  upstream_busy_ = true;
  upstream_->wire->write(
      {http::asio::buffer(request_.upstream_head)},
      [self = shared_from_this(), attempt = attempt_](http::ErrorCode failed, std::size_t) {
        if (self->attempt_ != attempt) return;
        self->upstream_busy_ = false;
        // A failed write is judged by the read: the server may have answered first.
        if (!failed) self->advance();
      });
  read_upstream();
}

/// Takes one run of body bytes out of the client's buffer and writes it on; called again when it is out.
void ProxyConnection::pump_request() {
  if (upstream_busy_ || request_sent_) return;
  const http::BodyDecoder::Step step = request_body_.decode(buffer_.view());
  if (step.error != nullptr) {
    request_.keep_alive = false;
    return response_begun_ ? close() : fail_upstream(400, step.error);
  }
  request_.body_bytes += step.data.size();
  const std::uint64_t body_bytes_max = request_.route->body_bytes_max;
  if (body_bytes_max != 0 && request_.body_bytes > body_bytes_max) {
    request_.keep_alive = false;
    return response_begun_ ? close() : fail_upstream(413, "the request body is too large");
  }
  if (step.data.empty() && !step.done) {
    buffer_.consume(step.consumed);
    if (ended_) return close();
    set_deadline(options().stream_idle_deadline, 408, "the request body did not come in time");
    return read_client();
  }
  request_.body_taken = true;
  const bool chunked = request_.framing == http::Framing::chunked;
  std::vector<http::asio::const_buffer> buffers;
  to_upstream_ = chunked && !step.data.empty() ? chunk_size(step.data.size()) : "";
  buffers.push_back(http::asio::buffer(to_upstream_));
  buffers.push_back(http::asio::buffer(step.data.data(), step.data.size()));
  static constexpr std::string_view kLineEnd = "\r\n", kLastChunk = "0\r\n\r\n";
  if (chunked && !step.data.empty()) buffers.push_back(http::asio::buffer(kLineEnd.data(), kLineEnd.size()));
  if (chunked && step.done) buffers.push_back(http::asio::buffer(kLastChunk.data(), kLastChunk.size()));
  upstream_busy_ = true;
  set_deadline(options().stream_idle_deadline, 504, "the service did not take the request body in time");
  upstream_->wire->write(
      std::move(buffers), [self = shared_from_this(), attempt = attempt_, consumed = step.consumed,
                           done = step.done](http::ErrorCode failed, std::size_t) {
        if (self->attempt_ != attempt) return;
        self->upstream_busy_ = false;
        self->buffer_.consume(consumed);
        if (failed) return;  // the read decides
        self->request_sent_ = done;
        if (done) {
          self->set_deadline(self->options().response_deadline, 504, "the service did not answer in time");
        }
        self->advance();
      });
}

// --- receiving ---

void ProxyConnection::read_upstream() {
  if (reading_upstream_ || upstream_ended_) return;
  reading_upstream_ = true;
  char* room = upstream_->buffer.prepare(kReadBytes);
  upstream_->wire->read_some(
      room, upstream_->buffer.room(),
      [self = shared_from_this(), attempt = attempt_](http::ErrorCode failed, std::size_t bytes) {
        if (self->attempt_ == attempt) self->on_upstream_bytes(failed, bytes);
      });
}

void ProxyConnection::on_upstream_bytes(http::ErrorCode failed, std::size_t bytes) {
  reading_upstream_ = false;
  upstream_->buffer.commit(bytes);
  response_bytes_ += bytes;
  if (state_ == State::tunnel) {
    upstream_ended_ |= static_cast<bool>(failed);
    return tunnel_to_client();
  }
  if (failed) return on_upstream_lost(failed);
  response_begun_ ? pump_response({}) : static_cast<void>(take_response_head());
}

/// The upstream connection ended. That may be the proper end of the answer, a stale connection that nobody
/// is to blame for, or a failure.
void ProxyConnection::on_upstream_lost(http::ErrorCode failed) {
  upstream_ended_ = true;
  if (response_begun_) {
    const bool proper = failed == http::asio::error::eof && response_body_.end_of_stream();
    if (!proper) return close();  // in mid-body only the cut says that it is not whole
    return finish_response();
  }
  // Nothing came back: a stale idle connection, or a server that stopped with our connection in its queue
  // (both happen whenever pods are replaced). What can do no harm twice goes to another endpoint, or on a
  // fresh connection to the same one.
  const bool harmless =
      !request_.body_taken && (request_.idempotent || request_.framing != http::Framing::none);
  const bool again = response_bytes_ == 0 && harmless && request_.losses < kLossesMax;
  request_.avoid = upstream_->endpoint;
  upstream_->wire->close();
  upstream_.reset();
  if (again) {
    ++request_.losses;
    ++worker_->shared().retries;
    return choose_upstream();
  }
  fail_upstream(502, "the service closed the connection without an answer");
}

/// False when more bytes are needed, or the exchange went elsewhere.
bool ProxyConnection::take_response_head() {
  http::ReadBuffer& buffer = upstream_->buffer;
  constexpr http::HeadLimits limits{.lf_alone = true};
  http::HeadResult result = response_scanner_.scan(buffer.view(), limits);
  if (result.state == http::HeadState::incomplete) {
    read_upstream();
    return false;
  }
  http::Head head;
  if (result.state == http::HeadState::complete) {
    const std::string_view text = buffer.view().substr(0, response_scanner_.bytes());
    result = http::parse_response_head(text, limits, request_.method, head);
  }
  if (result.state == http::HeadState::bad || (head.status == 101 && !request_.upgrade)) {
    fail_upstream(502, "the service gave a malformed answer");
    return false;
  }
  response_scanner_.reset();
  const Backend& backend = *request_.backend;
  const Delivery delivery = client_head(head, request_.minor_version, request_.keep_alive && request_sent_,
                                        request_.method == "HEAD");
  if (head.status == 101) {
    buffer.consume(head.bytes);
    begin_tunnel(delivery.head);
    return false;
  }
  if (head.status < 200) {
    buffer.consume(head.bytes);
    to_client_ = request_.minor_version == 0 ? "" : delivery.head;
    client_busy_ = true;
    wire_->write({http::asio::buffer(to_client_)},
                 [self = shared_from_this(), attempt = attempt_](http::ErrorCode write_failed, std::size_t) {
                   if (self->attempt_ != attempt) return;
                   self->client_busy_ = false;
                   write_failed ? self->close() : static_cast<void>(self->take_response_head());
                 });
    return false;
  }
  worker_->balancer().answered(backend, upstream_->endpoint, head.status, worker_->now_ns());
  if (request_.counters) request_.counters->answered(head.status);
  response_body_ = http::BodyDecoder(head.framing, head.content_length);
  delivered_framing_ = delivery.framing;
  request_.keep_alive = delivery.keep_alive;
  upstream_reusable_ = head.keep_alive;
  response_begun_ = true;
  buffer.consume(head.bytes);
  deadline_->set(options().stream_idle_deadline, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->close();
  });
  pump_response(delivery.head);
  return true;
}

/// Writes what is there of the answer to the client (first behind `head_text`), then reads on.
void ProxyConnection::pump_response(std::string head_text) {
  if (client_busy_) return;
  const http::BodyDecoder::Step step = response_body_.decode(upstream_->buffer.view());
  if (step.error != nullptr) return close();
  to_client_ = std::move(head_text);
  if (step.data.empty() && !step.done && to_client_.empty()) {
    upstream_->buffer.consume(step.consumed);
    return read_upstream();
  }
  const bool chunked = delivered_framing_ == http::Framing::chunked;
  if (chunked && !step.data.empty()) to_client_ += chunk_size(step.data.size());
  static constexpr std::string_view kLineEnd = "\r\n", kLastChunk = "0\r\n\r\n";
  std::vector<http::asio::const_buffer> buffers{http::asio::buffer(to_client_)};
  if (!step.data.empty()) buffers.push_back(http::asio::buffer(step.data.data(), step.data.size()));
  if (chunked && !step.data.empty()) buffers.push_back(http::asio::buffer(kLineEnd.data(), kLineEnd.size()));
  if (chunked && step.done) buffers.push_back(http::asio::buffer(kLastChunk.data(), kLastChunk.size()));
  client_busy_ = true;
  wire_->write(std::move(buffers), [self = shared_from_this(), attempt = attempt_, consumed = step.consumed,
                                    done = step.done](http::ErrorCode failed, std::size_t) {
    if (self->attempt_ != attempt) return;
    self->client_busy_ = false;
    if (failed) return self->close();
    self->upstream_->buffer.consume(consumed);
    self->deadline_->extend(self->options().stream_idle_deadline);
    if (done) return self->finish_response();
    self->upstream_->buffer.empty() ? self->read_upstream() : self->pump_response({});
  });
}

void ProxyConnection::finish_response() {
  if (delivered_framing_ == http::Framing::chunked && !response_body_.done()) {
    // The server ended the answer by closing; the client learns it by the last chunk.
    response_body_ = http::BodyDecoder();
    to_client_ = "0\r\n\r\n";
    client_busy_ = true;
    wire_->write({http::asio::buffer(to_client_)},
                 [self = shared_from_this(), attempt = attempt_](http::ErrorCode failed, std::size_t) {
                   if (self->attempt_ != attempt) return;
                   self->client_busy_ = false;
                   failed ? self->close() : self->finish_response();
                 });
    return;
  }
  ++attempt_;
  const bool reusable =
      upstream_reusable_ && !upstream_ended_ && request_sent_ && !upstream_busy_ && upstream_->buffer.empty();
  if (reusable) {
    worker_->give(std::move(upstream_));
  } else {
    upstream_->wire->close();
    upstream_.reset();
  }
  upstream_busy_ = false;
  end_exchange();
}

/// The answer is ours: 502, 503, 504, or an error of the client found on the way.
void ProxyConnection::fail_upstream(int status, const std::string& why) {
  ++attempt_;
  if (upstream_) upstream_->wire->close();
  upstream_.reset();
  if (status >= 500) ++worker_->shared().upstream_failures;
  if (state_ == State::closed) return;
  state_ = State::exchanging;
  // Bytes of an unsent body are still to come: the connection cannot be used again.
  if (!request_sent_ || upstream_busy_) request_.keep_alive = false;
  request_sent_ = true;
  upstream_busy_ = false;
  response_begun_ = true;
  answer_error(status, why);
}

}  // namespace orchestra::ingress
