#pragma once
// Importing images from files: docker-archive, oci-archive, OCI layout folders; and the preload folders.
#include <string>

#include "image/store.hpp"
#include "orchestra/image_store.hpp"

namespace orchestra::image {

Result<ImportReport> import_archive(Store& store, const std::string& path, const ImportOptions& options);

/// Every archive and layout in the store's preload folders, once per (path, size, mtime). Broken ones are
/// logged and left out.
void import_preloads(Store& store);

}  // namespace orchestra::image
