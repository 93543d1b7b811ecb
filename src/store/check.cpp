// Verifying the files of a store offline (check.hpp): every checksum, the chain over all segments, snapshots.
#include "store/check.hpp"

#include "store/disk/log.hpp"
#include "store/disk/segment.hpp"
#include "store/restore.hpp"

namespace orchestra::store {
namespace {

struct Chain {
  bool begun = false;
  std::uint32_t value = 0;
  LogIdentity identity;
  std::string last_file;
};

Error damaged(const std::string& file, std::uint64_t offset, const std::string& what) {
  return Error(Error::corrupt, "store",
               file + " is damaged at offset " + std::to_string(offset) + ": " + what);
}

Result<std::string> check_segment(Disk& disk, const std::string& file, std::uint32_t id, bool newest,
                                  Chain& chain) {
  ORC_ASSIGN(const std::string bytes, disk.read_file(file, kSegmentSizeMax));
  ORC_ASSIGN(const auto header, decode_segment_header(bytes));
  if (!header || header->segment != id) {
    if (newest) return file + ": a crash came before its first record; the next start removes it";
    return damaged(file, 0, "its header is bad");
  }
  if (chain.begun && header->identity != chain.identity)
    return damaged(file, 0, "it belongs to another store");
  if (chain.begun && header->previous != chain.value)
    return damaged(file, 0, "records are missing at the end of " + chain.last_file);
  const SegmentScan scan = scan_segment(bytes, id, header->previous);
  if (scan.corrupt()) return damaged(file, scan.end, "a record that was synced is bad");
  if (!newest && scan.garbage_end != 0 && !header->recycled)
    return damaged(file, scan.end, "bytes that are no records");
  chain = {true, scan.chain, header->identity, file};
  std::string line =
      file + ": " + std::to_string(scan.records.size()) + " records, " + std::to_string(scan.end) + " bytes";
  if (newest && !scan.closed) line += ", not closed in order";
  if (newest && scan.garbage_end != 0 && !header->recycled)
    line += ", a torn last write at offset " + std::to_string(scan.end);
  return line;
}

}  // namespace

Result<void> check_complete_segment(Disk& disk, const std::string& file) {
  ORC_ASSIGN(const std::string bytes, disk.read_file(file, kSegmentSizeMax));
  ORC_ASSIGN(const auto header, decode_segment_header(bytes));
  if (!header) return damaged(file, 0, "its header is bad");
  const SegmentScan scan = scan_segment(bytes, header->segment, header->previous);
  if (scan.corrupt()) return damaged(file, scan.end, "a record that was synced is bad");
  if (scan.garbage_end != 0 && !header->recycled) return damaged(file, scan.end, "bytes that are no records");
  return {};
}

Result<void> check_snapshot(Disk& disk, const std::string& file) {
  ORC_ASSIGN(const auto opened, disk.open(file, Disk::Open::existing));
  auto summary = read_snapshot(snapshot_source(*opened), nullptr);
  return summary ? Result<void>() : Result<void>(summary.error().with_context(file));
}

Result<std::vector<std::string>> check_folder(Disk& disk, const std::string& folder) {
  ORC_ASSIGN(const auto lock, disk.lock(folder + "/LOCK"));
  ORC_ASSIGN(const auto names, disk.list(folder));
  std::vector<std::string> lines;
  std::vector<std::string> segments;
  for (const std::string& name : names) {
    if (name.size() == 16 && name.compare(0, 4, "log-") == 0) segments.push_back(name);
  }
  if (segments.empty()) return Error(Error::not_found, "store", "there is no store in " + folder);
  Chain chain;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto id = static_cast<std::uint32_t>(std::stoul(segments[i].substr(4, 8), nullptr, 16));
    ORC_ASSIGN(std::string line,
               check_segment(disk, folder + "/" + segments[i], id, i + 1 == segments.size(), chain));
    lines.push_back(std::move(line));
  }
  ORC_ASSIGN(const std::uint32_t newest, LogFile::noted_newest(disk, folder, chain.identity.peer));
  if (chain.begun && newest > std::stoul(segments.back().substr(4, 8), nullptr, 16))
    return damaged(folder, 0, "log segment " + std::to_string(newest) + " is missing, which was the newest");
  for (const std::string& name : names) {
    if (name.compare(0, 9, "snapshot-") != 0 || name.size() < 5 || name.substr(name.size() - 5) != ".snap")
      continue;
    ORC_ASSIGN(const SnapshotSummary summary, verify_snapshot_file(disk, folder + "/" + name));
    lines.push_back(folder + "/" + name + ": " + std::to_string(summary.records) + " keys at revision " +
                    std::to_string(summary.meta.revision));
  }
  return lines;
}

}  // namespace orchestra::store
