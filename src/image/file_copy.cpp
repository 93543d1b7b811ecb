// A merge of directories from the top down: the first layer that has a name decides what it is; only
// directories over directories go on into the layers below.
#include "image/file_copy.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <tuple>

namespace orchestra::image {
namespace {

constexpr std::size_t kCopyBytes = 1 << 20;
constexpr std::size_t kXattrBytesMax = 64 << 10;
constexpr std::size_t kDepthMax = 1000;

bool is_root() { return ::geteuid() == 0; }

Result<void> own(int directory, const std::string& name, const struct stat& status) {
  if (!is_root()) return {};
  if (::fchownat(directory, name.c_str(), status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW) == 0) return {};
  return system_error("image", "fchownat", name, errno);
}

class StackCopy {
 public:
  explicit StackCopy(const LayerStack& stack) : stack_(stack) {}

  /// `layers`: those that have `path` as a directory and show through, top first.
  Result<void> directory(const std::string& path, const std::vector<std::size_t>& layers, int target,
                         std::size_t depth) {
    if (depth > kDepthMax) return Error(Error::too_large, "image", "a tree deeper than 1,000 at " + path);
    std::set<std::string> seen;
    for (const std::size_t layer : layers) {
      ORC_ASSIGN(const Fd from, open_beneath(stack_.layer(layer), path, O_RDONLY | O_DIRECTORY));
      ORC_ASSIGN(const auto names, list_directory(from.get()));
      for (const std::string& name : names) {
        if (!seen.insert(name).second) continue;
        ORC_TRY(entry(path, name, layer, layers, from.get(), target, depth));
      }
    }
    struct stat status {};
    ORC_ASSIGN(const Fd top, open_beneath(stack_.layer(layers.front()), path, O_RDONLY | O_DIRECTORY));
    if (::fstat(top.get(), &status) != 0) return system_error("image", "fstat", path, errno);
    copy_xattrs(top.get(), target);
    return set_attributes(target, status);
  }

  CopyReport report;

 private:
  Result<void> entry(const std::string& path, const std::string& name, std::size_t layer,
                     const std::vector<std::size_t>& layers, int from, int target, std::size_t depth) {
    const std::string full = path.empty() ? name : path + "/" + name;
    LayerStack::Found found{layer, full, {}};
    if (::fstatat(from, name.c_str(), &found.status, AT_SYMLINK_NOFOLLOW) != 0) {
      return system_error("image", "fstatat", full, errno);
    }
    if (is_whiteout(found.status)) return {};
    if (S_ISDIR(found.status.st_mode)) {
      ORC_ASSIGN(const auto merged, directories_below(full, layer, layers));
      if (::mkdirat(target, name.c_str(), 0700) != 0) return system_error("image", "mkdirat", full, errno);
      ORC_ASSIGN(const Fd inner, open_beneath(target, name, O_RDONLY | O_DIRECTORY));
      return directory(full, merged, inner.get(), depth + 1);
    }
    ++report.files;
    if (found.status.st_nlink > 1) {
      const auto key = std::tuple(layer, found.status.st_dev, found.status.st_ino);
      if (const auto twin = links_.find(key); twin != links_.end()) {
        ORC_ASSIGN(const Fd parent, open_beneath(root_, parent_of(twin->second), O_PATH | O_DIRECTORY));
        const std::string old(name_of(twin->second));
        if (::linkat(parent.get(), old.c_str(), target, name.c_str(), 0) == 0) return {};
        if (errno != EMLINK) return system_error("image", "linkat", full, errno);
      }
      links_[key] = full;
    }
    report.bytes += S_ISREG(found.status.st_mode) ? static_cast<std::uint64_t>(found.status.st_size) : 0;
    return copy_entry(stack_, found, target, name);
  }

  /// Which of `layers`, from `top` on, show `path` as a directory.
  Result<std::vector<std::size_t>> directories_below(const std::string& path, std::size_t top,
                                                     const std::vector<std::size_t>& layers) {
    std::vector<std::size_t> out;
    for (const std::size_t layer : layers) {
      if (layer < top) continue;
      auto found = open_beneath(stack_.layer(layer), path, O_RDONLY | O_DIRECTORY);
      if (!found) {
        struct stat status {};
        auto other = open_beneath(stack_.layer(layer), path, O_PATH | O_NOFOLLOW);
        if (other && ::fstat(other->get(), &status) == 0) break;  // a file or a whiteout hides what is below
        continue;
      }
      out.push_back(layer);
      if (is_opaque(found->get())) break;
    }
    return out;
  }

  const LayerStack& stack_;
  std::map<std::tuple<std::size_t, dev_t, ino_t>, std::string> links_;

