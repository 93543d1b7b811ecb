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
  std::vector<Record> answers, authority;
};

class Cache {
 public:
  explicit Cache(std::size_t bytes_max) : bytes_max_(bytes_max) {}

  /// With times to live counted down to now.
  std::optional<CachedAnswer> find(const CacheKey& key, std::int64_t now_ns);
  void put(const CacheKey& key, CachedAnswer answer, std::int64_t now_ns);
  std::size_t size() const { return entries_.size(); }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    std::string key;
    CachedAnswer answer;
    std::int64_t stored_ns = 0, expires_ns = 0;
    std::size_t bytes = 0;
  };
  using Entries = std::list<Entry>;  // most recently used first
  void erase(Entries::iterator entry);

  const std::size_t bytes_max_;
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
