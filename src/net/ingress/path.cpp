#include "net/ingress/path.hpp"

#include <algorithm>

#include "net/http/head.hpp"

namespace orchestra::ingress {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_unreserved(char c) {
  const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return letter || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
}

/// Decodes escapes of unreserved characters only; nullopt for a broken escape or %00.
std::optional<std::string> decode_unreserved(std::string_view path) {
  std::string out;
  out.reserve(path.size());
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] != '%') {
      out += path[i];
      continue;
    }
    const int high = i + 2 < path.size() ? hex_digit(path[i + 1]) : -1;
    const int low = i + 2 < path.size() ? hex_digit(path[i + 2]) : -1;
    if (high < 0 || low < 0) return std::nullopt;
    const char c = static_cast<char>(high * 16 + low);
    if (c == '\0') return std::nullopt;
    if (is_unreserved(c)) {
      out += c;
    } else {
      out += path.substr(i, 3);
    }
    i += 2;
  }
  return out;
}

}  // namespace

std::optional<std::string> normalize_path(std::string_view path) {
  if (path == "*") return "*";
  if (path.empty() || path.front() != '/') return std::nullopt;
  const auto decoded = decode_unreserved(path);
  if (!decoded) return std::nullopt;
  std::string out;
  out.reserve(decoded->size());
  std::string_view rest = *decoded;
  bool slash_at_end = false;
  while (!rest.empty()) {
    rest.remove_prefix(1);
    const std::string_view segment = rest.substr(0, rest.find('/'));
    rest.remove_prefix(segment.size());
    slash_at_end = segment.empty() || segment == "." || segment == "..";
    if (segment.empty() || segment == ".") continue;
    if (segment == "..") {
      if (out.empty()) return std::nullopt;
      out.resize(out.rfind('/'));
      continue;
    }
    out += '/';
    out += segment;
  }
  if (slash_at_end || out.empty()) out += '/';
  return out;
}

std::optional<Target> read_target(std::string_view target) {
  Target out;
  if (const std::size_t scheme = target.find("://");
      !target.empty() && target.front() != '/' && scheme != target.npos) {
    const std::string_view name = target.substr(0, scheme);
    if (!http::equal_ignoring_case(name, "http") && !http::equal_ignoring_case(name, "https"))
      return std::nullopt;
    target.remove_prefix(scheme + 3);
    const std::size_t end = std::min(target.find_first_of("/?"), target.size());
    out.authority = target.substr(0, end);
    if (!http::is_host(out.authority)) return std::nullopt;
    target.remove_prefix(end);
  }
  if (target.find('#') != target.npos) return std::nullopt;
  const std::size_t query = std::min(target.find('?'), target.size());
  const std::string_view path = target.substr(0, query);
  auto normal = normalize_path(path.empty() ? "/" : path);
  if (!normal) return std::nullopt;
  out.path = std::move(*normal);
  out.query = target.substr(query);
  return out;
}

std::string host_name(std::string_view host) {
  if (!host.empty() && host.front() == '[') {
    host = host.substr(0, host.find(']') + 1);
  } else {
    host = host.substr(0, host.find(':'));
  }
  if (!host.empty() && host.back() == '.') host.remove_suffix(1);
  std::string out(host);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

}  // namespace orchestra::ingress
