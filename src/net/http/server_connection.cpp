#include "net/http/server_connection.hpp"

#include <array>
#include <boost/asio/error.hpp>

#include "orchestra/env.hpp"

namespace orchestra::http {
namespace {

constexpr std::size_t kReadBytes = 16 << 10;
constexpr std::size_t kReadAheadBytesMax = 64 << 10;  // while a request is handled; then reading stops
constexpr std::size_t kLingerBytesMax = 256 << 10;
constexpr auto kLingerDeadline = std::chrono::seconds(2);

// A handler's header must not break out of its line.
void append_field(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  out += ": ";
  for (const char c : value) {
    if (c != '\r' && c != '\n' && c != '\0') out += c;
  }
  out += "\r\n";
}

}  // namespace

ServerConnection::ServerConnection(std::shared_ptr<ServerShared> shared, std::shared_ptr<Wire> wire,
                                   std::string peer_address)
    : shared_(std::move(shared)),
      wire_(std::move(wire)),
      deadline_(std::make_shared<Deadline>(shared_->engine, wire_->strand())) {
  peer_.address = std::move(peer_address);
}

void ServerConnection::start() {
  const auto weak = weak_from_this();
  deadline_->set(shared_->options.header_deadline, [weak] {
    if (const auto self = weak.lock()) self->head_expired();
  });
  wire_->handshake([self = shared_from_this()](ErrorCode failed) {
    if (failed || self->state_ == State::closed) return self->close();
    TlsPeer who = self->wire_->tls_peer();
    self->peer_.common_name = std::move(who.common_name);
    self->peer_.organizations = std::move(who.organizations);
    if (self->wire_->tls_protocol() == "h2") return self->hand_over();
    self->advance();
  });
}

/// The client chose HTTP/2: the wire goes on with another session, this one ends without touching it.
void ServerConnection::hand_over() {
  state_ = State::closed;
  deadline_->clear();
  shared_->on_http2(this, wire_, std::move(peer_), draining_);
}

// --- reading ---

void ServerConnection::read_more() {
  if (reading_ || ended_ || state_ == State::closed) return;
  reading_ = true;
  char* room = buffer_.prepare(state_ == State::head && buffer_.empty() ? kReadBytes / 4 : kReadBytes);
  wire_->read_some(room, buffer_.room(), [self = shared_from_this()](ErrorCode failed, std::size_t bytes) {
    self->on_read(failed, bytes);
  });
}

void ServerConnection::on_read(ErrorCode failed, std::size_t bytes) {
  reading_ = false;
  buffer_.commit(bytes);
  if (failed) ended_ = true;
  advance();
}

void ServerConnection::advance() {
  while (true) {
    switch (state_) {
      case State::head:
        if (!advance_head()) return;
        break;
      case State::body:
        if (!advance_body()) return;
        break;
      case State::handling:
        if (ended_) return peer_gone();
        if (buffer_.size() < kReadAheadBytesMax) read_more();
        return;
      case State::upgraded:
        return advance_upgraded();
      case State::lingering:
        return advance_lingering();
      case State::closed:
        return;
    }
  }
}

bool ServerConnection::advance_head() {
  const HttpServerOptions& options = shared_->options;
  const HeadLimits limits{.target_bytes_max = options.header_bytes_max,
                          .head_bytes_max = options.header_bytes_max};
  HeadResult result = scanner_.scan(buffer_.view(), limits);
  if (result.state == HeadState::incomplete) {
    if (ended_ || (draining_ && buffer_.empty())) {
      close();
      return false;
    }
    await_head();
    read_more();
    return false;
  }
  Head head;
  if (result.state == HeadState::complete) {
    result = parse_request_head(buffer_.view().substr(0, scanner_.bytes()), limits, head);
  }
  if (result.state == HeadState::bad) {
    refuse(result.status, result.why);
    return false;
  }
  return take_head(head);
}

bool ServerConnection::take_head(const Head& head) {
  const HttpServerOptions& options = shared_->options;
  head_begun_ = false;
  request_.method = head.method;
  request_.target = head.target;
  for (const Field& field : head.fields) {
    std::string& value = request_.headers[lower_case(field.name)];
    if (!value.empty()) value += ", ";
    value += field.value;
  }
  keep_alive_ = head.keep_alive;
  minor_version_ = head.minor_version;
  head_request_ = head.method == "HEAD";
  answered_ = streaming_ = false;
  if (head.framing == Framing::length && head.content_length > options.body_bytes_max) {
    refuse(413, "the request body is too large");
    return false;
  }
  body_ = BodyDecoder(head.framing, head.content_length);
  const bool wants_continue = head.expect_continue && head.minor_version == 1 && !body_.done();
  buffer_.consume(head.bytes);
  scanner_.reset();
  state_ = State::body;
  if (!body_.done()) {
    deadline_->set(options.body_deadline, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->refuse(408, "the request body did not come in time");
    });
  }
  if (wants_continue && buffer_.empty()) enqueue({text("HTTP/1.1 100 Continue\r\n\r\n")}, nullptr);
  return true;
}

