#include "net/http/client_attempt.hpp"

#include <fcntl.h>
#include <netdb.h>

#include <boost/asio/dispatch.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>

#include "base/engine_impl.hpp"

namespace orchestra::http {
namespace {

constexpr std::size_t kReadBytes = 64 << 10;
constexpr std::size_t kPieceBytes = 256 << 10;  // of a body per write, so that progress is seen
constexpr HeadLimits kLimits{.lf_alone = true};

std::string lower_case(std::string_view name) {
  std::string out(name);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

Result<std::vector<SocketAddress>> look_up(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (failed != 0) {
    return Error(Error::unavailable, "http",
                 "host \"" + host + "\" does not resolve: " + ::gai_strerror(failed));
  }
  std::vector<SocketAddress> addresses;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    SocketAddress address;
    std::memcpy(&address.storage, one->ai_addr, one->ai_addrlen);
    address.size = one->ai_addrlen;
    addresses.push_back(address);
  }
  ::freeaddrinfo(found);
  return addresses;
}

std::string seconds(Duration duration) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g s", std::chrono::duration<double>(duration).count());
  return text;
}

}  // namespace

ClientAttempt::ClientAttempt(Engine& engine, std::shared_ptr<ClientPool> pool,
                             std::shared_ptr<HttpRequest> request, Url url, IsFinal is_final, Done done)
    : engine_(engine),
      pool_(std::move(pool)),
      request_(std::move(request)),
      url_(std::move(url)),
      is_final_(std::move(is_final)),
      done_(std::move(done)),
      strand_(asio::make_strand(event_context(engine))) {}

void ClientAttempt::start(bool fresh_connection, Duration total_left) {
  std::optional<Error> refused;
  if (url_.tls()) {
    if (auto context = pool_->tls_context(request_->tls)) {
      tls_ = *context;
    } else {
      refused = context.error();
    }
  }
  if (auto proxy = request_->connect_address.empty() ? proxy_for(pool_->proxies, url_)
                                                     : Result<std::optional<ForwardProxy>>(std::nullopt)) {
    proxy_ = std::move(*proxy);
  } else {
    refused = proxy.error();
  }
  key_ = pool_->key_of(url_, *request_, tls_);
  if (!fresh_connection && !refused) connection_ = pool_->take(key_);
  if (connection_) strand_ = connection_->wire->strand();
  deadline_ = std::make_shared<Deadline>(engine_, strand_);
  total_ = std::make_shared<Deadline>(engine_, strand_);
  asio::post(strand_, [self = shared_from_this(), total_left, refused] {
    if (refused) return self->fail(*refused);
    self->total_->set(total_left, [weak = self->weak_from_this()] {
      if (const auto attempt = weak.lock())
        attempt->expire("the whole answer", attempt->request_->total_deadline);
    });
    self->connection_ ? self->exchange() : self->resolve();
  });
}

void ClientAttempt::cancel() {
  asio::post(strand_, [self = shared_from_this()] {
    self->fail(Error(Error::cancelled, "http", self->where() + " was cancelled"));
  });
}

// --- connecting ---

void ClientAttempt::resolve() {
  deadline_->set(request_->connect_deadline, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->expire("a connection", self->request_->connect_deadline);
  });
  if (url_.scheme == "unix" || !request_->connect_address.empty()) {
    const std::string target = url_.scheme == "unix" ? "unix:" + url_.host : request_->connect_address;
    auto address = parse_address(target, url_.port);
    if (!address) return fail(address.error());
    addresses_.push_back(*address);
    return connect_next();
  }
  const std::string host = proxy_ ? proxy_->host : url_.host;
  const std::uint16_t port = proxy_ ? proxy_->port : url_.port;
  if (auto literal = make_address(host, port)) {
    addresses_.push_back(*literal);
    return connect_next();
  }
  const auto work = [host, port] { return look_up(host, port); };
  engine_.run_blocking(work).on_ready([self = shared_from_this()](Result<std::vector<SocketAddress>> found) {
    asio::post(self->strand_, [self, found = std::move(found)] {
      if (!found) return self->fail(found.error().with_context(self->where()));
      self->addresses_ = *found;
      self->connect_next();
    });
  });
}

