// Files, memory and the decoders (zlib, zstd, bzip2, xz) as pulled byte sources.
#include "image/byte_source.hpp"

#include <bzlib.h>
#include <lzma.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace orchestra::image {
namespace {

constexpr std::size_t kBufferBytes = 128 << 10;
constexpr std::size_t kMagicBytes = 8;
constexpr std::uint64_t kXzMemoryMax = 128 << 20;
constexpr std::string_view kXzMagic{
    "\xfd"
    "7zXZ\0",
    6};

class FileSource : public ByteSource {
 public:
  explicit FileSource(Fd file) : file_(std::move(file)) {}
  Result<std::size_t> read(char* bytes, std::size_t size) override {
    while (true) {
      const ssize_t got = ::read(file_.get(), bytes, size);
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EINTR) return system_error("image", "read", "archive", errno);
    }
  }

 private:
  Fd file_;
};

class RangeSource : public ByteSource {
 public:
  RangeSource(int file, std::uint64_t offset, std::uint64_t size)
      : file_(file), offset_(offset), left_(size) {}
  Result<std::size_t> read(char* bytes, std::size_t size) override {
    const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(size, left_));
    if (want == 0) return std::size_t{0};
    while (true) {
      const ssize_t got = ::pread(file_, bytes, want, static_cast<off_t>(offset_));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return system_error("image", "pread", "archive", errno);
      if (got == 0)
        return Error(Error::corrupt, "image", "the file ends " + std::to_string(left_) + " bytes early");
      offset_ += static_cast<std::uint64_t>(got);
      left_ -= static_cast<std::uint64_t>(got);
      return static_cast<std::size_t>(got);
    }
  }

 private:
  int file_;
  std::uint64_t offset_, left_;
};

class GrowingSource : public ByteSource {
 public:
  GrowingSource(Fd file, std::shared_ptr<GrowingFile> growing)
      : file_(std::move(file)), growing_(std::move(growing)) {}
  Result<std::size_t> read(char* bytes, std::size_t size) override {
    if (offset_ == available_) {
      ORC_ASSIGN(available_, growing_->wait_beyond(offset_));
    }
    const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(size, available_ - offset_));
    if (want == 0) return std::size_t{0};
    while (true) {
      const ssize_t got = ::pread(file_.get(), bytes, want, static_cast<off_t>(offset_));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return system_error("image", "pread", "download", errno);
      if (got == 0) return Error(Error::cancelled, "image", "the download began again");
      offset_ += static_cast<std::uint64_t>(got);
      return static_cast<std::size_t>(got);
    }
  }

 private:
  Fd file_;
  std::shared_ptr<GrowingFile> growing_;
  std::uint64_t offset_ = 0, available_ = 0;
};

class MemorySource : public ByteSource {
 public:
  explicit MemorySource(std::string bytes) : bytes_(std::move(bytes)) {}
  Result<std::size_t> read(char* bytes, std::size_t size) override {
    const std::size_t count = std::min(size, bytes_.size() - offset_);
    std::memcpy(bytes, bytes_.data() + offset_, count);
    offset_ += count;
    return count;
  }

 private:
  std::string bytes_;
  std::size_t offset_ = 0;
};

/// Gives back bytes that were read to look at them, then the rest.
class PrefixedSource : public ByteSource {
 public:
  PrefixedSource(std::string prefix, std::unique_ptr<ByteSource> inner)
      : prefix_(std::move(prefix)), inner_(std::move(inner)) {}
  Result<std::size_t> read(char* bytes, std::size_t size) override {
    if (offset_ == prefix_.size()) return inner_->read(bytes, size);
    const std::size_t count = std::min(size, prefix_.size() - offset_);
    std::memcpy(bytes, prefix_.data() + offset_, count);
    offset_ += count;
    return count;
  }

 private:
  std::string prefix_;
  std::unique_ptr<ByteSource> inner_;
  std::size_t offset_ = 0;
};

class GzipSource : public ByteSource {
 public:
  explicit GzipSource(std::unique_ptr<ByteSource> inner) : inner_(std::move(inner)), buffer_(kBufferBytes) {
    constexpr int kGzipOnly = 15 + 16;
    ready_ = inflateInit2(&stream_, kGzipOnly) == Z_OK;
  }
  ~GzipSource() override { inflateEnd(&stream_); }

