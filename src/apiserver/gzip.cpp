// See gzip.hpp.
#include "apiserver/gzip.hpp"

#include <zlib.h>

#include <memory>

namespace orchestra::apiserver {
namespace {

constexpr int kGzipWindow = 15 + 16;
constexpr int kStreamLevel = 1;

class Deflater {
 public:
  explicit Deflater(int level) {
    ok_ = deflateInit2(&stream_, level, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) == Z_OK;
  }
  ~Deflater() {
    if (ok_) deflateEnd(&stream_);
  }
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;

  std::string feed(std::string_view bytes, bool last) {
    std::string out;
    if (!ok_) return out;
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream_.avail_in = static_cast<uInt>(bytes.size());
    int result = Z_OK;
    do {
      const std::size_t had = out.size();
      out.resize(had + (64 << 10));
      stream_.next_out = reinterpret_cast<Bytef*>(out.data() + had);
      stream_.avail_out = 64 << 10;
      result = deflate(&stream_, last ? Z_FINISH : Z_NO_FLUSH);
      out.resize(out.size() - stream_.avail_out);
    } while (result == Z_OK && (last || stream_.avail_in > 0 || stream_.avail_out == 0));
    return out;
  }

 private:
  z_stream stream_{};
  bool ok_ = false;
};

}  // namespace

std::string gzip(std::string_view bytes, int level) { return Deflater(level).feed(bytes, true); }

std::function<std::optional<std::string>()> gzip_pieces(std::function<std::optional<std::string>()> more) {
  auto deflater = std::make_shared<Deflater>(kStreamLevel);
  auto done = std::make_shared<bool>(false);
  return [deflater, done, more = std::move(more)]() -> std::optional<std::string> {
    // A piece may compress into nothing yet; an empty answer would end the body.
    while (!*done) {
      auto piece = more();
      *done = !piece;
      std::string out = deflater->feed(piece ? std::string_view(*piece) : std::string_view(), *done);
      if (!out.empty()) return out;
    }
    return std::nullopt;
  };
}

}  // namespace orchestra::apiserver
