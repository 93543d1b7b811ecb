// Applying depends on the log alone: two states that come from one sequence of commands are equal, however
// each of them came there. And what was compacted stays compacted over a crash.
#include "base/engine_manual.hpp"
#include "orchestra/raft_store.hpp"
#include "sim/sim_disk.hpp"
#include "sim/sim_env.hpp"
#include "store/disk/snapshot.hpp"
#include "store/mvcc/command_codec.hpp"
#include "store/mvcc/state.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

/// As a peer that was sent a snapshot has it.
MvccState by_snapshot(const MvccState& state) {
  SnapshotImage image;
  image.meta.revision = state.revision();
  image.meta.compacted = state.compacted();
  image.meta.sessions = state.sessions();
  image.hash = state.hash();
  image.tree = state.tree();
  for (const auto& [id, lease] : state.leases()) image.leases.push_back({id, lease.ttl, lease.checkpoint});
  for (Sequence at = state.history().begin(); at < state.history().end(); ++at)
    image.changes.push_back(state.history().at(at));
  std::string bytes;
  REQUIRE(write_snapshot(image, [&](std::string_view part) {
            bytes.append(part);
            return Result<void>();
          }).has_value());
  MvccState copy;
  const auto source = [&bytes, at = std::size_t{0}](std::size_t size) mutable -> Result<std::string> {
    std::string part = bytes.substr(std::min(at, bytes.size()), size);
    at += part.size();
    return part;
  };
  REQUIRE(read_snapshot(source, &copy).has_value());
  return copy;
}

