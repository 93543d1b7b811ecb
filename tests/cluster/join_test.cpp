// Joining in parts: the token file, keys and certificates of a node, and its tunnel to a real API server.
#include <atomic>

#include "api/object_tree.hpp"
#include "base/fd.hpp"
#include "cluster/node_access.hpp"
#include "cluster/node_identity.hpp"
#include "net/http/http_server.hpp"
#include "node/tunnel.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/remote_client.hpp"
#include "tests/cluster/control_plane.hpp"

using namespace orchestra;
using namespace orchestra::cluster;
using namespace std::chrono_literals;

namespace {

/// One log line, then the end.
class OneLine final : public ByteStream {
 public:
  Pending<std::string> read(std::size_t) override {
    return Result<std::string>(said_.exchange(true) ? "" : "from the node\n");
  }
  void close() override {}

 private:
  std::atomic<bool> said_{false};
};
class FakePods final : public PodStreams {
 public:
  Pending<std::shared_ptr<ByteStream>> log(PodTarget, LogOptions) override {
    return Result<std::shared_ptr<ByteStream>>(std::make_shared<OneLine>());
  }
  Pending<std::shared_ptr<ProcessStream>> exec(PodTarget, ExecOptions) override {
    return Error(Error::unsupported, "test", "no exec here");
  }
  Pending<std::shared_ptr<DuplexStream>> port_forward(PodTarget, int) override {
    return Error(Error::unsupported, "test", "no port-forward here");
  }
  Pending<NodePage> page(std::string node, std::string path) override {
    return Result<NodePage>(NodePage{200, "text/plain", node + " says " + path});
  }
};

struct Served {
  Served() : server(engine, MemoryStore::create(engine), options()) { REQUIRE(server.start()); }
  ~Served() {
    server.stop();
    engine.stop();
  }
  static ApiServerOptions options() {
    ApiServerOptions out;
    out.listen = "127.0.0.1:0";
    return out;
  }
  RemoteClientOptions as_node(const std::string& name) {
    const auto request = make_node_request(name);
    REQUIRE(request);
    const auto certificate = server.sign_certificate(request->request_pem, {"client auth"}, 1h);
    REQUIRE(certificate);
    RemoteClientOptions out;
    out.server = "https://" + server.address();
    out.ca_pem = server.ca_pem();
    out.certificate_pem = *certificate;
    out.key_pem = request->key_pem;
    return out;
  }
  std::string log_of_web() {
    auto log = RemoteClient::from_kubeconfig_text(engine, server.kubeconfig().value()).value();
    ApiRequest request;
    request.resource = "pods";
    request.ns = "default";
    request.name = "web";
    auto stream = log.impl()->log(request).wait(60s);
    if (!stream) return stream.error().to_string();
    auto text = (*stream)->read(1000).wait(60s);
    return text ? *text : text.error().to_string();
  }
  Engine engine;
  ApiServer server;
};

}  // namespace

TEST_CASE("the token file is read back as it was written, and what is wrong is named") {
  const JoinToken token{"abcdef.0123456789abcdef", "sha256:" + std::string(64, 'a')};
  const auto read = parse_join_token(write_join_token(token));
  REQUIRE(read);
  CHECK(read->token == token.token);
  CHECK(read->ca_hash == token.ca_hash);
  for (const std::string& bad :
       {std::string(), std::string("token: abc\n"),
        "token: abcdef.0123456789abcdeF\nca-hash: " + token.ca_hash,
        "token: " + token.token + "\nca-hash: md5:00\n", "token: " + token.token + "\n", std::string("{"),
        "token: " + token.token + "\nca-hash: sha256:" + std::string(63, 'a') + "g\n"}) {
    INFO(bad);
    CHECK_FALSE(parse_join_token(bad));
  }
}

