// The move of migrate.hpp.
#include "store/migrate.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "store/disk/sha256.hpp"

namespace orchestra::store {
namespace {

constexpr std::uint64_t kTxnBytes = 1u << 20;  ///< below what etcd takes in one request
constexpr std::size_t kTxnOps = 128;
constexpr Duration kStep = std::chrono::seconds(60);

struct Content {
  std::vector<KeyValue> items;  ///< in key order
  Revision revision = 0;
};

Result<Content> read_all(StateStore& store) {
  ORC_ASSIGN(const Snapshot snapshot, store.snapshot().wait(kStep));
  ORC_ASSIGN(RangeResult all, snapshot.try_range(KeyPrefix("")));
  return Content{std::move(all.items), snapshot.revision()};
}

std::string hash_of(const Content& content, std::uint64_t& bytes) {
  Sha256 hash;
  bytes = 0;
  const auto add = [&](std::string_view part) {
    const std::uint64_t size = part.size();
    hash.add({reinterpret_cast<const char*>(&size), sizeof size});
    hash.add(part);
    bytes += size;
  };
  for (const KeyValue& kv : content.items) {
    add(kv.key);
    add(kv.value.bytes());
  }
  return to_hex(hash.finish());
}

Error changed(const Content& before, const Content& after) {
  return Error(Error::conflict, "store",
               "FROM was written to meanwhile (revision " + std::to_string(before.revision) + " to " +
                   std::to_string(after.revision) +
                   "); stop its writers, empty TO and migrate again, or let it follow (--follow)");
}

/// One move: what was copied, and the leases made for it.
class Move {
 public:
  Move(StateStore& from, StateStore& to, const MigrateOptions& options)
      : from_(from), to_(to), options_(options), ops_max_(std::min(kTxnOps, to.capabilities().txn_ops_max)) {}

  Result<void> copy(const Content& content) {
    std::vector<const KeyValue*> order;
    for (const KeyValue& kv : content.items) order.push_back(&kv);
    std::stable_sort(order.begin(), order.end(),
                     [](const KeyValue* a, const KeyValue* b) { return a->mod_revision < b->mod_revision; });
    for (const KeyValue* kv : order) ORC_TRY(add(kv->key, kv));
    return flush();
  }
  /// Until nothing comes for a while; then everything up to the answered revision is there.
  Result<Revision> follow(Revision after) {
    WatchOptions wanted;
    wanted.range = KeyPrefix("");
    wanted.after = after;
    wanted.want_previous = false;
    ORC_ASSIGN(Watch watch, from_.watch(wanted));
    while (auto batch = watch.next(options_.quiet)) {
      if (options_.stopped && options_.stopped())
        return Error(Error::cancelled, "store", "stopped before FROM was quiet; TO is not complete");
      for (const WatchEvent& event : batch->events) {
        const bool put = event.type == WatchEvent::Type::put;
        ORC_TRY(add(event.kv.key, put ? &event.kv : nullptr));
        ++summary_.followed;
        after = event.kv.mod_revision;
      }
      ORC_TRY(flush());
    }
    if (watch.error()) return watch.error()->with_context("following FROM");
    return after;
  }
  MigrateSummary& summary() { return summary_; }
  std::uint64_t leases() const { return leases_.size(); }

 private:
  /// No value: the key goes. A transaction that is full, or has this key already, leaves first.
  Result<void> add(const std::string& key, const KeyValue* kv) {
    const std::uint64_t more = key.size() + (kv != nullptr ? kv->value.size() : 0);
    const bool full = txn_.then.size() >= ops_max_ || bytes_ + more > kTxnBytes;
    if (!txn_.then.empty() && (full || keys_.contains(key))) ORC_TRY(flush());
    bytes_ += more;
    keys_.insert(key);
    TxnOp op;
    op.type = kv != nullptr ? TxnOp::Type::put : TxnOp::Type::remove;
    op.range = Key(key);
    if (kv != nullptr) {
      op.value = kv->value;
      ORC_ASSIGN(op.lease, lease_for(kv->lease));
    }
    txn_.then.push_back(std::move(op));
    return {};
  }
  Result<void> flush() {
    if (txn_.then.empty()) return {};
    auto written = to_.txn(std::exchange(txn_, {})).wait(kStep);
    bytes_ = 0;
    keys_.clear();
    if (!written)
      return written.error().with_context("after " + std::to_string(summary_.txns) + " transactions");
    ++summary_.txns;
    return {};
  }
  /// A lease there for each lease here that has keys.
  Result<LeaseId> lease_for(LeaseId id) {
    if (id == 0) return LeaseId{0};
    if (const auto made = leases_.find(id); made != leases_.end()) return made->second;
    auto lease = from_.lease_time_to_live(id).wait(kStep);
    if (!lease) {
      if (lease.error().is(Error::not_found)) return LeaseId{0};  // it has just ended: its key goes next
      return lease.error();
    }
    ORC_ASSIGN(leases_[id], to_.lease_grant(lease->ttl).wait(kStep));
    return leases_[id];
  }

  StateStore& from_;
  StateStore& to_;
  const MigrateOptions& options_;
  const std::size_t ops_max_;
  MigrateSummary summary_;
  std::map<LeaseId, LeaseId> leases_;
  Txn txn_;
  std::uint64_t bytes_ = 0;
  std::set<std::string> keys_;
};

}  // namespace

Result<MigrateSummary> migrate(StateStore& from, StateStore& to, const MigrateOptions& options) {
  ORC_ASSIGN(const RangeResult there, to.range(KeyPrefix(""), {.limit = 1, .keys_only = true}).wait(kStep));
  if (there.count != 0) {
    return Error(Error::conflict, "store",
                 "TO holds " + std::to_string(there.count) + " keys already (the first is \"" +
                     there.items.front().key + "\"); migrate into an empty store");
  }
  const bool follows = options.quiet > Duration::zero();
  ORC_ASSIGN(const Content before, read_all(from));
  Move move(from, to, options);
  ORC_TRY(move.copy(before));
  Revision reached = before.revision;
  Content after;
  for (bool idle = !follows;;) {
    if (follows) {
      ORC_ASSIGN(const Revision followed, move.follow(reached));
      idle = std::exchange(reached, followed) == followed;
    }
    ORC_ASSIGN(after, read_all(from));
    if (idle || after.revision <= reached) break;
  }
  ORC_ASSIGN(const Content copy, read_all(to));
  MigrateSummary& summary = move.summary();
  std::uint64_t bytes = 0;
  summary.sha256 = hash_of(after, summary.bytes);
  if (!follows && hash_of(before, bytes) != summary.sha256) return changed(before, after);
  if (copy.items.size() != after.items.size() || hash_of(copy, bytes) != summary.sha256) {
    return Error(Error::corrupt, "store",
                 "TO differs from FROM after the copy: " + std::to_string(copy.items.size()) + " keys for " +
                     std::to_string(after.items.size()) + "; does somebody else write to TO?");
  }
  summary.keys = after.items.size();
  summary.leases = move.leases();
  summary.from_revision = follows ? reached : before.revision;
  summary.to_revision = copy.revision;
  return summary;
}

}  // namespace orchestra::store
