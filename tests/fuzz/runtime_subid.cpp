// /etc/subuid as any administrator may have written it, and the maps that come of it.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "runtime/plan/id_maps.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra::runtime;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto ranges = parse_subid(text, "alice", 1000);
  for (const bool keep_id : {false, true}) {
    const IdMaps maps = plan_id_maps(1000, 1000, ranges, ranges, keep_id);
    if (maps.uids.empty() || maps.uids.size() > orchestra::wire::kIdRangesMax) std::abort();
    if (!maps.has_uid(maps.ranged && keep_id ? 1000 : 0)) std::abort();
    std::uint64_t ids = 0;  // no id twice inside: ranges are disjoint
    for (const auto& one : maps.uids) {
      ids += one.count;
      for (const auto& other : maps.uids) {
        const bool apart = &one == &other || one.inside + std::uint64_t{one.count} <= other.inside ||
                           other.inside + std::uint64_t{other.count} <= one.inside;
        if (!apart) std::abort();
      }
    }
    if (ids > 0xffffffffull) std::abort();
    (void)maps.describe();
  }
  return 0;
}
