// Both walks are sorted and give hard-link groups one body, so equal changes make equal layers. The mount
// points that a container runtime leaves in a root (proc, sys, dev, empty resolv.conf) are no change.
#include "image/build/tree_diff.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

namespace orchestra::image {
namespace {

constexpr int kDepthMax = 1000;

bool is_runtime_directory(std::string_view path) { return path == "proc" || path == "sys" || path == "dev"; }
bool is_runtime_file(std::string_view path) {
  return path == "etc/resolv.conf" || path == "etc/hosts" || path == "etc/hostname" || path == ".dockerenv";
}

class Walk {
 public:
  Walk(int root, const LayerStack& below, LayerWriter& layer, bool overlay, const MountStubs& stubs)
      : root_(root), below_(below), layer_(layer), overlay_(overlay), stubs_(stubs) {}

  Result<void> run() { return directory("", root_, 0); }

 private:
  Result<void> directory(const std::string& path, int at, int depth) {
    if (depth > kDepthMax) return Error(Error::too_large, "image", "a tree deeper than 1,000 at " + path);
    ORC_ASSIGN(const auto names, list_directory(at));
    ORC_TRY(markers(path, at, names));
    for (const std::string& name : names) {
      const std::string full = path.empty() ? name : path + "/" + name;
      struct stat status {};
      if (::fstatat(at, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
        return system_error("image", "fstatat", full, errno);
      }
      if (is_whiteout(status) || S_ISSOCK(status.st_mode)) continue;
      if (S_ISDIR(status.st_mode)) {
        ORC_TRY(inner_directory(full, at, name, status, depth));
      } else {
        ORC_TRY(entry(full, at, name, status));
      }
    }
    return {};
  }

  /// Deletions in this directory.
  Result<void> markers(const std::string& path, int at, const std::vector<std::string>& names) {
    std::vector<std::string> gone;
    if (overlay_) {
      if (is_opaque(at)) ORC_TRY(marker(path, ".wh..wh..opq"));
      for (const std::string& name : names) {
        struct stat status {};
        if (::fstatat(at, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && is_whiteout(status))
          gone.push_back(name);
      }
    } else {
      ORC_ASSIGN(const auto before, below_.list(path));
      std::set_difference(before.begin(), before.end(), names.begin(), names.end(), std::back_inserter(gone));
    }
    for (const std::string& name : gone) ORC_TRY(marker(path, ".wh." + name));
    return {};
  }

  Result<void> marker(const std::string& directory, const std::string& name) {
    TarEntry entry;
    entry.path = directory.empty() ? name : directory + "/" + name;
    entry.mode = 0600;
    return layer_.add(entry);
  }

  Result<void> inner_directory(const std::string& path, int at, const std::string& name,
                               const struct stat& status, int depth) {
    ORC_ASSIGN(const auto before, below_.lookup(path));
    const bool existed = before && S_ISDIR(before->status.st_mode);
    if (is_runtime_directory(path)) {
      // Only as the mount point that it is; never what a runtime put inside.
      return {};
    }
    ORC_ASSIGN(const Fd inner, open_beneath(at, name, O_RDONLY | O_DIRECTORY));
    const bool stub = !existed && stubs_.contains(path);  // its parents come along if it holds something
    if (!stub && (!existed || overlay_ || !same_attributes(before->status, status))) {
      TarEntry entry = entry_of(status);
      entry.path = path;
      entry.xattrs = read_xattrs(inner.get());
      ORC_TRY(layer_.add(entry));
    }
    return directory(path, inner.get(), depth + 1);
  }

  static bool same_attributes(const struct stat& a, const struct stat& b) {
    return a.st_mode == b.st_mode && a.st_uid == b.st_uid && a.st_gid == b.st_gid;
  }

  Result<bool> unchanged(const std::string& path, int at, const std::string& name,
                         const struct stat& status) {
    if (overlay_) return false;
    ORC_ASSIGN(const auto before, below_.lookup(path));
    if (!before) return false;
    const struct stat& old = before->status;
    if (!same_attributes(old, status) || old.st_size != status.st_size || old.st_rdev != status.st_rdev)
      return false;
    if (old.st_mtim.tv_sec != status.st_mtim.tv_sec || old.st_mtim.tv_nsec != status.st_mtim.tv_nsec)
      return false;
    if (!S_ISLNK(status.st_mode)) return true;
    ORC_ASSIGN(const Fd link, below_.open_found(*before, O_PATH));
    ORC_ASSIGN(const std::string old_target, read_link_at(link.get(), ""));
    ORC_ASSIGN(const std::string target, read_link_at(at, name));
    return old_target == target;
  }

  Result<void> entry(const std::string& path, int at, const std::string& name, const struct stat& status) {
    if ((is_runtime_file(path) || stubs_.contains(path)) && status.st_size == 0) {
      ORC_ASSIGN(const auto before, below_.lookup(path));
      if (!before) return {};
    }
    ORC_ASSIGN(const bool same, unchanged(path, at, name, status));
    if (same) return {};
    TarEntry entry = entry_of(status);
    entry.path = path;
    if (status.st_nlink > 1 && S_ISREG(status.st_mode)) {
      const auto [first, fresh] = links_.emplace(std::pair(status.st_dev, status.st_ino), path);
      if (!fresh) {
        entry.type = TarType::hard_link;
        entry.link = first->second;
        return layer_.add(entry);
      }
    }
    if (S_ISLNK(status.st_mode)) {
      ORC_ASSIGN(entry.link, read_link_at(at, name));
      return layer_.add(entry);
    }
    if (!S_ISREG(status.st_mode)) return layer_.add(entry);
    ORC_ASSIGN(const Fd file, open_beneath(at, name, O_RDONLY | O_NOFOLLOW));
    entry.xattrs = read_xattrs(file.get());
    return layer_.add_file(entry, file.get());
  }

  int root_;
  const LayerStack& below_;
  LayerWriter& layer_;
  bool overlay_;
  const MountStubs& stubs_;
  std::map<std::pair<dev_t, ino_t>, std::string> links_;
};

}  // namespace

Result<void> write_upper(int upper, const LayerStack& below, LayerWriter& layer, const MountStubs& stubs) {
  return Walk(upper, below, layer, true, stubs).run();
}
Result<void> write_difference(int root, const LayerStack& below, LayerWriter& layer,
                              const MountStubs& stubs) {
  return Walk(root, below, layer, false, stubs).run();
}

}  // namespace orchestra::image
