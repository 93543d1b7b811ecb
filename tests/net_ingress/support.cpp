#include "support.hpp"

#include <openssl/evp.h>

#include <sstream>

namespace orchestra::test {
namespace {
std::string base64(const std::string& text) {
  std::string out((text.size() + 2) / 3 * 4 + 1, '\0');
  out.resize(static_cast<std::size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                                      reinterpret_cast<const unsigned char*>(text.data()),
                                                      static_cast<int>(text.size()))));
  return out;
}
std::string metadata(const std::string& name, const std::string& version, const std::string& more = "") {
  return R"("metadata":{"namespace":"shop","name":")" + name + R"(","uid":"uid-)" + name +
         R"(","resourceVersion":")" + version + "\"" + more + "}";
}
}  // namespace

SnapshotBuilder::SnapshotBuilder() {
  inputs_.loopback_ranges = {"127.0.0.0/8"};
  for (NetworkInput* input :
       {&inputs_.services, &inputs_.endpoint_slices, &inputs_.pods, &inputs_.nodes, &inputs_.namespaces,
        &inputs_.ingresses, &inputs_.ingress_classes, &inputs_.secrets, &inputs_.network_policies}) {
    input->synced = true;
  }
}

SnapshotBuilder& SnapshotBuilder::object(NetworkInput NetworkInputs::*input, const std::string& json) {
  (inputs_.*input).objects.push_back(Object::from_json(json).value());
  return *this;
}

SnapshotBuilder& SnapshotBuilder::ingress(const std::string& name, const std::string& spec,
                                          const std::string& created, const std::string& annotations) {
  return object(
      &NetworkInputs::ingresses,
      R"({"apiVersion":"networking.k8s.io/v1","kind":"Ingress",)" +
          metadata(name, "1", R"(,"creationTimestamp":")" + created + R"(","annotations":)" + annotations) +
          R"(,"spec":)" + spec + "}");
}

SnapshotBuilder& SnapshotBuilder::service(const std::string& name,
                                          const std::vector<std::string>& endpoints) {
  const std::string ip = "10.96.0." + std::to_string(inputs_.services.objects.size() + 1);
  object(&NetworkInputs::services, R"({"apiVersion":"v1","kind":"Service",)" + metadata(name, "1") +
                                       R"(,"spec":{"clusterIP":")" + ip + R"(","clusterIPs":[")" + ip +
                                       R"("],"ports":[{"name":"http","port":80,"protocol":"TCP"}]}})");
  int number = 0;
  for (const std::string& endpoint : endpoints) {
    const std::size_t space = std::min(endpoint.find(' '), endpoint.size());
    const std::size_t colon = endpoint.rfind(':', space);
    const std::string conditions =
        space == endpoint.size() ? R"({"ready":true})" : endpoint.substr(space + 1);
    const std::string more = R"(,"labels":{"kubernetes.io/service-name":")" + name + "\"}";
    object(&NetworkInputs::endpoint_slices,
           R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",)" +
               metadata(name + "-" + std::to_string(++number), "1", more) +
               R"(,"ports":[{"name":"http","protocol":"TCP","port":)" +
               endpoint.substr(colon + 1, space - colon - 1) + R"(}],"endpoints":[{"addresses":[")" +
               endpoint.substr(0, colon) + R"("],"conditions":)" + conditions + "}]}");
  }
  return *this;
}

SnapshotBuilder& SnapshotBuilder::ingress_class(const std::string& name, const std::string& controller,
                                                bool is_default) {
  return object(
      &NetworkInputs::ingress_classes,
      R"({"apiVersion":"networking.k8s.io/v1","kind":"IngressClass","metadata":{"name":")" + name +
          R"(","resourceVersion":"1","annotations":{"ingressclass.kubernetes.io/is-default-class":")" +
          (is_default ? "true" : "false") + R"("}},"spec":{"controller":")" + controller + R"("}})");
}

SnapshotBuilder& SnapshotBuilder::tls_secret(const std::string& name, const std::string& certificate,
                                             const std::string& key, const std::string& version) {
  return object(&NetworkInputs::secrets, R"({"apiVersion":"v1","kind":"Secret","type":"kubernetes.io/tls",)" +
                                             metadata(name, version) + R"(,"data":{"tls.crt":")" +
                                             base64(certificate) + R"(","tls.key":")" + base64(key) +
                                             R"("}})");
}

std::string rules(const std::string& host, const std::vector<std::string>& paths) {
  std::string list;
  for (const std::string& line : paths) {
    std::istringstream words(line);
    std::string type, path, service;
    words >> type >> path >> service;
    if (!list.empty()) list += ",";
    list += R"({"pathType":")" + type + R"(","path":")" + path + R"(","backend":{"service":{"name":")" +
            service + R"(","port":{"number":80}}}})";
  }
  const std::string host_field = host.empty() ? "" : R"("host":")" + host + R"(",)";
  return R"({"ingressClassName":"orchestra","rules":[{)" + host_field + R"("http":{"paths":[)" + list +
         "]}}]}";
}

}  // namespace orchestra::test
