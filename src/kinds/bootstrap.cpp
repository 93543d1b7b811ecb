// The objects of an empty cluster: see bootstrap.hpp. What exists is left as it is, but for the endpoints of
// `kubernetes`, which follow the listening address.
#include "apiserver/bootstrap.hpp"
#include "api/meta.hpp"
#include "apiserver/service_range.hpp"
#include "base/json.hpp"

namespace orchestra::apiserver {
namespace {

Result<void> ensure(const Asking& ask, json::value tree) {
  ORC_ASSIGN(Object object, Object::from_json(to_json(tree)));
  // Looked up first: creating a Service again would fail on its own address, not on its name.
  const std::string resource = resource_of_kind(object.api_version(), object.kind());
  if (ask(ask.client.get(object.api_version(), resource, object.name(), object.ns()))) return {};
  auto made = ask(ask.client.create(object));
  if (made || made.error().is(Error::already_exists)) return {};
  return made.error().with_context("bootstrap object " + object.kind() + " \"" + object.name() + "\"");
}

Result<void> replace(const Asking& ask, const json::value& tree) {
  ORC_ASSIGN(Object object, Object::from_json(to_json(tree)));
  auto made = ask(ask.client.create(object));
  if (!made && made.error().is(Error::already_exists)) made = ask(ask.client.update(object));
  if (made) return {};
  return made.error().with_context("bootstrap object " + object.kind() + " \"" + object.name() + "\"");
}

json::value named(const char* api_version, const char* kind, const char* ns, const char* name) {
  json::object metadata{{"name", name}};
  if (*ns != '\0') metadata["namespace"] = ns;
  return json::object{{"apiVersion", api_version}, {"kind", kind}, {"metadata", std::move(metadata)}};
}

Result<void> ensure_namespaces(const Asking& ask) {
  for (const char* name : {"default", "kube-system", "kube-public", "kube-node-lease"}) {
    ORC_TRY(ensure(ask, named("v1", "Namespace", "", name)));
  }
  return {};
}

Result<void> ensure_priorities(ApiCore& core, const Asking& ask) {
  if (core.registry()->find("scheduling.k8s.io", "v1", "priorityclasses") == nullptr) return {};
  struct Class {
    const char* name;
    std::int64_t value;
    const char* description;
  };
  static constexpr Class kClasses[] = {
      {"system-cluster-critical", 2000000000,
       "Used for system critical pods that must run in the cluster, but can be moved to another node if "
       "necessary."},
      {"system-node-critical", 2000001000,
       "Used for system critical pods that must not be moved from their current node."}};
  for (const Class& one : kClasses) {
    json::value tree = named("scheduling.k8s.io/v1", "PriorityClass", "", one.name);
    tree.get_object()["value"] = one.value;
    tree.get_object()["description"] = one.description;
    ORC_TRY(ensure(ask, std::move(tree)));
  }
  return {};
}

Result<void> ensure_flow_control(ApiCore& core, const Asking& ask) {
  if (core.registry()->find("flowcontrol.apiserver.k8s.io", "v1", "flowschemas") == nullptr) return {};
  for (json::value& tree : flow_control_objects()) ORC_TRY(ensure(ask, std::move(tree)));
  return {};
}

// The ranges of Services, as an object; upstream's controller of the default range says that it is ready.
Result<void> ensure_service_range(ApiCore& core, const Asking& ask, const std::string& service_cidr) {
  if (core.registry()->find("networking.k8s.io", "v1", "servicecidrs") == nullptr) return {};
  if (ask(ask.client.get("networking.k8s.io/v1", "servicecidrs", "kubernetes"))) return {};
  json::array ranges;
  for (const ServiceRange& range : ServiceRange::parse_all(service_cidr)) ranges.emplace_back(range.text);
  json::value tree = named("networking.k8s.io/v1", "ServiceCIDR", "", "kubernetes");
  set_at(tree, "/spec/cidrs", std::move(ranges));
  ORC_TRY(ensure(ask, tree));
  set_at(
      tree, "/status/conditions",
      json::array{json::object{{"type", "Ready"},
                               {"status", "True"},
                               {"lastTransitionTime", api::format_time(core.engine().clock().now().wall_ns)},
                               {"reason", ""},
                               {"message", "Kubernetes default Service CIDR is ready"}}});
  ORC_ASSIGN(Object object, Object::from_json(to_json(tree)));
  auto told = ask(ask.client.update(object, {.subresource = "status"}));
  return told ? Result<void>() : told.error();
}

// How an aggregated API server learns whose proxy headers to believe.
Result<void> ensure_extension_authentication(const Asking& ask, const std::string& ca_pem) {
  if (ca_pem.empty()) return {};
  json::value map = named("v1", "ConfigMap", "kube-system", "extension-apiserver-authentication");
  map.get_object()["data"] = json::object{{"client-ca-file", ca_pem}};
  return ensure(ask, std::move(map));
}

Result<void> ensure_service(const Asking& ask, const BootstrapOptions& options) {
  const ServiceRange range = ServiceRange::parse_all(options.service_cidr).front();
  const json::object labels{{"component", "apiserver"}, {"provider", "kubernetes"}};
  json::value service = named("v1", "Service", "default", "kubernetes");
  set_at(service, "/metadata/labels", labels);
  const json::value target =
      options.advertise_port == 0 ? json::value(443) : json::value(options.advertise_port);
  set_at(service, "/spec",
         json::object{
             {"type", "ClusterIP"},
             {"clusterIP", range.address(1)},
             {"sessionAffinity", "None"},
             {"ports", json::array{json::object{
                           {"name", "https"}, {"port", 443}, {"protocol", "TCP"}, {"targetPort", target}}}}});
  ORC_TRY(ensure(ask, std::move(service)));
  // An address of IPv4 leads nobody to a Service that has none; pods are told one of theirs (serve_pods).
  const bool four = options.advertise_host.find(':') == std::string::npos;
  if (options.advertise_host.empty() || (range.family == 6 && four)) return {};

  json::value endpoints = named("v1", "Endpoints", "default", "kubernetes");
  set_at(endpoints, "/metadata/labels", json::object{{"endpointslice.kubernetes.io/skip-mirror", "true"}});
  set_at(endpoints, "/subsets",
         json::array{json::object{
             {"addresses", json::array{json::object{{"ip", options.advertise_host}}}},
             {"ports", json::array{json::object{
                           {"name", "https"}, {"port", options.advertise_port}, {"protocol", "TCP"}}}}}});
  json::value slice = named("discovery.k8s.io/v1", "EndpointSlice", "default", "kubernetes");
  set_at(slice, "/metadata/labels", json::object{{"kubernetes.io/service-name", "kubernetes"}});
  slice.get_object()["addressType"] = four ? "IPv4" : "IPv6";
  slice.get_object()["endpoints"] =
      json::array{json::object{{"addresses", json::array{json::value(options.advertise_host)}},
                               {"conditions", json::object{{"ready", true}}}}};
  slice.get_object()["ports"] =
      json::array{json::object{{"name", "https"}, {"port", options.advertise_port}, {"protocol", "TCP"}}};
  // A loopback address is fine for clients on this machine; what validation refuses is only not published.
  // On a full disk the server starts all the same: else nobody could delete anything.
  for (const json::value* tree : {&endpoints, &slice}) {
    auto written = replace(ask, *tree);
    if (!written && !written.error().is(Error::invalid) && !written.error().is(Error::no_space))
      return written;
  }
  return {};
}
}  // namespace

Result<void> bootstrap(const std::shared_ptr<ApiCore>& core, const BootstrapOptions& options) {
  const Asking ask(core);
  ORC_TRY(ensure_namespaces(ask));
  ORC_TRY(ensure_priorities(*core, ask));
  ORC_TRY(ensure_flow_control(*core, ask));
  ORC_TRY(ensure_service_range(*core, ask, options.service_cidr));
  // On a full disk the server starts all the same: else nobody could delete anything.
  if (auto made = bootstrap_rbac(core, options.roles_seen.get()); !made && !made.error().is(Error::no_space))
    return made;
  ORC_TRY(ensure_extension_authentication(ask, options.ca_pem));
  return ensure_service(ask, options);
}

}  // namespace orchestra::apiserver
