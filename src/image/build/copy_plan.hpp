#pragma once
// COPY and ADD: which files go where, decided before anything is written.
//
// The plan is made from two trees, the source (context folder or another stage) and the image so far. It is
// sorted, complete and has a digest of all that decides the layer, which is the cache key.
#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "image/build/file_hashes.hpp"
#include "image/build/ignore.hpp"
#include "image/build/layer_writer.hpp"
#include "image/layer_stack.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/result.hpp"

namespace orchestra::image {

struct CopySpec {
  const LayerStack* source = nullptr;
  const IgnoreList* ignore = nullptr;  ///< of the context; nullptr for stages
  IgnoreList exclude;                  ///< --exclude: of paths below each source
  bool parents = false;                ///< --parents: the folders of a source come along
  FileHashes* hashes = nullptr;        ///< remembers digests of the context's files
  Engine* engine = nullptr;            ///< files are hashed on its workers too
  const LayerStack* image = nullptr;
  std::vector<std::string> sources;
  std::string destination, working_directory;
  /// Of all entries; absent: 0:0 from the context, as they are from a stage.
  std::optional<std::pair<std::uint32_t, std::uint32_t>> owner;
  std::optional<std::uint32_t> mode;
  bool keep_owner = false;
  bool unpack_archives = false;  ///< ADD: local tar files are unpacked into the destination
  bool remote = false;           ///< the source was fetched: not "in the context" for messages
  std::size_t files_max = 100'000;
};

struct CopyItem {
  TarEntry entry;                            ///< path in the image
  std::optional<LayerStack::Found> file;     ///< content of regular files
  std::optional<LayerStack::Found> archive;  ///< ADD: unpacked below entry.path
};

struct CopyPlan {
  std::vector<CopyItem> items;
  std::string digest;
};

Result<CopyPlan> plan_copy(const CopySpec& spec);
Result<void> write_copy(const CopyPlan& plan, const CopySpec& spec, LayerWriter& layer);

/// `path` against `working_directory`, without "." and "..", without the leading slash.
std::string absolute_path(std::string_view path, std::string_view working_directory);

}  // namespace orchestra::image
