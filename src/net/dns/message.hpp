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
  ds = 43,
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
  name_too_long = 6,  ///< YXDOMAIN: a DNAME made one above 255 octets
  bad_version = 16
};

constexpr std::uint16_t kClassIn = 1, kClassAny = 255;
constexpr std::size_t kHeaderBytes = 12;
constexpr std::size_t kNameBytesMax = 255, kLabelBytesMax = 63;
constexpr std::size_t kOptBytes = 11;        ///< an OPT record without options
constexpr std::size_t kUdpBytes = 512;       ///< without EDNS
constexpr std::size_t kEdnsUdpBytes = 1232;  ///< what passes everywhere without fragments
constexpr std::size_t kTcpBytesMax = 65535;
constexpr std::size_t kQueryBlock = 128,
                      kAnswerBlock = 468;  ///< RFC 8467 4.1: what encrypted ones are padded to

inline std::uint8_t octet(std::string_view text, std::size_t at) {
  return static_cast<std::uint8_t>(text[at]);
}

/// A name as lower-case wire bytes.
using Name = std::string;
/// "web.shop.svc.cluster.local" or with a final dot; nullopt for an empty label, one above 63 octets, or
/// more than 255 in all. No escapes.
std::optional<Name> make_name(std::string_view text);
/// Dotted; unprintable octets, dots inside labels and what means something in zone files as \DDD; "." for the
/// root.
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
  std::string cookie = {};  ///< RFC 7873: 8 octets of the client, perhaps 8 to 32 that we gave it
  bool padded = false;      ///< RFC 7830: there was a padding option
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

/// RFC 8914: why there is no answer, or not the usual one.
struct ExtendedError {
  std::uint16_t code = 0;
  std::string text;
};
constexpr std::uint16_t kOtherError = 0, kStaleAnswer = 3, kNotReady = 14, kStaleNameError = 19,
                        kNotAuthoritative = 20, kNoUpstream = 22;

struct Message {
  std::uint16_t id = 0;
  bool response = false, authoritative = false, truncated = false, recursion_available = false;
  std::uint16_t rcode = 0;  ///< with the octet that an OPT record adds
  std::optional<Question> question;
  std::vector<Record> answers, authority, additional;  ///< without OPT
  std::optional<Edns> edns = std::nullopt;
  std::optional<ExtendedError> extended_error = std::nullopt;
};
/// A whole message, names in CNAME, NS, PTR, MX, SOA, SRV and DNAME expanded; nullopt when malformed.
std::optional<Message> read_message(std::string_view packet);

/// A question to an upstream server, with EDNS.
std::string write_query(std::uint16_t id, const Question& question, bool dnssec_ok, bool checking_disabled,
                        const std::string& cookie = {}, std::size_t pad_to = 0);

struct AnswerFlags {
  bool authoritative = false, recursion_available = false;
  bool truncated = false;                      ///< "come by TCP", whatever there is
  std::string cookie = {};                     ///< for the OPT record, if the query had one
  std::optional<ExtendedError> extended = {};  ///< likewise
  /// Likewise: a padding option fills the message up to a multiple of so many octets, 0 for none.
  std::size_t pad_to = 0;
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
