#pragma once
// Digests: names of contents, `ALGORITHM:HEX` (OCI image-spec, descriptor.md). sha256 and sha512 can be
// computed; others can be named but not used.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "orchestra/result.hpp"

namespace orchestra::image {

/// Error unless `text` is a digest that we can check: known algorithm, lower-case hex, exact length.
Result<void> check_digest(std::string_view text);
inline bool is_digest(std::string_view text) { return check_digest(text).has_value(); }
/// "sha256" and "abcd.." of a digest that check_digest() accepts.
std::string_view digest_algorithm(std::string_view digest);
std::string_view digest_hex(std::string_view digest);

class Hasher {
 public:
  explicit Hasher(std::string_view algorithm = "sha256");
  void update(std::string_view bytes);
  /// The digest of all bytes so far; the hasher can then not be used again.
  std::string finish();
  std::uint64_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(void* context) const;
  };
  std::unique_ptr<void, Free> context_;
  std::string algorithm_;
  std::uint64_t bytes_ = 0;
};

std::string sha256_digest(std::string_view bytes);

/// ChainID of a layer on top of `parent` (image-spec, config.md): names a stack of layers.
std::string chain_id(std::string_view parent, std::string_view diff_id);

}  // namespace orchestra::image
