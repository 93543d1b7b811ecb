#pragma once
// BlobStore: contents under their digests, in the folder layout of an OCI image layout.
//
//   DIR/blobs/ALGORITHM/HEX          complete and verified, never changed
//   DIR/ingest/N                     being written        DIR/ingest/ALGORITHM-HEX.part   downloads
//
// A blob becomes visible by rename after its size and digest were checked and its bytes synced, so a crash
// leaves only files in ingest/: the next open removes them, but for parts of downloads younger than a day,
// which a download of the same digest goes on with. Thread safe; reads take no lock.
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.hpp"
#include "image/byte_source.hpp"
#include "image/digest.hpp"
#include "orchestra/result.hpp"

namespace orchestra::image {

/// What a test puts in the way of a step ("blob write", "layer rename"): an error, or the end of the process.
using StepFault = std::function<Result<void>(const char* step)>;

class BlobStore {
 public:
  /// A blob on its way in. Dropped without commit() it leaves nothing, but for a part.
  class Writer {
   public:
    ~Writer();
    Result<void> write(std::string_view bytes);
    /// Checks size, then digest (either may be left out) and makes the blob visible. Gives its digest. What
    /// does not match is removed, also a part.
    Result<std::string> commit(std::optional<std::uint64_t> size = {}, std::string_view digest = {});
    std::uint64_t bytes() const { return hasher_.bytes(); }
    /// Of a part: forgets what is there.
    Result<void> restart();
    /// For those who read while it is written.
    const std::shared_ptr<GrowingFile>& growing() const { return growing_; }

   private:
    friend class BlobStore;
    Writer(BlobStore& store, Fd file, std::string path, std::string_view algorithm, bool keep)
        : store_(store),
          file_(std::move(file)),
          path_(std::move(path)),
          algorithm_(algorithm),
          hasher_(algorithm),
          keep_(keep),
          growing_(std::make_shared<GrowingFile>()) {}
    BlobStore& store_;
    Fd file_;
    std::string path_, algorithm_;
    Hasher hasher_;
    bool keep_;
    std::shared_ptr<GrowingFile> growing_;
  };

  explicit BlobStore(std::string directory, StepFault fault = {})
      : directory_(std::move(directory)), fault_(std::move(fault)) {}
  /// Makes the folders and the `oci-layout` file, empties ingest/ but for parts younger than a day.
  Result<void> open(std::int64_t wall_ns);

  Result<std::unique_ptr<Writer>> begin(std::string_view algorithm = "sha256");
  /// A download of `digest`; goes on with what an earlier one left, hashed again. One at a time per digest.
  Result<std::unique_ptr<Writer>> begin_part(const std::string& digest);
  /// Removes what is left of a download of `digest`.
  void remove_part(const std::string& digest);
  Result<std::string> put(std::string_view bytes);
  /// All bytes of `source`, up to `bytes_max`.
  Result<std::string> put(ByteSource& source, std::uint64_t bytes_max, std::optional<std::uint64_t> size = {},
                          std::string_view digest = {});

  bool has(std::string_view digest) const;
  /// Sets the modification time: the collector's measure of age and last use.
  void touch(std::string_view digest) const;
  Result<std::uint64_t> size(std::string_view digest) const;
  Result<Fd> open_blob(std::string_view digest) const;
  /// The whole blob, checked against its digest again: documents are small and decide everything.
  Result<std::string> read(std::string_view digest, std::size_t bytes_max) const;
  Result<std::vector<std::string>> list() const;
  Result<void> remove(std::string_view digest);
  std::string path_of(std::string_view digest) const;
  /// A fresh file name in ingest/.
  std::string temporary_path();
  std::string part_path(const std::string& digest) const;
  /// Runs the test's fault for `step`, if there is one.
  Result<void> at_step(const char* step) const { return fault_ ? fault_(step) : Result<void>(); }

 private:
  std::string directory_;
  StepFault fault_;
  std::atomic<std::uint64_t> next_{0};
};

}  // namespace orchestra::image
