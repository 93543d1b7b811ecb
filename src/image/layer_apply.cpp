// One pass over the archive, which needs nothing of the layers below, then the fix-ups, in this order: hard
// links to files of lower layers, opaque marks and whiteouts (they hide lower content wherever they stand in
// the archive), attributes of parents that the archive left out, and last of all the times of directories.
//
// Only one case cannot be mended afterwards: an implied parent that is a symbolic link below. Then the layer
// is unpacked once more with the layers below at hand from the start (apply_layer), which follows the link.
#include "image/layer_apply.hpp"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <map>
#include <set>
#include <unordered_map>

#include "image/file_copy.hpp"

namespace orchestra::image {
namespace {

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kOpaqueMarker = ".wh..wh..opq";
constexpr std::size_t kCopyBytes = 256 << 10;
constexpr std::size_t kSkippedMax = 20;
constexpr std::size_t kParentCacheMax = 100'000;
constexpr std::size_t kDeferredLinksMax = 1'000'000;

Error bad(const TarEntry& entry, const std::string& why) {
  return Error(Error::corrupt, "image", "layer entry \"" + entry.path + "\": " + why);
}

/// Devices that give no access to the machine. Others are left out: an image must not bring a disk.
bool is_harmless_device(const TarEntry& entry) {
  if (entry.type != TarType::character_device) return false;
  const std::uint32_t minor = entry.device_minor;
  if (entry.device_major == 1) return minor == 3 || minor == 5 || minor == 7 || minor == 8 || minor == 9;
  return entry.device_major == 5 && minor <= 2;
}

}  // namespace

class LayerApply::Applier {
 public:
  /// `lower`: the layers below where they are known from the start, else nullptr.
  Applier(int target, const LayerStack* lower, ApplyOptions options)
      : target_(target), lower_(lower), options_(options), root_(::geteuid() == 0), buffer_(kCopyBytes) {}

  Result<void> unpack(ByteSource& source) {
    TarReader tar(source, options_.tar);
    if (::fchmod(target_, 0755) != 0) return system_error("image", "fchmod", "layer root", errno);
    implied_.insert("");
    while (true) {
      ORC_ASSIGN(const auto entry, tar.next());
      if (!entry) return {};
      ++report_.entries;
      ORC_TRY(apply(*entry, tar));
    }
  }

  Result<bool> finish(const LayerStack& lower) {
    lower_ = &lower;
    parents_.clear();
    ORC_ASSIGN(const bool redirected, has_redirected_parent());
    if (redirected) return false;
    for (const DeferredLink& link : deferred_) ORC_TRY(finish_link(link));
    ORC_TRY(finish_markers());
    ORC_TRY(finish_implied());
    ORC_TRY(finish_times());
    return true;
  }

  const ApplyReport& report() const { return report_; }

 private:
  struct DeferredLink {
    std::string path, name, link;  ///< real path in this layer, its last part, target as written
  };

  Result<void> apply(const TarEntry& entry, TarReader& tar) {
    auto split = split_path(entry.path);
    if (!split) return bad(entry, split.error().message());
    const std::vector<std::string>& parts = *split;
    if (parts.size() > options_.depth_max)
      return bad(entry, "deeper than " + std::to_string(options_.depth_max));
    if (parts.empty()) {
      if (entry.type != TarType::directory) return bad(entry, "only a directory may stand for the root");
      ORC_TRY(directory_attributes(target_, entry));
      directory_times_[""] = time_of(entry);
      implied_.erase("");
      return {};
    }
    for (const std::string& part : parts) {
      const bool is_last = &part == &parts.back();
      if (part.starts_with(kWhiteoutPrefix) && !is_last) return {};  // inside of a marker: nothing of ours
    }
    const std::string& name = parts.back();
    const std::string parent = join_path({parts.begin(), parts.end() - 1});
    if (name.starts_with(kWhiteoutPrefix)) return note_marker(entry, parent, name);
    ORC_ASSIGN(const std::string real_parent, ensure_directory(parent));
    ORC_TRY(enter(real_parent));
    const std::string path = real_parent.empty() ? name : real_parent + "/" + name;
    return create(entry, tar, path, name);
  }

