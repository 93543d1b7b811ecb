#include "runtime/events/event_ring.hpp"

namespace orchestra::runtime {
namespace {
constexpr std::size_t kBatchMax = 256;
}

void EventRing::add(RuntimeEvent event) {
  std::lock_guard lock(mutex_);
  event.sequence = ++sequence_;
  events_.push_back(std::move(event));
  if (events_.size() > kEventsMax) events_.pop_front();
  changed_.notify_all();
}

std::optional<std::vector<RuntimeEvent>> EventRing::next(std::uint64_t& last, Duration deadline) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, deadline, [&] { return closed_ || sequence_ > last; })) return std::nullopt;
  if (sequence_ <= last) return std::nullopt;
  std::vector<RuntimeEvent> batch;
  const std::uint64_t first = events_.front().sequence;
  if (last + 1 < first) {
    RuntimeEvent gap;
    gap.kind = RuntimeEvent::Kind::gap;
    gap.sequence = first - 1;
    gap.gap_from = last + 1;
    gap.gap_to = first - 1;
    batch.push_back(std::move(gap));
    last = first - 1;
  }
  for (std::size_t at = static_cast<std::size_t>(last + 1 - first);
       at < events_.size() && batch.size() < kBatchMax; ++at)
    batch.push_back(events_[at]);
  last = batch.back().sequence;
  return batch;
}

std::uint64_t EventRing::last() {
  std::lock_guard lock(mutex_);
  return sequence_;
}

void EventRing::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

}  // namespace orchestra::runtime
