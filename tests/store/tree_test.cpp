// The tree against std::map, old versions that must not change, and the state machine's hash.
#include "store/mvcc/tree.hpp"

#include <map>

#include "sim/sim_env.hpp"
#include "store/disk/crc32c.hpp"
#include "store/mvcc/state.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

using Model = std::map<std::string, Revision>;

RecordRef record(const std::string& key, Revision revision) {
  return RecordRef::make(key, Value("v" + std::to_string(revision)), revision, revision, 1, 0);
}
void check_same(const Tree& tree, const Model& model) {
  tree.check();
  REQUIRE(tree.size() == model.size());
  auto expected = model.begin();
  tree.scan(KeyPrefix(""), false, [&](const RecordRef& found) {
    CHECK(found->key() == expected->first);
    CHECK(found->mod_revision == expected->second);
    ++expected;
    return true;
  });
}

TEST_CASE("a tree behaves like std::map through all splits and merges") {
  for (const std::uint64_t keys : {50u, 3000u, 20000u}) {
    sim::SimRandom random(keys);
    Tree tree;
    Model model;
    for (int round = 0; round < 30000; ++round) {
      const std::string key = "key/" + std::to_string(random.below(keys));
      // Grow for a while, then shrink, so that nodes split and merge.
      const bool grow = round / 5000 % 2 == 0;
      if (random.below(10) < (grow ? 8u : 2u)) {
        const bool had = model.contains(key);
        CHECK(static_cast<bool>(tree.put(record(key, round + 1))) == had);
        model[key] = round + 1;
      } else {
        CHECK(static_cast<bool>(tree.erase(key)) == (model.erase(key) == 1));
      }
      if (round % 1009 == 0) check_same(tree, model);
    }
    check_same(tree, model);
    for (int i = 0; i < 200; ++i) {
      const std::string begin = "key/" + std::to_string(random.below(keys));
      const std::string end = "key/" + std::to_string(random.below(keys));
      const auto from = model.lower_bound(begin);
      const auto to = begin < end ? model.lower_bound(end) : from;
      CHECK(tree.count({.begin = begin, .end = end}) == static_cast<std::uint64_t>(std::distance(from, to)));
      CHECK(tree.rank(begin) == static_cast<std::uint64_t>(std::distance(model.begin(), from)));
    }
    while (!model.empty()) {
      const std::string key = model.begin()->first;
      CHECK(tree.erase(key));
      model.erase(key);
    }
    check_same(tree, model);
  }
}

TEST_CASE("old versions of a tree stay as they were while the newest goes on") {
  sim::SimRandom random(1);
  Tree tree;
  Model model;
  std::vector<std::pair<Tree, Model>> kept;
  for (int round = 0; round < 20000; ++round) {
    const std::string key = std::to_string(random.below(2000));
    if (random.below(3) != 0) {
      tree.put(record(key, round + 1));
      model[key] = round + 1;
    } else {
      tree.erase(key);
      model.erase(key);
    }
    if (round % 2500 == 0) kept.emplace_back(tree, model);
  }
  for (const auto& [old, expected] : kept) check_same(old, expected);
}

TEST_CASE("keys that arrive in order fill their leaves, and scans go both ways") {
  Tree tree;
  for (int i = 100000; i < 110000; ++i) tree.put(record(std::to_string(i), i));
  tree.check();
  std::vector<std::string> backwards;
  tree.scan({.begin = "100500", .end = "100503"}, true, [&](const RecordRef& found) {
    backwards.emplace_back(found->key());
    return true;
  });
  CHECK(backwards == std::vector<std::string>{"100502", "100501", "100500"});
}

TEST_CASE("a tree built from sorted records is like one that grew, at every size around a node's") {
  for (const std::size_t size : {0u, 1u, 63u, 64u, 65u, 3071u, 3072u, 3073u, 20000u}) {
    std::vector<RecordRef> records;
    Model model;
    for (std::size_t i = 0; i < size; ++i) {
      const std::string key = "k" + std::to_string(1'000'000 + i);
      records.push_back(record(key, static_cast<Revision>(i + 1)));
      model[key] = static_cast<Revision>(i + 1);
    }
    Tree tree = Tree::from_sorted(std::move(records));
    check_same(tree, model);
    for (std::size_t i = 0; i < size; i += 3) {
      const std::string key = "k" + std::to_string(1'000'000 + i);
      CHECK(tree.erase(key));
      model.erase(key);
      tree.put(record(key + "x", 1));
      model[key + "x"] = 1;
    }
    check_same(tree, model);
  }
}

TEST_CASE("the state hash depends on content and history, not on the way there") {
  MvccState a;
  MvccState b;
  const auto put = [](MvccState& state, const char* key, const char* value) {
    Txn txn;
    txn.then.push_back(TxnOp{.range = Key(key), .value = value});
    REQUIRE(state.apply(txn).has_value());
  };
  put(a, "x", "1");
  put(b, "x", "1");
  CHECK(a.hash() == b.hash());
  put(a, "y", "2");
  put(b, "y", "3");
  CHECK(a.hash() != b.hash());
  Txn remove;
  remove.then.push_back(TxnOp{.type = TxnOp::Type::remove, .range = Key("y")});
  REQUIRE(a.apply(remove).has_value());
  REQUIRE(b.apply(remove).has_value());
  CHECK(a.hash() == b.hash());
}

TEST_CASE("crc32c by instruction and by table agree with RFC 3720") {
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AAu);
  CHECK(crc32c("123456789") == 0xE3069283u);
  sim::SimRandom random(9);
  std::string bytes(1000, '\0');
  random.fill(bytes.data(), bytes.size());
  for (std::size_t size = 0; size < bytes.size(); size += 7) {
    const std::string_view part(bytes.data(), size);
    CHECK(crc32c(part) == crc32c_by_table(part));
    CHECK(crc32c(part.substr(size / 2), crc32c(part.substr(0, size / 2))) == crc32c(part));
  }
}

}  // namespace
}  // namespace orchestra::store::test
