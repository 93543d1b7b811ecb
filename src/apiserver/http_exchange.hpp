#pragma once
// One HTTP request being answered; internal to the front.
#include "apiserver/audit/audit.hpp"
#include "apiserver/http_front.hpp"

namespace orchestra::apiserver {

struct HttpFront::Exchange {
  HttpServerRequest request;
  std::shared_ptr<HttpResponder> responder;
  RequestInfo info;
  Identity user;
  std::shared_ptr<AuditRecord> audit;  ///< null: not audited
  std::int64_t began_ns = 0;
  AuditNotes* notes() const { return audit == nullptr ? nullptr : audit->notes().get(); }
  std::string header(const std::string& name) const { return request.header(name); }
};

}  // namespace orchestra::apiserver
