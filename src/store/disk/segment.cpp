// Encoding and scanning of log segments (segment.hpp).
#include "store/disk/segment.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>

#include "base/assert.hpp"
#include "store/disk/crc32c.hpp"
#include "store/mvcc/wire.hpp"
#include "store/planted.hpp"

namespace orchestra::store {
namespace {

constexpr std::string_view kMagic("ORCLOG\r\n", 8);

struct ParsedRecord {
  RecordHeader header;
  std::uint32_t header_crc = 0;
};

/// A header whose own checksum, place and length are right.
std::optional<ParsedRecord> parse_header(std::string_view bytes, std::uint64_t offset,
                                         std::uint32_t segment) {
  if (offset + kRecordHeaderSize > bytes.size()) return std::nullopt;
  const std::string_view raw = bytes.substr(offset, kRecordHeaderSize);
  Reader in(raw);
  ParsedRecord record;
  record.header.length = in.u32();
  const std::uint32_t type = in.u32();
  record.header.term = in.u64();
  record.header.index = in.u64();
  record.header.segment = in.u32();
  record.header.offset = in.u32();
  record.header.synced = in.u32();
  record.header.previous = in.u32();
  record.header.payload_crc = in.u32();
  record.header_crc = in.u32();
  if (record.header.segment != segment || record.header.offset != offset) return std::nullopt;
  if (record.header.length > kRecordPayloadMax || type < 1 || type > 4) return std::nullopt;
  if (record.header_crc != crc32c(raw.substr(0, kRecordHeaderSize - 4))) return std::nullopt;
  record.header.type = static_cast<RecordType>(type);
  return record;
}

std::optional<ScannedRecord> parse_record(std::string_view bytes, const ParsedRecord& parsed) {
  const std::uint64_t start = std::uint64_t{parsed.header.offset} + kRecordHeaderSize;
  if (start + parsed.header.length > bytes.size()) return std::nullopt;
  const std::string_view payload = bytes.substr(start, parsed.header.length);
  if (crc32c(payload) != parsed.header.payload_crc && !planted(Bug::trust_payloads)) return std::nullopt;
  return ScannedRecord{parsed.header, payload};
}

bool is_zero(std::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == 0; });
}

}  // namespace

std::string encode_newest(std::uint32_t segment, std::uint64_t peer) {
  char text[kNewestMax];
  const int what =
      std::snprintf(text, sizeof text, "%08x %016llx", segment, static_cast<unsigned long long>(peer));
  const std::uint32_t sum = crc32c({text, static_cast<std::size_t>(what)});
  std::snprintf(text + what, sizeof text - static_cast<std::size_t>(what), " %08x\n", sum);
  return text;
}
std::optional<std::pair<std::uint32_t, std::uint64_t>> decode_newest(std::string_view text) {
  std::pair<std::uint32_t, std::uint64_t> noted;
  if (text.size() != 35) return std::nullopt;
  const auto segment = std::from_chars(text.data(), text.data() + 8, noted.first, 16);
  const auto peer = std::from_chars(text.data() + 9, text.data() + 25, noted.second, 16);
  if (segment.ptr != text.data() + 8 || peer.ptr != text.data() + 25) return std::nullopt;
  if (encode_newest(noted.first, noted.second) != text) return std::nullopt;
  return noted;
}

std::string encode_segment_header(const SegmentHeader& header) {
  std::string bytes;
  Writer out(bytes);
  bytes.append(kMagic);
  out.u32(kLogFormatVersion);
  out.u32(header.segment);
  bytes.append(header.identity.cluster.data(), header.identity.cluster.size());
  out.u64(header.identity.peer);
  out.u32(header.identity.epoch);
  out.u32(header.previous);
  out.u32(header.recycled ? 1 : 0);
  bytes.resize(kSegmentHeaderSize - 4, '\0');
  out.u32(crc32c(bytes));
  ORC_ASSERT(bytes.size() == kSegmentHeaderSize);
  return bytes;
}