  Result<void> note_marker(const TarEntry& entry, const std::string& parent, const std::string& name) {
    if (name == kOpaqueMarker) {
      opaque_.insert(parent);
      return {};
    }
    const std::string hidden = name.substr(kWhiteoutPrefix.size());
    if (hidden.empty() || hidden == "." || hidden == "..") return bad(entry, "a whiteout of nothing");
    if (hidden.starts_with(kWhiteoutPrefix)) return {};  // .wh..wh.plnk and the like: aufs' own
    whiteouts_.insert(parent.empty() ? hidden : parent + "/" + hidden);
    return {};
  }

  // --- directories -----------------------------------------------------------------------------------

  /// Makes `path` a directory of this layer, following links inside the image; gives its real path.
  Result<std::string> ensure_directory(const std::string& path) {
    if (path.empty()) return std::string();
    if (const auto known = parents_.find(path); known != parents_.end()) return known->second;
    std::deque<std::string> rest;
    push_front(rest, path);
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
      const std::string next = current.empty() ? part : current + "/" + part;
      ORC_ASSIGN(const std::optional<std::string> link, directory_or_link(current, part, next));
      if (!link) {
        current = next;
        continue;
      }
      if (++links > kSymlinksMax)
        return Error(Error::corrupt, "image", "more than 40 symbolic links at " + path);
      if (link->starts_with('/')) current.clear();
      push_front(rest, *link);
      if (rest.size() > options_.depth_max * 2)
        return Error(Error::corrupt, "image", "links without end at " + path);
    }
    if (parents_.size() >= kParentCacheMax) parents_.clear();
    parents_[path] = current;
    return current;
  }

  static void push_front(std::deque<std::string>& rest, std::string_view text) {
    std::vector<std::string> parts;
    for (std::size_t start = 0; start <= text.size();) {
      const std::size_t slash = std::min(text.find('/', start), text.size());
      if (slash > start) parts.emplace_back(text.substr(start, slash - start));
      start = slash + 1;
    }
    rest.insert(rest.begin(), parts.begin(), parts.end());
  }

