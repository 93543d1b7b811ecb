#pragma once
// FileHashes: digests of files that did not change since they were last read, by (device, inode, size, mtime,
// ctime). One file in the store's folder; a damaged one is an empty one. Thread safe.
//
// A file that was touched less than two seconds before it was hashed is not remembered: a later write in
// the same tick of the clock could not be told from it (git calls such entries racy).
#include <sys/stat.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

#include "orchestra/result.hpp"

namespace orchestra::image {

class FileHashes {
 public:
  static constexpr std::size_t kEntriesMax = 400'000;
  explicit FileHashes(std::string path) : path_(std::move(path)) {}
  /// Empty if it is not known.
  std::string find(const struct stat& status);
  void put(const struct stat& status, const std::string& digest, std::int64_t wall_ns);
  Result<void> save();

 private:
  struct Entry {
    std::int64_t size, mtime_ns, ctime_ns;
    std::string digest;
  };
  void load_locked();
  std::string path_;
  std::mutex mutex_;
  bool loaded_ = false, changed_ = false;
  std::unordered_map<std::string, Entry> entries_;  ///< "device inode"
};

}  // namespace orchestra::image
