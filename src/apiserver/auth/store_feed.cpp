// Following a prefix of the store: see store_feed.hpp.
#include "apiserver/auth/store_feed.hpp"

namespace orchestra::apiserver {
namespace {
constexpr Duration kLoadDeadline = std::chrono::seconds(10);
}

Result<void> StoreFeed::load() {
  ORC_ASSIGN(const Snapshot snapshot, store_->snapshot(0, Consistency::serializable).wait(kLoadDeadline));
  ORC_ASSIGN(RangeResult found, snapshot.try_range(KeyPrefix(prefix_)));
  WatchOptions options;
  options.range = KeyPrefix(prefix_);
  options.after = snapshot.revision();
  options.want_previous = false;
  ORC_ASSIGN(Watch watch, store_->watch(std::move(options)));
  reset_();
  for (const KeyValue& kv : found.items) take_(kv.key, &kv.value);
  watch_.emplace(std::move(watch));
  complained_ = false;
  return {};
}

void StoreFeed::refresh() {
  while (watch_) {
    auto batch = watch_->poll();
    if (!batch) {
      if (watch_->error()) break;
      return;
    }
    for (const WatchEvent& event : batch->events) {
      take_(event.kv.key, event.type == WatchEvent::Type::put ? &event.kv.value : nullptr);
    }
  }
  if (auto loaded = load(); !loaded && !complained_) {
    complained_ = true;
    engine_.log(LogLevel::error, "apiserver",
                "access is decided by what " + prefix_ + " held before: " + loaded.error().to_string());
  }
}

}  // namespace orchestra::apiserver