  /// Makes directory `next` = `parent`/`name` if need be. Gives the target when it is a symbolic link.
  Result<std::optional<std::string>> directory_or_link(const std::string& parent, const std::string& name,
                                                       const std::string& next) {
    ORC_TRY(enter(parent));
    struct stat status {};
    if (::fstatat(parent_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) {
      if (S_ISDIR(status.st_mode)) return std::optional<std::string>();
      if (S_ISLNK(status.st_mode)) {
        ORC_ASSIGN(std::string target, read_link_at(parent_.get(), name));
        return std::optional<std::string>(std::move(target));
      }
      ORC_TRY(replace_by_directory(next, name));
    } else if (errno != ENOENT) {
      return system_error("image", "fstatat", next, errno);
    }
    std::optional<LayerStack::Found> below;
    if (lower_ != nullptr && !hidden_by_marker(next)) {
      ORC_ASSIGN(below, lower_->lookup(next));
    }
    if (below && S_ISLNK(below->status.st_mode)) {
      ORC_ASSIGN(const Fd link, lower_->open_found(*below, O_PATH));
      ORC_ASSIGN(std::string target, read_link_at(link.get(), ""));
      return std::optional<std::string>(std::move(target));
    }
    if (::mkdirat(parent_.get(), name.c_str(), 0755) != 0)
      return system_error("image", "mkdirat", next, errno);
    implied_.insert(next);  // its attributes come last
    return std::optional<std::string>();
  }

  bool hidden_by_marker(std::string_view path) const {
    for (std::string at(path); !at.empty(); at = parent_of(at)) {
      if (whiteouts_.contains(at) || opaque_.contains(std::string(parent_of(at)))) return true;
    }
    return false;
  }

  /// Nothing of the layers below shows at `path` because of a marker further up.
  bool hidden_with_parent(std::string_view path) const {
    if (path.empty()) return false;
    const std::string parent(parent_of(path));
    return opaque_.contains(parent) || hidden_by_marker(parent);
  }

  /// parent_ becomes the descriptor of directory `path` of this layer.
  Result<void> enter(const std::string& path) {
    if (parent_ && parent_path_ == path) return {};
    ORC_ASSIGN(parent_, open_beneath(target_, path, O_RDONLY | O_DIRECTORY));
    parent_path_ = path;
    return {};
  }

  /// What stands there hid everything below; the directory that takes its place must go on to do so.
  Result<void> replace_by_directory(const std::string& path, const std::string& name) {
    ORC_TRY(remove_existing(name));
    whiteouts_.insert(path);
    return {};
  }

  Result<void> remove_existing(const std::string& name) {
    // Whatever was known about paths may now be wrong.
    parents_.clear();
    const std::string path = parent_path_.empty() ? name : parent_path_ + "/" + name;
    directory_times_.erase(path);
    const auto first = directory_times_.lower_bound(path + "/");
    auto last = first;
    while (last != directory_times_.end() && last->first.starts_with(path + "/")) ++last;
    directory_times_.erase(first, last);
    std::erase_if(deferred_, [&](const DeferredLink& link) {
      return link.path == path || link.path.starts_with(path + "/");
    });
    implied_.erase(path);
    const auto first_implied = implied_.lower_bound(path + "/");
    auto last_implied = first_implied;
    while (last_implied != implied_.end() && last_implied->starts_with(path + "/")) ++last_implied;
    implied_.erase(first_implied, last_implied);
    return remove_entry(parent_.get(), name);
  }

  // --- entries ---------------------------------------------------------------------------------------

  Result<void> create(const TarEntry& entry, TarReader& tar, const std::string& path,
                      const std::string& name) {
    // Most names are new: files are tried without a look first.
    if (entry.type == TarType::file) {
      Fd made = make_file(name);
      if (made) return file(entry, tar, path, std::move(made));
      if (errno != EEXIST) return system_error("image", "openat", path, errno);
    }
    struct stat old {};
    const bool exists = ::fstatat(parent_.get(), name.c_str(), &old, AT_SYMLINK_NOFOLLOW) == 0;
    if (entry.type == TarType::directory) {
      if (exists && !S_ISDIR(old.st_mode)) ORC_TRY(replace_by_directory(path, name));
      if ((!exists || !S_ISDIR(old.st_mode)) && ::mkdirat(parent_.get(), name.c_str(), 0700) != 0) {
        return system_error("image", "mkdirat", path, errno);
      }
      ORC_ASSIGN(const Fd made, open_beneath(parent_.get(), name, O_RDONLY | O_DIRECTORY));
      directory_times_[path] = time_of(entry);
      implied_.erase(path);
      return directory_attributes(made.get(), entry);
    }
    if (entry.type == TarType::hard_link) return hard_link(entry, path, name, exists);
    if (exists) ORC_TRY(remove_existing(name));
    switch (entry.type) {
      case TarType::file: {
        Fd made = make_file(name);
        if (!made) return system_error("image", "openat", path, errno);
        return file(entry, tar, path, std::move(made));
      }
      case TarType::symlink:
        if (entry.link.empty()) return bad(entry, "a symbolic link to nothing");
        if (::symlinkat(entry.link.c_str(), parent_.get(), name.c_str()) != 0) {
          return system_error("image", "symlinkat", path, errno);
        }
        return node_attributes(entry, path, name);
      default:
        return device(entry, path, name);
    }
  }

  Fd make_file(const std::string& name) const {
    return Fd(
        ::openat(parent_.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  }

  Result<void> file(const TarEntry& entry, TarReader& tar, const std::string& path, Fd made) {
    if (report_.bytes + entry.size > options_.bytes_max) {
      return Error(
          Error::too_large, "image",
          "layer unpacks to more than " + std::to_string(options_.bytes_max) + " bytes (at " + path + ")");
    }
    report_.bytes += entry.size;
    if (entry.sparse) {
      if (::ftruncate(made.get(), static_cast<off_t>(entry.size)) != 0) {
        return system_error("image", "ftruncate", path, errno);
      }
      for (const TarEntry::Extent& extent : entry.extents) {
        if (::lseek(made.get(), static_cast<off_t>(extent.offset), SEEK_SET) < 0) {
          return system_error("image", "lseek", path, errno);
        }
        ORC_TRY(copy_data(tar, made.get(), extent.size, path));
      }
    } else {
      ORC_TRY(copy_data(tar, made.get(), entry.size, path));
    }
    ORC_TRY(own(made.get(), entry, path));
    if (::fchmod(made.get(), entry.mode) != 0) return system_error("image", "fchmod", path, errno);
    set_xattrs(made.get(), entry);
    const timespec times[2] = {time_of(entry), time_of(entry)};
    if (::futimens(made.get(), times) != 0) return system_error("image", "futimens", path, errno);
    return {};
  }

  Result<void> copy_data(TarReader& tar, int to, std::uint64_t size, const std::string& path) {
    while (size > 0) {
      const std::size_t step = static_cast<std::size_t>(std::min<std::uint64_t>(size, buffer_.size()));
      ORC_ASSIGN(const std::size_t got, tar.read(buffer_.data(), step));
      if (got == 0) return Error(Error::corrupt, "image", "layer entry \"" + path + "\" is cut short");
      if (auto written = write_all(to, {buffer_.data(), got}); !written)
        return written.error().with_context(path);
      size -= got;
    }
    return {};
  }

  Result<void> hard_link(const TarEntry& entry, const std::string& path, const std::string& name,
                         bool exists) {
    auto split = split_path(entry.link);
    if (!split) return bad(entry, split.error().message());
    if (split->empty()) return bad(entry, "a hard link to the root");
    ORC_ASSIGN(const bool linked, link_here(entry.link, *split, path, name, exists));
    if (linked) return {};
    // Its target is no file of this layer (so far): one of a lower layer, or missing.
    if (deferred_.size() >= kDeferredLinksMax) return bad(entry, "more than 1,000,000 links to lower layers");
    if (exists) ORC_TRY(remove_existing(name));
    // A link to a link that waits means the same file, whatever becomes of the one between.
    const auto earlier = deferred_targets_.find(join_path(*split));
    const std::string target = earlier == deferred_targets_.end() ? entry.link : earlier->second;
    deferred_targets_[path] = target;
    deferred_.push_back({path, name, target});
    return {};
  }

  /// Links to a file that this layer has. False: it has none of that name.
  Result<bool> link_here(const std::string& text, const std::vector<std::string>& parts,
                         const std::string& path, const std::string& name, bool exists) {
    const std::string& link_name = parts.back();
    ORC_ASSIGN(const std::optional<std::string> link_parent,
               own_directory(join_path({parts.begin(), parts.end() - 1})));
    if (!link_parent) return false;
    const std::string link_path = link_parent->empty() ? link_name : *link_parent + "/" + link_name;
    if (link_path == path) return bad_link(path, "a hard link to itself");
    ORC_ASSIGN(const Fd from, open_beneath(target_, *link_parent, O_RDONLY | O_DIRECTORY));
    struct stat status {};
    if (::fstatat(from.get(), link_name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno != ENOENT) return system_error("image", "fstatat", link_path, errno);
      return false;
    }
    if (S_ISDIR(status.st_mode)) return bad_link(path, "a hard link to a directory, " + text);
    ORC_TRY(enter(std::string(parent_of(path))));
    if (exists) ORC_TRY(remove_existing(name));
    if (::linkat(from.get(), link_name.c_str(), parent_.get(), name.c_str(), 0) != 0) {
      return system_error("image", "linkat", path, errno);
    }
    return true;
  }

  static Error bad_link(const std::string& path, const std::string& why) {
    return Error(Error::corrupt, "image", "layer entry \"" + path + "\": " + why);
  }

  /// The real path of a directory of this layer, links inside the layer followed; nothing is made.
  Result<std::optional<std::string>> own_directory(const std::string& path) {
    std::vector<Fd> own;
    own.emplace_back(::fcntl(target_, F_DUPFD_CLOEXEC, 0));
    if (!own.back()) return system_error("image", "fcntl", "layer root", errno);
    const LayerStack layer(std::move(own));
    ORC_ASSIGN(std::string real, layer.resolve(path));
    ORC_ASSIGN(const auto found, layer.lookup(real));
    if (!found || !S_ISDIR(found->status.st_mode)) return std::optional<std::string>();
    return std::optional<std::string>(std::move(real));
  }

  /// True if something on `path` in this layer is neither a directory nor a link to one.
  Result<bool> is_blocked(const std::string& path) const {
    for (std::size_t end = path.find('/');; end = path.find('/', end + 1)) {
      const std::string part = path.substr(0, end);
      if (part.empty()) return false;
      const auto found = open_beneath(target_, part, O_PATH | O_NOFOLLOW);
      struct stat status {};
      if (!found) return false;  // missing, or behind a link, which ensure_directory follows
      if (::fstat(found->get(), &status) != 0) return system_error("image", "fstat", part, errno);
      if (S_ISLNK(status.st_mode)) return false;
      if (!S_ISDIR(status.st_mode)) return true;
      if (end == std::string::npos) return false;
    }
  }

  Result<void> finish_link(const DeferredLink& link) {
    ORC_ASSIGN(const auto parts, split_path(link.link));
    auto parent = open_beneath(target_, parent_of(link.path), O_RDONLY | O_DIRECTORY);
    struct stat status {};
    if (!parent) return {};  // the archive took the folder away later
    if (::fstatat(parent->get(), link.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) {
      // What the archive put there later wins; an earlier link of this list does not.
      if (!made_links_.contains(link.path)) return {};
      ORC_TRY(remove_entry(parent->get(), link.name));
    }
    made_links_.insert(link.path);
    const std::string& link_name = parts.back();
    const std::string parent_text = join_path({parts.begin(), parts.end() - 1});
    ORC_ASSIGN(const bool blocked, is_blocked(parent_text));
    if (blocked || hidden_by_marker(join_path(parts))) {
      // The target itself is gone in this layer's view: the link is all that stays of the file.
      ORC_ASSIGN(const std::string real, lower_->resolve(join_path(parts), false));
      ORC_ASSIGN(const auto below, lower_->lookup(real));
      if (!below || S_ISDIR(below->status.st_mode))
        return bad_link(link.path, "its target " + link.link + " is no file below");
      return copy_entry(*lower_, *below, parent->get(), link.name);
    }
    ORC_ASSIGN(const std::string link_parent, ensure_directory(parent_text));
    const std::string link_path = link_parent.empty() ? link_name : link_parent + "/" + link_name;
    if (link_path == link.path) return bad_link(link.path, "a hard link to itself");
    ORC_ASSIGN(const Fd from, open_beneath(target_, link_parent, O_RDONLY | O_DIRECTORY));
    const bool here = ::fstatat(from.get(), link_name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
    if (!here && errno != ENOENT) return system_error("image", "fstatat", link_path, errno);
    if (!here || !made_links_.contains(link_path)) {
      ORC_ASSIGN(const auto below, lower_->lookup(link_path));
      if (!below && !here) return bad_link(link.path, "its target " + link.link + " does not exist");
      if (below && S_ISDIR(below->status.st_mode)) return bad_link(link.path, "a hard link to a directory");
      // What stands there now came after the link in the archive: the link means the file below.
      if (below && here) return copy_entry(*lower_, *below, parent->get(), link.name);
      if (below) ORC_TRY(copy_entry(*lower_, *below, from.get(), link_name));
      if (below) made_links_.insert(link_path);
    }
    if (here && S_ISDIR(status.st_mode)) return bad_link(link.path, "a hard link to a directory");
    if (::linkat(from.get(), link_name.c_str(), parent->get(), link.name.c_str(), 0) != 0) {
      return system_error("image", "linkat", link.path, errno);
    }
    return {};
  }

  Result<void> device(const TarEntry& entry, const std::string& path, const std::string& name) {
    mode_t kind = S_IFIFO;
    dev_t number = 0;
    if (entry.type != TarType::fifo) {
      if (!is_harmless_device(entry)) {
        skip("device " + path + " " + std::to_string(entry.device_major) + ":" +
             std::to_string(entry.device_minor) + " left out");
        return {};
      }
      kind = S_IFCHR;
      number = makedev(entry.device_major, entry.device_minor);
    }
    if (::mknodat(parent_.get(), name.c_str(), kind | 0600, number) != 0) {
      if (errno != EPERM) return system_error("image", "mknodat", path, errno);
      skip("device " + path + " needs root");
      return {};
    }
    return node_attributes(entry, path, name);
  }

  // --- attributes: owner, mode, extended attributes, times; in this order ------------------------------

  static timespec time_of(const TarEntry& entry) {
    timespec out{};
    out.tv_sec = entry.mtime_s;
    out.tv_nsec = entry.mtime_ns;
    return out;
  }

  Result<void> own(int file, const TarEntry& entry, const std::string& path) {
    if (!root_) {
      if (entry.uid != ::geteuid()) skip("owners need root");
      return {};
    }
    if (::fchown(file, entry.uid, entry.gid) != 0) return system_error("image", "fchown", path, errno);
    return {};
  }

  Result<void> directory_attributes(int directory, const TarEntry& entry) {
    ORC_TRY(own(directory, entry, entry.path));
    // Without root a directory that its owner may not enter could not be filled.
    const mode_t mode = root_ ? entry.mode : entry.mode | 0700;
    if (::fchmod(directory, mode) != 0) return system_error("image", "fchmod", entry.path, errno);
    set_xattrs(directory, entry);
    return {};
  }

  Result<void> node_attributes(const TarEntry& entry, const std::string& path, const std::string& name) {
    if (root_ && ::fchownat(parent_.get(), name.c_str(), entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0) {
      return system_error("image", "fchownat", path, errno);
    }
    // The node was made by this process a moment ago in a folder that no one else may enter.
    if (entry.type != TarType::symlink && ::fchmodat(parent_.get(), name.c_str(), entry.mode, 0) != 0) {
      return system_error("image", "fchmodat", path, errno);
    }
    const timespec times[2] = {time_of(entry), time_of(entry)};
    if (::utimensat(parent_.get(), name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) {
      return system_error("image", "utimensat", path, errno);
    }
    return {};
  }

  void set_xattrs(int file, const TarEntry& entry) {
    for (const auto& [name, value] : entry.xattrs) {
      // These would forge whiteouts, redirects and opaque marks.
      if (name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.")) continue;
      if (::fsetxattr(file, name.c_str(), value.data(), value.size(), 0) != 0) {
        skip("attribute " + name + " of " + entry.path);
      }
    }
  }

  void skip(const std::string& what) {
    const bool known =
        std::find(report_.skipped.begin(), report_.skipped.end(), what) != report_.skipped.end();
    if (!known && report_.skipped.size() < kSkippedMax) report_.skipped.push_back(what);
  }

  // --- fix-ups ---------------------------------------------------------------------------------------

  /// True if an implied parent is a symbolic link below.
  Result<bool> has_redirected_parent() {
    if (lower_->empty()) return false;
    for (const std::string& path : implied_) {
      if (path.empty() || hidden_by_marker(path)) continue;
      ORC_ASSIGN(const auto below, lower_->lookup(path));
      if (below && S_ISLNK(below->status.st_mode)) return true;
    }
    return false;
  }

  /// Parents that the archive left out look as below; new ones, and the root of a first layer, are 0755
  /// root.
  Result<void> finish_implied() {
    for (const std::string& path : implied_) {
      ORC_ASSIGN(const Fd made, open_beneath(target_, path, O_RDONLY | O_DIRECTORY));
      std::optional<LayerStack::Found> below;
      if (!lower_->empty() && !hidden_by_marker(path)) {
        ORC_ASSIGN(below, lower_->lookup(path));
      }
      if (!below || !S_ISDIR(below->status.st_mode)) {
        if (::fchmod(made.get(), 0755) != 0) return system_error("image", "fchmod", path, errno);
        continue;
      }
      ORC_ASSIGN(const Fd from, lower_->open_found(*below, O_RDONLY | O_DIRECTORY));
      copy_xattrs(from.get(), made.get());
      ORC_TRY(set_attributes(made.get(), below->status));
      directory_times_[path] = below->status.st_mtim;
    }
    return {};
  }

  Result<void> finish_markers() {
    if (lower_->empty()) return {};
    for (const std::string& path : opaque_) {
      if (hidden_with_parent(path)) continue;
      ORC_ASSIGN(const auto below, lower_->lookup(path));
      if (!path.empty() && !below) continue;
      ORC_ASSIGN(const bool blocked, is_blocked(path));
      if (blocked) continue;
      ORC_ASSIGN(const std::string real, ensure_directory(path));
      ORC_ASSIGN(const Fd directory, open_beneath(target_, real, O_RDONLY | O_DIRECTORY));
      ORC_TRY(mark_opaque(directory.get()));
    }
    for (const std::string& path : whiteouts_) {
      if (!hidden_with_parent(path)) ORC_TRY(finish_whiteout(path));
    }
    return {};
  }

  Result<void> finish_whiteout(const std::string& path) {
    const std::string parent(parent_of(path)), name(name_of(path));
    ORC_ASSIGN(const std::string real_below, lower_->resolve(path, false));
    ORC_ASSIGN(const auto below, lower_->lookup(real_below));
    if (!below) return {};
    // A parent that this layer turned into a file hides everything already.
    ORC_ASSIGN(const bool blocked, is_blocked(parent));
    if (blocked) return {};
    struct stat status {};
    ORC_ASSIGN(const std::string real, ensure_directory(parent));
    ORC_TRY(enter(real));
    if (::fstatat(parent_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) {
      if (!S_ISDIR(status.st_mode)) return {};
      ORC_ASSIGN(const Fd directory, open_beneath(parent_.get(), name, O_RDONLY | O_DIRECTORY));
      return mark_opaque(directory.get());
    }
    if (::mknodat(parent_.get(), name.c_str(), S_IFCHR | 0600, makedev(0, 0)) != 0) {
      return system_error("image", "mknodat (whiteout)", path, errno);
    }
    return {};
  }

  Result<void> finish_times() {
    for (const auto& [path, time] : directory_times_) {
      const timespec times[2] = {time, time};
      auto directory = open_beneath(target_, path, O_RDONLY | O_DIRECTORY);
      if (!directory) return directory.error();
      if (::futimens(directory->get(), times) != 0) return system_error("image", "futimens", path, errno);
    }
    return {};
  }

  int target_;
  const LayerStack* lower_;
  const ApplyOptions options_;
  bool root_;
  std::vector<char> buffer_;
  Fd parent_;
  std::string parent_path_;
  std::unordered_map<std::string, std::string> parents_;  ///< as written -> real, in this layer
  std::map<std::string, timespec> directory_times_;
  std::set<std::string> opaque_, whiteouts_;
  std::set<std::string> implied_;  ///< directories that no entry described; "" is the root
  std::vector<DeferredLink> deferred_;
  std::unordered_map<std::string, std::string> deferred_targets_;  ///< path -> target, of deferred_
  std::set<std::string> made_links_;  ///< by finish_link: links and what was copied up for them
  ApplyReport report_;
};

LayerApply::LayerApply(int target, ApplyOptions options)
    : applier_(std::make_unique<Applier>(target, nullptr, options)) {}
LayerApply::LayerApply(int target, const LayerStack& lower, ApplyOptions options)
    : applier_(std::make_unique<Applier>(target, &lower, options)) {}
LayerApply::~LayerApply() = default;
Result<void> LayerApply::unpack(ByteSource& tar) { return applier_->unpack(tar); }
Result<bool> LayerApply::finish(const LayerStack& lower) { return applier_->finish(lower); }
const ApplyReport& LayerApply::report() const { return applier_->report(); }

Result<ApplyReport> apply_layer(ByteSource& tar, int target, const LayerStack& lower,
                                const ApplyOptions& options) {
  LayerApply apply(target, lower, options);
  ORC_TRY(apply.unpack(tar));
  ORC_ASSIGN(const bool done, apply.finish(lower));
  if (!done) return Error(Error::corrupt, "image", "the layer hides a link after it wrote through it");
  return apply.report();
}

}  // namespace orchestra::image
