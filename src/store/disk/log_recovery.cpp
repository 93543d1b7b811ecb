// Reading the log at start: what a crash may leave is cut and noted, anything else is refused.
//
// A crash can leave: a torn last batch; a newest segment whose header never came through (nothing in it was
// acknowledged: its first batch and its header share one sync). All else is `corrupt`, with file and offset.
#include <algorithm>
#include <charconv>

#include "base/assert.hpp"
#include "store/disk/log.hpp"
#include "store/mvcc/wire.hpp"
#include "store/planted.hpp"

namespace orchestra::store {
namespace {

Error corrupt_error(const std::string& file, std::uint64_t offset, const std::string& what) {
  return Error(Error::corrupt, "store",
               file + " is damaged at offset " + std::to_string(offset) + ": " + what +
                   "; nothing was changed: look with `orchestra store check`, or put back a snapshot with "
                   "`orchestra store restore`");
}

Result<std::string> read_whole(DiskFile& file) {
  ORC_ASSIGN(const std::uint64_t size, file.size());
  if (size > kSegmentSizeMax)
    return Error(Error::corrupt, "store", "a log segment of " + std::to_string(size) + " bytes");
  std::string bytes(size, '\0');
  std::size_t have = 0;
  while (have < bytes.size()) {
    ORC_ASSIGN(const std::size_t got, file.read_at(have, bytes.data() + have, bytes.size() - have));
    if (got == 0) break;
    have += got;
  }
  bytes.resize(have);
  return bytes;
}

}  // namespace

Result<std::unique_ptr<LogFile>> LogFile::open(Disk& disk, LogOptions options, const LogIdentity& identity,
                                               RecoveredLog& recovered) {
  const std::unique_ptr<LogFile> found(new LogFile(disk, options, identity));
  ORC_TRY(found->recover(recovered));
  // The identity on disk wins: a second object, so that it stays constant.
  std::unique_ptr<LogFile> log(new LogFile(disk, options, recovered.fresh ? identity : recovered.identity));
  if (recovered.fresh) recovered.identity = identity;
  log->segments_ = std::move(found->segments_);
  log->file_ = std::move(found->file_);
  log->end_ = log->base_ = log->synced_ = found->end_;
  log->chain_ = found->chain_;
  log->spare_size_ = found->spare_size_;
  log->spare_recycled_ = found->spare_recycled_;
  log->noted_ = found->noted_;
  if (!recovered.fresh) log->hard_state_ = recovered.hard_state;
  log->marker_ = recovered.snapshot;
  return log;
}

Result<std::optional<LogIdentity>> LogFile::find_identity(Disk& disk, const std::string& folder) {
  ORC_ASSIGN(const auto ids, list_segments(disk, folder));
  for (const std::uint32_t id : ids) {
    ORC_ASSIGN(const auto file, disk.open(path_in(folder, id), Disk::Open::existing));
    std::string head(kSegmentHeaderSize, '\0');
    ORC_ASSIGN(const std::size_t got, file->read_at(0, head.data(), head.size()));
    head.resize(got);
    const auto header = decode_segment_header(head);
    if (header && *header && (*header)->segment == id) return std::optional((*header)->identity);
  }
  return std::optional<LogIdentity>();
}

Result<std::vector<std::uint32_t>> LogFile::list_segments(Disk& disk, const std::string& folder) {
  ORC_ASSIGN(const auto names, disk.list(folder));
  std::vector<std::uint32_t> ids;
  for (const std::string& name : names) {
    if (name.size() != 16 || name.compare(0, 4, "log-") != 0 || name.compare(12, 4, ".seg") != 0) continue;
    std::uint32_t id = 0;
    const auto parsed = std::from_chars(name.data() + 4, name.data() + 12, id, 16);
    if (parsed.ptr == name.data() + 12) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

/// What cannot be read, or is of another peer (before a repair), says nothing.
Result<std::uint32_t> LogFile::noted_newest(Disk& disk, const std::string& folder,
                                            std::optional<std::uint64_t> peer) {
  const std::string file = folder + "/newest";
  if (!disk.exists(file)) return std::uint32_t{0};
  ORC_ASSIGN(const std::string text, disk.read_file(file, kNewestMax));
  const auto noted = decode_newest(text);
  if (!noted || (peer && noted->second != *peer)) return std::uint32_t{0};
  return noted->first;
}

Result<void> LogFile::recover(RecoveredLog& recovered) {
  ORC_ASSIGN(const auto ids, list_segments(disk_, options_.folder));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i > 0 && ids[i] != ids[i - 1] + 1) {
      return corrupt_error(path(ids[i - 1] + 1), 0, "the segment is missing, though later ones are there");
    }
    ORC_ASSIGN(const bool born, read_segment(ids[i], i + 1 == ids.size(), recovered));
    if (!born) ORC_TRY(drop_unborn(ids[i], recovered));
  }
  recovered.fresh = segments_.empty();
  const auto peer = recovered.fresh ? std::nullopt : std::optional(recovered.identity.peer);
  ORC_ASSIGN(noted_, noted_newest(disk_, options_.folder, peer));
  if (noted_ > (recovered.fresh ? 0 : segments_.back().id))
    return corrupt_error(path(noted_), 0, "the segment is missing, which was the newest of the log");
  if (disk_.exists(spare_path())) {
    ORC_ASSIGN(const auto spare, disk_.open(spare_path(), Disk::Open::existing));
    ORC_ASSIGN(spare_size_, spare->size());
    spare_recycled_ = true;
    std::string head(kSegmentHeaderSize, '\0');
    ORC_ASSIGN(const std::size_t got, spare->read_at(0, head.data(), head.size()));
    head.resize(got);
    const auto header = decode_segment_header(head);
    // It was to be a segment after these when a crash took its name back: that header must not be read again,
    // when a second crash leaves the name and not what is written then.
    const bool after = header && *header && (segments_.empty() || (*header)->segment > segments_.back().id);
    if (after || spare_size_ < options_.segment_bytes) {  // or a crash while it was allocated
      ORC_TRY(disk_.remove(spare_path()));
      spare_size_ = 0;
    }
  }
  if (recovered.snapshot) {
    std::erase_if(recovered.entries,
                  [&](const Entry& entry) { return entry.index <= recovered.snapshot->index; });
  }
  const Index before = recovered.snapshot ? recovered.snapshot->index : Index{0};
  if (!recovered.entries.empty() && recovered.entries.front().index.value != before.value + 1) {
    return corrupt_error(path(segments_.front().id), 0,
                         "the log begins with entry " +
                             std::to_string(recovered.entries.front().index.value) + ", but entry " +
                             std::to_string(before.value + 1) + " is needed; a segment was lost");
  }
  return {};
}

/// False: the newest segment was never finished.
Result<bool> LogFile::read_segment(std::uint32_t id, bool newest, RecoveredLog& recovered) {
  ORC_ASSIGN(auto file, disk_.open(path(id), Disk::Open::existing));
  ORC_ASSIGN(const std::string bytes, read_whole(*file));
  ORC_ASSIGN(const auto header, decode_segment_header(bytes));
  if (!header || header->segment != id) {
    const SegmentScan scan = scan_segment(bytes, id, 0);
    if (!newest || scan.synced_after > 0) return corrupt_error(path(id), 0, "its header is bad");
    return false;
  }
  if (segments_.empty()) {
    recovered.identity = header->identity;
  } else if (header->identity != recovered.identity) {
    return corrupt_error(path(id), 0, "it belongs to another store");
  } else if (header->previous != chain_) {
    return corrupt_error(path(segments_.back().id), end_, "records are missing at its end");
  }
  const SegmentScan scan = scan_segment(bytes, id, header->previous);
  if (scan.corrupt() && !planted(Bug::cut_damage))
    return corrupt_error(path(id), scan.end, "a record that was synced is bad");
  segments_.push_back({id, {}, bytes.size()});
  for (const ScannedRecord& record : scan.records) ORC_TRY(take_record(record, id, recovered));
  file_ = std::move(file);
  end_ = scan.end;
  chain_ = scan.chain;
  if (newest) ORC_TRY(cut_tail(scan, *header, recovered));
  return true;
}

/// A snapshot that came from a peer replaces the whole log before it; an own one only repeats what entries
/// say, which are then here up to its index, or begin right behind it.
void LogFile::drop_replaced(const SnapshotMarker& marker, std::vector<Entry>& entries) {
  if (entries.empty() || entries.front().index > marker.index) return;
  const std::uint64_t at = marker.index.value - entries.front().index.value;
  if (at >= entries.size() || entries[at].term != marker.term) entries.clear();
}

Result<void> LogFile::take_record(const ScannedRecord& record, std::uint32_t id, RecoveredLog& recovered) {
  const auto bad = [&](const char* what) { return corrupt_error(path(id), record.header.offset, what); };
  switch (record.header.type) {
    case RecordType::hard_state: {
      Reader in(record.payload);
      recovered.hard_state.term = Term{in.u64()};
      recovered.hard_state.vote = PeerId{in.u64()};
      recovered.hard_state.commit = Index{in.u64()};
      if (!in.done()) return bad("a hard state of wrong length");
      break;
    }
    case RecordType::entry: {
      if (record.payload.empty()) return bad("an entry without a type");
      auto& entries = recovered.entries;
      const Entry entry{Term{record.header.term}, Index{record.header.index},
                        static_cast<EntryType>(record.payload[0]),
                        std::make_shared<const std::string>(record.payload.substr(1))};
      // An index that comes again replaces what a deposed leader had left there.
      while (!entries.empty() && entries.back().index >= entry.index) entries.pop_back();
      if (!entries.empty() && entries.back().index.value + 1 != entry.index.value)
        return bad("a gap in the indexes");
      entries.push_back(entry);
      segments_.back().last = std::max(segments_.back().last, entry.index);
      break;
    }
    case RecordType::snapshot:
      recovered.snapshot = SnapshotMarker{Index{record.header.index}, Term{record.header.term}};
      drop_replaced(*recovered.snapshot, recovered.entries);
      break;
    case RecordType::clean_close:
      break;
  }
  return {};
}

/// Takes away what a crash left behind the last good record, so that it is reported once.
Result<void> LogFile::cut_tail(const SegmentScan& scan, const SegmentHeader& header,
                               RecoveredLog& recovered) {
  if (scan.garbage_end == 0 || header.recycled) return {};
  recovered.notes.push_back("cut a torn record at offset " + std::to_string(scan.end) + " of " +
                            path(header.segment) + ": " + std::to_string(scan.garbage_end - scan.end) +
                            " bytes of a last write that a crash left unfinished, or that rotted since");
  std::uint64_t at = scan.end;
  const std::string zeros(64 << 10, '\0');
  while (at < scan.garbage_end) {
    const std::uint64_t step = std::min<std::uint64_t>(zeros.size(), scan.garbage_end - at);
    ORC_TRY(file_->write_at(at, std::string_view(zeros).substr(0, step)));
    at += step;
  }
  return file_->sync();
}

Result<void> LogFile::drop_unborn(std::uint32_t id, RecoveredLog& recovered) {
  recovered.notes.push_back("removed " + path(id) + ": a crash came before its first record");
  ORC_TRY(disk_.remove(path(id)));
  return disk_.sync_directory(options_.folder);
}

}  // namespace orchestra::store
