// compile: alone (the library's names are long enough to meet others)
// HTTP/2 for one connection: see http2_connection.hpp.
#include "net/http/http2_connection.hpp"

#include <algorithm>
#include <boost/asio/error.hpp>

#include "base/assert.hpp"
#include "net/http/head.hpp"
#include "orchestra/env.hpp"

namespace orchestra::http {
namespace {

constexpr std::size_t kReadBytes = 16 << 10;
constexpr std::size_t kWriteBytes = 128 << 10;  // of one write to the wire
constexpr int kStreamWindowBytes = 256 << 10;   // request bodies are taken as they come
constexpr int kConnectionWindowBytes = 1 << 20;
constexpr std::size_t kRequestBytesMax = 16 << 20;  // of unfinished requests of one connection
constexpr std::size_t kUnsentBytesMax = 16 << 20;   // of answers; above, new streams are refused
constexpr std::size_t kFieldBytes = 32;             // RFC 9113 section 6.5.2: what a field counts besides
constexpr std::size_t kResetsAtOnce = 4096;         // a client may end all its watches at once
constexpr std::size_t kResetsPerSecond = 64;
constexpr std::size_t kLingerBytesMax = 256 << 10;
constexpr auto kLingerDeadline = std::chrono::seconds(2);
constexpr auto kStallDeadline = std::chrono::seconds(60);  // answers wait and the client takes nothing
constexpr std::uint8_t kDrainPing[8] = {'d', 'r', 'a', 'i', 'n', 'i', 'n', 'g'};

nghttp2_nv field(const std::string& name, const std::string& value) {
  const auto bytes = [](const std::string& s) {
    return reinterpret_cast<std::uint8_t*>(const_cast<char*>(s.data()));
  };
  return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};  // copied
}

/// Fields that belong to a connection of HTTP/1.1 (RFC 9113 section 8.2.2).
bool is_of_connection(const std::string& name) {
  return name == "connection" || name == "keep-alive" || name == "transfer-encoding" || name == "upgrade" ||
         name == "proxy-connection";
}

std::string_view view(const std::uint8_t* bytes, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

}  // namespace

// --- the library's side ---

struct Http2Connection::Callbacks {
  static Http2Connection& of(void* user) { return *static_cast<Http2Connection*>(user); }

  static int begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
      of(user).on_begin_head(frame->hd.stream_id);
    return 0;
  }
  static int header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name,
                    std::size_t name_size, const std::uint8_t* value, std::size_t value_size, std::uint8_t,
                    void* user) {
    of(user).on_field(frame->hd.stream_id, view(name, name_size), view(value, value_size));
    return 0;
  }
  static int frame_recv(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    of(user).on_frame(*frame);
    return 0;
  }
  static int data_chunk(nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data,
                        std::size_t size, void* user) {
    of(user).on_data(id, view(data, size));
    return 0;
  }
  static int frame_sent(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    of(user).on_frame_sent(*frame);
    return 0;
  }
  static int stream_close(nghttp2_session*, std::int32_t id, std::uint32_t code, void* user) {
    of(user).on_stream_closed(id, code);
    return 0;
  }
  static ssize_t read_data(nghttp2_session*, std::int32_t id, std::uint8_t*, std::size_t size,
                           std::uint32_t* flags, nghttp2_data_source*, void* user) {
    return of(user).next_length(id, size, *flags);
  }
  static int send_data(nghttp2_session*, nghttp2_frame* frame, const std::uint8_t* head, std::size_t size,
                       nghttp2_data_source*, void* user) {
    return of(user).take_data(frame->hd.stream_id, view(head, 9), size);
  }

  static nghttp2_session* open(Http2Connection* connection) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_option* option = nullptr;
    nghttp2_session* session = nullptr;
    ORC_ASSERT(::nghttp2_session_callbacks_new(&callbacks) == 0);
    ORC_ASSERT(::nghttp2_option_new(&option) == 0);
    ::nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, begin_headers);
    ::nghttp2_session_callbacks_set_on_header_callback(callbacks, header);
    ::nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, frame_recv);
    ::nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, data_chunk);
    ::nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, frame_sent);
    ::nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, stream_close);
    ::nghttp2_session_callbacks_set_send_data_callback(callbacks, send_data);
    ::nghttp2_option_set_no_closed_streams(option, 1);
    ::nghttp2_option_set_max_deflate_dynamic_table_size(option, 4096);
    ::nghttp2_option_set_stream_reset_rate_limit(option, kResetsAtOnce, kResetsPerSecond);
    ORC_ASSERT(::nghttp2_session_server_new2(&session, callbacks, connection, option) == 0);
    ::nghttp2_option_del(option);
    ::nghttp2_session_callbacks_del(callbacks);
    return session;
  }
};

