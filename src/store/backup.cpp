// Writing and reading of backup.hpp.
#include "store/backup.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "store/disk/crc32c.hpp"
#include "store/mvcc/wire.hpp"
#include "store/restore.hpp"

namespace orchestra::store {
namespace {

constexpr std::string_view kMagic = "ORCBKUP1";
constexpr std::size_t kRecordHead = 8;  ///< length and CRC32C of what follows
constexpr std::size_t kRecordMax = 64u << 20;
constexpr std::uint64_t kFileBytes = 16u << 20;  ///< then the next file begins
constexpr std::uint64_t kFileMax = 128u << 20;
constexpr Duration kStep = std::chrono::seconds(60);
constexpr Duration kLook = std::chrono::seconds(1);

struct Part {
  std::string name;
  Revision after = 0, upto = 0;  ///< a snapshot: both are its revision
  bool full = false;
};

std::string hex16(Revision revision) {
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(revision));
  return text;
}
std::optional<Revision> take_hex16(std::string_view text) {
  if (text.size() != 16 || text.find_first_not_of("0123456789abcdef") != std::string_view::npos)
    return std::nullopt;
  return static_cast<Revision>(std::stoull(std::string(text), nullptr, 16));
}
std::optional<Part> part_of(const std::string& name) {
  const std::string_view text(name);
  if (text.size() == 26 && text.substr(0, 5) == "full-" && text.substr(21) == ".snap") {
    const auto at = take_hex16(text.substr(5, 16));
    if (at) return Part{name, *at, *at, true};
  }
  if (text.size() == 46 && text.substr(0, 8) == "changes-" && text[24] == '-' && text.substr(41) == ".orcb") {
    const auto after = take_hex16(text.substr(8, 16)), upto = take_hex16(text.substr(25, 16));
    if (after && upto && *upto > *after) return Part{name, *after, *upto, false};
  }
  return std::nullopt;
}
/// In the order of what they reach.
Result<std::vector<Part>> parts_of(Disk& disk, const std::string& folder) {
  ORC_ASSIGN(const auto names, disk.list(folder));
  std::vector<Part> parts;
  for (const std::string& name : names) {
    if (const auto part = part_of(name)) parts.push_back(*part);
  }
  std::sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
    return a.upto != b.upto ? a.upto < b.upto : a.full > b.full;
  });
  return parts;
}

/// Written beside, synced, renamed.
class NewFile {
 public:
  static Result<NewFile> open(Disk& disk, const std::string& folder, const std::string& name) {
    NewFile made(disk, folder, name);
    ORC_ASSIGN(made.file_, disk.open(made.part(), Disk::Open::create_or_open));
    ORC_TRY(made.file_->truncate(0));
    return made;
  }
  Result<void> write(std::string_view bytes) {
    ORC_TRY(file_->write_at(size_, bytes));
    size_ += bytes.size();
    return {};
  }
  Result<void> finish(const std::string& name) {
    ORC_TRY(file_->sync());
    file_.reset();
    ORC_TRY(disk_.rename(part(), folder_ + "/" + name));
    return disk_.sync_directory(folder_);
  }
  std::uint64_t size() const { return size_; }

 private:
  NewFile(Disk& disk, std::string folder, std::string name)
      : disk_(disk), folder_(std::move(folder)), name_(std::move(name)) {}
  std::string part() const { return folder_ + "/" + name_ + ".part"; }
  Disk& disk_;
  std::string folder_, name_;
  std::unique_ptr<DiskFile> file_;
  std::uint64_t size_ = 0;
};

class Archiver {
 public:
  Archiver(StateStore& store, Disk& disk, const std::string& folder, const BackupOptions& options)
      : store_(store), disk_(disk), folder_(folder), options_(options) {}

  Result<BackupSummary> run() {
    ORC_TRY(disk_.make_directories(folder_, 0700));
    ORC_TRY(check_cluster());
    ORC_ASSIGN(const auto parts, parts_of(disk_, folder_));
    if (options_.full || parts.empty()) {
      ORC_TRY(save_full());
    } else {
      summary_.after = summary_.upto = parts.back().upto;
    }
    ORC_TRY(archive());
    return summary_;
  }

 private:
  static std::int64_t steady_now() { return real_clock().now().steady_ns; }
  Result<void> check_cluster() {
    const std::string path = folder_ + "/cluster", own = store_.cluster_id();
    if (!disk_.exists(path)) {
      ORC_ASSIGN(NewFile file, NewFile::open(disk_, folder_, "cluster"));
      ORC_TRY(file.write(own));
      return file.finish("cluster");
    }
    ORC_ASSIGN(const std::string there, disk_.read_file(path, 4096));
    if (there == own) return {};
    return Error(Error::invalid, "store",
                 folder_ + " holds the backup of another store, or of another life of this one (" + there +
                     ", not " + own + "); use a folder of its own");
  }
  Result<void> save_full() {
    ORC_ASSIGN(NewFile file, NewFile::open(disk_, folder_, "full"));
    auto saved = store_.save_snapshot([&](std::string_view bytes) { return file.write(bytes); });
    ORC_ASSIGN(const Revision revision, saved.wait(std::chrono::hours(24)));
    ORC_TRY(file.finish("full-" + hex16(revision) + ".snap"));
    summary_.full = summary_.after = summary_.upto = revision;
    summary_.bytes += file.size();
    return {};
  }

