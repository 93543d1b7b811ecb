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

struct Gunzip::Stream {
  z_stream zlib{};
  bool ended = false;
};

Gunzip::Gunzip() : stream_(std::make_unique<Stream>()) {
  if (inflateInit2(&stream_->zlib, kGzipWindow) != Z_OK) stream_.reset();
}
Gunzip::~Gunzip() {
  if (stream_) inflateEnd(&stream_->zlib);
}

std::optional<std::string> Gunzip::feed(std::string_view bytes) {
  if (!stream_) return std::nullopt;
  z_stream& zlib = stream_->zlib;
  zlib.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  zlib.avail_in = static_cast<uInt>(bytes.size());
  std::string out;
  while (!stream_->ended) {
    const std::size_t had = out.size();
    out.resize(had + (64 << 10));
    zlib.next_out = reinterpret_cast<Bytef*>(out.data() + had);
    zlib.avail_out = 64 << 10;
    const int result = inflate(&zlib, Z_NO_FLUSH);
    out.resize(out.size() - zlib.avail_out);
    if (result == Z_BUF_ERROR) break;  // all of it is used up
    if (result != Z_OK && result != Z_STREAM_END) return std::nullopt;
    stream_->ended = result == Z_STREAM_END;
  }
  return out;
}

}  // namespace orchestra::apiserver
