#pragma once
// Tar archives, read and written as streams.
//
// The reader knows ustar, PAX (global and per entry, SCHILY.xattr.*, sparse 0.0, 0.1 and 1.0), GNU long
// names and links, old GNU sparse, base-256 numbers, negative and fractional times. It checks every
// header's checksum and every bound; what it gives are the names as written: making them safe is the
// work of whoever creates files (layer_apply). The writer makes the same bytes for the same entries.
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "image/byte_source.hpp"
#include "orchestra/result.hpp"

namespace orchestra::image {

enum class TarType : char {
  file = '0',
  hard_link = '1',
  symlink = '2',
  character_device = '3',
  block_device = '4',
  directory = '5',
  fifo = '6',
};

struct TarEntry {
  TarType type = TarType::file;
  std::string path;  ///< as in the archive
  std::string link;  ///< target of hard and symbolic links
  std::uint32_t mode = 0644;
  std::uint32_t uid = 0, gid = 0;
  std::uint64_t size = 0;  ///< of the file; of a sparse one with its holes
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::uint32_t device_major = 0, device_minor = 0;
  std::map<std::string, std::string> xattrs;
  struct Extent {
    std::uint64_t offset, size;
  };
  bool sparse = false;
  std::vector<Extent> extents;  ///< of a sparse file: where its data goes, in order
};

struct TarLimits {
  std::size_t pax_bytes_max = 1 << 20;
  std::size_t path_bytes_max = 4096;
  std::size_t name_bytes_max = 255;
  std::size_t xattr_bytes_max = 64 << 10;  ///< all of one entry
  std::size_t extents_max = 100'000;
  std::uint64_t entries_max = 2'000'000;
};

class TarReader {
 public:
  /// `source` must outlive the reader.
  explicit TarReader(ByteSource& source, TarLimits limits = {});
  /// The next entry, or nothing at the end marker (or where the input ends between entries).
  Result<std::optional<TarEntry>> next();
  /// Data of the current entry: of a sparse file only what its extents cover. 0 means the end.
  Result<std::size_t> read(char* bytes, std::size_t size);
  /// Position in the source of the current entry's data (for archives that are read at random).
  std::uint64_t data_offset() const { return data_offset_; }
  /// Bytes of data that the current entry still has in the archive.
  std::uint64_t data_left() const { return data_left_; }

 private:
  struct Block;
  using Records = std::map<std::string, std::string>;
  Result<bool> read_exact(char* bytes, std::size_t size);
  Result<void> skip_data();
  Result<std::string> read_metadata(std::uint64_t size, std::string_view what);
  Result<TarEntry> entry_of(const Block& block, std::uint64_t size);
  Result<void> apply_pax(const Records& records, TarEntry& entry);
  Result<void> read_old_gnu_sparse(const Block& block, TarEntry& entry);
  Result<void> read_sparse_map(TarEntry& entry);
  Result<void> check(TarEntry& entry) const;
  Error bad(const std::string& why) const;

  ByteSource& source_;
  TarLimits limits_;
  Records global_, records_;
  std::vector<std::string> sparse_numbers_;
  std::string long_path_, long_link_;
  std::uint64_t position_ = 0, data_offset_ = 0, data_left_ = 0, padding_ = 0, entries_ = 0;
  std::string current_;
  bool ended_ = false;
};

class TarWriter {
 public:
  using Sink = std::function<Result<void>(std::string_view)>;
  explicit TarWriter(Sink sink) : sink_(std::move(sink)) {}
  /// Directories are given without a trailing slash. Fields that ustar cannot hold go into a PAX header.
  Result<void> add(const TarEntry& entry, std::string_view content = {});
  /// The same with `entry.size` bytes of content that follow by write().
  Result<void> begin(const TarEntry& entry);
  Result<void> write(std::string_view bytes);
  Result<void> end_entry();
  /// The end marker.
  Result<void> finish();

 private:
  Result<void> header(const TarEntry& entry, char type, std::uint64_t size);
  Sink sink_;
  std::uint64_t left_ = 0, padding_ = 0;
};

}  // namespace orchestra::image
