// The SPDY/3.1 codec: see spdy_codec.hpp.
#include "apiserver/streams/spdy_codec.hpp"

#include <zlib.h>

#include <array>

#include "apiserver/streams/spdy_dictionary.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kHead = 8;
constexpr std::size_t kPairsMax = 256;  // headers in one block
constexpr std::uint8_t kFin = 1;
constexpr std::uint32_t kStreamMask = 0x7FFFFFFF;

Error broken(const std::string& what) { return Error(Error::invalid, "spdy", what); }

std::uint32_t get_u32(std::string_view bytes, std::size_t at) {
  std::uint32_t n = 0;
  for (std::size_t i = 0; i < 4; ++i) n = n << 8 | static_cast<unsigned char>(bytes[at + i]);
  return n;
}
void put_u32(std::string& out, std::uint32_t n) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(n >> shift & 0xFF);
}
void put_u16(std::string& out, std::uint32_t n) {
  out += static_cast<char>(n >> 8 & 0xFF);
  out += static_cast<char>(n & 0xFF);
}
std::string control(SpdyFrame::Type type, std::uint8_t flags, std::string_view payload) {
  std::string out;
  put_u16(out, 0x8003);
  put_u16(out, static_cast<std::uint32_t>(type));
  put_u32(out, static_cast<std::uint32_t>(flags) << 24 | static_cast<std::uint32_t>(payload.size()));
  out += payload;
  return out;
}

// A 32-bit length and so many bytes.
bool take_text(std::string_view& rest, std::string& out) {
  if (rest.size() < 4) return false;
  const std::uint32_t length = get_u32(rest, 0);
  rest.remove_prefix(4);
  if (length > rest.size()) return false;
  out = std::string(rest.substr(0, length));
  rest.remove_prefix(length);
  return true;
}
}  // namespace

struct SpdyParser::Inflater {
  z_stream stream{};
  Inflater() { inflateInit(&stream); }
  ~Inflater() { inflateEnd(&stream); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  Result<std::string> inflate_block(std::string_view block) {
    std::string out;
    std::array<char, 4096> chunk{};
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(block.data()));
    stream.avail_in = static_cast<uInt>(block.size());
    for (;;) {
      stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
      stream.avail_out = static_cast<uInt>(chunk.size());
      int status = inflate(&stream, Z_SYNC_FLUSH);
      if (status == Z_NEED_DICT) {
        const std::string& dictionary = spdy_dictionary();
        if (inflateSetDictionary(&stream, reinterpret_cast<const Bytef*>(dictionary.data()),
                                 static_cast<uInt>(dictionary.size())) != Z_OK) {
          return broken("a header block needs another dictionary");
        }
        continue;
      }
      if (status != Z_OK && status != Z_BUF_ERROR && status != Z_STREAM_END)
        return broken("a header block is not zlib data");
      out.append(chunk.data(), chunk.size() - stream.avail_out);
      if (out.size() > kHeaderBytesMax) return broken("a header block is longer than 64 KiB");
      if (stream.avail_out > 0) return out;
    }
  }
};

SpdyParser::SpdyParser() : inflater_(std::make_unique<Inflater>()) {}
SpdyParser::~SpdyParser() = default;

Result<void> SpdyParser::feed(std::string_view bytes) {
  buffer_ += bytes;
  for (;;) {
    ORC_ASSIGN(const bool more, read_frame());
    if (!more) return {};
  }
}

Result<bool> SpdyParser::read_frame() {
  if (buffer_.size() < kHead) return false;
  const std::uint32_t first = get_u32(buffer_, 0);
  const std::uint32_t second = get_u32(buffer_, 4);
  const std::size_t length = second & 0xFFFFFF;
  const auto flags = static_cast<std::uint8_t>(second >> 24);
  if (length > kFrameBytesMax) return broken("a frame is longer than 1 MiB");
  if (buffer_.size() < kHead + length) return false;
  const std::string payload = buffer_.substr(kHead, length);
  buffer_.erase(0, kHead + length);
  if ((first & 0x80000000U) == 0) {
    SpdyFrame frame;
    frame.stream = first & kStreamMask;
    frame.final = (flags & kFin) != 0;
    frame.payload = payload;
    frames_.push_back(std::move(frame));
    return true;
  }
  if ((first >> 16 & 0x7FFF) != 3) return broken("a control frame of another version than SPDY/3");
  ORC_TRY(read_control(static_cast<std::uint16_t>(first & 0xFFFF), flags, payload));
  return true;
}