void ClientAttempt::connect_next() {
  if (ended_) return;
  if (next_address_ >= addresses_.size()) {
    return fail(Error(Error::unavailable, "http", where() + ": connect " + last_connect_error_));
  }
  const SocketAddress& address = addresses_[next_address_++];
  connect_socket(strand_, address, [self = shared_from_this(), address](ErrorCode failed, Fd socket) {
    if (self->ended_) return;
    if (!failed && self->proxy_ && self->url_.tls())
      return self->open_tunnel(std::move(socket), address.family());
    if (!failed) return self->handshake(std::move(socket), address.family());
    self->last_connect_error_ = address.text() + ": " + failed.message();
    self->connect_next();
  });
}

/// RFC 9110 section 9.3.6: after a 2xx answer the connection is one to the server.
void ClientAttempt::open_tunnel(Fd socket, int family) {
  Fd copy(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return fail(system_error("http", "dup", "connection to the proxy", errno));
  tunnel_ = make_plain_wire(strand_, std::move(copy), family);
  const std::string name = url_.host.find(':') == std::string::npos ? url_.host : "[" + url_.host + "]";
  const std::string target = name + ":" + std::to_string(url_.port);
  out_ = "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\nUser-Agent: orchestra\r\n";
  if (!proxy_->authorization.empty()) out_ += "Proxy-Authorization: " + proxy_->authorization + "\r\n";
  out_ += "\r\n";
  tunnel_->write({asio::buffer(out_)},
                 [self = shared_from_this(), socket = std::make_shared<Fd>(std::move(socket)), family](
                     ErrorCode failed, std::size_t) {
                   if (self->ended_) return;
                   if (failed) return self->refused_by_proxy("closed the connection: " + failed.message());
                   self->read_tunnel_answer(std::move(*socket), family);
                 });
}

/// Nothing was sent to the server.
void ClientAttempt::refused_by_proxy(const std::string& why) {
  fail(Error(Error::unavailable, "http",
             where() + ": proxy " + proxy_->host + ":" + std::to_string(proxy_->port) + " " + why));
}

void ClientAttempt::read_tunnel_answer(Fd socket, int family) {
  constexpr std::size_t kHeadBytesMax = 16 << 10;
  if (const std::size_t end = tunnel_answer_.find("\r\n\r\n"); end != std::string::npos) {
    const std::string line = tunnel_answer_.substr(0, tunnel_answer_.find("\r\n"));
    const bool good = line.starts_with("HTTP/1.") && line.size() >= 12 && line[9] == '2';
    if (!good) return refused_by_proxy("refused the connection: " + line.substr(0, 200));
    if (end + 4 != tunnel_answer_.size())
      return refused_by_proxy("sent bytes of its own into the connection");
    tunnel_->close();
    tunnel_.reset();
    return handshake(std::move(socket), family);
  }
  const std::size_t before = tunnel_answer_.size();
  if (before >= kHeadBytesMax) return refused_by_proxy("answered with a head of more than 16 KiB");
  tunnel_answer_.resize(kHeadBytesMax);
  tunnel_->read_some(tunnel_answer_.data() + before, kHeadBytesMax - before,
                     [self = shared_from_this(), before, socket = std::make_shared<Fd>(std::move(socket)),
                      family](ErrorCode failed, std::size_t got) {
                       if (self->ended_) return;
                       self->tunnel_answer_.resize(before + got);
                       if (failed)
                         return self->refused_by_proxy("closed the connection: " + failed.message());
                       self->read_tunnel_answer(std::move(*socket), family);
                     });
}

void ClientAttempt::handshake(Fd socket, int family) {
  connection_ = std::make_unique<ClientConnection>();
  connection_->key = key_;
  const std::string& name = request_->tls.server_name.empty() ? url_.host : request_->tls.server_name;
  connection_->wire = tls_ ? make_tls_wire(strand_, std::move(socket), family, tls_, TlsRole::client, name)
                           : make_plain_wire(strand_, std::move(socket), family);
  connection_->wire->handshake([self = shared_from_this(), name](ErrorCode failed) {
    if (self->ended_) return;
    if (!failed) return self->exchange();
    const std::string reason = self->connection_->wire->tls_verify_error();
    if (reason.empty()) {
      return self->fail(
          Error(Error::unavailable, "http", self->where() + ": TLS handshake: " + failed.message()));
    }
    self->fail(Error(Error::unauthenticated, "http",
                     self->where() + ": the certificate of " + name + " is refused: " + reason +
                         "; give the authority that signed it"));
  });
}

// --- sending ---

void ClientAttempt::exchange() {
  if (ended_) return;
  deadline_->set(request_->stall_deadline, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->expire("progress", self->request_->stall_deadline);
  });
  out_ = head_text();
  any_sent_ = true;
  connection_->wire->write({asio::buffer(out_)}, [self = shared_from_this()](ErrorCode failed, std::size_t) {
    if (self->ended_) return;
    // A failed write is judged by the read: the server may have answered before it closed.
    if (!failed) self->send_more();
  });
  receive();
}

