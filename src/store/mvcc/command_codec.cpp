// The first byte is the format version, the second the command's type; then its fields in order.
#include "store/mvcc/command_codec.hpp"

#include <algorithm>
#include <bit>

#include "base/assert.hpp"
#include "store/mvcc/wire.hpp"

namespace orchestra::store {
namespace {

constexpr std::uint8_t kVersion = 1;
enum Type : std::uint8_t {
  kTxn = 1,
  kLeaseGrant = 2,
  kLeaseRevoke = 3,
  kCompact = 4,
  kLeaseCheckpoint = 5,
  kSessionOpen = 6,
  kOnceTxn = 7,
  kStateCheck = 8,
  kNestedTxn = 9  ///< a txn with txns in it: releases that do not know them stop here by name
};
static_assert(kNestedTxn == kCommandsKnown, "peers are told the last type");
enum RangeFlag : std::uint8_t { kSingle = 1, kToTheEnd = 2 };
enum OpFlag : std::uint8_t { kWantPrevious = 1, kKeysOnly = 2, kCountOnly = 4, kDescending = 8 };

void write_keys(FixedWriter& out, const KeyRange& range) {
  out.u8(static_cast<std::uint8_t>((range.single ? kSingle : 0) | (range.to_the_end ? kToTheEnd : 0)));
  out.bytes(range.begin);
  if (!range.single && !range.to_the_end) out.bytes(range.end);
}
KeyRange read_range_bytes(Reader& in) {
  KeyRange range;
  const std::uint8_t flags = in.u8();
  if ((flags & ~(kSingle | kToTheEnd)) != 0) in.fail();
  range.single = (flags & kSingle) != 0;
  range.to_the_end = (flags & kToTheEnd) != 0;
  range.begin = in.bytes();
  if (!range.single && !range.to_the_end) range.end = in.bytes();
  return range;
}

void write_txn(FixedWriter& out, const Txn& txn);
Txn read_txn(Reader& in, std::size_t depth);

void write_ops(FixedWriter& out, const std::vector<TxnOp>& ops) {
  out.varint(ops.size());
  for (const TxnOp& op : ops) {
    out.u8(static_cast<std::uint8_t>(op.type));
    if (op.type == TxnOp::Type::txn) {
      write_txn(out, op.nested.front());
      continue;
    }
    const RangeOptions& range = op.range_options;
    out.u8(static_cast<std::uint8_t>((op.want_previous ? kWantPrevious : 0) |
                                     (range.keys_only ? kKeysOnly : 0) | (range.count_only ? kCountOnly : 0) |
                                     (range.descending ? kDescending : 0)));
    write_keys(out, op.range);
    if (op.type == TxnOp::Type::put) {
      out.varint(static_cast<std::uint64_t>(op.lease));
      out.bytes(op.value.bytes());
    } else if (op.type == TxnOp::Type::range) {
      out.varint(range.limit);
      out.varint(static_cast<std::uint64_t>(range.revision));
    }
  }
}
/// `depth`: how many txns within one another may still come, this one counted.
std::vector<TxnOp> read_ops(Reader& in, std::size_t depth) {
  std::vector<TxnOp> ops;
  const std::size_t count = in.count();
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    TxnOp op;
    const std::uint8_t type = in.u8();
    if (type > static_cast<std::uint8_t>(TxnOp::Type::txn)) in.fail();
    op.type = static_cast<TxnOp::Type>(type);
    if (in.ok() && op.type == TxnOp::Type::txn) {
      if (depth <= 1) {
        in.fail();
        break;
      }
      op.nested.push_back(read_txn(in, depth - 1));
      ops.push_back(std::move(op));
      continue;
    }
    const std::uint8_t flags = in.u8();
    op.want_previous = (flags & kWantPrevious) != 0;
    op.range_options.keys_only = (flags & kKeysOnly) != 0;
    op.range_options.count_only = (flags & kCountOnly) != 0;
    op.range_options.descending = (flags & kDescending) != 0;
    op.range = read_range_bytes(in);
    if (op.type == TxnOp::Type::put) {
      op.lease = static_cast<LeaseId>(in.varint());
      op.value = Value(in.bytes());
    } else if (op.type == TxnOp::Type::range) {
      op.range_options.limit = in.varint();
      op.range_options.revision = static_cast<Revision>(in.varint());
    }
    ops.push_back(std::move(op));
  }
  return ops;
}

void write_txn(FixedWriter& out, const Txn& txn) {
  out.varint(txn.compares.size());
  for (const Compare& compare : txn.compares) {
    out.u8(static_cast<std::uint8_t>(compare.target));
    out.u8(static_cast<std::uint8_t>(compare.op));
    write_keys(out, compare.range);
    out.u64(static_cast<std::uint64_t>(compare.number));
    out.bytes(compare.value);
  }
  write_ops(out, txn.then);
  write_ops(out, txn.otherwise);
}
Txn read_txn(Reader& in, std::size_t depth) {
  Txn txn;
  const std::size_t count = in.count();
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    Compare compare;
    const std::uint8_t target = in.u8();
    const std::uint8_t op = in.u8();
    if (target > static_cast<std::uint8_t>(Compare::Target::lease)) in.fail();
    if (op > static_cast<std::uint8_t>(Compare::Op::greater)) in.fail();
    compare.target = static_cast<Compare::Target>(target);
    compare.op = static_cast<Compare::Op>(op);
    compare.range = read_range_bytes(in);
    compare.number = static_cast<std::int64_t>(in.u64());
    compare.value = in.bytes();
    txn.compares.push_back(std::move(compare));
  }
  txn.then = read_ops(in, depth);
  txn.otherwise = read_ops(in, depth);
  return txn;
}

