#pragma once
// DNS over HTTPS (RFC 8484): from an HTTP request to the query in it, from an answer to how long it is fresh.
// Pure.
//
// GET /dns-query?dns=BASE64URL (without padding) and POST /dns-query with the query as body. The size is
// looked at before anything is decoded (CVE-2026-32936 of another server).
#include <cstdint>
#include <string>
#include <string_view>

namespace orchestra::dns {

constexpr std::size_t kDohQueryBytesMax = 4096;
constexpr std::string_view kDohType = "application/dns-message";

struct DohQuery {
  int status = 200;    ///< else what the request is answered with
  std::string packet;  ///< at least a header
  std::string why;     ///< not 200: for a person
};
DohQuery read_doh(std::string_view method, std::string_view target, std::string_view content_type,
                  std::string_view body);

/// Seconds that HTTP caches may keep this answer: the least time to live in it, of a "no" what its SOA says;
/// 0 for a failure.
std::uint32_t doh_seconds(std::string_view answer);

}  // namespace orchestra::dns
