// The WebSocket reader under arbitrary bytes: cut at any place it gives the same messages, none of them
// longer than its bound.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "net/http/websocket_codec.hpp"

namespace {
using namespace orchestra::http;

std::vector<WebSocketMessage> read_all(std::string_view bytes, std::size_t piece, bool& broken) {
  WebSocketParser parser;
  std::vector<WebSocketMessage> messages;
  broken = false;
  for (std::size_t at = 0; at < bytes.size() && !broken; at += piece) {
    broken = !parser.feed(bytes.substr(at, piece));
    while (auto message = parser.next()) messages.push_back(std::move(*message));
  }
  return messages;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  bool broken_whole = false;
  bool broken_cut = false;
  const auto whole = read_all(bytes, size == 0 ? 1 : size, broken_whole);
  const auto cut = read_all(bytes, 1, broken_cut);
  if (broken_whole != broken_cut || whole.size() != cut.size()) std::abort();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    if (whole[i].payload != cut[i].payload || whole[i].kind != cut[i].kind) std::abort();
    if (whole[i].payload.size() > WebSocketParser::kMessageBytesMax) std::abort();
  }
  return 0;
}
