// Appending, rolling and trimming of the log; recovery is in log_recovery.cpp.
#include "store/disk/log.hpp"

#include <algorithm>
#include <cstdio>

#include "base/assert.hpp"
#include "store/mvcc/wire.hpp"
#include "store/planted.hpp"

namespace orchestra::store {
namespace {

constexpr std::size_t kBufferKept = 4u << 20;

std::string hard_state_bytes(const HardState& state) {
  std::string bytes;
  Writer out(bytes);
  out.u64(state.term.value);
  out.u64(state.vote.value);
  out.u64(state.commit.value);
  return bytes;
}

}  // namespace

std::string LogFile::path_in(const std::string& folder, std::uint32_t id) {
  char name[32];
  std::snprintf(name, sizeof name, "/log-%08x.seg", id);
  return folder + name;
}

void LogFile::encode_record(std::string& out, RecordType type, Term term, Index index,
                            std::string_view payload, std::string_view rest) {
  RecordHeader header;
  header.type = type;
  header.term = term.value;
  header.index = index.value;
  header.segment = segments_.back().id;
  header.offset = static_cast<std::uint32_t>(base_ + out.size());
  header.synced = static_cast<std::uint32_t>(synced_);
  header.previous = chain_;
  chain_ = append_record(out, header, payload, rest);
}

void LogFile::encode(const LogBatch& batch, std::string& out) {
  if (batch.hard_state && !planted(Bug::lose_hard_state)) {
    hard_state_ = batch.hard_state;
    encode_record(out, RecordType::hard_state, hard_state_->term, {}, hard_state_bytes(*hard_state_));
  }
  const auto encode_marker = [&] {
    marker_ = batch.snapshot;
    encode_record(out, RecordType::snapshot, marker_->term, marker_->index, {});
  };
  if (batch.snapshot && batch.install) encode_marker();
  for (const Entry& entry : batch.entries) {
    const char type = static_cast<char>(entry.type);
    encode_record(out, RecordType::entry, entry.term, entry.index, {&type, 1}, entry.bytes());
    segments_.back().last = std::max(segments_.back().last, entry.index);
  }
  if (batch.snapshot && !batch.install) encode_marker();
  if (batch.close) encode_record(out, RecordType::clean_close, {}, {}, {});
}

Result<void> LogFile::append(const LogBatch& batch) {
  std::uint64_t needed = batch.hard_state ? record_size(24) : 0;
  for (const Entry& entry : batch.entries) needed += record_size(1 + entry.bytes().size());
  if (batch.snapshot) needed += record_size(0);
  if (batch.close) needed += record_size(0);
  std::string& bytes = buffer_;
  bytes.clear();
  if (bytes.capacity() > kBufferKept) bytes.shrink_to_fit();
  bytes.reserve(needed + kSegmentHeaderSize + 2 * record_size(24));
  const bool new_segment = segments_.empty() || end_ + needed > segments_.back().size;
  if (new_segment) {
    ORC_TRY(roll(needed));
    bytes = encode_segment_header({identity_, segments_.back().id, chain_, spare_recycled_});
    // A segment stands alone once those before it are gone: it repeats what they would have told.
    if (hard_state_) {
      encode_record(bytes, RecordType::hard_state, hard_state_->term, {}, hard_state_bytes(*hard_state_));
    }
    if (marker_) encode_record(bytes, RecordType::snapshot, marker_->term, marker_->index, {});
  }
  if (options_.on_append) options_.on_append(batch, false);
  base_ = end_;
  encode(batch, bytes);
  ORC_ASSERT(end_ + bytes.size() <= segments_.back().size);
  ORC_TRY(file_->write_at(end_, bytes));
  // Who was promised a vote, or relies on a snapshot, must not see it undone, whatever the durability of
  // writes.
  const bool now = options_.sync == LogOptions::Sync::each ||
                   (options_.sync == LogOptions::Sync::later && (batch.hard_state || batch.snapshot));
  if (now && !planted(Bug::skip_sync)) ORC_TRY(file_->sync());
  if (new_segment && options_.sync != LogOptions::Sync::never && !planted(Bug::skip_folder_sync))
    ORC_TRY(disk_.sync_directory(options_.folder));
  end_ += bytes.size();
  written_ += bytes.size();
  dirty_ = options_.sync == LogOptions::Sync::later && !now;
  if (!dirty_) synced_ = end_;
  base_ = end_;
  // Failing here costs no data: the loss of this segment as a whole would not be noticed.
  if (!dirty_ && noted_ != segments_.back().id) (void)note_newest();
  if (options_.on_append) options_.on_append(batch, true);
  return {};
}

/// The segment and its name are durable.
Result<void> LogFile::note_newest() {
  if (options_.sync == LogOptions::Sync::never || planted(Bug::skip_folder_sync)) return {};
  noted_ = segments_.back().id;  // tried once
  const std::string file = options_.folder + "/newest", fresh = file + ".tmp";
  {
    ORC_ASSIGN(const auto made, disk_.open(fresh, Disk::Open::create_or_open));
    ORC_TRY(made->write_at(0, encode_newest(noted_, identity_.peer)));
    ORC_TRY(made->sync());
  }
  ORC_TRY(disk_.rename(fresh, file));
  return disk_.sync_directory(options_.folder);
}

Result<void> LogFile::sync() {
  if (!dirty_) return {};
  ORC_TRY(file_->sync());
  synced_ = end_;
  dirty_ = false;
  if (noted_ != segments_.back().id) (void)note_newest();
  return {};
}

Result<std::unique_ptr<DiskFile>> LogFile::new_file(const std::string& file, std::uint64_t size) {
  ORC_ASSIGN(auto made, disk_.open(file, Disk::Open::create_or_open));
  if (auto ok = made->allocate(size); !ok) {
    const Error error = ok.error();
    made.reset();
    (void)disk_.remove(file);
    return error;
  }
  return made;
}

Result<void> LogFile::reserve() {
  if (spare_size_ != 0) return {};
  auto made = new_file(spare_path(), options_.segment_bytes);
  if (!made) return made.error().with_context("reserving the next log segment");
  spare_size_ = options_.segment_bytes;
  spare_recycled_ = false;
  return {};
}

/// Starts the next segment; what is written first is the caller's.
Result<void> LogFile::roll(std::uint64_t needed) {
  const std::uint64_t wanted = segments_.empty() ? options_.first_segment_bytes : options_.segment_bytes;
  const std::uint64_t size =
      std::max(wanted, (kSegmentHeaderSize + 2 * record_size(24) + needed + 4095) / 4096 * 4096);
  if (size > kSegmentSizeMax) {
    return Error(Error::too_large, "store",
                 "a batch of " + std::to_string(needed) + " bytes does not fit a log segment");
  }
  ORC_TRY(sync());  // of the segment that ends: nobody could do it later
  const std::uint32_t id = segments_.empty() ? 1 : segments_.back().id + 1;
  Segment next{id, {}, size};
  if (spare_size_ >= size) {
    next.size = spare_size_;
    ORC_TRY(disk_.rename(spare_path(), path(id)));
    spare_size_ = 0;
    ORC_ASSIGN(file_, disk_.open(path(id), Disk::Open::existing));
  } else {
    ORC_ASSIGN(file_, new_file(path(id), size));
    spare_recycled_ = false;
  }
  segments_.push_back(next);
  end_ = base_ = synced_ = 0;
  return {};
}

Result<void> LogFile::trim(Index index) {
  bool changed = false;
  while (segments_.size() > 1 && segments_.front().last <= index) {
    const Segment& old = segments_.front();
    if (spare_size_ == 0 && old.size >= options_.segment_bytes) {
      ORC_TRY(disk_.rename(path(old.id), spare_path()));
      spare_size_ = old.size;
      spare_recycled_ = true;
    } else {
      ORC_TRY(disk_.remove(path(old.id)));
    }
    segments_.erase(segments_.begin());
    changed = true;
  }
  if (changed && options_.sync != LogOptions::Sync::never) ORC_TRY(disk_.sync_directory(options_.folder));
  return {};
}

std::uint64_t LogFile::bytes() const {
  std::uint64_t sum = end_;
  for (std::size_t i = 0; i + 1 < segments_.size(); ++i) sum += segments_[i].size;
  return sum;
}

}  // namespace orchestra::store
