// Writing layers, see layer_writer.hpp.
#include "image/build/layer_writer.hpp"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>

namespace orchestra::image {
namespace {
constexpr std::size_t kCopyBytes = 256 << 10;
constexpr std::size_t kXattrBytesMax = 64 << 10;
}  // namespace

TarEntry entry_of(const struct stat& status) {
  TarEntry entry;
  switch (status.st_mode & S_IFMT) {
    case S_IFDIR:
      entry.type = TarType::directory;
      break;
    case S_IFLNK:
      entry.type = TarType::symlink;
      break;
    case S_IFCHR:
      entry.type = TarType::character_device;
      break;
    case S_IFBLK:
      entry.type = TarType::block_device;
      break;
    case S_IFIFO:
      entry.type = TarType::fifo;
      break;
    default:
      entry.type = TarType::file;
      entry.size = static_cast<std::uint64_t>(status.st_size);
  }
  entry.mode = status.st_mode & 07777;
  entry.uid = status.st_uid;
  entry.gid = status.st_gid;
  // Whole seconds: what every reader and writer of layers keeps.
  entry.mtime_s = status.st_mtim.tv_sec;
  entry.device_major = major(status.st_rdev);
  entry.device_minor = minor(status.st_rdev);
  return entry;
}

std::map<std::string, std::string> read_xattrs(int file) {
  std::map<std::string, std::string> out;
  std::string names(kXattrBytesMax, '\0');
  const ssize_t size = ::flistxattr(file, names.data(), names.size());
  for (ssize_t at = 0; at < size;) {
    const std::string name(names.data() + at);
    at += static_cast<ssize_t>(name.size()) + 1;
    if (name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.") ||
        name == "security.selinux")
      continue;
    std::string value(kXattrBytesMax, '\0');
    const ssize_t length = ::fgetxattr(file, name.c_str(), value.data(), value.size());
    if (length < 0) continue;
    value.resize(static_cast<std::size_t>(length));
    out[name] = std::move(value);
  }
  return out;
}

Result<std::unique_ptr<LayerWriter>> LayerWriter::begin(BlobStore& blobs, const LayerStack& below) {
  ORC_ASSIGN(auto blob, blobs.begin());
  return std::unique_ptr<LayerWriter>(new LayerWriter(std::move(blob), below));
}

Result<void> LayerWriter::add_parents(const std::string& path) {
  if (omit_parents_) return {};
  const std::string parent(parent_of(path));
  if (parent.empty() || directories_.contains(parent)) return {};
  ORC_TRY(add_parents(parent));
  TarEntry entry;
  entry.mode = 0755;
  ORC_ASSIGN(const auto found, below_.lookup(parent));
  if (found && S_ISDIR(found->status.st_mode)) {
    entry = entry_of(found->status);
    ORC_ASSIGN(const Fd directory, below_.open_found(*found, O_RDONLY | O_DIRECTORY));
    entry.xattrs = read_xattrs(directory.get());
  }
  entry.type = TarType::directory;
  entry.path = parent;
  directories_.insert(parent);
  return tar_.add(clamped(std::move(entry)));
}

TarEntry LayerWriter::clamped(TarEntry entry) const {
  if (epoch_ && entry.mtime_s >= *epoch_) {
    entry.mtime_s = *epoch_;
    entry.mtime_ns = 0;
  }
  return entry;
}

Result<void> LayerWriter::add(const TarEntry& entry, std::string_view content) {
  if (entry.type == TarType::directory && !directories_.insert(entry.path).second) return {};
  ORC_TRY(add_parents(entry.path));
  wrote_ = true;
  return tar_.add(clamped(entry), content);
}

Result<void> LayerWriter::add_file(const TarEntry& entry, int file) {
  ORC_TRY(add_parents(entry.path));
  wrote_ = true;
  ORC_TRY(tar_.begin(clamped(entry)));
  std::string buffer(kCopyBytes, '\0');
  std::uint64_t left = entry.size;
  while (left > 0) {
    const std::size_t step = static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer.size()));
    const ssize_t got = ::read(file, buffer.data(), step);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("image", "read", entry.path, errno);
    if (got == 0) return Error(Error::conflict, "image", entry.path + " became shorter while it was read");
    ORC_TRY(tar_.write({buffer.data(), static_cast<std::size_t>(got)}));
    left -= static_cast<std::uint64_t>(got);
  }
  return tar_.end_entry();
}

Result<BuiltLayer> LayerWriter::finish() {
  ORC_TRY(tar_.finish());
  BuiltLayer out;
  out.blob.media_type = kOciLayerTar;
  out.blob.size = blob_->bytes();
  ORC_ASSIGN(out.blob.digest, blob_->commit());
  out.diff_id = out.blob.digest;
  return out;
}

}  // namespace orchestra::image
