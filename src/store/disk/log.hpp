#pragma once
// The log on disk: segments in a folder, appended to in batches, one sync each.
//
// Recovered once by open(), then used by one thread. Every answer of append() means: written and synced.
// The first failed write or sync is final: the kernel may have dropped the dirty pages, so a second try
// would lie (Rebello et al., ATC 2020); the owner fails the store.
// File names: log-XXXXXXXX.seg by segment id, spare.seg for one retired segment that waits to be used again,
// newest, which names the newest segment, so that its loss as a whole is noticed: written once per segment.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/env.hpp"
#include "store/disk/segment.hpp"
#include "store/raft/types.hpp"

namespace orchestra::store {

struct SnapshotMarker {
  Index index;
  Term term;
};

struct LogBatch {
  std::optional<HardState> hard_state;
  std::vector<Entry> entries;
  std::optional<SnapshotMarker> snapshot;
  bool install =
      false;  ///< the snapshot came from a peer: its record comes before the entries, which follow it
  bool close = false;
  bool empty() const { return !hard_state && entries.empty() && !snapshot && !close; }
};

struct LogOptions {
  std::string folder;
  std::uint64_t segment_bytes = 64u << 20;
  std::uint64_t first_segment_bytes = 4u << 20;
  enum class Sync : std::uint8_t {
    each,   ///< append() answers when it is on the medium
    later,  ///< ... when it is written; but for votes and snapshots, sync() makes it durable
    never
  };
  Sync sync = Sync::each;
  /// Called before each append (stored = false) and after one that succeeded (true): for checkers.
  std::function<void(const LogBatch&, bool stored)> on_append = {};
};

/// What recovery found; entries start behind the snapshot marker, if there is one.
struct RecoveredLog {
  bool fresh = false;  ///< nothing was there
  LogIdentity identity;
  HardState hard_state;
  std::optional<SnapshotMarker> snapshot;
  std::vector<Entry> entries;
  std::vector<std::string> notes;  ///< what was cut, for status()
};

class LogFile {
 public:
  /// Reads what is there, or starts a log for `identity`. `corrupt` names file and offset.
  static Result<std::unique_ptr<LogFile>> open(Disk& disk, LogOptions options, const LogIdentity& identity,
                                               RecoveredLog& recovered);

  /// Whose log lies in `folder`, by the first segment header that can be read; none: nobody's.
  static Result<std::optional<LogIdentity>> find_identity(Disk& disk, const std::string& folder);

  /// The newest segment of the log of `peer` that the folder says it has; 0: it does not say.
  static Result<std::uint32_t> noted_newest(Disk& disk, const std::string& folder,
                                            std::optional<std::uint64_t> peer);

  /// One write, one sync. `no_space` only when a new segment could not be allocated: then nothing was
  /// written and the log stays usable.
  Result<void> append(const LogBatch& batch);
  /// Sync::later: what append() has written becomes durable. Final like append() when it fails.
  Result<void> sync();
  /// There is something for it to do.
  bool dirty() const { return dirty_; }
  /// Makes room for the segment after this one; `no_space` when there is none. Cheap when done already.
  Result<void> reserve();
  /// The open segment is half full and nothing is set aside to follow it.
  bool needs_reserve() const { return spare_size_ == 0 && end_ > segments_.back().size / 2; }
  /// Retires segments whose entries are all up to `index`.
  Result<void> trim(Index index);
  std::uint64_t bytes() const;
  /// Written by append() since open(); trimming takes nothing from it.
  std::uint64_t written() const { return written_; }

 private:
  struct Segment {
    std::uint32_t id = 0;
    Index last;  ///< highest entry index in it; 0: none
    std::uint64_t size = 0;
  };
  LogFile(Disk& disk, LogOptions options, LogIdentity identity)
      : disk_(disk), options_(std::move(options)), identity_(identity) {}
  static std::string path_in(const std::string& folder, std::uint32_t id);
  std::string path(std::uint32_t id) const { return path_in(options_.folder, id); }
  std::string spare_path() const { return options_.folder + "/spare.seg"; }
  Result<void> recover(RecoveredLog& recovered);
  static Result<std::vector<std::uint32_t>> list_segments(Disk& disk, const std::string& folder);
  Result<bool> read_segment(std::uint32_t id, bool newest, RecoveredLog& recovered);
  static void drop_replaced(const SnapshotMarker& marker, std::vector<Entry>& entries);
  Result<void> take_record(const ScannedRecord& record, std::uint32_t id, RecoveredLog& recovered);
  Result<void> cut_tail(const SegmentScan& scan, const SegmentHeader& header, RecoveredLog& recovered);
  Result<void> drop_unborn(std::uint32_t id, RecoveredLog& recovered);
  Result<std::unique_ptr<DiskFile>> new_file(const std::string& file, std::uint64_t size);
  Result<void> roll(std::uint64_t needed);
  Result<void> note_newest();
  void encode(const LogBatch& batch, std::string& out);
  void encode_record(std::string& out, RecordType type, Term term, Index index, std::string_view payload,
                     std::string_view rest = {});

  Disk& disk_;
  const LogOptions options_;
  const LogIdentity identity_;
  std::vector<Segment> segments_;  ///< the last one is open
  std::unique_ptr<DiskFile> file_;
  std::uint64_t end_ = 0;   ///< of the open segment's records
  std::uint64_t base_ = 0;  ///< offset at which the string being encoded will be written
  std::uint64_t synced_ = 0;
  bool dirty_ = false;  ///< written and not synced (Sync::later)
  std::uint64_t written_ = 0;
  std::uint32_t chain_ = 0;
  std::string buffer_;  ///< of append(), kept: to free so much for each batch costs more than to encode it
  std::uint64_t spare_size_ = 0;  ///< 0: no spare file
  bool spare_recycled_ = false;
  std::uint32_t noted_ = 0;  ///< the segment that the file `newest` names
  std::optional<HardState> hard_state_;
  std::optional<SnapshotMarker> marker_;
};

}  // namespace orchestra::store
