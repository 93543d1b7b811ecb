// RaftStore: snapshots that let the log be cut.
//
// Order: temporary file, sync, rename, sync of the folder, record in the log, sync, and only then do
// segments and older snapshots go. A crash between any two steps leaves either the old pair of snapshot and
// log, or the new one.
#include <algorithm>

#include "orchestra/env.hpp"
#include "store/raft_store.hpp"
#include "store/restore.hpp"

namespace orchestra::store {
namespace {
constexpr std::uint64_t kSnapshotLogBytesMost = 512u << 20;
}  // namespace

/// Called by the applier: the state is exactly that of the applied index.
void RaftStoreImpl::maybe_snapshot_locked() {
  if (snapshot_running_ || stopping_ || failed_) return;
  const std::uint64_t since = log_bytes_ - std::min(log_bytes_, log_bytes_at_snapshot_);
  std::uint64_t threshold = options_.snapshot_log_bytes.value;
  {
    std::lock_guard lock(core_->mutex);
    threshold = std::min(std::max(threshold, core_->state.bytes() / 2),
                         std::max(kSnapshotLogBytesMost, options_.snapshot_log_bytes.value));
  }
  if (since < threshold) return;
  snapshot_running_ = true;
  auto image = std::make_shared<SnapshotImage>(capture());
  auto queued = engine_.post_blocking([this, keep = shared_from_this(), image, bytes = log_bytes_]() mutable {
    take_snapshot(std::move(*image), bytes);
    image.reset();
  });
  if (!queued) snapshot_running_ = false;  // tried again after the next batch
}

void RaftStoreImpl::take_snapshot(SnapshotImage image, std::uint64_t log_bytes) {
  add_history(image);
  const auto written = write_snapshot_to(disk_, snapshot_path({image.meta.index, image.meta.term}), image);
  const SnapshotMarker marker{image.meta.index, image.meta.term};
  image = {};
  std::lock_guard lock(raft_mutex_);
  snapshot_running_ = false;
  quiet_.notify_all();
  if (!written) {
    engine_.log(LogLevel::error, "store", "a snapshot could not be written: " + written.error().to_string());
    log_bytes_at_snapshot_ = log_bytes;  // not at once again
    return;
  }
  log_bytes_at_snapshot_ = 0;
  if (failed_ || stopping_) return;  // the file stays without its record; the next start removes it
  batch_.snapshot = marker;
  wake_log_locked();
}

}  // namespace orchestra::store
