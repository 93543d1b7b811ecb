#pragma once
// Bytes in a fixed order: little-endian integers, varints, length-prefixed strings.
//
// The Writer appends to a string. The Reader never reads past its end and never trusts a length: after the
// first mistake it answers zeros and empty strings and ok() is false, so a decoder checks once at its end.
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace orchestra::store {

class Writer {
 public:
  explicit Writer(std::string& out) : out_(out) {}
  void u8(std::uint8_t value) { out_.push_back(static_cast<char>(value)); }
  void u32(std::uint32_t value) { fixed(value); }
  void u64(std::uint64_t value) { fixed(value); }
  void varint(std::uint64_t value) {
    while (value >= 0x80) {
      u8(static_cast<std::uint8_t>(value) | 0x80);
      value >>= 7;
    }
    u8(static_cast<std::uint8_t>(value));
  }
  void bytes(std::string_view value) {
    varint(value.size());
    out_.append(value);
  }

 private:
  template <class T>
  void fixed(T value) {
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little-endian");
    char raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    out_.append(raw, sizeof value);
  }
  std::string& out_;
};

/// The same into memory that is there already, and large enough: no look at the room left for each byte.
class FixedWriter {
 public:
  explicit FixedWriter(char* out) : begin_(out), at_(out) {}
  void u8(std::uint8_t value) { *at_++ = static_cast<char>(value); }
  void u32(std::uint32_t value) { fixed(value); }
  void u64(std::uint64_t value) { fixed(value); }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) u8(static_cast<std::uint8_t>(value) | 0x80);
    u8(static_cast<std::uint8_t>(value));
  }
  void bytes(std::string_view value) {
    varint(value.size());
    if (!value.empty()) std::memcpy(at_, value.data(), value.size());
    at_ += value.size();
  }
  std::size_t size() const { return static_cast<std::size_t>(at_ - begin_); }

 private:
  template <class T>
  void fixed(T value) {
    std::memcpy(at_, &value, sizeof value);
    at_ += sizeof value;
  }
  char* begin_;
  char* at_;
};

class Reader {
 public:
  explicit Reader(std::string_view in) : in_(in) {}
  bool ok() const { return ok_; }
  /// ok, and everything was read.
  bool done() const { return ok_ && in_.empty(); }
  bool empty() const { return in_.empty(); }
  std::size_t left() const { return in_.size(); }
  std::uint8_t u8() { return fixed<std::uint8_t>(); }
  std::uint32_t u32() { return fixed<std::uint32_t>(); }
  std::uint64_t u64() { return fixed<std::uint64_t>(); }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::uint8_t byte = u8();
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    fail();
    return 0;
  }
  /// A count of things that take at least one byte each: bounded by what is left.
  std::size_t count() {
    const std::uint64_t value = varint();
    if (value > in_.size()) fail();
    return ok_ ? static_cast<std::size_t>(value) : 0;
  }
  std::string_view bytes() {
    const std::size_t size = count();
    const std::string_view value = in_.substr(0, size);
    in_.remove_prefix(size);
    return value;
  }
  void fail() {
    ok_ = false;
    in_ = {};
  }

 private:
  template <class T>
  T fixed() {
    T value{};
    if (in_.size() < sizeof value) {
      fail();
      return value;
    }
    std::memcpy(&value, in_.data(), sizeof value);
    in_.remove_prefix(sizeof value);
    return value;
  }
  std::string_view in_;
  bool ok_ = true;
};

}  // namespace orchestra::store
