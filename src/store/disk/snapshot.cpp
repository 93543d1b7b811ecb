// Writing and reading of snapshots (snapshot.hpp).
#include "store/disk/snapshot.hpp"

#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "store/disk/compress.hpp"
#include "store/disk/crc32c.hpp"
#include "store/disk/sha256.hpp"
#include "store/mvcc/wire.hpp"
#include "store/raft/codec.hpp"

namespace orchestra::store {
namespace {

constexpr std::string_view kMagic = "ORCSNAP\n";
/// 1 had no configuration, 2 no rests of leases and no sessions; both are still read. 4: as 3, with blocks
/// that may be compressed; written only where that is asked for.
constexpr std::uint32_t kVersion = 3, kCompressedVersion = 4;
constexpr std::size_t kFileHeaderSize = 16;
constexpr std::size_t kBlockHeaderSize = 12;
constexpr std::size_t kBlockTarget = 64 << 10;
constexpr std::size_t kBlockMax = 64 << 20;

enum BlockType : std::uint32_t { kMeta = 1, kRecords = 2, kLeases = 3, kChanges = 4, kTrailer = 5 };
constexpr std::uint32_t kCompressed = 0x100;  ///< in a block's type
/// How a change tells its two records without saying twice what the file already holds.
enum ChangeFlag : std::uint8_t { kTombstone = 1, kNowInTree = 2, kHasPrevious = 4, kPreviousSeen = 8 };

std::uint32_t block_crc(std::uint32_t type, std::string_view payload) {
  std::string head;
  Writer out(head);
  out.u32(type);
  out.u32(static_cast<std::uint32_t>(payload.size()));
  return crc32c(payload, crc32c(head));
}

void write_record(Writer& out, const Record& record) {
  out.bytes(record.key());
  out.varint(static_cast<std::uint64_t>(record.create_revision));
  out.varint(static_cast<std::uint64_t>(record.mod_revision - record.create_revision));
  out.varint(static_cast<std::uint64_t>(record.version));
  out.varint(static_cast<std::uint64_t>(record.lease));
  out.bytes(record.value.bytes());
}
RecordRef read_record(Reader& in) {
  const std::string_view key = in.bytes();
  const auto create = static_cast<Revision>(in.varint());
  const auto mod = create + static_cast<Revision>(in.varint());
  const auto version = static_cast<std::int64_t>(in.varint());
  const auto lease = static_cast<LeaseId>(in.varint());
  const std::string_view value = in.bytes();
  if (version <= 0 || key.empty()) in.fail();
  return RecordRef::make(key, Value(value), create, mod, version, lease);
}

/// Collects payload and emits blocks.
class BlockWriter {
 public:
  BlockWriter(const SnapshotSink& sink, int zstd_level) : sink_(sink), zstd_level_(zstd_level) {}
  Result<void> raw(std::string_view bytes) {
    digest_.add(bytes);
    written_ += bytes.size();
    return sink_(bytes);
  }
  std::string& payload() { return payload_; }
  bool full() const { return payload_.size() >= kBlockTarget; }
  Result<void> flush(BlockType type) {
    if (payload_.empty()) return {};
    std::uint32_t stored_type = type;
    if (zstd_level_ > 0) {
      std::string small = compress_block(payload_, zstd_level_);
      if (small.size() < payload_.size()) {
        payload_ = std::move(small);
        stored_type |= kCompressed;
      }
    }
    std::string head;
    Writer out(head);
    out.u32(stored_type);
    out.u32(static_cast<std::uint32_t>(payload_.size()));
    out.u32(block_crc(stored_type, payload_));
    ORC_TRY(raw(head));
    ORC_TRY(raw(payload_));
    payload_.clear();
    return {};
  }
  Sha256& digest() { return digest_; }
  std::uint64_t written() const { return written_; }

