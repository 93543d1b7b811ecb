// The feed of feed.hpp.
#include "store/etcd/feed.hpp"

#include <algorithm>

namespace orchestra::store::etcd {
namespace {

constexpr std::int64_t kBackOffMinMs = 20, kBackOffMaxMs = 2000;
constexpr int kCutsMax = 2;  ///< then a message is taken to be too long for the gateway's WebSocket
constexpr std::size_t kLineMax = 64u << 20;
constexpr Duration kHealthEvery = std::chrono::seconds(5);
constexpr Duration kHealthDeadline = std::chrono::seconds(3);
constexpr Duration kForever = std::chrono::hours(24);

}  // namespace

Feed::Feed(Engine& engine, std::shared_ptr<HttpClient> http, std::shared_ptr<Gateway> gateway, KeyRange range,
           bool trusts_progress, FeedHandler handler)
    : engine_(engine),
      http_(std::move(http)),
      gateway_(std::move(gateway)),
      range_(std::move(range)),
      trusts_progress_(trusts_progress),
      handler_(std::move(handler)) {}

void Feed::start(Revision after) {
  {
    std::lock_guard lock(mutex_);
    delivered_ = after;
  }
  connect();
}

void Feed::stop() {
  std::shared_ptr<WebSocket> socket;
  std::shared_ptr<Pending<HttpResponse>> stream;
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    ++generation_;
    socket = std::move(socket_);
    stream = std::move(stream_);
  }
  if (socket) socket->close();
  if (stream) stream->cancel();
}

bool Feed::is_current(Generation generation) const {
  std::lock_guard lock(mutex_);
  return !stopped_ && generation == generation_;
}

std::string Feed::transport() const {
  std::lock_guard lock(mutex_);
  return std::string(chunked_ ? "chunked stream" : "WebSocket") + " to " + gateway_->name(endpoint_) +
         (socket_ || stream_ ? "" : " (connecting)");
}

bool Feed::request_progress() {
  if (!trusts_progress_) return false;
  std::shared_ptr<WebSocket> socket;
  {
    std::lock_guard lock(mutex_);
    socket = socket_;
  }
  return socket && socket->send(R"({"progress_request":{}})").has_value();
}

// ---- connections

void Feed::connect() {
  Generation generation = 0;
  bool chunked = false;
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return;
    generation = ++generation_;
    endpoint_ = gateway_->endpoint();
    heard_ = false;
    chunked = chunked_;
  }
  gateway_->with_token(false, [self = shared_from_this(), generation, chunked](Result<void> ready) {
    if (!self->is_current(generation)) return;
    if (!ready) return self->lost_connection(generation, ready.error());
    chunked ? self->open_stream(generation) : self->open_socket(generation);
  });
}

void Feed::open_socket(Generation generation) {
  WebSocketHandler handler;
  handler.on_message = [weak = weak_from_this(), generation](std::string message) {
    if (const auto self = weak.lock()) self->take_text(generation, message);
  };
  handler.on_closed = [weak = weak_from_this(), generation](const Error& why) {
    if (const auto self = weak.lock()) self->lost_connection(generation, why);
  };
  HttpRequest request = gateway_->request(endpoint_, "/v3/watch");
  std::erase_if(request.headers, [](const auto& header) { return header.first == "Content-Type"; });
  // The gateway takes the token of a WebSocket from here.
  for (auto& [name, value] : request.headers) {
    if (name != "Authorization") continue;
    name = "Sec-WebSocket-Protocol";
    value = "Bearer, " + value;
  }
  request.header_deadline = kHealthDeadline;
  const auto opened = [self = shared_from_this(), generation](Result<std::shared_ptr<WebSocket>> socket) {
    if (!socket) {
      if (socket.error().is(Error::unsupported)) {
        std::lock_guard lock(self->mutex_);
        self->chunked_ = true;
      }
      return self->lost_connection(generation, socket.error());
    }
    std::string create;
    {
      std::lock_guard lock(self->mutex_);
      if (self->stopped_ || generation != self->generation_) return;
      self->socket_ = *socket;
      create = encode_watch(self->range_, self->delivered_);
    }
    (void)(*socket)->send(std::move(create));
  };
  http_->open_web_socket(std::move(request), std::move(handler)).on_ready(opened);
}

void Feed::open_stream(Generation generation) {
  HttpRequest request = gateway_->request(endpoint_, "/v3/watch");
  {
    std::lock_guard lock(mutex_);
    request.body = encode_watch(range_, delivered_);
    line_.clear();
  }
  request.header_deadline = request.stall_deadline = request.total_deadline = kForever;
  request.on_body = [weak = weak_from_this(), generation](std::string_view bytes) -> Result<void> {
    const auto self = weak.lock();
    if (!self || !self->is_current(generation))
      return Error(Error::cancelled, "store", "the watch is no longer wanted");
    self->take_bytes(generation, bytes);
    return {};
  };
  auto pending = std::make_shared<Pending<HttpResponse>>(http_->send(std::move(request)));
  {
    std::lock_guard lock(mutex_);
    if (!stopped_ && generation == generation_) stream_ = pending;
  }
  pending->on_ready([weak = weak_from_this(), generation](Result<HttpResponse> response) {
    const auto self = weak.lock();
    if (!self) return;
    self->lost_connection(
        generation, response ? Error(Error::unavailable, "store", "etcd ended the watch") : response.error());
  });
  watch_health(generation, endpoint_);
}

