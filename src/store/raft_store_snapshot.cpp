// RaftStore: snapshots that let the log be cut, and snapshots to and from other peers.
//
// Order of taking one: temporary file, sync, rename, sync of the folder, record in the log, sync, and only
// then do segments and older snapshots go. A crash between any two steps leaves either the old pair of
// snapshot and log, or the new one. One that comes from a peer is written to a .part file (kept over a broken
// connection), verified into a state of its own, renamed, and then offered to the core; the record in the log
// makes it count, before the sender is told.
#include <algorithm>

#include "base/assert.hpp"
#include "orchestra/env.hpp"
#include "store/planted.hpp"
#include "store/raft_store.hpp"
#include "store/restore.hpp"

namespace orchestra::store {
namespace {
constexpr std::uint64_t kSnapshotLogBytesMost = 512u << 20;
constexpr std::uint64_t kSnapshotFileMax = 256ull << 30;
}  // namespace

/// Called by the applier: the state is exactly that of the applied index.
void RaftStoreImpl::maybe_snapshot_locked() {
  if (snapshot_running_ || stopping_ || failed_ || installing_) return;
  const std::uint64_t since = log_grown_ - log_grown_at_snapshot_;
  std::uint64_t threshold = options_.snapshot_log_bytes.value;
  {
    std::lock_guard lock(core_->mutex);
    if (core_->applied.index.value == 0) return;  // nothing that a snapshot could be of
    // Half of what it would hold: the state and its history.
    const std::uint64_t held = core_->state.bytes() + core_->state.history().bytes();
    threshold = std::min(std::max(threshold, held / 2),
                         std::max(kSnapshotLogBytesMost, options_.snapshot_log_bytes.value));
  }
  if (since >= threshold || snapshot_due_) begin_snapshot_locked();
}

void RaftStoreImpl::begin_snapshot_locked() {
  snapshot_running_ = true;
  snapshot_due_ = false;
  auto image = std::make_shared<SnapshotImage>(capture());
  image->meta.configuration = core_raft_->configuration_at(image->meta.index);
  image->zstd_level = options_.snapshot_zstd;
  auto queued = engine_.post_blocking([this, keep = shared_from_this(), image, grown = log_grown_]() mutable {
    take_snapshot(std::move(*image), grown);
    image.reset();
  });
  if (!queued) snapshot_running_ = false;  // tried again after the next batch
}

void RaftStoreImpl::take_snapshot(SnapshotImage image, std::uint64_t log_grown) {
  add_history(image);
  const auto written = write_snapshot_to(disk_, snapshot_path({image.meta.index, image.meta.term}), image);
  const SnapshotMarker marker{image.meta.index, image.meta.term};
  const Configuration configuration = image.meta.configuration;
  image = {};
  std::lock_guard lock(raft_mutex_);
  snapshot_running_ = false;
  quiet_.notify_all();
  log_grown_at_snapshot_ = log_grown;  // if it failed, too: not at once again
  if (!written) {
    engine_.log(LogLevel::error, "store", "a snapshot could not be written: " + written.error().to_string());
    return;
  }
  if (failed_ || stopping_) return;  // the file stays without its record; the next start removes it
  if (newest_snapshot_ && newest_snapshot_->index == marker.index) forget_rot_locked();  // written anew
  const bool newer = (!newest_snapshot_ || newest_snapshot_->index < marker.index) &&
                     (!batch_.snapshot || batch_.snapshot->index < marker.index) &&
                     recording_ < marker.index && !installing_;
  if (!newer) return;  // one from a peer came in between
  batch_.snapshot = marker;
  marker_configurations_[marker.index] = configuration;
  wake_log_locked();
}

// ---- to peers that fell behind

void RaftStoreImpl::send_snapshots_locked() {
  if (core_raft_->role() != Role::leader) {
    snapshots_wanted_.clear();
    return;
  }
  // Usable: what follows it is still in the core's log.
  const bool usable = newest_snapshot_ && newest_snapshot_->index >= core_raft_->base_index() &&
                      newest_snapshot_->index.value != 0 && !snapshot_configuration_.members.empty();
  if (!usable) {
    // While nothing is being applied the state is exactly that of the applied index.
    const bool still = applying_ == Applying::idle;
    if (!snapshot_running_ && still && !batch_.snapshot && core_raft_->applied().value != 0)
      begin_snapshot_locked();
    if (!snapshot_running_ && !batch_.snapshot) {
      for (const PeerId peer : std::exchange(snapshots_wanted_, {}))
        core_raft_->report_snapshot(peer, {}, false);  // asked again soon
    }
    return;
  }
  for (const PeerId peer : std::exchange(snapshots_wanted_, {})) {
    Message message;
    message.type = MessageType::snapshot;
    message.from = PeerId{identity_.peer};
    message.to = peer;
    message.term = core_raft_->term();
    message.index = newest_snapshot_->index;
    message.log_term = newest_snapshot_->term;
    message.configuration = snapshot_configuration_;
    auto queued = engine_.post_blocking([self = std::static_pointer_cast<RaftStoreImpl>(shared_from_this()),
                                         peer, marker = *newest_snapshot_,
                                         message] { self->send_snapshot_now(peer, marker, message); });
    if (!queued) core_raft_->report_snapshot(peer, {}, false);
  }
}

void RaftStoreImpl::send_snapshot_now(PeerId to, SnapshotMarker marker, Message message) {
  auto file = disk_.open(snapshot_path(marker), Disk::Open::existing);
  if (!file) return snapshot_sent(to, marker.index, file.error());
  auto size = (*file)->size();
  if (!size) return snapshot_sent(to, marker.index, size.error());
  net_->send_snapshot(to, std::shared_ptr<DiskFile>(std::move(*file)), *size, std::move(message),
                      [weak = weak_from_this(), to, index = marker.index](const Result<void>& result) {
                        auto self = std::static_pointer_cast<RaftStoreImpl>(weak.lock());
                        if (self) self->snapshot_sent(to, index, result);
                      });
}

void RaftStoreImpl::snapshot_sent(PeerId to, Index index, const Result<void>& result) {
  if (!result && !result.error().is(Error::busy)) {
    engine_.log(
        LogLevel::warning, "store",
        "a snapshot to peer " + std::to_string(to.value) + " was not taken: " + result.error().to_string());
  }
  std::lock_guard lock(raft_mutex_);
  if (failed_ || stopping_) return;
  core_raft_->report_snapshot(to, index, result.has_value());
  collect_locked();
}

// ---- from the leader

class RaftStoreImpl::Receiver final : public SnapshotReceiver {
 public:
  Receiver(std::shared_ptr<RaftStoreImpl> store, std::string path, std::unique_ptr<DiskFile> file,
           std::uint64_t have, std::uint64_t bytes)
      : store_(std::move(store)),
        path_(std::move(path)),
        file_(std::move(file)),
        have_(have),
        bytes_(bytes) {}
  std::uint64_t offset() const override { return have_; }
  Result<void> write(std::uint64_t offset, std::string_view bytes) override {
    if (offset != have_ || offset + bytes.size() > bytes_)
      return Error(Error::invalid, "store", "a snapshot chunk came out of order");
    ORC_TRY(file_->write_at(offset, bytes));
    have_ += bytes.size();
    return {};
  }
  Result<void> finish(Message message) override {
    if (have_ != bytes_) return Error(Error::invalid, "store", "the snapshot ended early");
    ORC_TRY(file_->sync());
    file_.reset();
    auto installed = store_->install_snapshot(path_, std::move(message));
    if (!installed) (void)store_->disk_.remove(path_);
    return installed;
  }

