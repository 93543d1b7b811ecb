#include "net/http/head.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace orchestra::http {
namespace {

constexpr std::size_t kLengthDigitsMax = 18;  // below 2^63 without overflow checks

HeadResult bad(int status, const char* why) { return {HeadState::bad, status, why}; }
constexpr HeadResult kComplete{HeadState::complete, 0, ""};

constexpr std::array<bool, 256> make_token_table() {
  std::array<bool, 256> table{};
  for (int c = '0'; c <= '9'; ++c) table[c] = true;
  for (int c = 'a'; c <= 'z'; ++c) table[c] = true;
  for (int c = 'A'; c <= 'Z'; ++c) table[c] = true;
  for (const char c : std::string_view("!#$%&'*+-.^_`|~")) table[static_cast<unsigned char>(c)] = true;
  return table;
}
constexpr auto kTokenTable = make_token_table();

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool has_control(std::string_view value) {
  return std::any_of(value.begin(), value.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && byte != '\t') || byte == 0x7f;
  });
}

/// Takes one line without its CRLF; the scanner made sure that each LF has its CR, or may stand alone.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end + 1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

HeadResult parse_version(std::string_view text, int& minor) {
  if (text.size() != 8 || text.substr(0, 5) != "HTTP/" || !is_digit(text[5]) || text[6] != '.' ||
      !is_digit(text[7])) {
    return bad(400, "the HTTP version is malformed");
  }
  if (text[5] != '1' || text[7] > '1') return bad(505, "only HTTP/1.0 and HTTP/1.1 are served here");
  minor = text[7] - '0';
  return kComplete;
}

/// What the framing fields said, before they are judged together.
struct FramingFields {
  int lengths = 0, codings = 0, hosts = 0;
  std::uint64_t length = 0;
  bool close = false, keep_alive = false, connection_upgrade = false, upgrade = false;
};

HeadResult read_framing_field(const Field& field, Head& head, FramingFields& seen) {
  const auto is = [&](std::string_view name) { return equal_ignoring_case(field.name, name); };
  switch (lower(field.name.front())) {
    case 'c':
      if (is("content-length")) {
        if (field.value.empty() || field.value.size() > kLengthDigitsMax ||
            !std::all_of(field.value.begin(), field.value.end(), is_digit)) {
          return bad(400, "Content-Length is not a number");
        }
        ++seen.lengths;
        seen.length = 0;
        for (const char c : field.value) seen.length = seen.length * 10 + static_cast<std::uint64_t>(c - '0');
      } else if (is("connection")) {
        seen.close |= list_contains(field.value, "close");
        seen.keep_alive |= list_contains(field.value, "keep-alive");
        seen.connection_upgrade |= list_contains(field.value, "upgrade");
      }
      break;
    case 't':
      if (is("transfer-encoding")) {
        ++seen.codings;
        if (!equal_ignoring_case(field.value, "chunked"))
          return bad(400, "Transfer-Encoding is not exactly chunked");
      }
      break;
    case 'h':
      if (is("host")) {
        ++seen.hosts;
        if (!field.value.empty() && !is_host(field.value)) return bad(400, "Host is malformed");
        head.host = field.value;
      }
      break;
    case 'u':
      if (is("upgrade") && !field.value.empty()) seen.upgrade = true;
      break;
    case 'e':
      if (is("expect")) head.expect_continue = equal_ignoring_case(field.value, "100-continue");
      break;
    default:
      break;
  }
  return kComplete;
}

HeadResult parse_fields(std::string_view text, const HeadLimits& limits, Head& head, FramingFields& seen) {
  while (true) {
    if (text.empty()) return bad(400, "the head has no empty line");
    const std::string_view line = take_line(text);
    if (line.empty()) return text.empty() ? kComplete : bad(400, "bytes behind the head");
    if (head.fields.size() >= limits.fields_max) return bad(431, "too many header fields");
    if (line.front() == ' ' || line.front() == '\t') return bad(400, "a header line is folded");
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return bad(400, "a header line has no colon");
    const Field field{line.substr(0, colon), trim(line.substr(colon + 1))};
    if (!is_token(field.name)) return bad(400, "a header name is not a token");
    if (has_control(field.value)) return bad(400, "a header value holds a control character");
    if (const auto result = read_framing_field(field, head, seen); result.state == HeadState::bad)
      return result;
    head.fields.push_back(field);
  }
}

HeadResult judge_framing(Head& head, const FramingFields& seen) {
  if (seen.lengths > 1) return bad(400, "several Content-Length fields");
  if (seen.codings > 1) return bad(400, "several Transfer-Encoding fields");
  if (seen.lengths == 1 && seen.codings == 1)
    return bad(400, "Content-Length together with Transfer-Encoding");
  if (seen.codings == 1 && head.minor_version == 0) return bad(400, "Transfer-Encoding in HTTP/1.0");
  if (seen.codings == 1) head.framing = Framing::chunked;
  if (seen.lengths == 1) {
    head.framing = seen.length == 0 ? Framing::none : Framing::length;
    head.content_length = seen.length;
  }
  head.keep_alive = !seen.close && (head.minor_version == 1 || seen.keep_alive);
  head.upgrade = seen.connection_upgrade && seen.upgrade;
  return kComplete;
}

}  // namespace

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}

bool list_contains(std::string_view list, std::string_view token) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    if (equal_ignoring_case(trim(list.substr(0, comma)), token)) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](char c) { return kTokenTable[static_cast<unsigned char>(c)]; });
}

