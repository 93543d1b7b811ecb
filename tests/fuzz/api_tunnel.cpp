// The node tunnel under arbitrary messages: what decodes encodes to itself, and neither end does more than
// end the connection.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "api/tunnel/peer.hpp"

namespace {
using namespace orchestra;

/// Refuses everything.
class Nothing final : public PodStreams {
 public:
  Pending<std::shared_ptr<ByteStream>> log(PodTarget, LogOptions) override { return refused(); }
  Pending<std::shared_ptr<ProcessStream>> exec(PodTarget, ExecOptions) override { return refused(); }
  Pending<std::shared_ptr<DuplexStream>> port_forward(PodTarget, int) override { return refused(); }
  Pending<NodePage> page(std::string, std::string) override { return refused(); }

 private:
  static Error refused() { return Error(Error::not_found, "fuzz", "nothing runs here"); }
};

Engine& engine() {
  static Engine one;
  return one;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto frame = tunnel::decode(bytes)) {
    if (tunnel::encode(*frame) != bytes) std::abort();
  }
  const std::string text(bytes);
  if (const auto request = tunnel::decode_request(text)) {
    const auto again = tunnel::decode_request(tunnel::encode_request(*request));
    if (!again || again->target.pod != request->target.pod || again->kind != request->kind) std::abort();
  }
  (void)tunnel::decode_exit(text);
  if (const auto page = tunnel::decode_page(text)) {
    const auto again = tunnel::decode_page(tunnel::encode_page(*page));
    if (!again || again->code != page->code || again->body != page->body) std::abort();
  }
  (void)tunnel::decode_error(text);
  (void)tunnel::decode_statistics(text);
  for (const bool served : {true, false}) {
    auto peer = std::make_shared<tunnel::Peer>(
        engine(), [](const std::string&) {}, served ? std::make_shared<Nothing>() : nullptr);
    // Messages, each with one byte of length before it.
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t length = static_cast<unsigned char>(bytes[at]);
      if (!peer->receive(bytes.substr(at + 1, length))) break;
      at += 1 + length;
    }
    if (peer->open_streams() > tunnel::kStreamsMax) std::abort();
    peer->closed(Error(Error::unavailable, "fuzz", "the end"));
    if (peer->open_streams() != 0) std::abort();
  }
  return 0;
}