/// A chunked stream does not tell that its server was stopped: ask it something else now and then.
void Feed::watch_health(Generation generation, std::size_t endpoint) {
  engine_.after(kHealthEvery, [weak = weak_from_this(), generation, endpoint] {
    const auto self = weak.lock();
    if (!self || !self->is_current(generation)) return;
    HttpRequest request = self->gateway_->request(endpoint, "/health");
    request.method = "GET";
    request.total_deadline = kHealthDeadline;
    self->http_->send(std::move(request)).on_ready([weak, generation, endpoint](Result<HttpResponse> answer) {
      const auto self = weak.lock();
      if (!self) return;
      if (answer) return self->watch_health(generation, endpoint);
      self->lost_connection(generation, answer.error());
    });
  });
}

void Feed::lost_connection(Generation generation, const Error& why) {
  std::shared_ptr<WebSocket> socket;
  std::shared_ptr<Pending<HttpResponse>> stream;
  std::int64_t wait = 0;
  std::string note;
  {
    std::lock_guard lock(mutex_);
    if (stopped_ || generation != generation_) return;
    ++generation_;  // what still comes from it is late
    socket = std::move(socket_);
    stream = std::move(stream_);
    if (!heard_) gateway_->mark_down(endpoint_, why.message());
    if (heard_ && !chunked_) {
      cuts_ = cut_at_ == delivered_ ? cuts_ + 1 : 1;
      cut_at_ = delivered_;
      if (cuts_ >= kCutsMax) {
        chunked_ = true;
        note = "etcd's gateway cut the WebSocket twice at revision " + std::to_string(delivered_) +
               "; following by a chunked stream";
      }
    }
    wait = std::min(kBackOffMaxMs, kBackOffMinMs << std::min(failures_, 7));
    ++failures_;
  }
  if (socket) socket->close();
  if (stream) stream->cancel();
  if (!note.empty() && handler_.on_note) handler_.on_note(note);
  engine_.after(std::chrono::milliseconds(wait), [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->connect();
  });
}

// ---- messages

void Feed::take_bytes(Generation generation, std::string_view bytes) {
  line_ += bytes;
  std::size_t begin = 0;
  for (std::size_t end = line_.find('\n'); end != std::string::npos; end = line_.find('\n', begin)) {
    if (end > begin) take_text(generation, std::string_view(line_).substr(begin, end - begin));
    begin = end + 1;
  }
  line_.erase(0, begin);
  if (line_.size() > kLineMax)
    lost_connection(generation, Error(Error::too_large, "store", "a watch message of etcd is too long"));
}

void Feed::take_text(Generation generation, std::string_view text) {
  auto message = read_watch(text);
  if (!message) return lost_connection(generation, message.error());
  take(generation, std::move(*message));
}

void Feed::take(Generation generation, WatchMessage message) {
  std::lock_guard one_at_a_time(delivery_);
  {
    std::lock_guard lock(mutex_);
    if (stopped_ || generation != generation_) return;
    if (message.created || !message.events.empty()) {
      if (message.created) held_.clear();
      heard_ = !message.canceled || message.compact_revision != 0;
      if (heard_) failures_ = 0;
    }
  }
  if (!gateway_->check(message.header, 0, false)) return;
  if (message.canceled) return take_canceled(generation, message);
  if (message.created && message.events.empty()) return;
  deliver(std::move(message));
}

void Feed::take_canceled(Generation generation, const WatchMessage& message) {
  if (message.compact_revision != 0) {
    return give_up(Error(Error::compacted, "store",
                         "etcd was compacted up to revision " + std::to_string(message.compact_revision) +
                             " before the mirror had read it"));
  }
  const bool token = message.cancel_reason.find("auth token") != std::string::npos ||
                     message.cancel_reason.find("user name is empty") != std::string::npos;
  if (message.cancel_reason.find("permission denied") != std::string::npos) {
    return give_up(
        Error(Error::denied, "store",
              "etcd's user may not watch the prefix \"" + range_.begin + "\": grant it read access"));
  }
  bool chunked = false;
  {
    std::lock_guard lock(mutex_);
    // etcd 3.4 and 3.5 do not understand the form in which their gateway passes a WebSocket's token on.
    if (token && !chunked_) chunked_ = chunked = true;
  }
  const Error why(Error::unavailable, "store", "etcd cancelled the watch: " + message.cancel_reason);
  if (!token || chunked) return lost_connection(generation, why);
  gateway_->with_token(true, [self = shared_from_this(), generation, why](Result<void>) {
    self->lost_connection(generation, why);
  });
}

void Feed::deliver(WatchMessage message) {
  std::vector<KeyValue> changes = std::exchange(held_, {});
  Revision delivered = 0;
  {
    std::lock_guard lock(mutex_);
    delivered = delivered_;
  }
  for (KeyValue& event : message.events) {
    if (event.mod_revision > delivered) changes.push_back(std::move(event));
  }
  if (message.fragment && !changes.empty()) {
    const Revision last = changes.back().mod_revision;
    const auto rest = std::find_if(changes.begin(), changes.end(),
                                   [&](const KeyValue& event) { return event.mod_revision == last; });
    held_.assign(std::make_move_iterator(rest), std::make_move_iterator(changes.end()));
    changes.erase(rest, changes.end());
  }
  if (!changes.empty()) {
    {
      std::lock_guard lock(mutex_);
      delivered_ = changes.back().mod_revision;
    }
    handler_.on_changes(std::move(changes));
    return;
  }
  // A periodic notice comes in the order of the events; an answer to a request only in newer releases.
  const bool notice = message.events.empty() && (message.watch_id != -1 || trusts_progress_);
  if (!notice || message.header.revision <= delivered) return;
  {
    std::lock_guard lock(mutex_);
    delivered_ = message.header.revision;
  }
  handler_.on_progress(message.header.revision);
}

void Feed::give_up(const Error& why) {
  stop();
  handler_.on_lost(why);
}

}  // namespace orchestra::store::etcd
