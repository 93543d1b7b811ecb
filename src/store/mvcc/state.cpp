// The state machine of state.hpp.
#include "store/mvcc/state.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace orchestra::store {
namespace {

std::uint64_t mix(std::uint64_t hash, std::uint64_t word) {
  const unsigned __int128 product = static_cast<unsigned __int128>(hash ^ word) * 0x9E3779B97F4A7C15ull;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}
std::uint64_t mix_bytes(std::uint64_t hash, std::string_view bytes) {
  hash = mix(hash, bytes.size() + 0x51ED270B7A2F0D4Dull);
  while (bytes.size() >= 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    hash = mix(hash, word);
    bytes.remove_prefix(8);
  }
  std::uint64_t rest = 0;
  if (!bytes.empty()) std::memcpy(&rest, bytes.data(), bytes.size());
  return mix(hash, rest + 0xA24BAED4963EE407ull);
}
/// Of everything a peer must agree on about one record.
std::uint64_t record_hash(const Record& record) {
  std::uint64_t hash = mix_bytes(0x243F6A8885A308D3ull, record.key());
  hash = mix_bytes(hash, record.value.bytes());
  hash = mix(hash, static_cast<std::uint64_t>(record.create_revision));
  hash = mix(hash, static_cast<std::uint64_t>(record.mod_revision));
  hash = mix(hash, static_cast<std::uint64_t>(record.version));
  return mix(hash, static_cast<std::uint64_t>(record.lease) + 1);
}

bool compare_numbers(std::int64_t have, Compare::Op op, std::int64_t want) {
  switch (op) {
    case Compare::Op::equal:
      return have == want;
    case Compare::Op::not_equal:
      return have != want;
    case Compare::Op::less:
      return have < want;
    case Compare::Op::greater:
      return have > want;
  }
  return false;
}

/// `record` may be nullptr: no such key. Then all numbers are 0, and a compare of values never holds.
bool holds_for(const Record* record, const Compare& compare) {
  std::int64_t have = 0;
  switch (compare.target) {
    case Compare::Target::value:
      if (record == nullptr) return false;
      have = record->value.bytes().compare(compare.value);
      return compare_numbers(have, compare.op, 0);
    case Compare::Target::version:
      have = record != nullptr ? record->version : 0;
      break;
    case Compare::Target::create:
      have = record != nullptr ? record->create_revision : 0;
      break;
    case Compare::Target::mod:
      have = record != nullptr ? record->mod_revision : 0;
      break;
    case Compare::Target::lease:
      have = record != nullptr ? record->lease : 0;
      break;
  }
  return compare_numbers(have, compare.op, compare.number);
}

void stamp(TxnResult& result, Revision revision) {
  result.revision = revision;
  for (TxnResult::OpResult& op : result.ops) {
    op.range.revision = revision;
    for (TxnResult& nested : op.nested) stamp(nested, revision);
  }
}

Error revision_error(Error::Code code, std::string message, Revision compacted, Revision current) {
  return Error(code, "store", std::move(message)).with_detail(RevisionDetail{compacted, current});
}

}  // namespace

Error compacted_error(Revision asked, Revision compacted, Revision current) {
  return revision_error(Error::compacted,
                        "revision " + std::to_string(asked) +
                            " is no longer kept: the store is compacted up to " + std::to_string(compacted) +
                            "; read again from revision " + std::to_string(current),
                        compacted, current);
}
Error future_error(Revision asked, Revision compacted, Revision current) {
  return revision_error(Error::future,
                        "revision " + std::to_string(asked) +
                            " does not exist yet: the store is at revision " + std::to_string(current),
                        compacted, current);
}

