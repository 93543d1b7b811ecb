#pragma once
// The watch hub: who must be woken by which change.
//
// A watcher has no buffer. It is a cursor into the revision ring plus a filter: while nothing that it
// wants happens it is "caught up" and costs nothing, whatever else is written; the first change that
// matches sets its cursor and wakes it, and it reads everything from there when it has time. A slow
// watcher therefore holds no memory and delays nobody; if the ring's tail passes its cursor it ends with
// `compacted`.
// The index finds the matching watchers of a key without asking the others: a hash for single keys, a
// hash per prefix length for prefixes, a list for odd ranges.
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "store/mvcc/state.hpp"

namespace orchestra::store {

class Watcher {
 public:
  // Set at the start, then constant.
  KeyRange range;
  bool no_put = false, no_remove = false, want_previous = false;
  std::uint64_t credit = 0;
  Revision floor = 0;  ///< changes up to here are not for this watcher

  // Guarded by the owner of the hub.
  std::optional<Sequence> cursor;  ///< the first change not looked at; none: caught up
  std::optional<Error> ended;

  bool wants(const Change& change) const {
    return change.revision > floor && !(change.now->tombstone() ? no_remove : no_put) &&
           range.contains(change.now->key());
  }

  /// There is something to read: wakes next() and calls what arm() left. No lock may be held.
  void signal();
  void arm(std::function<void()> ready);
  /// Waits for signal() or the deadline; a signal since the last clear_signal() counts.
  void wait_signal(Duration deadline);
  void clear_signal();
  /// Returns when no callback runs, unless called from within it; none will run later.
  void quiesce();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> ready_;
  bool signalled_ = false;
  bool quiet_ = false;
  std::thread::id calling_;
};

/// Guarded by its owner, all of it.
class WatchHub {
 public:
  using Wake = std::vector<std::shared_ptr<Watcher>>;
  void add(std::shared_ptr<Watcher> watcher);
  void remove(Watcher* watcher);
  /// Sets the cursors of caught-up watchers that want `change` and adds them to `wake`.
  void match(const Change& change, Sequence sequence, Wake& wake) const;
  /// Ends all watchers with `error` and adds them to `wake`.
  void end_all(const Error& error, Wake& wake);
  /// The state is about to be replaced: cursors move to the same revision there, or end `compacted`.
  void move_to(const MvccState& before, const MvccState& after, Wake& wake);
  std::size_t size() const { return all_.size(); }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view key) const { return std::hash<std::string_view>()(key); }
  };
  using List = std::vector<Watcher*>;
  using Table = std::unordered_map<std::string, List, Hash, std::equal_to<>>;
  List& list_of(const KeyRange& range);
  void match_list(const List& list, const Change& change, Sequence sequence, Wake& wake) const;
  void drop_if_empty(const KeyRange& range);

  std::unordered_map<Watcher*, std::shared_ptr<Watcher>> all_;
  Table by_key_;
  std::map<std::size_t, Table> by_prefix_;  ///< prefix length -> prefix -> watchers
  List others_;
};

}  // namespace orchestra::store