TEST_CASE("a node's identity: asked for, kept, and refused when it is another node's, foreign or over") {
  Served served;
  test::TempDir dir;
  const auto request = make_node_request("n1");
  REQUIRE(request);
  const auto certificate = served.server.sign_certificate(request->request_pem, {"client auth"}, 1h);
  REQUIRE(certificate);
  const auto facts = read_certificate(*certificate);
  REQUIRE(facts);
  CHECK(facts->common_name == "system:node:n1");
  CHECK(facts->not_after_ns > facts->not_before_ns);
  CHECK(check_pair(*certificate, request->key_pem));
  CHECK_FALSE(check_pair(*certificate, make_node_request("n1")->key_pem));
  CHECK_FALSE(read_certificate("nothing"));
  CHECK(ca_hash(served.server.ca_pem()).value().size() == 71);
  CHECK(ca_hash(served.server.ca_pem()).value() != ca_hash(*certificate).value());

  NodeIdentity identity(dir / "pki", "n1");
  const std::int64_t now = served.engine.clock().now().wall_ns;
  CHECK(identity.load(now).value() == false);
  CHECK_FALSE(identity.keep(served.server.ca_pem(), *certificate, make_node_request("n1")->key_pem));
  REQUIRE(identity.keep(served.server.ca_pem(), *certificate, request->key_pem));
  CHECK(identity.renew_at_ns() < facts->not_after_ns);
  NodeIdentity again(dir / "pki", "n1");
  CHECK(again.load(now).value());
  CHECK(again.pair().first == *certificate);
  CHECK(again.load(facts->not_after_ns).value() == false);
  const auto other = NodeIdentity(dir / "pki", "n2").load(now);
  REQUIRE_FALSE(other);
  CHECK(other.error().is(Error::conflict));
}

TEST_CASE(
    "a control plane lets nodes join: the authority is proven by its hash, the token opens the way to a "
    "CSR") {
  Served served;
  test::TempDir dir;
  NodeAccessOptions options;
  options.data_dir = dir.path();
  options.server = "https://" + served.server.address();
  options.ca_pem = served.server.ca_pem();
  options.pod_cidr = "10.244.0.0/16";
  options.service_cidr = "10.96.0.0/16";
  options.api_host = "10.96.0.1";
  REQUIRE(make_node_access(served.engine, served.server.client(), options));
  const auto text = read_file(dir / "node-token", 4096);
  REQUIRE(text);
  const auto token = parse_join_token(*text);
  REQUIRE(token);
  // Again: the token is good for half its life at least, so it stays.
  REQUIRE(make_node_access(served.engine, served.server.client(), options));
  CHECK(read_file(dir / "node-token", 4096).value() == *text);

  const auto http = make_http_client(served.engine);
  CHECK(fetch_ca(*http, options.server, token->ca_hash).value() == options.ca_pem);
  const auto foreign = fetch_ca(*http, options.server, "sha256:" + std::string(64, '0'));
  REQUIRE_FALSE(foreign);
  CHECK(foreign.error().is(Error::denied));

  RemoteClientOptions with_token;
  with_token.server = options.server;
  with_token.ca_pem = options.ca_pem;
  with_token.token = token->token;
  const Client bootstrap = RemoteClient::connect(served.engine, with_token);
  CHECK(read_cluster_facts(bootstrap).value().pod_cidr == "10.244.0.0/16");
  // Nobody approves here: no controllers run.
  const auto waits =
      request_certificate(served.engine, bootstrap, make_node_request("n1")->request_pem, 300ms);
  REQUIRE_FALSE(waits);
  CHECK(waits.error().is(Error::deadline_exceeded));
  CHECK_FALSE(bootstrap.list("v1", "secrets").wait(60s));
}

