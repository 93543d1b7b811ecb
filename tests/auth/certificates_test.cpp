// From a bootstrap token to a node's certificate and what it then may do, on a whole server with controllers.
#include <thread>

#include "api/x509/request.hpp"
#include "base/base64.hpp"
#include "orchestra/controllers.hpp"
#include "tests/auth/served.hpp"

using namespace orchestra;
using namespace orchestra::test;

namespace {
const std::string kClient = "kubernetes.io/kube-apiserver-client-kubelet";

std::string request_yaml(const std::string& name, const std::string& pem, const std::string& signer,
                         const std::string& usages, const std::string& more = "") {
  return "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {name: " + name +
         "}\nspec: {request: " + encode_base64_text(pem) + ", signerName: " + signer + ", usages: [" +
         usages + "]" + more + "}\n";
}
api::NewCertificateRequest node_request(const std::string& node) {
  return api::make_certificate_request(
             {.common_name = "system:node:" + node, .organizations = {"system:nodes"}})
      .value();
}

struct Joined : Served {
  Controllers controllers;
  Joined()
      : controllers(engine, admin,
                    {.enable = {"certificatesigningrequest-approver", "certificatesigningrequest-signer",
                                "certificatesigningrequest-cleaner"},
                     .sign_certificate = [this](const std::string& pem,
                                                const std::vector<std::string>& usages, Duration life) {
                       return server.sign_certificate(pem, usages, life);
                     }}) {
    REQUIRE(controllers.start());
  }
  ~Joined() { controllers.stop(); }
  Client with(const std::string& token) {
    return RemoteClient::connect(
        engine, {.server = "https://" + server.address(), .ca_pem = server.ca_pem(), .token = token});
  }
  Client with(const std::string& certificate, const std::string& key) {
    return RemoteClient::connect(engine, {.server = "https://" + server.address(),
                                          .ca_pem = server.ca_pem(),
                                          .certificate_pem = certificate,
                                          .key_pem = key});
  }
  /// Waits until the condition or the certificate is there.
  Object settled(const std::string& name) {
    for (;;) {
      auto seen = admin.get("certificates.k8s.io/v1", "certificatesigningrequests", name).wait(30s);
      REQUIRE(seen);
      if (seen->get("/status/certificate") ||
          seen->get("/status/conditions/0/reason") == "SignerValidationFailure" ||
          seen->get("/status/conditions/1/type") == "Failed")
        return *seen;
      std::this_thread::yield();
    }
  }
  std::string certificate(const Object& request) {
    return decode_base64_text(request.get("/status/certificate").value()).value();
  }
  Result<Object> approve(const Client& client, const std::string& name,
                         const std::string& type = "Approved") {
    auto seen = admin.get("certificates.k8s.io/v1", "certificatesigningrequests", name).wait(30s);
    REQUIRE(seen);
    return client
        .patch("certificates.k8s.io/v1", "certificatesigningrequests", name, "", PatchType::merge,
               R"({"status":{"conditions":[{"type":")" + type +
                   R"(","status":"True","reason":"ByHand","message":"m"}]}})",
               {.subresource = "approval"})
        .wait(30s);
  }
};

const char* kToken =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: bootstrap-token-abcdef, namespace: kube-system}\n"
    "type: bootstrap.kubernetes.io/token\n"
    "stringData: {token-id: abcdef, token-secret: 0123456789abcdef, usage-bootstrap-authentication: "
    "'true'}\n";
}  // namespace

