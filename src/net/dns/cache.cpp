#include "net/dns/cache.hpp"

#include <algorithm>

namespace orchestra::dns {
namespace {

constexpr std::uint32_t kPositiveSecondsMax = 3600, kNegativeSecondsMax = 1800, kSecondsMin = 5,
                        kFailureSeconds = 5;
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::size_t kEntryOverheadBytes = 200;  // list node, index node, vectors
constexpr int kChainMax = 16;
constexpr std::uint32_t kStaleSecondsToLive = 30;
constexpr std::uint32_t kHotHits = 2;  // and in the last tenth of its time: fetched again

std::size_t bytes_of(const std::vector<Record>& records) {
  std::size_t bytes = 0;
  for (const Record& record : records) bytes += sizeof(Record) + record.name.size() + record.data.size();
  return bytes;
}

bool is_failure(Rcode rcode) { return rcode != Rcode::no_error && rcode != Rcode::name_error; }

}  // namespace

std::string CacheKey::text() const {
  std::string out = name;
  out += static_cast<char>(static_cast<std::uint16_t>(type) >> 8);
  out += static_cast<char>(static_cast<std::uint16_t>(type) & 0xff);
  out += static_cast<char>((dnssec_ok ? 1 : 0) | (checking_disabled ? 2 : 0));
  return out;
}

std::optional<CachedAnswer> Cache::find(const CacheKey& key, std::int64_t now_ns) {
  const auto found = index_.find(key.text());
  if (found == index_.end()) return std::nullopt;
  const auto entry = found->second;
  if (now_ns >= entry->expires_ns) {
    if (now_ns >= entry->stale_until_ns) erase(entry);
    return std::nullopt;
  }
  entries_.splice(entries_.begin(), entries_, entry);
  CachedAnswer answer = entry->answer;
  const std::int64_t left = entry->expires_ns - now_ns, all = entry->expires_ns - entry->stored_ns;
  answer.refresh = ++entry->hits >= kHotHits && left <= all / 10;
  const auto age = static_cast<std::uint32_t>((now_ns - entry->stored_ns) / kSecond);
  for (auto* section : {&answer.answers, &answer.authority}) {
    for (Record& record : *section) record.ttl -= std::min(record.ttl, age);
  }
  return answer;
}

std::optional<CachedAnswer> Cache::find_stale(const CacheKey& key, std::int64_t now_ns) {
  const auto found = index_.find(key.text());
  if (found == index_.end() || now_ns >= found->second->stale_until_ns) return std::nullopt;
  CachedAnswer answer = found->second->answer;
  for (auto* section : {&answer.answers, &answer.authority}) {
    for (Record& record : *section) record.ttl = kStaleSecondsToLive;
  }
  answer.extended = ExtendedError{answer.rcode == Rcode::name_error ? kStaleNameError : kStaleAnswer, ""};
  return answer;
}

void Cache::put(const CacheKey& key, CachedAnswer answer, std::int64_t now_ns) {
  const bool failure = is_failure(answer.rcode);
  if (const auto found = index_.find(key.text()); failure && found != index_.end()) {
    Entry& before = *found->second;
    if (!is_failure(before.answer.rcode) && now_ns < before.stale_until_ns) {
      before.hits = 0;  // asked for often enough to try again, but not with each question
      return;
    }
  }
  Entry entry;
  entry.key = key.text();
  entry.bytes =
      kEntryOverheadBytes + 2 * entry.key.size() + bytes_of(answer.answers) + bytes_of(answer.authority);
  if (entry.bytes > bytes_max_ / 8) return;
  if (const auto found = index_.find(entry.key); found != index_.end()) erase(found->second);
  const std::uint32_t seconds = time_to_live(answer);
  for (auto* section : {&answer.answers, &answer.authority}) {
    for (Record& record : *section)
      record.ttl = std::clamp(record.ttl, std::min(kSecondsMin, seconds), seconds);
  }
  entry.answer = std::move(answer);
  entry.stored_ns = now_ns;
  entry.expires_ns = now_ns + std::int64_t{seconds} * kSecond;
  entry.stale_until_ns = entry.expires_ns + (failure ? 0 : stale_ns_);
  bytes_ += entry.bytes;
  entries_.push_front(std::move(entry));
  index_.emplace(entries_.front().key, entries_.begin());
  while (bytes_ > bytes_max_) erase(std::prev(entries_.end()));
}

void Cache::erase(Entries::iterator entry) {
  bytes_ -= entry->bytes;
  index_.erase(entry->key);
  entries_.erase(entry);
}

CachedAnswer trusted_part(const Message& message, const Question& question) {
  CachedAnswer out;
  out.rcode = message.rcode > 255 ? Rcode::server_failure : static_cast<Rcode>(message.rcode);
  Name name = question.name;
  for (int link = 0; link < kChainMax; ++link) {
    const Record* alias = nullptr;
    for (const Record& record : message.answers) {
      if (record.name != name || record.klass != kClassIn) continue;
      const bool wanted = record.type == question.type || question.type == Type::any;
      const bool signature = static_cast<std::uint16_t>(record.type) == 46;  // RRSIG goes with its set
      if (wanted || signature || record.type == Type::cname) out.answers.push_back(record);
      if (record.type == Type::cname && !wanted) alias = &record;
    }
    if (alias == nullptr) break;
    name = alias->data;
  }
  const bool nothing = out.answers.empty() || out.answers.back().type == Type::cname;
  for (const Record& record : message.authority) {
    if (nothing && record.type == Type::soa && is_below_or_equal(name, record.name))
      out.authority.push_back(record);
  }
  return out;
}

std::uint32_t time_to_live(const CachedAnswer& answer) {
  if (is_failure(answer.rcode)) return kFailureSeconds;
  std::uint32_t seconds = answer.authority.empty() ? kPositiveSecondsMax : kNegativeSecondsMax;
  for (const Record& record : answer.answers) seconds = std::min(seconds, record.ttl);
  for (const Record& record : answer.authority) {
    seconds = std::min(seconds, record.ttl);
    if (const auto minimum = soa_minimum(record.data)) seconds = std::min(seconds, *minimum);
  }
  if (answer.answers.empty() && answer.authority.empty()) return kSecondsMin;
  return std::max(seconds, kSecondsMin);
}

}  // namespace orchestra::dns
