#include "tests/auth/served.hpp"

#include "net/http/http_server.hpp"

namespace orchestra::test {

std::shared_ptr<HttpClient> Served::make_client() { return make_http_client(engine); }

HttpResponse Served::request_token(const std::string& ns, const std::string& account,
                                   const std::string& spec) {
  ApiRequest request;
  request.verb = "create";
  request.resource = "serviceaccounts";
  request.subresource = "token";
  request.ns = ns;
  request.name = account;
  request.body =
      "{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"TokenRequest\",\"spec\":" + spec + "}";
  auto answer = admin.request(request).wait(30s);
  HttpResponse out;
  if (answer) {
    out.status = answer->code;
    out.body = answer->body;
  } else {
    const Status* status = answer.error().detail<Status>();
    REQUIRE_MESSAGE(status != nullptr, answer.error().to_string());
    out.status = status->code;
    out.body = status->json;
  }
  return out;
}

std::string Served::token(const std::string& ns, const std::string& account, const std::string& spec) {
  const HttpResponse answer = request_token(ns, account, spec);
  REQUIRE_MESSAGE(answer.status == 201, answer.body);
  return string_at(parse_json(answer.body).value(), "/status/token");
}

}  // namespace orchestra::test
