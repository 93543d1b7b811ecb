// A cluster signs what is approved with its own authority: the controllers and the API server's key, wired.
#include "api/x509/request.hpp"
#include "base/base64.hpp"
#include "tests/cluster/control_plane.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

TEST_CASE("a cluster signs the certificate request that was approved") {
  test::ControlPlane plane;
  const Client client = plane.client();
  const auto asked = api::make_certificate_request({.common_name = "jane", .organizations = {"dev"}});
  REQUIRE(asked);
  const auto request = Object::from_yaml(
      "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {name: jane}\nspec: "
      "{request: " +
      encode_base64_text(asked->request_pem) +
      ", signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}\n");
  REQUIRE(request);
  REQUIRE(client.create(*request).wait(30s));
  WriteOptions approval;
  approval.subresource = "approval";
  REQUIRE(client
              .patch("certificates.k8s.io/v1", "certificatesigningrequests", "jane", "", PatchType::merge,
                     R"({"status":{"conditions":[{"type":"Approved","status":"True","reason":"ByHand"}]}})",
                     approval)
              .wait(30s));
  std::string certificate;
  CHECK(test::until([&] {
    const auto seen = client.get("certificates.k8s.io/v1", "certificatesigningrequests", "jane").wait(30s);
    certificate = seen ? seen->get("/status/certificate").value_or("") : "";
    return !certificate.empty();
  }));
  const auto pem = decode_base64_text(certificate);
  REQUIRE(pem);
  CHECK(pem->find("BEGIN CERTIFICATE") != std::string::npos);
  CHECK(api::check_certificate_chain(*pem));
}
