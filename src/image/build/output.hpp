#pragma once
// Where a build's result goes besides the store: archives, the root file system, a registry.
#include "image/build/platform_build.hpp"

namespace orchestra::image {

/// `reference` is a name or digest in the store. Types are those of BuildOutput; others are `invalid`.
Result<void> write_output(Store& store, const BuildOutput& output, const std::string& reference,
                          const BuiltPlatform& built, Lease& lease);
/// "type=oci,dest=FILE", "FOLDER" (local), "-" is refused: results of programs are JSON.
Result<BuildOutput> parse_output(std::string_view text);

}  // namespace orchestra::image
