// A watch over HTTP: see watch_stream.hpp.
#include "apiserver/watch_stream.hpp"

#include <algorithm>
#include <cstdlib>

#include "api/protobuf.hpp"
#include "api/status.hpp"
#include "apiserver/encode.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::int64_t kTimeoutMinSeconds = 1800;  // upstream's --min-request-timeout, up to twice of it
constexpr std::int64_t kTimeoutMaxSeconds = 24 * 3600;
constexpr Duration kBusyPause = std::chrono::milliseconds(100);  // when no worker thread is free

const char* event_word(WatchItem::Type type) {
  static constexpr const char* kWords[] = {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"};
  return kWords[static_cast<std::size_t>(type)];
}
}  // namespace

WatchStream::WatchStream(Engine& engine, std::unique_ptr<WatchCursor> cursor,
                         std::shared_ptr<HttpBodyWriter> writer, WatchStreamOptions options)
    : engine_(engine),
      cursor_(std::move(cursor)),
      wakes_(cursor_->core().wakes()),
      writer_(std::move(writer)),
      options_(std::move(options)) {
  const std::int64_t now = engine_.clock().now().steady_ns;
  std::int64_t seconds = std::atoll(options_.timeout_text.c_str());
  if (seconds <= 0) {
    seconds = kTimeoutMinSeconds + static_cast<std::int64_t>(engine_.random().below(kTimeoutMinSeconds));
  }
  bookmarks_ = cursor_->request().bookmarks;
  waits_ = cursor_->request().type->converter != nullptr;
  ends_ns_ = now + std::min(seconds, kTimeoutMaxSeconds) * kSecondNs;
  bookmark_ns_ = now + options_.bookmark_interval.count();
}

std::weak_ptr<WatchStream> WatchStream::run(Engine& engine, std::unique_ptr<WatchCursor> cursor,
                                            std::shared_ptr<HttpBodyWriter> writer,
                                            WatchStreamOptions options) {
  std::shared_ptr<WatchStream> stream(
      new WatchStream(engine, std::move(cursor), std::move(writer), std::move(options)));
  std::weak_ptr<WatchStream> weak = stream;
  // The writer holds the stream until the client goes; timers and the store's callback hold it weakly.
  stream->writer_->on_closed([stream]() mutable {
    {
      std::lock_guard lock(stream->mutex_);
      stream->closed_ = true;
    }
    stream->kick();
    stream.reset();
  });
  stream->tick();
  return weak;
}

void WatchStream::tick() {
  std::weak_ptr<WatchStream> weak = weak_from_this();
  const std::int64_t now = engine_.clock().now().steady_ns;
  const std::int64_t due = bookmarks_ ? std::min(ends_ns_, bookmark_ns_) : ends_ns_;
  {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    timer_ = engine_.after(Duration(std::max<std::int64_t>(due - now, 1'000'000)), [weak] {
      if (auto self = weak.lock()) self->kick();
    });
  }
  kick();
}

/// False: a step is running already, and looks again when it is done. With `mutex_` held.
bool WatchStream::claim() {
  if (running_) {
    again_ = true;
    return false;
  }
  running_ = true;
  return true;
}

void WatchStream::kick() {
  {
    std::lock_guard lock(mutex_);
    if (!claim()) return;
  }
  post_step();
}

// Where objects are converted by a webhook, a step waits for it.
void WatchStream::post_step() {
  if (!waits_) {
    if (!writer_->dispatch(shared_from_this())) engine_.post([self = shared_from_this()] { self->step(); });
    return;
  }
  if (!engine_.post_blocking([self = shared_from_this()] { self->step(); }))
    engine_.after(kBusyPause, [self = shared_from_this()] { self->post_step(); });
}

void WatchStream::append_own(std::string& out, const char* type, const std::string& json) const {
  if (!options_.want.protobuf) return append_event(out, type, json);
  const auto tree = parse_json(json);
  const auto bytes = tree ? protobuf_text(*tree, {}) : Result<std::string>(tree.error());
  if (bytes) append_event(out, type, *bytes);
}

