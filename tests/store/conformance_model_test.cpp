// Ten thousand random operations on every StateStore, against a model made of std::maps.
#include <map>

#include "sim/sim_env.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

struct ModelKey {
  std::string value;
  Revision create = 0, mod = 0;
  std::int64_t version = 0;
  friend bool operator==(const ModelKey&, const ModelKey&) = default;
};
using ModelTree = std::map<std::string, ModelKey>;

/// The whole history: one map per revision.
struct Model {
  std::map<Revision, ModelTree> at{{1, {}}};
  Revision revision = 1;
  Revision compacted = 0;
  ModelTree& newest() { return at[revision]; }
  ModelTree& next() {
    at[revision + 1] = at[revision];
    return at[++revision];
  }
  /// One put in a revision of its own.
  void put_next(const std::string& key, const std::string& value) {
    ModelTree& tree = next();
    put(tree, revision, key, value);
  }
  static void put(ModelTree& tree, Revision revision, const std::string& key, const std::string& value) {
    ModelKey& entry = tree[key];
    if (entry.version == 0) entry.create = revision;
    entry.mod = revision;
    entry.value = value;
    ++entry.version;
  }
};

std::string describe(const ModelTree& tree, const KeyRange& range) {
  std::string out;
  for (const auto& [key, entry] : tree) {
    if (!range.contains(key)) continue;
    out += key + "=" + entry.value + "@" + std::to_string(entry.create) + "/" + std::to_string(entry.mod) +
           "/" + std::to_string(entry.version) + " ";
  }
  return out;
}
std::string describe(const RangeResult& result) {
  std::string out;
  for (const KeyValue& kv : result.items) {
    out += kv.key + "=" + std::string(kv.value.bytes()) + "@" + std::to_string(kv.create_revision) + "/" +
           std::to_string(kv.mod_revision) + "/" + std::to_string(kv.version) + " ";
  }
  return out;
}

class Run {
 public:
  Run(StateStore& store, std::uint64_t seed) : store_(store), random_(seed) {}

  void operator()(int steps) {
    auto watch = store_.watch({.range = KeyPrefix("")});
    REQUIRE(watch.has_value());
    for (int i = 0; i < steps; ++i) {
      step(i);
      if (i % 200 == 199) follow(*watch);
    }
    follow(*watch);
    CHECK(describe(followed_, KeyPrefix("")) == describe(model_.newest(), KeyPrefix("")));
  }

 private:
  std::string key() { return std::string(1 + random_.below(2), static_cast<char>('a' + random_.below(6))); }
  KeyRange range() {
    switch (random_.below(4)) {
      case 0:
        return Key(key());
      case 1:
        return KeyPrefix(key());
      case 2:
        return {.begin = key(), .to_the_end = true};
      default:
        return {.begin = key(), .end = key()};
    }
  }

  void step(int i) {
    const std::uint64_t kind = random_.below(100);
    if (kind < 40) return put(i);
    if (kind < 55) return conditional(i);
    if (kind < 65) return remove();
    if (kind < 72) return txn(i);
    if (kind < 75) return nested_txn(i);
    if (kind < 99) return read();
    compact();
  }

  void put(int i) {
    const std::string at = key();
    const std::string value = std::to_string(i);
    auto result = store_.put(at, value).wait(kSoon);
    REQUIRE(result.has_value());
    model_.put_next(at, value);
    CHECK(result->revision == model_.revision);
  }

  void conditional(int i) {
    const std::string at = key();
    const auto found = model_.newest().find(at);
    const Revision now = found == model_.newest().end() ? 0 : found->second.mod;
    const Revision wanted = random_.below(2) == 0 ? now : static_cast<Revision>(random_.below(5));
    auto result = store_.put(at, std::to_string(i), {.if_mod_revision = wanted}).wait(kSoon);
    CHECK(result.has_value() == (wanted == now));
    if (result) {
      model_.put_next(at, std::to_string(i));
    } else {
      REQUIRE(result.error().detail<KeyValue>() != nullptr);
      CHECK(result.error().detail<KeyValue>()->mod_revision == now);
    }
  }

  void remove() {
    const KeyRange what = range();
    auto result = store_.remove(what).wait(kSoon);
    REQUIRE(result.has_value());
    std::vector<std::string> gone;
    for (const auto& [at, entry] : model_.newest()) {
      if (what.contains(at)) gone.push_back(at);
    }
    CHECK(result->removed == gone.size());
    if (gone.empty()) return;
    ModelTree& tree = model_.next();
    for (const std::string& at : gone) tree.erase(at);
  }

