// The move of migrate.hpp.
#include "store/migrate.hpp"

#include <algorithm>
#include <map>

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

/// A lease there for each lease here that has keys.
Result<std::map<LeaseId, LeaseId>> make_leases(StateStore& from, StateStore& to, const Content& content) {
  std::map<LeaseId, LeaseId> made;
  for (const KeyValue& kv : content.items) {
    if (kv.lease == 0 || made.contains(kv.lease)) continue;
    auto lease = from.lease_time_to_live(kv.lease).wait(kStep);
    if (!lease) {
      if (lease.error().is(Error::not_found)) continue;  // it has just ended: the check at the end tells
      return lease.error();
    }
    ORC_ASSIGN(made[kv.lease], to.lease_grant(lease->ttl).wait(kStep));
  }
  return made;
}

Error changed(const Content& before, const Content& after) {
  return Error(Error::conflict, "store",
               "FROM was written to meanwhile (revision " + std::to_string(before.revision) + " to " +
                   std::to_string(after.revision) + "); stop its writers, empty TO and migrate again");
}

}  // namespace

Result<MigrateSummary> migrate(StateStore& from, StateStore& to) {
  MigrateSummary summary;
  ORC_ASSIGN(const RangeResult there, to.range(KeyPrefix(""), {.limit = 1, .keys_only = true}).wait(kStep));
  if (there.count != 0) {
    return Error(Error::conflict, "store",
                 "TO holds " + std::to_string(there.count) + " keys already (the first is \"" +
                     there.items.front().key + "\"); migrate into an empty store");
  }
  ORC_ASSIGN(const Content before, read_all(from));
  ORC_ASSIGN(const auto leases, make_leases(from, to, before));
  std::vector<const KeyValue*> order;
  for (const KeyValue& kv : before.items) order.push_back(&kv);
  std::stable_sort(order.begin(), order.end(),
                   [](const KeyValue* a, const KeyValue* b) { return a->mod_revision < b->mod_revision; });
  const std::size_t ops_max = std::min(kTxnOps, to.capabilities().txn_ops_max);
  for (std::size_t at = 0; at < order.size();) {
    Txn txn;
    std::uint64_t bytes = 0;
    while (at < order.size() && txn.then.size() < ops_max) {
      const KeyValue& kv = *order[at];
      const std::uint64_t more = kv.key.size() + kv.value.size();
      if (!txn.then.empty() && bytes + more > kTxnBytes) break;
      bytes += more;
      TxnOp put;
      put.range = Key(kv.key);
      put.value = kv.value;
      if (const auto lease = leases.find(kv.lease); lease != leases.end()) put.lease = lease->second;
      txn.then.push_back(std::move(put));
      ++at;
    }
    auto written = to.txn(std::move(txn)).wait(kStep);
    if (!written)
      return written.error().with_context("after " + std::to_string(summary.txns) + " transactions");
    ++summary.txns;
  }
  ORC_ASSIGN(const Content copy, read_all(to));
  ORC_ASSIGN(const Content after, read_all(from));
  std::uint64_t bytes = 0;
  summary.sha256 = hash_of(before, summary.bytes);
  if (hash_of(after, bytes) != summary.sha256) return changed(before, after);
  if (copy.items.size() != before.items.size() || hash_of(copy, bytes) != summary.sha256) {
    return Error(Error::corrupt, "store",
                 "TO differs from FROM after the copy: " + std::to_string(copy.items.size()) + " keys for " +
                     std::to_string(before.items.size()) + "; does somebody else write to TO?");
  }
  summary.keys = before.items.size();
  summary.leases = leases.size();
  summary.from_revision = before.revision;
  summary.to_revision = copy.revision;
  return summary;
}

}  // namespace orchestra::store
