// Zone files under arbitrary text: what is accepted can be printed and read again, and each name in it, and
// one below, gets an answer that fits.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "net/dns/answer_memo.hpp"
#include "net/dns/master_file.hpp"
#include "net/dns/zone_set.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra::dns;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const Name origin = *make_name("shop.example");
  const auto records = parse_master_file(text, {.origin = origin});
  if (!records) return 0;
  for (const Record& record : *records) {
    const auto again = parse_master_file(record_text(record), {.origin = Name(1, '\0')});
    if (!again || again->size() != 1 || again->at(0) != record) std::abort();
  }
  const auto zone = orchestra::DnsZone::from_text(text, "shop.example");
  if (!zone) return 0;
  const ZoneSet zones(nullptr, {{origin, std::dynamic_pointer_cast<const AnyZone>(*zone)}});
  AnswerMemo memo;
  for (const Record& record : *records) {
    for (const Name& name : {record.name, "\1x" + record.name}) {
      if (name.size() > kNameBytesMax || !is_below_or_equal(name, origin)) continue;
      const Question question{.sent = name, .name = name, .type = record.type};
      const std::string packet = write_query(1, question, false, false);
      const auto query = read_query(packet);
      if (!query || query->refusal) continue;
      const orchestra::dns::Answer answer = zones.answer(question, 3);
      const std::string out = write_answer(*query, answer.rcode, {}, answer.answers, answer.authority,
                                           answer.additional, kEdnsUdpBytes);
      if (out.size() > kEdnsUdpBytes || !read_message(out)) std::abort();
      PlainQuestion plain;
      if (!read_plain_question(packet, 1, plain)) std::abort();
      memo.remember(plain, out);
      char found[kEdnsUdpBytes];
      const std::size_t bytes = memo.find(packet, plain, 1, 0, found).bytes;
      if (bytes == 0) std::abort();
      // The records that took turns are the same ones.
      const auto first = read_message(out), turned = read_message({found, bytes});
      if (!turned || !std::is_permutation(first->answers.begin(), first->answers.end(),
                                          turned->answers.begin(), turned->answers.end()))
        std::abort();
    }
  }
  return 0;
}
