#pragma once
// DNS messages: reading what strangers send, writing answers. Pure.
//
// Names live as lower-case wire bytes (length octet, label, ..., zero octet; RFC 1035 section 3.1): equal
// bytes are equal names, whatever odd octets a label holds. Reading follows RFC 9267: a compression
// pointer goes only backwards, at most 32 of them, a name has at most 255 octets. Writing compresses
// owner names and the names in CNAME, NS, PTR and SOA, and never writes half a record: what does not fit
// sets TC.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace orchestra::dns {

enum class Type : std::uint16_t {
  a = 1,
  ns = 2,
  cname = 5,
  soa = 6,
  hinfo = 13,
  ptr = 12,
  mx = 15,
  txt = 16,
  aaaa = 28,
  srv = 33,
  dname = 39,
  opt = 41,
  ixfr = 251,
  axfr = 252,
  any = 255,
};
enum class Rcode : std::uint8_t {
  no_error = 0,
  form_error = 1,
  server_failure = 2,
  name_error = 3,
  not_implemented = 4,
  refused = 5,
  bad_version = 16
};

constexpr std::uint16_t kClassIn = 1, kClassAny = 255;
constexpr std::size_t kHeaderBytes = 12;
constexpr std::size_t kNameBytesMax = 255;
constexpr std::size_t kUdpBytes = 512;       ///< without EDNS
constexpr std::size_t kEdnsUdpBytes = 1232;  ///< what passes everywhere without fragments
constexpr std::size_t kTcpBytesMax = 65535;

/// A name as lower-case wire bytes.
using Name = std::string;
/// "web.shop.svc.cluster.local" or with a final dot; nullopt for an empty label, one above 63 octets, or
/// more than 255 in all. No escapes.
std::optional<Name> make_name(std::string_view text);
/// Dotted, with unprintable octets and dots inside labels as \DDD; "." for the root.
std::string to_text(std::string_view name);
/// The labels, leftmost first.
std::vector<std::string_view> labels_of(std::string_view name);
bool is_below_or_equal(std::string_view name, std::string_view zone);
std::string to_lower(std::string_view text);

struct Question {
  std::string sent;  ///< wire bytes as sent: the answer repeats them
  Name name;
  Type type = Type::a;
  std::uint16_t klass = kClassIn;
};

struct Edns {
  std::uint16_t udp_bytes = kUdpBytes;
  std::uint8_t version = 0;
  bool dnssec_ok = false;
};

struct Query {
  std::uint16_t id = 0;
  bool recursion_desired = false, checking_disabled = false;
  std::uint8_t opcode = 0;
  std::optional<Question> question;
  std::optional<Edns> edns;
  /// What to answer at once instead of looking the name up.
  std::optional<Rcode> refusal;
};
/// nullopt: answer nothing (shorter than a header, or a response).
std::optional<Query> read_query(std::string_view packet);

struct Record {
  Name name;
  Type type = Type::a;
  std::uint32_t ttl = 0;
  std::string data;  ///< names inside are not compressed
  std::uint16_t klass = kClassIn;
  friend bool operator==(const Record&, const Record&) = default;
};

struct Message {
  std::uint16_t id = 0;
  bool response = false, authoritative = false, truncated = false;
  std::uint8_t rcode = 0;
  std::optional<Question> question;
  std::vector<Record> answers, authority, additional;  ///< without OPT
};
/// A whole response, names in CNAME, NS, PTR, MX, SOA, SRV and DNAME expanded; nullopt when malformed.
std::optional<Message> read_message(std::string_view packet);

/// A question to an upstream server, with EDNS.
std::string write_query(std::uint16_t id, const Question& question, bool dnssec_ok, bool checking_disabled);

struct AnswerFlags {
  bool authoritative = false, recursion_available = false;
};
/// The answer to `query`, within `bytes_max`. Additional records are dropped first, silently; an answer or
/// authority record that does not fit sets TC.
std::string write_answer(const Query& query, Rcode rcode, AnswerFlags flags,
                         const std::vector<Record>& answers, const std::vector<Record>& authority,
                         const std::vector<Record>& additional, std::size_t bytes_max);
/// What a client of this query may be sent by UDP.
std::size_t udp_limit(const Query& query);

// Record data.
std::string address_data(const std::uint8_t* bytes, std::size_t size);
std::string txt_data(std::string_view text);
std::string srv_data(std::uint16_t priority, std::uint16_t weight, std::uint16_t port,
                     std::string_view target);
std::string soa_data(std::string_view primary, std::string_view mailbox, std::uint32_t serial,
                     std::uint32_t minimum);
/// The MINIMUM field: how long a "no" may be remembered.
std::optional<std::uint32_t> soa_minimum(std::string_view data);

}  // namespace orchestra::dns
