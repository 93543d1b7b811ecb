#include "net/dns/answer_memo.hpp"

#include <algorithm>
#include <cstring>

#include "base/assert.hpp"

namespace orchestra::dns {
namespace {

constexpr std::size_t kEntriesAtFirst = 1 << 10;

std::uint16_t number(std::string_view text, std::size_t at) {
  return static_cast<std::uint16_t>(octet(text, at) << 8 | octet(text, at + 1));
}

/// Multiplies and folds, eight octets at a time. The start is random, so that nobody can prepare names that
/// all go to one place.
std::uint64_t hash_of(const std::uint8_t* bytes, std::size_t size, std::uint64_t start) {
  std::uint64_t hash = 0xcbf29ce484222325 ^ start;
  std::size_t at = 0;
  for (; size - at >= 8; at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + at, 8);
    hash = (hash ^ word) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 29;
  }
  std::uint64_t rest = 0;
  std::memcpy(&rest, bytes + at, size - at);
  hash = (hash ^ rest) * 0x9e3779b97f4a7c15;
  return (hash ^ hash >> 32) | 1;
}

struct Turn {
  std::size_t at = 0, count = 0, bytes = 0;  // where, how many, of each
};
/// The addresses that end an answer section, behind the aliases that lead to them, if they all belong to one
/// name and that is written as a pointer in each: then each has the same size, no pointer leads into one of
/// them, and they may take turns. `answer` is of our own writing; what is not of this form takes no turns.
Turn turn_of(std::string_view answer, const PlainQuestion& question) {
  const auto is_type = [](std::uint16_t type, Type one) { return type == static_cast<std::uint16_t>(one); };
  if (!is_type(question.type, Type::a) && !is_type(question.type, Type::aaaa)) return {};
  Turn out{.bytes = is_type(question.type, Type::a) ? 16u : 28u};
  std::size_t at = kHeaderBytes + question.name_bytes + 4, left = number(answer, 6);
  for (; left > 1; --left) {
    std::size_t fixed = at;  // behind the owner's name
    while (fixed < answer.size() && octet(answer, fixed) != 0 && octet(answer, fixed) < 0xc0)
      fixed += octet(answer, fixed) + 1u;
    fixed += fixed < answer.size() && octet(answer, fixed) != 0 ? 2 : 1;
    if (answer.size() < fixed + 10) return {};
    const std::uint16_t type = number(answer, fixed);
    if (!is_type(type, Type::cname) && !is_type(type, Type::dname)) break;
    at = fixed + 10 + number(answer, fixed + 8);
  }
  if (left < 2 || answer.size() < at + left * out.bytes) return {};
  const std::uint16_t owner = number(answer, at);
  if (owner < 0xc000) return {};
  for (std::size_t i = 0; i < left; ++i) {
    const std::size_t one = at + i * out.bytes;
    if (number(answer, one) != owner || number(answer, one + 2) != question.type) return {};
  }
  out.at = at;
  out.count = left;
  return out;
}

}  // namespace

bool read_plain_question(std::string_view packet, std::uint64_t seed, PlainQuestion& out) {
  // A query (QR 0, opcode 0, TC 0), one question, no answers; additional: none or one.
  if (packet.size() < kHeaderBytes + 5 || (octet(packet, 2) & 0xfa) != 0) return false;
  if (number(packet, 4) != 1 || number(packet, 6) != 0 || number(packet, 8) != 0) return false;
  std::size_t at = kHeaderBytes;
  while (true) {
    const std::size_t length = octet(packet, at);
    const bool fits = packet.size() - at >= length + 2 && at - kHeaderBytes + length + 2 <= kNameBytesMax;
    if (length > 63 || (length != 0 && !fits)) return false;
    out.name[at - kHeaderBytes] = static_cast<std::uint8_t>(length);
    ++at;
    if (length == 0) break;
    for (std::size_t i = 0; i < length; ++i, ++at) {
      const std::uint8_t c = octet(packet, at);
      out.name[at - kHeaderBytes] = static_cast<std::uint8_t>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    }
  }
  out.name_bytes = at - kHeaderBytes;
  if (packet.size() - at < 4 || number(packet, at + 2) != kClassIn) return false;
  out.type = number(packet, at);
  at += 4;
  out.edns = number(packet, 10) != 0;
  out.dnssec_ok = false;
  out.bytes_max = kUdpBytes;
  if (out.edns) {
    // One OPT record of version 0 without options, and nothing behind it.
    if (number(packet, 10) != 1 || packet.size() - at != kOptBytes || octet(packet, at) != 0 ||
        number(packet, at + 1) != static_cast<std::uint16_t>(Type::opt) || octet(packet, at + 6) != 0 ||
        number(packet, at + 9) != 0)
      return false;
    out.bytes_max = std::clamp<std::size_t>(number(packet, at + 3), kUdpBytes, kEdnsUdpBytes);
    out.dnssec_ok = (octet(packet, at + 7) & 0x80) != 0;
  } else if (packet.size() != at) {
    return false;
  }
  const bool transfer = out.type == static_cast<std::uint16_t>(Type::axfr) ||
                        out.type == static_cast<std::uint16_t>(Type::ixfr);
  out.hash = hash_of(out.name, out.name_bytes,
                     seed ^ (std::uint64_t{out.type} << 2 | (out.edns ? 2 : 0) | (out.dnssec_ok ? 1 : 0)));
  return !transfer;
}

