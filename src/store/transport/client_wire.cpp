// Calls and answers of StoreClient and StoreServer as bytes (client_wire.hpp).
#include "store/transport/client_wire.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "store/mvcc/command.hpp"

namespace orchestra::store {
namespace {

Error malformed(const char* what) {
  return Error(Error::corrupt, "store", std::string("malformed ") + what + " of the store protocol");
}
void write_signed(Writer& out, std::int64_t value) { out.u64(static_cast<std::uint64_t>(value)); }
std::int64_t read_signed(Reader& in) { return static_cast<std::int64_t>(in.u64()); }
void write_double(Writer& out, double value) { out.u64(std::bit_cast<std::uint64_t>(value)); }
double read_double(Reader& in) { return std::bit_cast<double>(in.u64()); }

void write_key_values(Writer& out, const std::vector<KeyValue>& all) {
  out.varint(all.size());
  for (const KeyValue& kv : all) write_key_value(out, kv);
}
std::vector<KeyValue> read_key_values(Reader& in) {
  std::vector<KeyValue> all;
  const std::size_t count = in.count();
  for (std::size_t i = 0; i < count && in.ok(); ++i) all.push_back(read_key_value(in));
  return all;
}
void write_texts(Writer& out, const std::vector<std::string>& texts) {
  out.varint(texts.size());
  for (const std::string& text : texts) out.bytes(text);
}
std::vector<std::string> read_texts(Reader& in) {
  std::vector<std::string> texts;
  const std::size_t count = in.count();
  for (std::size_t i = 0; i < count && in.ok(); ++i) texts.emplace_back(in.bytes());
  return texts;
}
enum RangeFlag : std::uint8_t { kSingle = 1, kToTheEnd = 2 };
enum OptionFlag : std::uint8_t { kKeysOnly = 1, kCountOnly = 2, kDescending = 4, kSerializable = 8 };
enum TxnFlag : std::uint8_t { kSucceeded = 1, kNests = 2 };
enum class Detail : std::uint8_t { none, key_value, revisions, retry };

}  // namespace

bool repeatable(ClientOp op) {
  switch (op) {
    case ClientOp::get:
    case ClientOp::range:
    case ClientOp::watch:
    case ClientOp::lease_keep_alive:
    case ClientOp::lease_time_to_live:
    case ClientOp::lease_list:
    case ClientOp::wait_revision:
    case ClientOp::status:
    case ClientOp::members:
    case ClientOp::session_open:
    case ClientOp::put_once:
      return true;
    default:
      return false;
  }
}

std::string encode_client_hello() {
  std::string bytes;
  Writer out(bytes);
  out.u32(kClientMagic);
  out.u8(kClientProtocolVersion);
  return bytes;
}
Result<void> check_client_hello(std::string_view frame) {
  Reader in(frame);
  const std::uint32_t magic = in.u32();
  const std::uint8_t version = in.u8();
  if (!in.ok() || magic != kClientMagic)
    return Error(Error::invalid, "store", "the other side does not speak the protocol of store clients");
  if (version != kClientProtocolVersion)
    return Error(Error::unsupported, "store",
                 "the client speaks version " + std::to_string(version) + " of the protocol, this server 1");
  return {};
}

std::string encode_server_hello(const std::string& cluster_id, const StoreCapabilities& capabilities) {
  std::string bytes;
  Writer out(bytes);
  out.u32(kClientMagic);
  out.u8(kClientProtocolVersion);
  out.bytes(cluster_id);
  out.u8(static_cast<std::uint8_t>((capabilities.watch_progress ? 1 : 0) |
                                   (capabilities.range_stream ? 2 : 0) | (capabilities.exactly_once ? 4 : 0) |
                                   (capabilities.txn_depth_max > 1 ? 8 : 0)));
  out.u64(capabilities.value_bytes_max.value);
  out.u64(capabilities.key_bytes_max.value);
  out.u64(capabilities.txn_ops_max);
  return bytes;
}
Result<ServerHello> decode_server_hello(std::string_view frame) {
  Reader in(frame);
  ServerHello hello;
  const std::uint32_t magic = in.u32();
  const std::uint8_t version = in.u8();
  if (!in.ok() || magic != kClientMagic || version != kClientProtocolVersion)
    return Error(Error::invalid, "store", "at this address is no store server of this release");
  hello.cluster_id = in.bytes();
  const std::uint8_t flags = in.u8();
  hello.capabilities.watch_progress = (flags & 1) != 0;
  hello.capabilities.range_stream = (flags & 2) != 0;
  hello.capabilities.exactly_once = (flags & 4) != 0;
  hello.capabilities.txn_depth_max = (flags & 8) != 0 ? kTxnDepthMax : 1;
  hello.capabilities.value_bytes_max = Bytes{in.u64()};
  hello.capabilities.key_bytes_max = Bytes{in.u64()};
  hello.capabilities.txn_ops_max = in.u64();
  if (!in.done()) return malformed("greeting");
  return hello;
}

std::string encode_call(std::uint64_t id, ClientOp op, std::string&& body) {
  std::array<char, 9> head;
  FixedWriter out(head.data());
  out.u64(id);
  out.u8(static_cast<std::uint8_t>(op));
  body.insert(0, head.data(), head.size());
  return std::move(body);
}
std::string encode_call(std::uint64_t id, ClientOp op, std::string_view body) {
  std::string bytes;
  bytes.reserve(body.size() + 9);
  bytes.append(body);
  return encode_call(id, op, std::move(bytes));
}
Result<Call> decode_call(std::string_view frame) {
  Reader in(frame);
  Call call;
  call.id = in.u64();
  const std::uint8_t op = in.u8();
  if (!in.ok() || op < 1 || op > static_cast<std::uint8_t>(kLastClientOp)) return malformed("call");
  call.op = static_cast<ClientOp>(op);
  call.body = frame.substr(frame.size() - in.left());
  return call;
}

std::string encode_server_frame(ServerFrame kind, std::uint64_t id, std::string_view body) {
  std::array<char, 9> head;
  FixedWriter out(head.data());
  out.u8(static_cast<std::uint8_t>(kind));
  out.u64(id);
  std::string bytes;
  bytes.reserve(body.size() + head.size());
  bytes.append(head.data(), head.size());
  bytes.append(body);
  return bytes;
}
Result<ServerMessage> decode_server_frame(std::string_view frame) {
  Reader in(frame);
  ServerMessage message;
  const std::uint8_t kind = in.u8();
  message.id = in.u64();
  if (!in.ok() || kind < 1 || kind > static_cast<std::uint8_t>(ServerFrame::chunk))
    return malformed("answer");
  message.kind = static_cast<ServerFrame>(kind);
  message.body = frame.substr(frame.size() - in.left());
  return message;
}

std::string encode_error(const Error& error) {
  std::string bytes;
  Writer out(bytes);
  out.u8(error.code());
  out.bytes(error.to_string());
  if (const auto* kv = error.detail<KeyValue>()) {
    out.u8(static_cast<std::uint8_t>(Detail::key_value));
    write_key_value(out, *kv);
  } else if (const auto* revisions = error.detail<RevisionDetail>()) {
    out.u8(static_cast<std::uint8_t>(Detail::revisions));
    write_signed(out, revisions->compacted);
    write_signed(out, revisions->current);
  } else if (const auto* retry = error.detail<RetryAfter>()) {
    out.u8(static_cast<std::uint8_t>(Detail::retry));
    out.u64(static_cast<std::uint64_t>(retry->after.count()));
  } else {
    out.u8(0);
  }
  return bytes;
}
Error decode_error(std::string_view bytes) {
  Reader in(bytes);
  const std::uint8_t code = in.u8();
  const std::string text(in.bytes());
  const std::uint8_t detail = in.u8();
  if (!in.ok() || code < Error::invalid || code > Error::internal) return malformed("error");
  Error error(static_cast<Error::Code>(code), "store", text);
  if (detail == static_cast<std::uint8_t>(Detail::key_value)) {
    KeyValue kv = read_key_value(in);
    return in.done() ? error.with_detail(std::move(kv)) : malformed("error");
  }
  if (detail == static_cast<std::uint8_t>(Detail::revisions)) {
    RevisionDetail revisions;
    revisions.compacted = read_signed(in);
    revisions.current = read_signed(in);
    return in.done() ? error.with_detail(revisions) : malformed("error");
  }
  if (detail == static_cast<std::uint8_t>(Detail::retry)) {
    const RetryAfter retry{Duration(static_cast<std::int64_t>(in.u64()))};
    return in.done() ? error.with_detail(retry) : malformed("error");
  }
  return error;
}

void write_range(Writer& out, const KeyRange& range) {
  out.u8(static_cast<std::uint8_t>((range.single ? kSingle : 0) | (range.to_the_end ? kToTheEnd : 0)));
  out.bytes(range.begin);
  out.bytes(range.end);
}
KeyRange read_key_range(Reader& in) {
  KeyRange range;
  const std::uint8_t flags = in.u8();
  if (flags > 3) in.fail();
  range.single = (flags & kSingle) != 0;
  range.to_the_end = (flags & kToTheEnd) != 0;
  range.begin = in.bytes();
  range.end = in.bytes();
  return range;
}

void write_options(Writer& out, const RangeOptions& options) {
  out.varint(options.limit);
  write_signed(out, options.revision);
  out.u8(static_cast<std::uint8_t>((options.keys_only ? kKeysOnly : 0) |
                                   (options.count_only ? kCountOnly : 0) |
                                   (options.descending ? kDescending : 0) |
                                   (options.consistency == Consistency::serializable ? kSerializable : 0)));
}
RangeOptions read_options(Reader& in) {
  RangeOptions options;
  options.limit = in.varint();
  options.revision = read_signed(in);
  const std::uint8_t flags = in.u8();
  options.keys_only = (flags & kKeysOnly) != 0;
  options.count_only = (flags & kCountOnly) != 0;
  options.descending = (flags & kDescending) != 0;
  if ((flags & kSerializable) != 0) options.consistency = Consistency::serializable;
  return options;
}

void write_key_value(Writer& out, const KeyValue& kv) {
  out.bytes(kv.key);
  out.bytes(kv.value.bytes());
  out.varint(static_cast<std::uint64_t>(kv.create_revision));
  out.varint(static_cast<std::uint64_t>(kv.mod_revision));
  out.varint(static_cast<std::uint64_t>(kv.version));
  out.varint(static_cast<std::uint64_t>(kv.lease));
}
KeyValue read_key_value(Reader& in) {
  KeyValue kv;
  kv.key = in.bytes();
  kv.value = Value(in.bytes());
  kv.create_revision = static_cast<Revision>(in.varint());
  kv.mod_revision = static_cast<Revision>(in.varint());
  kv.version = static_cast<std::int64_t>(in.varint());
  kv.lease = static_cast<LeaseId>(in.varint());
  return kv;
}

void write_result(Writer& out, const RangeResult& result) {
  write_key_values(out, result.items);
  out.u8(result.more ? 1 : 0);
  out.varint(result.count);
  write_signed(out, result.revision);
}
RangeResult read_range_result(Reader& in) {
  RangeResult result;
  result.items = read_key_values(in);
  result.more = in.u8() != 0;
  result.count = in.varint();
  result.revision = read_signed(in);
  return result;
}

void write_result(Writer& out, const WriteResult& result) {
  write_signed(out, result.revision);
  out.varint(result.removed);
  write_key_values(out, result.previous);
}
WriteResult read_write_result(Reader& in) {
  WriteResult result;
  result.revision = read_signed(in);
  result.removed = in.varint();
  result.previous = read_key_values(in);
  return result;
}

/// Only an answer to a txn that nests says so in its flags: earlier clients, who ask for none, read the
/// others.
void write_result(Writer& out, const TxnResult& result) {
  const bool nests = std::any_of(result.ops.begin(), result.ops.end(),
                                 [](const TxnResult::OpResult& op) { return !op.nested.empty(); });
  out.u8(static_cast<std::uint8_t>((result.succeeded ? kSucceeded : 0) | (nests ? kNests : 0)));
  write_signed(out, result.revision);
  out.varint(result.ops.size());
  for (const TxnResult::OpResult& op : result.ops) {
    out.varint(op.removed);
    write_key_values(out, op.previous);
    write_result(out, op.range);
    if (!nests) continue;
    out.u8(op.nested.empty() ? 0 : 1);
    if (!op.nested.empty()) write_result(out, op.nested.front());
  }
}
namespace {
TxnResult read_nested_result(Reader& in, std::size_t depth) {
  TxnResult result;
  const std::uint8_t flags = in.u8();
  if (flags > (kSucceeded | kNests) || depth == 0) {
    in.fail();
    return result;
  }
  result.succeeded = (flags & kSucceeded) != 0;
  result.revision = read_signed(in);
  const std::size_t count = in.count();
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    TxnResult::OpResult op;
    op.removed = in.varint();
    op.previous = read_key_values(in);
    op.range = read_range_result(in);
    if ((flags & kNests) != 0 && in.u8() != 0) op.nested.push_back(read_nested_result(in, depth - 1));
    result.ops.push_back(std::move(op));
  }
  return result;
}
}  // namespace
TxnResult read_txn_result(Reader& in) { return read_nested_result(in, kTxnDepthMax); }

