// The WebSocket codec: see websocket_codec.hpp.
#include "apiserver/streams/websocket_codec.hpp"

#include <openssl/sha.h>

#include <array>

#include "apiserver/text.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kControlBytesMax = 125;
constexpr std::string_view kAcceptSalt = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

Error broken(const std::string& what) { return Error(Error::invalid, "websocket", what); }
}  // namespace

Result<void> WebSocketParser::feed(std::string_view bytes) {
  buffer_ += bytes;
  for (;;) {
    ORC_ASSIGN(const bool more, read_frame());
    if (!more) return {};
  }
}

Result<bool> WebSocketParser::read_frame() {
  const auto byte = [this](std::size_t at) { return static_cast<unsigned char>(buffer_[at]); };
  if (buffer_.size() < 2) return false;
  const bool final = (byte(0) & 0x80) != 0;
  const std::uint8_t opcode = byte(0) & 0x0F;
  if ((byte(0) & 0x70) != 0) return broken("1002 reserved bits are set, but no extension was agreed on");
  if ((byte(1) & 0x80) == 0) return broken("1002 a frame of a client must be masked");
  std::uint64_t length = byte(1) & 0x7F;
  std::size_t at = 2;
  const std::size_t wide = length == 126 ? 2 : length == 127 ? 8 : 0;
  if (buffer_.size() < at + wide + 4) return false;
  if (wide > 0) {
    length = 0;
    for (std::size_t i = 0; i < wide; ++i) length = length << 8 | byte(at + i);
    at += wide;
  }
  if (opcode >= 8 && (length > kControlBytesMax || !final))
    return broken("1002 a control frame is too long or in parts");
  if (length > kMessageBytesMax) return broken("1009 a message is longer than 4 MiB");
  if (buffer_.size() < at + 4 + length) return false;
  const std::array<char, 4> mask = {buffer_[at], buffer_[at + 1], buffer_[at + 2], buffer_[at + 3]};
  at += 4;
  std::string payload = buffer_.substr(at, length);
  for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<char>(payload[i] ^ mask[i % 4]);
  buffer_.erase(0, at + length);
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
  if (joined_.size() + payload.size() > kMessageBytesMax)
    return broken("1009 a message is longer than 4 MiB");
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

std::string websocket_close_frame(std::uint16_t code, std::string_view reason) {
  std::string payload;
  payload += static_cast<char>(code >> 8);
  payload += static_cast<char>(code & 0xFF);
  payload += reason.substr(0, kControlBytesMax - 2);
  return websocket_frame(WebSocketOpcode::close, payload);
}

std::string websocket_accept(std::string_view key) {
  const std::string text = std::string(key) + std::string(kAcceptSalt);
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest{};
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return base64_encode({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

}  // namespace orchestra::apiserver
