#include "net/ingress/forwarding.hpp"

namespace orchestra::ingress {
namespace {

using http::equal_ignoring_case;
using http::Field;
using http::Framing;
using http::Head;

constexpr std::size_t kRequestIdBytesMax = 128;

bool starts_with_ignoring_case(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() && equal_ignoring_case(text.substr(0, prefix.size()), prefix);
}

/// Fields about this connection only; framing fields are written anew.
bool is_hop_by_hop(std::string_view name) {
  switch (name.empty() ? 0 : name.front() | 0x20) {
    case 'c':
      return equal_ignoring_case(name, "connection") || equal_ignoring_case(name, "content-length");
    case 'k':
      return equal_ignoring_case(name, "keep-alive");
    case 'p':
      return starts_with_ignoring_case(name, "proxy-");
    case 't':
      return equal_ignoring_case(name, "transfer-encoding") || equal_ignoring_case(name, "te");
    case 'u':
      return equal_ignoring_case(name, "upgrade");
    default:
      return false;
  }
}

/// Connection may name these, they stay all the same.
bool is_protected(std::string_view name) {
  return equal_ignoring_case(name, "host") || equal_ignoring_case(name, "authorization") ||
         starts_with_ignoring_case(name, "content-") || starts_with_ignoring_case(name, "x-forwarded-");
}

bool is_named_by_connection(const Head& head, std::string_view name) {
  for (const Field& field : head.fields) {
    if (equal_ignoring_case(field.name, "connection") && http::list_contains(field.value, name)) return true;
  }
  return false;
}

bool is_forwarding_field(std::string_view name) {
  return starts_with_ignoring_case(name, "x-forwarded-") || equal_ignoring_case(name, "x-real-ip") ||
         equal_ignoring_case(name, "forwarded");
}

void append(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  out += ": ";
  out += value;
  out += "\r\n";
}

void append_forwarding(std::string& out, const Head& head, const Forwarding& forwarding) {
  std::string chain;
  if (forwarding.trusted) {
    for (const Field& field : head.fields) {
      if (!equal_ignoring_case(field.name, "x-forwarded-for") || field.value.empty()) continue;
      if (!chain.empty()) chain += ", ";
      chain += field.value;
    }
  }
  if (!chain.empty()) chain += ", ";
  append(out, "X-Forwarded-For", chain += forwarding.client_ip);
  const auto set = [&](std::string_view name, std::string_view own) {
    const auto given = forwarding.trusted ? head.find(name) : std::nullopt;
    append(out, name, given.value_or(own));
  };
  set("X-Forwarded-Proto", forwarding.tls ? "https" : "http");
  set("X-Forwarded-Host", forwarding.host);
  set("X-Forwarded-Port", forwarding.port);
  set("X-Real-IP", forwarding.client_ip);
}

}  // namespace

bool is_idempotent(std::string_view method) {
  return method == "GET" || method == "HEAD" || method == "PUT" || method == "DELETE" ||
         method == "OPTIONS" || method == "TRACE";
}

std::string upstream_head(const Head& head, std::string_view target, const Forwarding& forwarding) {
  std::string out;
  out.reserve(head.bytes + 256);
  out += head.method;
  out += ' ';
  out += target;
  out += " HTTP/1.1\r\n";
  append(out, "Host", forwarding.host);
  const bool lists_connection = head.find("connection").has_value();
  bool has_request_id = false;
  for (const Field& field : head.fields) {
    if (equal_ignoring_case(field.name, "host") || is_hop_by_hop(field.name) ||
        is_forwarding_field(field.name))
      continue;
    if (field.name.find('_') != std::string_view::npos) continue;
    if (lists_connection && !is_protected(field.name) && is_named_by_connection(head, field.name)) continue;
    if (equal_ignoring_case(field.name, "x-request-id")) {
      if (has_request_id || field.value.empty() || field.value.size() > kRequestIdBytesMax) continue;
      has_request_id = true;
    }
    append(out, field.name, field.value);
  }
  if (const auto te = head.find("te"); te && http::list_contains(*te, "trailers"))
    append(out, "TE", "trailers");
  append_forwarding(out, head, forwarding);
  if (!has_request_id) append(out, "X-Request-Id", forwarding.request_id);
  if (head.framing == Framing::chunked) append(out, "Transfer-Encoding", "chunked");
  if (const auto length = head.find("content-length")) append(out, "Content-Length", *length);
  if (head.upgrade) {
    append(out, "Connection", "Upgrade");
    append(out, "Upgrade", *head.find("upgrade"));
  }
  out += "\r\n";
  return out;
}

Delivery client_head(const Head& head, int client_minor_version, bool client_keeps_alive,
                     bool is_head_request) {
  Delivery out;
  out.framing = head.framing;
  out.keep_alive = client_keeps_alive;
  if (head.framing == Framing::until_close || head.framing == Framing::chunked) {
    out.framing = client_minor_version == 0 ? Framing::until_close : Framing::chunked;
  }
  if (out.framing == Framing::until_close) out.keep_alive = false;
  out.head.reserve(head.bytes + 64);
  out.head = "HTTP/1.1 " + std::to_string(head.status) + " ";
  out.head += head.reason.empty() ? http::reason_phrase(head.status) : head.reason;
  out.head += "\r\n";
  const bool lists_connection = head.find("connection").has_value();
  for (const Field& field : head.fields) {
    if (is_hop_by_hop(field.name)) continue;
    if (lists_connection && !is_protected(field.name) && is_named_by_connection(head, field.name)) continue;
    append(out.head, field.name, field.value);
  }
  if (head.status == 101) {
    append(out.head, "Connection", "Upgrade");
    append(out.head, "Upgrade", head.find("upgrade").value_or(""));
  }
  const bool may_have_length = head.status >= 200 && head.status != 204;
  const bool tells_length = out.framing == Framing::length || out.framing == Framing::none;
  const auto length = head.find("content-length");
  if (may_have_length && tells_length && length) append(out.head, "Content-Length", *length);
  if (may_have_length && !length && out.framing == Framing::none && head.status != 304 && !is_head_request) {
    append(out.head, "Content-Length", "0");
  }
  if (out.framing == Framing::chunked) append(out.head, "Transfer-Encoding", "chunked");
  if (head.status >= 200 && !out.keep_alive) append(out.head, "Connection", "close");
  if (head.status >= 200 && out.keep_alive && client_minor_version == 0)
    append(out.head, "Connection", "keep-alive");
  out.head += "\r\n";
  return out;
}

}  // namespace orchestra::ingress