void write_batch(Writer& out, const WatchBatch& batch) {
  write_signed(out, batch.revision);
  out.varint(batch.events.size());
  for (const WatchEvent& event : batch.events) {
    out.u8(static_cast<std::uint8_t>((event.type == WatchEvent::Type::remove ? 1 : 0) |
                                     (event.previous ? 2 : 0)));
    write_key_value(out, event.kv);
    if (event.previous) write_key_value(out, *event.previous);
  }
}
WatchBatch read_batch(Reader& in) {
  WatchBatch batch;
  batch.revision = read_signed(in);
  const std::size_t count = in.count();
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    WatchEvent event;
    const std::uint8_t flags = in.u8();
    event.type = (flags & 1) != 0 ? WatchEvent::Type::remove : WatchEvent::Type::put;
    event.kv = read_key_value(in);
    if ((flags & 2) != 0) event.previous = read_key_value(in);
    batch.events.push_back(std::move(event));
  }
  return batch;
}

void write_lease_info(Writer& out, const LeaseInfo& info) {
  write_signed(out, info.id);
  write_signed(out, info.ttl.count());
  write_signed(out, info.remaining.count());
  write_texts(out, info.keys);
}
LeaseInfo read_lease_info(Reader& in) {
  LeaseInfo info;
  info.id = read_signed(in);
  info.ttl = std::chrono::seconds(read_signed(in));
  info.remaining = std::chrono::seconds(read_signed(in));
  info.keys = read_texts(in);
  return info;
}

