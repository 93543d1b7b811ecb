#pragma once
// WebSocket (RFC 6455), the server's side, as a pure codec: bytes in, messages out, and back.
//
// Frames of clients must be masked, fragments are joined, control frames may come between fragments.
// No extension is negotiated. What breaks the protocol ends the connection with the close code that the
// RFC names.
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra::apiserver {

struct WebSocketMessage {
  enum class Kind : std::uint8_t { text, binary, ping, pong, close };
  Kind kind = Kind::binary;
  std::string payload;
  std::uint16_t close_code = 0;
};

class WebSocketParser {
 public:
  static constexpr std::size_t kMessageBytesMax = 4 << 20;  // kubectl cp sends 32 KiB pieces
  /// Adds bytes from the client; an error's message begins with the close code: "1002 ...".
  Result<void> feed(std::string_view bytes);
  std::optional<WebSocketMessage> next();

 private:
  Result<bool> read_frame();
  Result<void> take(std::uint8_t opcode, bool final, std::string payload);
  std::string buffer_;
  std::deque<WebSocketMessage> messages_;
  std::string joined_;
  std::optional<WebSocketMessage::Kind> joining_;
};

enum class WebSocketOpcode : std::uint8_t { text = 1, binary = 2, close = 8, ping = 9, pong = 10 };
std::string websocket_frame(WebSocketOpcode opcode, std::string_view payload);
std::string websocket_close_frame(std::uint16_t code, std::string_view reason);
/// Sec-WebSocket-Accept of a Sec-WebSocket-Key.
std::string websocket_accept(std::string_view key);

}  // namespace orchestra::apiserver
