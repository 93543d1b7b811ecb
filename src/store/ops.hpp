#pragma once
// The store's operations as JSON requests and lines: one implementation for the control socket of a running
// store and for a stopped folder that the command line opens itself. Keys and values are base64.
//
//   store.get      {key, end?, prefix?, all?, revision?, limit?, keys_only?, count?, serializable?}
//                  lines {"kv"}, then {"revision", "count", "more"}
//   store.put      {key, value, if_revision?, lease_ttl_s?, previous?}    {"revision", "previous"?}
//   store.del      {key, end?, prefix?, if_revision?, previous?}          {"revision", "removed",
//   "previous"?} store.watch    {key, end?, prefix?, after?, previous?, count?}        {"events", "revision"}
//   per batch store.compact  {revision} store.status   {} the status store.snapshot {} {"data"}.., then
//   {"revision"}
//   store.members  {action, words, learner?, force?}   store.lease {action, words, ttl_s?}
#include <functional>
#include <memory>

#include "base/control.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::store {

struct OpContext {
  /// False: the reader is gone.
  std::function<bool(const json::object& line)> emit;
  std::function<bool()> cancelled;
};

/// Runs one operation; blocks. Errors carry the details of the store (`error_detail`).
Result<void> run_store_op(StateStore& store, const json::object& request, const OpContext& context);
/// A transaction in the words of txn_text.hpp: {"succeeded", "revision", "ops": [{"op": "put"} | {"op":
/// "del", "removed"} | {"op": "get", "kvs"} | {"op": "txn", "succeeded", "ops"}]}. Blocks.
Result<json::object> run_txn_text(StateStore& store, std::string_view text, Duration deadline);
/// The typed extra of a store error as JSON: the current key-value, the revisions.
json::object error_detail(const Error& error);

}  // namespace orchestra::store

namespace orchestra {
/// Makes the operations available on the control socket of the process that owns the store.
ORC_API void register_store_ops(ControlServer& server, std::shared_ptr<StateStore> store);
}  // namespace orchestra
