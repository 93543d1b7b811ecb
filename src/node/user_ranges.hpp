#pragma once
// Which ids of the machine the pods with a user namespace of their own (hostUsers: false) have: 65536 each,
// no two pods the same, as the kubelet gives them (kubernetes pkg/kubelet/userns/userns_manager.go, KEP-127).
//
// Ids that the administrator gave to users (/etc/subuid, /etc/subgid) are nobody's here: their containers and
// ours would be one user. The ledger is in memory; the runtime's records of pods fill it at the start.
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace orchestra::node {

/// Any thread.
class UserRanges {
 public:
  /// Lines "NAME:START:COUNT" (subuid(5)); others are passed over. Before the first take().
  void keep_away_from(std::string_view lines);
  /// The first id of this pod's 65536: a multiple of that, never 0. The same as long as the pod has it; the
  /// lowest that is free for a new one. Nothing: there are no more.
  std::optional<std::uint32_t> take(const std::string& uid);
  /// A pod that runs has it.
  void adopt(const std::string& uid, std::uint32_t first);
  /// Nothing of the pod is left.
  void release(const std::string& uid);

 private:
  bool is_free(std::uint32_t block) const;

  struct Range {
    std::uint64_t start, end;
  };
  std::mutex mutex_;
  std::vector<Range> others_;
  std::map<std::string, std::uint32_t> pods_;  ///< their block
};

}  // namespace orchestra::node