  Result<std::size_t> read(char* bytes, std::size_t size) override {
    if (!ready_) return Error(Error::resource_exhausted, "image", "zlib could not allocate its window");
    stream_.next_out = reinterpret_cast<Bytef*>(bytes);
    stream_.avail_out = static_cast<uInt>(std::min<std::size_t>(size, 1 << 30));
    const uInt asked = stream_.avail_out;
    while (stream_.avail_out == asked) {
      if (stream_.avail_in == 0 && !input_ended_) ORC_TRY(fill());
      if (stream_.avail_in == 0 && input_ended_) {
        if (between_members_) return std::size_t{0};
        return Error(Error::corrupt, "image", "gzip data ends in the middle");
      }
      if (between_members_) {
        // Another member, or padding: zeros after the last member are tolerated as gzip(1) does.
        if (*stream_.next_in == 0) {
          ++stream_.next_in;
          --stream_.avail_in;
          continue;
        }
        inflateReset(&stream_);
        between_members_ = false;
      }
      const int status = inflate(&stream_, Z_NO_FLUSH);
      if (status == Z_STREAM_END) {
        between_members_ = true;
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        const std::string why = stream_.msg != nullptr ? stream_.msg : "error " + std::to_string(status);
        return Error(Error::corrupt, "image", "gzip data is damaged: " + why);
      }
    }
    return static_cast<std::size_t>(asked - stream_.avail_out);
  }

 private:
  Result<void> fill() {
    ORC_ASSIGN(const std::size_t got, inner_->read(buffer_.data(), buffer_.size()));
    stream_.next_in = reinterpret_cast<Bytef*>(buffer_.data());
    stream_.avail_in = static_cast<uInt>(got);
    input_ended_ = got == 0;
    return {};
  }
  std::unique_ptr<ByteSource> inner_;
  std::vector<char> buffer_;
  z_stream stream_{};
  bool ready_ = false, input_ended_ = false, between_members_ = false;
};

class ZstdSource : public ByteSource {
 public:
  explicit ZstdSource(std::unique_ptr<ByteSource> inner)
      : inner_(std::move(inner)), buffer_(kBufferBytes), context_(ZSTD_createDCtx()) {}
  ~ZstdSource() override { ZSTD_freeDCtx(context_); }

  Result<std::size_t> read(char* bytes, std::size_t size) override {
    if (context_ == nullptr)
      return Error(Error::resource_exhausted, "image", "zstd could not allocate its window");
    ZSTD_outBuffer out{bytes, size, 0};
    while (out.pos == 0) {
      if (in_.pos == in_.size && !input_ended_) {
        ORC_ASSIGN(const std::size_t got, inner_->read(buffer_.data(), buffer_.size()));
        in_ = {buffer_.data(), got, 0};
        input_ended_ = got == 0;
      }
      const bool starved = in_.pos == in_.size;
      if (starved && frame_ended_) return std::size_t{0};
      const std::size_t status = ZSTD_decompressStream(context_, &out, &in_);
      if (ZSTD_isError(status) != 0) {
        return Error(Error::corrupt, "image",
                     std::string("zstd data is damaged: ") + ZSTD_getErrorName(status));
      }
      frame_ended_ = status == 0;
      if (starved && input_ended_ && out.pos == 0 && !frame_ended_) {
        return Error(Error::corrupt, "image", "zstd data ends in the middle");
      }
    }
    return out.pos;
  }

 private:
  std::unique_ptr<ByteSource> inner_;
  std::vector<char> buffer_;
  ZSTD_DCtx* context_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  bool input_ended_ = false, frame_ended_ = true;
};

class Bzip2Source : public ByteSource {
 public:
  explicit Bzip2Source(std::unique_ptr<ByteSource> inner) : inner_(std::move(inner)), buffer_(kBufferBytes) {
    ready_ = BZ2_bzDecompressInit(&stream_, 0, 0) == BZ_OK;
  }
  ~Bzip2Source() override { BZ2_bzDecompressEnd(&stream_); }

