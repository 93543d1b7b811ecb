// Level `process` has no mounts: volumes are copied into the container's own root.
#include <sys/stat.h>

#include <filesystem>

#include "runtime/pod/pod_runtime.hpp"

namespace orchestra::runtime {
namespace {
namespace fs = std::filesystem;
constexpr std::size_t kVolumeFilesMax = 20'000;
constexpr std::uintmax_t kVolumeBytesMax = 256u << 20;

/// `root` + target without leaving root: a symbolic link on the way is refused.
Result<std::string> place_in_root(const std::string& root, const std::string& target) {
  std::string path = root;
  for (std::size_t at = 0; at < target.size();) {
    const std::size_t end = std::min(target.find('/', at), target.size());
    const std::string part = target.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..")
      return Error(Error::invalid, "runtime", "volume target \"" + target + "\" has a \"..\" component");
    path += "/" + part;
    struct stat info;
    if (lstat(path.c_str(), &info) == 0 && S_ISLNK(info.st_mode)) {
      return Error(Error::unsupported, "runtime",
                   "volume target \"" + target + "\": " + path +
                       " is a symbolic link in the image; isolation level process cannot follow it safely");
    }
  }
  return path;
}

/// A copy is a stand-in for a mount; a whole host folder is not meant by it.
Result<void> check_size(const std::string& source) {
  std::error_code failed;
  std::size_t files = 0;
  std::uintmax_t bytes = 0;
  for (fs::recursive_directory_iterator at(source, failed), end; !failed && at != end; at.increment(failed)) {
    std::error_code ignored;
    if (at->is_regular_file(ignored) && !at->is_symlink(ignored)) bytes += at->file_size(ignored);
    if (++files > kVolumeFilesMax || bytes > kVolumeBytesMax) {
      return Error(Error::unsupported, "runtime",
                   "volume " + source + " has more than " + std::to_string(kVolumeFilesMax) + " files or " +
                       std::to_string(kVolumeBytesMax >> 20) +
                       " MiB: isolation level process can only copy volumes; use level full for this pod");
    }
  }
  return {};
}
}  // namespace

Result<void> RealPodRuntime::place_volumes(const ContainerConfig& config) {
  for (const PodMount& mount : config.mounts) {
    ORC_ASSIGN(const std::string place, place_in_root(config.root.directory, mount.target));
    std::error_code failed;
    if (mount.tmpfs) {
      fs::create_directories(place, failed);
      if (!failed) fs::permissions(place, fs::perms::all | fs::perms::sticky_bit, failed);
    } else if (fs::is_directory(mount.source, failed)) {
      ORC_TRY(check_size(mount.source));
      fs::create_directories(place, failed);
      if (!failed)
        fs::copy(mount.source, place,
                 fs::copy_options::recursive | fs::copy_options::overwrite_existing |
                     fs::copy_options::copy_symlinks,
                 failed);
    } else if (!failed) {
      fs::create_directories(fs::path(place).parent_path(), failed);
      if (!failed) fs::copy_file(mount.source, place, fs::copy_options::overwrite_existing, failed);
    }
    if (failed) {
      return Error(Error::io, "runtime",
                   "volume " + (mount.tmpfs ? std::string("tmpfs") : mount.source) + " cannot be placed at " +
                       place + ": " + failed.message());
    }
  }
  return {};
}

}  // namespace orchestra::runtime