  /// Up to what is there now, or until told to stop.
  Result<void> archive() {
    ORC_ASSIGN(const GetResult now, store_.get("-").wait(kStep));
    WatchOptions wanted;
    wanted.range = KeyPrefix("");
    wanted.after = summary_.upto;
    wanted.want_previous = false;
    ORC_ASSIGN(Watch watch, store_.watch(wanted));
    const bool follows = options_.follow > Duration::zero();
    while (follows || summary_.upto < now.revision) {
      if (options_.stopped && options_.stopped()) break;
      const auto batch = watch.next(kLook);
      if (watch.error()) return lost(*watch.error());
      if (batch) ORC_TRY(take(*batch));
      const bool old = file_ && follows && steady_now() - began_ns_ >= options_.follow.count();
      if (old || (file_ && file_->size() >= kFileBytes)) ORC_TRY(finish());
      if (!batch && !follows) break;  // the rest of the revisions changed nothing that can be watched
    }
    return finish();
  }
  Error lost(const Error& error) const {
    if (!error.is(Error::compacted)) return error.with_context("following the changes");
    return Error(Error::compacted, "store",
                 "the changes since revision " + std::to_string(summary_.upto) +
                     " are no longer kept; begin again with --full, and back up more often")
        .because(error);
  }
  Result<void> take(const WatchBatch& batch) {
    ArchivedRevision archived;
    for (const WatchEvent& event : batch.events) {
      if (event.kv.mod_revision != archived.revision) {
        ORC_TRY(put(archived));
        archived = {event.kv.mod_revision, {}};
      }
      ArchivedRevision::Change change;
      change.key = event.kv.key;
      if (event.type == WatchEvent::Type::put) {
        change.value = event.kv.value;
        change.lease = event.kv.lease;
        ORC_ASSIGN(change.ttl, ttl_of(event.kv.lease));
      }
      archived.changes.push_back(std::move(change));
    }
    return put(archived);
  }
  Result<std::chrono::seconds> ttl_of(LeaseId id) {
    if (id == 0) return std::chrono::seconds(0);
    if (const auto known = ttls_.find(id); known != ttls_.end()) return known->second;
    auto lease = store_.lease_time_to_live(id).wait(kStep);
    if (!lease && !lease.error().is(Error::not_found)) return lease.error();
    return ttls_[id] = lease ? lease->ttl : std::chrono::seconds(1);  // it has just ended: its keys go next
  }
  Result<void> put(const ArchivedRevision& archived) {
    if (archived.changes.empty()) return {};
    if (!file_) {
      after_ = summary_.upto;
      began_ns_ = steady_now();
      ORC_ASSIGN(NewFile made, NewFile::open(disk_, folder_, "changes"));
      file_.emplace(std::move(made));
      ORC_TRY(file_->write(kMagic));
    }
    const std::string payload = encode_archived(archived);
    std::string head;
    Writer out(head);
    out.u32(static_cast<std::uint32_t>(payload.size()));
    out.u32(crc32c(payload));
    ORC_TRY(file_->write(head));
    ORC_TRY(file_->write(payload));
    summary_.upto = archived.revision;
    summary_.changes += archived.changes.size();
    return {};
  }
  Result<void> finish() {
    if (!file_) return {};
    summary_.bytes += file_->size();
    auto finished = file_->finish("changes-" + hex16(after_) + "-" + hex16(summary_.upto) + ".orcb");
    file_.reset();
    return finished;
  }

  StateStore& store_;
  Disk& disk_;
  const std::string folder_;
  const BackupOptions& options_;
  BackupSummary summary_;
  std::map<LeaseId, std::chrono::seconds> ttls_;
  std::optional<NewFile> file_;
  Revision after_ = 0;         ///< of the file that is open
  std::int64_t began_ns_ = 0;  ///< of that file
};

// ---- reading

Error damaged(const std::string& path, std::size_t offset, const std::string& what) {
  return Error(Error::corrupt, "store",
               path + " is damaged at offset " + std::to_string(offset) + ": " + what);
}

Result<void> apply_archived(MvccState& state, ArchivedRevision archived) {
  Txn txn;
  for (ArchivedRevision::Change& change : archived.changes) {
    TxnOp op;
    op.type = change.value ? TxnOp::Type::put : TxnOp::Type::remove;
    op.range = Key(change.key);
    if (change.value) op.value = std::move(*change.value);
    op.lease = change.lease;
    // One that is there already stays as it is.
    if (change.lease != 0) (void)state.apply(LeaseGrant{change.lease, change.ttl});
    txn.then.push_back(std::move(op));
  }
  auto applied = state.apply(std::move(txn));
  if (!applied) return applied.error();
  if (state.revision() != archived.revision)
    return Error(Error::corrupt, "store",
                 "revision " + std::to_string(archived.revision) + " is not the next one");
  return {};
}

