#pragma once
// Answers of upstream servers, kept for their time to live. Pure: `now` is an argument.
//
// Bounded in bytes; what was used least recently goes first. Positive answers live at most an hour,
// negative ones (RFC 2308) as long as the SOA allows and at most half an hour, failures 5 s. The DO and CD
// bits are part of the key: an answer that skipped validation must not reach who asked for it.
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "net/dns/message.hpp"

namespace orchestra::dns {

struct CacheKey {
  Name name;
  Type type = Type::a;
  bool dnssec_ok = false, checking_disabled = false;
  std::string text() const;
};

struct CachedAnswer {
  Rcode rcode = Rcode::no_error;
  std::vector<Record> answers = {}, authority = {};
  std::optional<ExtendedError> extended = std::nullopt;
  bool refresh = false;  ///< asked for often, and near its end: worth asking for again now
};

class Cache {
 public:
  /// Answers are kept for `stale_seconds` after their end, for find_stale().
  explicit Cache(std::size_t bytes_max, std::uint32_t stale_seconds = 0)
      : bytes_max_(bytes_max), stale_ns_(std::int64_t{stale_seconds} * 1'000'000'000) {}

  /// With times to live counted down to now.
  std::optional<CachedAnswer> find(const CacheKey& key, std::int64_t now_ns);
  /// One that has ended, with 30 s to live (RFC 8767 section 4).
  std::optional<CachedAnswer> find_stale(const CacheKey& key, std::int64_t now_ns);
  /// A failure does not take the place of an answer whose time, or whose time as a stale one, is not over:
  /// what was only to be fetched again early serves on.
  void put(const CacheKey& key, CachedAnswer answer, std::int64_t now_ns);
  std::size_t size() const { return entries_.size(); }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    std::string key;
    CachedAnswer answer;
    std::int64_t stored_ns = 0, expires_ns = 0, stale_until_ns = 0;
    std::size_t bytes = 0;
    std::uint32_t hits = 0;
  };
  using Entries = std::list<Entry>;  // most recently used first
  void erase(Entries::iterator entry);

  const std::size_t bytes_max_;
  const std::int64_t stale_ns_;
  std::size_t bytes_ = 0;
  Entries entries_;
  std::unordered_map<std::string, Entries::iterator> index_;
};

/// What of an upstream's message may be believed and kept: the CNAME chain from the asked name and the
/// records at its end; of a "no" the SOA. All else could be about names that nobody asked (RFC 2181
/// section 5.4.1).
CachedAnswer trusted_part(const Message& message, const Question& question);
/// How long an answer may be kept, in seconds.
std::uint32_t time_to_live(const CachedAnswer& answer);

}  // namespace orchestra::dns
