// What an etcd answers: watch messages, ranges, errors. Whatever comes in is read or refused, and a message
// that was read holds whole key-values only.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "store/etcd/codec.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  using namespace orchestra::store;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto message = etcd::read_watch(text)) {
    for (const KeyValue& kv : message->events) {
      if (kv.key.empty() || kv.version < 0) std::abort();
    }
  }
  const etcd::Failure failure = etcd::read_failure(400, text);
  (void)etcd::to_error(failure, true, "etcd");
  (void)etcd::wants_token(failure);
  (void)etcd::read_version(text);
  auto parsed = parse_json(text);
  if (!parsed || !parsed->is_object()) return 0;
  if (auto range = etcd::read_range_answer(parsed->as_object())) {
    for (const KeyValue& kv : range->items) {
      if (kv.key.empty()) std::abort();
    }
  }
  Txn txn;
  txn.then = {TxnOp{.range = Key("a"), .value = "1"}, TxnOp{.type = TxnOp::Type::remove, .range = Key("b")},
              TxnOp{.type = TxnOp::Type::range, .range = Key("c")}};
  TxnOp within;
  within.type = TxnOp::Type::txn;
  within.nested.push_back(txn);
  Txn nests;
  nests.otherwise = {within};
  if (auto result = etcd::read_txn_answer(parsed->as_object(), nests)) {
    if (!result->succeeded && result->ops.at(0).nested.size() != 1) std::abort();
  }
  if (auto result = etcd::read_txn_answer(parsed->as_object(), txn)) {
    if (result->ops.size() != (result->succeeded ? 3u : 0u)) std::abort();
  }
  return 0;
}