TEST_CASE("a bootstrap token is all that a node needs to join") {
  Joined joined;
  joined.make(kToken);
  const Client bootstrap = joined.with("abcdef.0123456789abcdef");
  const auto wanted = node_request("n1");
  const std::string yaml = request_yaml("n1", wanted.request_pem, kClient, "digital signature, client auth",
                                        ", username: somebody");
  REQUIRE(joined.try_make(bootstrap, yaml) == "ok");
  const Object answered = joined.settled("n1");
  CHECK(answered.get("/spec/username") == "system:bootstrap:abcdef");  // not what the body said
  CHECK(answered.get("/spec/groups/0") == "system:bootstrappers");
  CHECK(answered.get("/status/conditions/0/reason") == "AutoApproved");
  CHECK(answered.get("/status/conditions/0/lastTransitionTime"));
  const Client node = joined.with(joined.certificate(answered), wanted.key_pem);
  // It registers itself, follows its pods, and keeps its lease.
  CHECK(joined.try_make(node, "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n") == "ok");
  CHECK(joined.try_make(node, "apiVersion: v1\nkind: Node\nmetadata: {name: n2}\n") ==
        "403 nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\"");
  CHECK(joined.try_make(node,
                        "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: n1, namespace: "
                        "kube-node-lease}\nspec: {holderIdentity: n1}\n") == "ok");
  ListOptions mine;
  mine.fields = "spec.nodeName=n1";
  CHECK(node.list("v1", "pods", mine).wait(30s));
  CHECK_FALSE(node.list("v1", "pods").wait(30s));
  // The next certificate it asks for itself.
  const auto next = node_request("n1");
  REQUIRE(joined.try_make(node, request_yaml("n1-next", next.request_pem, kClient,
                                             "digital signature, client auth")) == "ok");
  const Object renewed = joined.settled("n1-next");
  CHECK(renewed.get("/status/conditions/0/message") ==
        "Auto approving self kubelet client certificate after SubjectAccessReview.");
  CHECK(joined.with(joined.certificate(renewed), next.key_pem).get("v1", "nodes", "n1").wait(30s));
  // Another node's is not approved.
  const auto other = node_request("n2");
  REQUIRE(joined.try_make(node, request_yaml("n2", other.request_pem, kClient,
                                             "digital signature, client auth")) == "ok");
  for (;;) {
    const auto decision = joined.controllers.decision("certificatesigningrequest-approver", "n2");
    if (decision && !decision->reason.empty()) {
      CHECK(decision->reason ==
            "not approved: \"system:node:n1\" may not create certificatesigningrequests/nodeclient");
      break;
    }
    std::this_thread::yield();
  }
}