  void txn(int i) {
    const std::string a = key() + "1";
    const std::string b = key() + "2";
    Txn txn;
    txn.compares.push_back({Key(a), Compare::Target::version, Compare::Op::greater, 1});
    txn.then = {TxnOp{.range = Key(b), .value = std::to_string(i)},
                TxnOp{.type = TxnOp::Type::remove, .range = Key(a)}};
    txn.otherwise = {TxnOp{.range = Key(a), .value = std::to_string(i)}};
    auto result = store_.txn(txn).wait(kSoon);
    REQUIRE(result.has_value());
    const auto found = model_.newest().find(a);
    const bool holds = found != model_.newest().end() && found->second.version > 1;
    CHECK(result->succeeded == holds);
    ModelTree& tree = model_.next();
    if (holds) {
      Model::put(tree, model_.revision, b, std::to_string(i));
      tree.erase(a);
    } else {
      Model::put(tree, model_.revision, a, std::to_string(i));
    }
  }

  /// Three within one another; each level has keys of its own, so that none are put twice.
  void nested_txn(int i) {
    const std::string a = key() + "1", b = key() + "2", c = key() + "3";
    const std::string value = std::to_string(i);
    const auto often = [](const std::string& at) {
      return Compare{Key(at), Compare::Target::version, Compare::Op::greater, 1};
    };
    const auto put_op = [&](const std::string& at) { return TxnOp{.range = Key(at), .value = value}; };
    const auto remove_op = [](const std::string& at) {
      return TxnOp{.type = TxnOp::Type::remove, .range = Key(at)};
    };
    const Txn innermost{{often(a)}, {put_op(c)}, {remove_op(c)}};
    const Txn inner{{often(b)}, {nest(innermost), remove_op(b)}, {put_op(b)}};
    const Txn outer{{often(a)}, {remove_op(a), nest(inner)}, {put_op(a), nest(inner), nest(Txn{})}};
    auto result = store_.txn(outer).wait(kSoon);
    REQUIRE_MESSAGE(result.has_value(), (result ? "" : result.error().to_string()));
    const auto held = [&](const std::string& at) {
      const auto found = model_.newest().find(at);
      return found != model_.newest().end() && found->second.version > 1;
    };
    const bool a_held = held(a), b_held = held(b);
    CHECK(result->succeeded == a_held);
    REQUIRE(result->ops.at(1).nested.size() == 1);
    CHECK(result->ops[1].nested[0].succeeded == b_held);
    ModelTree& tree = model_.next();
    if (a_held) {
      tree.erase(a);
    } else {
      Model::put(tree, model_.revision, a, value);
    }
    if (!b_held) return Model::put(tree, model_.revision, b, value);
    REQUIRE(result->ops[1].nested[0].ops.at(0).nested.size() == 1);
    CHECK(result->ops[1].nested[0].ops[0].nested[0].succeeded == a_held);
    tree.erase(b);
    if (a_held) {
      Model::put(tree, model_.revision, c, value);
    } else {
      tree.erase(c);
    }
  }

  void read() {
    const KeyRange what = range();
    const auto back = static_cast<Revision>(random_.below(60));
    const Revision at =
        random_.below(2) == 0 ? 0 : std::max<Revision>(model_.compacted, model_.revision - back);
    auto result = store_.range(what, {.revision = at}).wait(kSoon);
    REQUIRE_MESSAGE(result.has_value(), (result ? "" : result.error().to_string()));
    const ModelTree& tree = at == 0 ? model_.newest() : model_.at.at(std::max<Revision>(1, at));
    CHECK(describe(*result) == describe(tree, what));
    CHECK(result->count == result->items.size());
    CHECK(result->revision == model_.revision);
  }

  void compact() {
    const Revision target = model_.revision - static_cast<Revision>(random_.below(40));
    auto result = store_.compact(target).wait(kSoon);
    CHECK(result.has_value() == (target > model_.compacted));
    if (!result) return;
    model_.compacted = target;
    model_.at.erase(model_.at.begin(), model_.at.lower_bound(target));
  }

  /// Replays the events into a map of its own: the end must be the model's newest.
  void follow(Watch& watch) {
    while (watch.progress() < store_.revision()) {
      const auto batch = watch.next(kSoon);
      if (!batch) break;
      for (const WatchEvent& event : batch->events) {
        const auto before = followed_.find(event.kv.key);
        CHECK(event.previous.has_value() == (before != followed_.end()));
        if (event.previous && before != followed_.end())
          CHECK(event.previous->mod_revision == before->second.mod);
        if (event.type == WatchEvent::Type::remove) {
          followed_.erase(event.kv.key);
        } else {
          followed_[event.kv.key] = {std::string(event.kv.value.bytes()), event.kv.create_revision,
                                     event.kv.mod_revision, event.kv.version};
        }
      }
    }
    if (watch.error()) {  // compacted past it: list again and go on from there, as every client does
      CHECK(watch.error()->is(Error::compacted));
      followed_ = model_.newest();
      watch = *store_.watch({.range = KeyPrefix("")});
    }
  }

  StateStore& store_;
  sim::SimRandom random_;
  Model model_;
  ModelTree followed_;
};

STORE_TEST_CASE("10,000 random operations agree with a model, and a watch replays them") {
  Run(*fixture.store, 42)(10000);
}

}  // namespace
}  // namespace orchestra::store::test
