// The pure codecs of the API server: paths, store keys, stored objects, tokens, certificates.
#include "apiserver/continue_token.hpp"
#include "apiserver/pki.hpp"
#include "apiserver/request_path.hpp"
#include "apiserver/store_key.hpp"
#include "apiserver/stored_object.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::apiserver;

TEST_CASE("a namespaced resource path gives verb, group, namespace, name and subresource") {
  const auto get = parse_request("GET", "/apis/apps/v1/namespaces/shop/deployments/web/scale?pretty=true");
  REQUIRE(get);
  CHECK(get->is_resource);
  CHECK(get->verb == "get");
  CHECK(get->group == "apps");
  CHECK(get->version == "v1");
  CHECK(get->ns == "shop");
  CHECK(get->resource == "deployments");
  CHECK(get->name == "web");
  CHECK(get->subresource == "scale");
}

TEST_CASE("namespaces are both a resource and a scope") {
  CHECK(parse_request("GET", "/api/v1/namespaces")->verb == "list");
  const auto one = parse_request("GET", "/api/v1/namespaces/shop");
  CHECK(one->resource == "namespaces");
  CHECK(one->name == "shop");
  CHECK(one->ns.empty());
  const auto finalize = parse_request("PUT", "/api/v1/namespaces/shop/finalize");
  CHECK(finalize->resource == "namespaces");
  CHECK(finalize->subresource == "finalize");
  CHECK(parse_request("DELETE", "/api/v1/namespaces/shop/pods")->verb == "deletecollection");
}

TEST_CASE("both forms of a watch are recognised") {
  CHECK(parse_request("GET", "/api/v1/pods?watch=1")->verb == "watch");
  CHECK(parse_request("GET", "/api/v1/pods?watch=True")->verb == "watch");
  CHECK(parse_request("GET", "/api/v1/pods?watch=false")->verb == "list");
  const auto old = parse_request("GET", "/api/v1/watch/namespaces/shop/pods/web");
  CHECK(old->verb == "watch");
  CHECK(query_value(old->query, "fieldSelector") == "metadata.name=web");
}

TEST_CASE("broken escapes and traversal are refused") {
  CHECK_FALSE(parse_request("GET", "/api/v1/pods/%zz"));
  CHECK_FALSE(parse_request("GET", "/api/v1/../secrets"));
  CHECK_FALSE(parse_request("GET", "/api/v1/%2e%2e/secrets"));
  CHECK_FALSE(parse_request("GET", "api/v1"));
}

TEST_CASE("a stored object keeps what selectors need and takes its revision when it is read") {
  const auto tree = parse_json(R"({"kind":"Pod","metadata":{"name":"web","uid":"u1","resourceVersion":"7",
      "labels":{"app":"web","empty":""}},"spec":{"a":1},"apiVersion":"v1"})");
  REQUIRE(tree);
  const std::string bytes = encode_stored(*tree, {{"spec.nodeName", "n1"}});
  const auto view = decode_stored(bytes);
  REQUIRE(view);
  CHECK(view->uid == "u1");
  CHECK(view->label("app") == std::string_view("web"));
  CHECK(view->label("empty") == std::string_view(""));
  CHECK_FALSE(view->label("none"));
  CHECK(view->field("spec.nodeName") == std::string_view("n1"));
  CHECK(json_with_revision(*view, 42) ==
        R"({"apiVersion":"v1","kind":"Pod","metadata":{"resourceVersion":"42","name":"web","uid":"u1",)"
        R"("labels":{"app":"web","empty":""}},"spec":{"a":1}})");
}

TEST_CASE("a cut or foreign stored value is called damaged, whatever byte is missing") {
  const auto tree =
      parse_json(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"w","labels":{"a":"b"}}})");
  const std::string bytes = encode_stored(*tree, {});
  for (std::size_t size = 0; size < bytes.size(); ++size) CHECK_FALSE(decode_stored(bytes.substr(0, size)));
  CHECK_FALSE(decode_stored("not an object at all, but long enough for a frame"));
}

TEST_CASE("continue tokens open only with the secret that sealed them") {
  const std::string token = seal_continue({77, "/orchestra/objects/core/pods/a/b"}, "secret");
  const auto opened = open_continue(token, "secret");
  REQUIRE(opened);
  CHECK(opened->revision == 77);
  CHECK(opened->last_key == "/orchestra/objects/core/pods/a/b");
  CHECK_FALSE(open_continue(token, "other"));
  CHECK_FALSE(open_continue(token.substr(1), "secret"));
  CHECK_FALSE(open_continue("", "secret"));
}

TEST_CASE("the authority survives a restart and keeps its key to itself") {
  test::TempDir folder;
  std::string first;
  {
    auto pki = Pki::open(real_clock(), real_random(), {.directory = folder / "pki"});
    REQUIRE(pki);
    first = (*pki)->ca_pem();
    auto server = (*pki)->issue_server("kube-apiserver", {"127.0.0.1", "kubernetes.default.svc"});
    REQUIRE(server);
    CHECK(server->certificate_pem.find("BEGIN CERTIFICATE") != std::string::npos);
  }
  auto again = Pki::open(real_clock(), real_random(), {.directory = folder / "pki"});
  REQUIRE(again);
  CHECK((*again)->ca_pem() == first);
  const auto mode = std::filesystem::status(folder / "pki/ca.key").permissions();
  CHECK((mode & std::filesystem::perms::mask) ==
        (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
}

TEST_CASE("base64 round trips and refuses what it did not make") {
  CHECK(base64_encode("ab") == "YWI=");
  CHECK(base64_decode("YWI=") == "ab");
  CHECK(base64_decode("YWI") == "ab");
  CHECK_FALSE(base64_decode("Y"));
  CHECK_FALSE(base64_decode("Y W="));
}
