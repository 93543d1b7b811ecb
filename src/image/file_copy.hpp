#pragma once
// Copying files and whole layer stacks: the fallback where overlayfs cannot be mounted.
//
// Contents are shared with the source where the file system can (FICLONE), else copied in the kernel
// (copy_file_range). Never hard links to the source: a write would then change the image.
#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "image/layer_stack.hpp"
#include "orchestra/result.hpp"

namespace orchestra::image {

/// All bytes of `from` into the empty file `to`; holes stay holes where the kernel keeps them.
Result<void> copy_bytes(int from, int to, std::uint64_t size);
/// Extended attributes but overlayfs' own marks. What the target cannot hold is left out.
void copy_xattrs(int from, int to);
/// Owner, mode, times of `status` for an open file or directory.
Result<void> set_attributes(int to, const struct stat& status);
/// One entry that is no directory, with its attributes, as a new `name` in `directory`.
Result<void> copy_entry(const LayerStack& stack, const LayerStack::Found& found, int directory,
                        const std::string& name);

struct CopyReport {
  std::uint64_t files = 0, bytes = 0;
};
/// The merged view of the stack into the empty directory `target`. Hard links within a layer stay links.
Result<CopyReport> copy_stack(const LayerStack& stack, int target);

}  // namespace orchestra::image
