// What a command must look like before it is proposed: sizes, counts, and the rules on double keys.
#include <algorithm>
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

/// As etcd has it: within one branch a key is put at most once, and not also removed.
Result<void> check_doubles(const std::vector<TxnOp>& ops) {
  if (ops.size() < 2) return {};
  std::vector<std::string_view> keys;
  for (const TxnOp& op : ops) {
    if (op.type == TxnOp::Type::put) keys.push_back(op.range.begin);
  }
  std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end());
  if (twice != keys.end()) return invalid("the txn puts key \"" + std::string(*twice) + "\" twice");
  for (const TxnOp& op : ops) {
    if (op.type != TxnOp::Type::remove) continue;
    const auto inside = std::lower_bound(keys.begin(), keys.end(), std::string_view(op.range.begin));
    if (inside != keys.end() && op.range.contains(*inside)) {
      return invalid("the txn both puts and removes key \"" + std::string(*inside) + "\"");
    }
  }
  return {};
}

Result<void> check_branch(const std::vector<TxnOp>& ops, const StoreCapabilities& limits,
                          std::uint64_t& bytes) {
  for (const TxnOp& op : ops) {
    ORC_TRY(check_op(op, limits));
    bytes += op.range.begin.size() + op.range.end.size() + op.value.size();
  }
  return check_doubles(ops);
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

Result<void> check_txn(const Txn& txn, const StoreCapabilities& limits) {
  const std::size_t ops = std::max({txn.compares.size(), txn.then.size(), txn.otherwise.size()});
  if (ops > limits.txn_ops_max) {
    return Error(Error::too_large, "store",
                 "a txn of " + std::to_string(ops) + " operations passes the limit of " +
                     std::to_string(limits.txn_ops_max) + "; split it");
  }
  std::uint64_t bytes = 0;
  for (const Compare& compare : txn.compares) {
    ORC_TRY(check_range(compare.range, limits));
    bytes += compare.range.begin.size() + compare.value.size();
  }
  ORC_TRY(check_branch(txn.then, limits, bytes));
  ORC_TRY(check_branch(txn.otherwise, limits, bytes));
  if (bytes > kTxnBytesMax) {
    return Error(
        Error::too_large, "store",
        "a txn of " + std::to_string(bytes) + " bytes passes the limit of " + std::to_string(kTxnBytesMax));
  }
  return {};
}

}  // namespace orchestra::store