std::string ClientAttempt::head_text() const {
  bool has_host = false, has_length = false, has_agent = false;
  for (const auto& [name, value] : request_->headers) {
    has_host |= equal_ignoring_case(name, "host");
    has_length |=
        equal_ignoring_case(name, "content-length") || equal_ignoring_case(name, "transfer-encoding");
    has_agent |= equal_ignoring_case(name, "user-agent");
  }
  const bool by_proxy = proxy_ && !url_.tls();
  std::string out = request_->method + " " + (by_proxy ? url_.text() : url_.target) + " HTTP/1.1\r\n";
  if (by_proxy && !proxy_->authorization.empty())
    out += "Proxy-Authorization: " + proxy_->authorization + "\r\n";
  if (!has_host) out += "Host: " + url_.authority() + "\r\n";
  if (!has_agent) out += "User-Agent: orchestra\r\n";
  for (const auto& [name, value] : request_->headers) out += name + ": " + value + "\r\n";
  const bool has_body = request_->body_source || !request_->body.empty();
  const bool expects_body =
      request_->method == "POST" || request_->method == "PUT" || request_->method == "PATCH";
  if (!has_length && (has_body || expects_body)) {
    const std::uint64_t length =
        request_->body_source ? request_->body_size.value_or(0) : request_->body.size();
    out += "Content-Length: " + std::to_string(length) + "\r\n";
  }
  return out + "\r\n";
}

void ClientAttempt::send_more() {
  asio::const_buffer piece;
  if (request_->body_source) {
    auto next = request_->body_source();
    if (!next) return fail(next.error().with_context(where() + ": the request body"));
    out_ = std::move(*next);
    piece = asio::buffer(out_);
    if (out_.empty() && body_sent_ != request_->body_size.value_or(0)) {
      return fail(Error(Error::invalid, "http",
                        where() + ": the request body ended after " + std::to_string(body_sent_) + " of " +
                            std::to_string(request_->body_size.value_or(0)) + " bytes"));
    }
  } else {
    const std::string_view rest = std::string_view(request_->body).substr(body_sent_, kPieceBytes);
    piece = asio::buffer(rest.data(), rest.size());
  }
  if (piece.size() == 0) return sent_all();
  body_sent_ += piece.size();
  deadline_->extend(request_->stall_deadline);
  connection_->wire->write({piece}, [self = shared_from_this()](ErrorCode failed, std::size_t) {
    if (!self->ended_ && !failed) self->send_more();
  });
}

void ClientAttempt::sent_all() {
  all_sent_ = true;
  if (head_done_) return;
  deadline_->set(request_->header_deadline, [weak = weak_from_this()] {
    if (const auto self = weak.lock())
      self->expire("the head of the answer", self->request_->header_deadline);
  });
}

// --- receiving ---

void ClientAttempt::receive() {
  ReadBuffer& buffer = connection_->buffer;
  char* room = buffer.prepare(head_done_ ? kReadBytes : kReadBytes / 8);
  connection_->wire->read_some(
      room, buffer.room(),
      [self = shared_from_this()](ErrorCode failed, std::size_t bytes) { self->on_read(failed, bytes); });
}

void ClientAttempt::on_read(ErrorCode failed, std::size_t bytes) {
  if (ended_) return;
  bytes_received_ += bytes;
  connection_->buffer.commit(bytes);
  if (bytes > 0 && head_done_) deadline_->extend(request_->stall_deadline);
  if (failed) {
    // The end of the connection ends the body only where nothing else says so, and only cleanly.
    const bool proper = failed == asio::error::eof && head_done_ && body_.end_of_stream();
    keep_alive_ = false;
    return proper ? complete() : fail_io("reading the answer", failed);
  }
  while (!ended_) {
    const bool more = head_done_ ? take_body() : take_head();
    if (!more) return;
  }
}