Outcome MvccState::apply(Command command) {
  if (auto* txn = std::get_if<Txn>(&command)) return apply_txn(std::move(*txn));
  if (auto* grant = std::get_if<LeaseGrant>(&command)) return apply_grant(*grant);
  if (auto* revoke = std::get_if<LeaseRevoke>(&command)) return apply_revoke(*revoke);
  if (auto* checkpoint = std::get_if<LeaseCheckpoint>(&command)) return apply_checkpoint(*checkpoint);
  if (auto* once = std::get_if<OnceTxn>(&command)) return apply_once(std::move(*once));
  if (std::holds_alternative<SessionOpen>(command)) {
    TxnResult opened{true, revision_, {}};
    opened.ops.resize(1);
    opened.ops[0].removed = sessions_.open();
    return opened;
  }
  if (std::holds_alternative<StateCheck>(command)) return TxnResult{true, revision_, {}};
  return apply_compact(std::get<Compact>(command));
}

Result<OldTree> MvccState::tree_at(Revision revision) const {
  if (revision == 0 || revision == revision_) return OldTree{tree_, revision_, {}};
  if (revision > revision_) return future_error(revision, compacted_, revision_);
  if (revision < compacted_ || revision < 0) return compacted_error(revision, compacted_, revision_);
  return history_.plan(tree_, revision_, revision);
}

std::uint64_t MvccState::fingerprint() const {
  std::uint64_t all = mix(hash_, static_cast<std::uint64_t>(revision_));
  all = mix(all, static_cast<std::uint64_t>(compacted_));
  for (const auto& [id, lease] : leases_)
    all = mix(mix(all, static_cast<std::uint64_t>(id)), lease.keys.size());
  return mix(all, sessions_.size());
}

bool MvccState::holds(const Compare& compare) const {
  if (compare.range.single) return holds_for(tree_.find(compare.range.begin), compare);
  bool all = true;
  bool any = false;
  tree_.scan(compare.range, false, [&](const RecordRef& record) {
    any = true;
    all = holds_for(record.get(), compare);
    return all;
  });
  return any ? all : holds_for(nullptr, compare);
}

/// Which branches run, of nested txns too: all before anything changes, as etcd has it (compareToPath).
void MvccState::decide(const Txn& txn, TxnResult& result) const {
  result.succeeded =
      std::all_of(txn.compares.begin(), txn.compares.end(), [&](const Compare& c) { return holds(c); });
  const auto& ops = result.succeeded ? txn.then : txn.otherwise;
  result.ops.resize(ops.size());
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (ops[i].type != TxnOp::Type::txn) continue;
    ORC_ASSERT(ops[i].nested.size() == 1);
    decide(ops[i].nested.front(), result.ops[i].nested.emplace_back());
  }
}

/// What can fail is checked before anything changes: a txn is applied whole or not at all.
Result<void> MvccState::check_ops(const Txn& txn, const TxnResult& result) const {
  const auto& ops = result.succeeded ? txn.then : txn.otherwise;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const TxnOp& op = ops[i];
    if (op.type == TxnOp::Type::txn) {
      ORC_TRY(check_ops(op.nested.front(), result.ops[i].nested.front()));
      continue;
    }
    if (op.type == TxnOp::Type::put && op.lease != 0 && !leases_.contains(op.lease)) {
      return Error(Error::not_found, "store",
                   "no lease " + std::to_string(op.lease) + " for key \"" + op.range.begin +
                       "\": it has expired or was revoked; grant a new one");
    }
    if (op.type != TxnOp::Type::range) continue;
    const Revision asked = op.range_options.revision;
    if (asked > revision_) return future_error(asked, compacted_, revision_);
    if (asked != 0 && asked < compacted_) return compacted_error(asked, compacted_, revision_);
  }
  return {};
}

void MvccState::run_ops(Txn& txn, Written& written, TxnResult& result) {
  auto& ops = result.succeeded ? txn.then : txn.otherwise;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    TxnOp& op = ops[i];
    switch (op.type) {
      case TxnOp::Type::put:
        put(op, written, result.ops[i]);
        break;
      case TxnOp::Type::remove:
        remove(op.range, op.want_previous, written, result.ops[i]);
        break;
      case TxnOp::Type::range: {
        Tree tree = tree_;
        if (op.range_options.revision != 0 && op.range_options.revision < written.revision) {
          tree = history_.plan(tree_, written.revision, op.range_options.revision).build();
        }
        result.ops[i].range = read_range(tree, op.range, op.range_options, 0);
        break;
      }
      case TxnOp::Type::txn:
        run_ops(op.nested.front(), written, result.ops[i].nested.front());
        break;
    }
  }
}

