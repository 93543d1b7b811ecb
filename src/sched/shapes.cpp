// Shapes of nodes, pods, volumes, claims and storage classes from API objects.
//
// The request of a pod (resource helpers of component-helpers): the sum of its containers and sidecars, or
// what its largest init container needs together with the sidecars started before it, whichever is more; of
// cpu, memory and huge pages what the pod asks for as a whole, where it does; plus overhead. A container that
// is being resized counts with the largest of what it should have, has and was allocated, or without the
// first where the node has said that this can never be. Quantities that are no quantities count as zero:
// admission has refused them before.
#include <algorithm>
#include <cstdlib>

#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "api/select.hpp"
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

// What the containers of a pod are known to have, by the node that runs them: AllocatedResources and
// Resources of their statuses (resource helpers: determineContainerReqs). Nothing where the node says nothing
// of it.
class Resizes {
 public:
  explicit Resizes(const json::value& pod) {
    if (const json::array* conditions = array_at(pod, "/status/conditions")) {
      for (const json::value& condition : *conditions) {
        if (string_at(condition, "/type") == "PodResizePending")
          never_ = never_ || string_at(condition, "/reason") == "Infeasible";
      }
    }
    for (const char* list : {"/status/containerStatuses", "/status/initContainerStatuses"}) {
      const json::array* statuses = array_at(pod, list);
      if (statuses == nullptr) continue;
      for (const json::value& status : *statuses) {
        if (object_at(status, "/resources") != nullptr) statuses_[string_at(status, "/name")] = &status;
      }
    }
  }
  Amounts requests(const json::value& container) const {
    const auto found = statuses_.empty() ? statuses_.end() : statuses_.find(string_at(container, "/name"));
    if (found == statuses_.end()) return requests_of(container);
    Amounts most = never_ ? Amounts() : requests_of(container);
    raise(most, amounts_at(*found->second, "/resources/requests"));
    raise(most, amounts_at(*found->second, "/allocatedResources"));
    return most;
  }

 private:
  std::map<std::string, const json::value*> statuses_;
  bool never_ = false;
};

bool asked_of_pods(std::string_view resource) {
  return resource == "cpu" || resource == "memory" || resource.rfind("hugepages-", 0) == 0;
}

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
  for (const auto& [name, value] : amounts_at(pod, "/spec/resources/requests")) {
    if (asked_of_pods(name)) running[name] = value;
  }
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

std::vector<NodeTerm> terms_at(const json::value& root, std::string_view pointer) {
  std::vector<NodeTerm> terms;
  if (const json::array* list = array_at(root, pointer)) {
    for (const json::value& term : *list) terms.push_back(term_from(term));
  }
  return terms;
}

void read_node_affinity(const json::value& pod, PodShape& shape) {
  if (const json::object* selector = object_at(pod, "/spec/nodeSelector")) {
    for (const auto& [key, value] : *selector) {
      if (value.is_string()) shape.node_selector[std::string(key)] = value.get_string();
    }
  }
  const std::string base = "/spec/affinity/nodeAffinity/";
  const std::string required = base + "requiredDuringSchedulingIgnoredDuringExecution";
  if (find(pod, required) != nullptr) shape.required_terms = terms_at(pod, required + "/nodeSelectorTerms");
  if (const json::array* terms = array_at(pod, base + "preferredDuringSchedulingIgnoredDuringExecution")) {
    for (const json::value& entry : *terms) {
      const json::value* preference = find(entry, "/preference");
      NodeTerm term = preference == nullptr ? NodeTerm() : term_from(*preference);
      term.weight = int_at(entry, "/weight");
      shape.preferred_terms.push_back(std::move(term));
    }
  }
}

// A selector that cannot be read matches nothing: admission has refused it before.
Selector selector_at(const json::value& root, std::string_view pointer) {
  return api::selector_of(find(root, pointer)).value_or(Selector::nothing());
}

// Adds "key in (the pod's own value)" for matchLabelKeys, "not in" for mismatchLabelKeys. Keys that the pod
// lacks, and terms without a selector, are left alone; said twice it means the same as once.
void merge_keys(const json::value& term, const std::map<std::string, std::string>& labels,
                Selector& selector) {
  if (selector == Selector::nothing()) return;
  std::vector<Selector::Requirement> all = selector.requirements();
  const std::size_t before = all.size();
  for (const auto& [pointer, op] : {std::pair("/matchLabelKeys", Selector::Operator::in),
                                    std::pair("/mismatchLabelKeys", Selector::Operator::not_in)}) {
    const json::array* keys = array_at(term, pointer);
    if (keys == nullptr) continue;
    for (const json::value& key : *keys) {
      if (!key.is_string()) continue;
      const auto own = labels.find(std::string(key.get_string()));
      if (own != labels.end()) all.push_back({own->first, op, {own->second}});
    }
  }
  if (all.size() != before) selector = Selector::from_requirements(std::move(all));
}

