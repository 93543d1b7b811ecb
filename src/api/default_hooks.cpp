// Defaults that depend on other fields:
// pkg/apis/{core,apps,batch,networking,rbac,autoscaling}/v*/defaults.go.
#include <algorithm>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/type_hooks.hpp"
#include "base/base64.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::api {
namespace {

void set_if_absent(json::object& object, std::string_view key, json::value value) {
  if (!object.contains(key)) object[key] = std::move(value);
}

/// True for `app`, `app:latest`, `host:5000/app`; false for `app:1`, `app@sha256:...`.
bool is_latest(std::string_view image) {
  if (image.find('@') != std::string_view::npos) return false;
  const std::size_t slash = image.rfind('/');
  const std::size_t colon = image.rfind(':');
  if (colon == std::string_view::npos || (slash != std::string_view::npos && colon < slash)) return true;
  return image.substr(colon + 1) == "latest";
}

void default_container(json::object& container) {
  if (text_of(container, "imagePullPolicy").empty()) {
    container["imagePullPolicy"] = is_latest(text_of(container, "image")) ? "Always" : "IfNotPresent";
  }
}

/// What has a limit and no request requests the limit.
void requests_from_limits(json::object& container) {
  json::object* resources = object_of(container, "resources");
  const json::object* limits = resources != nullptr ? object_of(*resources, "limits") : nullptr;
  if (limits == nullptr) return;
  const json::object copy = *limits;  // the insertion below may move it
  json::value& requests = (*resources)["requests"];
  if (!requests.is_object()) requests.emplace_object();
  for (const auto& [name, quantity] : copy) set_if_absent(requests.get_object(), name, quantity);
}

void host_ports(json::object& container) {
  for_each_object(container, "ports", [](json::object& port) {
    const json::value* container_port = port.if_contains("containerPort");
    const json::value* host_port = port.if_contains("hostPort");
    const bool unset = host_port == nullptr || (host_port->is_int64() && host_port->get_int64() == 0);
    if (unset && container_port != nullptr) port["hostPort"] = json::value(*container_port);
  });
}

bool is_pod_resource(std::string_view name) {
  return name == "cpu" || name == "memory" || name.starts_with("hugepages-");
}

/// The sum of what containers request, init containers beside it: the most there is at any time.
Quantity container_requests(const json::object& spec, std::string_view name, bool& any) {
  const auto request = [&](const json::object& container) {
    const json::value* text =
        object_or_empty(object_or_empty(container, "resources"), "requests").if_contains(name);
    const Result<Quantity> value = text != nullptr && text->is_string()
                                       ? Quantity::parse(std::string_view(text->get_string()))
                                       : Quantity();
    any = any || text != nullptr;
    return value ? *value : Quantity();
  };
  Quantity sum, sidecars, most;
  for_each_object(spec, "containers",
                  [&](std::size_t, const json::object& container) { sum += request(container); });
  for_each_object(spec, "initContainers", [&](std::size_t, const json::object& container) {
    const Quantity own = request(container);
    if (text_of(container, "restartPolicy") == "Always") sidecars += own;
    const Quantity now = text_of(container, "restartPolicy") == "Always" ? sidecars : sidecars + own;
    if (now > most) most = now;
  });
  sum += sidecars;
  return most > sum ? most : sum;
}

/// A pod that has limits as a whole requests what its containers do, or else its limits.
void default_pod_requests(json::object& spec) {
  json::object* resources = object_of(spec, "resources");
  const json::object* limits = resources != nullptr ? object_of(*resources, "limits") : nullptr;
  if (limits == nullptr || limits->empty()) return;
  const json::object copy = *limits;
  json::object requests = object_or_empty(*resources, "requests");
  for (const char* name : {"cpu", "memory"}) {
    bool any = false;
    const Quantity sum = container_requests(spec, name, any);
    if (any) set_if_absent(requests, name, json::string(sum.to_string()));
  }
  for (const auto& [name, quantity] : copy) {
    if (is_pod_resource(name)) set_if_absent(requests, name, quantity);
  }
  if (!requests.empty()) (*resources)["requests"] = std::move(requests);
}

/// Only for pods themselves: upstream leaves templates of workloads as they are.
void default_pod(json::object& pod) {
  json::object* spec = object_of(pod, "spec");
  if (spec == nullptr) return;
  set_if_absent(*spec, "enableServiceLinks", true);
  for (const char* list : {"initContainers", "containers"}) {
    for_each_object(*spec, list, requests_from_limits);
    if (flag_of(*spec, "hostNetwork")) for_each_object(*spec, list, host_ports);
  }
  default_pod_requests(*spec);
}

/// serviceAccount is the older name of serviceAccountName, which counts where both are given.
void default_pod_spec(json::object& spec) {
  std::string name(text_of(spec, "serviceAccountName"));
  if (name.empty()) name = text_of(spec, "serviceAccount");
  if (name.empty()) return;
  spec["serviceAccountName"] = name;
  spec["serviceAccount"] = name;
}

/// A volume without a source is an emptyDir.
void default_volume(json::object& volume) {
  const bool has_source =
      std::any_of(volume.begin(), volume.end(), [](const auto& member) { return member.key() != "name"; });
  if (!has_source) volume["emptyDir"] = json::object();
}

void default_service_port(json::object& port) {
  const json::value* target = port.if_contains("targetPort");
  const bool unset = target == nullptr || (target->is_int64() && target->get_int64() == 0) ||
                     (target->is_string() && target->get_string().empty());
  const json::value* number = port.if_contains("port");
  if (unset && number != nullptr) port["targetPort"] = json::value(*number);
}

void default_service_spec(json::object& spec) {
  if (text_of(spec, "sessionAffinity") == "ClientIP") {
    json::value& config = spec["sessionAffinityConfig"];
    if (!config.is_object()) config.emplace_object();
    json::value& client_ip = config.get_object()["clientIP"];
    if (!client_ip.is_object()) client_ip.emplace_object();
  } else {
    json::value* config = spec.if_contains("sessionAffinityConfig");
    if (config != nullptr) spec.stable_erase(spec.find("sessionAffinityConfig"));
  }
  const std::string type(text_of(spec, "type"));  // what is put in below may move the text
  const bool outside = type == "NodePort" || type == "LoadBalancer";
  const json::array* addresses = array_of(static_cast<const json::object&>(spec), "externalIPs");
  const bool reachable = outside || (type == "ClusterIP" && addresses != nullptr && !addresses->empty());
  if (reachable && text_of(spec, "externalTrafficPolicy").empty()) spec["externalTrafficPolicy"] = "Cluster";
  if (outside || type == "ClusterIP") set_if_absent(spec, "internalTrafficPolicy", "Cluster");
  if (type == "LoadBalancer") set_if_absent(spec, "allocateLoadBalancerNodePorts", true);
}

/// {type: RollingUpdate} gets an (empty) rollingUpdate, whose fields the schema fills in.
void default_rolling_update(json::object& strategy) {
  if (text_of(strategy, "type") == "RollingUpdate") set_if_absent(strategy, "rollingUpdate", json::object());
}

void default_job(json::object& job) {
  json::object* spec = object_of(job, "spec");
  if (spec == nullptr) return;
  if (!spec->contains("completions") && !spec->contains("parallelism"))
    (*spec)["completions"] = std::int64_t{1};
  set_if_absent(*spec, "parallelism", std::int64_t{1});
  const std::int64_t backoff = spec->contains("backoffLimitPerIndex") ? INT32_MAX : 6;
  set_if_absent(*spec, "backoffLimit", backoff);
  set_if_absent(*spec, "completionMode", "NonIndexed");
  set_if_absent(*spec, "suspend", false);
  set_if_absent(*spec, "manualSelector", false);
  set_if_absent(*spec, "podReplacementPolicy",
                spec->contains("podFailurePolicy") ? "Failed" : "TerminatingOrFailed");
}

void copy_missing(json::object& item, std::string_view from, std::string_view to) {
  const json::object* source = object_of(item, from);
  if (source == nullptr || source->empty()) return;
  const json::object copy = *source;
  json::value& target = item[to];
  if (!target.is_object()) target.emplace_object();
  for (const auto& [name, quantity] : copy) set_if_absent(target.get_object(), name, quantity);
}

void default_limit_range_item(json::object& item) {
  if (text_of(item, "type") != "Container") return;
  copy_missing(item, "max", "default");
  copy_missing(item, "default", "defaultRequest");
  copy_missing(item, "min", "defaultRequest");
}

void default_network_policy(json::object& spec) {
  if (spec.contains("policyTypes")) return;
  json::array types{"Ingress"};
  const json::value* egress = spec.if_contains("egress");
  if (egress != nullptr && egress->is_array() && !egress->get_array().empty()) types.emplace_back("Egress");
  spec["policyTypes"] = std::move(types);
}

void default_rbac_subject(json::object& subject) {
  const std::string_view kind = text_of(subject, "kind");
  if ((kind == "User" || kind == "Group") && text_of(subject, "apiGroup").empty()) {
    subject["apiGroup"] = "rbac.authorization.k8s.io";
  }
}

/// A direction of a behaviour that says something gets the rest of its rules.
void default_scaling(json::object& behavior, const char* direction, json::array policies) {
  json::value& rules = behavior[direction];
  if (!rules.is_object()) rules.emplace_object();
  json::object& object = rules.get_object();
  if (std::string_view(direction) == "scaleUp") set_if_absent(object, "stabilizationWindowSeconds", 0);
  set_if_absent(object, "selectPolicy", "Max");
  set_if_absent(object, "policies", std::move(policies));
}

json::object scaling_policy(const char* type, std::int64_t value) {
  return {{"type", type}, {"value", value}, {"periodSeconds", 15}};
}

void default_hpa(json::object& spec) {
  if (json::object* behavior = object_of(spec, "behavior")) {
    json::array up, down;
    up.push_back(scaling_policy("Pods", 4));
    up.push_back(scaling_policy("Percent", 100));
    down.push_back(scaling_policy("Percent", 100));
    default_scaling(*behavior, "scaleUp", std::move(up));
    default_scaling(*behavior, "scaleDown", std::move(down));
  }
  const json::value* metrics = spec.if_contains("metrics");
  if (metrics != nullptr && metrics->is_array() && !metrics->get_array().empty()) return;
  json::object target{{"type", "Utilization"}, {"averageUtilization", 80}};
  json::object resource{{"name", "cpu"}, {"target", std::move(target)}};
  json::object metric{{"type", "Resource"}, {"resource", std::move(resource)}};
  json::array list;
  list.push_back(std::move(metric));
  spec["metrics"] = std::move(list);
}

/// An object without labels takes those of its template.
void labels_from_template(json::object& object) {
  json::object* spec = object_of(object, "spec");
  json::object* pod = spec != nullptr ? object_of(*spec, "template") : nullptr;
  json::object* meta = pod != nullptr ? object_of(*pod, "metadata") : nullptr;
  const json::object* labels = meta != nullptr ? object_of(*meta, "labels") : nullptr;
  if (labels == nullptr || labels->empty()) return;
  json::object copy = *labels;
  json::value& own = object["metadata"];
  if (!own.is_object()) own.emplace_object();
  json::value& target = own.get_object()["labels"];
  if (!target.is_object() || target.get_object().empty()) target = std::move(copy);
}

/// An address of a balancer is one that nodes take packets for, unless it says otherwise.
void default_load_balancer_ingress(json::object& ingress) {
  if (!text_of(ingress, "ip").empty()) set_if_absent(ingress, "ipMode", "VIP");
}

/// A ReplicationController without a selector takes the labels of its template.
void default_replication_controller(json::object& spec) {
  const json::value* labels = nullptr;
  if (json::object* pod = object_of(spec, "template")) {
    if (json::object* meta = object_of(*pod, "metadata")) labels = meta->if_contains("labels");
  }
  const json::object* selector = object_of(spec, "selector");
  if (labels != nullptr && (selector == nullptr || selector->empty())) {
    json::value copy = *labels;
    spec["selector"] = std::move(copy);
  }
}

void default_node_status(json::object& status) {
  const json::value* capacity = status.if_contains("capacity");
  if (capacity == nullptr || status.contains("allocatable")) return;
  json::value copy = *capacity;
  status["allocatable"] = std::move(copy);
}

/// stringData is written into data and never read back.
void merge_string_data(json::object& secret) {
  json::value* found = secret.if_contains("stringData");
  if (found == nullptr) return;
  const json::value texts = std::move(*found);
  secret.stable_erase(secret.find("stringData"));
  if (!texts.is_object() || texts.get_object().empty()) return;
  json::value& data = secret["data"];
  if (!data.is_object()) data.emplace_object();
  for (const auto& [key, text] : texts.get_object()) {
    if (text.is_string()) data.get_object()[key] = encode_base64_text(text.get_string());
  }
}

/// apiextensions/v1 defaults.go: names that follow from the kind, conversion None.
void default_crd(json::object& spec) {
  set_if_absent(spec, "conversion", json::object{{"strategy", "None"}});
  json::object* names = object_of(spec, "names");
  if (names == nullptr) return;
  std::string kind(text_of(*names, "kind"));
  if (kind.empty()) return;
  if (text_of(*names, "listKind").empty()) (*names)["listKind"] = kind + "List";
  std::transform(kind.begin(), kind.end(), kind.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (text_of(*names, "singular").empty()) (*names)["singular"] = kind;
}

void default_namespace(json::object& object) {
  json::object* meta = object_of(object, "metadata");
  if (meta == nullptr || text_of(*meta, "name").empty()) return;
  json::value& labels = (*meta)["labels"];
  if (!labels.is_object()) labels.emplace_object();
  labels.get_object()["kubernetes.io/metadata.name"] = json::string(text_of(*meta, "name"));
}

// Claims of templates say what they are, as their conversion upstream does.
void default_stateful_set(json::object& spec) {
  for_each_object(spec, "volumeClaimTemplates", [](json::object& claim) {
    set_if_absent(claim, "apiVersion", "v1");
    set_if_absent(claim, "kind", "PersistentVolumeClaim");
  });
}

}  // namespace

void run_default_hook(TypeHook hook, json::object& object) {
  switch (hook) {
    case TypeHook::container:
    case TypeHook::ephemeral_container:
      return default_container(object);
    case TypeHook::crd_spec:
      return default_crd(object);
    case TypeHook::daemon_set_strategy:
    case TypeHook::deployment_strategy:
    case TypeHook::stateful_set_strategy:
      return default_rolling_update(object);
    case TypeHook::hpa_spec:
      return default_hpa(object);
    case TypeHook::job:
      labels_from_template(object);
      return default_job(object);
    case TypeHook::limit_range_item:
      return default_limit_range_item(object);
    case TypeHook::load_balancer_ingress:
      return default_load_balancer_ingress(object);
    case TypeHook::namespace_object:
      return default_namespace(object);
    case TypeHook::network_policy_spec:
      return default_network_policy(object);
    case TypeHook::node_status:
      return default_node_status(object);
    case TypeHook::pod:
      return default_pod(object);
    case TypeHook::pod_spec:
      return default_pod_spec(object);
    case TypeHook::rbac_subject:
      return default_rbac_subject(object);
    case TypeHook::replication_controller:
      return labels_from_template(object);
    case TypeHook::replication_controller_spec:
      return default_replication_controller(object);
    case TypeHook::secret:
      return merge_string_data(object);
    case TypeHook::service_port:
      return default_service_port(object);
    case TypeHook::service_spec:
      return default_service_spec(object);
    case TypeHook::stateful_set_spec:
      return default_stateful_set(object);
    case TypeHook::volume:
      return default_volume(object);
    default:
      return;
  }
}

}  // namespace orchestra::api
