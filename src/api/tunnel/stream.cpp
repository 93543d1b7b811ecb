// One stream of a node tunnel: see stream.hpp.
#include "api/tunnel/stream.hpp"

#include <algorithm>

namespace orchestra::tunnel {
namespace {
/// Credit goes back in pieces of this size, not for each read.
constexpr std::size_t kCreditFrom = kWindowBytes / 4;
}  // namespace

Stream::Stream(std::weak_ptr<Peer> peer, Peer::Send send, std::uint32_t id, bool served, bool both_end)
    : peer_(std::move(peer)), send_(std::move(send)), id_(id), served_(served), both_end_(both_end) {}

Pending<StreamEvent> Stream::read() {
  Promise<StreamEvent> promise;
  auto pending = promise.pending();
  std::optional<StreamEvent> event;
  {
    std::lock_guard lock(mutex_);
    if (arrived_.empty() && !error_ && !left_) {
      reader_ = promise;
      return pending;
    }
    if (arrived_.empty()) {
      promise.set(error_ ? *error_ : Error(Error::cancelled, "tunnel", "the stream has ended"));
      return pending;
    }
    event = std::move(arrived_.front());
    arrived_.pop_front();
    taken_bytes_ += event->kind == StreamEvent::Kind::data ? event->bytes.size() : 0;
    if (taken_bytes_ >= kCreditFrom && !error_ && !got_end_) {
      Frame frame;
      frame.type = FrameType::credit;
      frame.stream = id_;
      frame.credit = static_cast<std::uint32_t>(taken_bytes_);
      arrived_bytes_ -= taken_bytes_;
      taken_bytes_ = 0;
      send_(encode(frame));
    }
  }
  promise.set(std::move(*event));
  return pending;
}

bool Stream::arrive(StreamEvent event) {
  std::optional<Promise<StreamEvent>> reader;
  {
    std::lock_guard lock(mutex_);
    if (error_ || got_end_) return true;
    const std::size_t size = event.kind == StreamEvent::Kind::data ? event.bytes.size() : 0;
    if (arrived_bytes_ + size > kWindowBytes) return false;
    arrived_bytes_ += size;
    got_end_ = event.kind == StreamEvent::Kind::end || event.kind == StreamEvent::Kind::exit;
    arrived_.push_back(std::move(event));
    reader.swap(reader_);
  }
  // The reader takes it the usual way, which gives the credit back.
  if (reader) {
    read().on_ready([reader = *reader](Result<StreamEvent> next) { reader.set(std::move(next)); });
  }
  leave_if_over();
  return true;
}

Pending<void> Stream::write(std::uint8_t channel, std::string bytes) {
  Promise<void> promise;
  auto pending = promise.pending();
  if (bytes.empty()) {
    promise.set({});
    return pending;
  }
  std::vector<Promise<void>> sent;
  {
    std::lock_guard lock(mutex_);
    if (error_) {
      promise.set(*error_);
      return pending;
    }
    Frame frame;
    frame.type = FrameType::data;
    frame.stream = id_;
    frame.channel = channel;
    frame.payload = std::move(bytes);
    out_.push_back({std::move(frame), 0, promise});
    sent = pump();
  }
  for (const Promise<void>& each : sent) each.set({});
  return pending;
}

void Stream::send(Frame frame) {
  frame.stream = id_;
  std::vector<Promise<void>> sent;
  {
    std::lock_guard lock(mutex_);
    if (error_) return;
    out_.push_back({std::move(frame), 0, std::nullopt});
    sent = pump();
  }
  for (const Promise<void>& each : sent) each.set({});
  leave_if_over();
}

std::vector<Promise<void>> Stream::pump() {
  std::vector<Promise<void>> sent;
  while (!out_.empty() && !sent_end_) {
    Outgoing& next = out_.front();
    if (next.frame.type != FrameType::data) {
      sent_end_ = next.frame.type == FrameType::end || next.frame.type == FrameType::exit;
      send_(encode(next.frame));
      out_.pop_front();
      continue;
    }
    if (credit_ == 0) break;
    const std::size_t size = std::min({next.frame.payload.size() - next.done, credit_, kDataBytesMax});
    Frame piece = next.frame;
    piece.payload = next.frame.payload.substr(next.done, size);
    send_(encode(piece));
    credit_ -= size;
    next.done += size;
    if (next.done < next.frame.payload.size()) continue;
    if (next.sent) sent.push_back(*next.sent);
    out_.pop_front();
  }
  return sent;
}

void Stream::credit(std::uint32_t bytes) {
  std::vector<Promise<void>> sent;
  {
    std::lock_guard lock(mutex_);
    credit_ = std::min<std::size_t>(kWindowBytes, credit_ + bytes);
    if (!error_) sent = pump();
  }
  for (const Promise<void>& each : sent) each.set({});
  leave_if_over();
}

void Stream::when_reset(std::function<void()> call) {
  {
    std::lock_guard lock(mutex_);
    if (!error_) {
      on_reset_ = std::move(call);
      return;
    }
  }
  call();
}

void Stream::reset(const Error& why, bool tell) {
  std::optional<Promise<StreamEvent>> reader;
  std::function<void()> on_reset;
  std::deque<Outgoing> dropped;
  {
    std::lock_guard lock(mutex_);
    if (error_) return;
    error_ = why;
    reader.swap(reader_);
    dropped.swap(out_);
    on_reset.swap(on_reset_);
    if (tell && !over()) {
      Frame frame;
      frame.type = FrameType::reset;
      frame.stream = id_;
      frame.payload = encode_error(why);
      send_(encode(frame));
    }
    left_ = true;
  }
  if (auto peer = peer_.lock()) peer->forget(id_);
  opened_.set(why);
  if (reader) reader->set(why);
  for (const Outgoing& each : dropped) {
    if (each.sent) each.sent->set(why);
  }
  if (on_reset) on_reset();
}

// What has arrived can still be read; the other end has forgotten the stream, and so do we. A reader that
// still waits is let go: it may hold what holds this stream.
void Stream::leave_if_over() {
  std::optional<Promise<StreamEvent>> reader;
  {
    std::lock_guard lock(mutex_);
    if (left_ || !over()) return;
    left_ = true;
    reader.swap(reader_);
  }
  if (auto peer = peer_.lock()) peer->forget(id_);
  if (reader) reader->set(Error(Error::cancelled, "tunnel", "the stream has ended"));
}

}  // namespace orchestra::tunnel
