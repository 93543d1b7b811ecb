// Pulling, see pull.hpp.
#include "image/pull.hpp"

namespace orchestra::image {

Result<ImageInfo> pull_image(Store& store, const ImageReference& reference, const ImagePullOptions&) {
  (void)store;
  return Error(
      Error::unsupported, "image",
      "image " + reference.canonical() + " is not in the store, and pulling from registries is not built in");
}

}  // namespace orchestra::image
