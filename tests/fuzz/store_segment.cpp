// Log segments under arbitrary bytes: the scan ends inside them, and what it accepts is what was written.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "store/disk/segment.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra::store;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto header = decode_segment_header(bytes);
  if (header && *header && encode_segment_header(**header).size() != kSegmentHeaderSize) std::abort();
  const SegmentScan scan = scan_segment(bytes, 1, 0);
  if (!scan.records.empty() && scan.end > size) std::abort();
  for (const ScannedRecord& record : scan.records) {
    if (record.payload.data() + record.payload.size() > bytes.data() + size) std::abort();
  }
  // A good log with the input laid over its tail is cut or called corrupt, never read past its first record.
  std::string log = encode_segment_header({{}, 1, 0, false});
  RecordHeader first;
  first.type = RecordType::entry;
  first.segment = 1;
  first.offset = static_cast<std::uint32_t>(log.size());
  append_record(log, first, "payload");
  const std::size_t good = log.size();
  log.append(bytes);
  const SegmentScan again = scan_segment(log, 1, 0);
  if (again.records.empty() || again.end < good) std::abort();
  return 0;
}
