// Calls and replies: see call.hpp.
#include "apiserver/call.hpp"

#include <algorithm>

#include "api/status.hpp"

namespace orchestra::apiserver {

bool Identity::in_group(std::string_view group) const {
  return std::find(groups.begin(), groups.end(), group) != groups.end();
}
Identity Identity::masters() { return {"system:admin", "", {"system:masters", "system:authenticated"}, {}}; }
Identity Identity::server() {
  Identity self = masters();
  self.user = "system:apiserver";
  self.own = true;
  return self;
}
Identity Identity::anonymous() { return {"system:anonymous", "", {"system:unauthenticated"}, {}}; }

Reply error_reply(const Error& error) {
  Status status = api::status_of(error);
  Reply reply;
  reply.code = status.code;
  // A blocked eviction says nothing about when to try again: clients would wait for us instead of their user.
  const bool may = status.code == 429 || status.code == 409;
  const bool again =
      status.code == 503 || (may && status.json.find("\"retryAfterSeconds\":") != std::string::npos);
  if (again) reply.headers.emplace_back("Retry-After", "1");
  reply.body = std::move(status.json);
  return reply;
}

Error store_error(const Error& error) {
  if (error.detail<Status>() != nullptr) return error;
  switch (error.code()) {
    case Error::unknown_outcome:
    case Error::deadline_exceeded:
      return api::timed_out("the store did not confirm the write, it may or may not have been applied: " +
                            error.to_string());
    case Error::unavailable:
    case Error::not_leader:
    case Error::cancelled:
      return api::service_unavailable("the store is not available: " + error.to_string());
    case Error::overloaded:
      return api::too_many_requests("the store has too much to do: " + error.to_string());
    case Error::too_large:
    case Error::resource_exhausted:
      return api::too_large("the object does not fit into the store: " + error.to_string());
    case Error::compacted:
      return api::expired("The provided resource version is too old: " + error.message());
    case Error::no_space:
      return api::insufficient_storage("the store has no space left: " + error.to_string());
    default:
      return api::internal_error(error.to_string());
  }
}

}  // namespace orchestra::apiserver
