#include "node/user_ranges.hpp"

#include <algorithm>

#include "api/pod_runtime.hpp"
#include "base/whole_number.hpp"

namespace orchestra::node {
namespace {

constexpr std::uint32_t kBlocks = 0xffffffff / kPodUserIds;  // the last block has the id that means "none"

}  // namespace

void UserRanges::keep_away_from(std::string_view lines) {
  std::lock_guard lock(mutex_);
  for (std::size_t at = 0; at < lines.size();) {
    const std::size_t end = std::min(lines.find('\n', at), lines.size());
    const std::string_view line = lines.substr(at, end - at);
    at = end + 1;
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const auto start = whole_number<std::uint32_t>(line.substr(first + 1, second - first - 1));
    const auto count = whole_number<std::uint32_t>(line.substr(second + 1));
    if (start && count) others_.push_back({*start, std::uint64_t{*start} + *count});
  }
}

bool UserRanges::is_free(std::uint32_t block) const {
  const std::uint64_t start = std::uint64_t{block} * kPodUserIds, end = start + kPodUserIds;
  return std::none_of(others_.begin(), others_.end(),
                      [&](const Range& other) { return start < other.end && other.start < end; }) &&
         std::none_of(pods_.begin(), pods_.end(), [&](const auto& pod) { return pod.second == block; });
}

std::optional<std::uint32_t> UserRanges::take(const std::string& uid) {
  std::lock_guard lock(mutex_);
  if (const auto has = pods_.find(uid); has != pods_.end()) return has->second * kPodUserIds;
  for (std::uint32_t block = 1; block < kBlocks; ++block) {
    if (!is_free(block)) continue;
    pods_.emplace(uid, block);
    return block * kPodUserIds;
  }
  return std::nullopt;
}

void UserRanges::adopt(const std::string& uid, std::uint32_t first) {
  if (first == 0) return;
  std::lock_guard lock(mutex_);
  pods_[uid] = first / kPodUserIds;
}

void UserRanges::release(const std::string& uid) {
  std::lock_guard lock(mutex_);
  pods_.erase(uid);
}

}  // namespace orchestra::node
