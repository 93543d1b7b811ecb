#pragma once
// Pushing an image of the store to a registry.
#include "image/pull.hpp"

namespace orchestra::image {

/// Content first, the manifest under its tag last. `name` finds the image in the store, `destination` says
/// where it goes. Gives NAME@DIGEST. Blocking.
Result<std::string> push_image(Store& store, const std::string& name, const ImageReference& destination,
                               const ImagePullOptions& options);

}  // namespace orchestra::image
