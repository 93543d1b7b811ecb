#pragma once
// What a RUN step changed, as a layer: from the upper directory of its overlay, or by comparing a copied
// tree with the image it was copied from. Deletions become `.wh.` entries, before what stands beside them.
#include <set>
#include <string>

#include "image/build/layer_writer.hpp"
#include "image/layer_stack.hpp"

namespace orchestra::image {

/// Paths that a runtime made only to mount something there: left out where they are empty.
using MountStubs = std::set<std::string>;

/// `upper` is read as overlayfs wrote it.
Result<void> write_upper(int upper, const LayerStack& below, LayerWriter& layer,
                         const MountStubs& stubs = {});
/// `root` is a whole tree that began as a copy of `below`.
Result<void> write_difference(int root, const LayerStack& below, LayerWriter& layer,
                              const MountStubs& stubs = {});

}  // namespace orchestra::image
