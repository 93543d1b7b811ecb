#pragma once
// The head of an HTTP/1 message: one strict parser for the server, the client and the proxy.
//
// Two programs that disagree about where a message ends can be played against each other (request
// smuggling), so everything ambiguous is refused, as RFC 9112 sections 2.2, 5 and 6 allow: length
// together with chunked, several lengths, any transfer coding but `chunked`, bare CR or LF, folded
// lines, white space before the colon, control characters, no Host or two.
// Pure: bytes in, views into these bytes out. Nothing is allocated but the vector of fields.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace orchestra::http {

/// How the body behind a head ends.
enum class Framing : std::uint8_t { none, length, chunked, until_close };

struct Field {
  std::string_view name, value;  ///< as sent; value without surrounding white space
};

struct Head {
  // Request
  std::string_view method, target;
  // Response
  int status = 0;
  std::string_view reason;
  // Both
  int minor_version = 1;
  std::vector<Field> fields;
  Framing framing = Framing::none;
  std::uint64_t content_length = 0;
  bool keep_alive = true;
  bool upgrade = false;  ///< Connection names Upgrade and there is an Upgrade field
  bool expect_continue = false;
  std::string_view host;  ///< of the Host field
  std::size_t bytes = 0;  ///< of the head, with the empty line

  /// First field of this name (any case), or nullopt.
  std::optional<std::string_view> find(std::string_view name) const;
};

struct HeadLimits {
  std::size_t target_bytes_max = 16 << 10;  ///< 414
  std::size_t head_bytes_max = 64 << 10;    ///< 431
  std::size_t fields_max = 100;             ///< 431
  /// A LF without CR ends a line too (RFC 9112 section 2.2 allows it): for answers only, as CGI programs
  /// write them. Nobody downstream sees them, so nobody can read them differently.
  bool lf_alone = false;
};

enum class HeadState : std::uint8_t { incomplete, complete, bad };
struct HeadResult {
  HeadState state = HeadState::incomplete;
  int status = 400;      ///< bad: what to answer
  const char* why = "";  ///< bad: which rule
};

/// Finds the end of a head in a growing buffer without looking at a byte twice.
class HeadScanner {
 public:
  /// complete: `bytes()` is the size of the head. bad: a bare LF, or too long.
  HeadResult scan(std::string_view buffer, const HeadLimits& limits);
  std::size_t bytes() const { return bytes_; }
  void reset() { *this = {}; }

 private:
  std::size_t scanned_ = 0, line_start_ = 0, bytes_ = 0;
  bool seen_line_ = false;
};

/// `text` is exactly one head, as the scanner found it.
HeadResult parse_request_head(std::string_view text, const HeadLimits& limits, Head& out);
/// `request_method` decides, with the status, whether there is a body.
HeadResult parse_response_head(std::string_view text, const HeadLimits& limits,
                               std::string_view request_method, Head& out);

bool equal_ignoring_case(std::string_view a, std::string_view b);
/// True if the comma separated list holds `token` (any case).
bool list_contains(std::string_view list, std::string_view token);
bool is_token(std::string_view text);
/// Host field or authority: registered name, IPv4 or [IPv6], with or without :port.
bool is_host(std::string_view text);
/// "Not Found"
std::string_view reason_phrase(int status);

}  // namespace orchestra::http