/// Deadlines while a head is incomplete. The one for the head is absolute: a byte now and then does not
/// prolong it. For the first head start() has set it.
void ServerConnection::await_head() {
  buffer_.release();
  if (turn_ == 0 || (head_begun_ && !buffer_.empty())) return;
  head_begun_ = !buffer_.empty();
  deadline_->set(head_begun_ ? shared_->options.header_deadline : shared_->options.idle_deadline,
                 [weak = weak_from_this()] {
                   if (const auto self = weak.lock()) self->head_expired();
                 });
}

void ServerConnection::head_expired() {
  buffer_.empty() ? close() : refuse(408, "the request head did not come in time");
}

bool ServerConnection::advance_body() {
  while (!body_.done()) {
    const BodyDecoder::Step step = body_.decode(buffer_.view());
    if (step.error != nullptr) {
      refuse(400, step.error);
      return false;
    }
    if (request_.body.size() + step.data.size() > shared_->options.body_bytes_max) {
      refuse(413, "the request body is too large");
      return false;
    }
    request_.body += step.data;
    buffer_.consume(step.consumed);
    if (step.done || (step.consumed > 0 && !buffer_.empty())) continue;
    if (ended_) {
      close();
    } else {
      read_more();
    }
    return false;
  }
  dispatch();
  return true;
}

void ServerConnection::dispatch() {
  state_ = State::handling;
  deadline_->clear();
  ++turn_;
  request_.peer = peer_;
  HttpServerRequest request = std::move(request_);
  request_ = {};
  shared_->handler(std::move(request), make_responder(shared_from_this(), turn_));
}

/// Answers an error of the client and closes; what it still sends is read for a moment, so that the
/// answer is not lost in a reset.
void ServerConnection::refuse(int status, const char* why) {
  deadline_->clear();
  keep_alive_ = false;
  state_ = State::lingering;
  const std::string body = std::string(why) + "\n";
  enqueue({text(head_text(status, {{"Content-Type", "text/plain"}}, body.size()) + body)},
          [self = shared_from_this()](ErrorCode failed) { failed ? self->close() : self->linger(); });
}

void ServerConnection::linger() {
  if (state_ == State::closed) return;
  state_ = State::lingering;
  deadline_->set(kLingerDeadline, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->close();
  });
  wire_->shutdown_write();
  advance();
}

void ServerConnection::advance_lingering() {
  lingered_bytes_ += buffer_.size();
  buffer_.consume(buffer_.size());
  if (ended_ && !writing_) return close();
  if (lingered_bytes_ > kLingerBytesMax) {
    if (!writing_) close();
    return;
  }
  read_more();
}

// --- answering ---

std::string ServerConnection::head_text(int status, const Headers& headers,
                                        std::optional<std::uint64_t> length) const {
  std::string out;
  out.reserve(256);
  out += "HTTP/1.1 ";
  out += std::to_string(status);
  out += ' ';
  out += reason_phrase(status);
  out += "\r\n";
  for (const auto& [name, value] : headers) {
    if (!equal_ignoring_case(name, "content-length")) append_field(out, name, value);
  }
  if (status == 101) return out + "\r\n";
  append_field(out, "Date", http_date(shared_->engine.clock()));
  const bool bodyless = status < 200 || status == 204 || status == 304;
  if (length && !bodyless) append_field(out, "Content-Length", std::to_string(*length));
  if (!length && !bodyless && chunked_) append_field(out, "Transfer-Encoding", "chunked");
  if (!keep_alive_) append_field(out, "Connection", "close");
  if (keep_alive_ && minor_version_ == 0) append_field(out, "Connection", "keep-alive");
  return out + "\r\n";
}

