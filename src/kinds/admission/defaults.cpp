// What objects get from others that exist: RuntimeClass of pods, default classes of storage and ingress, and
// the taint of nodes that are not known to be well yet.
//
// Upstream plug-ins runtimeclass, storage/storageclass/setdefault, network/defaultingressclass,
// nodetaint.
#include <algorithm>

#include "api/meta.hpp"
#include "apiserver/admission/plugins.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kClassesMax = 1000;

// The newest class with this annotation "true"; of equally old ones the first by name.
Result<std::string> default_class(const View& view, const TypePlace& place, const std::string& annotation) {
  ORC_ASSIGN(const auto classes, view.range(objects_range(place, ""), kClassesMax));
  std::string name;
  std::string made;
  for (const KeyValue& kv : classes) {
    ORC_ASSIGN(const StoredView stored, decode_stored_frame(kv.value.bytes()));
    ORC_ASSIGN(const json::value tree, parse_json(stored.json));
    const json::object* annotations = object_at(tree, "/metadata/annotations");
    const json::value* flag = annotations == nullptr ? nullptr : annotations->if_contains(annotation);
    if (flag == nullptr || *flag != "true") continue;
    const std::string at = string_at(tree, "/metadata/creationTimestamp");
    if (!name.empty() && at <= made) continue;
    name = api::meta_string(tree, "name");
    made = at;
  }
  return name;
}

bool has_annotation(const json::value& object, const std::string& name) {
  const json::object* annotations = object_at(object, "/metadata/annotations");
  return annotations != nullptr && annotations->contains(name);
}
json::object& spec_of(json::value& object) {
  json::value& spec = object.get_object()["spec"];
  if (!spec.is_object()) spec = json::object();
  return spec.get_object();
}
}  // namespace

Result<void> admit_default_class(Admission& admission) {
  if (!creates(admission)) return {};
  json::value& object = *admission.object;
  if (is_type(admission, "", "persistentvolumeclaims")) {
    if (find(object, "/spec/storageClassName") != nullptr ||
        has_annotation(object, "volume.beta.kubernetes.io/storage-class")) {
      return {};
    }
    ORC_ASSIGN(const std::string name, default_class(admission.view, {"storage.k8s.io", "storageclasses"},
                                                     "storageclass.kubernetes.io/is-default-class"));
    if (!name.empty()) spec_of(object)["storageClassName"] = name;
  } else if (is_type(admission, "networking.k8s.io", "ingresses")) {
    if (find(object, "/spec/ingressClassName") != nullptr ||
        has_annotation(object, "kubernetes.io/ingress.class")) {
      return {};
    }
    ORC_ASSIGN(const std::string name, default_class(admission.view, {"networking.k8s.io", "ingressclasses"},
                                                     "ingressclass.kubernetes.io/is-default-class"));
    if (!name.empty()) spec_of(object)["ingressClassName"] = name;
  }
  return {};
}

// Upstream's plug-in PersistentVolumeClaimResize.
Result<void> admit_claim_growth(Admission& admission) {
  if (!is_type(admission, "", "persistentvolumeclaims") || admission.old == nullptr ||
      admission.object == nullptr || admission.input.sub != nullptr)
    return {};
  const char* const at = "/spec/resources/requests/storage";
  const auto before = Quantity::parse(string_at(*admission.old, at, "0"));
  const auto now = Quantity::parse(string_at(*admission.object, at, "0"));
  if (!before || !now || !(*before < *now)) return {};
  if (string_at(*admission.old, "/status/phase") != "Bound")
    return deny(admission, "Only bound persistent volume claims can be expanded");
  const std::string name = string_at(*admission.object, "/spec/storageClassName");
  bool allowed = false;
  if (!name.empty()) {
    ORC_ASSIGN(const auto found,
               admission.view.load(object_key({"storage.k8s.io", "storageclasses"}, "", name)));
    if (found) {
      ORC_ASSIGN(const json::value chosen, found->tree());
      const json::value* flag = find(chosen, "/allowVolumeExpansion");
      allowed = flag != nullptr && *flag == json::value(true);
    }
  }
  if (allowed) return {};
  return deny(
      admission,
      "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
      "support resize");
}

