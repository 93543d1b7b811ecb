// The WebSocket codec: see websocket_codec.hpp.
#include "net/http/websocket_codec.hpp"

#include <openssl/sha.h>

#include <array>

#include "base/base64.hpp"

namespace orchestra::http {
namespace {
constexpr std::size_t kControlBytesMax = 125;
constexpr std::string_view kAcceptSalt = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

Error broken(const std::string& what) { return Error(Error::invalid, "websocket", what); }
}  // namespace

Error WebSocketParser::too_long() const {
  return broken("1009 a message is longer than " + std::to_string(message_bytes_max_ >> 20) + " MiB");
}

Result<void> WebSocketParser::feed(std::string_view bytes) {
  buffer_ += bytes;
  for (;;) {
    ORC_ASSIGN(const bool more, read_frame());
    if (!more) break;
  }
  buffer_.erase(0, used_);
  used_ = 0;
  return {};
}

Result<bool> WebSocketParser::read_frame() {
  const std::string_view rest = std::string_view(buffer_).substr(used_);
  const auto byte = [rest](std::size_t at) { return static_cast<unsigned char>(rest[at]); };
  if (rest.size() < 2) return false;
  const bool final = (byte(0) & 0x80) != 0;
  const bool masked = (byte(1) & 0x80) != 0;
  const std::uint8_t opcode = byte(0) & 0x0F;
  if ((byte(0) & 0x70) != 0) return broken("1002 reserved bits are set, but no extension was agreed on");
  if (from_ == From::client && !masked) return broken("1002 a frame of a client must be masked");
  if (from_ == From::server && masked) return broken("1002 a frame of a server must not be masked");
  std::uint64_t length = byte(1) & 0x7F;
  std::size_t at = 2;
  const std::size_t wide = length == 126 ? 2 : length == 127 ? 8 : 0;
  const std::size_t mask_bytes = masked ? 4 : 0;
  if (rest.size() < at + wide + mask_bytes) return false;
  if (wide > 0) {
    length = 0;
    for (std::size_t i = 0; i < wide; ++i) length = length << 8 | byte(at + i);
    at += wide;
  }
  if (opcode >= 8 && (length > kControlBytesMax || !final))
    return broken("1002 a control frame is too long or in parts");
  if (length > message_bytes_max_) return too_long();
  if (rest.size() < at + mask_bytes + length) return false;
  std::string payload(rest.substr(at + mask_bytes, length));
  if (masked) {
    for (std::size_t i = 0; i < payload.size(); ++i) {
      payload[i] = static_cast<char>(payload[i] ^ rest[at + i % 4]);
    }
  }
  used_ += at + mask_bytes + length;
  ORC_TRY(take(opcode, final, std::move(payload)));
  return true;
}

Result<void> WebSocketParser::take(std::uint8_t opcode, bool final, std::string payload) {
  using Kind = WebSocketMessage::Kind;
  switch (opcode) {
    case 0:
      if (!joining_) return broken("1002 a continuation without a beginning");
      break;
    case 1:
    case 2:
      if (joining_) return broken("1002 a new message inside of another");
      joining_ = opcode == 1 ? Kind::text : Kind::binary;
      joined_.clear();
      break;
    case 8: {
      WebSocketMessage close{Kind::close, {}, 1005};
      if (payload.size() == 1) return broken("1002 a close code has two bytes");
      if (payload.size() >= 2) {
        close.close_code = static_cast<std::uint16_t>(static_cast<unsigned char>(payload[0]) << 8 |
                                                      static_cast<unsigned char>(payload[1]));
        close.payload = payload.substr(2);
      }
      messages_.push_back(std::move(close));
      return {};
    }
    case 9:
      messages_.push_back({Kind::ping, std::move(payload), 0});
      return {};
    case 10:
      messages_.push_back({Kind::pong, std::move(payload), 0});
      return {};
    default:
      return broken("1002 unknown opcode " + std::to_string(opcode));
  }
  if (joined_.size() + payload.size() > message_bytes_max_) return too_long();
  joined_ += payload;
  if (final) {
    messages_.push_back({*joining_, std::move(joined_), 0});
    joined_.clear();
    joining_.reset();
  }
  return {};
}

std::optional<WebSocketMessage> WebSocketParser::next() {
  if (messages_.empty()) return std::nullopt;
  WebSocketMessage message = std::move(messages_.front());
  messages_.pop_front();
  return message;
}

std::string websocket_frame(WebSocketOpcode opcode, std::string_view payload) {
  std::string frame;
  frame.reserve(payload.size() + 10);
  frame += static_cast<char>(0x80 | static_cast<unsigned>(opcode));
  const std::uint64_t size = payload.size();
  if (size < 126) {
    frame += static_cast<char>(size);
  } else {
    const bool wide = size > 0xFFFF;
    frame += static_cast<char>(wide ? 127 : 126);
    for (int shift = wide ? 56 : 8; shift >= 0; shift -= 8) frame += static_cast<char>(size >> shift & 0xFF);
  }
  frame += payload;
  return frame;
}

std::string websocket_masked_frame(WebSocketOpcode opcode, std::string_view payload, std::uint32_t mask) {
  std::string frame = websocket_frame(opcode, payload);
  const std::size_t head = frame.size() - payload.size();
  frame[1] = static_cast<char>(frame[1] | 0x80);
  char bytes[4];
  for (int i = 0; i < 4; ++i) bytes[i] = static_cast<char>(mask >> (8 * i) & 0xFF);
  for (std::size_t i = 0; i < payload.size(); ++i) {
    frame[head + i] = static_cast<char>(frame[head + i] ^ bytes[i % 4]);
  }
  return frame.insert(head, bytes, 4);
}

std::string websocket_close_payload(std::uint16_t code, std::string_view reason) {
  std::string payload;
  payload += static_cast<char>(code >> 8);
  payload += static_cast<char>(code & 0xFF);
  payload += reason.substr(0, kControlBytesMax - 2);
  return payload;
}

std::string websocket_accept(std::string_view key) {
  const std::string text = std::string(key) + std::string(kAcceptSalt);
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest{};
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return encode_base64_text({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

}  // namespace orchestra::http