void Http2Connection::on_begin_head(StreamId id) {
  streams_.try_emplace(id);
  head_id_ = id;
  head_ns_ = now_ns();
}

void Http2Connection::on_field(StreamId id, std::string_view name, std::string_view value) {
  Stream* stream = find(id);
  if (stream == nullptr || stream->head_ended || stream->refusal != 0) return;  // trailers are dropped
  const std::size_t bytes = name.size() + value.size() + kFieldBytes;
  stream->request_bytes += bytes;
  request_bytes_ += bytes;
  if (stream->request_bytes > shared_->options.header_bytes_max ||
      ++stream->fields > HeadLimits{}.fields_max) {
    stream->refusal = 431;
    stream->why = "the request's header fields are too many or too long";
    return;
  }
  HttpServerRequest& request = stream->request;
  if (name == ":method") {
    request.method = value;
  } else if (name == ":path") {
    request.target = value;
  } else if (name == ":authority") {
    request.headers["host"] = value;
  } else if (name == "host" && request.headers.contains("host")) {
    if (request.headers["host"] != value) {
      stream->refusal = 400;
      stream->why = "host is not the same as :authority";
    }
  } else if (!name.starts_with(':')) {
    std::string& known = request.headers[std::string(name)];
    if (!known.empty()) known += name == "cookie" ? "; " : ", ";
    known += value;
  }
}