  Result<std::size_t> read(char* bytes, std::size_t size) override {
    if (!ready_) return Error(Error::resource_exhausted, "image", "bzip2 could not allocate its window");
    const auto asked = static_cast<unsigned>(std::min<std::size_t>(size, 1 << 30));
    stream_.next_out = bytes;
    stream_.avail_out = asked;
    while (stream_.avail_out == asked) {
      if (stream_.avail_in == 0) {
        ORC_ASSIGN(const std::size_t got, inner_->read(buffer_.data(), buffer_.size()));
        stream_.next_in = buffer_.data();
        stream_.avail_in = static_cast<unsigned>(got);
        if (got == 0 && between_streams_) return std::size_t{0};
        if (got == 0) return Error(Error::corrupt, "image", "bzip2 data ends in the middle");
      }
      if (between_streams_) ORC_TRY(next_stream());
      const int status = BZ2_bzDecompress(&stream_);
      if (status == BZ_MEM_ERROR)
        return Error(Error::resource_exhausted, "image", "bzip2 could not allocate its window");
      if (status != BZ_OK && status != BZ_STREAM_END)
        return Error(Error::corrupt, "image", "bzip2 data is damaged: error " + std::to_string(status));
      between_streams_ = status == BZ_STREAM_END;
    }
    return static_cast<std::size_t>(asked - stream_.avail_out);
  }

 private:
  Result<void> next_stream() {
    const bz_stream before = stream_;
    BZ2_bzDecompressEnd(&stream_);
    stream_ = {};
    ready_ = BZ2_bzDecompressInit(&stream_, 0, 0) == BZ_OK;
    if (!ready_) return Error(Error::resource_exhausted, "image", "bzip2 could not allocate its window");
    stream_.next_in = before.next_in;
    stream_.avail_in = before.avail_in;
    stream_.next_out = before.next_out;
    stream_.avail_out = before.avail_out;
    between_streams_ = false;
    return {};
  }
  std::unique_ptr<ByteSource> inner_;
  std::vector<char> buffer_;
  bz_stream stream_{};
  bool ready_ = false, between_streams_ = false;
};

class XzSource : public ByteSource {
 public:
  explicit XzSource(std::unique_ptr<ByteSource> inner) : inner_(std::move(inner)), buffer_(kBufferBytes) {
    ready_ = lzma_stream_decoder(&stream_, kXzMemoryMax, LZMA_CONCATENATED) == LZMA_OK;
  }
  ~XzSource() override { lzma_end(&stream_); }

  Result<std::size_t> read(char* bytes, std::size_t size) override {
    if (!ready_) return Error(Error::resource_exhausted, "image", "xz could not allocate its window");
    stream_.next_out = reinterpret_cast<std::uint8_t*>(bytes);
    stream_.avail_out = size;
    while (stream_.avail_out == size && !ended_) {
      if (stream_.avail_in == 0 && !input_ended_) {
        ORC_ASSIGN(const std::size_t got, inner_->read(buffer_.data(), buffer_.size()));
        stream_.next_in = reinterpret_cast<const std::uint8_t*>(buffer_.data());
        stream_.avail_in = got;
        input_ended_ = got == 0;
      }
      const lzma_ret status = lzma_code(&stream_, input_ended_ ? LZMA_FINISH : LZMA_RUN);
      if (status == LZMA_MEMLIMIT_ERROR)
        return Error(Error::too_large, "image", "xz data needs more than 128 MiB of memory to unpack");
      if (status == LZMA_MEM_ERROR)
        return Error(Error::resource_exhausted, "image", "xz could not allocate its window");
      if (status == LZMA_BUF_ERROR) return Error(Error::corrupt, "image", "xz data ends in the middle");
      if (status != LZMA_OK && status != LZMA_STREAM_END)
        return Error(Error::corrupt, "image", "xz data is damaged: error " + std::to_string(status));
      ended_ = status == LZMA_STREAM_END;
    }
    return size - stream_.avail_out;
  }

