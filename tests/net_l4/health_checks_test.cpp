// healthCheckNodePort: what a load balancer is told on each node, in the words of kube-proxy.
#include "net/lb/health_checks.hpp"

#include "base/http_client.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/service_proxy.hpp"
#include "tests/net_l4/net_lab.hpp"
#include "tests/net_l4/snapshot_objects.hpp"
#include "tests/support/free_port.hpp"

using namespace orchestra;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {

Object balanced(int check_port, const std::string& policy = "Local", const std::string& name = "web") {
  return make_service(name, "127.96.77.20", {{"web", 80}, {"more", 81}},
                      R"(,"type":"LoadBalancer","externalTrafficPolicy":")" + policy +
                          R"(","healthCheckNodePort":)" + std::to_string(check_port));
}

}  // namespace

TEST_CASE("ready endpoints of this node are counted, an address once") {
  const std::vector<Object> slices{make_slice("web",
                                              {{"127.128.77.2"},
                                               {"127.128.77.3", true, true, false, "n2"},
                                               {"127.128.77.4", false, true, true},
                                               {"127.128.77.5"}},
                                              8080),
                                   make_slice("web", {{"127.128.77.2"}}, 8081, "more", "TCP", "web-2")};
  const auto of = [&](const Object& service, const char* node) {
    const auto snapshot = make_snapshot({service}, slices, {"127.128.0.0/12"});
    return net::wanted_health_checks(snapshot->services, node);
  };
  const auto here = of(balanced(31000), "n1");
  REQUIRE(here.size() == 1);
  CHECK(here.at(31000).service == NamespacedName{"default", "web"});
  CHECK(here.at(31000).local_endpoints == 2);
  CHECK(of(balanced(31000), "n2").at(31000).local_endpoints == 1);
  CHECK(of(balanced(31000), "n3").at(31000).local_endpoints == 0);
  CHECK(of(balanced(31000, "Cluster"), "n1").empty());
  CHECK(of(balanced(0), "n1").empty());
}

TEST_CASE("the answer of a health check is that of kube-proxy") {
  const net::HealthCheck two{{"shop", "web"}, "", 2}, none{{"shop", "web"}, "", 0};
  const auto good = net::answer_health_check(two, true);
  CHECK(good.status == 200);
  CHECK(good.body ==
        "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n"
        "\t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}");
  CHECK(net::answer_health_check(none, true).status == 503);
  CHECK(net::answer_health_check(two, false).status == 503);
  CHECK(net::answer_health_check(two, false).body.find("\"serviceProxyHealthy\": false") !=
        std::string::npos);
}

TEST_CASE("each node answers on the port of a Service, as long as there is the Service") {
  Engine engine;
  ServiceProxyOptions options;
  options.node = "n1";
  options.instance = "0a1b2c3e";
  options.cluster_cidr = "127.128.0.0/12";
  options.service_cidr = "127.96.0.0/16";
  options.mode = ServiceProxyOptions::Mode::userspace;
  auto proxy = ServiceProxy::create(engine, options).value();
  auto client = make_http_client(engine);
  const int port = free_port();
  const auto apply = [&](std::vector<Object> services, std::vector<TestEndpoint> endpoints) {
    auto done =
        proxy
            ->apply(make_snapshot(std::move(services), {make_slice("web", std::move(endpoints), 8080)},
                                  {"127.128.0.0/12"}))
            .wait(60s);
    REQUIRE_MESSAGE(done, (done ? "" : done.error().to_string()));
    return done->rejected;
  };
  const auto ask = [&](const char* path) {
    HttpRequest request;
    request.url = "http://127.0.0.1:" + std::to_string(port) + path;
    return client->send(std::move(request)).wait(60s);
  };
  CHECK(apply({balanced(port)}, {{"127.128.77.2"}}).empty());
  auto answer = ask("/healthz");
  REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().to_string()));
  CHECK(answer->status == 200);
  CHECK(answer->headers["x-load-balancing-endpoint-weight"] == "1");
  CHECK(answer->headers["content-type"] == "application/json");
  CHECK(ask("/").value().status == 200);  // any path

  // The count follows without a new listener.
  CHECK(apply({balanced(port)}, {{"127.128.77.2", true, true, false, "n2"}}).empty());
  answer = ask("/healthz");
  REQUIRE(answer);
  CHECK(answer->status == 503);
  CHECK(answer->headers["x-load-balancing-endpoint-weight"] == "0");

  apply({}, {});
  CHECK_FALSE(ask("/healthz"));

  // A port that somebody else has is told on the Service, and tried again.
  {
    NetworkNamespace here;
    TcpAnswerer other(here, "0.0.0.0", port, "x");
    const auto rejected = apply({balanced(port)}, {{"127.128.77.2"}});
    REQUIRE(rejected.size() == 1);
    CHECK(rejected.front().reason == "FailedToStartServiceHealthcheck");
    CHECK(rejected.front().name == "web");
  }
  CHECK(apply({balanced(port)}, {{"127.128.77.2"}}).empty());
  CHECK(ask("/healthz").value().status == 200);
  CHECK(proxy->teardown().wait(60s));
  CHECK_FALSE(ask("/healthz"));
}