 private:
  const SnapshotSink& sink_;
  const int zstd_level_;
  Sha256 digest_;
  std::string payload_;
  std::uint64_t written_ = 0;
};

Result<void> write_meta(const SnapshotMeta& meta, BlockWriter& blocks) {
  Writer out(blocks.payload());
  blocks.payload().append(meta.identity.cluster.data(), meta.identity.cluster.size());
  out.u32(meta.identity.epoch);
  out.u64(meta.identity.peer);
  out.u64(meta.index.value);
  out.u64(meta.term.value);
  out.u64(static_cast<std::uint64_t>(meta.revision));
  out.u64(static_cast<std::uint64_t>(meta.compacted));
  out.bytes(encode_configuration(meta.configuration));
  meta.sessions.encode(out);
  return blocks.flush(kMeta);
}

Result<void> write_records(const Tree& tree, BlockWriter& blocks) {
  Result<void> result;
  Writer out(blocks.payload());
  tree.scan(KeyPrefix(""), false, [&](const RecordRef& record) {
    write_record(out, *record);
    if (blocks.full()) result = blocks.flush(kRecords);
    return result.has_value();
  });
  ORC_TRY(result);
  return blocks.flush(kRecords);
}

Result<void> write_changes(const SnapshotImage& image, BlockWriter& blocks) {
  std::unordered_set<std::string_view> seen;
  Writer out(blocks.payload());
  for (const Change& change : image.changes) {
    const Record& now = *change.now;
    const Record* current = image.tree.find(now.key());
    const bool in_tree = !now.tombstone() && current != nullptr && current->mod_revision == now.mod_revision;
    const bool known = !seen.insert(now.key()).second;
    out.u8(static_cast<std::uint8_t>((now.tombstone() ? kTombstone : 0) | (in_tree ? kNowInTree : 0) |
                                     (change.previous ? kHasPrevious : 0) | (known ? kPreviousSeen : 0)));
    out.varint(static_cast<std::uint64_t>(change.revision));
    if (now.tombstone() || in_tree) {
      out.bytes(now.key());
    } else {
      write_record(out, now);
    }
    if (change.previous && !known) write_record(out, *change.previous);
    if (blocks.full()) ORC_TRY(blocks.flush(kChanges));
  }
  return blocks.flush(kChanges);
}

}  // namespace

Result<SnapshotSummary> write_snapshot(const SnapshotImage& image, const SnapshotSink& sink) {
  BlockWriter blocks(sink, image.zstd_level);
  std::string head(kMagic);
  Writer head_out(head);
  head_out.u32(image.zstd_level > 0 ? kCompressedVersion : kVersion);
  head_out.u32(crc32c(head));
  ORC_TRY(blocks.raw(head));
  ORC_TRY(write_meta(image.meta, blocks));
  ORC_TRY(write_records(image.tree, blocks));
  Writer out(blocks.payload());
  for (const SnapshotImage::Lease& lease : image.leases) {
    out.varint(static_cast<std::uint64_t>(lease.id));
    out.varint(static_cast<std::uint64_t>(lease.ttl.count()));
    out.varint(static_cast<std::uint64_t>(lease.checkpoint.count()));
    if (blocks.full()) ORC_TRY(blocks.flush(kLeases));
  }
  ORC_TRY(blocks.flush(kLeases));
  ORC_TRY(write_changes(image, blocks));
  const std::string digest = blocks.digest().finish();
  out.u64(image.tree.size());
  out.u64(image.changes.size());
  out.u64(image.hash);
  blocks.payload().append(digest);
  // The digest is finished: the trailer goes past it.
  std::string trailer;
  Writer trailer_out(trailer);
  trailer_out.u32(kTrailer);
  trailer_out.u32(static_cast<std::uint32_t>(blocks.payload().size()));
  trailer_out.u32(block_crc(kTrailer, blocks.payload()));
  trailer.append(blocks.payload());
  ORC_TRY(sink(trailer));
  return SnapshotSummary{image.meta, image.tree.size(), blocks.written() + trailer.size(), to_hex(digest)};
}

namespace {

class SnapshotParser {
 public:
  SnapshotParser(const SnapshotSource& source, MvccState* state) : source_(source), state_(state) {}

  Result<SnapshotSummary> run() {
    ORC_TRY(read_file_header());
    while (true) {
      ORC_ASSIGN(const std::string head, take(kBlockHeaderSize));
      Reader in(head);
      const std::uint32_t stored_type = in.u32();
      const bool compressed = version_ >= kCompressedVersion && (stored_type & kCompressed) != 0;
      const std::uint32_t type = compressed ? stored_type & ~kCompressed : stored_type;
      const std::uint32_t length = in.u32();
      const std::uint32_t crc = in.u32();
      if (length > kBlockMax || length == 0) return bad("a block of impossible length");
      if (type < kMeta || type > kTrailer || type < last_type_) return bad("a block out of order");
      if (last_type_ == 0 && type != kMeta) return bad("the first block is missing");
      if (type == kMeta && last_type_ == kMeta) return bad("a second first block");
      ORC_ASSIGN(const std::string payload, take(length));
      if (block_crc(stored_type, payload) != crc) return bad("a block with a bad checksum");
      std::optional<std::string> plain;
      if (compressed) {
        plain = decompress_block(payload, kBlockMax);
        if (!plain || plain->empty() || type == kTrailer) return bad("a block that cannot be decompressed");
      }
      if (type > kRecords && last_type_ <= kRecords && state_ != nullptr) state_->finish_records();
      last_type_ = type;
      Reader body(plain ? *plain : payload);
      if (type == kTrailer) return finish(body);
      if (!read_block(type, body)) return bad("a malformed block");
      hash_.add(head);
      hash_.add(payload);
    }
  }

 private:
  Error bad(const std::string& what) const {
    return Error(Error::corrupt, "store",
                 "the snapshot is damaged before offset " + std::to_string(offset_) + ": " + what);
  }
  Result<std::string> take(std::size_t size) {
    ORC_ASSIGN(std::string bytes, source_(size));
    offset_ += bytes.size();
    if (bytes.size() != size) return bad("it ends early");
    return bytes;
  }

