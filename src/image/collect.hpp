#pragma once
// Garbage collection: what no name, root, running operation or cached build step needs is removed.
#include "image/store.hpp"
#include "orchestra/image_store.hpp"

namespace orchestra::image {

/// What must stay, decided before anything is removed. Pure.
struct Marks {
  std::set<std::string> blobs;
  std::set<std::string> chains;
};
Marks mark_image(const LoadedImage& image);

Result<CollectReport> collect(Store& store, const CollectOptions& options);
/// Blobs and unpacked layers together.
Result<std::uint64_t> store_bytes(Store& store);

}  // namespace orchestra::image
