// Requests for DNS over HTTPS: "METHOD target\ncontent-type\nbody". What is taken is a query of bounded size,
// and has an answer or none.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "net/dns/doh.hpp"
#include "net/dns/message.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra::dns;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto until = [&](char end) {
    const std::size_t at = std::min(text.find(end), text.size());
    const std::string_view out = text.substr(0, at);
    text.remove_prefix(std::min(at + 1, text.size()));
    return out;
  };
  const std::string_view method = until(' '), target = until('\n'), type = until('\n');
  const DohQuery query = read_doh(method, target, type, text);
  if (query.status != 200) {
    if (query.why.empty() || !query.packet.empty()) std::abort();
    return 0;
  }
  if (query.packet.size() < kHeaderBytes || query.packet.size() > kDohQueryBytesMax) std::abort();
  (void)doh_seconds(query.packet);
  if (const auto read = read_query(query.packet); read && read->question)
    (void)doh_seconds(write_answer(*read, Rcode::no_error, {}, {}, {}, {}, kUdpBytes));
  return 0;
}
