#pragma once
// One HTTP request being answered; internal to the front.
#include <atomic>

#include "apiserver/audit/audit.hpp"
#include "apiserver/http_front.hpp"

namespace orchestra::apiserver {

struct HttpFront::Exchange {
  std::string deprecation;  ///< of the version that is asked for; empty: none
  HttpServerRequest request;
  std::shared_ptr<HttpResponder> responder;
  RequestInfo info;
  Identity user;
  std::shared_ptr<AuditRecord> audit;  ///< null: not audited
  std::int64_t began_ns = 0;
  std::int64_t deadline_ns = 0;     ///< 0: none, what takes long by its nature
  std::atomic<bool> served{false};  ///< of what path and verb name there is a resource
  std::atomic<bool> answered{false};
  std::atomic<Engine::TimerId> timer{0};
  AuditNotes* notes() const { return audit == nullptr ? nullptr : audit->notes().get(); }
  std::string header(const std::string& name) const { return request.header(name); }
};

}  // namespace orchestra::apiserver
