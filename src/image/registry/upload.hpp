#pragma once
// One blob to a registry: HEAD, mount, then an upload that survives a lost connection.
//
// distribution-spec 1.1, "Push": every Location is new; a mount answered by 202 is an ordinary upload; the
// Content-Range of a piece is "a-b"; after 416 or a broken connection the registry says by `Range` how far
// it came. An upload that is given up is deleted at the registry.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "image/registry/session.hpp"

namespace orchestra::image {

struct UploadContent {
  std::string digest;
  std::uint64_t size = 0;
  /// Bytes from `offset` on, in pieces; an empty piece is the end.
  std::function<Result<std::function<Result<std::string>()>>(std::uint64_t offset, std::uint64_t size)> open;
};
struct UploadOptions {
  std::uint64_t chunk_bytes = 0;        ///< 0: all in one
  std::vector<std::string> mount_from;  ///< repositories of the same registry
};
enum class Uploaded : std::uint8_t { existed, mounted, sent };

Result<Uploaded> upload_blob(RegistrySession& session, const UploadContent& content,
                             const UploadOptions& options);

/// "0-99" or "bytes=0-99" -> 100, the number of bytes that are there; nothing if it is no range.
std::optional<std::uint64_t> parse_upload_range(std::string_view text);

}  // namespace orchestra::image
