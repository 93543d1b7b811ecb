// Ordered writes: see frame_sink.hpp.
#include "apiserver/streams/frame_sink.hpp"

#include <utility>
#include <vector>

namespace orchestra::apiserver {

Pending<void> FrameSink::send(std::string frame) {
  Promise<void> sent;
  Pending<void> pending = sent.pending();
  {
    std::lock_guard lock(mutex_);
    queue_.push_back({std::move(frame), sent});
    if (busy_ || held_) return pending;
    busy_ = true;
  }
  pump();
  return pending;
}

void FrameSink::hold() {
  std::lock_guard lock(mutex_);
  held_ = true;
}

void FrameSink::release() {
  {
    std::lock_guard lock(mutex_);
    if (!std::exchange(held_, false) || busy_ || queue_.empty()) return;
    busy_ = true;
  }
  pump();
}

void FrameSink::pump() {
  std::string joined;
  std::vector<Promise<void>> promises;
  {
    std::lock_guard lock(mutex_);
    while (!held_ && !queue_.empty() && joined.size() < kWriteBytesMax) {
      joined += queue_.front().frame;
      promises.push_back(std::move(queue_.front().sent));
      queue_.pop_front();
    }
    if (promises.empty()) {
      busy_ = false;
      return;
    }
  }
  auto self = shared_from_this();
  stream_->write(std::move(joined)).on_ready([self, promises = std::move(promises)](Result<void> written) {
    for (const Promise<void>& promise : promises) promise.set(written);
    // Posted: a write that completes at once must not nest.
    self->engine_.post([self] { self->pump(); });
  });
}

}  // namespace orchestra::apiserver
