#pragma once
// LayerWriter: a new layer as a tar, straight into the blob store, digest counted on the way.
//
// Parents of what is written come first and carry the attributes that the image below shows, so that any
// runtime unpacks the same tree. The same calls make the same bytes.
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "image/blob_store.hpp"
#include "image/layer_stack.hpp"
#include "image/manifest.hpp"
#include "image/tar.hpp"

namespace orchestra::image {

/// A layer in the blob store; uncompressed, so that its digest is also its DiffID.
struct BuiltLayer {
  Descriptor blob;
  std::string diff_id;
};

/// Type, owner, mode, times, device of `status`; not the path, the link and the attributes.
TarEntry entry_of(const struct stat& status);
/// Extended attributes of an open file but overlayfs' own marks.
std::map<std::string, std::string> read_xattrs(int file);

class LayerWriter {
 public:
  /// `below` shows the image that the layer goes onto.
  static Result<std::unique_ptr<LayerWriter>> begin(BlobStore& blobs, const LayerStack& below);
  /// `path` without a leading slash. Parents that were not written yet come first.
  Result<void> add(const TarEntry& entry, std::string_view content = {});
  /// A file whose `entry.size` bytes are read from `file`.
  Result<void> add_file(const TarEntry& entry, int file);
  Result<BuiltLayer> finish();
  bool empty() const { return !wrote_; }
  /// Times after this one become this one (SOURCE_DATE_EPOCH).
  void clamp_times(std::optional<std::int64_t> epoch) { epoch_ = epoch; }
  /// COPY --link: the layer says nothing of directories that it only passes through.
  void omit_parents() { omit_parents_ = true; }

 private:
  LayerWriter(std::unique_ptr<BlobStore::Writer> blob, const LayerStack& below)
      : blob_(std::move(blob)),
        below_(below),
        tar_([this](std::string_view bytes) { return blob_->write(bytes); }) {}
  Result<void> add_parents(const std::string& path);
  TarEntry clamped(TarEntry entry) const;

  std::unique_ptr<BlobStore::Writer> blob_;
  const LayerStack& below_;
  TarWriter tar_;
  std::set<std::string> directories_;
  bool wrote_ = false, omit_parents_ = false;
  std::optional<std::int64_t> epoch_;
};

}  // namespace orchestra::image