void Http2Connection::on_frame(const nghttp2_frame& frame) {
  if (frame.hd.type == NGHTTP2_SETTINGS) settled_ = true;
  if (frame.hd.type == NGHTTP2_HEADERS && frame.headers.cat == NGHTTP2_HCAT_REQUEST) on_head(frame);
  if (frame.hd.type == NGHTTP2_PING && (frame.hd.flags & NGHTTP2_FLAG_ACK) != 0 && draining_ &&
      !draining_told_ && std::equal(std::begin(kDrainPing), std::end(kDrainPing), frame.ping.opaque_data)) {
    // All streams that were under way when the client read the notice are here now.
    draining_told_ = true;
    ::nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, ::nghttp2_session_get_last_proc_stream_id(session_),
                            NGHTTP2_NO_ERROR, nullptr, 0);
  }
  const bool ends = frame.hd.type == NGHTTP2_HEADERS || frame.hd.type == NGHTTP2_DATA;
  if (!ends || (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return;
  Stream* stream = find(frame.hd.stream_id);
  if (stream == nullptr || stream->request_ended) return;
  stream->request_ended = true;
  if (!stream->answered) ready_.push_back(frame.hd.stream_id);
}

/// A head is complete.
void Http2Connection::on_head(const nghttp2_frame& frame) {
  const StreamId id = frame.hd.stream_id;
  head_ns_ = 0;
  Stream* stream = find(id);
  if (stream == nullptr) return;
  stream->head_ended = true;
  if (unsent_bytes_ > kUnsentBytesMax || request_bytes_ > kRequestBytesMax)
    return reset(id, NGHTTP2_REFUSED_STREAM);
  const std::string& target = stream->request.target;
  const bool printable =
      std::all_of(target.begin(), target.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  const auto host = stream->request.headers.find("host");
  if (stream->refusal == 0 && (target.empty() || !printable || !is_token(stream->request.method))) {
    stream->refusal = 400;
    stream->why = "the method or the target is malformed";
  } else if (stream->refusal == 0 && host != stream->request.headers.end() && !is_host(host->second)) {
    stream->refusal = 400;
    stream->why = "Host is malformed";
  }
  if ((frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) return;
  const auto length = stream->request.headers.find("content-length");
  if (stream->refusal == 0 && length != stream->request.headers.end() &&
      std::strtoull(length->second.c_str(), nullptr, 10) > shared_->options.body_bytes_max) {
    stream->refusal = 413;
    stream->why = "the request body is too large";
  }
  if (stream->refusal != 0) return refuse(id, *stream, stream->refusal, stream->why);
  waiting_.push_back({id, now_ns() + shared_->options.body_deadline.count()});
  const auto expect = stream->request.headers.find("expect");
  if (expect == stream->request.headers.end() || !equal_ignoring_case(expect->second, "100-continue")) return;
  const std::string name = ":status", value = "100";
  const nghttp2_nv status = field(name, value);
  ::nghttp2_submit_headers(session_, NGHTTP2_FLAG_NONE, id, nullptr, &status, 1, nullptr);
}

void Http2Connection::on_data(StreamId id, std::string_view bytes) {
  Stream* stream = find(id);
  if (stream == nullptr || stream->answered || stream->handled) return;
  if (stream->request.body.size() + bytes.size() > shared_->options.body_bytes_max)
    return refuse(id, *stream, 413, "the request body is too large");
  if (request_bytes_ + bytes.size() > kRequestBytesMax) return reset(id, NGHTTP2_ENHANCE_YOUR_CALM);
  stream->request.body += bytes;
  stream->request_bytes += bytes.size();
  request_bytes_ += bytes.size();
}

/// An answer that ended before its request did: the client need not send the rest.
void Http2Connection::on_frame_sent(const nghttp2_frame& frame) {
  const bool ends = frame.hd.type == NGHTTP2_HEADERS || frame.hd.type == NGHTTP2_DATA;
  if (!ends || (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return;
  const Stream* stream = find(frame.hd.stream_id);
  if (stream != nullptr && !stream->request_ended) reset(frame.hd.stream_id, NGHTTP2_NO_ERROR);
}

void Http2Connection::on_stream_closed(StreamId id, std::uint32_t code) {
  const auto found = streams_.find(id);
  if (found == streams_.end()) return;
  Stream& stream = found->second;
  if (!stream.handled) request_bytes_ -= stream.request_bytes;
  for (Piece& piece : stream.pieces) {
    unsent_bytes_ -= piece.bytes->size() - piece.sent;
    if (stream.whole) whole_bytes_ -= piece.bytes->size() - piece.sent;
    if (piece.done)
      after_.emplace_back([done = std::move(piece.done)] { done(asio::error::operation_aborted); });
  }
  // Of an answer that went out whole nobody needs to hear, as in HTTP/1.1.
  if (code != NGHTTP2_NO_ERROR || !stream.finished || !stream.pieces.empty()) {
    for (auto& call : stream.on_closed) after_.push_back(std::move(call));
  }
  streams_.erase(found);
  if (id == head_id_) head_ns_ = 0;
  if (streams_.empty()) idle_ns_ = now_ns();
}

ssize_t Http2Connection::next_length(StreamId id, std::size_t length_max, std::uint32_t& flags) {
  const Stream* stream = find(id);
  if (stream == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  std::size_t queued = 0;
  bool all = true;
  for (const Piece& piece : stream->pieces) {
    if (queued >= length_max) {
      all = false;
      break;
    }
    queued += piece.bytes->size() - piece.sent;
  }
  if (queued == 0 && !stream->finished) return NGHTTP2_ERR_DEFERRED;
  flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (stream->finished && all && queued <= length_max) flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(std::min(queued, length_max));
}

int Http2Connection::take_data(StreamId id, std::string_view frame_head, std::size_t length) {
  if (output_.size() >= kWriteBytes) return NGHTTP2_ERR_WOULDBLOCK;
  Stream* stream = find(id);
  ORC_ASSERT(stream != nullptr);  // the library drops the data of closed streams itself
  output_ += frame_head;
  unsent_bytes_ -= length;
  if (stream->whole) whole_bytes_ -= length;
  progress_ns_ = now_ns();
  while (length > 0) {
    Piece& piece = stream->pieces.front();
    const std::size_t count = std::min(length, piece.bytes->size() - piece.sent);
    output_.append(*piece.bytes, piece.sent, count);
    piece.sent += count;
    length -= count;
    if (piece.sent < piece.bytes->size()) break;  // the frame is full
    if (piece.done) written_.push_back(std::move(piece.done));
    stream->pieces.pop_front();
  }
  ORC_ASSERT(length == 0);
  return 0;
}

// --- the wire's side ---

Http2Connection::Http2Connection(std::shared_ptr<ServerShared> shared, std::shared_ptr<Wire> wire,
                                 HttpPeer peer)
    : shared_(std::move(shared)),
      wire_(std::move(wire)),
      peer_(std::move(peer)),
      deadline_(std::make_shared<Deadline>(shared_->engine, wire_->strand())),
      session_(Callbacks::open(this)) {}

Http2Connection::~Http2Connection() { ::nghttp2_session_del(session_); }

std::int64_t Http2Connection::now_ns() const { return shared_->engine.clock().now().steady_ns; }

void Http2Connection::start() {
  const HttpServerOptions& options = shared_->options;
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, static_cast<std::uint32_t>(options.streams_max)},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindowBytes},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<std::uint32_t>(options.header_bytes_max)},
  };
  ::nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  ::nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindowBytes);
  began_ns_ = idle_ns_ = now_ns();
  input_ = std::make_unique<char[]>(kReadBytes);
  read_more();
  pump();
}

void Http2Connection::read_more() {
  if (reading_ || state_ == State::closed) return;
  reading_ = true;
  wire_->read_some(input_.get(), kReadBytes, [self = self()](ErrorCode failed, std::size_t bytes) {
    self->reading_ = false;
    self->on_read(failed, bytes);
  });
}

void Http2Connection::on_read(ErrorCode failed, std::size_t bytes) {
  if (state_ == State::closed) return;
  if (state_ == State::lingering) {
    lingered_bytes_ += bytes;
    return failed || lingered_bytes_ > kLingerBytesMax ? close() : read_more();
  }
  if (failed) return close();
  const auto keep = self();
  const ssize_t taken =
      ::nghttp2_session_mem_recv(session_, reinterpret_cast<const std::uint8_t*>(input_.get()), bytes);
  // Flooded: the client makes us answer and reads none of it, so no last word would reach it either.
  if (taken == NGHTTP2_ERR_FLOODED) return close();
  if (taken < 0) {
    fail(NGHTTP2_PROTOCOL_ERROR);
  } else {
    read_more();
  }
  pump();
}

/// What the last call of the library left to do: hand out requests, tell what ended, write.
void Http2Connection::pump() {
  if (pumping_ || state_ == State::closed) return;
  pumping_ = true;
  const auto keep = self();
  while (state_ != State::closed) {
    for (const StreamId id : std::exchange(ready_, {})) dispatch(id);
    for (auto& call : std::exchange(after_, {})) call();
    write_more();
    if (ready_.empty() && after_.empty()) break;
  }
  pumping_ = false;
  if (state_ == State::open) end_if_over();
  if (state_ == State::open) set_deadline();
}

void Http2Connection::dispatch(StreamId id) {
  Stream* stream = find(id);
  if (stream == nullptr || stream->handled || stream->answered) return;
  if (stream->refusal != 0) return refuse(id, *stream, stream->refusal, stream->why);
  stream->handled = true;
  request_bytes_ -= stream->request_bytes;
  stream->bodyless = stream->request.method == "HEAD";
  HttpServerRequest request = std::move(stream->request);
  request.peer = peer_;
  shared_->handler(std::move(request), make_responder(shared_from_this(), static_cast<Turn>(id)));
}

void Http2Connection::write_more() {
  if (writing_ || state_ == State::closed) return;
  output_.clear();
  while (output_.size() < kWriteBytes) {
    const std::uint8_t* bytes = nullptr;
    const ssize_t size = ::nghttp2_session_mem_send(session_, &bytes);
    if (size < 0) return close();
    if (size == 0) break;
    output_ += view(bytes, static_cast<std::size_t>(size));
  }
  if (output_.empty()) return;
  writing_ = true;
  wire_->write({asio::const_buffer(output_.data(), output_.size())},
               [self = self()](ErrorCode failed, std::size_t) {
                 self->writing_ = false;
                 for (const Done& done : std::exchange(self->written_, {})) done(failed);
                 if (failed) return self->close();
                 if (self->unsent_bytes_ == 0 && self->output_.capacity() > kReadBytes) self->output_ = {};
                 if (self->state_ == State::lingering) return self->linger();
                 self->pump();
               });
}

/// GOAWAY was said or heard and no stream is left, or the library gave up.
void Http2Connection::end_if_over() {
  if (writing_ || ::nghttp2_session_want_read(session_) != 0 || ::nghttp2_session_want_write(session_) != 0)
    return;
  linger();
}

/// The client broke the rules: GOAWAY says which, then the connection ends.
void Http2Connection::fail(std::uint32_t code) { ::nghttp2_session_terminate_session(session_, code); }

/// What the client still sends is read for a moment, so that the last words are not lost in a reset.
void Http2Connection::linger() {
  if (state_ == State::closed) return;
  state_ = State::lingering;
  if (!std::exchange(write_ended_, true)) {
    wire_->shutdown_write();
    deadline_->set(kLingerDeadline, [weak = std::weak_ptr(self())] {
      if (const auto self = weak.lock()) self->close();
    });
  }
  read_more();
}

void Http2Connection::close() {
  if (state_ == State::closed) return;
  const auto keep = self();
  state_ = State::closed;
  deadline_->clear();
  wire_->close();
  for (const Done& done : std::exchange(written_, {})) done(asio::error::operation_aborted);
  for (auto& [id, stream] : std::exchange(streams_, {})) {
    for (Piece& piece : stream.pieces) {
      if (piece.done) piece.done(asio::error::operation_aborted);
    }
    for (auto& call : stream.on_closed) call();
  }
  for (auto& call : std::exchange(after_, {})) call();
  shared_->on_end(this);
}

void Http2Connection::drain() {
  if (draining_ || state_ != State::open) return;
  draining_ = true;
  if (streams_.empty()) {
    draining_told_ = true;
    ::nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, ::nghttp2_session_get_last_proc_stream_id(session_),
                            NGHTTP2_NO_ERROR, nullptr, 0);
  } else {
    ::nghttp2_submit_shutdown_notice(session_);
    ::nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, kDrainPing);
  }
  pump();
}