class Commands {
 public:
  explicit Commands(std::uint64_t seed) : random_(seed) {}
  Command next(const MvccState& state) {
    const std::uint64_t kind = random_.below(20);
    if (kind == 0) return LeaseGrant{static_cast<LeaseId>(1 + random_.below(5)), std::chrono::seconds(60)};
    if (kind == 1) return LeaseRevoke{static_cast<LeaseId>(1 + random_.below(5))};
    if (kind == 2) return Compact{revision_of(state)};
    if (kind == 3) return SessionOpen{};
    if (kind == 4) {
      LeaseCheckpoint checkpoint;
      checkpoint.leases.push_back(
          {static_cast<LeaseId>(1 + random_.below(5)), std::chrono::milliseconds(random_.below(60'000))});
      return checkpoint;
    }
    Txn txn;
    for (std::uint64_t i = random_.below(2); i > 0; --i) {
      Compare compare;
      compare.range = Key(key());
      compare.target = static_cast<Compare::Target>(random_.below(5));
      compare.op = static_cast<Compare::Op>(random_.below(4));
      compare.number = static_cast<std::int64_t>(random_.below(4));
      compare.value = "0";
      txn.compares.push_back(std::move(compare));
    }
    txn.then.push_back(op(state));
    txn.otherwise.push_back(op(state));
    if (kind == 6) {
      Txn inner{{}, {op(state)}, {op(state)}};
      inner.compares.push_back({Key(key()), Compare::Target::version, Compare::Op::greater, 1});
      inner.then.push_back(nest(Txn{txn.compares, {}, {op(state)}}));
      (random_.below(2) == 0 ? txn.then : txn.otherwise).push_back(nest(std::move(inner)));
      return check_txn(txn, {}) ? txn : Txn{};
    }
    if (kind == 5) return OnceTxn{1 + random_.below(3), 1 + random_.below(40), std::move(txn)};
    return txn;
  }

 private:
  std::string key() { return "k" + std::to_string(random_.below(12)); }
  Revision revision_of(const MvccState& state) {  // mostly one that is there, now and then not
    return static_cast<Revision>(random_.below(static_cast<std::uint64_t>(state.revision()) + 3));
  }
  TxnOp op(const MvccState& state) {
    TxnOp made;
    const std::uint64_t kind = random_.below(5);
    made.type = kind < 3 ? TxnOp::Type::put : kind == 3 ? TxnOp::Type::remove : TxnOp::Type::range;
    made.range = Key(key());
    if (made.type == TxnOp::Type::put) {
      made.value = Value(std::to_string(random_.below(3)));
      made.lease = random_.below(4) == 0 ? static_cast<LeaseId>(1 + random_.below(5)) : 0;
    } else if (random_.below(3) == 0) {
      made.range = KeyPrefix("k1");
    }
    // At a revision that is compacted here is compacted everywhere: the txn fails alike (etcd #18667).
    if (made.type == TxnOp::Type::range) made.range_options.revision = revision_of(state);
    made.want_previous = random_.below(2) == 0;
    return made;
  }
  sim::SimRandom random_;
};

std::string told(const Outcome& outcome) {
  if (!outcome) return outcome.error().to_string();
  std::string text = std::to_string(outcome->succeeded) + " " + std::to_string(outcome->revision);
  for (const auto& op : outcome->ops) {
    text += " " + std::to_string(op.removed);
    for (const KeyValue& kv : op.previous) text += " was " + kv.key + "=" + std::string(kv.value.bytes());
    for (const KeyValue& kv : op.range.items) text += " has " + kv.key + "=" + std::string(kv.value.bytes());
    for (const TxnResult& nested : op.nested) text += " (" + told(nested) + ")";
  }
  return text;
}

}  // namespace

TEST_CASE("states that come from one log are equal, whether by commands, by their bytes, or by a snapshot") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Commands commands(seed);
    MvccState direct, encoded, installed;
    for (int i = 0; i < 1500; ++i) {
      const Command command = commands.next(direct);
      const std::string here = told(direct.apply(command));
      auto decoded = decode_command(encode_command(command));
      REQUIRE(decoded.has_value());
      REQUIRE(told(encoded.apply(std::move(*decoded))) == here);
      if (i % 400 == 399) {
        installed = by_snapshot(direct);
      } else {
        REQUIRE(told(installed.apply(command)) == here);
      }
      REQUIRE(encoded.fingerprint() == direct.fingerprint());
      REQUIRE(installed.fingerprint() == direct.fingerprint());
    }
    CHECK(direct.revision() > 300);
    CHECK(direct.compacted() > 0);
    direct.tree().check();
  }
}

TEST_CASE("a txn is written as before; one within it makes a command that earlier releases refuse by name") {
  Txn txn;
  txn.compares.push_back({Key("a"), Compare::Target::mod, Compare::Op::equal, 7});
  txn.then = {TxnOp{.range = Key("a"), .value = "1"}};
  const std::string plain = encode_command(Command(txn));
  // As release 0.1 wrote it: version 1, type 1, one compare, one put, nothing else.
  CHECK(plain == std::string("\1\1\1\2\0\1\1a\7\0\0\0\0\0\0\0\0\1\0\0\1\1a\0\1"
                             "1\0",
                             27));
  Txn outer;
  outer.then = {nest(txn)};
  std::string nested = encode_command(Command(outer));
  CHECK(nested.substr(0, 2) == "\1\t");
  const auto read = decode_command(nested);
  REQUIRE(read.has_value());
  CHECK(encode_command(*read) == nested);
  nested[1] = 1;  // hidden in a command of the type that has none
  CHECK(decode_command(nested).error().is(Error::corrupt));
  Txn deep;
  for (std::size_t depth = 1; depth < kTxnDepthMax; ++depth) deep = Txn{{}, {nest(deep)}, {}};
  CHECK(decode_command(encode_command(Command(deep))).has_value());
  deep = Txn{{}, {nest(deep)}, {}};
  CHECK(decode_command(encode_command(Command(deep))).error().is(Error::corrupt));
  nested = "\1\n";
  CHECK(decode_command(nested).error().is(Error::unsupported));
}

TEST_CASE("neither revision nor compaction goes back over a crash, with deletes as the last changes") {
  const auto script = [](sim::SimDisk& disk, Revision& revision, Revision& compacted) {
    sim::SimClock clock;
    sim::SimRandom random(1);
    EngineOptions options;
    options.event_threads = 0;
    options.clock = &clock;
    options.random = &random;
    options.disk = &disk;
    Engine engine(options);
    RaftStoreOptions store;
    store.data_dir = "/s";
    store.limits = no_compaction();
    store.segment_bytes = Bytes{64u << 10};
    store.first_segment_bytes = Bytes{16u << 10};
    store.snapshot_log_bytes = Bytes{20u << 10};
    store.log_thread = false;
    auto opened = RaftStore::open(engine, store);
    if (!opened) return;
    CHECK((*opened)->revision() >= revision);
    CHECK((*opened)->compacted_revision() >= compacted);
    for (int i = 0; i < 30; ++i) {
      auto put = (*opened)->put("k" + std::to_string(i % 3), std::string(1500, 'v'));
      auto removed = (*opened)->remove(KeyPrefix("k"));
      run_ready(engine);
      if (removed.is_ready() && removed.wait(0s)) revision = removed.wait(0s)->revision;
      if (i % 5 != 4) continue;
      auto compact = (*opened)->compact(revision);
      run_ready(engine);
      if (compact.is_ready() && compact.wait(0s)) compacted = revision;
    }
    (*opened)->stop();
    run_ready(engine);
  };
  std::uint64_t operations = 0;
  {
    sim::SimDisk disk(1);
    Revision revision = 0, compacted = 0;
    script(disk, revision, compacted);
    operations = disk.operations();
    REQUIRE(compacted == 61);
  }
  for (std::uint64_t at = 1; at <= operations; ++at) {
    sim::SimDisk disk(at);
    Revision revision = 0, compacted = 0;
    disk.crash_at(at);
    script(disk, revision, compacted);
    disk.restart();
    script(disk, revision, compacted);
    CHECK(compacted >= 61);
  }
}

}  // namespace orchestra::store::test