TEST_CASE("a pod's secrets are its node's, live, and end with it") {
  Served served;
  served.make("apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: default}\nstringData: {a: b}\n");
  const Client node = served.server.client_as("system:node:n1", {"system:nodes"});
  const auto secret = [&] { return Served::answer(node.get("v1", "secrets", "s", "default").wait(30s)); };
  const std::string refused =
      "403 secrets \"s\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in API group "
      "\"\" in "
      "the namespace \"default\": no relationship found between node 'n1' and this object";
  CHECK(secret() == refused);
  served.make(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\nspec: {nodeName: n1, containers: "
      "[{name: c, image: x, envFrom: [{secretRef: {name: s}}]}]}\n");
  CHECK(secret() == "ok");
  ListOptions one;
  one.ns = "default";
  one.fields = "metadata.name=s";
  CHECK(node.list("v1", "secrets", one).wait(30s));
  one.fields = "metadata.name!=s";
  CHECK_FALSE(node.list("v1", "secrets", one).wait(30s));
  // Its status and its eviction are the node's, those of others not.
  served.make(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: q, namespace: default}\nspec: {nodeName: n2, containers: "
      "[{name: c, image: x}]}\n");
  const auto status = [&](const std::string& pod, const std::string& patch) {
    return Served::answer(
        node.patch("v1", "pods", pod, "default", PatchType::merge, patch, {.subresource = "status"})
            .wait(30s));
  };
  CHECK(status("p", R"({"status":{"phase":"Running"}})") == "ok");
  CHECK(status("p", R"({"metadata":{"labels":{"a":"b"}}})") ==
        "403 pods \"p\" is forbidden: node \"n1\" cannot update labels through pod status");
  CHECK(status("q", R"({"status":{"phase":"Running"}})") ==
        "403 pods \"q\" is forbidden: node \"n1\" can only update pod status for pods with spec.nodeName set "
        "to "
        "itself");
  const auto removed = [&](const std::string& pod) {
    const auto answer = node.remove("v1", "pods", pod, "default", {.grace_period_seconds = 0}).wait(30s);
    if (answer) return std::string("ok");
    return std::to_string(answer.error().detail<Status>()->code) + " " +
           answer.error().detail<Status>()->message;
  };
  CHECK(removed("q") ==
        "403 pods \"q\" is forbidden: node \"n1\" can only delete pods with spec.nodeName set to itself");
  CHECK(removed("p") == "ok");
  CHECK(secret() == refused);
}

TEST_CASE("a node asks for tokens of its pods, bound to them") {
  Served served;
  const Object mine = served.make(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\nspec: {nodeName: n1, containers: "
      "[{name: c, image: x}]}\n");
  served.make(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: q, namespace: default}\nspec: {nodeName: n2, containers: "
      "[{name: c, image: x}]}\n");
  const Client node = served.server.client_as("system:node:n1", {"system:nodes"});
  const auto token = [&](const std::string& spec) {
    ApiRequest request;
    request.verb = "create";
    request.resource = "serviceaccounts";
    request.subresource = "token";
    request.ns = "default";
    request.name = "default";
    request.body = R"({"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":)" + spec + "}";
    const auto answer = node.request(request).wait(30s);
    if (answer) return std::string("ok");
    return answer.error().detail<Status>()->message;
  };
  const std::string uid = mine.uid();
  const std::string start = "serviceaccounts \"default\" is forbidden: ";
  CHECK(token(R"({"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"p","uid":")" + uid + R"("}})") ==
        "ok");
  CHECK(token("{}") == start + "node requested token not bound to a pod");
  CHECK(token(R"({"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"p"}})") ==
        start + "node requested token with a pod binding without a uid");
  auto other = served.admin.get("v1", "pods", "q", "default").wait(30s);
  REQUIRE(other);
  CHECK(token(R"({"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"q","uid":")" + other->uid() +
              R"("}})") == start + "node requested token bound to a pod scheduled on a different node");
}