void read_spread(const json::value& pod, PodShape& shape) {
  const json::array* list = array_at(pod, "/spec/topologySpreadConstraints");
  if (list == nullptr) return;
  for (const json::value& entry : *list) {
    SpreadConstraint made;
    made.topology_key = string_at(entry, "/topologyKey");
    made.max_skew = int_at(entry, "/maxSkew", 1);
    made.min_domains = int_at(entry, "/minDomains", 1);
    made.hard = string_at(entry, "/whenUnsatisfiable", "DoNotSchedule") != "ScheduleAnyway";
    made.selector = selector_at(entry, "/labelSelector");
    merge_keys(entry, shape.labels, made.selector);
    made.honor_affinity = string_at(entry, "/nodeAffinityPolicy", "Honor") != "Ignore";
    made.honor_taints = string_at(entry, "/nodeTaintsPolicy", "Ignore") == "Honor";
    shape.spread.push_back(std::move(made));
  }
}

PodTerm pod_term_from(const json::value& entry, const PodShape& shape) {
  PodTerm term;
  term.topology_key = string_at(entry, "/topologyKey");
  term.selector = selector_at(entry, "/labelSelector");
  merge_keys(entry, shape.labels, term.selector);
  if (const json::array* names = array_at(entry, "/namespaces")) {
    for (const json::value& name : *names) {
      if (name.is_string()) term.namespaces.emplace_back(name.get_string());
    }
  }
  const json::value* selector = find(entry, "/namespaceSelector");
  if (selector != nullptr && !selector->is_null()) {
    term.namespace_selector = selector_at(entry, "/namespaceSelector");
  } else if (term.namespaces.empty()) {
    term.namespaces.push_back(shape.ns);
  }
  std::sort(term.namespaces.begin(), term.namespaces.end());
  return term;
}

void read_pod_affinity(const json::value& pod, PodShape& shape) {
  const auto read = [&](const std::string& base, std::vector<PodTerm>& required,
                        std::vector<PodTerm>& preferred) {
    if (const json::array* list = array_at(pod, base + "/requiredDuringSchedulingIgnoredDuringExecution")) {
      for (const json::value& entry : *list) required.push_back(pod_term_from(entry, shape));
    }
    if (const json::array* list = array_at(pod, base + "/preferredDuringSchedulingIgnoredDuringExecution")) {
      for (const json::value& entry : *list) {
        const json::value* inner = find(entry, "/podAffinityTerm");
        if (inner == nullptr) continue;
        PodTerm term = pod_term_from(*inner, shape);
        term.weight = std::clamp<std::int64_t>(int_at(entry, "/weight"), 0, 100);
        preferred.push_back(std::move(term));
      }
    }
  };
  read("/spec/affinity/podAffinity", shape.affinity, shape.preferred_affinity);
  read("/spec/affinity/podAntiAffinity", shape.anti_affinity, shape.preferred_anti_affinity);
}

// "nginx" is "nginx:latest", as the node's list names it.
std::string with_tag(const std::string& image) {
  const auto colon = image.rfind(':');
  const auto slash = image.rfind('/');
  const bool bare = colon == std::string::npos || (slash != std::string::npos && colon < slash);
  return bare ? image + ":latest" : image;
}

void read_images(const json::value& pod, PodShape& shape) {
  for (const char* list : {"/spec/initContainers", "/spec/containers"}) {
    const json::array* containers = array_at(pod, list);
    if (containers == nullptr) continue;
    for (const json::value& container : *containers)
      shape.images.push_back(with_tag(string_at(container, "/image")));
  }
}

void read_claims(const json::value& pod, PodShape& shape) {
  const json::array* volumes = array_at(pod, "/spec/volumes");
  if (volumes == nullptr) return;
  for (const json::value& volume : *volumes) {
    std::string claim = string_at(volume, "/persistentVolumeClaim/claimName");
    if (claim.empty() && object_at(volume, "/ephemeral") != nullptr) {
      claim = shape.name + "-" + string_at(volume, "/name");
      shape.late_claims.push_back(claim);
    }
    if (!claim.empty()) shape.claims.push_back(std::move(claim));
  }
}

