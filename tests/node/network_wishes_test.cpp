// hostPorts and bandwidth annotations, as the network is asked for them.
#include "node/network_wishes.hpp"

#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::node;

namespace {
Result<AttachRequest> wishes_of(const std::string& annotations, const std::string& spec) {
  const auto pod =
      parse_json(R"({"metadata":{"annotations":)" + annotations + R"(},"spec":)" + spec + "}").value();
  AttachRequest request;
  ORC_TRY(add_network_wishes(pod, request));
  return request;
}
}  // namespace

TEST_CASE("a pod's host ports are those of its containers and sidecars, with address and protocol") {
  const auto asked = wishes_of("{}", R"({
    "containers":[{"ports":[{"containerPort":80,"hostPort":8080},{"containerPort":81}]},
                  {"ports":[{"containerPort":53,"hostPort":53,"protocol":"UDP","hostIP":"192.0.2.1"}]}],
    "initContainers":[{"ports":[{"containerPort":1,"hostPort":1}]},
                      {"restartPolicy":"Always","ports":[{"containerPort":9,"hostPort":9,"hostIP":"0.0.0.0"}]}]})");
  REQUIRE(asked);
  REQUIRE(asked->host_ports.size() == 3);
  CHECK(to_string(asked->host_ports[0]) == "8080/TCP");
  CHECK(asked->host_ports[0].pod_port == 80);
  CHECK(to_string(asked->host_ports[1]) == "192.0.2.1:53/UDP");
  CHECK(to_string(asked->host_ports[2]) == "9/TCP");
  CHECK(asked->ingress_bits == 0);
  CHECK_FALSE(asked->binds_pod_address);
}

TEST_CASE("bandwidth is a quantity of bits from 1k to 1P; anything else names annotation and value") {
  const auto ingress = [](const std::string& text) {
    return wishes_of("{\"kubernetes.io/ingress-bandwidth\":\"" + text + "\"}", "{}");
  };
  CHECK(ingress("10M")->ingress_bits == 10'000'000);
  CHECK(ingress("1k")->ingress_bits == 1'000);
  CHECK(ingress("1P")->ingress_bits == 1'000'000'000'000'000);
  for (const char* bad : {"999", "2P", "fast", "-1M", "0"}) {
    const auto refused = ingress(bad);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().is(Error::invalid));
    CHECK(refused.error().message().find("kubernetes.io/ingress-bandwidth is \"" + std::string(bad)) !=
          std::string::npos);
  }
  CHECK(wishes_of(R"({"kubernetes.io/egress-bandwidth":"1Mi"})", "{}")->egress_bits == 1'048'576);
}
