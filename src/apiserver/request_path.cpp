// Paths of the API: see request_path.hpp.
#include "apiserver/request_path.hpp"

namespace orchestra::apiserver {
namespace {

std::optional<std::vector<std::string>> path_parts(std::string_view path) {
  std::vector<std::string> parts;
  for (const std::string& raw : split(path, '/')) {
    if (raw.empty()) continue;  // the leading slash, one trailing slash, doubled ones
    auto part = percent_decode(raw, false);
    if (!part || *part == "." || *part == "..") return std::nullopt;
    parts.push_back(std::move(*part));
  }
  return parts;
}

std::string verb_of(const std::string& method, bool named, bool watch) {
  if (method == "GET" || method == "HEAD") {
    if (watch) return "watch";
    return named ? "get" : "list";
  }
  if (method == "POST") return "create";
  if (method == "PUT") return "update";
  if (method == "PATCH") return "patch";
  if (method == "DELETE") return named ? "delete" : "deletecollection";
  return to_lower(method);
}

// parts[0..] behind /api/v1 or /apis/G/V.
void read_resource(RequestInfo& info, std::vector<std::string> parts) {
  bool old_watch = false;
  if (!parts.empty() && parts[0] == "watch") {
    old_watch = true;
    parts.erase(parts.begin());
  }
  if (parts.empty()) return;
  std::size_t at = 0;
  if (parts[0] == "namespaces" && parts.size() > 1) {
    info.ns = parts[1];
    const bool is_namespace_itself =
        parts.size() == 2 || (parts.size() == 3 && (parts[2] == "status" || parts[2] == "finalize"));
    at = is_namespace_itself ? 0 : 2;
    if (is_namespace_itself) info.ns.clear();
  }
  info.is_resource = true;
  info.resource = parts[at];
  if (parts.size() > at + 1) info.name = parts[at + 1];
  if (parts.size() > at + 2) info.subresource = parts[at + 2];
  for (std::size_t i = at + 3; i < parts.size(); ++i) {
    if (!info.rest.empty()) info.rest += '/';
    info.rest += parts[i];
  }
  const bool watch = old_watch || (info.name.empty() && query_flag(info.query, "watch"));
  if (old_watch && !info.name.empty()) {
    // /watch/.../NAME watches one object.
    info.query.erase("fieldSelector");
    info.query.emplace("fieldSelector", "metadata.name=" + info.name);
    info.name.clear();
  }
  info.verb = verb_of(info.method, !info.name.empty(), watch);
}
}  // namespace

std::optional<RequestInfo> parse_request(std::string_view method, std::string_view target) {
  RequestInfo info;
  info.method = std::string(method);
  const std::size_t question = target.find('?');
  auto query =
      parse_query(question == std::string_view::npos ? std::string_view() : target.substr(question + 1));
  const std::string_view path = target.substr(0, question);
  if (!query || path.empty() || path[0] != '/') return std::nullopt;
  info.query = std::move(*query);
  auto parts = path_parts(path);
  if (!parts) return std::nullopt;
  for (const std::string& part : *parts) info.path += "/" + part;
  if (info.path.empty()) info.path = "/";
  info.verb = to_lower(method);
  if (info.verb == "head") info.verb = "get";

  if (parts->size() > 2 && (*parts)[0] == "api") {
    info.version = (*parts)[1];
    read_resource(info, {parts->begin() + 2, parts->end()});
  } else if (parts->size() > 3 && (*parts)[0] == "apis") {
    info.group = (*parts)[1];
    info.version = (*parts)[2];
    read_resource(info, {parts->begin() + 3, parts->end()});
  }
  return info;
}

}  // namespace orchestra::apiserver
