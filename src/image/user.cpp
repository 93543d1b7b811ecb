// passwd(5) and group(5) as the container runtimes read them: malformed lines are skipped, first match wins.
#include "image/user.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

namespace orchestra::image {
namespace {

std::vector<std::string_view> split(std::string_view line, char mark) {
  std::vector<std::string_view> out;
  for (std::size_t start = 0; start <= line.size();) {
    const std::size_t end = std::min(line.find(mark, start), line.size());
    out.push_back(line.substr(start, end - start));
    start = end + 1;
  }
  return out;
}

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // 2^32-1 means "leave as it is" to the kernel.
  if (error != std::errc() || end != text.data() + text.size() || value == 0xffffffffU) return std::nullopt;
  return value;
}

}  // namespace

Result<ImageUser> find_user(std::string_view user, std::string_view passwd, std::string_view group) {
  ImageUser out;
  const std::size_t colon = user.find(':');
  const bool has_group = colon != std::string_view::npos;
  const std::string_view user_part = user.substr(0, colon);
  const std::string_view group_part = has_group ? user.substr(colon + 1) : std::string_view();
  const std::string_view wanted = user_part.empty() ? std::string_view("0") : user_part;
  const auto wanted_id = number(wanted);

  std::string name;
  bool known = false;
  for (const std::string_view line : split(passwd, '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() < 6 || fields[0].empty()) continue;
    const auto uid = number(fields[2]), gid = number(fields[3]);
    if (!uid || !gid) continue;
    if (fields[0] != wanted && !(wanted_id && *uid == *wanted_id)) continue;
    out.uid = *uid;
    out.gid = *gid;
    if (!fields[5].empty()) out.home = fields[5];
    name = fields[0];
    known = true;
    break;
  }
  if (!known) {
    if (!wanted_id) {
      return Error(Error::not_found, "image",
                   "user \"" + std::string(user_part) + "\" is not in the image's /etc/passwd");
    }
    out.uid = *wanted_id;
  }
  const bool group_given = has_group && !group_part.empty();
  bool group_known = false;
  for (const std::string_view line : split(group, '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() < 3 || fields[0].empty()) continue;
    const auto gid = number(fields[2]);
    if (!gid) continue;
    if (group_given) {
      if (!group_known && fields[0] == group_part) {
        out.gid = *gid;
        group_known = true;
      }
      continue;
    }
    if (fields.size() < 4 || name.empty()) continue;
    const auto members = split(fields[3], ',');
    const bool member = std::find(members.begin(), members.end(), name) != members.end();
    const bool listed = std::find(out.groups.begin(), out.groups.end(), *gid) != out.groups.end();
    if (member && !listed && *gid != out.gid) out.groups.push_back(*gid);
  }
  if (group_given && !group_known) {
    const auto gid = number(group_part);
    if (!gid) {
      return Error(Error::not_found, "image",
                   "group \"" + std::string(group_part) + "\" is not in the image's /etc/group");
    }
    out.gid = *gid;
  }
  return out;
}

}  // namespace orchestra::image
