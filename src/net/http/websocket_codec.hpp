#pragma once
// WebSocket (RFC 6455), both sides, as a pure codec: bytes in, messages out, and back.
//
// Frames of clients must be masked and those of servers must not, fragments are joined, control frames may
// come between fragments.
// No extension is negotiated. What breaks the protocol ends the connection with the close code that the
// RFC names.
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra::http {

struct WebSocketMessage {
  enum class Kind : std::uint8_t { text, binary, ping, pong, close };
  Kind kind = Kind::binary;
  std::string payload;
  std::uint16_t close_code = 0;
};

class WebSocketParser {
 public:
  static constexpr std::size_t kMessageBytesMax = 4 << 20;  // kubectl cp sends 32 KiB pieces
  /// Whose frames come in here.
  enum class From : std::uint8_t { client, server };
  explicit WebSocketParser(From from = From::client, std::size_t message_bytes_max = kMessageBytesMax)
      : from_(from), message_bytes_max_(message_bytes_max) {}
  /// Adds bytes from the other side; an error's message begins with the close code: "1002 ...".
  Result<void> feed(std::string_view bytes);
  std::optional<WebSocketMessage> next();

 private:
  Result<bool> read_frame();
  Result<void> take(std::uint8_t opcode, bool final, std::string payload);
  Error too_long() const;
  From from_;
  std::size_t message_bytes_max_;
  std::string buffer_;
  std::size_t used_ = 0;  ///< bytes of buffer_ that were taken
  std::deque<WebSocketMessage> messages_;
  std::string joined_;
  std::optional<WebSocketMessage::Kind> joining_;
};

enum class WebSocketOpcode : std::uint8_t { text = 1, binary = 2, close = 8, ping = 9, pong = 10 };
std::string websocket_frame(WebSocketOpcode opcode, std::string_view payload);
/// A client's frame: masked with these random 32 bits.
std::string websocket_masked_frame(WebSocketOpcode opcode, std::string_view payload, std::uint32_t mask);
/// What a close frame carries.
std::string websocket_close_payload(std::uint16_t code, std::string_view reason);
/// Sec-WebSocket-Accept of a Sec-WebSocket-Key.
std::string websocket_accept(std::string_view key);

}  // namespace orchestra::http
