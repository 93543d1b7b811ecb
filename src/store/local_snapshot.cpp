// LocalStore: images of the state for snapshots, and save_snapshot.
#include <algorithm>

#include "orchestra/env.hpp"
#include "store/disk/sha256.hpp"
#include "store/local_store.hpp"
#include "store/planted.hpp"

namespace orchestra::store {
namespace {
constexpr std::size_t kHistoryStep = 4096;  ///< changes copied under one lock: no writer waits long
}

std::string to_uuid(const std::array<char, 16>& bytes) {
  std::string hex = to_hex({bytes.data(), bytes.size()});
  for (const std::size_t at : {20u, 16u, 12u, 8u}) hex.insert(at, 1, '-');
  return hex;
}

SnapshotImage LocalStore::capture() const {
  std::lock_guard lock(core_->mutex);
  const MvccState& state = core_->state;
  SnapshotImage image;
  image.meta.identity = identity();
  image.meta.index = core_->applied.index;
  image.meta.term = core_->applied.term;
  image.meta.revision = state.revision();
  image.meta.compacted = state.compacted();
  if (!planted(Bug::forget_sessions)) image.meta.sessions = state.sessions();
  image.hash = state.hash();
  image.tree = state.tree();
  for (const auto& [id, lease] : state.leases()) image.leases.push_back({id, lease.ttl, lease.checkpoint});
  return image;
}

/// The ring may have been compacted further meanwhile; then the snapshot is, too.
void LocalStore::add_history(SnapshotImage& image) const {
  Revision done = 0;
  while (true) {
    std::lock_guard lock(core_->mutex);
    const MvccState& state = core_->state;
    const History& history = state.history();
    if (done == 0) done = image.meta.compacted = std::max(image.meta.compacted, state.compacted());
    if (image.meta.compacted > image.meta.revision) {
      image.meta.compacted = image.meta.revision;
      return;
    }
    if (state.compacted() > done) {  // a gap: what was copied before it is of no use
      image.changes.clear();
      done = 0;
      image.meta.compacted = state.compacted();
      continue;
    }
    Sequence at = history.after(done);
    std::size_t copied = 0;
    for (; at < history.end() && history.at(at).revision <= image.meta.revision; ++at, ++copied) {
      if (copied >= kHistoryStep && history.at(at).revision != done) break;
      image.changes.push_back(history.at(at));
      done = history.at(at).revision;
    }
    if (copied < kHistoryStep) return;
  }
}

Pending<Revision> LocalStore::save_snapshot(std::function<Result<void>(std::string_view)> sink) {
  if (auto no = refusal()) return std::move(*no);
  return engine_.run_blocking([self = shared_from_this(), sink = std::move(sink)]() -> Result<Revision> {
    SnapshotImage image = self->capture();
    self->add_history(image);
    ORC_ASSIGN(const SnapshotSummary summary, write_snapshot(image, sink));
    return summary.meta.revision;
  });
}

}  // namespace orchestra::store
