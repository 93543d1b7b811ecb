#pragma once
// DnsZone: names that a DnsServer answers for besides the cluster's own.
//
//   auto zone = orchestra::DnsZone::from_master_file("shop.zone", "shop.example");
//   server->add_zone(*zone);                            // again with a newer one: replaced in one step
//
// A zone comes from a zone file (RFC 1035 section 5), from such text in memory, or from a function of the
// host that answers each question. Zones are immutable values: to change one, make another. Since 0.1.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra {

/// What a host's function is asked. Texts are lower case; names without the dot at their end.
struct DnsAsked {
  std::string name;  ///< "www.shop.example"
  std::string type;  ///< "A", "TXT", "TYPE65280"
};

enum class DnsReplyCode : std::uint8_t { no_error = 0, server_failure = 2, name_error = 3, refused = 5 };

struct DnsReply {
  DnsReplyCode code = DnsReplyCode::no_error;
  /// Lines of a zone file, each one record: "@ 60 A 10.0.0.1" is about the asked name, other names are given
  /// in full with a dot at their end. Those of the asked name and type, or a CNAME of it, are the answer, the
  /// rest goes along as additional data. None with no_error: the name exists, such a record does not.
  std::vector<std::string> records = {};
};

/// Any thread; shared by reference count.
class ORC_API DnsZone {
 public:
  virtual ~DnsZone() = default;

  /// Reads a zone file, and what it includes. `name` is the zone's name and first $ORIGIN; empty: the owner
  /// of the file's SOA record, which must be absolute then and not the root (that is "."). `invalid` names
  /// file, line and reason; `not_found`, `denied`, `too_large` and `io` the file. At most 256 MiB and
  /// 4,194,304 records. Blocks on the disk.
  static Result<std::shared_ptr<const DnsZone>> from_master_file(const std::string& path,
                                                                 const std::string& name = {});
  /// The same from text; `file` is what messages call it. $INCLUDE is an error.
  static Result<std::shared_ptr<const DnsZone>> from_text(std::string_view text, const std::string& name = {},
                                                          const std::string& file = "zone");

  /// Called for each question below `name`, on the server's threads, several at a time: it must not block.
  /// What it throws, and records that are none, are answered with SERVFAIL. Answers are not remembered.
  using Answerer = std::function<DnsReply(const DnsAsked& asked)>;
  static Result<std::shared_ptr<const DnsZone>> from_callback(const std::string& name, Answerer answerer);

  /// "shop.example"
  virtual std::string name() const = 0;
  /// 0 for a host's function.
  virtual std::size_t record_count() const = 0;
};

}  // namespace orchestra