TEST_CASE("a node makes mirror pods of its own and labels of its own") {
  Served served;
  const Client node = served.server.client_as("system:node:n1", {"system:nodes"});
  const auto attempt = [&](const std::string& yaml) { return served.try_make(node, yaml); };
  CHECK(attempt("apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {kubernetes.io/hostname: n1, "
                "node.kubernetes.io/instance-type: big, example.com/a: b}}\n") == "ok");
  const auto label = [&](const std::string& key) {
    return Served::answer(node.patch("v1", "nodes", "n1", "", PatchType::merge,
                                     R"({"metadata":{"labels":{")" + key + R"(":"x"}}})", {})
                              .wait(30s));
  };
  CHECK(label("example.com/c") == "ok");
  CHECK(label("kubelet.kubernetes.io/c") == "ok");
  CHECK(label("a.node-restriction.kubernetes.io/c") ==
        "403 nodes \"n1\" is forbidden: is not allowed to modify labels: a.node-restriction.kubernetes.io/c");
  CHECK(label("node-role.kubernetes.io/master") ==
        "403 nodes \"n1\" is forbidden: is not allowed to modify labels: node-role.kubernetes.io/master");
  CHECK(Served::answer(node.patch("v1", "nodes", "n1", "", PatchType::merge,
                                  R"({"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}})", {})
                           .wait(30s)) ==
        "403 nodes \"n1\" is forbidden: node \"n1\" is not allowed to modify taints");
  auto own = served.admin.get("v1", "nodes", "n1").wait(30s);
  REQUIRE(own);
  const auto mirror = [&](const std::string& name, const std::string& owner, const std::string& spec) {
    const std::string text =
        attempt("apiVersion: v1\nkind: Pod\nmetadata: {name: " + name +
                ", namespace: default, annotations: {kubernetes.io/config.mirror: x}, ownerReferences: [" +
                owner + "]}\nspec: {nodeName: n1, " + spec + "containers: [{name: c, image: x}]}\n");
    const std::string start = "403 pods \"" + name + "\" is forbidden: node \"n1\" ";
    return text.starts_with(start) ? text.substr(start.size()) : text;
  };
  const auto owner = [&](const std::string& uid, const char* more = ", controller: true") {
    return "{apiVersion: v1, kind: Node, name: n1, uid: " + uid + more + "}";
  };
  CHECK(mirror("a", owner(own->uid()), "") == "ok");
  CHECK(mirror("b", "", "") == "can only create pods with an owner reference set to itself");
  CHECK(mirror("b", owner(own->uid(), ""), "") ==
        "can only create pods with a controller owner reference set to itself");
  CHECK(mirror("b", owner("other"), "").find("UID mismatch") != std::string::npos);
  CHECK(mirror("b", owner(own->uid()), "volumes: [{name: v, secret: {secretName: s}}], ") ==
        "can not create pods that reference secrets");
  CHECK(mirror("b", owner(own->uid()), "imagePullSecrets: [{name: s}], ") ==
        "can not create pods that reference secrets");
  CHECK(attempt("apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\nspec: {nodeName: n1, "
                "containers: [{name: c, image: x}]}\n")
            .find("can only create mirror pods") != std::string::npos);
}

TEST_CASE("approving and signing need a right on the signer") {
  Joined joined;
  const auto asked = api::make_certificate_request({.common_name = "jane", .organizations = {"dev"}}).value();
  joined.make(request_yaml("jane", asked.request_pem, "kubernetes.io/kube-apiserver-client", "client auth",
                           ", expirationSeconds: 3600"));
  joined.make(
      "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: almost}\nrules:\n"
      "- {apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests/approval, "
      "certificatesigningrequests/status], verbs: [update, patch]}\n"
      "- {apiGroups: [certificates.k8s.io], resources: [signers], resourceNames: [example.com/*], verbs: "
      "[approve, sign]}\n");
  joined.make(
      "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: "
      "almost}\nroleRef: "
      "{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: almost}\nsubjects: [{kind: User, name: "
      "ann, "
      "apiGroup: rbac.authorization.k8s.io}]\n");
  const Client ann = joined.server.client_as("ann");
  const std::string start = "403 certificatesigningrequests.certificates.k8s.io \"jane\" is forbidden: ";
  CHECK(Served::answer(joined.approve(ann, "jane")) ==
        start +
            "user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\"");
  const auto set_status = [&](const Client& client, const std::string& name, const std::string& status) {
    return Served::answer(client
                              .patch("certificates.k8s.io/v1", "certificatesigningrequests", name, "",
                                     PatchType::merge, R"({"status":)" + status + "}",
                                     {.subresource = "status"})
                              .wait(30s));
  };
  const std::string ca = encode_base64_text(joined.server.ca_pem());
  CHECK(set_status(ann, "jane", R"({"certificate":")" + ca + R"("})") ==
        start +
            "user not permitted to sign requests with signerName \"kubernetes.io/kube-apiserver-client\"");
  CHECK(set_status(joined.admin, "jane", R"({"conditions":[{"type":"Approved","status":"True"}]})")
            .find("updates may not add a condition of type \"Approved\"") != std::string::npos);
  REQUIRE(joined.approve(joined.admin, "jane"));
  const Object done = joined.settled("jane");
  CHECK(done.get("/status/conditions/0/reason") == "ByHand");
  const Client jane = joined.with(joined.certificate(done), asked.key_pem);
  auto review =
      jane
          .create(*Object::from_json(
              R"({"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview","metadata":{}})"))
          .wait(30s);
  REQUIRE(review);
  CHECK(review->get("/status/userInfo/username") == "jane");
  CHECK(review->get("/status/userInfo/groups/0") == "dev");
  CHECK(set_status(joined.admin, "jane", R"({"certificate":")" + ca + R"("})")
            .find("updates may not modify existing certificate content") != std::string::npos);
  CHECK(Served::answer(joined.approve(joined.admin, "jane", "Denied"))
            .find("updates may not remove a condition of type \"Approved\"") != std::string::npos);
  // Another domain's signer is Ann's.
  joined.make(request_yaml("other", asked.request_pem, "example.com/s", "client auth"));
  CHECK(Served::answer(joined.approve(ann, "other")) == "ok");
  CHECK(set_status(ann, "other", R"({"certificate":")" + ca + R"("})") == "ok");
}