Result<void> SpdyParser::read_control(std::uint16_t type, std::uint8_t flags, std::string_view payload) {
  using Type = SpdyFrame::Type;
  SpdyFrame frame;
  frame.type = static_cast<Type>(type);
  frame.final = (flags & kFin) != 0;
  std::size_t least = 0;
  std::size_t block = 0;  // where the header block begins
  switch (frame.type) {
    case Type::syn_stream:
      least = block = 10;
      break;
    case Type::syn_reply:
    case Type::headers:
      least = block = 4;
      break;
    case Type::rst_stream:
    case Type::window_update:
      least = 8;
      break;
    case Type::ping:
    case Type::goaway:
      least = 4;
      break;
    case Type::settings:
      frames_.push_back(std::move(frame));
      return {};
    default:
      return {};  // unknown control frames are to be ignored
  }
  if (payload.size() < least) return broken("a control frame of type " + std::to_string(type) + " is cut");
  frame.stream = get_u32(payload, 0) & kStreamMask;
  if (frame.type == Type::ping || frame.type == Type::goaway) frame.value = get_u32(payload, 0);
  if (least == 8) frame.value = get_u32(payload, 4);
  if (block > 0) {
    ORC_ASSIGN(frame.headers, read_headers(payload.substr(block)));
  }
  frames_.push_back(std::move(frame));
  return {};
}

Result<SpdyHeaders> SpdyParser::read_headers(std::string_view block) {
  ORC_ASSIGN(const std::string text, inflater_->inflate_block(block));
  std::string_view rest = text;
  if (rest.size() < 4) return broken("a header block is cut");
  const std::uint32_t count = get_u32(rest, 0);
  rest.remove_prefix(4);
  if (count > kPairsMax) return broken("a header block has more than 256 headers");
  SpdyHeaders headers;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::string name;
    std::string value;
    if (!take_text(rest, name) || !take_text(rest, value)) return broken("a header block is cut");
    for (char& c : name) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    headers[name] = std::move(value);
  }
  return headers;
}

std::optional<SpdyFrame> SpdyParser::next() {
  if (frames_.empty()) return std::nullopt;
  SpdyFrame frame = std::move(frames_.front());
  frames_.pop_front();
  return frame;
}

struct SpdyWriter::Deflater {
  z_stream stream{};
  Deflater() {
    deflateInit(&stream, Z_DEFAULT_COMPRESSION);
    const std::string& dictionary = spdy_dictionary();
    deflateSetDictionary(&stream, reinterpret_cast<const Bytef*>(dictionary.data()),
                         static_cast<uInt>(dictionary.size()));
  }
  ~Deflater() { deflateEnd(&stream); }
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;
};

SpdyWriter::SpdyWriter() : deflater_(std::make_unique<Deflater>()) {}
SpdyWriter::~SpdyWriter() = default;

std::string SpdyWriter::header_block(const SpdyHeaders& headers) {
  std::string text;
  put_u32(text, static_cast<std::uint32_t>(headers.size()));
  for (const auto& [name, value] : headers) {
    put_u32(text, static_cast<std::uint32_t>(name.size()));
    text += name;
    put_u32(text, static_cast<std::uint32_t>(value.size()));
    text += value;
  }
  z_stream& stream = deflater_->stream;
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(text.data());
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_SYNC_FLUSH);
  out.resize(out.size() - stream.avail_out);
  return out;
}

std::string SpdyWriter::syn_stream(std::uint32_t stream, const SpdyHeaders& headers, bool final) {
  std::string payload;
  put_u32(payload, stream);
  put_u32(payload, 0);  // no associated stream
  put_u16(payload, 0);  // priority and slot
  payload += header_block(headers);
  return control(SpdyFrame::Type::syn_stream, final ? kFin : 0, payload);
}
std::string SpdyWriter::syn_reply(std::uint32_t stream, const SpdyHeaders& headers, bool final) {
  std::string payload;
  put_u32(payload, stream);
  payload += header_block(headers);
  return control(SpdyFrame::Type::syn_reply, final ? kFin : 0, payload);
}
std::string SpdyWriter::data(std::uint32_t stream, std::string_view bytes, bool final) {
  std::string out;
  out.reserve(bytes.size() + kHead);
  put_u32(out, stream & kStreamMask);
  put_u32(out, static_cast<std::uint32_t>(final ? kFin : 0) << 24 | static_cast<std::uint32_t>(bytes.size()));
  out += bytes;
  return out;
}
std::string SpdyWriter::rst_stream(std::uint32_t stream, std::uint32_t status) {
  std::string payload;
  put_u32(payload, stream);
  put_u32(payload, status);
  return control(SpdyFrame::Type::rst_stream, 0, payload);
}
std::string SpdyWriter::ping(std::uint32_t id) {
  std::string payload;
  put_u32(payload, id);
  return control(SpdyFrame::Type::ping, 0, payload);
}
std::string SpdyWriter::goaway(std::uint32_t last_stream, std::uint32_t status) {
  std::string payload;
  put_u32(payload, last_stream);
  put_u32(payload, status);
  return control(SpdyFrame::Type::goaway, 0, payload);
}
std::string SpdyWriter::window_update(std::uint32_t stream, std::uint32_t delta) {
  std::string payload;
  put_u32(payload, stream);
  put_u32(payload, delta);
  return control(SpdyFrame::Type::window_update, 0, payload);
}

}  // namespace orchestra::apiserver
