// The Status of each row of the error table, word for word, and its way through Error.
#include "api/status.hpp"

#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::api;

namespace {
const ResourceName kPods{"", "pods"};
const ResourceName kDeployments{"apps", "deployments"};
std::string text(const Error& error) {
  const Status status = status_of(error);
  return std::to_string(status.code) + " " + status.reason + ": " + status.message;
}
}  // namespace

TEST_CASE("errors have upstream's words") {
  const std::pair<Error, const char*> cases[] = {
      {not_found(kPods, "p"), "404 NotFound: pods \"p\" not found"},
      {not_found(kDeployments, "d"), "404 NotFound: deployments.apps \"d\" not found"},
      {unknown_path(), "404 NotFound: the server could not find the requested resource"},
      {already_exists(ResourceName{"", "configmaps"}, "c"),
       "409 AlreadyExists: configmaps \"c\" already exists"},
      {conflict(kDeployments, "d"),
       "409 Conflict: Operation cannot be fulfilled on deployments.apps \"d\": the object has been modified; "
       "please apply "
       "your changes to the latest version and try again"},
      {forbidden(kPods, "p", cannot_do("u", "get", kPods, "", "n")),
       "403 Forbidden: pods \"p\" is forbidden: User \"u\" cannot get resource \"pods\" in API group \"\" in "
       "the namespace \"n\""},
      {forbidden(kPods, "", cannot_do("u", "list", kPods, "log", "")),
       "403 Forbidden: pods is forbidden: User \"u\" cannot list resource \"pods/log\" in API group \"\" at "
       "the cluster scope"},
      {strict_decoding_error("Deployment", "v1", {"spec.foo"}, {"spec.replicas"}),
       "400 BadRequest: Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding "
       "error: duplicate "
       "field \"spec.replicas\", unknown field \"spec.foo\""},
      {unauthorized(), "401 Unauthorized: Unauthorized"},
      {method_not_allowed(kPods, "create"),
       "405 MethodNotAllowed: create is not supported on resources of kind \"pods\""},
      {too_many_requests("slow down"), "429 TooManyRequests: slow down"},
      {insufficient_storage("full"), "507 InsufficientStorage: full"},
      {future_resource_version("9", "3"), "504 Timeout: Timeout: Too large resource version: 9, current: 3"},
  };
  for (const auto& [error, expected] : cases) CHECK(text(error) == expected);
}

TEST_CASE("an invalid object lists each broken rule as a cause") {
  FieldErrors errors;
  errors.required(FieldPath("spec"));
  CHECK(text(invalid("apps", "Deployment", "d", errors)) ==
        "422 Invalid: Deployment.apps \"d\" is invalid: spec: Required value");
  errors.invalid(FieldPath("kind"), "x", "must be y");
  const Status status = status_of(invalid("", "Pod", "p", errors));
  CHECK(status.message ==
        "Pod \"p\" is invalid: [spec: Required value, kind: Invalid value: \"x\": must be y]");
  CHECK(
      status.json ==
      R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Pod \"p\" is invalid: [spec: Required value, kind: Invalid value: \"x\": must be y]","reason":"Invalid","details":{"name":"p","kind":"Pod","causes":[{"reason":"FieldValueRequired","message":"Required value","field":"spec"},{"reason":"FieldValueInvalid","message":"Invalid value: \"x\": must be y","field":"kind"}]},"code":422})");
}

TEST_CASE("errors of other areas become a Status of their code") {
  CHECK(status_of(Error(Error::unknown_outcome, "store", "?")).code == 504);
  CHECK(status_of(Error(Error::unavailable, "store", "?")).code == 503);
  CHECK(status_of(Error(Error::not_found, "store", "?")).code == 404);
  CHECK(status_of(Error(Error::corrupt, "store", "bad page")).message == "Internal error occurred: bad page");
  CHECK(not_found(kPods, "p").is(Error::not_found));
  CHECK(expired().is(Error::expired));
  CHECK(conflict(kPods, "p").is(Error::conflict));
}

TEST_CASE("a Status that a server sent reads back") {
  const Status sent = status_of(not_found(kPods, "p"));
  const auto read = parse_status(sent.json);
  REQUIRE(read.has_value());
  CHECK(read->code == 404);
  CHECK(status_error(*read).is(Error::not_found));
  CHECK_FALSE(parse_status("{\"kind\":\"Pod\"}").has_value());
  CHECK_FALSE(parse_status("<html>").has_value());
}

TEST_CASE("field paths print as upstream does") {
  const FieldPath spec("spec");
  const FieldPath list = spec / "containers";
  const FieldPath item = list[2];
  CHECK((item / "name").to_string() == "spec.containers[2].name");
  CHECK(spec.key("a/b").to_string() == "spec[a/b]");
  CHECK(FieldPath().to_string() == "<nil>");
}