TEST_CASE("what is no request, or asks for too much, is refused when it is made") {
  Served served;
  const auto wrong = [&](const std::string& yaml) { return served.try_make(served.admin, yaml); };
  const auto asked = api::make_certificate_request({.common_name = "x"}).value();
  const std::string signer = "example.com/s";
  CHECK(wrong(request_yaml("a", "no pem", signer, "client auth"))
            .find("PEM block type must be CERTIFICATE REQUEST") != std::string::npos);
  std::string forged = asked.request_pem;
  forged[120] = forged[120] == 'A' ? 'B' : 'A';
  CHECK(wrong(request_yaml("a", forged, signer, "client auth")).find("422 ") == 0);
  CHECK(wrong(request_yaml("a", asked.request_pem, signer, "nonsense"))
            .find("spec.usages[0]: Unsupported value") != std::string::npos);
  CHECK(wrong(request_yaml("a", asked.request_pem, signer, "client auth, client auth"))
            .find("spec.usages[1]: Duplicate value") != std::string::npos);
  CHECK(wrong(request_yaml("a", asked.request_pem, signer, "")).find("spec.usages: Required value") !=
        std::string::npos);
  CHECK(wrong(request_yaml("a", asked.request_pem, "short", "client auth")).find("fully qualified") !=
        std::string::npos);
  CHECK(wrong(request_yaml("a", asked.request_pem, signer, "client auth", ", expirationSeconds: 599"))
            .find("may not specify a duration less than 600 seconds (10 minutes)") != std::string::npos);
  const auto root =
      api::make_certificate_request({.common_name = "x", .organizations = {"system:masters"}}).value();
  CHECK(wrong(request_yaml("a", root.request_pem, "kubernetes.io/kube-apiserver-client", "client auth")) ==
        "403 certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: use of "
        "kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed");
}

TEST_CASE("a certificate has the names and usages of its request, and never a lie of OpenSSL's notation") {
  Served served;
  const auto asked = api::make_certificate_request({.common_name = "system:node:n1",
                                                    .organizations = {"system:nodes"},
                                                    .dns_names = {"n1", "a,IP:10.9.9.9"},
                                                    .ip_addresses = {"10.0.0.1", "fd00::1"}})
                         .value();
  const auto read = api::read_certificate_request(asked.request_pem);
  REQUIRE(read);
  CHECK(read->common_name == "system:node:n1");
  CHECK(read->dns_names == std::vector<std::string>{"n1", "a,IP:10.9.9.9"});
  CHECK(read->ip_addresses == std::vector<std::string>{"10.0.0.1", "fd00::1"});
  const auto certificate =
      served.server.sign_certificate(asked.request_pem, {"digital signature", "server auth"}, 1h);
  REQUIRE(certificate);
  CHECK(api::check_certificate_chain(*certificate));
  // As a server's certificate it verifies for its names.
  CHECK_FALSE(served.server.sign_certificate("nothing", {"server auth"}, 1h));
}