// What the encoding takes, to the byte: it is written into one piece of memory.
constexpr std::size_t varint_size(std::uint64_t value) {
  return (static_cast<std::size_t>(std::bit_width(value | 1)) + 6) / 7;
}
std::size_t size_of(std::string_view bytes) { return varint_size(bytes.size()) + bytes.size(); }
std::size_t size_of(const KeyRange& range) {
  return 1 + size_of(range.begin) + (!range.single && !range.to_the_end ? size_of(range.end) : 0);
}
std::size_t size_of(const Txn& txn) {
  std::size_t bytes = varint_size(txn.compares.size());
  for (const Compare& compare : txn.compares)
    bytes += 2 + 8 + size_of(compare.range) + size_of(compare.value);
  for (const auto* ops : {&txn.then, &txn.otherwise}) {
    bytes += varint_size(ops->size());
    for (const TxnOp& op : *ops) {
      if (op.type == TxnOp::Type::txn) {
        bytes += 1 + size_of(op.nested.front());
        continue;
      }
      bytes += 2 + size_of(op.range);
      if (op.type == TxnOp::Type::put)
        bytes += varint_size(static_cast<std::uint64_t>(op.lease)) + size_of(op.value.bytes());
      if (op.type == TxnOp::Type::range) {
        bytes += varint_size(op.range_options.limit) +
                 varint_size(static_cast<std::uint64_t>(op.range_options.revision));
      }
    }
  }
  return bytes;
}
bool has_nested(const Txn& txn) {
  const auto is_txn = [](const TxnOp& op) { return op.type == TxnOp::Type::txn; };
  return std::any_of(txn.then.begin(), txn.then.end(), is_txn) ||
         std::any_of(txn.otherwise.begin(), txn.otherwise.end(), is_txn);
}

}  // namespace

