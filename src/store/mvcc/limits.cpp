// What a command must look like before it is proposed: sizes, counts, and the rules on double keys.
#include <algorithm>
#include <iterator>
#include <string>

#include "store/mvcc/state.hpp"

namespace orchestra::store {
namespace {

constexpr std::uint64_t kTxnBytesMax = 32u << 20;  ///< all keys and values of one txn; a log entry holds it

Error invalid(std::string message) { return Error(Error::invalid, "store", std::move(message)); }

Result<void> check_key_size(std::string_view key, const StoreCapabilities& limits) {
  if (key.size() <= limits.key_bytes_max.value) return {};
  return Error(Error::too_large, "store",
               "a key of " + std::to_string(key.size()) + " bytes passes the limit of " +
                   std::to_string(limits.key_bytes_max.value) + " bytes; shorten it");
}

Result<void> check_op(const TxnOp& op, const StoreCapabilities& limits) {
  if (op.type == TxnOp::Type::txn) return {};
  if (op.type != TxnOp::Type::put) return check_range(op.range, limits);
  if (!op.range.single) return invalid("a put needs one key, not a range");
  ORC_TRY(check_key(op.range.begin, limits));
  if (op.value.size() > limits.value_bytes_max.value) {
    return Error(Error::too_large, "store",
                 "the value of key \"" + op.range.begin + "\" has " + std::to_string(op.value.size()) +
                     " bytes; the limit is " + std::to_string(limits.value_bytes_max.value));
  }
  return {};
}

/// What a branch may do to keys, nested txns counted with both of their branches.
struct Touched {
  std::vector<std::string_view> puts;  ///< in order, each once
  std::vector<const KeyRange*> removes;
};

Error put_twice(std::string_view key) {
  return invalid("the txn puts key \"" + std::string(key) + "\" twice");
}

Result<Touched> check_doubles(const std::vector<TxnOp>& ops);

/// Only one branch of a txn runs: a key that both put is put once.
Result<Touched> check_branches(const Txn& txn) {
  ORC_ASSIGN(Touched then, check_doubles(txn.then));
  ORC_ASSIGN(Touched otherwise, check_doubles(txn.otherwise));
  Touched both;
  std::set_union(then.puts.begin(), then.puts.end(), otherwise.puts.begin(), otherwise.puts.end(),
                 std::back_inserter(both.puts));
  both.removes = std::move(then.removes);
  both.removes.insert(both.removes.end(), otherwise.removes.begin(), otherwise.removes.end());
  return both;
}

/// Within one branch a key is put at most once, and not also removed: etcd's rule (checkIntervals), which
/// lets one case through that is refused here, a key that a nested txn puts and a later one removes.
Result<Touched> check_doubles(const std::vector<TxnOp>& ops) {
  Touched all;
  // What an operation alone may do agrees with itself: it is compared with what the others do.
  const auto clash = [](const Touched& puts, const KeyRange& removes) -> Result<void> {
    const auto inside = std::lower_bound(puts.puts.begin(), puts.puts.end(), std::string_view(removes.begin));
    if (inside == puts.puts.end() || !removes.contains(*inside)) return {};
    return invalid("the txn both puts and removes key \"" + std::string(*inside) + "\"");
  };
  std::vector<Touched> nested;
  for (const TxnOp& op : ops) {
    if (op.type == TxnOp::Type::put) {
      all.puts.push_back(op.range.begin);
    } else if (op.type == TxnOp::Type::remove) {
      all.removes.push_back(&op.range);
    } else if (op.type == TxnOp::Type::txn) {
      ORC_ASSIGN(Touched one, check_branches(op.nested.front()));
      nested.push_back(std::move(one));
    }
  }
  std::sort(all.puts.begin(), all.puts.end());
  const auto twice = std::adjacent_find(all.puts.begin(), all.puts.end());
  if (twice != all.puts.end()) return put_twice(*twice);
  if (!all.puts.empty()) {
    for (const KeyRange* range : all.removes) ORC_TRY(clash(all, *range));
  }
  for (Touched& one : nested) {
    std::vector<std::string_view> merged;
    std::merge(all.puts.begin(), all.puts.end(), one.puts.begin(), one.puts.end(),
               std::back_inserter(merged));
    const auto again = std::adjacent_find(merged.begin(), merged.end());
    if (again != merged.end()) return put_twice(*again);
    for (const KeyRange* range : all.removes) ORC_TRY(clash(one, *range));
    for (const KeyRange* range : one.removes) ORC_TRY(clash(all, *range));
    all.puts = std::move(merged);
    all.removes.insert(all.removes.end(), one.removes.begin(), one.removes.end());
  }
  return all;
}

struct Measure {
  std::size_t ops = 0;  ///< of each txn the longest of its three lists
  std::uint64_t bytes = 0;
};

/// Of a txn and of those in it.
Result<void> measure(const Txn& txn, const StoreCapabilities& limits, Measure& all) {
  all.ops += std::max({txn.compares.size(), txn.then.size(), txn.otherwise.size()});
  if (all.ops > limits.txn_ops_max) {
    return Error(Error::too_large, "store",
                 "a txn of " + std::to_string(all.ops) + " operations passes the limit of " +
                     std::to_string(limits.txn_ops_max) + "; split it");
  }
  for (const Compare& compare : txn.compares) {
    ORC_TRY(check_range(compare.range, limits));
    all.bytes += compare.range.begin.size() + compare.value.size();
  }
  for (const auto* ops : {&txn.then, &txn.otherwise}) {
    for (const TxnOp& op : *ops) {
      ORC_TRY(check_op(op, limits));
      all.bytes += op.range.begin.size() + op.range.end.size() + op.value.size();
      for (const Txn& nested : op.nested) ORC_TRY(measure(nested, limits, all));
    }
  }
  return {};
}

}  // namespace

Result<void> check_key(std::string_view key, const StoreCapabilities& limits) {
  if (key.empty()) return invalid("a key must not be empty");
  return check_key_size(key, limits);
}

Result<void> check_range(const KeyRange& range, const StoreCapabilities& limits) {
  if (range.single) return check_key(range.begin, limits);
  ORC_TRY(check_key_size(range.begin, limits));
  return check_key_size(range.end, limits);
}

Result<void> check_nesting(const Txn& txn, std::size_t depth_max) {
  for (const auto* ops : {&txn.then, &txn.otherwise}) {
    for (std::size_t i = 0; i < ops->size(); ++i) {
      const TxnOp& op = (*ops)[i];
      const bool nests = op.type == TxnOp::Type::txn;
      if (op.nested.size() != (nests ? 1u : 0u)) {
        return invalid("operation " + std::to_string(i + 1) + " of a txn " +
                       (nests ? "is a txn and holds " + std::to_string(op.nested.size()) + " of them, not one"
                              : "holds a txn and is none"));
      }
      if (!nests) continue;
      if (depth_max <= 1)
        return invalid("operation " + std::to_string(i + 1) +
                       " of a txn is a txn that lies deeper within others than this store allows "
                       "(txn_depth_max of its capabilities())");
      ORC_TRY(check_nesting(op.nested.front(), depth_max - 1));
    }
  }
  return {};
}

Result<void> check_txn(const Txn& txn, const StoreCapabilities& limits) {
  ORC_TRY(check_nesting(txn, limits.txn_depth_max));
  Measure all;
  ORC_TRY(measure(txn, limits, all));
  if (all.bytes > kTxnBytesMax) {
    return Error(Error::too_large, "store",
                 "a txn of " + std::to_string(all.bytes) + " bytes passes the limit of " +
                     std::to_string(kTxnBytesMax));
  }
  for (const auto* ops : {&txn.then, &txn.otherwise}) {
    const bool alone = ops->empty() || (ops->size() == 1 && ops->front().type != TxnOp::Type::txn);
    if (!alone) ORC_TRY(check_doubles(*ops));
  }
  return {};
}

}  // namespace orchestra::store
