#pragma once
// Archive: files by name, out of a tar file or a folder: what imports read. Pieces are read at random, so
// a compressed tar is first unpacked into a plain temporary file.
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/fd.hpp"
#include "image/byte_source.hpp"
#include "orchestra/result.hpp"

namespace orchestra::image {

class Archive {
 public:
  virtual ~Archive() = default;
  /// `not_found` names the entry. Links inside of the archive are followed.
  virtual Result<std::unique_ptr<ByteSource>> open(const std::string& name) = 0;
  virtual bool has(const std::string& name) = 0;
  /// Files that were never opened.
  virtual std::uint64_t unused() const = 0;
  Result<std::string> read(const std::string& name, std::size_t bytes_max);
};

/// A folder, or a tar file that may be compressed with gzip or zstd. `spool_path` is where a compressed
/// one is unpacked to; the file is removed at once and lives as long as the archive.
Result<std::unique_ptr<Archive>> open_archive(const std::string& path, const std::string& spool_path);

}  // namespace orchestra::image