Result<std::optional<SegmentHeader>> decode_segment_header(std::string_view bytes) {
  if (bytes.size() < kSegmentHeaderSize || bytes.substr(0, 8) != kMagic)
    return std::optional<SegmentHeader>();
  const std::string_view raw = bytes.substr(0, kSegmentHeaderSize);
  Reader tail(raw.substr(kSegmentHeaderSize - 4));
  if (tail.u32() != crc32c(raw.substr(0, kSegmentHeaderSize - 4))) return std::optional<SegmentHeader>();
  Reader in(raw.substr(8));
  const std::uint32_t version = in.u32();
  if (version != kLogFormatVersion) {
    return Error(Error::unsupported, "store",
                 "the log has format version " + std::to_string(version) + "; this release reads version " +
                     std::to_string(kLogFormatVersion));
  }
  SegmentHeader header;
  header.segment = in.u32();
  std::copy_n(raw.data() + 16, 16, header.identity.cluster.data());
  Reader rest(raw.substr(32));
  header.identity.peer = rest.u64();
  header.identity.epoch = rest.u32();
  header.previous = rest.u32();
  header.recycled = rest.u32() != 0;
  return std::optional<SegmentHeader>(header);
}

std::uint32_t append_record(std::string& out, const RecordHeader& header, std::string_view payload,
                            std::string_view rest) {
  const std::size_t length = payload.size() + rest.size();
  ORC_ASSERT(length <= kRecordPayloadMax);
  std::array<char, kRecordHeaderSize> head;
  FixedWriter writer(head.data());
  writer.u32(static_cast<std::uint32_t>(length));
  writer.u32(static_cast<std::uint32_t>(header.type));
  writer.u64(header.term);
  writer.u64(header.index);
  writer.u32(header.segment);
  writer.u32(header.offset);
  writer.u32(header.synced);
  writer.u32(header.previous);
  writer.u32(crc32c(rest, crc32c(payload)));
  const std::uint32_t crc = crc32c({head.data(), writer.size()});
  writer.u32(crc);
  ORC_ASSERT(writer.size() == head.size());
  out.append(head.data(), head.size());
  out.append(payload);
  out.append(rest);
  out.append(record_size(length) - kRecordHeaderSize - length, '\0');
  return crc;
}

SegmentScan scan_segment(std::string_view bytes, std::uint32_t segment, std::uint32_t chain) {
  SegmentScan scan;
  scan.end = kSegmentHeaderSize;
  scan.chain = chain;
  while (true) {
    const auto parsed = parse_header(bytes, scan.end, segment);
    if (!parsed || parsed->header.previous != scan.chain) break;
    const auto record = parse_record(bytes, *parsed);
    if (!record) break;
    // Padding is ours to write: anything but zeros there is damage too.
    const std::uint64_t next = scan.end + record_size(record->header.length);
    const std::uint64_t payload_end = scan.end + kRecordHeaderSize + record->header.length;
    if (next > bytes.size() || !is_zero(bytes.substr(payload_end, next - payload_end))) break;
    scan.records.push_back(*record);
    scan.synced_after = std::max<std::uint64_t>(scan.synced_after, record->header.synced);
    scan.closed = record->header.type == RecordType::clean_close;
    scan.chain = parsed->header_crc;
    scan.end = next;
  }
  for (std::uint64_t at = bytes.size(); at > scan.end && scan.garbage_end == 0; --at) {
    if (bytes[at - 1] != 0) scan.garbage_end = at;
  }
  // Headers behind the end: only their place is looked at first, for there may be a whole old segment.
  for (std::uint64_t at = scan.end; at + kRecordHeaderSize <= scan.garbage_end; at += 8) {
    std::uint32_t place[2];
    std::memcpy(place, bytes.data() + at + 24, sizeof place);
    if (place[0] != segment || place[1] != at) continue;
    const auto parsed = parse_header(bytes, at, segment);
    if (parsed) scan.synced_after = std::max<std::uint64_t>(scan.synced_after, parsed->header.synced);
  }
  return scan;
}

}  // namespace orchestra::store
