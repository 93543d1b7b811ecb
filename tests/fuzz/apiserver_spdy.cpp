// The SPDY reader under arbitrary bytes: cut at any place it gives the same frames; what it accepts as a
// stream's headers survives being written and read again.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "apiserver/streams/spdy_codec.hpp"

namespace {
using namespace orchestra::apiserver;

std::vector<SpdyFrame> read_all(std::string_view bytes, std::size_t piece, bool& broken) {
  SpdyParser parser;
  std::vector<SpdyFrame> frames;
  broken = false;
  for (std::size_t at = 0; at < bytes.size() && !broken; at += piece) {
    broken = !parser.feed(bytes.substr(at, piece));
    while (auto frame = parser.next()) frames.push_back(std::move(*frame));
  }
  return frames;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  bool broken_whole = false;
  bool broken_cut = false;
  const auto whole = read_all(bytes, size == 0 ? 1 : size, broken_whole);
  const auto cut = read_all(bytes, 3, broken_cut);
  if (broken_whole != broken_cut || whole.size() != cut.size()) std::abort();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    if (whole[i].type != cut[i].type || whole[i].payload != cut[i].payload ||
        whole[i].headers != cut[i].headers)
      std::abort();
    if (whole[i].headers.empty()) continue;
    SpdyWriter writer;
    bool broken = false;
    const auto again = read_all(writer.syn_stream(1, whole[i].headers, false), 7, broken);
    if (broken || again.size() != 1 || again[0].headers != whole[i].headers) std::abort();
  }
  return 0;
}
