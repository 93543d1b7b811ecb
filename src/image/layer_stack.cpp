// Lookups in a pile of layers: the rules of overlayfs (kernel, filesystems/overlayfs.rst) in user space.
//
// From the top: the first layer that has the name decides. A whiteout, an opaque directory on the way, or
// something that is no directory on the way hides all layers below.
#include "image/layer_stack.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <memory>
#include <set>

namespace orchestra::image {
namespace {

constexpr int kDepthMax = 1100;  // of removed trees; entries deeper than 1,000 are never made

Result<Fd> walk_beneath(int directory, std::string_view path, int flags, mode_t mode) {
  Fd current;
  int at = directory;
  while (true) {
    const std::size_t slash = path.find('/');
    const std::string part(path.substr(0, slash));
    if (slash == std::string_view::npos) {
      Fd last(::openat(at, part.empty() ? "." : part.c_str(), flags | O_NOFOLLOW | O_CLOEXEC, mode));
      if (!last) return system_error("image", "openat", part, errno);
      return last;
    }
    Fd next(::openat(at, part.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next) return system_error("image", "openat", part, errno);
    current = std::move(next);
    at = current.get();
    path.remove_prefix(slash + 1);
  }
}

bool is_dot(const char* name) { return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0)); }

Result<void> remove_at(int directory, const std::string& name, int depth) {
  if (::unlinkat(directory, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM) return system_error("image", "unlinkat", name, errno);
  if (depth > kDepthMax) return Error(Error::too_large, "image", "a tree deeper than 1,100 at " + name);
  Fd inner(::openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!inner) return system_error("image", "openat", name, errno);
  auto names = list_directory(inner.get());
  if (!names) return names.error().with_context(name);
  for (const std::string& child : *names) ORC_TRY(remove_at(inner.get(), child, depth + 1));
  if (::unlinkat(directory, name.c_str(), AT_REMOVEDIR) != 0)
    return system_error("image", "rmdir", name, errno);
  return {};
}

}  // namespace

Result<std::vector<std::string>> split_path(std::string_view path) {
  std::vector<std::string> parts;
  if (path.find('\0') != std::string_view::npos) {
    return Error(Error::corrupt, "image", "a path holds a zero byte");
  }
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t slash = std::min(path.find('/', start), path.size());
    const std::string_view part = path.substr(start, slash - start);
    if (part == "..")
      return Error(Error::corrupt, "image", "path \"" + std::string(path) + "\" holds \"..\"");
    if (!part.empty() && part != ".") parts.emplace_back(part);
    start = slash + 1;
  }
  return parts;
}

std::string join_path(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : "/") + part;
  return out;
}

std::string_view parent_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}
std::string_view name_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

Result<Fd> open_beneath(int directory, std::string_view path, int flags, mode_t mode) {
  const std::string text = path.empty() ? "." : std::string(path);
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.mode = (flags & O_CREAT) != 0 ? mode : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const long fd = ::syscall(SYS_openat2, directory, text.c_str(), &how, sizeof how);
  if (fd >= 0) return Fd(static_cast<int>(fd));
  if (errno == ENOSYS) return walk_beneath(directory, path, flags, mode);
  return system_error("image", "openat2", text, errno);
}