Result<void> admit_node_taint(Admission& admission) {
  if (!is_type(admission, "", "nodes") || !creates(admission)) return {};
  json::value& taints = spec_of(*admission.object)["taints"];
  if (!taints.is_array()) taints = json::array();
  for (const json::value& taint : taints.get_array()) {
    if (string_at(taint, "/key") == "node.kubernetes.io/not-ready" &&
        string_at(taint, "/effect") == "NoSchedule")
      return {};
  }
  taints.get_array().push_back(
      json::object{{"key", "node.kubernetes.io/not-ready"}, {"effect", "NoSchedule"}});
  return {};
}

// PodTopologyLabels (plugin/pkg/admission/podtopologylabels): where a pod runs is written on it, so that the
// downward API can tell its containers. What it says itself stays.
Result<void> admit_topology_labels(Admission& admission) {
  const bool binds =
      admission.document && admission.input.sub != nullptr && admission.input.sub->name == "binding";
  if (!is_type(admission, "", "pods") || !creates(admission)) return {};
  if (admission.document && !binds) return {};
  json::value& object = *admission.object;
  const std::string node = string_at(object, binds ? "/target/name" : "/spec/nodeName");
  if (node.empty() || (binds && string_at(object, "/target/kind", "Node") != "Node")) return {};
  ORC_ASSIGN(const auto found, admission.view.load(object_key({"", "nodes"}, "", node)));
  if (!found) return {};
  for (const auto& [key, value] : found->view.labels) {
    if (key != "topology.kubernetes.io/zone" && key != "topology.kubernetes.io/region") continue;
    json::value& labels = api::metadata(object)["labels"];
    if (!labels.is_object()) labels = json::object();
    if (!labels.get_object().contains(key)) labels.get_object()[key] = value;
  }
  return {};
}

Result<void> admit_runtime_class(Admission& admission) {
  if (!is_type(admission, "", "pods") || !creates(admission)) return {};
  json::value& pod = *admission.object;
  const std::string name = string_at(pod, "/spec/runtimeClassName");
  if (name.empty()) {
    if (find(pod, "/spec/overhead") == nullptr) return {};
    return deny(admission,
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead");
  }
  ORC_ASSIGN(const auto found, admission.view.load(object_key({"node.k8s.io", "runtimeclasses"}, "", name)));
  if (!found) return deny(admission, "pod rejected: RuntimeClass \"" + name + "\" not found");
  ORC_ASSIGN(const json::value chosen, found->tree());
  json::object& spec = spec_of(pod);
  const json::value* overhead = find(chosen, "/overhead/podFixed");
  if (const json::value* given = spec.if_contains("overhead")) {
    if (overhead == nullptr || *given != *overhead) {
      return deny(admission, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
    }
  } else if (overhead != nullptr) {
    spec["overhead"] = *overhead;
  }
  if (const json::object* selector = object_at(chosen, "/scheduling/nodeSelector")) {
    json::value& own = spec["nodeSelector"];
    if (!own.is_object()) own = json::object();
    for (const auto& [key, value] : *selector) {
      const json::value* before = own.get_object().if_contains(key);
      if (before != nullptr && *before != value) {
        return deny(admission, "conflict: runtimeClass.scheduling.nodeSelector[" + std::string(key) +
                                   "] = " + to_json(value) + "; pod.spec.nodeSelector has another value");
      }
      own.get_object()[key] = value;
    }
  }
  if (const json::array* tolerations = array_at(chosen, "/scheduling/tolerations")) {
    json::value& own = spec["tolerations"];
    if (!own.is_array()) own = json::array();
    for (const json::value& one : *tolerations) {
      json::array& list = own.get_array();
      if (std::find(list.begin(), list.end(), one) == list.end()) list.push_back(one);
    }
  }
  return {};
}

}  // namespace orchestra::apiserver
