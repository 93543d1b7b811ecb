#include "net/http/body.hpp"

#include <algorithm>

namespace orchestra::http {
namespace {
constexpr std::size_t kSizeLineBytesMax = 1024 + 20;  // an extension of 1 KiB and the size
constexpr std::size_t kTrailerBytesMax = 16 << 10;
constexpr std::size_t kChunkSizeDigitsMax = 15;  // below 2^60

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}
}  // namespace

BodyDecoder::Step BodyDecoder::decode(std::string_view input) {
  if (done()) return {.done = true};
  if (framing_ == Framing::chunked) return decode_chunked(input);
  if (framing_ == Framing::until_close) return {.consumed = input.size(), .data = input};
  const auto take = static_cast<std::size_t>(std::min<std::uint64_t>(left_, input.size()));
  left_ -= take;
  done_ = left_ == 0;
  return {.consumed = take, .data = input.substr(0, take), .done = done_};
}

BodyDecoder::Step BodyDecoder::decode_chunked(std::string_view input) {
  std::size_t at = 0;
  while (at < input.size()) {
    if (part_ == Part::data) {
      const auto take = static_cast<std::size_t>(std::min<std::uint64_t>(left_, input.size() - at));
      left_ -= take;
      if (left_ == 0) part_ = Part::data_end;
      return {.consumed = at + take, .data = input.substr(at, take)};
    }
    const char* error =
        take_line_byte(input[at++], part_ == Part::trailer ? kTrailerBytesMax : kSizeLineBytesMax);
    if (error != nullptr) return {.consumed = at, .error = error};
    if (done_) return {.consumed = at, .done = true};
  }
  return {.consumed = at};
}

// Collects a line up to CRLF; a CR must be followed by LF, a LF preceded by CR.
const char* BodyDecoder::take_line_byte(char c, std::size_t line_bytes_max) {
  const bool after_cr = !line_.empty() && line_.back() == '\r';
  if (after_cr != (c == '\n')) return "a chunk line does not end with CRLF";
  line_.push_back(c);
  if (line_.size() > line_bytes_max) return "a chunk line is too long";
  if (c != '\n') return nullptr;
  line_.resize(line_.size() - 2);
  const char* error = nullptr;
  if (part_ == Part::size) {
    error = end_of_size_line();
  } else if (part_ == Part::trailer) {
    error = end_of_trailer_line();
  } else if (line_.empty()) {
    part_ = Part::size;
  } else {
    error = "a chunk is longer than its size";
  }
  line_.clear();
  return error;
}

const char* BodyDecoder::end_of_size_line() {
  std::size_t digits = 0;
  left_ = 0;
  while (digits < line_.size() && hex_digit(line_[digits]) >= 0) {
    if (digits == kChunkSizeDigitsMax) return "a chunk size is too large";
    left_ = left_ * 16 + static_cast<std::uint64_t>(hex_digit(line_[digits++]));
  }
  if (digits == 0) return "a chunk size is not a hexadecimal number";
  std::size_t rest = digits;
  while (rest < line_.size() && (line_[rest] == ' ' || line_[rest] == '\t')) ++rest;
  if (rest < line_.size() && line_[rest] != ';') return "a chunk size is not a hexadecimal number";
  if (rest != digits && rest == line_.size()) return "white space behind a chunk size";
  for (const char c : line_) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\t')
      return "a chunk extension holds a control character";
  }
  part_ = left_ == 0 ? Part::trailer : Part::data;
  return nullptr;
}

const char* BodyDecoder::end_of_trailer_line() {
  if (line_.empty()) {
    done_ = true;
    return nullptr;
  }
  const std::size_t colon = line_.find(':');
  if (colon == std::string::npos || !is_token(std::string_view(line_).substr(0, colon)))
    return "a trailer is malformed";
  for (const char c : line_) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7f) return "a trailer holds a control character";
  }
  if (trailers_.size() + line_.size() > kTrailerBytesMax) return "the trailers are too long";
  trailers_ += line_;
  trailers_ += "\r\n";
  return nullptr;
}

}  // namespace orchestra::http