  Result<void> read_file_header() {
    ORC_ASSIGN(const std::string head, take(kFileHeaderSize));
    if (std::string_view(head).substr(0, 8) != kMagic) {
      return Error(Error::invalid, "store", "this is not a snapshot of an Orchestra store");
    }
    Reader in(std::string_view(head).substr(8));
    const std::uint32_t version = in.u32();
    if (in.u32() != crc32c(std::string_view(head).substr(0, 12))) return bad("its header has a bad checksum");
    if (version < 1 || version > kCompressedVersion) {
      return Error(Error::unsupported, "store",
                   "the snapshot has format version " + std::to_string(version) +
                       "; this release reads versions 1 to 4");
    }
    version_ = version;
    hash_.add(head);
    return {};
  }

  bool read_block(std::uint32_t type, Reader& in) {
    if (type == kMeta) return read_meta(in);
    while (in.ok() && !in.empty()) {
      if (type == kRecords) {
        read_tree_record(in);
      } else if (type == kLeases) {
        const auto id = static_cast<LeaseId>(in.varint());
        const std::chrono::seconds ttl(in.varint());
        const std::chrono::milliseconds checkpoint(version_ >= 3 ? in.varint() : 0);
        if (in.ok() && state_ != nullptr) state_->load_lease(id, ttl, checkpoint);
      } else {
        read_change(in);
      }
    }
    return in.done();
  }

  bool read_meta(Reader& in) {
    SnapshotMeta& meta = summary_.meta;
    for (char& c : meta.identity.cluster) c = static_cast<char>(in.u8());
    meta.identity.epoch = in.u32();
    meta.identity.peer = in.u64();
    meta.index = Index{in.u64()};
    meta.term = Term{in.u64()};
    meta.revision = static_cast<Revision>(in.u64());
    meta.compacted = static_cast<Revision>(in.u64());
    if (version_ >= 2) {
      auto configuration = decode_configuration(in.bytes());
      if (!configuration) return false;
      meta.configuration = std::move(*configuration);
    }
    if (version_ >= 3) meta.sessions = Sessions::decode(in);
    if (state_ != nullptr) state_->load_sessions(meta.sessions);
    return in.done() && meta.revision >= 1 && meta.compacted >= 0 && meta.compacted <= meta.revision;
  }

  void read_tree_record(Reader& in) {
    RecordRef record = read_record(in);
    if (!in.ok()) return;
    if (summary_.records > 0 && !(last_key_ < record->key())) return in.fail();
    if (record->mod_revision > summary_.meta.revision) return in.fail();
    last_key_ = record->key();
    ++summary_.records;
    if (state_ != nullptr) state_->load_record(std::move(record));
  }

  void read_change(Reader& in) {
    const std::uint8_t flags = in.u8();
    Change change;
    change.revision = static_cast<Revision>(in.varint());
    if (change.revision < last_change_ || change.revision > summary_.meta.revision) return in.fail();
    last_change_ = change.revision;
    if ((flags & (kTombstone | kNowInTree)) == 0) {
      change.now = read_record(in);
    } else {
      const std::string_view key = in.bytes();
      if ((flags & kTombstone) != 0) {
        change.now = RecordRef::tombstone(key, change.revision);
      } else if (state_ != nullptr) {
        change.now = state_->tree().find_ref(key);
        if (!change.now) return in.fail();
      }
    }
    if ((flags & kHasPrevious) != 0 && (flags & kPreviousSeen) == 0) change.previous = read_record(in);
    ++changes_;
    if (!in.ok() || state_ == nullptr) return;
    RecordRef& last = seen_[std::string(change.now->key())];
    if ((flags & kHasPrevious) != 0 && (flags & kPreviousSeen) != 0) {
      if (!last || last->tombstone()) return in.fail();
      change.previous = last;
    }
    last = change.now;
    state_->load_change(std::move(change));
  }

  Result<SnapshotSummary> finish(Reader& in) {
    const std::uint64_t records = in.u64();
    const std::uint64_t changes = in.u64();
    const std::uint64_t hash = in.u64();
    std::string digest;
    while (in.ok() && !in.empty()) digest.push_back(static_cast<char>(in.u8()));
    if (records != summary_.records || changes != changes_) return bad("records are missing");
    if (digest != hash_.finish()) return bad("its SHA-256 is not what the trailer says");
    if (state_ != nullptr) {
      if (state_->hash() != hash) return bad("the state hash is not what the trailer says");
      state_->finish_load(summary_.meta.revision, summary_.meta.compacted);
    }
    ORC_ASSIGN(const std::string more, source_(1));
    if (!more.empty()) return bad("bytes follow its trailer");
    summary_.bytes = offset_;
    summary_.sha256 = to_hex(digest);
    return summary_;
  }

  const SnapshotSource& source_;
  MvccState* const state_;
  Sha256 hash_;
  SnapshotSummary summary_;
  std::uint32_t version_ = 0;
  std::uint32_t last_type_ = 0;
  std::uint64_t offset_ = 0;
  std::uint64_t changes_ = 0;
  Revision last_change_ = 0;
  std::string last_key_;
  std::unordered_map<std::string, RecordRef> seen_;
};

}  // namespace

Result<SnapshotSummary> read_snapshot(const SnapshotSource& source, MvccState* state) {
  return SnapshotParser(source, state).run();
}

}  // namespace orchestra::store
