// NodeShape and PodShape from API objects.
//
// The request of a pod (resource helpers of component-helpers): the sum of its containers and sidecars, or
// what its largest init container needs together with the sidecars started before it, whichever is more,
// plus overhead. Quantities that are no quantities count as zero: admission has refused them before.
#include <algorithm>
#include <cstdlib>

#include "api/object_tree.hpp"
#include "orchestra/quantity.hpp"
#include "orchestra/scheduling_snapshot.hpp"

namespace orchestra {

namespace {

// upstream: schedutil.DefaultMilliCPURequest, DefaultMemoryRequest
constexpr std::int64_t kScoreMillicores = 100;
constexpr std::int64_t kScoreMemoryBytes = 200LL * 1024 * 1024;

// More than any machine has, and little enough that a thousand of them can be added without overflow.
constexpr std::int64_t kAmountMax = std::int64_t{1} << 52;

std::int64_t amount(const std::string& resource, const json::value& value) {
  const std::string text = value.is_string() ? std::string(value.get_string()) : to_json(value);
  const auto quantity = Quantity::parse(text);
  if (!quantity) return 0;
  const std::int64_t number = resource == "cpu" ? quantity->milli_value() : quantity->value();
  return std::clamp<std::int64_t>(number, 0, kAmountMax);
}

Amounts amounts_at(const json::value& root, std::string_view pointer) {
  Amounts amounts;
  if (const json::object* object = object_at(root, pointer)) {
    for (const auto& [name, value] : *object) amounts[std::string(name)] = amount(std::string(name), value);
  }
  return amounts;
}

// Requests of a container; a limit without a request counts as one, as defaulting does.
Amounts requests_of(const json::value& container) {
  Amounts requests = amounts_at(container, "/resources/requests");
  for (const auto& [name, value] : amounts_at(container, "/resources/limits"))
    requests.try_emplace(name, value);
  return requests;
}

Amounts with_score_defaults(Amounts requests) {
  if (requests["cpu"] == 0) requests["cpu"] = kScoreMillicores;
  if (requests["memory"] == 0) requests["memory"] = kScoreMemoryBytes;
  return requests;
}

void add(Amounts& sum, const Amounts& more) {
  for (const auto& [name, value] : more) sum[name] += value;
}
void raise(Amounts& top, const Amounts& other) {
  for (const auto& [name, value] : other) top[name] = std::max(top[name], value);
}

bool is_sidecar(const json::value& container) { return string_at(container, "/restartPolicy") == "Always"; }

template <class RequestsOf>
Amounts pod_requests(const json::value& pod, RequestsOf requests) {
  Amounts running;
  if (const json::array* containers = array_at(pod, "/spec/containers")) {
    for (const json::value& container : *containers) add(running, requests(container));
  }
  Amounts sidecars;
  Amounts starting;
  if (const json::array* containers = array_at(pod, "/spec/initContainers")) {
    for (const json::value& container : *containers) {
      Amounts now = requests(container);
      if (is_sidecar(container)) add(sidecars, now);
      Amounts together = is_sidecar(container) ? Amounts() : std::move(now);
      add(together, sidecars);
      raise(starting, together);
    }
  }
  add(running, sidecars);
  raise(running, starting);
  add(running, amounts_at(pod, "/spec/overhead"));
  return running;
}

void read_ports(const json::value& pod, PodShape& shape) {
  const bool host_network = bool_at(pod, "/spec/hostNetwork");
  const bool binds_pod_ip = [&] {
    const json::object* annotations = object_at(pod, "/metadata/annotations");
    const json::value* value =
        annotations == nullptr ? nullptr : annotations->if_contains("orchestra.dev/binds-pod-ip");
    return value != nullptr && value->is_string() && value->get_string() == "true";
  }();
  for (const char* list : {"/spec/containers", "/spec/initContainers"}) {
    const json::array* containers = array_at(pod, list);
    if (containers == nullptr) continue;
    for (const json::value& container : *containers) {
      const json::array* ports = array_at(container, "/ports");
      if (ports == nullptr || (std::string_view(list) != "/spec/containers" && !is_sidecar(container)))
        continue;
      for (const json::value& port : *ports) {
        const std::string protocol = string_at(port, "/protocol", "TCP");
        const std::string address = string_at(port, "/hostIP", "0.0.0.0");
        const int container_port = static_cast<int>(int_at(port, "/containerPort"));
        int host_port = static_cast<int>(int_at(port, "/hostPort"));
        if (host_port == 0 && host_network) host_port = container_port;
        if (host_port > 0) shape.host_ports.push_back({protocol, address, host_port});
        if (container_port > 0 && !binds_pod_ip)
          shape.container_ports.push_back({protocol, "0.0.0.0", container_port});
      }
    }
  }
}

std::vector<NodeRequirement> requirements_at(const json::value& term, std::string_view pointer) {
  std::vector<NodeRequirement> requirements;
  const json::array* list = array_at(term, pointer);
  if (list == nullptr) return requirements;
  for (const json::value& entry : *list) {
    NodeRequirement requirement{string_at(entry, "/key"), string_at(entry, "/operator"), {}};
    if (const json::array* values = array_at(entry, "/values")) {
      for (const json::value& value : *values) {
        if (value.is_string()) requirement.values.emplace_back(value.get_string());
      }
    }
    requirements.push_back(std::move(requirement));
  }
  return requirements;
}

NodeTerm term_from(const json::value& term) {
  return {requirements_at(term, "/matchExpressions"), requirements_at(term, "/matchFields"), 0};
}

void read_affinity(const json::value& pod, PodShape& shape) {
  if (const json::object* selector = object_at(pod, "/spec/nodeSelector")) {
    for (const auto& [key, value] : *selector) {
      if (value.is_string()) shape.node_selector[std::string(key)] = value.get_string();
    }
  }
  const std::string base = "/spec/affinity/nodeAffinity/";
  if (find(pod, base + "requiredDuringSchedulingIgnoredDuringExecution") != nullptr) {
    shape.required_terms.emplace();
    if (const json::array* terms =
            array_at(pod, base + "requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms")) {
      for (const json::value& term : *terms) shape.required_terms->push_back(term_from(term));
    }
  }
  if (const json::array* terms = array_at(pod, base + "preferredDuringSchedulingIgnoredDuringExecution")) {
    for (const json::value& entry : *terms) {
      const json::value* preference = find(entry, "/preference");
      NodeTerm term = preference == nullptr ? NodeTerm() : term_from(*preference);
      term.weight = int_at(entry, "/weight");
      shape.preferred_terms.push_back(std::move(term));
    }
  }
}

}  // namespace

NodeShape NodeShape::from_object(const Object& node) {
  const json::value& root = tree(node);
  NodeShape shape;
  shape.name = node.name();
  shape.uid = node.uid();
  shape.labels = node.labels();
  shape.unschedulable = bool_at(root, "/spec/unschedulable");
  shape.allocatable = amounts_at(root, "/status/allocatable");
  if (const json::array* taints = array_at(root, "/spec/taints")) {
    for (const json::value& taint : *taints) {
      shape.taints.push_back(
          {string_at(taint, "/key"), string_at(taint, "/value"), string_at(taint, "/effect")});
    }
  }
  const auto isolation = shape.labels.find("orchestra.dev/isolation");
  shape.shares_ports = isolation != shape.labels.end() && isolation->second != "full";
  return shape;
}

PodShape PodShape::from_object(const Object& pod) {
  const json::value& root = tree(pod);
  PodShape shape;
  shape.ns = pod.ns();
  shape.name = pod.name();
  shape.uid = pod.uid();
  shape.requests = pod_requests(root, requests_of);
  Amounts scored =
      pod_requests(root, [](const json::value& c) { return with_score_defaults(requests_of(c)); });
  shape.score_millicores = scored["cpu"];
  shape.score_memory_bytes = scored["memory"];
  shape.node_name = string_at(root, "/spec/nodeName");
  shape.priority = int_at(root, "/spec/priority");
  if (const json::array* tolerations = array_at(root, "/spec/tolerations")) {
    for (const json::value& entry : *tolerations) {
      shape.tolerations.push_back({string_at(entry, "/key"), string_at(entry, "/operator", "Equal"),
                                   string_at(entry, "/value"), string_at(entry, "/effect")});
    }
  }
  read_affinity(root, shape);
  read_ports(root, shape);
  return shape;
}

}  // namespace orchestra
