// The Status objects of failed requests: k8s.io/apimachinery/pkg/api/errors/errors.go, word for word.
#include "api/status.hpp"

#include <set>

#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kDomain = "api";

json::object details_tree(const StatusDetails& details) {
  json::object tree;
  const auto put = [&](const char* key, const std::string& text) {
    if (!text.empty()) tree[key] = text;
  };
  put("name", details.name);
  put("group", details.group);
  put("kind", details.kind);
  put("uid", details.uid);
  if (!details.causes.empty()) {
    json::array causes;
    for (const StatusCause& cause : details.causes) {
      json::object entry;
      if (!cause.reason.empty()) entry["reason"] = cause.reason;
      if (!cause.message.empty()) entry["message"] = cause.message;
      if (!cause.field.empty()) entry["field"] = cause.field;
      causes.push_back(std::move(entry));
    }
    tree["causes"] = std::move(causes);
  }
  if (details.retry_after_seconds > 0) tree["retryAfterSeconds"] = details.retry_after_seconds;
  return tree;
}

struct CodeRow {
  int http;
  const char* reason;
  Error::Code code;
};
/// Both ways: from a Status to a code, and from a bare Error of another area to a Status (first match).
constexpr CodeRow kCodes[] = {
    {400, "BadRequest", Error::invalid},
    {401, "Unauthorized", Error::unauthenticated},
    {403, "Forbidden", Error::denied},
    {404, "NotFound", Error::not_found},
    {405, "MethodNotAllowed", Error::unsupported},
    {406, "NotAcceptable", Error::unsupported},
    {409, "AlreadyExists", Error::already_exists},
    {409, "Conflict", Error::conflict},
    {410, "Gone", Error::compacted},
    {410, "Expired", Error::expired},
    {413, "RequestEntityTooLarge", Error::too_large},
    {415, "UnsupportedMediaType", Error::unsupported},
    {422, "Invalid", Error::invalid},
    {429, "TooManyRequests", Error::overloaded},
    {500, "InternalError", Error::internal},
    {503, "ServiceUnavailable", Error::unavailable},
    {504, "Timeout", Error::deadline_exceeded},
    {504, "Timeout", Error::unknown_outcome},
    {504, "Timeout", Error::future},
    {500, "ServerTimeout", Error::deadline_exceeded},
    {507, "InsufficientStorage", Error::no_space},
};

Error::Code code_of(const Status& status) {
  for (const CodeRow& row : kCodes) {
    if (status.code == row.http && status.reason == row.reason) return row.code;
  }
  for (const CodeRow& row : kCodes) {
    if (status.code == row.http) return row.code;
  }
  return status.code >= 500 ? Error::internal : Error::invalid;
}

std::string quoted(std::string_view text) { return json::serialize(json::string(text)); }

StatusDetails about(const ResourceName& resource, std::string_view name) {
  return {.name = std::string(name), .group = resource.group, .kind = resource.resource};
}

Error failure(int code, std::string_view reason, std::string_view message, StatusDetails details = {}) {
  return status_error(make_status(code, reason, message, std::move(details)));
}

}  // namespace

Status make_status(int code, std::string_view reason, std::string_view message, StatusDetails details) {
  json::object tree{
      {"kind", "Status"}, {"apiVersion", "v1"}, {"metadata", json::object()}, {"status", "Failure"}};
  tree["message"] = message;
  if (!reason.empty()) tree["reason"] = reason;
  json::object about = details_tree(details);
  if (!about.empty()) tree["details"] = std::move(about);
  tree["code"] = code;
  return {
      .code = code, .reason = std::string(reason), .message = std::string(message), .json = to_json(tree)};
}

std::string success_status(StatusDetails details) {
  json::object tree{
      {"kind", "Status"}, {"apiVersion", "v1"}, {"metadata", json::object()}, {"status", "Success"}};
  json::object about = details_tree(details);
  if (!about.empty()) tree["details"] = std::move(about);
  return to_json(tree);
}

Error status_error(Status status) {
  Error error(code_of(status), kDomain, status.message);
  return error.with_detail<Status>(std::move(status));
}

Status status_of(const Error& error) {
  for (const Error* each = &error; each != nullptr; each = each->cause()) {
    if (const Status* status = each->detail<Status>()) return *status;
  }
  for (const CodeRow& row : kCodes) {
    if (row.code != error.code() || row.code == Error::internal) continue;
    StatusDetails details;
    if (row.code == Error::overloaded) details.retry_after_seconds = 1;
    return make_status(row.http, row.reason, error.to_string(), std::move(details));
  }
  const std::string message = "Internal error occurred: " + error.to_string();
  return make_status(500, "InternalError", message, {.causes = {{.message = error.to_string()}}});
}

std::optional<Status> parse_status(std::string_view text) {
  const Result<json::value> parsed = parse_json(text);
  if (!parsed || string_at(*parsed, "/kind") != "Status") return std::nullopt;
  Status status;
  status.code = static_cast<int>(int_at(*parsed, "/code", 500));
  status.reason = string_at(*parsed, "/reason");
  status.message = string_at(*parsed, "/message");
  status.json = text;
  return status;
}

Error bad_request(std::string_view message) { return failure(400, "BadRequest", message); }

Error cannot_be_handled(std::string_view kind, std::string_view version, std::string_view why) {
  return bad_request(std::string(kind) + " in version " + quoted(version) + " cannot be handled as a " +
                     std::string(kind) + ": " + std::string(why));
}