Result<void> apply_file(Disk& disk, const std::string& path, Revision until, MvccState& state) {
  ORC_ASSIGN(const std::string bytes, disk.read_file(path, kFileMax));
  if (bytes.compare(0, kMagic.size(), kMagic) != 0)
    return damaged(path, 0, "it does not begin as a backup does");
  for (std::size_t at = kMagic.size(); at < bytes.size();) {
    Reader in(std::string_view(bytes).substr(at, kRecordHead));
    const std::uint32_t size = in.u32(), crc = in.u32();
    if (!in.done() || size > kRecordMax || bytes.size() - at - kRecordHead < size)
      return damaged(path, at, "a record is cut off");
    const std::string_view payload = std::string_view(bytes).substr(at + kRecordHead, size);
    if (crc32c(payload) != crc) return damaged(path, at, "a record with a bad checksum");
    auto archived = decode_archived(payload);
    if (!archived) return damaged(path, at, archived.error().message());
    if (archived->revision > until) return {};
    if (archived->revision > state.revision()) {
      if (auto applied = apply_archived(state, std::move(*archived)); !applied)
        return damaged(path, at, applied.error().message());
    }
    at += kRecordHead + size;
  }
  return {};
}

}  // namespace

std::string encode_archived(const ArchivedRevision& archived) {
  std::string bytes;
  Writer out(bytes);
  out.varint(static_cast<std::uint64_t>(archived.revision));
  out.varint(archived.changes.size());
  for (const ArchivedRevision::Change& change : archived.changes) {
    out.u8(change.value ? 1 : 0);
    out.bytes(change.key);
    if (!change.value) continue;
    out.bytes(change.value->bytes());
    out.varint(static_cast<std::uint64_t>(change.lease));
    if (change.lease != 0) out.varint(static_cast<std::uint64_t>(change.ttl.count()));
  }
  return bytes;
}
Result<ArchivedRevision> decode_archived(std::string_view bytes) {
  Reader in(bytes);
  ArchivedRevision archived;
  archived.revision = static_cast<Revision>(in.varint());
  const std::size_t count = in.count();
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    ArchivedRevision::Change change;
    const std::uint8_t put = in.u8();
    if (put > 1) in.fail();
    change.key = in.bytes();
    if (change.key.empty()) in.fail();
    if (put == 1) {
      change.value = Value(in.bytes());
      change.lease = static_cast<LeaseId>(in.varint());
      if (change.lease != 0) change.ttl = std::chrono::seconds(in.varint());
    }
    archived.changes.push_back(std::move(change));
  }
  if (!in.done() || archived.revision <= 0) return Error(Error::corrupt, "store", "a malformed record");
  return archived;
}

Result<BackupSummary> back_up(StateStore& store, Disk& disk, const std::string& folder,
                              const BackupOptions& options) {
  return Archiver(store, disk, folder, options).run();
}

bool is_backup(Disk& disk, const std::string& folder) {
  const auto parts = parts_of(disk, folder);
  return parts && std::any_of(parts->begin(), parts->end(), [](const Part& part) { return part.full; });
}

Result<void> read_backup(Disk& disk, const std::string& folder, Revision revision, MvccState& state,
                         LogIdentity& identity) {
  ORC_ASSIGN(const auto parts, parts_of(disk, folder));
  const Revision until = revision != 0 ? revision : std::numeric_limits<Revision>::max();
  const Part* full = nullptr;
  for (const Part& part : parts) {
    if (part.full && part.upto <= until) full = &part;
  }
  if (full == nullptr) {
    return Error(Error::not_found, "store",
                 folder + " holds no full backup of revision " + std::to_string(revision) + " or before");
  }
  const std::string path = folder + "/" + full->name;
  {
    ORC_ASSIGN(const auto file, disk.open(path, Disk::Open::existing));
    auto read = read_snapshot(snapshot_source(*file), &state);
    if (!read) return read.error().with_context(path);
    identity = read->meta.identity;
  }
  for (const Part& part : parts) {
    if (part.full || part.upto <= state.revision() || state.revision() >= until) continue;
    if (part.after > state.revision()) {
      return Error(Error::corrupt, "store",
                   folder + " lacks the changes between revision " + std::to_string(state.revision()) +
                       " and " + std::to_string(part.after) + "; restore up to there with --to-revision");
    }
    ORC_TRY(apply_file(disk, folder + "/" + part.name, until, state));
  }
  if (revision != 0 && state.revision() != revision) {
    return Error(Error::not_found, "store",
                 "revision " + std::to_string(revision) + " is not in the backup, which ends with " +
                     std::to_string(state.revision()));
  }
  return {};
}

}  // namespace orchestra::store
