#pragma once
// BuildCache: step key -> layer. One small file in the store's folder, read when a build begins and
// replaced when it ends; entries whose layer is gone are dropped. At most kEntriesMax and bytes_max of
// layers, the least recently used go first. Thread safe: stages run beside each other.
//
// It also remembers the parts of each step's last key, so that a miss can say what differed; and it can be
// exported to a folder (an OCI layout with the file orchestra-cache.json) and read from there.
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
  /// A folder that export_to() made; its layers are taken over when they are hit.
  Result<void> add_source(const std::string& folder);
  std::optional<BuiltLayer> find(const std::string& key, BlobStore& blobs);
  /// A step that changed nothing is remembered too: a layer with an empty digest.
  void put(const std::string& key, const BuiltLayer& layer);
  /// What differs between the parts of a key and those of the last time this step ran; remembers them.
  /// `slot` names the step: file, stage, number.
  using Parts = std::vector<std::pair<std::string, std::string>>;
  std::string explain(const std::string& slot, const Parts& parts);
  Result<void> save(std::uint64_t bytes_max);
  /// The steps used in this build, with their layers.
  Result<void> export_to(const std::string& folder, const BlobStore& blobs);
  /// Digests of all layers that it knows.
  std::vector<std::string> layers() const;

 private:
  struct Entry {
    BuiltLayer layer;
    std::uint64_t used = 0;  ///< counts builds, not time
    std::string folder;      ///< of an imported cache that has the layer; empty: the store
  };
  void read_entries(const std::string& text, const std::string& folder);
  static constexpr std::size_t kSlotsMax = 5'000;
  std::string path_;
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::map<std::string, std::string>> slots_;  ///< slot -> label -> short digest
  std::uint64_t round_ = 0;
  bool changed_ = false;
};

}  // namespace orchestra::image
