#pragma once
// BuildCache: step key -> layer. One small file in the store's folder, read when a build begins and
// replaced when it ends; entries whose layer is gone are dropped. At most kEntriesMax, the oldest go first.
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "image/blob_store.hpp"
#include "image/build/layer_writer.hpp"

namespace orchestra::image {

class BuildCache {
 public:
  static constexpr std::size_t kEntriesMax = 10'000;
  explicit BuildCache(std::string path) : path_(std::move(path)) {}
  void load();
  std::optional<BuiltLayer> find(const std::string& key, const BlobStore& blobs);
  /// A step that changed nothing is remembered too: a layer with an empty digest.
  void put(const std::string& key, const BuiltLayer& layer);
  Result<void> save();
  /// Digests of all layers that it knows.
  std::vector<std::string> layers() const;

 private:
  struct Entry {
    BuiltLayer layer;
    std::uint64_t used = 0;  ///< counts builds, not time
  };
  std::string path_;
  std::map<std::string, Entry> entries_;
  std::uint64_t round_ = 0;
  bool changed_ = false;
};

}  // namespace orchestra::image
