// Zone files under arbitrary text: what is accepted can be printed and read again, and each name in it, and
// one below, gets an answer that fits.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "net/dns/answer_memo.hpp"
#include "net/dns/master_file.hpp"
#include "net/dns/static_zone.hpp"

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
  const auto zone = StaticZone::build(origin, *records);
  if (!zone) return 0;
  AnswerMemo memo;
  for (const Record& record : *records) {
    for (const Name& name : {record.name, "\1x" + record.name}) {
      if (name.size() > kNameBytesMax || !is_below_or_equal(name, origin)) continue;
      const Question question{.sent = name, .name = name, .type = record.type};
      const std::string packet = write_query(1, question, false, false);
      const auto query = read_query(packet);
      if (!query || query->refusal) continue;
      const Answer answer = zone->answer(question, 3);
      const std::string out = write_answer(*query, answer.rcode, {}, answer.answers, answer.authority,
                                           answer.additional, kEdnsUdpBytes);
      if (out.size() > kEdnsUdpBytes || !read_message(out)) std::abort();
      PlainQuestion plain;
      if (!read_plain_question(packet, 1, plain)) std::abort();
      memo.remember(plain, out);
      char found[kEdnsUdpBytes];
      if (memo.find(packet, plain, 1, 0, found).bytes == 0) std::abort();
    }
  }
  return 0;
}