 public:
  int root_ = -1;
};

}  // namespace

Result<void> copy_bytes(int from, int to, std::uint64_t size) {
  if (size == 0 || ::ioctl(to, FICLONE, from) == 0) return {};
  std::uint64_t left = size;
  while (left > 0) {
    const ssize_t copied = ::copy_file_range(from, nullptr, to, nullptr, left, 0);
    if (copied > 0) {
      left -= static_cast<std::uint64_t>(copied);
      continue;
    }
    if (copied == 0) return {};
    if (errno == EINTR) continue;
    const bool never_began = left == size;
    const bool unable =
        errno == EXDEV || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL || errno == EPERM;
    if (!never_began || !unable) return system_error("image", "copy_file_range", "file", errno);
    break;
  }
  std::vector<char> buffer(left > 0 ? kCopyBytes : 0);
  while (left > 0) {
    const ssize_t got = ::read(from, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("image", "read", "file", errno);
    if (got == 0) return {};
    ORC_TRY(write_all(to, {buffer.data(), static_cast<std::size_t>(got)}));
    left -= std::min<std::uint64_t>(left, static_cast<std::uint64_t>(got));
  }
  return {};
}

void copy_xattrs(int from, int to) {
  char names[kXattrBytesMax];
  const ssize_t size = ::flistxattr(from, names, sizeof names);
  std::vector<char> value;
  for (ssize_t at = 0; at < size;) {
    const std::string_view name(names + at);
    at += static_cast<ssize_t>(name.size()) + 1;
    if (name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.")) continue;
    value.resize(kXattrBytesMax);
    const ssize_t length = ::fgetxattr(from, name.data(), value.data(), value.size());
    if (length >= 0) (void)::fsetxattr(to, name.data(), value.data(), static_cast<std::size_t>(length), 0);
  }
}

Result<void> set_attributes(int to, const struct stat& status) {
  if (is_root() && ::fchown(to, status.st_uid, status.st_gid) != 0) {
    return system_error("image", "fchown", "copy", errno);
  }
  if (::fchmod(to, status.st_mode & 07777) != 0) return system_error("image", "fchmod", "copy", errno);
  const timespec times[2] = {status.st_mtim, status.st_mtim};
  if (::futimens(to, times) != 0) return system_error("image", "futimens", "copy", errno);
  return {};
}

Result<void> copy_entry(const LayerStack& stack, const LayerStack::Found& found, int directory,
                        const std::string& name) {
  const struct stat& status = found.status;
  if (S_ISLNK(status.st_mode)) {
    ORC_ASSIGN(const Fd link, stack.open_found(found, O_PATH));
    ORC_ASSIGN(const std::string target, read_link_at(link.get(), ""));
    if (::symlinkat(target.c_str(), directory, name.c_str()) != 0) {
      return system_error("image", "symlinkat", found.path, errno);
    }
    ORC_TRY(own(directory, name, status));
  } else if (S_ISREG(status.st_mode)) {
    ORC_ASSIGN(const Fd from, stack.open_found(found, O_RDONLY));
    Fd to(::openat(directory, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!to) return system_error("image", "openat", found.path, errno);
    if (auto copied = copy_bytes(from.get(), to.get(), static_cast<std::uint64_t>(status.st_size)); !copied) {
      return copied.error().with_context(found.path);
    }
    // Attributes last of these: chown takes file capabilities away.
    ORC_TRY(set_attributes(to.get(), status));
    copy_xattrs(from.get(), to.get());
    return {};
  } else {
    if (::mknodat(directory, name.c_str(), status.st_mode, status.st_rdev) != 0) {
      // Without root: sockets and fifos can be made, devices are left out.
      if (errno == EPERM) return {};
      return system_error("image", "mknodat", found.path, errno);
    }
    ORC_TRY(own(directory, name, status));
    (void)::fchmodat(directory, name.c_str(), status.st_mode & 07777, 0);
  }
  const timespec times[2] = {status.st_mtim, status.st_mtim};
  (void)::utimensat(directory, name.c_str(), times, AT_SYMLINK_NOFOLLOW);
  return {};
}

Result<CopyReport> copy_stack(const LayerStack& stack, int target) {
  std::vector<std::size_t> layers;
  for (std::size_t i = 0; i < stack.size(); ++i) {
    layers.push_back(i);
    if (is_opaque(stack.layer(i))) break;
  }
  StackCopy copy(stack);
  copy.root_ = target;
  if (layers.empty()) return copy.report;
  ORC_TRY(copy.directory("", layers, target, 0));
  return copy.report;
}

}  // namespace orchestra::image
