#pragma once
// Answers that are ready as wire. Pure, one thread.
//
// A name server is asked the same few questions again and again. The first time an answer is worked out from
// the zones; what was sent is kept by (name in lower case, type, EDNS, DO), and the next such question costs
// a hash, a copy, and the few octets that belong to the question: id, flags, the case of its name. Several
// addresses are turned by one each time, also those behind an alias. No memory is taken while answers are
// found. Always true: an answer without an end is here only if every question of its key would be given the
// same one until clear(), which the listener calls when something is published. What an upstream server said
// ends after a second, so that times to live stay true, and is for questions with RD and without CD only:
// others would get something else. Full (entries or bytes): all is forgotten.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/dns/message.hpp"

namespace orchestra::dns {

/// A question of the common form: one, class IN, nothing else but perhaps a plain OPT record.
struct PlainQuestion {
  std::uint8_t name[kNameBytesMax];  ///< lower case
  std::size_t name_bytes = 0;
  std::uint16_t type = 0;
  bool edns = false, dnssec_ok = false;
  std::size_t bytes_max = kUdpBytes;  ///< what the asker takes by UDP
  std::uint64_t hash = 0;
};
/// False for every other packet, which is not thereby wrong. `seed` goes into the hash.
bool read_plain_question(std::string_view packet, std::uint64_t seed, PlainQuestion& out);

class AnswerMemo {
 public:
  static constexpr std::size_t kEntriesMax = 1 << 17;
  static constexpr std::size_t kBytesMax = 32 << 20;

  static constexpr std::int64_t kNoEnd = INT64_MAX;
  struct Found {
    std::size_t bytes = 0;  ///< 0: not known, or too large for the asker
    bool upstream = false;  ///< it has an end
  };
  /// Writes the answer into `out`, which has room for kEdnsUdpBytes.
  Found find(std::string_view packet, const PlainQuestion& question, std::uint32_t rotation,
             std::int64_t now_ns, char* out) const;
  /// `answer` is the whole answer that was given to `packet`, not cut to a size.
  void remember(const PlainQuestion& question, std::string_view answer, std::int64_t ends_ns = kNoEnd);
  void clear();
  std::size_t size() const { return count_; }

 private:
  struct Entry {
    std::uint64_t hash = 0;  // 0: free
    std::uint32_t at = 0;    // in bytes_: the name, then the answer
    std::uint16_t answer_bytes = 0, type = 0;
    std::uint16_t turn_at = 0;     // where in the answer the records that take turns begin
    std::uint16_t turn_count = 0;  // 0: none
    std::uint8_t turn_bytes = 0;   // of each
    std::uint8_t name_bytes = 0;
    bool edns = false, dnssec_ok = false;
    std::int64_t ends_ns = kNoEnd;
  };
  bool is(const Entry& entry, const PlainQuestion& question) const;
  void grow();

  std::vector<Entry> entries_;  // open addressing, a power of two
  std::vector<char> bytes_;
  std::size_t count_ = 0;
};

}  // namespace orchestra::dns