void ServerConnection::respond(Turn turn, int status, const Headers& headers, Parts parts) {
  if (turn != turn_ || state_ != State::handling || answered_) return;
  answered_ = true;
  if (draining_ || ended_) keep_alive_ = false;
  std::uint64_t length = 0;
  for (const auto& part : parts) length += part->size();
  if (head_request_) length = told_length(headers).value_or(length);
  if (head_request_ || status == 204 || status == 304) parts.clear();
  parts.insert(parts.begin(), text(head_text(status, headers, length)));
  enqueue(std::move(parts),
          [self = shared_from_this()](ErrorCode failed) { failed ? self->close() : self->end_of_answer(); });
}

void ServerConnection::begin_stream(Turn turn, int status, const Headers& headers) {
  if (turn != turn_ || state_ != State::handling || answered_) return;
  answered_ = streaming_ = true;
  chunked_ = minor_version_ == 1;
  if (!chunked_ || draining_) keep_alive_ = false;
  enqueue({text(head_text(status, headers, std::nullopt))}, [self = shared_from_this()](ErrorCode failed) {
    if (failed) self->peer_gone();
  });
  if (status == 204 || status == 304) head_request_ = true;  // no body may follow
}

void ServerConnection::write_chunk(Turn turn, std::string bytes, Promise<void> written) {
  if (turn != turn_ || state_ != State::handling || !streaming_ || ended_) return written.set(gone());
  if (bytes.empty() || head_request_) return written.set(Result<void>());
  if (writes_.size() >= kWritesMax) {
    return written.set(
        Error(Error::overloaded, "http", "64 writes are outstanding; wait for write() to complete"));
  }
  Parts parts;
  if (chunked_) {
    char size[24];
    std::snprintf(size, sizeof size, "%zx\r\n", bytes.size());
    parts.push_back(text(size));
  }
  parts.push_back(text(std::move(bytes)));
  if (chunked_) parts.push_back(text("\r\n"));
  enqueue_chunk(std::move(parts), std::move(written));
}

void ServerConnection::enqueue_chunk(Parts parts, Promise<void> written) {
  enqueue(std::move(parts), [self = shared_from_this(), written = std::move(written)](ErrorCode failed) {
    if (failed) self->peer_gone();
    written.set(failed ? Result<void>(gone()) : Result<void>());
  });
}

/// Past the queue, where nothing is in it: without a part, a promise or a completion of its own. What the
/// kernel does not take of the chunk goes the usual way, and so do errors.
std::optional<Pending<void>> ServerConnection::write_chunk_now(
    Turn turn, const std::shared_ptr<const std::string>& bytes) {
  const bool streams = turn == turn_ && state_ == State::handling && streaming_ && !ended_ && !head_request_;
  if (!streams || !chunked_ || writing_ || !writes_.empty() || bytes->empty())
    return ServerSession::write_chunk_now(turn, bytes);
  char size[24];
  const int digits = std::snprintf(size, sizeof size, "%zx\r\n", bytes->size());
  const std::array<asio::const_buffer, 3> buffers{asio::buffer(size, static_cast<std::size_t>(digits)),
                                                  asio::buffer(*bytes), asio::buffer("\r\n", 2)};
  const std::size_t taken = wire_->write_now(buffers);
  if (taken == asio::buffer_size(buffers)) return std::nullopt;
  std::string rest(size, static_cast<std::size_t>(digits));
  rest.append(*bytes).append("\r\n").erase(0, taken);
  Promise<void> written;
  enqueue_chunk({text(std::move(rest))}, written);
  return written.pending();
}

void ServerConnection::finish_stream(Turn turn) {
  if (turn != turn_ || state_ != State::handling || !streaming_) return;
  streaming_ = false;
  const bool last_chunk = chunked_ && !head_request_;
  enqueue({text(last_chunk ? "0\r\n\r\n" : "")},
          [self = shared_from_this()](ErrorCode failed) { failed ? self->close() : self->end_of_answer(); });
}

void ServerConnection::abort_stream(Turn turn) {
  if (turn == turn_ && state_ == State::handling && streaming_) close();
}

void ServerConnection::end_of_answer() {
  if (state_ != State::handling) return;
  on_closed_.clear();
  if (!keep_alive_ || draining_) return linger();
  state_ = State::head;
  ++turn_;  // late words of the old responder mean nothing now
  advance();
}

void ServerConnection::begin_upgrade(Turn turn, const Headers& headers) {
  if (turn != turn_ || state_ != State::handling || answered_) return;
  answered_ = true;
  state_ = State::upgraded;
  enqueue({text(head_text(101, headers, std::nullopt))}, [self = shared_from_this()](ErrorCode failed) {
    if (failed) self->close();
  });
  advance();
}