std::string encode_command(const Command& command) {
  std::size_t room = 2 + 2 * varint_size(~std::uint64_t{0});  // of what has no lists
  if (const auto* txn = std::get_if<Txn>(&command)) room = 2 + size_of(*txn);
  if (const auto* once = std::get_if<OnceTxn>(&command)) room += size_of(once->txn);
  if (const auto* checkpoint = std::get_if<LeaseCheckpoint>(&command))
    room += 2 * varint_size(~std::uint64_t{0}) * checkpoint->leases.size();
  std::string bytes(room, '\0');
  FixedWriter out(bytes.data());
  out.u8(kVersion);
  if (const auto* txn = std::get_if<Txn>(&command)) {
    out.u8(has_nested(*txn) ? kNestedTxn : kTxn);
    write_txn(out, *txn);
  } else if (const auto* grant = std::get_if<LeaseGrant>(&command)) {
    out.u8(kLeaseGrant);
    out.varint(static_cast<std::uint64_t>(grant->id));
    out.varint(static_cast<std::uint64_t>(grant->ttl.count()));
  } else if (const auto* revoke = std::get_if<LeaseRevoke>(&command)) {
    out.u8(kLeaseRevoke);
    out.varint(static_cast<std::uint64_t>(revoke->id));
  } else if (const auto* checkpoint = std::get_if<LeaseCheckpoint>(&command)) {
    out.u8(kLeaseCheckpoint);
    out.varint(checkpoint->leases.size());
    for (const LeaseCheckpoint::Left& left : checkpoint->leases) {
      out.varint(static_cast<std::uint64_t>(left.id));
      out.varint(static_cast<std::uint64_t>(left.remaining.count()));
    }
  } else if (std::holds_alternative<SessionOpen>(command)) {
    out.u8(kSessionOpen);
  } else if (const auto* check = std::get_if<StateCheck>(&command)) {
    out.u8(kStateCheck);
    out.u64(check->number);
  } else if (const auto* once = std::get_if<OnceTxn>(&command)) {
    out.u8(kOnceTxn);
    out.varint(once->session);
    out.varint(once->sequence);
    write_txn(out, once->txn);
  } else {
    out.u8(kCompact);
    out.varint(static_cast<std::uint64_t>(std::get<Compact>(command).revision));
  }
  ORC_ASSERT(out.size() <= room);
  bytes.resize(out.size());
  return bytes;
}

std::uint8_t command_type(std::string_view bytes) {
  return bytes.size() > 1 ? static_cast<std::uint8_t>(bytes[1]) : 0;
}
Error unknown_command(std::string_view bytes, std::uint8_t known) {
  return Error(Error::unsupported, "store",
               "a log entry holds a command of type " + std::to_string(command_type(bytes)) + " in version " +
                   std::to_string(static_cast<std::uint8_t>(bytes[0])) + "; this release knows types 1 to " +
                   std::to_string(known) + " in version 1: run a newer release");
}

Result<Command> decode_command(std::string_view bytes) {
  Reader in(bytes);
  const std::uint8_t version = in.u8();
  const std::uint8_t type = in.u8();
  if (in.ok() && (version != kVersion || type < kTxn || type > kNestedTxn))
    return unknown_command(bytes, kNestedTxn);
  Command command;
  switch (type) {
    case kTxn:
      command = read_txn(in, 1);
      break;
    case kNestedTxn:
      command = read_txn(in, kTxnDepthMax);
      break;
    case kLeaseGrant: {
      LeaseGrant grant;
      grant.id = static_cast<LeaseId>(in.varint());
      grant.ttl = std::chrono::seconds(in.varint());
      command = grant;
      break;
    }
    case kLeaseRevoke:
      command = LeaseRevoke{static_cast<LeaseId>(in.varint())};
      break;
    case kLeaseCheckpoint: {
      LeaseCheckpoint checkpoint;
      const std::size_t count = in.count();
      for (std::size_t i = 0; i < count && in.ok(); ++i) {
        const auto id = static_cast<LeaseId>(in.varint());
        checkpoint.leases.push_back({id, std::chrono::milliseconds(in.varint())});
      }
      command = std::move(checkpoint);
      break;
    }
    case kSessionOpen:
      command = SessionOpen{};
      break;
    case kStateCheck:
      command = StateCheck{in.u64()};
      break;
    case kOnceTxn: {
      OnceTxn once;
      once.session = in.varint();
      once.sequence = in.varint();
      once.txn = read_txn(in, 1);
      command = std::move(once);
      break;
    }
    default:
      command = Compact{static_cast<Revision>(in.varint())};
      break;
  }
  if (!in.done()) return Error(Error::corrupt, "store", "a log entry holds a malformed command");
  return command;
}

}  // namespace orchestra::store
