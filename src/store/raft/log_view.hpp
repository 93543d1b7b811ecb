#pragma once
// The entries that the core still needs in memory: those behind the last snapshot or trim point. Pure.
#include <algorithm>
#include <deque>

#include "base/assert.hpp"
#include "store/raft/types.hpp"

namespace orchestra::store {

class LogView {
 public:
  LogView(Index base, Term base_term, std::vector<Entry> entries) : base_(base), base_term_(base_term) {
    for (Entry& entry : entries) append(std::move(entry));
  }
  Index base() const { return base_; }
  Index last() const { return {base_.value + entries_.size()}; }
  Term last_term() const { return entries_.empty() ? base_term_ : entries_.back().term; }
  /// Of the data of all entries here.
  std::size_t bytes() const { return bytes_; }
  /// Term{0} when the entry is not here any more, or not yet.
  Term term_at(Index index) const {
    if (index == base_) return base_term_;
    if (index < base_ || index > last()) return {};
    return at(index).term;
  }
  const Entry& at(Index index) const {
    ORC_ASSERT(index > base_);
    ORC_ASSERT(index <= last());
    return entries_[index.value - base_.value - 1];
  }
  void append(Entry entry) {
    ORC_ASSERT(entry.index.value == last().value + 1);
    ORC_ASSERT(entry.term >= last_term());
    bytes_ += entry.bytes().size();
    entries_.push_back(std::move(entry));
  }
  /// Drops `from` and all after it.
  void truncate(Index from) {
    ORC_ASSERT(from > base_);
    while (last() >= from) {
      bytes_ -= entries_.back().bytes().size();
      entries_.pop_back();
    }
  }
  /// Forgets all up to `index`.
  void trim(Index index) {
    ORC_ASSERT(index <= last());
    while (base_ < index) {
      base_term_ = entries_.front().term;
      bytes_ -= entries_.front().bytes().size();
      entries_.pop_front();
      ++base_.value;
    }
  }
  /// Forgets everything: a snapshot up to (index, term) takes its place.
  void reset(Index index, Term term) {
    entries_.clear();
    bytes_ = 0;
    base_ = index;
    base_term_ = term;
  }
  /// Entries from `from` on, at most about `bytes_max` (at least one).
  std::vector<Entry> slice(Index from, Index to, std::size_t bytes_max) const {
    std::vector<Entry> part;
    std::size_t bytes = 0;
    for (Index index = from; index <= to; ++index.value) {
      bytes += at(index).bytes().size();
      if (bytes > bytes_max && !part.empty()) break;
      part.push_back(at(index));
    }
    return part;
  }
  /// The first index of the term that the entry at `index` has.
  Index first_of_term(Index index) const {
    const Term term = term_at(index);
    while (index.value > base_.value + 1 && term_at({index.value - 1}) == term) --index.value;
    return index;
  }

 private:
  Index base_;
  Term base_term_;
  std::deque<Entry> entries_;
  std::size_t bytes_ = 0;
};

}  // namespace orchestra::store