// --- upgraded ---

void ServerConnection::upgraded_read(Turn, std::size_t bytes_max, Promise<std::string> reader) {
  if (state_ != State::upgraded) return reader.set(gone());
  if (reader_)
    return reader.set(Error(Error::busy, "http", "one read of this stream is outstanding already"));
  reader_ = std::move(reader);
  reader_bytes_max_ = std::max<std::size_t>(1, bytes_max);
  advance();
}

void ServerConnection::advance_upgraded() {
  if (reader_ && reader_->cancelled()) reader_.reset();
  if (reader_ && !buffer_.empty()) {
    std::string bytes(buffer_.view().substr(0, reader_bytes_max_));
    buffer_.consume(bytes.size());
    const Promise<std::string> reader = *std::exchange(reader_, std::nullopt);
    reader.set(std::move(bytes));
  } else if (reader_ && ended_) {
    const Promise<std::string> reader = *std::exchange(reader_, std::nullopt);
    reader.set(std::string());
  }
  if (ended_) call_on_closed();
  if (buffer_.size() < kReadAheadBytesMax) read_more();
}

void ServerConnection::upgraded_write(Turn, std::string bytes, Promise<void> written) {
  if (state_ != State::upgraded) return written.set(gone());
  if (writes_.size() >= kWritesMax) {
    return written.set(
        Error(Error::overloaded, "http", "64 writes are outstanding; wait for write() to complete"));
  }
  enqueue({text(std::move(bytes))}, [self = shared_from_this(), written](ErrorCode failed) {
    written.set(failed ? Result<void>(gone()) : Result<void>());
  });
}

void ServerConnection::upgraded_close_write(Turn) {
  if (state_ != State::upgraded) return;
  enqueue({}, [self = shared_from_this()](ErrorCode failed) {
    if (!failed) self->wire_->shutdown_write();
  });
}

// --- writing ---

void ServerConnection::enqueue(Parts parts, std::function<void(ErrorCode)> done) {
  if (state_ == State::closed) {
    if (done) done(asio::error::operation_aborted);
    return;
  }
  writes_.push_back({std::move(parts), std::move(done)});
  if (!writing_) write_next();
}

// Everything that is queued goes out in one gathered write.
void ServerConnection::write_next() {
  auto batch = std::make_shared<std::vector<Write>>();
  std::vector<asio::const_buffer> buffers;
  while (!writes_.empty()) {
    for (const auto& part : writes_.front().parts) buffers.emplace_back(part->data(), part->size());
    const bool barrier = writes_.front().parts.empty();
    batch->push_back(std::move(writes_.front()));
    writes_.pop_front();
    if (barrier) break;
  }
  writing_ = true;
  wire_->write(std::move(buffers), [self = shared_from_this(), batch](ErrorCode failed, std::size_t) {
    self->writing_ = false;
    for (Write& write : *batch) {
      if (write.done) write.done(failed);
    }
    if (failed) return self->close();
    if (!self->writing_ && !self->writes_.empty()) self->write_next();
  });
}

// --- ending ---

/// The client closed while its request was being handled. A plain answer is still tried (it may have
/// closed its sending side only); a stream ends.
void ServerConnection::peer_gone() {
  ended_ = true;
  keep_alive_ = false;
  call_on_closed();
  if (streaming_) close();
}

void ServerConnection::add_on_closed(Turn turn, std::function<void()> call) {
  const bool alive = turn == turn_ && state_ != State::closed;
  if (!alive || ended_) {
    if (turn == turn_) call();
    return;
  }
  on_closed_.push_back(std::move(call));
}

void ServerConnection::call_on_closed() {
  for (auto& call : std::exchange(on_closed_, {})) call();
}

void ServerConnection::drain() {
  draining_ = true;
  if (state_ == State::head && buffer_.empty()) close();
}

void ServerConnection::abort() { close(); }
void ServerConnection::upgraded_close(Turn) { close(); }

void ServerConnection::close() {
  if (state_ == State::closed) return;
  const auto self = shared_from_this();
  state_ = State::closed;
  ended_ = true;
  deadline_->clear();
  wire_->close();
  call_on_closed();
  if (reader_) std::exchange(reader_, std::nullopt)->set(gone());
  for (Write& write : std::exchange(writes_, {})) {
    if (write.done) write.done(asio::error::operation_aborted);
  }
  shared_->on_end(this);
}

}  // namespace orchestra::http