std::vector<std::string> strict_warnings(const std::vector<std::string>& unknown,
                                         const std::vector<std::string>& duplicate) {
  std::vector<std::string> out;
  for (const std::string& path : duplicate) out.push_back("duplicate field " + quoted(path));
  for (const std::string& path : unknown) out.push_back("unknown field " + quoted(path));
  return out;
}

Error strict_decoding_error(std::string_view kind, std::string_view version,
                            const std::vector<std::string>& unknown,
                            const std::vector<std::string>& duplicate) {
  std::string why = "strict decoding error: ";
  bool first = true;
  for (const std::string& each : strict_warnings(unknown, duplicate)) {
    if (!std::exchange(first, false)) why += ", ";
    why += each;
  }
  return cannot_be_handled(kind, version, why);
}

Error unauthorized() { return failure(401, "Unauthorized", "Unauthorized"); }

Error forbidden(const ResourceName& resource, std::string_view name, std::string_view why) {
  std::string message = "forbidden: " + std::string(why);
  if (!resource.resource.empty()) {
    message = resource.to_string() + (name.empty() ? "" : " " + quoted(name)) + " is " + message;
  }
  return failure(403, "Forbidden", message, about(resource, name));
}

std::string cannot_do(std::string_view user, std::string_view verb, const ResourceName& resource,
                      std::string_view subresource, std::string_view ns) {
  const std::string what =
      subresource.empty() ? resource.resource : resource.resource + "/" + std::string(subresource);
  return "User " + quoted(user) + " cannot " + std::string(verb) + " resource " + quoted(what) +
         " in API group " + quoted(resource.group) +
         (ns.empty() ? " at the cluster scope" : " in the namespace " + quoted(ns));
}

Error not_found(const ResourceName& resource, std::string_view name) {
  return failure(404, "NotFound", resource.to_string() + " " + quoted(name) + " not found",
                 about(resource, name));
}

Error unknown_path() { return failure(404, "NotFound", "the server could not find the requested resource"); }

Error already_exists(const ResourceName& resource, std::string_view name) {
  return failure(409, "AlreadyExists", resource.to_string() + " " + quoted(name) + " already exists",
                 about(resource, name));
}

Error conflict(const ResourceName& resource, std::string_view name, std::string_view why) {
  if (why.empty()) {
    why = "the object has been modified; please apply your changes to the latest version and try again";
  }
  return failure(409, "Conflict",
                 "Operation cannot be fulfilled on " + resource.to_string() + " " + quoted(name) + ": " +
                     std::string(why),
                 about(resource, name));
}

Error invalid(std::string_view group, std::string_view kind, std::string_view name,
              const FieldErrors& errors) {
  std::string message = std::string(kind) + (group.empty() ? "" : "." + std::string(group)) + " " +
                        quoted(name) + " is invalid";
  StatusDetails details{.name = std::string(name), .group = std::string(group), .kind = std::string(kind)};
  std::set<std::string> seen;
  std::vector<std::string> texts;
  for (const FieldError& error : errors) {
    details.causes.push_back({.reason = error.reason(), .message = error.body(), .field = error.path});
    std::string text = error.to_string();
    if (seen.insert(text).second) texts.push_back(std::move(text));
  }
  if (texts.size() == 1) message += ": " + texts.front();
  if (texts.size() > 1) {
    message += ": [";
    for (std::size_t i = 0; i < texts.size(); ++i) message += (i > 0 ? ", " : "") + texts[i];
    message += "]";
  }
  return failure(422, "Invalid", message, std::move(details));
}

Error gone(std::string_view message) { return failure(410, "Gone", message); }
Error expired(std::string_view message) { return failure(410, "Expired", message); }

Error method_not_allowed(const ResourceName& resource, std::string_view verb) {
  return failure(405, "MethodNotAllowed",
                 std::string(verb) + " is not supported on resources of kind " + quoted(resource.to_string()),
                 about(resource, {}));
}
Error not_acceptable(std::string_view message) { return failure(406, "NotAcceptable", message); }
Error too_large(std::string_view message) { return failure(413, "RequestEntityTooLarge", message); }
Error unsupported_media_type(std::string_view message) {
  return failure(415, "UnsupportedMediaType", message);
}

Error too_many_requests(std::string_view message, int retry_after_seconds, std::vector<StatusCause> causes) {
  return failure(429, "TooManyRequests", message,
                 {.causes = std::move(causes), .retry_after_seconds = retry_after_seconds});
}
Error internal_error(std::string_view message) {
  return failure(500, "InternalError", "Internal error occurred: " + std::string(message),
                 {.causes = {{.message = std::string(message)}}});
}
Error service_unavailable(std::string_view message) { return failure(503, "ServiceUnavailable", message); }
Error insufficient_storage(std::string_view message) { return failure(507, "InsufficientStorage", message); }
Error timed_out(std::string_view message) {
  return failure(504, "Timeout", "Timeout: " + std::string(message));
}

Error future_resource_version(std::string_view asked, std::string_view current) {
  const std::string message =
      "Timeout: Too large resource version: " + std::string(asked) + ", current: " + std::string(current);
  StatusDetails details{
      .causes = {{.reason = "ResourceVersionTooLarge", .message = "Too large resource version"}},
      .retry_after_seconds = 1};
  return failure(504, "Timeout", message, std::move(details));
}

}  // namespace orchestra::api
