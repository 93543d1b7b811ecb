// Snapshot files: verifying, writing, and restoring a store's folder from one (restore.hpp).
#include "store/restore.hpp"

#include <cstdio>

#include "store/disk/log.hpp"

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
  image.hash = state.hash();
  image.tree = state.tree();
  for (const auto& [id, lease] : state.leases()) image.leases.emplace_back(id, lease.ttl);
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
    ORC_TRY(file->sync());
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
  MvccState state;
  ORC_ASSIGN(const auto file, disk.open(options.file, Disk::Open::existing));
  auto read = read_snapshot(snapshot_source(*file), &state);
  if (!read) return read.error().with_context(options.file);
  ORC_TRY(refuse_used(disk, options.folder));

  SnapshotImage image = image_of(state);
  random.fill(image.meta.identity.cluster.data(), image.meta.identity.cluster.size());
  image.meta.identity.epoch = read->meta.identity.epoch + 1;
  while (image.meta.identity.peer == 0) image.meta.identity.peer = random.next();
  image.meta.index = Index{1};
  image.meta.term = Term{1};
  if (options.bump > 0) {
    image.meta.revision += options.bump;
    image.meta.compacted = image.meta.revision;
    image.changes.clear();
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