/// False when it asked for more bytes or ended.
bool ClientAttempt::take_head() {
  ReadBuffer& buffer = connection_->buffer;
  HeadResult result = scanner_.scan(buffer.view(), kLimits);
  if (result.state == HeadState::incomplete) {
    receive();
    return false;
  }
  Head head;
  if (result.state == HeadState::complete) {
    result = parse_response_head(buffer.view().substr(0, scanner_.bytes()), kLimits, request_->method, head);
  }
  const bool upgrades = head.status == 101 && accepts_upgrade_;
  if (result.state == HeadState::bad || (head.status == 101 && !upgrades)) {
    const char* why = result.state == HeadState::bad ? result.why : "the server changes the protocol unasked";
    fail(Error(Error::io, "http", where() + ": malformed answer: " + why));
    return false;
  }
  scanner_.reset();
  if (head.status < 200 && !upgrades) {  // 100 Continue and the like announce the real one
    buffer.consume(head.bytes);
    return true;
  }
  response_.status = head.status;
  response_.url = url_.text();
  for (const Field& field : head.fields) {
    std::string& value = response_.headers[lower_case(field.name)];
    if (!value.empty()) value += ", ";
    value += field.value;
  }
  if (upgrades) {
    buffer.consume(head.bytes);
    hand_over();
    return false;
  }
  keep_alive_ = head.keep_alive;
  body_ = BodyDecoder(head.framing, head.content_length);
  buffer.consume(head.bytes);
  head_done_ = true;
  final_ = is_final_(response_.status, response_.headers);
  deadline_->set(request_->stall_deadline, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->expire("progress", self->request_->stall_deadline);
  });
  if (final_ && request_->on_headers) {
    if (auto accepted = request_->on_headers(response_.status, response_.headers); !accepted) {
      fail(accepted.error());
      return false;
    }
  }
  if (body_.done()) complete();
  return !ended_;
}

bool ClientAttempt::take_body() {
  ReadBuffer& buffer = connection_->buffer;
  const BodyDecoder::Step step = body_.decode(buffer.view());
  if (step.error != nullptr) {
    fail(Error(Error::io, "http", where() + ": malformed answer: " + step.error));
    return false;
  }
  if (!step.data.empty() && !deliver(step.data)) return false;
  buffer.consume(step.consumed);
  if (step.done) {
    complete();
    return false;
  }
  if (step.consumed > 0 && !buffer.empty()) return true;
  receive();
  return false;
}

bool ClientAttempt::deliver(std::string_view data) {
  if (final_ && request_->on_body) {
    auto taken = request_->on_body(data);
    if (!taken) fail(taken.error());
    return !ended_;
  }
  if (response_.body.size() + data.size() > request_->body_bytes_max) {
    fail(Error(
        Error::too_large, "http",
        where() + ": the answer is longer than " + std::to_string(request_->body_bytes_max) + " bytes"));
    return false;
  }
  response_.body += data;
  return true;
}

// --- ending ---

void ClientAttempt::complete() {
  if (std::exchange(ended_, true)) return;
  deadline_->clear();
  total_->clear();
  if (keep_alive_ && all_sent_ && connection_->buffer.empty()) {
    pool_->give(std::move(connection_));
  } else {
    connection_->wire->close();
  }
  std::exchange(done_, nullptr)({.response = std::move(response_), .sent = true});
}

void ClientAttempt::hand_over() {
  if (std::exchange(ended_, true)) return;
  deadline_->clear();
  total_->clear();
  std::exchange(
      done_, nullptr)({.response = std::move(response_), .sent = true, .upgraded = std::move(connection_)});
}

void ClientAttempt::fail(Error error) {
  if (std::exchange(ended_, true)) return;
  if (deadline_) deadline_->clear();
  if (total_) total_->clear();
  const bool stale = connection_ && connection_->reused && bytes_received_ == 0;
  if (connection_ && connection_->wire) connection_->wire->close();
  if (tunnel_) tunnel_->close();
  // The consumer's own errors (on_body, body_source) keep what they carry.
  if (error.detail<HttpFailure>() == nullptr && error.domain() == std::string_view("http"))
    error = error.with_detail(HttpFailure{any_sent_});
  std::exchange(done_, nullptr)({.response = std::move(error), .stale = stale, .sent = any_sent_});
}

void ClientAttempt::fail_io(const std::string& what, ErrorCode failed) {
  const bool safe = request_->method == "GET" || request_->method == "HEAD";
  fail(Error(safe ? Error::unavailable : Error::unknown_outcome, "http",
             where() + ": " + what + ": " + failed.message() +
                 (bytes_received_ > 0 ? " after " + std::to_string(bytes_received_) + " bytes" : "")));
}

void ClientAttempt::expire(const std::string& what, Duration deadline) {
  if (connection_) connection_->reused = false;  // slow is not stale
  fail(Error(Error::deadline_exceeded, "http",
             where() + ": no sign of " + what + " within " + seconds(deadline)));
}

}  // namespace orchestra::http