void WatchStream::append_event(std::string& out, const char* type, const std::string& object) const {
  if (options_.want.protobuf) {
    out += api::protobuf_watch_frame(type, object);
    return;
  }
  out += "{\"type\":\"";
  out += type;
  out += "\",\"object\":";
  out += object;
  out += "}\n";
}

void WatchStream::append_bookmark(std::string& out, Revision revision, bool initial_end) {
  const api::TypeRecord& type = *cursor_->request().type;
  std::string object = bookmark_json(type, options_.api_version, revision, initial_end);
  if (options_.want.form == Form::table) {
    // Clients that asked for Tables read the revision from the Table's metadata, WatchLists from the row.
    object = "{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/" + options_.want.meta_version +
             "\",\"metadata\":{\"resourceVersion\":\"" + std::to_string(revision) +
             "\"},\"columnDefinitions\":null,\"rows\":[{\"cells\":[],\"object\":" + object + "}]}";
  } else if (options_.want.form == Form::partial) {
    const std::string from = "{\"kind\":\"" + type.kind + "\",\"apiVersion\":\"" +
                             type.gvk(options_.api_version).api_version() + "\"";
    object = "{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/" +
             options_.want.meta_version + "\"" + object.substr(from.size());
  }
  append_own(out, "BOOKMARK", object);
}

// Made once for all watches that want the same, where it is made from a tree.
Result<EventTexts::Text> WatchStream::text_of(const WatchItem& item, Now now) const {
  const WatchRequest& request = cursor_->request();
  EventTexts& texts = cursor_->core().event_texts();
  std::optional<EventTexts::Key> key;
  if (EventTexts::keeps(*request.type, request.version, options_.want)) {
    key = EventTexts::key_of(*request.type, request.version, options_.want, item.stored, item.revision);
    if (auto text = texts.find(*key)) return text;
  }
  ORC_ASSIGN(const StoredView view, decode_stored_frame(item.stored.bytes()));
  ORC_ASSIGN(std::string made, object_text(*request.type, request.version, options_.want, view, item.revision,
                                           now, first_event_));
  auto text = std::make_shared<const std::string>(std::move(made));
  if (key) texts.keep(std::move(*key), request.type, item.stored, text);
  return text;
}

void WatchStream::append_item(std::string& out, const WatchItem& item, Now now) {
  if (item.type == WatchItem::Type::bookmark) return append_bookmark(out, item.revision, item.initial_end);
  auto text = text_of(item, now);
  if (!text)
    return append_own(out, "ERROR", api::status_of(api::internal_error(text.error().to_string())).json);
  first_event_ = false;
  append_event(out, event_word(item.type), **text);
}

/// The usual case: one event, which others have had or will have, too.
WatchStream::Text WatchStream::encode_one(const WatchItem& item, Now now) {
  const WatchRequest& request = cursor_->request();
  EventFrames& frames = cursor_->core().event_frames();
  const EventFrames::Wanted wanted{event_word(item.type), item.stored,     item.revision,
                                   request.type,          request.version, options_.want};
  const bool shared = item.type != WatchItem::Type::bookmark && !waits_ && EventFrames::keeps(options_.want);
  if (shared) {
    if (Text found = frames.find(wanted)) return found;
  }
  std::string out;
  append_item(out, item, now);
  auto text = std::make_shared<const std::string>(std::move(out));
  if (shared) frames.keep(wanted, text);
  return text;
}

/// Null where there is nothing.
WatchStream::Text WatchStream::encode(const std::vector<WatchItem>& items, Now now) {
  if (items.empty()) return nullptr;
  if (items.size() == 1) return encode_one(items.front(), now);
  std::string out;
  for (const WatchItem& item : items) append_item(out, item, now);
  return std::make_shared<const std::string>(std::move(out));
}

void WatchStream::finish() {
  writer_->finish();
  release();
}

// The place in the store's ring is given back now; the stream itself may live as long as its connection.
void WatchStream::release() {
  std::unique_ptr<WatchCursor> cursor;
  std::lock_guard lock(mutex_);
  closed_ = true;
  cursor = std::move(cursor_);
  if (timer_ != 0) engine_.cancel_timer(timer_);
}

