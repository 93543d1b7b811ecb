#pragma once
// Users of an image: "redis:redis" -> numbers, by the image's own passwd and group files. Pure.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra::image {

struct ImageUser {
  std::uint32_t uid = 0, gid = 0;
  std::vector<std::uint32_t> groups;  ///< supplementary
  std::string home = "/";
};

/// `user` as in an image configuration: "", NAME, UID, NAME:GROUP, UID:GID. Numbers need no entry; names do
/// (`not_found`). Supplementary groups come from the group file unless a group was given.
Result<ImageUser> find_user(std::string_view user, std::string_view passwd, std::string_view group);

}  // namespace orchestra::image