Outcome MvccState::apply_txn(Txn txn) {
  TxnResult result;
  decide(txn, result);
  ORC_TRY(check_ops(txn, result));
  Written written{revision_ + 1};
  run_ops(txn, written, result);
  finish(written);
  stamp(result, revision_);
  return result;
}

/// A request that comes again is answered as before. What a failed one reads is read again: it changed
/// nothing.
Outcome MvccState::apply_once(OnceTxn once) {
  ORC_ASSIGN(const auto before, sessions_.find(once.session, once.sequence));
  if (before) {
    TxnResult result{before->succeeded, before->revision, {}};
    const auto& ops = before->succeeded ? once.txn.then : once.txn.otherwise;
    result.ops.resize(ops.size());
    for (std::size_t i = 0; i < ops.size(); ++i) {
      if (ops[i].type == TxnOp::Type::range)
        result.ops[i].range = read_range(tree_, ops[i].range, ops[i].range_options, revision_);
    }
    return result;
  }
  Outcome outcome = apply_txn(std::move(once.txn));
  if (outcome) sessions_.keep(once.session, once.sequence, {outcome->succeeded, outcome->revision});
  return outcome;
}

void MvccState::put(TxnOp& op, Written& written, TxnResult::OpResult& result) {
  const std::string& key = op.range.begin;
  RecordRef record =
      RecordRef::make(key, std::move(op.value), written.revision, written.revision, 1, op.lease);
  RecordRef previous = tree_.put(record);
  if (previous) {
    record.succeed(*previous);  // this state is the only one that knows it
    hash_ -= record_hash(*previous);
    bytes_ -= previous->bytes();
    if (op.want_previous) result.previous.push_back(previous->to_key_value());
  }
  hash_ += record_hash(*record);
  bytes_ += record->bytes();
  const LeaseId old_lease = previous ? previous->lease : 0;
  if (old_lease != op.lease) {
    detach(old_lease, key);
    if (op.lease != 0) leases_[op.lease].keys.insert(key);
  }
  history_.append({written.revision, std::move(record), std::move(previous)});
  written.any = true;
}

void MvccState::erase_key(const std::string& key, Written& written, RecordRef* previous) {
  RecordRef gone = tree_.erase(key);
  ORC_ASSERT(gone);
  hash_ -= record_hash(*gone);
  bytes_ -= gone->bytes();
  detach(gone->lease, key);
  if (previous != nullptr) *previous = gone;
  history_.append({written.revision, RecordRef::tombstone(key, written.revision), std::move(gone)});
  written.any = true;
}

void MvccState::remove(const KeyRange& range, bool want_previous, Written& written,
                       TxnResult::OpResult& result) {
  std::vector<std::string> keys;
  tree_.scan(range, false, [&](const RecordRef& record) {
    keys.emplace_back(record->key());
    return true;
  });
  for (const std::string& key : keys) {
    RecordRef previous;
    erase_key(key, written, &previous);
    if (want_previous) result.previous.push_back(previous->to_key_value());
  }
  result.removed = keys.size();
}

void MvccState::detach(LeaseId lease, std::string_view key) {
  if (lease == 0) return;
  const auto found = leases_.find(lease);
  if (found == leases_.end()) return;
  const auto at = found->second.keys.find(key);
  if (at != found->second.keys.end()) found->second.keys.erase(at);
}

void MvccState::finish(const Written& written) {
  if (!written.any) return;
  revision_ = written.revision;
  history_.keep_tree(tree_, revision_);
}

Outcome MvccState::apply_grant(const LeaseGrant& grant) {
  if (!leases_.emplace(grant.id, LeaseState{grant.ttl, {}, {}}).second) {
    return Error(
        Error::conflict, "store",
        "lease " + std::to_string(grant.id) + " is alive already; choose another id or let the store choose");
  }
  return TxnResult{true, revision_, {}};
}

