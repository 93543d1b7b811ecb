#pragma once
// ImageService: what the node agent needs of an image store. Implemented by src/image.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/image.hpp"
#include "orchestra/pending.hpp"

namespace orchestra {

class ORC_API ImageService {
 public:
  virtual ~ImageService() = default;
  /// Makes the image present. Errors: `invalid` (InvalidImageName), `not_found`
  /// (ErrImageNeverPull or no such image), `unauthenticated`, `unavailable` (registry), `unsupported`
  /// (no manifest for this architecture; names those that exist).
  virtual Pending<ImageInfo> ensure(PullRequest request) = 0;
  virtual Result<std::optional<ImageInfo>> lookup(const std::string& reference) = 0;
  virtual Result<std::vector<ImageInfo>> list() = 0;
  /// A writable root for `owner` (a container id); idempotent. At level process a plain directory.
  virtual Pending<MountPlan> prepare_root(std::string image_id, std::string owner, Isolation isolation) = 0;
  virtual Pending<void> release_root(std::string owner) = 0;
  /// Removes images that no root uses, but not those that came within `minimum_age` or are pinned, as the
  /// kubelet does where a disk is short. Gives the bytes. Since 0.2.
  virtual Pending<std::uint64_t> free_unused(Duration minimum_age) = 0;
  /// Owners of roots that exist, for the sweep at start.
  virtual Result<std::vector<std::string>> root_owners() = 0;
  struct User {
    std::uint32_t uid = 0, gid = 0;
    std::vector<std::uint32_t> groups;
    std::string home;
  };
  /// "", "1000", "1000:50", "redis", "redis:redis" by the image's passwd and group files.
  virtual Pending<User> resolve_user(std::string owner, std::string user) = 0;
};

}  // namespace orchestra