Result<std::vector<std::string>> list_directory(int directory) {
  // A descriptor of its own: reading moves the offset that duplicates share.
  Fd fresh(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fresh) return system_error("image", "openat", "directory", errno);
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fresh.get()), ::closedir);
  if (!stream) return system_error("image", "fdopendir", "directory", errno);
  fresh.release();
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(stream.get())) {
    if (!is_dot(entry->d_name)) names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<void> remove_entry(int directory, const std::string& name) { return remove_at(directory, name, 0); }

bool is_whiteout(const struct stat& status) {
  return S_ISCHR(status.st_mode) && status.st_rdev == makedev(0, 0);
}

bool is_opaque(int directory) {
  for (const char* name : {"trusted.overlay.opaque", "user.overlay.opaque"}) {
    char value = 0;
    if (::fgetxattr(directory, name, &value, 1) == 1 && value == 'y') return true;
  }
  return false;
}

Result<void> mark_opaque(int directory) {
  if (::fsetxattr(directory, "trusted.overlay.opaque", "y", 1, 0) == 0) return {};
  if (::fsetxattr(directory, "user.overlay.opaque", "y", 1, 0) == 0) return {};
  return system_error("image", "fsetxattr", "user.overlay.opaque", errno);
}

Result<std::string> read_link_at(int directory, const std::string& name) {
  char target[4097];
  const ssize_t size = ::readlinkat(directory, name.c_str(), target, sizeof target);
  if (size < 0) return system_error("image", "readlink", name, errno);
  if (size == sizeof target)
    return Error(Error::too_large, "image", "a link of more than 4096 bytes: " + name);
  return std::string(target, static_cast<std::size_t>(size));
}

Result<LayerStack> LayerStack::open(const std::vector<std::string>& top_first) {
  std::vector<Fd> layers;
  for (const std::string& path : top_first) {
    ORC_ASSIGN(Fd layer, open_file(path, O_RDONLY | O_DIRECTORY));
    layers.push_back(std::move(layer));
  }
  return LayerStack(std::move(layers));
}

/// `path` is not in this layer: may layers below show through?
Result<LayerStack::Below> LayerStack::below(int layer, std::string_view path) const {
  Fd current;
  int at = layer;
  for (std::size_t start = 0; start <= path.size();) {
    if (is_opaque(at)) return Below::hidden;
    const std::size_t slash = std::min(path.find('/', start), path.size());
    const std::string part(path.substr(start, slash - start));
    struct stat status {};
    if (::fstatat(at, part.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) return Below::seen_through;
      return system_error("image", "fstatat", path, errno);
    }
    if (!S_ISDIR(status.st_mode)) return Below::hidden;
    Fd next(::openat(at, part.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next) return system_error("image", "openat", path, errno);
    current = std::move(next);
    at = current.get();
    start = slash + 1;
  }
  return Below::seen_through;
}

Result<std::optional<LayerStack::Found>> LayerStack::lookup(std::string_view path) const {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    auto entry = open_beneath(layers_[i].get(), path, O_PATH | O_NOFOLLOW);
    if (entry) {
      Found found{i, std::string(path), {}};
      if (::fstat(entry->get(), &found.status) != 0) return system_error("image", "fstat", path, errno);
      if (is_whiteout(found.status)) return std::optional<Found>();
      return std::optional<Found>(std::move(found));
    }
    ORC_ASSIGN(const Below rest, below(layers_[i].get(), path));
    if (rest == Below::hidden) return std::optional<Found>();
  }
  return std::optional<Found>();
}

Result<std::vector<std::string>> LayerStack::list(std::string_view path) const {
  std::set<std::string> names, hidden;
  for (const Fd& layer : layers_) {
    auto directory = open_beneath(layer.get(), path, O_RDONLY | O_DIRECTORY);
    if (directory) {
      ORC_ASSIGN(const auto here, list_directory(directory->get()));
      for (const std::string& name : here) {
        struct stat status {};
        const bool gone = ::fstatat(directory->get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0;
        if (gone || is_whiteout(status)) {
          hidden.insert(name);
        } else if (!hidden.contains(name)) {
          names.insert(name);
        }
      }
      if (is_opaque(directory->get())) break;
      continue;
    }
    struct stat status {};
    auto other = open_beneath(layer.get(), path, O_PATH | O_NOFOLLOW);
    if (other && ::fstat(other->get(), &status) == 0) break;  // a file or a whiteout hides what is below
    ORC_ASSIGN(const Below rest, below(layer.get(), path));
    if (rest == Below::hidden) break;
  }
  return std::vector<std::string>(names.begin(), names.end());
}

Result<Fd> LayerStack::open_found(const Found& found, int flags) const {
  return open_beneath(layers_[found.layer].get(), found.path, flags | O_NOFOLLOW);
}

Result<std::string> LayerStack::resolve(std::string_view path, bool follow_last) const {
  std::deque<std::string> rest;
  const auto push_front = [&rest](std::string_view text) {
    std::vector<std::string> parts;
    for (std::size_t start = 0; start <= text.size();) {
      const std::size_t slash = std::min(text.find('/', start), text.size());
      if (slash > start) parts.emplace_back(text.substr(start, slash - start));
      start = slash + 1;
    }
    rest.insert(rest.begin(), parts.begin(), parts.end());
  };
  push_front(path);
  std::string current;
  int links = 0;
  while (!rest.empty()) {
    const std::string part = rest.front();
    rest.pop_front();
    if (part == ".") continue;
    if (part == "..") {
      current = parent_of(current);
      continue;
    }
    std::string next = current.empty() ? part : current + "/" + part;
    ORC_ASSIGN(const auto found, lookup(next));
    const bool is_link = found && S_ISLNK(found->status.st_mode);
    if (!is_link || (rest.empty() && !follow_last)) {
      current = std::move(next);
      continue;
    }
    if (++links > kSymlinksMax) {
      return Error(Error::corrupt, "image", "more than 40 symbolic links at " + std::string(path));
    }
    ORC_ASSIGN(const Fd link, open_found(*found, O_PATH));
    ORC_ASSIGN(const std::string target, read_link_at(link.get(), ""));
    if (target.starts_with('/')) current.clear();
    push_front(target);
  }
  return current;
}

Result<std::optional<std::string>> LayerStack::read_file(std::string_view path, std::size_t bytes_max) const {
  ORC_ASSIGN(const std::string real, resolve(path));
  ORC_ASSIGN(const auto found, lookup(real));
  if (!found || !S_ISREG(found->status.st_mode)) return std::optional<std::string>();
  ORC_ASSIGN(const Fd file, open_found(*found, O_RDONLY));
  std::string out;
  char buffer[16 << 10];
  while (true) {
    const ssize_t got = ::read(file.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("image", "read", path, errno);
    if (got == 0) return std::optional<std::string>(std::move(out));
    if (out.size() + static_cast<std::size_t>(got) > bytes_max) {
      return Error(Error::too_large, "image",
                   std::string(path) + " is larger than " + std::to_string(bytes_max));
    }
    out.append(buffer, static_cast<std::size_t>(got));
  }
}

}  // namespace orchestra::image
