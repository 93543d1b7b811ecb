// Base64 (RFC 4648 section 4) for the bytes fields of JSON.
#include "api/meta.hpp"

namespace orchestra::api {

std::string encode_base64(std::string_view bytes) {
  static constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t left = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t bits = 0;
    for (std::size_t j = 0; j < 3; ++j)
      bits = (bits << 8) | (j < left ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    for (std::size_t j = 0; j < 4; ++j) out += j <= left ? kAlphabet[(bits >> (18 - 6 * j)) & 63] : '=';
  }
  return out;
}

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::string out;
  out.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    std::uint32_t bits = 0;
    std::size_t letters = 0;
    for (std::size_t j = 0; j < 4; ++j) {
      const char c = text[i + j];
      int digit = -1;
      if (c >= 'A' && c <= 'Z') digit = c - 'A';
      if (c >= 'a' && c <= 'z') digit = c - 'a' + 26;
      if (c >= '0' && c <= '9') digit = c - '0' + 52;
      if (c == '+') digit = 62;
      if (c == '/') digit = 63;
      const bool padding = c == '=' && i + 4 == text.size() && j >= 2;
      if (digit < 0 && !padding) return std::nullopt;
      if (digit >= 0 && letters != j) return std::nullopt;  // a letter after padding
      if (digit >= 0) ++letters;
      bits = (bits << 6) | static_cast<std::uint32_t>(std::max(digit, 0));
    }
    for (std::size_t j = 0; j + 1 < letters; ++j) out += static_cast<char>((bits >> (16 - 8 * j)) & 0xff);
  }
  return out;
}

}  // namespace orchestra::api
