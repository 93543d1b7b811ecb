// Records of a backup's changes under arbitrary bytes: what decodes encodes to bytes that decode to the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "store/backup.hpp"
#include "store/raft_store.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra::store;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto archived = decode_archived(bytes)) {
    const std::string again = encode_archived(*archived);
    const auto second = decode_archived(again);
    if (!second || encode_archived(*second) != again) std::abort();
  }
  if (const auto mark = decode_repair_mark(bytes)) {
    const auto second = decode_repair_mark(encode_repair_mark(*mark));
    if (!second || second->step != mark->step || second->identity != mark->identity) std::abort();
  }
  return 0;
}
