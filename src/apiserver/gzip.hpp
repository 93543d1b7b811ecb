#pragma once
// gzip of answers: long lists are mostly repetition. Level 1 as upstream: a level more costs more time than
// the network gives back.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace orchestra::apiserver {

/// Shorter answers are not worth it (upstream's defaultGzipThresholdBytes).
inline constexpr std::size_t kGzipFrom = 128 << 10;

/// Empty if zlib fails.
std::string gzip(std::string_view bytes, int level = 6);
/// The same stream of pieces, compressed as they come.
std::function<std::optional<std::string>()> gzip_pieces(std::function<std::optional<std::string>()> more);

/// The other way, as the bytes come.
class Gunzip {
 public:
  Gunzip();
  ~Gunzip();
  Gunzip(const Gunzip&) = delete;
  Gunzip& operator=(const Gunzip&) = delete;
  /// What `bytes` unpack to, up to a thousand times as many; nullopt: it is no gzip.
  std::optional<std::string> feed(std::string_view bytes);

 private:
  struct Stream;
  std::unique_ptr<Stream> stream_;
};

}  // namespace orchestra::apiserver
