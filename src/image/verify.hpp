#pragma once
// Looking at a store as it lies: every blob against its name, every layer against its record, every name
// against its content. And what roots hold of their own.
#include "image/store.hpp"

namespace orchestra::image {

/// Reads everything; slow on purpose. Problems are data, not errors.
Result<VerifyReport> verify_store(Store& store);
Result<ImageUsage> root_usage(Store& store, const std::string& owner);
/// The layer that commit would add, as a tar file; gives its digest.
Result<std::string> write_root_diff(Store& store, const std::string& owner, const std::string& path);

}  // namespace orchestra::image
