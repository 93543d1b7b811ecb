#pragma once
// metav1.Status in the exact words of upstream (apimachinery/pkg/api/errors), and its two-way translation to
// Error: every error that a request can end with is made here, carries a Status as detail<Status>(), and has
// a code that programs can switch on.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/field_error.hpp"
#include "api/types.hpp"
#include "orchestra/error.hpp"
#include "orchestra/object.hpp"

namespace orchestra::api {

/// Group and plural resource, as errors name it: "deployments.apps".
struct ResourceName {
  std::string group, resource;
  ResourceName(std::string g, std::string r) : group(std::move(g)), resource(std::move(r)) {}
  ResourceName(const TypeRecord& record) : group(record.group), resource(record.plural) {}
  std::string to_string() const { return group.empty() ? resource : resource + "." + group; }
};

struct StatusCause {
  std::string reason, message, field;
};
struct StatusDetails {
  std::string name, group, kind, uid;
  std::vector<StatusCause> causes;
  int retry_after_seconds = 0;
};

/// Any failure Status.
ORC_API Status make_status(int code, std::string_view reason, std::string_view message,
                           StatusDetails details = {});
/// {"kind":"Status","status":"Success",...} as JSON; `details` for deletions.
ORC_API std::string success_status(StatusDetails details = {});

/// The error that carries `status` as detail<Status>(); its code follows from reason and HTTP code.
ORC_API Error status_error(Status status);
/// The Status of any error: its detail, or one made from its code (internal -> 500 InternalError, ...).
ORC_API Status status_of(const Error& error);
/// A Status from JSON text that a server sent (RemoteClient).
ORC_API std::optional<Status> parse_status(std::string_view json);

// One function per row of the error table (spec 4). All give errors with detail<Status>().
ORC_API Error bad_request(std::string_view message);
/// `Deployment in version "v1" cannot be handled as a Deployment: ...`
ORC_API Error cannot_be_handled(std::string_view kind, std::string_view version, std::string_view why);
/// strict decoding error: unknown field "spec.foo", duplicate field "spec.replicas"
ORC_API Error strict_decoding_error(std::string_view kind, std::string_view version,
                                    const std::vector<std::string>& unknown,
                                    const std::vector<std::string>& duplicate);
/// `unknown field "spec.foo"`: the texts of warnings in mode Warn.
ORC_API std::vector<std::string> strict_warnings(const std::vector<std::string>& unknown,
                                                 const std::vector<std::string>& duplicate);
ORC_API Error unauthorized();
/// `pods "p" is forbidden: WHY`; without a name `pods is forbidden: WHY`.
ORC_API Error forbidden(const ResourceName& resource, std::string_view name, std::string_view why);
/// `User "u" cannot get resource "pods" in API group "" in the namespace "n"` as WHY of forbidden().
ORC_API std::string cannot_do(std::string_view user, std::string_view verb, const ResourceName& resource,
                              std::string_view subresource, std::string_view ns);
ORC_API Error not_found(const ResourceName& resource, std::string_view name);
ORC_API Error unknown_path();  ///< the server could not find the requested resource
ORC_API Error already_exists(const ResourceName& resource, std::string_view name);
/// Without `why`: the object has been modified; please apply your changes to the latest version and try again
ORC_API Error conflict(const ResourceName& resource, std::string_view name, std::string_view why = {});
/// 422 `Pod "p" is invalid: ...`
ORC_API Error invalid(std::string_view group, std::string_view kind, std::string_view name,
                      const FieldErrors& errors);
ORC_API Error gone(std::string_view message);
ORC_API Error expired(std::string_view message = "The resourceVersion for the provided watch is too old.");
ORC_API Error method_not_allowed(const ResourceName& resource, std::string_view verb);
ORC_API Error not_acceptable(std::string_view message);
ORC_API Error too_large(std::string_view message);
ORC_API Error unsupported_media_type(std::string_view message);
ORC_API Error too_many_requests(std::string_view message, int retry_after_seconds = 1,
                                std::vector<StatusCause> causes = {});
ORC_API Error internal_error(std::string_view message);
ORC_API Error service_unavailable(std::string_view message);
/// 507 without Retry-After: a client that asked again at once would only hide the reason from its user.
Error insufficient_storage(std::string_view message);
ORC_API Error timed_out(std::string_view message);
/// 504 with cause ResourceVersionTooLarge.
ORC_API Error future_resource_version(std::string_view asked, std::string_view current);

}  // namespace orchestra::api
