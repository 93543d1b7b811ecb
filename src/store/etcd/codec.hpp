#pragma once
// etcd's v3 API as JSON (rpc.proto 3.4 through its gateway): requests out, answers in. Pure.
//
// 64-bit numbers come as strings, fields that are zero, false or empty are left out, bytes are base64. What
// comes in is checked field by field: a wrong type is an error, never a zero.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::store::etcd {

struct Header {
  std::string cluster;  ///< cluster_id as etcd writes it, decimal
  Revision revision = 0;
};

/// How a call failed, as far as the answer tells.
struct Failure {
  int http_status = 0;
  int code = 0;         ///< gRPC; 0: the answer is none of etcd's
  std::string message;  ///< etcd's, or the beginning of what came
};

// Requests
std::string encode_range(const KeyRange& range, const RangeOptions& options);
/// The newest change under a prefix: count, and the key with the highest mod_revision.
std::string encode_newest(const KeyRange& range);
std::string encode_txn(const Txn& txn);
/// A watch of everything in `range` after a revision; parts of big answers come apart (`fragment`).
std::string encode_watch(const KeyRange& range, Revision after);

// Answers
Result<Header> read_header(const json::object& answer);
Result<RangeResult> read_range_answer(const json::object& answer);
Result<TxnResult> read_txn_answer(const json::object& answer, const Txn& txn);
/// A number field, 0 where it is left out.
Result<std::int64_t> read_number(const json::object& from, const char* name);
Failure read_failure(int http_status, std::string_view body);

struct WatchMessage {
  Header header;
  std::int64_t watch_id = 0;
  bool created = false, canceled = false, fragment = false;
  Revision compact_revision = 0;
  std::string cancel_reason;
  std::vector<KeyValue> events;  ///< version 0: a removal
};
/// One line of a chunked stream, or one WebSocket message.
Result<WatchMessage> read_watch(std::string_view text);

/// What a failed call means to the caller (spec/store.md section 9): a write that may have been applied is
/// `unknown_outcome`.
Error to_error(const Failure& failure, bool write, const std::string& where);
/// The token is no longer good: authenticate and ask again.
bool wants_token(const Failure& failure);

/// "3.4.23" -> {3, 4, 23}; nullopt for anything else.
struct Version {
  int major = 0, minor = 0, patch = 0;
  friend auto operator<=>(const Version&, const Version&) = default;
};
std::optional<Version> read_version(std::string_view text);
/// Whether a progress answer on a WebSocket certainly comes after all events up to its revision: earlier
/// releases could overtake them (etcd issue 15220; the same limits as the Kubernetes API server has).
bool trusts_progress(const Version& version);

}  // namespace orchestra::store::etcd
