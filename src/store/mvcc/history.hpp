#pragma once
// The revision ring: every change since the compacted revision, in order, with what it replaced.
//
// Watches read it forwards from a position, reads at an old revision undo it backwards from a newer
// tree. Compaction moves its tail: no scan, no tombstones. A position (`Sequence`) counts changes since
// the store began and never repeats, so a reader notices that it fell off the tail.
// To keep undoing short, a copy of the tree is kept now and then (at most kKeptTreesMax; when there are
// more, every other one goes and the distance doubles).
// Pure; the owner synchronises.
#include <cstdint>
#include <deque>
#include <vector>

#include "store/mvcc/record.hpp"
#include "store/mvcc/tree.hpp"

namespace orchestra::store {

using Sequence = std::uint64_t;

struct Change {
  Revision revision = 0;
  RecordRef now;       ///< a tombstone for a removal
  RecordRef previous;  ///< empty: the key was not there
};

/// A newer tree and the changes to take back, newest first, to reach `revision`.
struct OldTree {
  Tree base;
  Revision revision = 0;
  std::vector<Change> undo;
  Tree build() &&;
};

class History {
 public:
  Sequence begin() const { return first_; }
  Sequence end() const { return first_ + changes_.size(); }
  const Change& at(Sequence sequence) const { return changes_[sequence - first_]; }
  /// The first change after `revision` (end() if there is none).
  Sequence after(Revision revision) const;
  std::uint64_t bytes() const { return bytes_; }

  void append(Change change);
  /// To be called after each revision: may keep a copy of `tree`.
  void keep_tree(const Tree& tree, Revision revision);
  /// Forgets all changes up to `revision`.
  void compact(Revision revision);

  /// How to get the tree as of `revision` (>= the compacted one); `newest` is the tree of `current`.
  OldTree plan(const Tree& newest, Revision current, Revision revision) const;

 private:
  static constexpr std::size_t kKeptTreesMax = 64;
  struct KeptTree {
    Revision revision;
    Tree tree;
  };
  std::deque<Change> changes_;
  Sequence first_ = 0;
  std::uint64_t bytes_ = 0;
  std::deque<KeptTree> kept_;
  std::uint64_t keep_every_ = 1024;
  std::uint64_t since_kept_ = 0;
};

}  // namespace orchestra::store
