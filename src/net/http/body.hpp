#pragma once
// The body of an HTTP/1 message, decoded as its bytes come.
//
// One incremental decoder for all framings (RFC 9112 sections 6 and 7): give it what arrived, it says
// how many bytes it used, which of them are body, and whether the message ended. Cutting the input
// anywhere changes nothing. Chunk sizes are hexadecimal without sign or overflow; extensions are
// dropped; trailers are checked and kept as text.
#include <cstdint>
#include <string>
#include <string_view>

#include "net/http/head.hpp"

namespace orchestra::http {

class BodyDecoder {
 public:
  struct Step {
    std::size_t consumed = 0;  ///< bytes of the input that are used up
    std::string_view data;     ///< body bytes among them, a view into the input
    bool done = false;         ///< the message ended
    const char* error = nullptr;
  };

  BodyDecoder() : BodyDecoder(Framing::none, 0) {}
  BodyDecoder(Framing framing, std::uint64_t length) : framing_(framing), left_(length) {}

  bool done() const { return done_ || framing_ == Framing::none; }
  /// Call until the input is used up, `done` or `error`. One step gives at most one run of body bytes.
  Step decode(std::string_view input);
  /// The connection ended: true if that ends the message properly.
  bool end_of_stream() { return done() || framing_ == Framing::until_close; }
  /// Trailer fields with their CRLFs, without the last empty line.
  const std::string& trailers() const { return trailers_; }

 private:
  enum class Part : std::uint8_t { size, data, data_end, trailer };
  Step decode_chunked(std::string_view input);
  const char* take_line_byte(char c, std::size_t line_bytes_max);
  const char* end_of_size_line();
  const char* end_of_trailer_line();

  Framing framing_;
  std::uint64_t left_;  ///< of the body (length), of the chunk (chunked)
  Part part_ = Part::size;
  bool done_ = false;
  std::string line_;  ///< size line or trailer line in progress
  std::string trailers_;
};

}  // namespace orchestra::http
