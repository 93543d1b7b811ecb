#pragma once
// The bytes of a log segment, and the decision what a damaged one means. Pure; docs/formats/store.md.
//
// A segment is a header and records, 8-byte aligned, in a file that may be longer (allocated ahead, or
// recycled with older records in it). A record says which segment and offset it belongs to, so an old one
// never passes as new; each carries the checksum of its predecessor (a chain, across segments too); and
// each says how far this segment was known to be synced when it was written. That last number decides
// between torn and corrupt: writes go out one batch at a time, so after a crash only bytes that no later
// record calls synced may be bad.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra::store {

struct LogIdentity {
  std::array<char, 16> cluster{};
  std::uint32_t epoch = 0;
  std::uint64_t peer = 0;
  friend bool operator==(const LogIdentity&, const LogIdentity&) = default;
};

constexpr std::uint32_t kLogFormatVersion = 1;
constexpr std::size_t kSegmentHeaderSize = 64;
constexpr std::size_t kRecordHeaderSize = 48;
constexpr std::size_t kRecordPayloadMax = 64u << 20;
constexpr std::uint64_t kSegmentSizeMax = 1ull << 30;

struct SegmentHeader {
  LogIdentity identity;
  std::uint32_t segment = 0;
  std::uint32_t previous = 0;  ///< chain value at the end of the segment before
  bool recycled = false;       ///< the file held another segment before: old bytes may follow the records
};

enum class RecordType : std::uint8_t { entry = 1, hard_state = 2, snapshot = 3, clean_close = 4 };

struct RecordHeader {
  std::uint32_t length = 0;  ///< of the payload
  RecordType type{};
  std::uint64_t term = 0;
  std::uint64_t index = 0;
  std::uint32_t segment = 0;
  std::uint32_t offset = 0;    ///< of this header in the file
  std::uint32_t synced = 0;    ///< everything before this offset was synced when this was written
  std::uint32_t previous = 0;  ///< chain value before this record
  std::uint32_t payload_crc = 0;
};

std::string encode_segment_header(const SegmentHeader& header);
/// nullopt: bad checksum, magic or length. A good header of another version is an `unsupported` error.
Result<std::optional<SegmentHeader>> decode_segment_header(std::string_view bytes);

/// The file `newest`: which segment is the highest of the log of a peer.
constexpr std::size_t kNewestMax = 64;
std::string encode_newest(std::uint32_t segment, std::uint64_t peer);
std::optional<std::pair<std::uint32_t, std::uint64_t>> decode_newest(std::string_view text);

/// Appends header, payload (its two parts one after the other) and padding; returns the chain value after it.
std::uint32_t append_record(std::string& out, const RecordHeader& header, std::string_view payload,
                            std::string_view rest = {});
constexpr std::uint64_t record_size(std::uint64_t payload) {
  return (kRecordHeaderSize + payload + 7) / 8 * 8;
}

struct ScannedRecord {
  RecordHeader header;
  std::string_view payload;  ///< into the scanned bytes
};
struct SegmentScan {
  std::vector<ScannedRecord> records;
  std::uint64_t end = 0;          ///< offset after the last good record
  std::uint32_t chain = 0;        ///< chain value there
  std::uint64_t garbage_end = 0;  ///< after the last byte behind `end` that is not zero; 0: none
  bool closed = false;            ///< the last good record is a clean close
  std::uint64_t synced_after =
      0;  ///< the highest synced offset that any good record claims, before or after `end`
  /// Bytes before synced_after are bad: not a crash's doing.
  bool corrupt() const { return end < synced_after; }
};
/// Reads on until the first record that is not good, then looks for evidence behind it.
SegmentScan scan_segment(std::string_view bytes, std::uint32_t segment, std::uint32_t chain);

}  // namespace orchestra::store