Outcome MvccState::apply_revoke(const LeaseRevoke& revoke) {
  const auto found = leases_.find(revoke.id);
  if (found == leases_.end()) {
    return Error(Error::not_found, "store",
                 "no lease " + std::to_string(revoke.id) + ": it has expired or was revoked before");
  }
  const std::set<std::string, std::less<>> keys = std::move(found->second.keys);
  leases_.erase(found);
  Written written{revision_ + 1};
  for (const std::string& key : keys) erase_key(key, written, nullptr);
  finish(written);
  return TxnResult{true, revision_, {}};
}

/// Of leases that have ended since nothing is kept.
Outcome MvccState::apply_checkpoint(const LeaseCheckpoint& checkpoint) {
  for (const LeaseCheckpoint::Left& left : checkpoint.leases) {
    const auto found = leases_.find(left.id);
    if (found != leases_.end()) found->second.checkpoint = left.remaining;
  }
  return TxnResult{true, revision_, {}};
}

Outcome MvccState::apply_compact(const Compact& compact) {
  if (compact.revision <= compacted_) return compacted_error(compact.revision, compacted_, revision_);
  if (compact.revision > revision_) return future_error(compact.revision, compacted_, revision_);
  compacted_ = compact.revision;
  history_.compact(compacted_);
  return TxnResult{true, revision_, {}};
}

void MvccState::follow(const KeyValue& change) {
  ORC_ASSERT(change.mod_revision >= revision_);
  RecordRef now = change.version == 0 ? RecordRef::tombstone(change.key, change.mod_revision)
                                      : RecordRef::make(change.key, change.value, change.create_revision,
                                                        change.mod_revision, change.version, change.lease);
  RecordRef previous = now->tombstone() ? tree_.erase(change.key) : tree_.put(now);
  if (previous) {
    hash_ -= record_hash(*previous);
    bytes_ -= previous->bytes();
  }
  if (!now->tombstone()) {
    hash_ += record_hash(*now);
    bytes_ += now->bytes();
  }
  history_.append({change.mod_revision, std::move(now), std::move(previous)});
}

void MvccState::follow_to(Revision revision) {
  ORC_ASSERT(revision >= revision_);
  revision_ = revision;
  history_.keep_tree(tree_, revision_);
}

void MvccState::follow_from(std::vector<RecordRef> records, Revision revision) {
  *this = MvccState();
  for (const RecordRef& record : records) {
    hash_ += record_hash(*record);
    bytes_ += record->bytes();
  }
  tree_ = Tree::from_sorted(std::move(records));
  revision_ = revision;
  compacted_ = revision > 1 ? revision : 0;
}

void MvccState::load_record(RecordRef record) {
  hash_ += record_hash(*record);
  bytes_ += record->bytes();
  if (record->lease != 0) leases_[record->lease].keys.emplace(record->key());
  ORC_ASSERT(loading_.empty() || loading_.back()->key() < record->key());
  loading_.push_back(std::move(record));
}
void MvccState::load_lease(LeaseId id, std::chrono::seconds ttl, std::chrono::milliseconds checkpoint) {
  leases_[id].ttl = ttl;
  leases_[id].checkpoint = checkpoint;
}
void MvccState::finish_load(Revision revision, Revision compacted) {
  revision_ = revision;
  compacted_ = compacted;
}

RangeResult read_range(const Tree& tree, const KeyRange& range, const RangeOptions& options,
                       Revision revision) {
  RangeResult result;
  result.revision = revision;
  result.count = tree.count(range);
  if (options.count_only) return result;
  const std::uint64_t wanted =
      options.limit == 0 ? result.count : std::min<std::uint64_t>(options.limit, result.count);
  result.more = wanted < result.count;
  if (wanted == 0) return result;
  result.items.reserve(wanted);
  tree.scan(range, options.descending, [&](const RecordRef& record) {
    result.items.push_back(record->to_key_value());
    if (options.keys_only) result.items.back().value = {};
    return result.items.size() < wanted;
  });
  return result;
}

}  // namespace orchestra::store