void Http2Connection::abort() { close(); }

void Http2Connection::set_deadline() {
  const HttpServerOptions& options = shared_->options;
  std::int64_t due = INT64_MAX;
  const auto at = [&](std::int64_t time) { due = std::min(due, time); };
  if (!settled_) at(began_ns_ + options.header_deadline.count());
  if (head_ns_ != 0) at(head_ns_ + options.header_deadline.count());
  while (!waiting_.empty()) {
    const Stream* stream = find(waiting_.front().id);
    if (stream != nullptr && !stream->request_ended && !stream->answered) break;
    waiting_.pop_front();
  }
  if (!waiting_.empty()) at(waiting_.front().until_ns);
  if (streams_.empty()) at(idle_ns_ + options.idle_deadline.count());
  if (whole_bytes_ > 0) at(progress_ns_ + Duration(kStallDeadline).count());
  if (due == std::exchange(due_ns_, due)) return;
  if (due == INT64_MAX) return deadline_->clear();
  deadline_->set(Duration(std::max<std::int64_t>(due - now_ns(), 0)), [weak = std::weak_ptr(self())] {
    if (const auto self = weak.lock()) self->deadline_passed();
  });
}

void Http2Connection::deadline_passed() {
  const HttpServerOptions& options = shared_->options;
  const std::int64_t now = now_ns();
  due_ns_ = INT64_MAX;
  const auto passed = [&](std::int64_t since, Duration limit) { return now >= since + limit.count(); };
  if (whole_bytes_ > 0 && passed(progress_ns_, kStallDeadline)) return close();
  if ((!settled_ && passed(began_ns_, options.header_deadline)) ||
      (head_ns_ != 0 && passed(head_ns_, options.header_deadline))) {
    fail(NGHTTP2_ENHANCE_YOUR_CALM);
  } else if (streams_.empty() && passed(idle_ns_, options.idle_deadline)) {
    fail(NGHTTP2_NO_ERROR);
  } else if (!waiting_.empty() && now >= waiting_.front().until_ns) {
    const StreamId id = waiting_.front().id;
    waiting_.pop_front();
    if (Stream* stream = find(id); stream != nullptr && !stream->request_ended && !stream->answered)
      refuse(id, *stream, 408, "the request body did not come in time");
  }
  pump();
}