bool is_host(std::string_view text) {
  if (text.empty()) return false;
  std::size_t end = 0;
  if (text.front() == '[') {
    end = text.find(']');
    if (end == std::string_view::npos || end < 2) return false;
    const std::string_view address = text.substr(1, end - 1);
    if (address.find_first_not_of("0123456789abcdefABCDEF:.") != std::string_view::npos) return false;
    ++end;
  } else {
    end = std::min(text.find(':'), text.size());
    if (end == 0) return false;
    for (const char c : text.substr(0, end)) {
      const bool fine =
          is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z') || c == '-' || c == '.' || c == '_' || c == '~';
      if (!fine) return false;
    }
  }
  if (end == text.size()) return true;
  if (text[end] != ':') return false;
  const std::string_view port = text.substr(end + 1);
  return port.size() <= 5 && std::all_of(port.begin(), port.end(), is_digit);
}

std::optional<std::string_view> Head::find(std::string_view name) const {
  for (const Field& field : fields) {
    if (equal_ignoring_case(field.name, name)) return field.value;
  }
  return std::nullopt;
}

HeadResult HeadScanner::scan(std::string_view buffer, const HeadLimits& limits) {
  while (scanned_ < buffer.size()) {
    const auto* hit =
        static_cast<const char*>(std::memchr(buffer.data() + scanned_, '\n', buffer.size() - scanned_));
    if (hit == nullptr) {
      scanned_ = buffer.size();
      break;
    }
    const auto at = static_cast<std::size_t>(hit - buffer.data());
    const bool has_cr = at > line_start_ && buffer[at - 1] == '\r';
    if (!has_cr && !limits.lf_alone) return bad(400, "a line ends with LF alone");
    scanned_ = at + 1;
    const bool empty = at - (has_cr ? 1 : 0) == line_start_;
    line_start_ = at + 1;
    // One empty line before the start line is tolerated (RFC 9112 section 2.2).
    if (empty && !seen_line_ && at > 1) return bad(400, "empty lines before the start line");
    if (empty && seen_line_) {
      bytes_ = at + 1;
      return bytes_ > limits.head_bytes_max ? bad(431, "the head is too long") : kComplete;
    }
    seen_line_ |= !empty;
  }
  if (buffer.size() >= limits.head_bytes_max) return bad(431, "the head is too long");
  if (line_start_ <= 2 && buffer.size() > limits.target_bytes_max + 1024)
    return bad(414, "the request line is too long");
  return {};
}

HeadResult parse_request_head(std::string_view text, const HeadLimits& limits, Head& out) {
  out = Head{};
  out.bytes = text.size();
  if (text.substr(0, 2) == "\r\n") text.remove_prefix(2);
  const std::string_view line = take_line(text);
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return bad(400, "the request line is malformed");
  out.method = line.substr(0, first);
  out.target = line.substr(first + 1, last - first - 1);
  if (!is_token(out.method)) return bad(400, "the method is not a token");
  if (out.target.size() > limits.target_bytes_max) return bad(414, "the target is too long");
  const bool printable =
      std::all_of(out.target.begin(), out.target.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (out.target.empty() || !printable) return bad(400, "the target holds a space or a control character");
  if (const auto result = parse_version(line.substr(last + 1), out.minor_version);
      result.state == HeadState::bad) {
    return result;
  }
  FramingFields seen;
  if (const auto result = parse_fields(text, limits, out, seen); result.state == HeadState::bad)
    return result;
  if (seen.hosts > 1) return bad(400, "several Host fields");
  if (seen.hosts == 0 && out.minor_version == 1) return bad(400, "no Host field");
  return judge_framing(out, seen);
}

HeadResult parse_response_head(std::string_view text, const HeadLimits& limits,
                               std::string_view request_method, Head& out) {
  out = Head{};
  out.bytes = text.size();
  if (text.substr(0, 2) == "\r\n") text.remove_prefix(2);
  const std::string_view line = take_line(text);
  if (line.size() < 12 || line[8] != ' ') return bad(502, "the status line is malformed");
  if (parse_version(line.substr(0, 8), out.minor_version).state == HeadState::bad) {
    return bad(502, "the HTTP version of the answer is not 1.0 or 1.1");
  }
  const std::string_view code = line.substr(9, 3);
  if (!std::all_of(code.begin(), code.end(), is_digit) || (line.size() > 12 && line[12] != ' ')) {
    return bad(502, "the status is not a number of three digits");
  }
  out.status = (code[0] - '0') * 100 + (code[1] - '0') * 10 + (code[2] - '0');
  if (out.status < 100) return bad(502, "the status is below 100");
  if (line.size() > 13) out.reason = line.substr(13);
  if (has_control(out.reason)) return bad(502, "the reason holds a control character");
  FramingFields seen;
  if (auto result = parse_fields(text, limits, out, seen); result.state == HeadState::bad)
    return bad(502, result.why);
  if (auto result = judge_framing(out, seen); result.state == HeadState::bad) return bad(502, result.why);
  const bool bodyless =
      out.status < 200 || out.status == 204 || out.status == 304 || request_method == "HEAD";
  if (bodyless) {
    out.framing = Framing::none;
  } else if (seen.lengths == 0 && seen.codings == 0) {
    out.framing = Framing::until_close;
    out.keep_alive = false;
  }
  return kComplete;
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 101:
      return "Switching Protocols";
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 206:
      return "Partial Content";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 303:
      return "See Other";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 411:
      return "Length Required";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 416:
      return "Range Not Satisfiable";
    case 417:
      return "Expectation Failed";
    case 421:
      return "Misdirected Request";
    case 422:
      return "Unprocessable Content";
    case 426:
      return "Upgrade Required";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    case 507:
      return "Insufficient Storage";
    default:
      return "Status";
  }
}

}  // namespace orchestra::http