bool AnswerMemo::is(const Entry& entry, const PlainQuestion& question) const {
  return entry.hash == question.hash && entry.type == question.type &&
         entry.name_bytes == question.name_bytes && entry.edns == question.edns &&
         entry.dnssec_ok == question.dnssec_ok &&
         std::memcmp(bytes_.data() + entry.at, question.name, question.name_bytes) == 0;
}

AnswerMemo::Found AnswerMemo::find(std::string_view packet, const PlainQuestion& question,
                                   std::uint32_t rotation, std::int64_t now_ns, char* out) const {
  if (entries_.empty()) return {};
  const std::size_t mask = entries_.size() - 1;
  std::size_t slot = (question.hash >> 1) & mask;
  while (entries_[slot].hash != 0 && !is(entries_[slot], question)) slot = (slot + 1) & mask;
  const Entry& entry = entries_[slot];
  if (entry.hash == 0 || entry.answer_bytes > question.bytes_max || now_ns >= entry.ends_ns) return {};
  const bool upstream = entry.ends_ns != kNoEnd;
  if (upstream && ((packet[2] & 0x01) == 0 || (packet[3] & 0x10) != 0)) return {};
  const char* answer = bytes_.data() + entry.at + entry.name_bytes;
  if (entry.turn_count == 0) {
    std::memcpy(out, answer, entry.answer_bytes);
  } else {
    const std::size_t all = std::size_t{entry.turn_count} * entry.turn_bytes;
    const std::size_t first = rotation % entry.turn_count * entry.turn_bytes;
    std::memcpy(out, answer, entry.turn_at);
    std::memcpy(out + entry.turn_at, answer + entry.turn_at + first, all - first);
    std::memcpy(out + entry.turn_at + all - first, answer + entry.turn_at, first);
    std::memcpy(out + entry.turn_at + all, answer + entry.turn_at + all,
                entry.answer_bytes - entry.turn_at - all);
  }
  // What belongs to the question: id, RD, CD, the name as it was sent.
  out[0] = packet[0];
  out[1] = packet[1];
  out[2] = static_cast<char>((out[2] & ~0x01) | (packet[2] & 0x01));
  out[3] = static_cast<char>((out[3] & ~0x10) | (packet[3] & 0x10));
  std::memcpy(out + kHeaderBytes, packet.data() + kHeaderBytes, question.name_bytes);
  return {entry.answer_bytes, upstream};
}

void AnswerMemo::remember(const PlainQuestion& question, std::string_view answer, std::int64_t ends_ns) {
  if (answer.size() > kEdnsUdpBytes || answer.size() < kHeaderBytes + question.name_bytes + 4) return;
  if (count_ >= kEntriesMax || bytes_.size() + question.name_bytes + answer.size() > kBytesMax) clear();
  if (2 * (count_ + 1) > entries_.size()) grow();
  const std::size_t mask = entries_.size() - 1;
  std::size_t slot = (question.hash >> 1) & mask;
  while (entries_[slot].hash != 0 && !is(entries_[slot], question)) slot = (slot + 1) & mask;
  // One that has no end stays; one that has is replaced, and its octets are lost until the memo is full.
  const bool known = entries_[slot].hash != 0;
  if (known && entries_[slot].ends_ns == kNoEnd) return;
  Entry entry{.hash = question.hash, .at = static_cast<std::uint32_t>(bytes_.size())};
  entry.answer_bytes = static_cast<std::uint16_t>(answer.size());
  entry.type = question.type;
  entry.ends_ns = ends_ns;
  entry.name_bytes = static_cast<std::uint8_t>(question.name_bytes);
  entry.edns = question.edns;
  entry.dnssec_ok = question.dnssec_ok;
  const Turn turn = turn_of(answer, question);
  entry.turn_at = static_cast<std::uint16_t>(turn.at);
  entry.turn_count = static_cast<std::uint16_t>(turn.count);
  entry.turn_bytes = static_cast<std::uint8_t>(turn.bytes);
  bytes_.insert(bytes_.end(), question.name, question.name + question.name_bytes);
  bytes_.insert(bytes_.end(), answer.begin(), answer.end());
  entries_[slot] = entry;
  if (!known) ++count_;
  ORC_ASSERT(count_ < entries_.size());
}

void AnswerMemo::clear() {
  if (count_ == 0) return;
  std::fill(entries_.begin(), entries_.end(), Entry());
  bytes_.clear();
  count_ = 0;
}

void AnswerMemo::grow() {
  std::vector<Entry> larger(std::max(kEntriesAtFirst, entries_.size() * 2));
  const std::size_t mask = larger.size() - 1;
  for (const Entry& entry : entries_) {
    if (entry.hash == 0) continue;
    std::size_t slot = (entry.hash >> 1) & mask;
    while (larger[slot].hash != 0) slot = (slot + 1) & mask;
    larger[slot] = entry;
  }
  entries_.swap(larger);
}

}  // namespace orchestra::dns
