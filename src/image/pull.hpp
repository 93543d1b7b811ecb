#pragma once
// Pulling an image from its registry into the store.
#include "image/store.hpp"
#include "orchestra/image_store.hpp"

namespace orchestra::image {

/// Blocking. `not_found`, `unauthenticated`, `unavailable`, `corrupt` (a digest did not match),
/// `unsupported` (no HTTP client, no such platform).
/// `login`: what the registry wanted to see for it; nothing: it is for everybody.
Result<ImageInfo> pull_image(Store& store, const ImageReference& reference, const ImagePullOptions& options,
                             std::optional<RegistryCredentials>* login = nullptr);

}  // namespace orchestra::image
