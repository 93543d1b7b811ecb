// The DNS reader under arbitrary packets: what it accepts as a query can be answered within its limit, what
// it accepts as a message survives being written and read again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "net/dns/cache.hpp"
#include "net/dns/cluster_zone.hpp"
#include "net/dns/message.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra::dns;
  const std::string_view packet(reinterpret_cast<const char*>(data), size);
  static const ClusterZone zone({}, orchestra::NetworkSnapshot::build({}));
  if (const auto query = read_query(packet)) {
    Answer answer;
    if (query->question && !query->refusal) answer = zone.answer(*query->question);
    const std::size_t limit = udp_limit(*query);
    const auto out = write_answer(*query, query->refusal.value_or(answer.rcode), {}, answer.answers,
                                  answer.authority, answer.additional, limit);
    if (out.size() > limit || !read_message(out)) std::abort();
  }
  if (const auto message = read_message(packet)) {
    Query query;
    query.question = message->question;
    if (query.question) {
      const auto out = write_answer(query, Rcode::no_error, {}, message->answers, message->authority,
                                    message->additional, kTcpBytesMax);
      const auto again = read_message(out);
      if (!again || (!again->truncated && again->answers != message->answers)) std::abort();
      (void)time_to_live(trusted_part(*message, *query.question));
    }
  }
  return 0;
}
