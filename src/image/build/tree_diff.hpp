#pragma once
// What a RUN step changed, as a layer: from the upper directory of its overlay, or by comparing a copied
// tree with the image it was copied from. Deletions become `.wh.` entries, before what stands beside them.
#include "image/build/layer_writer.hpp"
#include "image/layer_stack.hpp"

namespace orchestra::image {

/// `upper` is read as overlayfs wrote it.
Result<void> write_upper(int upper, const LayerStack& below, LayerWriter& layer);
/// `root` is a whole tree that began as a copy of `below`.
Result<void> write_difference(int root, const LayerStack& below, LayerWriter& layer);

}  // namespace orchestra::image
