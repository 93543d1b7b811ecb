// Nodes write only what is theirs: upstream plugin/pkg/admission/noderestriction/admission.go.
//
// A user system:node:NAME of group system:nodes may write its own Node (without touching taints of others or
// restricted labels), the status of pods bound to it, its own Lease, and mirror pods bound to itself.
#include "api/meta.hpp"
#include "apiserver/admission/plugins.hpp"

namespace orchestra::apiserver {
namespace {

std::string node_of(const Identity& user) {
  static const std::string kPrefix = "system:node:";
  if (!user.in_group("system:nodes") || !user.user.starts_with(kPrefix)) return {};
  return user.user.substr(kPrefix.size());
}

bool restricted_label(std::string_view key) {
  const std::size_t slash = key.find('/');
  if (slash == std::string_view::npos) return false;
  const std::string_view domain = key.substr(0, slash);
  return domain == "node-restriction.kubernetes.io" || domain.ends_with(".node-restriction.kubernetes.io");
}

Result<void> restrict_node(const Admission& admission, const std::string& node) {
  const json::value& object = *admission.object;
  if (api::meta_string(object, "name") != node) {
    return deny(admission, "node \"" + node + "\" is not allowed to modify node \"" +
                               std::string(api::meta_string(object, "name")) + "\"");
  }
  if (admission.old != nullptr) {
    const json::value* before = find(*admission.old, "/spec/taints");
    const json::value* after = find(object, "/spec/taints");
    const bool same = before != nullptr && after != nullptr ? *before == *after : before == after;
    if (!same) return deny(admission, "node \"" + node + "\" is not allowed to modify taints");
  }
  const json::object* labels = object_at(object, "/metadata/labels");
  const json::object* old =
      admission.old == nullptr ? nullptr : object_at(*admission.old, "/metadata/labels");
  if (labels == nullptr) return {};
  for (const auto& [key, value] : *labels) {
    const json::value* before = old == nullptr ? nullptr : old->if_contains(key);
    if (restricted_label(key) && (before == nullptr || *before != value)) {
      return deny(admission, "is not allowed to modify labels: " + std::string(key));
    }
  }
  return {};
}

Result<void> restrict_pod(const Admission& admission, const std::string& node) {
  const json::value& pod = *admission.object;
  if (creates(admission)) {
    if (find(pod, "/metadata/annotations/kubernetes.io~1config.mirror") == nullptr) {
      return deny(admission, "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"" + node +
                                 "\" can only create mirror pods");
    }
    if (string_at(pod, "/spec/nodeName") != node) {
      return deny(admission, "node \"" + node + "\" can only create pods with spec.nodeName set to itself");
    }
    for (const char* field : {"/spec/serviceAccountName"}) {
      if (!string_at(pod, field).empty() && string_at(pod, field) != "default")
        return deny(admission, "node \"" + node + "\" can not create pods that reference a service account");
    }
    return {};
  }
  if (string_at(*admission.old, "/spec/nodeName") != node) {
    return deny(admission,
                "node \"" + node + "\" can only update pod status for pods with spec.nodeName set to itself");
  }
  return {};
}
}  // namespace

Result<void> admit_node_restriction(Admission& admission) {
  const std::string node = node_of(admission.input.call->user);
  if (node.empty() || admission.object == nullptr) return {};
  if (is_type(admission, "", "nodes")) return restrict_node(admission, node);
  if (is_type(admission, "", "pods")) return restrict_pod(admission, node);
  if (is_type(admission, "coordination.k8s.io", "leases") && admission.input.ns() == "kube-node-lease" &&
      api::meta_string(*admission.object, "name") != node) {
    return deny(admission, "can only access node lease with the same name as the requesting node");
  }
  return {};
}

}  // namespace orchestra::apiserver
