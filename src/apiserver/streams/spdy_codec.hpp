#pragma once
// SPDY/3.1 frames (draft-mbelshe-httpbis-spdy-00, 3.1) as a pure codec.
//
// Only what exec, attach and port-forward need. Header blocks are one zlib stream per direction and
// connection with the preset dictionary of the draft, so blocks must be coded in the order in which they
// travel. Sizes are bounded before anything is allocated.
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "orchestra/result.hpp"

namespace orchestra::apiserver {

using SpdyHeaders = std::map<std::string, std::string>;

struct SpdyFrame {
  enum class Type : std::uint16_t {
    data = 0,  // not on the wire: data frames have no type
    syn_stream = 1,
    syn_reply = 2,
    rst_stream = 3,
    settings = 4,
    ping = 6,
    goaway = 7,
    headers = 8,
    window_update = 9,
  };
  Type type = Type::data;
  std::uint32_t stream = 0;
  bool final = false;
  SpdyHeaders headers;      ///< syn_stream, syn_reply, headers
  std::string payload;      ///< data
  std::uint32_t value = 0;  ///< rst_stream: status; ping: id; window_update: delta
};

class SpdyParser {
 public:
  static constexpr std::size_t kFrameBytesMax = 1 << 20;
  static constexpr std::size_t kHeaderBytesMax = 64 << 10;  // of one block, inflated
  SpdyParser();
  ~SpdyParser();
  Result<void> feed(std::string_view bytes);
  std::optional<SpdyFrame> next();

 private:
  Result<bool> read_frame();
  Result<void> read_control(std::uint16_t type, std::uint8_t flags, std::string_view payload);
  Result<SpdyHeaders> read_headers(std::string_view block);
  struct Inflater;
  std::unique_ptr<Inflater> inflater_;
  std::string buffer_;
  std::deque<SpdyFrame> frames_;
};

class SpdyWriter {
 public:
  SpdyWriter();
  ~SpdyWriter();
  std::string syn_stream(std::uint32_t stream, const SpdyHeaders& headers, bool final);
  std::string syn_reply(std::uint32_t stream, const SpdyHeaders& headers, bool final);
  static std::string data(std::uint32_t stream, std::string_view payload, bool final);
  static std::string rst_stream(std::uint32_t stream, std::uint32_t status);
  static std::string ping(std::uint32_t id);
  static std::string goaway(std::uint32_t last_stream, std::uint32_t status);
  static std::string window_update(std::uint32_t stream, std::uint32_t delta);

 private:
  std::string header_block(const SpdyHeaders& headers);
  struct Deflater;
  std::unique_ptr<Deflater> deflater_;
};

}  // namespace orchestra::apiserver
