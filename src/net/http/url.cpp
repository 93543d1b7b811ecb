#include "net/http/url.hpp"

#include <algorithm>
#include <charconv>
#include <vector>

#include "net/http/head.hpp"

namespace orchestra::http {
namespace {

Error bad(std::string_view text, std::string_view why) {
  return {Error::invalid, "http", "URL \"" + std::string(text) + "\" " + std::string(why)};
}

bool is_printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return out;
}

/// "a/b/../c" to "a/c"; never above the root.
std::string remove_dots(std::string_view path) {
  std::vector<std::string_view> kept;
  bool slash_at_end = false;
  while (!path.empty()) {
    path.remove_prefix(1);
    const std::string_view part = path.substr(0, path.find('/'));
    path.remove_prefix(part.size());
    slash_at_end = part.empty() || part == "." || part == "..";
    if (part == "..") {
      if (!kept.empty()) kept.pop_back();
    } else if (part != "." && (!part.empty() || !path.empty())) {
      kept.push_back(part);
    }
  }
  std::string out;
  for (const std::string_view part : kept) (out += '/') += part;
  if (slash_at_end || out.empty()) out += '/';
  return out;
}

}  // namespace

std::string Url::authority() const {
  if (scheme == "unix") return "localhost";
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  const bool is_default = port == (tls() ? 443 : 80);
  return is_default ? name : name + ":" + std::to_string(port);
}

std::string Url::text() const {
  if (scheme == "unix") return "unix:" + host + ":" + target;
  return scheme + "://" + authority() + target;
}

Result<Url> parse_url(std::string_view text) {
  if (!is_printable(text)) return bad(text, "holds a space or a control character; write it as %20");
  Url url;
  if (text.substr(0, 5) == "unix:") {
    const std::size_t colon = text.find(":/", 6);  // a socket's name may hold colons (etcd's c:0)
    url.scheme = "unix";
    url.host = text.substr(5, colon == std::string_view::npos ? text.npos : colon - 5);
    url.target = colon == std::string_view::npos ? "/" : std::string(text.substr(colon + 1));
    if (url.host.empty()) return bad(text, "names no socket; write unix:/path/to/socket:/uri");
    if (url.target.empty()) url.target = "/";
    return url;
  }
  const std::size_t separator = text.find("://");
  if (separator == std::string_view::npos) return bad(text, "has no scheme; write http:// or https://");
  url.scheme = lower(text.substr(0, separator));
  if (url.scheme != "http" && url.scheme != "https")
    return bad(text, "has a scheme other than http, https and unix");
  std::string_view rest = text.substr(separator + 3);
  const std::size_t end = std::min(rest.find_first_of("/?#"), rest.size());
  const std::string_view authority = rest.substr(0, end);
  rest.remove_prefix(end);
  if (authority.find('@') != std::string_view::npos) {
    return bad("...", "carries a user name or password; send an Authorization header instead");
  }
  if (!is_host(authority)) return bad(text, "has no host, or one with a character that no host has");
  const std::size_t bracket = authority.find(']');
  const std::size_t colon = authority.find(':', bracket == std::string_view::npos ? 0 : bracket);
  url.host = lower(authority.substr(0, colon));
  if (bracket != std::string_view::npos) url.host = url.host.substr(1, url.host.size() - 2);
  url.port = url.tls() ? 443 : 80;
  if (colon != std::string_view::npos && colon + 1 < authority.size()) {
    const std::string_view port = authority.substr(colon + 1);
    const auto parsed = std::from_chars(port.data(), port.data() + port.size(), url.port);
    if (parsed.ec != std::errc{}) return bad(text, "has a port above 65535");
  }
  rest = rest.substr(0, rest.find('#'));
  url.target = rest.empty() || rest.front() != '/' ? "/" + std::string(rest) : std::string(rest);
  return url;
}

Result<Url> resolve_url(const Url& base, std::string_view location) {
  const std::size_t scheme = location.find("://");
  const bool absolute =
      scheme != location.npos && location.substr(0, scheme).find_first_of("/?#") == location.npos;
  if (absolute) return parse_url(location);
  if (location.substr(0, 2) == "//") return parse_url(base.scheme + ":" + std::string(location));
  if (location.empty() || !is_printable(location)) return bad(location, "is no place to redirect to");
  Url url = base;
  location = location.substr(0, location.find('#'));
  const std::string base_path = base.target.substr(0, base.target.find('?'));
  const std::size_t query = std::min(location.find('?'), location.size());
  std::string path(location.substr(0, query));
  if (path.empty()) {
    path = base_path;
  } else if (path.front() != '/') {
    path = base_path.substr(0, base_path.rfind('/') + 1) + path;
  }
  url.target = remove_dots(path) + std::string(location.substr(query));
  return url;
}

}  // namespace orchestra::http
