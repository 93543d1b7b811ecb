#pragma once
// The last events of one Runtime, for any number of readers, each at its own place.
//
// Writers never wait: the oldest event is dropped when kEventsMax are kept, and a reader that was further
// behind gets one `gap` that names what it missed.
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "orchestra/runtime.hpp"

namespace orchestra::runtime {

inline constexpr std::size_t kEventsMax = 4096;

class EventRing {
 public:
  void add(RuntimeEvent event);
  /// Events after `last`, which is moved; nothing when none came in time or the ring was closed.
  std::optional<std::vector<RuntimeEvent>> next(std::uint64_t& last, Duration deadline);
  void close();
  std::uint64_t last();  ///< sequence of the newest event

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<RuntimeEvent> events_;
  std::uint64_t sequence_ = 0;
  bool closed_ = false;
};

}  // namespace orchestra::runtime
