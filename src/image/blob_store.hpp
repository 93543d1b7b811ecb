#pragma once
// BlobStore: contents under their digests, in the folder layout of an OCI image layout.
//
//   DIR/blobs/ALGORITHM/HEX   complete and verified, never changed        DIR/ingest/N   being written
//
// A blob becomes visible by rename after its size and digest were checked and its bytes synced, so a crash
// leaves only files in ingest/, which the next open removes. Thread safe; reads take no lock.
#include <atomic>
#include <cstdint>
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

class BlobStore {
 public:
  /// A blob on its way in. Dropped without commit(), it leaves nothing.
  class Writer {
   public:
    ~Writer();
    Result<void> write(std::string_view bytes);
    /// Checks size, then digest (either may be left out) and makes the blob visible. Gives its digest.
    Result<std::string> commit(std::optional<std::uint64_t> size = {}, std::string_view digest = {});
    std::uint64_t bytes() const { return hasher_.bytes(); }

   private:
    friend class BlobStore;
    Writer(BlobStore& store, Fd file, std::string path, std::string_view algorithm)
        : store_(store), file_(std::move(file)), path_(std::move(path)), hasher_(algorithm) {}
    BlobStore& store_;
    Fd file_;
    std::string path_;
    Hasher hasher_;
  };

  explicit BlobStore(std::string directory) : directory_(std::move(directory)) {}
  /// Makes the folders and the `oci-layout` file, empties ingest/.
  Result<void> open();

  Result<std::unique_ptr<Writer>> begin(std::string_view algorithm = "sha256");
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

 private:
  std::string directory_;
  std::atomic<std::uint64_t> next_{0};
};

}  // namespace orchestra::image