// --- answering ---

Http2Connection::Stream* Http2Connection::find(StreamId id) {
  const auto found = streams_.find(id);
  return found == streams_.end() ? nullptr : &found->second;
}

Http2Connection::Stream* Http2Connection::find_unanswered(Turn turn) {
  Stream* stream = find(static_cast<StreamId>(turn));
  return stream == nullptr || stream->answered ? nullptr : stream;
}

void Http2Connection::reset(StreamId id, std::uint32_t code) {
  if (Stream* stream = find(id)) {
    stream->answered = true;
    stream->streaming = false;
  }
  ::nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, code);
}

void Http2Connection::refuse(StreamId id, Stream& stream, int status, const char* why) {
  if (stream.answered) return;
  const std::string body = std::string(why) + "\n";
  const std::uint64_t length = body.size();
  stream.finished = stream.whole = true;
  submit_head(id, stream, status, {{"content-type", "text/plain"}}, &length);
  if (!stream.bodyless) enqueue(id, stream, text(body), nullptr);
}

/// The head, and where the body comes from. `length`: of a body that is known whole.
void Http2Connection::submit_head(StreamId id, Stream& stream, int status, const Headers& headers,
                                  const std::uint64_t* length) {
  stream.answered = true;
  const bool no_body = status == 204 || status == 304;
  std::vector<std::pair<std::string, std::string>> fields;
  fields.reserve(headers.size() + 3);
  fields.emplace_back(":status", std::to_string(status));
  for (const auto& [name, value] : headers) {
    std::string lower = lower_case(name);
    std::string clean = value;
    std::erase_if(clean, [](char c) { return c == '\r' || c == '\n' || c == '\0'; });
    if (!is_of_connection(lower) && lower != "content-length")
      fields.emplace_back(std::move(lower), std::move(clean));
  }
  fields.emplace_back("date", http_date(shared_->engine.clock()));
  if (length != nullptr && !no_body) fields.emplace_back("content-length", std::to_string(*length));
  std::vector<nghttp2_nv> list;
  for (const auto& [name, value] : fields) list.push_back(field(name, value));
  stream.bodyless |= no_body;
  const bool body = !stream.bodyless && (length == nullptr || *length > 0);
  stream.bodyless = !body;
  const nghttp2_data_provider source{{.ptr = nullptr}, Callbacks::read_data};
  if (::nghttp2_submit_response(session_, id, list.data(), list.size(), body ? &source : nullptr) != 0)
    reset(id, NGHTTP2_INTERNAL_ERROR);
}

