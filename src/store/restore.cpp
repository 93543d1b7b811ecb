// Snapshot files: verifying, writing, and restoring a store's folder from one (restore.hpp).
#include "store/restore.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "store/backup.hpp"
#include "store/disk/log.hpp"
#include "store/disk/sha256.hpp"
#include "store/mvcc/command_codec.hpp"
#include "store/planted.hpp"

namespace orchestra::store {
namespace {

constexpr std::size_t kWriteBuffer = 1u << 20;
constexpr std::size_t kReadAhead = 1u << 20;

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

SnapshotImage image_of(const MvccState& state) {
  SnapshotImage image;
  image.meta.revision = state.revision();
  image.meta.compacted = state.compacted();
  image.meta.sessions = state.sessions();
  image.hash = state.hash();
  image.tree = state.tree();
  for (const auto& [id, lease] : state.leases()) image.leases.push_back({id, lease.ttl, lease.checkpoint});
  for (Sequence at = state.history().begin(); at < state.history().end(); ++at) {
    image.changes.push_back(state.history().at(at));
  }
  return image;
}

Result<void> refuse_used(Disk& disk, const std::string& folder) {
  if (!disk.exists(folder)) return {};
  ORC_ASSIGN(const auto names, disk.list(folder));
  for (const std::string& name : names) {
    if (name == "LOCK") continue;
    return Error(
        Error::already_exists, "store",
        folder + " is not empty (it holds " + name + "); restore into a new folder, or move that one away");
  }
  return {};
}

struct Origin {
  MvccState state;
  LogIdentity identity;
  std::string fingerprint;  ///< of the content
};

Result<Origin> read_snapshot_origin(Disk& disk, const std::string& path) {
  Origin origin;
  ORC_ASSIGN(const auto file, disk.open(path, Disk::Open::existing));
  auto read = read_snapshot(snapshot_source(*file), &origin.state);
  if (!read) return read.error().with_context(path);
  origin.identity = read->meta.identity;
  origin.fingerprint = read->sha256;
  return origin;
}

/// A full backup and the changes after it, as of one revision.
Result<Origin> read_backup_origin(Disk& disk, const RestoreOptions& options) {
  Origin origin;
  ORC_TRY(read_backup(disk, options.file, options.to_revision, origin.state, origin.identity));
  origin.fingerprint = std::to_string(origin.state.revision()) + "." + std::to_string(origin.state.hash());
  return origin;
}

/// All that one stopped peer has: its snapshot and every entry of its log, whether or not a majority had it.
Result<Origin> read_peer_origin(Disk& disk, const std::string& folder) {
  ORC_ASSIGN(const auto lock, disk.lock(folder + "/LOCK"));
  Origin origin;
  RecoveredLog recovered;
  LogOptions log;
  log.folder = folder;
  ORC_ASSIGN(const auto opened, LogFile::open(disk, log, {}, recovered));
  if (recovered.fresh) return Error(Error::not_found, "store", "there is no store in " + folder);
  if (recovered.snapshot) {
    const std::string path =
        folder + "/" + snapshot_file_name(recovered.snapshot->index, recovered.snapshot->term);
    ORC_ASSIGN(Origin base, read_snapshot_origin(disk, path));
    origin.state = std::move(base.state);
  }
  for (const Entry& entry : recovered.entries) {
    if (entry.type != EntryType::command) continue;
    auto command = decode_command(entry.bytes());
    if (!command) return command.error().with_context("log entry " + std::to_string(entry.index.value));
    (void)origin.state.apply(std::move(*command));  // one that failed changed nothing
  }
  origin.identity = recovered.identity;
  origin.fingerprint = std::to_string(origin.state.revision()) + "." + std::to_string(origin.state.hash());
  return origin;
}

/// Ids that each peer works out alike from the same content and the same list.
Result<void> name_cluster(const RestoreOptions& options, const std::string& fingerprint, SnapshotMeta& meta) {
  std::vector<std::string> peers = options.initial_peers;
  std::sort(peers.begin(), peers.end());
  const auto digest_of = [](const std::string& text) {
    Sha256 hash;
    hash.add(text);
    return hash.finish();
  };
  std::string text = "orchestra restore\n" + fingerprint + "\n" + std::to_string(options.bump);
  for (const std::string& peer : peers) text += "\n" + peer;
  const std::string cluster = digest_of(text);
  std::copy_n(cluster.begin(), meta.identity.cluster.size(), meta.identity.cluster.begin());
  for (const std::string& peer : peers) {
    const std::size_t equals = peer.find('=');
    if (equals == std::string::npos || equals == 0 || peer.find(':', equals) == std::string::npos)
      return Error(Error::invalid, "store", "initial peer \"" + peer + "\" is not NAME=HOST:PORT");
    Member member;
    member.name = peer.substr(0, equals);
    member.address = peer.substr(equals + 1);
    member.voter = member.started = true;
    const std::string id = digest_of(cluster + member.name);
    std::memcpy(&member.id.value, id.data(), sizeof member.id.value);
    if (member.id.value == 0) member.id.value = 1;
    if (member.name == options.name) meta.identity.peer = member.id.value;
    meta.configuration.members.push_back(std::move(member));
  }
  auto& members = meta.configuration.members;
  std::sort(members.begin(), members.end(), [](const Member& a, const Member& b) { return a.id < b.id; });
  for (std::size_t i = 1; i < members.size(); ++i) {
    if (members[i].id == members[i - 1].id)
      return Error(Error::invalid, "store", "two initial peers have the name \"" + members[i].name + "\"");
  }
  if (meta.identity.peer == 0)
    return Error(Error::invalid, "store",
                 "the list of initial peers does not name this peer, \"" + options.name + "\"");
  return {};
}

Result<void> clear_folder(Disk& disk, const std::string& folder) {
  if (!disk.exists(folder)) return disk.make_directories(folder, 0700);
  ORC_ASSIGN(const auto names, disk.list(folder));
  for (const std::string& name : names) ORC_TRY(disk.remove(folder + "/" + name));
  return {};
}

}  // namespace

std::string snapshot_file_name(Index index, Term term) {
  char name[64];
  std::snprintf(name, sizeof name, "snapshot-%016llx-%016llx.snap",
                static_cast<unsigned long long>(index.value), static_cast<unsigned long long>(term.value));
  return name;
}

SnapshotSource snapshot_source(DiskFile& file) {
  // Blocks have small headers: read in large steps, hand out what is asked for.
  return [&file, offset = std::uint64_t{0}, buffer = std::string(),
          used = std::size_t{0}](std::size_t size) mutable -> Result<std::string> {
    while (buffer.size() - used < size) {
      buffer.erase(0, used);
      used = 0;
      const std::size_t have = buffer.size();
      buffer.resize(have + std::max(kReadAhead, size));
      auto got = file.read_at(offset, buffer.data() + have, buffer.size() - have);
      if (!got) return got.error();
      buffer.resize(have + *got);
      offset += *got;
      if (*got == 0) break;
    }
    std::string bytes = buffer.substr(used, size);
    used += bytes.size();
    return bytes;
  };
}

Result<SnapshotSummary> write_snapshot_to(Disk& disk, const std::string& path, const SnapshotImage& image) {
  const std::string temporary = path + ".tmp";
  const auto write = [&]() -> Result<SnapshotSummary> {
    ORC_ASSIGN(const auto file, disk.open(temporary, Disk::Open::create_or_open));
    ORC_TRY(file->truncate(0));
    std::string buffer;
    std::uint64_t offset = 0;
    const auto flush = [&]() -> Result<void> {
      ORC_TRY(file->write_at(offset, buffer));
      offset += buffer.size();
      buffer.clear();
      return {};
    };
    ORC_ASSIGN(SnapshotSummary summary, write_snapshot(image, [&](std::string_view bytes) -> Result<void> {
                 buffer.append(bytes);
                 return buffer.size() < kWriteBuffer ? Result<void>() : flush();
               }));
    ORC_TRY(flush());
    if (!planted(Bug::skip_snapshot_sync)) ORC_TRY(file->sync());
    return summary;
  };
  auto summary = write();
  if (!summary) {
    (void)disk.remove(temporary);
    return summary;
  }
  ORC_TRY(disk.rename(temporary, path));
  ORC_TRY(disk.sync_directory(parent_of(path)));
  return summary;
}

Result<SnapshotSummary> verify_snapshot_file(Disk& disk, const std::string& file) {
  ORC_ASSIGN(const auto opened, disk.open(file, Disk::Open::existing));
  MvccState state;
  auto summary = read_snapshot(snapshot_source(*opened), &state);
  if (!summary) return summary.error().with_context(file);
  return summary;
}

Result<SnapshotSummary> restore_snapshot(Disk& disk, Random& random, const RestoreOptions& options) {
  if (options.bump < 0) return Error(Error::invalid, "store", "a revision is never bumped backwards");
  const bool folder = disk.list(options.file).has_value();
  const bool backup = folder && is_backup(disk, options.file);
  if (options.to_revision != 0 && !backup) {
    return Error(Error::invalid, "store",
                 options.file + " is no backup (`orchestra store backup`), so it holds one revision only");
  }
  if (folder && !backup && !options.force_new_cluster) {
    return Error(Error::invalid, "store",
                 options.file +
                     " is a folder, neither a snapshot nor a backup; to go on from what one stopped peer "
                     "has, because the majority is "
                     "lost for good, say --force-new-cluster");
  }
  ORC_ASSIGN(const Origin origin, backup   ? read_backup_origin(disk, options)
                                  : folder ? read_peer_origin(disk, options.file)
                                           : read_snapshot_origin(disk, options.file));
  ORC_TRY(refuse_used(disk, options.folder));

  SnapshotImage image = image_of(origin.state);
  if (options.initial_peers.empty()) {
    random.fill(image.meta.identity.cluster.data(), image.meta.identity.cluster.size());
    while (image.meta.identity.peer == 0) image.meta.identity.peer = random.next();
  } else {
    ORC_TRY(name_cluster(options, origin.fingerprint, image.meta));
  }
  image.meta.identity.epoch = origin.identity.epoch + 1;
  image.meta.index = Index{1};
  image.meta.term = Term{1};
  if (options.bump > 0) {
    image.meta.revision += options.bump;
    image.meta.compacted = image.meta.revision;
    image.changes.clear();
    image.meta.sessions.clear();  // who asked in the other life must ask anew
  }
  const std::string temporary = options.folder + ".tmp";
  ORC_TRY(clear_folder(disk, temporary));
  ORC_ASSIGN(SnapshotSummary summary,
             write_snapshot_to(disk, temporary + "/" + snapshot_file_name(image.meta.index, image.meta.term),
                               image));
  RecoveredLog recovered;
  LogOptions log;
  log.folder = temporary;
  ORC_ASSIGN(const auto opened, LogFile::open(disk, log, image.meta.identity, recovered));
  LogBatch batch;
  batch.hard_state = HardState{image.meta.term, {}, image.meta.index};
  batch.snapshot = SnapshotMarker{image.meta.index, image.meta.term};
  ORC_TRY(opened->append(batch));
  if (disk.exists(options.folder + "/LOCK")) ORC_TRY(disk.remove(options.folder + "/LOCK"));
  ORC_TRY(disk.rename(temporary, options.folder));
  ORC_TRY(disk.sync_directory(parent_of(options.folder)));
  return summary;
}

}  // namespace orchestra::store
