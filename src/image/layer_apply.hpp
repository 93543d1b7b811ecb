#pragma once
// Unpacking one layer into a directory of its own, in the form that overlayfs mounts.
//
// Rules: OCI image-spec layer.md (changesets, whiteouts). Markers `.wh.NAME` become character devices 0:0,
// `.wh..wh..opq` the opaque attribute. Parents that the archive leaves out take mode, owner and times from
// the layers below, symbolic links on the way are followed inside the image, hard links to files of lower
// layers are copied up first. Hostile archives cannot leave the directory: every file is made relative to
// a directory descriptor that was opened without following a link, and only under names that do not exist.
#include <cstdint>
#include <memory>
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

/// The same in two halves, so that the layers of an image are unpacked beside each other: what needs the
/// layers below (attributes of implied parents, hard links into them, whiteouts) waits for finish().
class LayerApply {
 public:
  /// `target` must outlive this.
  explicit LayerApply(int target, ApplyOptions options = {});
  /// The layers below are known from the start.
  LayerApply(int target, const LayerStack& lower, ApplyOptions options = {});
  ~LayerApply();
  LayerApply(const LayerApply&) = delete;
  LayerApply& operator=(const LayerApply&) = delete;

  Result<void> unpack(ByteSource& tar);
  /// After unpack(). False: an implied parent is a symbolic link in the layers below, so files must go
  /// elsewhere; empty the directory and use apply_layer().
  Result<bool> finish(const LayerStack& lower);
  const ApplyReport& report() const;

 private:
  class Applier;
  std::unique_ptr<Applier> applier_;
};

}  // namespace orchestra::image
