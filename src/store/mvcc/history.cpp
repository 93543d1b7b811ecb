// The revision ring of history.hpp.
#include "store/mvcc/history.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace orchestra::store {
namespace {
/// What a change keeps in memory beside the current tree: itself, the replaced record, a tombstone.
std::uint64_t cost(const Change& change) {
  std::uint64_t bytes = sizeof(Change);
  if (change.previous) bytes += change.previous->bytes();
  if (change.now->tombstone()) bytes += change.now->bytes();
  return bytes;
}
}  // namespace

Tree OldTree::build() && {
  for (const Change& change : undo) {
    if (change.previous) {
      base.put(change.previous);
    } else {
      base.erase(change.now->key());
    }
  }
  return std::move(base);
}

Sequence History::after(Revision revision) const {
  const auto found =
      std::upper_bound(changes_.begin(), changes_.end(), revision,
                       [](Revision wanted, const Change& change) { return wanted < change.revision; });
  return first_ + static_cast<Sequence>(found - changes_.begin());
}

void History::append(Change change) {
  ORC_ASSERT(changes_.empty() || changes_.back().revision <= change.revision);
  bytes_ += cost(change);
  changes_.push_back(std::move(change));
  ++since_kept_;
}

void History::keep_tree(const Tree& tree, Revision revision) {
  if (since_kept_ < keep_every_) return;
  since_kept_ = 0;
  kept_.push_back({revision, tree});
  if (kept_.size() <= kKeptTreesMax) return;
  std::deque<KeptTree> fewer;
  for (std::size_t i = 1; i < kept_.size(); i += 2) fewer.push_back(std::move(kept_[i]));
  kept_ = std::move(fewer);
  keep_every_ *= 2;
}

void History::compact(Revision revision) {
  while (!changes_.empty() && changes_.front().revision <= revision) {
    bytes_ -= cost(changes_.front());
    changes_.pop_front();
    ++first_;
  }
  while (!kept_.empty() && kept_.front().revision < revision) kept_.pop_front();
  if (kept_.size() < kKeptTreesMax / 4) keep_every_ = std::max<std::uint64_t>(1024, keep_every_ / 2);
}

OldTree History::plan(const Tree& newest, Revision current, Revision revision) const {
  ORC_ASSERT(revision <= current);
  OldTree old{newest, revision, {}};
  Revision from = current;
  const auto kept =
      std::lower_bound(kept_.begin(), kept_.end(), revision,
                       [](const KeptTree& tree, Revision wanted) { return tree.revision < wanted; });
  if (kept != kept_.end()) {
    old.base = kept->tree;
    from = kept->revision;
  }
  const Sequence stop = after(revision);
  for (Sequence at = after(from); at > stop; --at) old.undo.push_back(this->at(at - 1));
  return old;
}

}  // namespace orchestra::store