std::vector<std::string> sorted_strings(const json::value& root, std::string_view pointer) {
  std::vector<std::string> all;
  if (const json::array* list = array_at(root, pointer)) {
    for (const json::value& each : *list) {
      if (each.is_string()) all.emplace_back(each.get_string());
    }
  }
  std::sort(all.begin(), all.end());
  return all;
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
  if (const json::array* images = array_at(root, "/status/images")) {
    for (const json::value& image : *images) {
      const json::array* names = array_at(image, "/names");
      if (names == nullptr) continue;
      for (const json::value& name : *names) {
        if (name.is_string())
          shape.images[std::string(name.get_string())] =
              std::clamp<std::int64_t>(int_at(image, "/sizeBytes"), 0, kAmountMax);
      }
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
  shape.labels = pod.labels();
  shape.terminating = pod.deleting();
  shape.never_preempts = string_at(root, "/spec/preemptionPolicy") == "Never";
  const std::string created = string_at(root, "/metadata/creationTimestamp");
  shape.started_ns = api::parse_time(string_at(root, "/status/startTime", created)).value_or(0);
  const Resizes resizes(root);
  const auto requests = [&](const json::value& container) { return resizes.requests(container); };
  shape.requests = pod_requests(root, requests);
  Amounts scored = pod_requests(root, [&](const json::value& c) { return with_score_defaults(requests(c)); });
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
  read_node_affinity(root, shape);
  read_ports(root, shape);
  read_spread(root, shape);
  read_pod_affinity(root, shape);
  read_images(root, shape);
  read_claims(root, shape);
  return shape;
}

VolumeShape VolumeShape::from_object(const Object& volume) {
  const json::value& root = tree(volume);
  VolumeShape shape;
  shape.name = volume.name();
  shape.storage_class = string_at(root, "/spec/storageClassName");
  shape.mode = string_at(root, "/spec/volumeMode", "Filesystem");
  shape.bytes = amounts_at(root, "/spec/capacity")["storage"];
  shape.access_modes = sorted_strings(root, "/spec/accessModes");
  shape.labels = volume.labels();
  if (find(root, "/spec/nodeAffinity/required") != nullptr)
    shape.required_terms = terms_at(root, "/spec/nodeAffinity/required/nodeSelectorTerms");
  if (object_at(root, "/spec/claimRef") != nullptr) {
    shape.claim = string_at(root, "/spec/claimRef/namespace") + "/" + string_at(root, "/spec/claimRef/name");
    shape.claim_uid = string_at(root, "/spec/claimRef/uid");
  }
  shape.driver = string_at(root, "/spec/csi/driver");
  shape.handle = string_at(root, "/spec/csi/volumeHandle");
  const std::string phase = string_at(root, "/status/phase", "Pending");
  shape.available = !volume.deleting() && (phase == "Available" || phase == "Pending");
  return shape;
}

ClaimShape ClaimShape::from_object(const Object& claim) {
  const json::value& root = tree(claim);
  ClaimShape shape;
  shape.ns = claim.ns();
  shape.name = claim.name();
  shape.uid = claim.uid();
  shape.volume = string_at(root, "/spec/volumeName");
  shape.storage_class = string_at(root, "/spec/storageClassName");
  shape.mode = string_at(root, "/spec/volumeMode", "Filesystem");
  shape.bytes = amounts_at(root, "/spec/resources/requests")["storage"];
  shape.access_modes = sorted_strings(root, "/spec/accessModes");
  const json::value* selector = find(root, "/spec/selector");
  if (selector != nullptr && !selector->is_null()) shape.selector = selector_at(root, "/spec/selector");
  shape.bound = !shape.volume.empty() && claim.annotations().contains("pv.kubernetes.io/bind-completed");
  shape.deleting = claim.deleting();
  if (const OwnerReference* owner = claim.controller()) shape.owner_uid = owner->uid;
  return shape;
}

StorageClassShape StorageClassShape::from_object(const Object& storage_class) {
  const json::value& root = tree(storage_class);
  StorageClassShape shape;
  shape.name = storage_class.name();
  shape.provisioner = string_at(root, "/provisioner");
  shape.waits_for_pod = string_at(root, "/volumeBindingMode") == "WaitForFirstConsumer";
  if (const json::array* terms = array_at(root, "/allowedTopologies")) {
    for (const json::value& entry : *terms) {
      NodeTerm term;
      if (const json::array* labels = array_at(entry, "/matchLabelExpressions")) {
        for (const json::value& label : *labels)
          term.labels.push_back({string_at(label, "/key"), "In", sorted_strings(label, "/values")});
      }
      shape.topologies.push_back(std::move(term));
    }
  }
  return shape;
}

CapacityShape CapacityShape::from_object(const Object& capacity) {
  const json::value& root = tree(capacity);
  CapacityShape shape;
  shape.ns = capacity.ns();
  shape.name = capacity.name();
  shape.storage_class = string_at(root, "/storageClassName");
  if (object_at(root, "/nodeTopology") != nullptr) shape.nodes = selector_at(root, "/nodeTopology");
  for (const char* field : {"/maximumVolumeSize", "/capacity"}) {
    const json::value* size = find(root, field);
    if (size == nullptr || size->is_null()) continue;
    shape.bytes = amount("storage", *size);
    break;
  }
  return shape;
}

std::map<std::string, std::int64_t> csi_limits_of(const Object& csi_node) {
  std::map<std::string, std::int64_t> limits;
  if (const json::array* drivers = array_at(tree(csi_node), "/spec/drivers")) {
    for (const json::value& driver : *drivers) {
      if (find(driver, "/allocatable/count") != nullptr)
        limits[string_at(driver, "/name")] = int_at(driver, "/allocatable/count");
    }
  }
  return limits;
}

}  // namespace orchestra