void Http2Connection::enqueue(StreamId id, Stream& stream, std::shared_ptr<const std::string> bytes,
                              Done done) {
  if (whole_bytes_ == 0) progress_ns_ = now_ns();
  unsent_bytes_ += bytes->size();
  if (stream.whole) whole_bytes_ += bytes->size();
  stream.pieces.push_back({std::move(bytes), 0, std::move(done)});
  ::nghttp2_session_resume_data(session_, id);
}

void Http2Connection::respond(Turn turn, int status, const Headers& headers, Parts parts) {
  Stream* stream = find_unanswered(turn);
  if (stream == nullptr) return;
  const auto id = static_cast<StreamId>(turn);
  std::uint64_t length = 0;
  for (const auto& part : parts) length += part->size();
  if (stream->bodyless) length = told_length(headers).value_or(length);
  stream->finished = stream->whole = true;
  submit_head(id, *stream, status, headers, &length);
  for (auto& part : parts) {
    if (!stream->bodyless && !part->empty()) enqueue(id, *stream, std::move(part), nullptr);
  }
  pump();
}

void Http2Connection::begin_stream(Turn turn, int status, const Headers& headers) {
  Stream* stream = find_unanswered(turn);
  if (stream == nullptr) return;
  submit_head(static_cast<StreamId>(turn), *stream, status, headers, nullptr);
  stream->streaming = true;
  stream->finished = stream->bodyless;
  pump();
}

