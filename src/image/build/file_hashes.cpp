// Lines of text: device inode size mtime ctime digest.
#include "image/build/file_hashes.hpp"

#include <sstream>

#include "base/fd.hpp"
#include "image/digest.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kFileBytesMax = 128 << 20;
constexpr std::int64_t kRacyNs = 2'000'000'000;

std::int64_t nanoseconds(const timespec& time) {
  return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}
std::string key_of(const struct stat& status) {
  return std::to_string(status.st_dev) + " " + std::to_string(status.st_ino);
}

}  // namespace

void FileHashes::load_locked() {
  if (loaded_) return;
  loaded_ = true;
  const auto text = read_file(path_, kFileBytesMax);
  if (!text) return;
  std::istringstream lines(*text);
  std::string device, inode;
  Entry entry{};
  while (lines >> device >> inode >> entry.size >> entry.mtime_ns >> entry.ctime_ns >> entry.digest) {
    if (!is_digest(entry.digest) || entries_.size() >= kEntriesMax) break;
    entries_[device + " " + inode] = entry;
  }
}

std::string FileHashes::find(const struct stat& status) {
  std::lock_guard lock(mutex_);
  load_locked();
  const auto found = entries_.find(key_of(status));
  if (found == entries_.end()) return {};
  const Entry& entry = found->second;
  const bool same = entry.size == status.st_size && entry.mtime_ns == nanoseconds(status.st_mtim) &&
                    entry.ctime_ns == nanoseconds(status.st_ctim);
  return same ? entry.digest : std::string();
}

void FileHashes::put(const struct stat& status, const std::string& digest, std::int64_t wall_ns) {
  const std::int64_t changed = std::max(nanoseconds(status.st_mtim), nanoseconds(status.st_ctim));
  if (wall_ns - changed < kRacyNs) return;
  std::lock_guard lock(mutex_);
  load_locked();
  if (entries_.size() >= kEntriesMax) entries_.clear();
  entries_[key_of(status)] = {status.st_size, nanoseconds(status.st_mtim), nanoseconds(status.st_ctim),
                              digest};
  changed_ = true;
}

Result<void> FileHashes::save() {
  std::lock_guard lock(mutex_);
  if (!changed_) return {};
  std::string out;
  for (const auto& [key, entry] : entries_) {
    out += key + " " + std::to_string(entry.size) + " " + std::to_string(entry.mtime_ns) + " " +
           std::to_string(entry.ctime_ns) + " " + entry.digest + "\n";
  }
  ORC_TRY(replace_file(path_, out, 0600, false));
  changed_ = false;
  return {};
}

}  // namespace orchestra::image
