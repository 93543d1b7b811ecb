#pragma once
// Unpacking one layer into a directory of its own, in the form that overlayfs mounts.
//
// Rules: OCI image-spec layer.md (changesets, whiteouts). Markers `.wh.NAME` become character devices 0:0,
// `.wh..wh..opq` the opaque attribute. Parents that the archive leaves out take mode, owner and times from
// the layers below, symbolic links on the way are followed inside the image, hard links to files of lower
// layers are copied up first. Hostile archives cannot leave the directory: every file is made relative to
// a directory descriptor that was opened without following a link, and only under names that do not exist.
#include <cstdint>
#include <string>
#include <vector>

#include "image/byte_source.hpp"
#include "image/layer_stack.hpp"
#include "image/tar.hpp"

namespace orchestra::image {

struct ApplyOptions {
  std::uint64_t bytes_max = std::uint64_t{32} << 30;
  std::size_t depth_max = 1000;
  TarLimits tar;
};
struct ApplyReport {
  std::uint64_t entries = 0, bytes = 0;
  /// What this process may not make (devices, owners without root), in words; at most 20.
  std::vector<std::string> skipped;
};

/// `target` is an empty directory; `lower` the layers below, top first. Reads `tar` up to its end marker.
Result<ApplyReport> apply_layer(ByteSource& tar, int target, const LayerStack& lower,
                                const ApplyOptions& options = {});

}  // namespace orchestra::image
