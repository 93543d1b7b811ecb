#pragma once
// Which user and group ids a rootless container has, and which ids of the machine they are. Pure.
//
// Id 0 inside is the user who runs us. Further ids come from the ranges that an administrator gave to that
// user in /etc/subuid and /etc/subgid (shadow's subuid(5)); without them there is no other id inside.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/wire/protocol.hpp"

namespace orchestra::runtime {

struct SubidRange {
  std::uint32_t start = 0, count = 0;
};
/// The lines "NAME:START:COUNT" of `text` for `name` or the number `id`, in their order. Lines that are
/// malformed, empty or reach past the last id are passed over, as newuidmap does.
std::vector<SubidRange> parse_subid(std::string_view text, std::string_view name, std::uint32_t id);

struct IdMaps {
  std::vector<wire::IdRange> uids, gids;
  bool ranged = false;  ///< written by newuidmap and newgidmap; else one id, and setgroups is denied
  bool has_uid(std::uint32_t id) const;
  bool has_gid(std::uint32_t id) const;
  std::string describe() const;  ///< "uids 0..65536 (1000, 100000..165535)"
};
/// `uid` and `gid` become 0 inside, then the ranges follow. Both kinds are needed, else only one id is
/// mapped. With `keep_id` our own ids keep their number inside and the ranges fill what is around them.
IdMaps plan_id_maps(std::uint32_t uid, std::uint32_t gid, const std::vector<SubidRange>& uid_ranges,
                    const std::vector<SubidRange>& gid_ranges, bool keep_id = false);

}  // namespace orchestra::runtime