void write_status(Writer& out, const StoreStatus& status) {
  for (const std::string* text : {&status.kind, &status.role, &status.cluster_id, &status.durability})
    out.bytes(*text);
  for (const std::uint64_t number :
       {status.term, status.log_index, status.applied_index, static_cast<std::uint64_t>(status.revision),
        static_cast<std::uint64_t>(status.compacted_revision), status.keys, status.state_bytes.value,
        status.log_bytes.value, status.ring_bytes.value, status.watchers, status.leases})
    out.u64(number);
  write_double(out, status.sync_p50_us);
  write_double(out, status.sync_p99_us);
  write_texts(out, status.alarms);
  write_texts(out, status.notes);
}
StoreStatus read_status(Reader& in) {
  StoreStatus status;
  for (std::string* text : {&status.kind, &status.role, &status.cluster_id, &status.durability})
    *text = in.bytes();
  status.term = in.u64();
  status.log_index = in.u64();
  status.applied_index = in.u64();
  status.revision = read_signed(in);
  status.compacted_revision = read_signed(in);
  status.keys = in.u64();
  status.state_bytes = Bytes{in.u64()};
  status.log_bytes = Bytes{in.u64()};
  status.ring_bytes = Bytes{in.u64()};
  status.watchers = in.u64();
  status.leases = in.u64();
  status.sync_p50_us = read_double(in);
  status.sync_p99_us = read_double(in);
  status.alarms = read_texts(in);
  status.notes = read_texts(in);
  return status;
}

void write_store_member(Writer& out, const StoreMember& member) {
  out.u64(member.id);
  for (const std::string* text : {&member.name, &member.address, &member.role, &member.trouble})
    out.bytes(*text);
  out.u8(static_cast<std::uint8_t>((member.self ? 1 : 0) | (member.reachable ? 2 : 0)));
  out.u64(member.lag);
  write_double(out, member.round_trip_us);
}
StoreMember read_store_member(Reader& in) {
  StoreMember member;
  member.id = in.u64();
  for (std::string* text : {&member.name, &member.address, &member.role, &member.trouble}) *text = in.bytes();
  const std::uint8_t flags = in.u8();
  member.self = (flags & 1) != 0;
  member.reachable = (flags & 2) != 0;
  member.lag = in.u64();
  member.round_trip_us = read_double(in);
  return member;
}

}  // namespace orchestra::store
