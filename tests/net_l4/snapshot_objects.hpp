#pragma once
// API objects for network tests, in one line each.
#include <string>
#include <vector>

#include "base/json.hpp"
#include "orchestra/network_snapshot.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test {

inline Object from_text(const std::string& json) {
  auto object = Object::from_json(json);
  REQUIRE_MESSAGE(object, (object ? "" : object.error().to_string()) << " in " << json);
  return *object;
}

struct TestPort {
  std::string name = "web";
  int port = 80;
  int node_port = 0;
  std::string protocol = "TCP";
};
/// `more` goes into the spec, e.g. R"(,"internalTrafficPolicy":"Local")".
inline Object make_service(const std::string& name, const std::string& cluster_ip,
                           std::vector<TestPort> ports, const std::string& more = "",
                           const std::string& annotations = "{}", const std::string& version = "") {
  std::string list;
  for (const auto& port : ports) {
    if (!list.empty()) list += ",";
    list += R"({"name":")" + port.name + R"(","port":)" + std::to_string(port.port) + R"(,"protocol":")" +
            port.protocol + "\"";
    if (port.node_port != 0) list += R"(,"nodePort":)" + std::to_string(port.node_port);
    list += "}";
  }
  return from_text(R"({"apiVersion":"v1","kind":"Service","metadata":{"name":")" + name +
                   R"(","namespace":"default","uid":"svc-)" + name + R"(","resourceVersion":")" + version +
                   R"(","annotations":)" + annotations + R"(},"spec":{"clusterIP":")" + cluster_ip +
                   R"(","ports":[)" + list + "]" + more + "}}");
}

struct TestEndpoint {
  std::string address;
  bool ready = true, serving = true, terminating = false;
  std::string node = "n1";
};
inline Object make_slice(const std::string& service, std::vector<TestEndpoint> endpoints, int port,
                         const std::string& port_name = "web", const std::string& protocol = "TCP",
                         const std::string& slice_name = "", const std::string& version = "") {
  const auto yes = [](bool value) { return value ? "true" : "false"; };
  std::string list;
  for (const auto& endpoint : endpoints) {
    if (!list.empty()) list += ",";
    list += R"({"addresses":[")" + endpoint.address + R"("],"nodeName":")" + endpoint.node +
            R"(","conditions":{"ready":)" + yes(endpoint.ready) + R"(,"serving":)" + yes(endpoint.serving) +
            R"(,"terminating":)" + yes(endpoint.terminating) + "}}";
  }
  return from_text(
      R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","metadata":{)"
      R"("name":")" +
      (slice_name.empty() ? service + "-1" : slice_name) + R"(","namespace":"default","resourceVersion":")" +
      version + R"(","labels":{"kubernetes.io/service-name":")" + service + R"("}},"ports":[{"name":")" +
      port_name + R"(","port":)" + std::to_string(port) + R"(,"protocol":")" + protocol +
      R"("}],"endpoints":[)" + list + "]}");
}

inline std::shared_ptr<const NetworkSnapshot> make_snapshot(std::vector<Object> services,
                                                            std::vector<Object> slices,
                                                            std::vector<std::string> loopback = {}) {
  NetworkInputs inputs;
  inputs.services = {std::move(services), true};
  inputs.endpoint_slices = {std::move(slices), true};
  inputs.loopback_ranges = std::move(loopback);
  return NetworkSnapshot::build(inputs);
}

}  // namespace orchestra::test
