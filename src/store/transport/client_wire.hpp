#pragma once
// What StoreClient and StoreServer say to each other (docs/formats/store-wire.md). Pure.
//
// A connection begins with `hello` both ways. Then the client sends calls, each with an id of its choice; the
// server answers in any order. A watch is a call whose id goes on to name its batches; after each batch the
// server waits for `watch_more`, so a slow reader is never sent more than two.
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/raft_store.hpp"
#include "orchestra/retry_after.hpp"
#include "orchestra/state_store.hpp"
#include "store/mvcc/wire.hpp"

namespace orchestra::store {

/// One of too many calls under way ends in about this time.
constexpr Duration kRetryCall = std::chrono::milliseconds(10);

constexpr std::uint32_t kClientMagic = 0x4343524F;  // "ORCC"
constexpr std::uint8_t kClientProtocolVersion = 1;

enum class ClientOp : std::uint8_t {
  get = 1,
  range,
  put,
  remove,
  txn,
  watch,
  watch_more,
  watch_cancel,
  lease_grant,
  lease_keep_alive,
  lease_revoke,
  lease_time_to_live,
  lease_list,
  compact,
  wait_revision,
  status,
  save_snapshot,
  members,
  add_member,
  promote_member,
  remove_member,
  update_member,
  transfer_leadership,
  session_open,
  put_once,  ///< a put with a request id
};
constexpr ClientOp kLastClientOp = ClientOp::put_once;
/// Whether a call may be sent again although it may have been done already.
bool repeatable(ClientOp op);

enum class ServerFrame : std::uint8_t { answer = 1, error, batch, chunk };

struct Call {
  std::uint64_t id = 0;
  ClientOp op{};
  std::string_view body;
};

std::string encode_client_hello();
Result<void> check_client_hello(std::string_view frame);
std::string encode_server_hello(const std::string& cluster_id, const StoreCapabilities& capabilities);
struct ServerHello {
  std::string cluster_id;
  StoreCapabilities capabilities;
};
Result<ServerHello> decode_server_hello(std::string_view frame);

std::string encode_call(std::uint64_t id, ClientOp op, std::string_view body);
/// In the memory of `body`.
std::string encode_call(std::uint64_t id, ClientOp op, std::string&& body);
Result<Call> decode_call(std::string_view frame);

std::string encode_server_frame(ServerFrame kind, std::uint64_t id, std::string_view body);
struct ServerMessage {
  ServerFrame kind{};
  std::uint64_t id = 0;
  std::string_view body;
};
Result<ServerMessage> decode_server_frame(std::string_view frame);

/// An error with the typed extra of the store.
std::string encode_error(const Error& error);
Error decode_error(std::string_view bytes);

void write_range(Writer& out, const KeyRange& range);
KeyRange read_key_range(Reader& in);
void write_options(Writer& out, const RangeOptions& options);
RangeOptions read_options(Reader& in);
void write_key_value(Writer& out, const KeyValue& kv);
KeyValue read_key_value(Reader& in);
void write_result(Writer& out, const RangeResult& result);
RangeResult read_range_result(Reader& in);
void write_result(Writer& out, const WriteResult& result);
WriteResult read_write_result(Reader& in);
void write_result(Writer& out, const TxnResult& result);
TxnResult read_txn_result(Reader& in);
void write_batch(Writer& out, const WatchBatch& batch);
WatchBatch read_batch(Reader& in);
void write_lease_info(Writer& out, const LeaseInfo& info);
LeaseInfo read_lease_info(Reader& in);
void write_status(Writer& out, const StoreStatus& status);
StoreStatus read_status(Reader& in);
void write_store_member(Writer& out, const StoreMember& member);
StoreMember read_store_member(Reader& in);

}  // namespace orchestra::store