void Http2Connection::write_chunk(Turn turn, std::string bytes, Promise<void> written) {
  const auto id = static_cast<StreamId>(turn);
  Stream* stream = find(id);
  if (stream == nullptr || !stream->streaming) return written.set(gone());
  if (bytes.empty() || stream->bodyless) return written.set(Result<void>());
  if (stream->pieces.size() >= kWritesMax) {
    return written.set(
        Error(Error::overloaded, "http", "64 writes are outstanding; wait for write() to complete"));
  }
  enqueue(id, *stream, text(std::move(bytes)),
          [written](ErrorCode failed) { written.set(failed ? Result<void>(gone()) : Result<void>()); });
  pump();
}

void Http2Connection::finish_stream(Turn turn) {
  const auto id = static_cast<StreamId>(turn);
  Stream* stream = find(id);
  if (stream == nullptr || !stream->streaming) return;
  stream->streaming = false;
  stream->finished = true;
  ::nghttp2_session_resume_data(session_, id);
  pump();
}

void Http2Connection::abort_stream(Turn turn) {
  const auto id = static_cast<StreamId>(turn);
  const Stream* stream = find(id);
  if (stream == nullptr || !stream->streaming) return;
  reset(id, NGHTTP2_INTERNAL_ERROR);
  pump();
}

void Http2Connection::add_on_closed(Turn turn, std::function<void()> call) {
  Stream* stream = find(static_cast<StreamId>(turn));
  if (stream == nullptr) return call();
  stream->on_closed.push_back(std::move(call));
}

void Http2Connection::begin_upgrade(Turn turn, const Headers&) {
  Stream* stream = find_unanswered(turn);
  if (stream == nullptr) return;
  reset(static_cast<StreamId>(turn), NGHTTP2_HTTP_1_1_REQUIRED);
  pump();
}

void Http2Connection::upgraded_read(Turn, std::size_t, Promise<std::string> reader) { reader.set(gone()); }
void Http2Connection::upgraded_write(Turn, std::string, Promise<void> written) { written.set(gone()); }

}  // namespace orchestra::http
