#pragma once
// ByteSource: bytes pulled in order, and the filters between a file or socket and a tar reader.
//
// Each filter owns the one below it. Memory per chain is a few buffers of 64 KiB (zstd: its window, at
// most 128 MiB as the format's own decoder allows, 8 MiB in practice; xz: 128 MiB at most, bzip2: 4 MiB). Blocking; one thread at a time.
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/fd.hpp"
#include "image/digest.hpp"
#include "orchestra/result.hpp"

namespace orchestra::image {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Up to `size` bytes; 0 means the end.
  virtual Result<std::size_t> read(char* bytes, std::size_t size) = 0;
};

std::unique_ptr<ByteSource> make_file_source(Fd file);
/// `size` bytes of a file from `offset`, by pread: several may share one descriptor, which must outlive them.
std::unique_ptr<ByteSource> make_range_source(int file, std::uint64_t offset, std::uint64_t size);
std::unique_ptr<ByteSource> make_memory_source(std::string bytes);

/// How far a file is that one thread writes while another reads it: downloads are unpacked as they come.
class GrowingFile {
 public:
  void advance(std::uint64_t bytes);
  /// The first call decides: whole, or given up.
  void end(bool whole);
  /// Waits until there is more than `have`; gives what there is. `cancelled` if the writer gave up.
  Result<std::uint64_t> wait_beyond(std::uint64_t have);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t bytes_ = 0;
  bool ended_ = false, whole_ = false;
};
/// Reads `file` from its start as far as `growing` has come, and waits for the rest.
std::unique_ptr<ByteSource> make_growing_source(Fd file, std::shared_ptr<GrowingFile> growing);

enum class Compression : std::uint8_t { none, gzip, zstd, bzip2, xz };
/// By the magic of the first bytes (gzip 1f 8b, zstd frame or skippable frame, bzip2 BZh, xz fd 7zXZ).
Compression detect_compression(std::string_view first_bytes);
/// Looks at the first bytes and puts the right decoder on top; plain data passes through. gzip with
/// several members, zstd with several and skippable frames, bzip2 and xz with several streams are read to their
/// end. `found` tells what it was.
Result<std::unique_ptr<ByteSource>> decompress(std::unique_ptr<ByteSource> source,
                                               Compression* found = nullptr);

/// Hashes and counts what passes; `bytes_max` ends a bomb with `too_large`.
class HashingSource : public ByteSource {
 public:
  HashingSource(std::unique_ptr<ByteSource> inner, std::uint64_t bytes_max,
                std::string_view algorithm = "sha256")
      : inner_(std::move(inner)), bytes_max_(bytes_max), hasher_(algorithm) {}
  Result<std::size_t> read(char* bytes, std::size_t size) override;
  std::uint64_t bytes() const { return hasher_.bytes(); }
  std::string digest() { return hasher_.finish(); }

 private:
  std::unique_ptr<ByteSource> inner_;
  std::uint64_t bytes_max_;
  Hasher hasher_;
};

/// Reads to the end; used so that digests cover what follows an archive's end marker.
Result<void> drain(ByteSource& source);
Result<std::string> read_to_end(ByteSource& source, std::size_t bytes_max);

}  // namespace orchestra::image