TEST_CASE("logs of a pod come by the tunnel of its node, and only that node may open it") {
  Served served;
  const Client admin = served.server.client();
  REQUIRE(
      admin
          .create(*Object::from_yaml("apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: default}\n"
                                     "spec: {nodeName: n1, containers: [{name: c, image: i}]}\n"))
          .wait(60s));
  const auto http = make_http_client(served.engine);
  CHECK(served.log_of_web().find("no node agent is connected") != std::string::npos);

  // Another node may not speak for n1.
  auto wrong = std::make_shared<node::TunnelClient>(served.engine, http, served.as_node("n2"), "n1",
                                                    std::make_shared<FakePods>());
  wrong->start();
  bool let_in = false;
  for (int i = 0; i < 40 && !let_in; ++i) {
    const Promise<> nobody;
    (void)nobody.pending().wait(20ms);
    let_in = wrong->connected();
  }
  CHECK_FALSE(let_in);
  wrong->stop();

  auto right = std::make_shared<node::TunnelClient>(served.engine, http, served.as_node("n1"), "n1",
                                                    std::make_shared<FakePods>());
  right->start();
  REQUIRE(test::until([&] { return right->connected(); }));
  CHECK(test::until([&] { return served.log_of_web() == "from the node\n"; }));
  // Pages of the node come by the same way, for whoever may read its subresource proxy.
  REQUIRE(admin.create(*Object::from_yaml("apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n")).wait(60s));
  const RemoteClientOptions node = served.as_node("n1");
  const auto page = [&] {
    HttpRequest request;
    request.url = node.server + "/api/v1/nodes/n1/proxy/stats/summary?x=1";
    request.tls.ca_pem = node.ca_pem;
    request.tls.certificate_pem = node.certificate_pem;
    request.tls.key_pem = node.key_pem;
    auto answer = http->send(std::move(request)).wait(60s);
    return answer ? answer->body : answer.error().to_string();
  };
  CHECK(page().find("nodes \\\"n1\\\" is forbidden: User \\\"system:node:n1\\\" cannot get resource "
                    "\\\"nodes/proxy\\\" in API group \\\"\\\" at the cluster scope") != std::string::npos);
  for (const char* each :
       {"kind: ClusterRole\nmetadata: {name: reader}\n"
        "rules: [{apiGroups: ['']\n, resources: [nodes/proxy], verbs: [get]}]\n",
        "kind: ClusterRoleBinding\nmetadata: {name: reader}\n"
        "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}\n"
        "subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: 'system:node:n1'}]\n"}) {
    REQUIRE(admin.create(*Object::from_yaml("apiVersion: rbac.authorization.k8s.io/v1\n" + std::string(each)))
                .wait(60s));
  }
  CHECK(test::until([&] { return page() == "n1 says /stats/summary?x=1"; }));
  right->send_statistics({{}, {{"n1", 1, 2, 3, 4}, {"n2", 5, 6, 7, 8}}});
  REQUIRE(test::until([&] { return !served.server.node_metrics()->nodes().empty(); }));
  CHECK(served.server.node_metrics()->nodes().size() == 1);  // a node speaks for itself only

  // A second agent's tunnel takes the place of the first.
  auto second = std::make_shared<node::TunnelClient>(served.engine, http, served.as_node("n1"), "n1",
                                                     std::make_shared<FakePods>());
  second->start();
  REQUIRE(test::until([&] { return second->connected(); }));
  right->stop();
  CHECK(test::until([&] { return served.log_of_web() == "from the node\n"; }));
  second->stop();
  CHECK(test::until(
      [&] { return served.log_of_web().find("no node agent is connected") != std::string::npos; }));
}

TEST_CASE(
    "a client of several servers goes on with the next: reads at once, writes when they are asked again") {
  Engine engine;
  test::TempDir dir;
  ApiServerOptions options;
  options.listen = "127.0.0.1:0";
  options.data_directory = dir.path();
  const auto store = MemoryStore::create(engine);
  auto first = std::make_unique<ApiServer>(engine, store, options);
  REQUIRE(first->start());
  ApiServer second(engine, store, options);
  REQUIRE(second.start());
  auto remote = read_kubeconfig(first->kubeconfig().value());
  REQUIRE(remote);
  remote->more_servers = {"https://" + second.address() + "/"};
  const Client client = RemoteClient::connect(engine, *remote);
  const auto config_map = [](const std::string& name) {
    return *Object::from_yaml(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: default, name: " + name + "}\n");
  };
  REQUIRE(client.create(config_map("one")).wait(60s));
  first->stop();
  first.reset();
  const auto lost = client.create(config_map("two")).wait(60s);
  REQUIRE_FALSE(lost);
  CHECK(lost.error().is(Error::unavailable));
  CHECK(client.create(config_map("two")).wait(60s));

  remote->server = "https://127.0.0.1:1";
  const Client begins_wrong = RemoteClient::connect(engine, *remote);
  CHECK(begins_wrong.get("v1", "configmaps", "two", "default").wait(60s));
  auto watch = begins_wrong.watch("v1", "configmaps", {.ns = "default"});
  REQUIRE(watch);
  second.stop();
  CHECK_FALSE(begins_wrong.get("v1", "configmaps", "two", "default").wait(60s));
  engine.stop();
}