 private:
  const std::shared_ptr<RaftStoreImpl> store_;
  const std::string path_;
  std::unique_ptr<DiskFile> file_;
  std::uint64_t have_;
  const std::uint64_t bytes_;
};

Result<std::shared_ptr<SnapshotReceiver>> RaftStoreImpl::receive_snapshot(const Hello& hello) {
  {
    std::lock_guard lock(raft_mutex_);
    if (failed_) return *failed_;
    if (hello.index <= core_raft_->commit())
      return Error(Error::already_exists, "store", "what this snapshot holds is here already");
  }
  if (hello.file_bytes > kSnapshotFileMax)
    return Error(Error::too_large, "store", "a snapshot of " + std::to_string(hello.file_bytes) + " bytes");
  const std::string path = snapshot_path({hello.index, hello.term}) + ".part";
  ORC_ASSIGN(auto file, disk_.open(path, Disk::Open::create_or_open));
  ORC_ASSIGN(std::uint64_t have, file->size());
  if (have > hello.file_bytes) {
    ORC_TRY(file->truncate(0));
    have = 0;
  }
  return std::shared_ptr<SnapshotReceiver>(
      std::make_shared<Receiver>(std::static_pointer_cast<RaftStoreImpl>(shared_from_this()), path,
                                 std::move(file), have, hello.file_bytes));
}

Result<void> RaftStoreImpl::install_snapshot(const std::string& file, Message message) {
  auto arrived = std::make_shared<Arrived>();
  arrived->point = {message.index, message.log_term};
  {
    ORC_ASSIGN(const auto opened, disk_.open(file, Disk::Open::existing));
    auto summary = read_snapshot(snapshot_source(*opened), &arrived->state);
    if (!summary) return summary.error().with_context(file);
    const SnapshotMeta& meta = summary->meta;
    if (meta.identity.cluster != identity_.cluster || meta.identity.epoch != identity_.epoch ||
        meta.index != message.index || meta.term != message.log_term) {
      return Error(Error::invalid, "store", "the snapshot belongs to another cluster or another time");
    }
  }
  const std::string path = snapshot_path({message.index, message.log_term});
  ORC_TRY(disk_.rename(file, path));
  ORC_TRY(disk_.sync_directory(options_.data_dir));
  std::lock_guard lock(raft_mutex_);
  if (failed_ || stopping_) return Error(Error::unavailable, "store", "this peer is stopping");
  arriving_ = arrived;
  core_raft_->step(message);
  collect_locked();
  // Not wanted any more: entries have overtaken it. The file stays until the next snapshot or start: an own
  // one of the same index, which the log names, has the same name.
  arriving_ = nullptr;
  return {};
}

/// The core has taken the snapshot that was just offered: it goes in front of everything else.
void RaftStoreImpl::take_install_locked(const SnapshotPoint& point) {
  ORC_ASSERT(arriving_ && arriving_->point.index == point.index);
  installing_ = std::exchange(arriving_, nullptr);
  committed_.clear();
  committed_bytes_ = 0;
  batch_.entries.clear();
  batch_.snapshot = SnapshotMarker{point.index, point.term};
  batch_.install = true;
  marker_configurations_[point.index] = core_raft_->configuration_at(point.index);
  schedule_apply_locked();
}

}  // namespace orchestra::store
