#pragma once
// StateStore: an ordered key space with one revision, compare-and-put and watches that lose nothing.
//
// One interface, three implementations behind one conformance suite: MemoryStore, RaftStore (one or
// several peers on disk) and EtcdStore. Semantics follow etcd v3 (api/mvccpb/kv.proto): an empty store
// is at revision 1, a transaction that changes something takes one revision. Every call may be made
// from any thread and never blocks; answers come as Pending. Since 0.1.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/pending.hpp"
#include "orchestra/units.hpp"

namespace orchestra {

using Revision = std::int64_t;  ///< 0 = newest where a revision may be left out
using LeaseId = std::int64_t;   ///< 0 = none

/// Reference-counted immutable bytes in one block: no copy between log, tree and reader. One pointer
/// wide; copying takes a reference.
class ORC_API Value {
 public:
  Value() = default;
  Value(std::string_view bytes) : Value(concat({bytes})) {}
  Value(const std::string& bytes) : Value(std::string_view(bytes)) {}
  Value(const char* bytes) : Value(std::string_view(bytes)) {}
  /// The parts one after the other, copied once.
  static Value concat(std::initializer_list<std::string_view> parts);
  Value(const Value& other) noexcept : block_(other.block_) { retain(); }
  Value(Value&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  Value& operator=(Value other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~Value() { release(); }
  std::string_view bytes() const {
    return block_ != nullptr ? std::string_view(block_->bytes(), block_->size) : std::string_view();
  }
  std::size_t size() const { return block_ != nullptr ? block_->size : 0; }
  friend bool operator==(const Value& a, const Value& b) {
    return a.block_ == b.block_ || a.bytes() == b.bytes();
  }

 private:
  struct Block {
    std::atomic<std::uint32_t> references;
    std::uint32_t size;
    char* bytes() { return reinterpret_cast<char*>(this + 1); }
  };
  void retain() const noexcept {
    if (block_ != nullptr) block_->references.fetch_add(1, std::memory_order_relaxed);
  }
  void release() noexcept;
  Block* block_ = nullptr;
};

/// The typed extra of `conflict` errors too: the key-value that is there now.
struct KeyValue {
  std::string key;
  Value value;
  Revision create_revision = 0;
  Revision mod_revision = 0;  ///< 0: the key does not exist
  std::int64_t version = 0;   ///< 1 at creation, +1 per put, restarts after a delete
  LeaseId lease = 0;
};

/// [begin, end) in byte order; an empty `end` with `single` = just the key `begin`.
struct KeyRange {
  std::string begin;
  std::string end;  ///< exclusive; ignored if single or to_the_end
  bool single = false;
  bool to_the_end = false;  ///< no upper bound
  bool contains(std::string_view key) const {
    if (single) return key == begin;
    return key >= begin && (to_the_end || key < end);
  }
};
inline KeyRange Key(std::string key) { return {std::move(key), {}, true, false}; }
/// All keys that start with `prefix`; an empty one means everything.
ORC_API KeyRange KeyPrefix(std::string prefix);

enum class Consistency : std::uint8_t { linearizable, serializable };

struct GetOptions {
  Revision revision = 0;
  Consistency consistency = Consistency::linearizable;
};
struct GetResult {
  std::optional<KeyValue> kv;  ///< empty: no such key (not an error)
  Revision revision = 0;       ///< of the store
};
struct RangeOptions {
  std::size_t limit = 0;  ///< 0 = all
  Revision revision = 0;
  bool keys_only = false;
  bool count_only = false;
  bool descending = false;
  Consistency consistency = Consistency::linearizable;
};
struct RangeResult {
  std::vector<KeyValue> items;
  bool more = false;
  std::uint64_t count = 0;  ///< of the whole range, whatever the limit
  Revision revision = 0;
};

struct PutOptions {
  std::optional<Revision> if_mod_revision = std::nullopt;  ///< 0 = must not exist
  std::optional<std::int64_t> if_version = std::nullopt;
  LeaseId lease = 0;
  bool want_previous = false;
  std::string request_id = {};  ///< repeat-safe where capabilities().exactly_once
};
struct RemoveOptions {
  std::optional<Revision> if_mod_revision = std::nullopt;
  bool want_previous = false;
};
struct WriteResult {
  Revision revision = 0;  ///< of the store after the write
  std::uint64_t removed = 0;
  std::vector<KeyValue> previous;
};

struct Compare {
  enum class Target : std::uint8_t { version, create, mod, value, lease };
  enum class Op : std::uint8_t { equal, not_equal, less, greater };
  KeyRange range;  ///< over a range: must hold for every key in it
  Target target = Target::mod;
  Op op = Op::equal;
  std::int64_t number = 0;
  std::string value = {};
};
struct Txn;
struct TxnOp {
  enum class Type : std::uint8_t { put, remove, range, txn };
  Type type = Type::put;
  KeyRange range;  ///< put: single; txn: unused
  Value value = {};
  LeaseId lease = 0;
  bool want_previous = false;
  RangeOptions range_options = {};
  /// txn: exactly one, else none. All conditions, its own too, are decided on the state before the outermost
  /// txn writes anything; what runs is one revision. Since 0.2.
  std::vector<Txn> nested;
};
/// A key is put at most once, and not also removed, by all that may run together: nested ones count with both
/// of their branches. `txn_ops_max` counts the nested ones' conditions and operations too.
struct Txn {
  std::vector<Compare> compares;
  std::vector<TxnOp> then;
  std::vector<TxnOp> otherwise;
};
struct TxnResult {
  bool succeeded = false;
  Revision revision = 0;
  struct OpResult {
    std::uint64_t removed = 0;
    std::vector<KeyValue> previous;
    RangeResult range;
    std::vector<TxnResult> nested;  ///< of a nested txn: one. Since 0.2.
  };
  std::vector<OpResult> ops;
};

struct WatchEvent {
  enum class Type : std::uint8_t { put, remove };
  Type type = Type::put;
  KeyValue kv;  ///< remove: key and mod_revision (the revision of the removal) only
  std::optional<KeyValue> previous;
};
/// Whole revisions in order; a revision is never split over batches.
struct WatchBatch {
  std::vector<WatchEvent> events;  ///< empty: a progress notice
  Revision revision = 0;           ///< everything up to here was delivered
};
struct WatchOptions {
  KeyRange range;
  std::optional<Revision> after = std::nullopt;  ///< deliver after+1...; absent = from now on
  bool no_put = false;
  bool no_remove = false;
  bool want_previous = true;
  Bytes credit = Bytes{1 << 20};  ///< bytes of events in one batch at most (one revision always fits)
};

/// A stream of changes, pulled and bounded. Movable handle; dropping it ends the watch.
class ORC_API Watch {
 public:
  struct Impl {
    virtual ~Impl() = default;
    virtual Result<std::optional<WatchBatch>> next(Duration deadline) = 0;
    virtual void notify(std::function<void()> ready) = 0;
    virtual Result<std::optional<WatchBatch>> poll() = 0;
    virtual void cancel() = 0;
    virtual Revision progress() = 0;
  };
  explicit Watch(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
  /// The next batch, waiting at most `deadline`; nullopt when it passed or the watch has ended:
  /// then error() tells (`compacted` with CompactedDetail, `cancelled`), if it is an end.
  std::optional<WatchBatch> next(Duration deadline);
  /// What is there now, without waiting; for event-driven readers together with notify().
  std::optional<WatchBatch> poll();
  /// Calls `ready` once (any thread; it must not block or call the watch) when poll() has something or
  /// the watch has ended; at once if so already. Arm it again after each call.
  void notify(std::function<void()> ready);
  /// Why the watch ended, if it did.
  const std::optional<Error>& error() const { return error_; }
  /// Ends the watch; returns only after a running `ready` callback has finished (unless called by it).
  void cancel();
  /// Every event up to this revision was handed out by next() or poll(): what a bookmark may carry.
  Revision progress() { return impl_->progress(); }

 private:
  std::unique_ptr<Impl> impl_;
  std::optional<Error> error_;
};

/// Details of `compacted` and `future` errors.
struct RevisionDetail {
  Revision compacted = 0;
  Revision current = 0;
};

/// A pinned immutable root: many ranges at one revision, without locks or copies. Expires after 5 min.
class ORC_API Snapshot {
 public:
  struct Impl {
    virtual ~Impl() = default;
    virtual Revision revision() const = 0;
    virtual Result<RangeResult> range(const KeyRange& range, const RangeOptions& options) = 0;
  };
  explicit Snapshot(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  Revision revision() const { return impl_->revision(); }
  Result<RangeResult> try_range(const KeyRange& range, const RangeOptions& options = {}) const {
    return impl_->range(range, options);
  }
  /// The items; empty if the snapshot has expired (use try_range to tell).
  std::vector<KeyValue> range(const KeyRange& range) const;

 private:
  std::shared_ptr<Impl> impl_;
};

struct LeaseInfo {
  LeaseId id = 0;
  std::chrono::seconds ttl{};
  std::chrono::seconds remaining{};
  std::vector<std::string> keys;
};
struct StoreCapabilities {
  bool watch_progress = true;
  bool range_stream = true;
  bool exactly_once = false;
  Bytes value_bytes_max{3u << 20};
  Bytes key_bytes_max{4u << 10};
  std::size_t txn_ops_max = 1024;
  std::size_t txn_depth_max = 8;  ///< of txns within txns, the outermost counts. Since 0.2.
};
struct StoreStatus {
  std::string kind;  ///< "memory", "raft", "etcd"
  std::string role;  ///< "leader", ...
  std::string cluster_id;
  std::uint64_t term = 0, log_index = 0, applied_index = 0;
  Revision revision = 0, compacted_revision = 0;
  std::uint64_t keys = 0;
  Bytes state_bytes, log_bytes, ring_bytes;
  std::uint64_t watchers = 0, leases = 0;
  std::string durability;
  double sync_p50_us = 0, sync_p99_us = 0;
  std::vector<std::string> alarms;
  std::vector<std::string> notes;  ///< e.g. "cut a torn record at offset 4096 of segment 3"
};

class ORC_API StateStore {
 public:
  virtual ~StateStore() = default;

  virtual Pending<GetResult> get(std::string key, GetOptions options = {}) = 0;
  virtual Pending<RangeResult> range(KeyRange range, RangeOptions options = {}) = 0;
  virtual Pending<Snapshot> snapshot(Revision revision = 0,
                                     Consistency consistency = Consistency::linearizable) = 0;
  virtual Pending<WriteResult> put(std::string key, Value value, PutOptions options = {}) = 0;
  virtual Pending<WriteResult> remove(KeyRange range, RemoveOptions options = {}) = 0;
  virtual Pending<TxnResult> txn(Txn txn) = 0;
  virtual Result<Watch> watch(WatchOptions options) = 0;

  /// `id` 0 lets the store choose. TTL 1 s..24 h.
  virtual Pending<LeaseId> lease_grant(std::chrono::seconds ttl, LeaseId id = 0) = 0;
  virtual Pending<void> lease_keep_alive(LeaseId id) = 0;
  virtual Pending<void> lease_revoke(LeaseId id) = 0;
  virtual Pending<LeaseInfo> lease_time_to_live(LeaseId id, bool want_keys = false) = 0;
  virtual Pending<std::vector<LeaseInfo>> lease_list() = 0;

  virtual Pending<void> compact(Revision revision) = 0;
  /// Of the local tree, without waiting.
  virtual Revision revision() const = 0;
  virtual Revision compacted_revision() const = 0;
  /// Returns when the local tree has applied `revision`.
  virtual Pending<void> wait_revision(Revision revision, Duration deadline) = 0;
  virtual StoreStatus status() const = 0;
  virtual StoreCapabilities capabilities() const = 0;
  /// Streams a consistent snapshot file; `sink` is called in order from one worker thread.
  virtual Pending<Revision> save_snapshot(std::function<Result<void>(std::string_view)> sink) = 0;
  /// A random id made at bootstrap plus the restore epoch.
  virtual std::string cluster_id() const = 0;
  /// Refuses new calls, ends watches, waits for what is in flight.
  virtual void stop() = 0;
};

}  // namespace orchestra
