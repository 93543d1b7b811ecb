#include "runtime/plan/id_maps.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

namespace orchestra::runtime {
namespace {

using wire::IdRange;
constexpr std::uint64_t kIdsEnd = 0xffffffff;  // 4294967295 means "no change" to the kernel: it is no id

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

/// Lays `ranges` from inside id `first` on, leaving out `hole`; at most `room` entries.
void lay(std::vector<IdRange>& out, std::uint64_t first, std::optional<std::uint32_t> hole,
         const std::vector<SubidRange>& ranges, std::size_t room) {
  std::uint64_t next = first;
  for (const SubidRange& range : ranges) {
    std::uint64_t start = range.start, left = range.count;
    while (left > 0 && out.size() < room && next < kIdsEnd) {
      if (hole && next == *hole) ++next;
      std::uint64_t count = std::min(left, kIdsEnd - next);
      if (hole && next < *hole) count = std::min<std::uint64_t>(count, *hole - next);
      out.push_back({static_cast<std::uint32_t>(next), static_cast<std::uint32_t>(start),
                     static_cast<std::uint32_t>(count)});
      next += count;
      start += count;
      left -= count;
    }
  }
}

std::vector<IdRange> one_kind(std::uint32_t own, const std::vector<SubidRange>& ranges, bool keep_id) {
  std::vector<IdRange> out{{keep_id ? own : 0, own, 1}};
  if (keep_id) {
    lay(out, 0, own, ranges, wire::kIdRangesMax);
  } else {
    lay(out, 1, std::nullopt, ranges, wire::kIdRangesMax);
  }
  return out;
}

bool has(const std::vector<IdRange>& ranges, std::uint32_t id) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const IdRange& range) {
    return id >= range.inside && id - range.inside < range.count;
  });
}

std::string print(const std::vector<IdRange>& ranges) {
  std::string text;
  for (const IdRange& range : ranges) {
    if (!text.empty()) text += ", ";
    text += std::to_string(range.inside);
    if (range.count > 1) text += ".." + std::to_string(std::uint64_t{range.inside} + range.count - 1);
    text += " = " + std::to_string(range.outside);
    if (range.count > 1) text += ".." + std::to_string(std::uint64_t{range.outside} + range.count - 1);
  }
  return text;
}
}  // namespace

std::vector<SubidRange> parse_subid(std::string_view text, std::string_view name, std::uint32_t id) {
  std::vector<SubidRange> ranges;
  const std::string as_number = std::to_string(id);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    at = end + 1;
    const std::size_t first = line.find(':');
    if (first == std::string_view::npos) continue;
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view owner = line.substr(0, first);
    if (owner.empty() || (owner != name && owner != as_number)) continue;
    const auto start = number(line.substr(first + 1, second - first - 1));
    const auto count = number(line.substr(second + 1));
    if (!start || !count || *count == 0 || std::uint64_t{*start} + *count > kIdsEnd) continue;
    ranges.push_back({*start, *count});
  }
  return ranges;
}

IdMaps plan_id_maps(std::uint32_t uid, std::uint32_t gid, const std::vector<SubidRange>& uid_ranges,
                    const std::vector<SubidRange>& gid_ranges, bool keep_id) {
  IdMaps maps;
  maps.ranged = !uid_ranges.empty() && !gid_ranges.empty();
  const std::vector<SubidRange> none;
  maps.uids = one_kind(uid, maps.ranged ? uid_ranges : none, maps.ranged && keep_id);
  maps.gids = one_kind(gid, maps.ranged ? gid_ranges : none, maps.ranged && keep_id);
  return maps;
}

bool IdMaps::has_uid(std::uint32_t id) const { return has(uids, id); }
bool IdMaps::has_gid(std::uint32_t id) const { return has(gids, id); }
std::string IdMaps::describe() const { return "uids " + print(uids) + "; gids " + print(gids); }

}  // namespace orchestra::runtime