 private:
  std::unique_ptr<ByteSource> inner_;
  std::vector<char> buffer_;
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool ready_ = false, input_ended_ = false, ended_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> make_file_source(Fd file) {
  return std::make_unique<FileSource>(std::move(file));
}
std::unique_ptr<ByteSource> make_range_source(int file, std::uint64_t offset, std::uint64_t size) {
  return std::make_unique<RangeSource>(file, offset, size);
}
std::unique_ptr<ByteSource> make_memory_source(std::string bytes) {
  return std::make_unique<MemorySource>(std::move(bytes));
}

std::unique_ptr<ByteSource> make_growing_source(Fd file, std::shared_ptr<GrowingFile> growing) {
  return std::make_unique<GrowingSource>(std::move(file), std::move(growing));
}

void GrowingFile::advance(std::uint64_t bytes) {
  std::lock_guard lock(mutex_);
  bytes_ += bytes;
  changed_.notify_all();
}
void GrowingFile::end(bool whole) {
  std::lock_guard lock(mutex_);
  if (!ended_) whole_ = whole;
  ended_ = true;
  changed_.notify_all();
}
Result<std::uint64_t> GrowingFile::wait_beyond(std::uint64_t have) {
  std::unique_lock lock(mutex_);
  // The writer's own deadlines bound this wait: whatever happens to it, it ends the file.
  changed_.wait(lock, [&] { return bytes_ > have || ended_; });
  if (ended_ && !whole_) return Error(Error::cancelled, "image", "the download was given up");
  return bytes_;
}

Compression detect_compression(std::string_view first_bytes) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(first_bytes[i]); };
  if (first_bytes.size() >= 3 && at(0) == 0x1f && at(1) == 0x8b && at(2) == 8) return Compression::gzip;
  if (first_bytes.size() >= 4) {
    const std::uint32_t magic = at(0) | at(1) << 8 | at(2) << 16 | static_cast<std::uint32_t>(at(3)) << 24;
    if (magic == ZSTD_MAGICNUMBER || (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START) {
      return Compression::zstd;
    }
  }
  if (first_bytes.size() >= 4 && first_bytes.starts_with("BZh") && at(3) >= '1' && at(3) <= '9')
    return Compression::bzip2;
  if (first_bytes.starts_with(kXzMagic)) return Compression::xz;
  return Compression::none;
}

Result<std::unique_ptr<ByteSource>> decompress(std::unique_ptr<ByteSource> source, Compression* found) {
  std::string head(kMagicBytes, '\0');
  std::size_t filled = 0;
  while (filled < head.size()) {
    ORC_ASSIGN(const std::size_t got, source->read(head.data() + filled, head.size() - filled));
    if (got == 0) break;
    filled += got;
  }
  head.resize(filled);
  const Compression kind = detect_compression(head);
  if (found != nullptr) *found = kind;
  std::unique_ptr<ByteSource> whole = std::make_unique<PrefixedSource>(std::move(head), std::move(source));
  switch (kind) {
    case Compression::none:
      break;
    case Compression::gzip:
      return std::unique_ptr<ByteSource>(std::make_unique<GzipSource>(std::move(whole)));
    case Compression::zstd:
      return std::unique_ptr<ByteSource>(std::make_unique<ZstdSource>(std::move(whole)));
    case Compression::bzip2:
      return std::unique_ptr<ByteSource>(std::make_unique<Bzip2Source>(std::move(whole)));
    case Compression::xz:
      return std::unique_ptr<ByteSource>(std::make_unique<XzSource>(std::move(whole)));
  }
  return whole;
}

Result<std::size_t> HashingSource::read(char* bytes, std::size_t size) {
  ORC_ASSIGN(const std::size_t got, inner_->read(bytes, size));
  hasher_.update({bytes, got});
  if (hasher_.bytes() > bytes_max_) {
    return Error(Error::too_large, "image", "more than " + std::to_string(bytes_max_) + " bytes");
  }
  return got;
}

Result<void> drain(ByteSource& source) {
  std::vector<char> buffer(kBufferBytes);
  while (true) {
    ORC_ASSIGN(const std::size_t got, source.read(buffer.data(), buffer.size()));
    if (got == 0) return {};
  }
}

Result<std::string> read_to_end(ByteSource& source, std::size_t bytes_max) {
  std::string out;
  std::vector<char> buffer(kBufferBytes);
  while (true) {
    ORC_ASSIGN(const std::size_t got, source.read(buffer.data(), buffer.size()));
    if (got == 0) return out;
    if (out.size() + got > bytes_max) {
      return Error(Error::too_large, "image", "more than " + std::to_string(bytes_max) + " bytes");
    }
    out.append(buffer.data(), got);
  }
}

}  // namespace orchestra::image
