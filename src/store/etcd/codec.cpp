// The JSON of codec.hpp.
#include "store/etcd/codec.hpp"

#include <charconv>

#include "base/base64.hpp"

namespace orchestra::store::etcd {
namespace {

/// Not a key of anybody: stands for an interval that holds none (etcd's own check of overlapping intervals
/// is not made for begin >= end).
constexpr std::string_view kNoKey("\0orchestra.none", 15);

bool holds_nothing(const KeyRange& range) {
  return !range.single && !range.to_the_end && range.begin >= range.end;
}

Error malformed(const std::string& what) {
  return Error(Error::io, "store", "etcd's answer is malformed: " + what);
}

std::string key_text(std::string_view key) { return encode_base64_text(key); }

/// `key` and `range_end`; etcd knows no empty key, so the lowest one stands for it.
void add_range(json::object& to, const KeyRange& range) {
  if (holds_nothing(range)) {
    to["key"] = key_text(kNoKey);
    return;
  }
  to["key"] = key_text(range.begin.empty() ? std::string_view("\0", 1) : std::string_view(range.begin));
  if (range.single) return;
  to["range_end"] = key_text(range.to_the_end ? std::string_view("\0", 1) : std::string_view(range.end));
}

json::object range_object(const KeyRange& range, const RangeOptions& options) {
  json::object out;
  add_range(out, range);
  if (options.limit != 0) out["limit"] = std::to_string(options.limit);
  if (options.revision != 0) out["revision"] = std::to_string(options.revision);
  if (options.keys_only) out["keys_only"] = true;
  if (options.count_only) out["count_only"] = true;
  if (options.descending) {
    out["sort_order"] = "DESCEND";
    out["sort_target"] = "KEY";
  }
  if (options.consistency == Consistency::serializable) out["serializable"] = true;
  return out;
}

json::object txn_object(const Txn& txn);

json::object op_object(const TxnOp& op) {
  json::object inner;
  switch (op.type) {
    case TxnOp::Type::txn:
      return {{"request_txn", txn_object(op.nested.front())}};
    case TxnOp::Type::put:
      inner["key"] = key_text(op.range.begin);
      inner["value"] = key_text(op.value.bytes());
      if (op.lease != 0) inner["lease"] = std::to_string(op.lease);
      if (op.want_previous) inner["prev_kv"] = true;
      return {{"request_put", std::move(inner)}};
    case TxnOp::Type::remove:
      if (holds_nothing(op.range)) break;
      add_range(inner, op.range);
      if (op.want_previous) inner["prev_kv"] = true;
      return {{"request_delete_range", std::move(inner)}};
    case TxnOp::Type::range:
      break;
  }
  return {{"request_range", range_object(op.range, op.range_options)}};
}

json::object compare_object(const Compare& compare) {
  static constexpr const char* kResults[] = {"EQUAL", "NOT_EQUAL", "LESS", "GREATER"};
  static constexpr const char* kTargets[] = {"VERSION", "CREATE", "MOD", "VALUE", "LEASE"};
  static constexpr const char* kFields[] = {"version", "create_revision", "mod_revision", "value", "lease"};
  const auto target = static_cast<std::size_t>(compare.target);
  json::object out;
  add_range(out, compare.range);
  out["result"] = kResults[static_cast<std::size_t>(compare.op)];
  out["target"] = kTargets[target];
  out[kFields[target]] =
      compare.target == Compare::Target::value ? key_text(compare.value) : std::to_string(compare.number);
  return out;
}

json::array ops_array(const std::vector<TxnOp>& ops) {
  json::array out;
  for (const TxnOp& op : ops) out.push_back(op_object(op));
  return out;
}

json::object txn_object(const Txn& txn) {
  json::object out;
  json::array compares;
  for (const Compare& compare : txn.compares) compares.push_back(compare_object(compare));
  if (!compares.empty()) out["compare"] = std::move(compares);
  if (!txn.then.empty()) out["success"] = ops_array(txn.then);
  if (!txn.otherwise.empty()) out["failure"] = ops_array(txn.otherwise);
  return out;
}

Result<std::string> read_bytes(const json::object& from, const char* name) {
  const json::value* field = from.if_contains(name);
  if (field == nullptr) return std::string();
  if (!field->is_string()) return malformed(std::string(name) + " is no string");
  auto bytes = decode_base64_text(field->as_string());
  if (!bytes) return malformed(std::string(name) + " is no base64");
  return std::move(*bytes);
}

Result<bool> read_flag(const json::object& from, const char* name) {
  const json::value* field = from.if_contains(name);
  if (field == nullptr) return false;
  if (!field->is_bool()) return malformed(std::string(name) + " is no boolean");
  return field->as_bool();
}

/// nullptr where the field is left out.
Result<const json::object*> read_object(const json::object& from, const char* name) {
  const json::value* field = from.if_contains(name);
  if (field == nullptr) return static_cast<const json::object*>(nullptr);
  if (!field->is_object()) return malformed(std::string(name) + " is no object");
  return &field->as_object();
}

Result<KeyValue> read_kv(const json::object& from) {
  KeyValue kv;
  ORC_ASSIGN(kv.key, read_bytes(from, "key"));
  ORC_ASSIGN(const std::string value, read_bytes(from, "value"));
  kv.value = Value(value);
  ORC_ASSIGN(kv.create_revision, read_number(from, "create_revision"));
  ORC_ASSIGN(kv.mod_revision, read_number(from, "mod_revision"));
  ORC_ASSIGN(kv.version, read_number(from, "version"));
  ORC_ASSIGN(kv.lease, read_number(from, "lease"));
  if (kv.key.empty()) return malformed("a key is empty");
  return kv;
}

Result<std::vector<KeyValue>> read_kvs(const json::object& from, const char* name) {
  std::vector<KeyValue> out;
  const json::value* field = from.if_contains(name);
  if (field == nullptr) return out;
  if (!field->is_array()) return malformed(std::string(name) + " is no list");
  out.reserve(field->as_array().size());
  for (const json::value& one : field->as_array()) {
    if (!one.is_object()) return malformed(std::string(name) + " holds something else than objects");
    ORC_ASSIGN(KeyValue kv, read_kv(one.as_object()));
    out.push_back(std::move(kv));
  }
  return out;
}

Result<RangeResult> read_range_fields(const json::object& from) {
  RangeResult result;
  ORC_ASSIGN(result.items, read_kvs(from, "kvs"));
  ORC_ASSIGN(result.more, read_flag(from, "more"));
  ORC_ASSIGN(const std::int64_t count, read_number(from, "count"));
  result.count = static_cast<std::uint64_t>(count);
  return result;
}

Result<TxnResult> read_txn_fields(const json::object& from, const Txn& txn, Revision revision);

Result<TxnResult::OpResult> read_op(const json::object& from, const TxnOp& op, Revision revision) {
  TxnResult::OpResult result;
  result.range.revision = revision;
  if (op.type == TxnOp::Type::txn) {
    ORC_ASSIGN(const json::object* inner, read_object(from, "response_txn"));
    if (inner == nullptr) return malformed("no response to a nested txn");
    ORC_ASSIGN(TxnResult nested, read_txn_fields(*inner, op.nested.front(), revision));
    result.nested.push_back(std::move(nested));
    return result;
  }
  if (op.type == TxnOp::Type::range) {
    ORC_ASSIGN(const json::object* range, read_object(from, "response_range"));
    if (range != nullptr) {
      ORC_ASSIGN(result.range, read_range_fields(*range));
      result.range.revision = revision;
    }
    return result;
  }
  const bool put = op.type == TxnOp::Type::put;
  ORC_ASSIGN(const json::object* answer, read_object(from, put ? "response_put" : "response_delete_range"));
  if (answer == nullptr) return result;
  if (put) {
    ORC_ASSIGN(const json::object* previous, read_object(*answer, "prev_kv"));
    if (previous == nullptr) return result;
    ORC_ASSIGN(KeyValue kv, read_kv(*previous));
    result.previous.push_back(std::move(kv));
    return result;
  }
  ORC_ASSIGN(const std::int64_t removed, read_number(*answer, "deleted"));
  result.removed = static_cast<std::uint64_t>(removed);
  ORC_ASSIGN(result.previous, read_kvs(*answer, "prev_kvs"));
  return result;
}

/// The outermost txn's revision is that of all: etcd's answers to nested ones carry none.
Result<TxnResult> read_txn_fields(const json::object& from, const Txn& txn, Revision revision) {
  TxnResult result;
  result.revision = revision;
  ORC_ASSIGN(result.succeeded, read_flag(from, "succeeded"));
  const auto& ops = result.succeeded ? txn.then : txn.otherwise;
  const json::value* responses = from.if_contains("responses");
  const std::size_t count = responses != nullptr && responses->is_array() ? responses->as_array().size() : 0;
  if (count != ops.size()) {
    return malformed(std::to_string(count) + " responses for " + std::to_string(ops.size()) + " operations");
  }
  for (std::size_t i = 0; i < count; ++i) {
    const json::value& one = responses->as_array()[i];
    if (!one.is_object()) return malformed("a response is no object");
    ORC_ASSIGN(TxnResult::OpResult op, read_op(one.as_object(), ops[i], revision));
    result.ops.push_back(std::move(op));
  }
  return result;
}

Result<void> read_events(const json::object& result, WatchMessage& message) {
  const json::value* events = result.if_contains("events");
  if (events == nullptr) return {};
  if (!events->is_array()) return malformed("events is no list");
  message.events.reserve(events->as_array().size());
  for (const json::value& each : events->as_array()) {
    if (!each.is_object()) return malformed("an event is no object");
    ORC_ASSIGN(const json::object* kv, read_object(each.as_object(), "kv"));
    if (kv == nullptr) return malformed("an event without kv");
    ORC_ASSIGN(KeyValue read, read_kv(*kv));
    const json::value* type = each.as_object().if_contains("type");
    const bool removal = type != nullptr && type->is_string() && type->as_string() == "DELETE";
    if (removal) {
      read.version = 0;
    } else if (read.version <= 0) {
      return malformed("a put without a version");
    }
    message.events.push_back(std::move(read));
  }
  return {};
}

}  // namespace

std::string encode_range(const KeyRange& range, const RangeOptions& options) {
  return to_json(range_object(range, options));
}

std::string encode_newest(const KeyRange& range) {
  json::object out = range_object(range, {.limit = 1, .keys_only = true});
  out["sort_order"] = "DESCEND";
  out["sort_target"] = "MOD";
  return to_json(out);
}

std::string encode_txn(const Txn& txn) { return to_json(txn_object(txn)); }

std::string encode_watch(const KeyRange& range, Revision after) {
  json::object create;
  add_range(create, range);
  create["start_revision"] = std::to_string(after + 1);
  create["fragment"] = true;
  create["progress_notify"] = true;
  return to_json(json::object{{"create_request", std::move(create)}});
}

Result<std::int64_t> read_number(const json::object& from, const char* name) {
  const json::value* field = from.if_contains(name);
  if (field == nullptr) return 0;
  if (field->is_int64()) return field->as_int64();
  if (field->is_string()) {
    const json::string& text = field->as_string();
    std::int64_t number = 0;
    const auto end = std::from_chars(text.data(), text.data() + text.size(), number);
    if (end.ec == std::errc() && end.ptr == text.data() + text.size()) return number;
  }
  return malformed(std::string(name) + " is no number");
}

Result<Header> read_header(const json::object& answer) {
  Header header;
  ORC_ASSIGN(const json::object* from, read_object(answer, "header"));
  if (from == nullptr) return malformed("there is no header");
  ORC_ASSIGN(header.revision, read_number(*from, "revision"));
  const json::value* cluster = from->if_contains("cluster_id");
  if (cluster != nullptr && cluster->is_string()) header.cluster = std::string(cluster->as_string());
  return header;
}

Result<RangeResult> read_range_answer(const json::object& answer) {
  ORC_ASSIGN(const Header header, read_header(answer));
  ORC_ASSIGN(RangeResult result, read_range_fields(answer));
  result.revision = header.revision;
  return result;
}

Result<TxnResult> read_txn_answer(const json::object& answer, const Txn& txn) {
  ORC_ASSIGN(const Header header, read_header(answer));
  return read_txn_fields(answer, txn, header.revision);
}

Failure read_failure(int http_status, std::string_view body) {
  Failure failure{http_status, 0, std::string(body.substr(0, 200))};
  auto parsed = parse_json(body);
  if (!parsed || !parsed->is_object()) return failure;
  auto code = read_number(parsed->as_object(), "code");
  const json::value* message = parsed->as_object().if_contains("message");
  if (!code || message == nullptr || !message->is_string()) return failure;
  failure.code = static_cast<int>(*code);
  failure.message = std::string(message->as_string());
  return failure;
}

Result<WatchMessage> read_watch(std::string_view text) {
  ORC_ASSIGN(const json::value parsed, parse_json(text));
  if (!parsed.is_object()) return malformed("a watch message is no object");
  ORC_ASSIGN(const json::object* result, read_object(parsed.as_object(), "result"));
  if (result == nullptr)
    return malformed("a watch message without result: " + std::string(text.substr(0, 200)));
  WatchMessage message;
  ORC_ASSIGN(message.header, read_header(*result));
  ORC_ASSIGN(message.watch_id, read_number(*result, "watch_id"));
  ORC_ASSIGN(message.created, read_flag(*result, "created"));
  ORC_ASSIGN(message.canceled, read_flag(*result, "canceled"));
  ORC_ASSIGN(message.fragment, read_flag(*result, "fragment"));
  ORC_ASSIGN(message.compact_revision, read_number(*result, "compact_revision"));
  const json::value* reason = result->if_contains("cancel_reason");
  if (reason != nullptr && reason->is_string()) message.cancel_reason = std::string(reason->as_string());
  ORC_TRY(read_events(*result, message));
  return message;
}

bool wants_token(const Failure& failure) {
  const auto has = [&](const char* text) { return failure.message.find(text) != std::string::npos; };
  return failure.code == 16 ||
         (failure.code == 3 && (has("user name is empty") || has("revision in header is old")));
}

Error to_error(const Failure& failure, bool write, const std::string& where) {
  const auto has = [&](const char* text) { return failure.message.find(text) != std::string::npos; };
  const auto error = [&](Error::Code code) { return Error(code, "store", where + ": " + failure.message); };
  switch (failure.code) {
    case 0:
      if (failure.http_status == 404 || failure.http_status == 405) {
        return Error(Error::unsupported, "store",
                     where + " answers " + std::to_string(failure.http_status) +
                         ": no JSON gateway is there; start etcd with --enable-grpc-gateway (3.4 or later)");
      }
      return Error(write ? Error::unknown_outcome : Error::unavailable, "store",
                   where + " answers " + std::to_string(failure.http_status) + ": " + failure.message);
    case 3:
      if (has("too many operations") || has("too large")) return error(Error::too_large);
      if (has("user name is empty") || has("authentication failed")) return error(Error::unauthenticated);
      return error(Error::invalid);
    case 5:
      return error(Error::not_found);
    case 6:
      return error(Error::already_exists);
    case 7:
      return error(Error::denied);
    case 8:
      if (has("space exceeded")) return error(Error::no_space);
      if (has("larger than max") || has("too large")) return error(Error::too_large);
      return error(Error::overloaded);
    case 9:
      return error(has("already exists") ? Error::conflict : Error::invalid);
    case 11:
      return error(has("future") ? Error::future : has("compacted") ? Error::compacted : Error::invalid);
    case 12:
      return error(Error::unsupported);
    case 16:
      return error(Error::unauthenticated);
    default:  // cancelled, unknown, deadline, aborted, internal, unavailable, data loss
      if (write) return error(Error::unknown_outcome);
      return error(failure.code == 4 ? Error::deadline_exceeded : Error::unavailable);
  }
}

std::optional<Version> read_version(std::string_view text) {
  Version version;
  int* const parts[] = {&version.major, &version.minor, &version.patch};
  for (std::size_t i = 0; i < 3; ++i) {
    const auto end = std::from_chars(text.data(), text.data() + text.size(), *parts[i]);
    if (end.ec != std::errc() || *parts[i] < 0) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end.ptr - text.data()));
    if (i < 2) {
      if (text.empty() || text.front() != '.') return std::nullopt;
      text.remove_prefix(1);
    }
  }
  return version;
}

bool trusts_progress(const Version& version) {
  return (version >= Version{3, 4, 31} && version < Version{3, 5, 0}) || version >= Version{3, 5, 13};
}

}  // namespace orchestra::store::etcd
