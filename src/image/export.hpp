#pragma once
// Exporting images as archives that other tools load: docker-archive and oci-archive. The same images make
// the same bytes.
#include <string>
#include <vector>

#include "image/store.hpp"
#include "orchestra/image_store.hpp"

namespace orchestra::image {

/// Writes beside `path` and renames at the end. `-` is not known here: give /dev/stdout.
Result<void> export_archive(Store& store, const std::string& path, const std::vector<std::string>& names,
                            ImageFormat format);

}  // namespace orchestra::image
