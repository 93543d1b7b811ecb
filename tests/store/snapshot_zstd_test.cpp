// Compressed snapshots: smaller, read back whole, and damage is seen as in others.
#include <filesystem>

#include "orchestra/raft_store.hpp"
#include "store/disk/compress.hpp"
#include "store/disk/snapshot.hpp"
#include "store/mvcc/state.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

SnapshotImage image_of(const MvccState& state, int level) {
  SnapshotImage image;
  image.meta.revision = state.revision();
  image.meta.compacted = state.compacted();
  image.meta.sessions = state.sessions();
  image.hash = state.hash();
  image.tree = state.tree();
  for (Sequence at = state.history().begin(); at < state.history().end(); ++at)
    image.changes.push_back(state.history().at(at));
  image.zstd_level = level;
  return image;
}
std::string bytes_of(const SnapshotImage& image) {
  std::string bytes;
  REQUIRE(write_snapshot(image, [&](std::string_view part) {
            bytes.append(part);
            return Result<void>();
          }).has_value());
  return bytes;
}
Result<SnapshotSummary> read(const std::string& bytes, MvccState& state) {
  const auto source = [&bytes, at = std::size_t{0}](std::size_t size) mutable -> Result<std::string> {
    std::string part = bytes.substr(std::min(at, bytes.size()), size);
    at += part.size();
    return part;
  };
  return read_snapshot(source, &state);
}
MvccState filled(int keys, const std::string& value) {
  MvccState state;
  for (int i = 0; i < keys; ++i) {
    Txn txn;
    TxnOp& op = txn.then.emplace_back();
    op.range = Key("key/" + std::to_string(i % (keys / 2 + 1)));
    op.value = value + std::to_string(i);
    REQUIRE(state.apply(std::move(txn)).has_value());
  }
  return state;
}

TEST_CASE("a compressed snapshot is smaller than a plain one, and gives the same state") {
  const MvccState state = filled(3000, std::string(200, 'v'));
  const std::string plain = bytes_of(image_of(state, 0));
  for (const int level : {1, 3, kZstdLevelMax}) {
    CAPTURE(level);
    const std::string small = bytes_of(image_of(state, level));
    CHECK(small.size() < plain.size() / 4);
    MvccState copy;
    const auto summary = read(small, copy);
    REQUIRE_MESSAGE(summary.has_value(), (summary ? "" : summary.error().to_string()));
    CHECK(copy.hash() == state.hash());
    CHECK(copy.revision() == state.revision());
    CHECK(copy.history().end() - copy.history().begin() == state.history().end() - state.history().begin());
    CHECK(bytes_of(image_of(copy, 0)) == plain);
  }
}

TEST_CASE("every flipped byte of a compressed snapshot is seen, and so is every cut") {
  const std::string bytes = bytes_of(image_of(filled(40, "some value, again and again "), 3));
  REQUIRE(bytes.find("key/7") == std::string::npos);  // it is compressed
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    CAPTURE(at);
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    MvccState state;
    CHECK_FALSE(read(damaged, state).has_value());
    MvccState cut;
    CHECK_FALSE(read(bytes.substr(0, at), cut).has_value());
  }
}

TEST_CASE("a block that claims more than it holds, or more than is allowed, is not decompressed") {
  const std::string block = compress_block(std::string(1000, 'x'), 1);
  CHECK(decompress_block(block, 1000)->size() == 1000);
  CHECK_FALSE(decompress_block(block, 999).has_value());
  std::string liar = block;
  liar[0] = static_cast<char>(0xE9);
  CHECK_FALSE(decompress_block(liar, 1u << 20).has_value());
  CHECK_FALSE(decompress_block("", 1000).has_value());
  CHECK_FALSE(decompress_block("\x01\x00\x00\x00junk", 1000).has_value());
}

TEST_CASE("a store that compresses its snapshots comes back from them") {
  orchestra::test::TempDir folder;
  Engine engine;
  RaftStoreOptions options;
  options.data_dir = folder / "s";
  options.limits = no_compaction();
  options.segment_bytes = options.first_segment_bytes = Bytes{256u << 10};
  options.snapshot_log_bytes = Bytes{256u << 10};
  options.snapshot_zstd = 3;
  const std::string value(2000, 'v');
  std::uintmax_t bytes = 0;
  {
    auto store = RaftStore::open(engine, options).value();
    for (int i = 0; i < 500; ++i) put(*store, "k" + std::to_string(i % 50), value + std::to_string(i));
    REQUIRE(eventually([&] {
      for (const auto& entry : std::filesystem::directory_iterator(folder / "s")) {
        std::error_code gone;
        if (entry.path().extension() == ".snap") bytes = std::filesystem::file_size(entry.path(), gone);
        if (gone) bytes = 0;
      }
      return bytes != 0;
    }));
  }
  CHECK(bytes < 100'000);  // at least 130 changes of 2,000 bytes each
  options.snapshot_zstd = 0;
  auto store = RaftStore::open(engine, options).value();
  CHECK(store->revision() == 501);
  CHECK(get(*store, "k49") == value + "499");
  CHECK(get(*store, "k3", 100) == value + "53");
  options.snapshot_zstd = 20;
  options.data_dir = folder / "other";
  CHECK(RaftStore::open(engine, options).error().is(Error::invalid));
}

}  // namespace
}  // namespace orchestra::store::test
