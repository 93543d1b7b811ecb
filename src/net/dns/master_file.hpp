#pragma once
// Zone files ("master files", RFC 1035 section 5; $TTL of RFC 2308): text in, records out. Pure.
//
// Understood: comments, parentheses, quotes, escapes, owners and times left out, $ORIGIN, $TTL, $GENERATE,
// $INCLUDE (by a function that the caller gives), the types of record_text.hpp and the generic form of all
// others. Anything else is an error with file and line; nothing is skipped. Records come in the order of the
// file.
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "net/dns/record_text.hpp"

namespace orchestra::dns {

constexpr std::size_t kZoneFileBytesMax = 256 << 20;  ///< of all files of a zone together
constexpr std::size_t kZoneRecordsMax = 4 << 20;

struct MasterFileOptions {
  Name origin;                ///< what relative names are below, until $ORIGIN says otherwise
  std::string file = "zone";  ///< for messages
  Name owner = {};            ///< of records before the first that names one; empty: there has to be one
  std::uint32_t ttl = 0;      ///< of records before the first $TTL
  bool has_ttl = false;       ///< `ttl` counts; else such records are an error
  /// The text of a file that is included; null: $INCLUDE is refused.
  std::function<Result<std::string>(const std::string& path)> include = {};
};
Result<std::vector<Record>> parse_master_file(std::string_view text, MasterFileOptions options);

}  // namespace orchestra::dns