void WatchStream::step() {
  bool closed = false;
  bool writing = false;
  {
    std::lock_guard lock(mutex_);
    closed = closed_;
    writing = writing_;
    again_ = false;
  }
  if (closed) return release();  // stays "running": nothing follows
  if (writing) {
    if (tracking_) keep_up();
    return rest();
  }
  if (ended_) return finish();
  const Now now = engine_.clock().now();
  Text text = encode(std::exchange(waiting_, {}), now);
  waiting_bytes_ = 0;
  bool end = false;
  std::string own;
  if (text == nullptr) {
    if (auto items = cursor_->poll()) {
      text = encode(*items, now);
    } else {
      append_own(own, "ERROR", api::status_of(items.error()).json);
      end = true;
    }
  }
  const bool quiet = text == nullptr && own.empty();
  if (!end && quiet && due(now)) {
    if (bookmarks_) append_bookmark(own, cursor_->seen(), false);
    end = true;
  } else if (!end && bookmarks_ && now.steady_ns >= bookmark_ns_) {
    if (quiet) append_bookmark(own, cursor_->seen(), false);
    bookmark_ns_ = now.steady_ns + options_.bookmark_interval.count();
    tick();
  }
  if (!own.empty()) text = std::make_shared<const std::string>(std::move(own));
  if (text != nullptr) return send(std::move(text), end, now);
  if (end) return finish();
  arm();
  rest();
}

/// Is it time to end, as soon as there is nothing left to send?
bool WatchStream::due(Now now) const {
  return now.steady_ns >= ends_ns_ || (options_.stopped && options_.stopped());
}

// The client has not taken the last piece yet.
void WatchStream::keep_up() {
  for (;;) {
    auto items = cursor_->poll();
    tracking_ = items.has_value();  // an end is told with the next piece
    if (!tracking_) return;
    if (items->empty()) return arm();
    for (WatchItem& item : *items) {
      waiting_bytes_ += item.stored.size();
      waiting_.push_back(std::move(item));
    }
    if (waiting_.size() > options_.behind_events_max || waiting_bytes_ > options_.behind_bytes_max) {
      ended_ = true;
      tracking_ = false;
      waiting_.clear();
      return cursor_.reset();
    }
  }
}

void WatchStream::send(Text text, bool last, Now now) {
  auto written = waits_ ? std::optional(writer_->write(*text)) : writer_->write_now(text);
  if (!written) {  // the client has it: nothing to wait for
    if (last) return finish();
    arm();
    if (due(now)) {
      std::lock_guard lock(mutex_);
      again_ = true;
    }
    return rest();
  }
  ended_ = last;
  tracking_ = !last && !written->is_ready() && cursor_->at_end();
  {
    std::lock_guard lock(mutex_);
    writing_ = true;
  }
  if (tracking_) arm();
  rest();
  written->on_ready([self = shared_from_this()](Result<void> taken) {
    {
      std::lock_guard lock(self->mutex_);
      self->writing_ = false;
      self->closed_ = self->closed_ || !taken;
    }
    self->kick();
  });
}

// Nothing to do until somebody kicks.
void WatchStream::rest() {
  {
    std::lock_guard lock(mutex_);
    if (!again_) {
      running_ = false;
      return;
    }
  }
  engine_.post([self = shared_from_this()] { self->post_step(); });  // not from within this step
}

// The store's next event kicks.
void WatchStream::arm() {
  {
    std::lock_guard lock(mutex_);
    if (armed_ || closed_) return;
    armed_ = true;
  }
  cursor_->notify([weak = weak_from_this()] {
    auto stream = weak.lock();
    if (!stream) return;
    {
      std::lock_guard guard(stream->mutex_);
      stream->armed_ = false;
      if (!stream->claim()) return;
    }
    const WatchStream& woken = *stream;
    woken.wakes_->add(std::move(stream));
  });
}

}  // namespace orchestra::apiserver
