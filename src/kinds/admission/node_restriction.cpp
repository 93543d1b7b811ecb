// Nodes write only what is theirs: upstream plugin/pkg/admission/noderestriction/admission.go.
//
// A user system:node:NAME of group system:nodes may write its own Node (without touching taints or the labels
// that steer others), status, eviction and deletion of pods bound to it, mirror pods owned by it, its own
// Lease and CSINode, the growth of claims, and ask for tokens of pods that run on it. What it may reach at
// all is the Node authorizer's business.
#include <algorithm>
#include <array>
#include <set>

#include "api/meta.hpp"
#include "api/rbac/node_authorizer.hpp"
#include "api/status.hpp"
#include "apiserver/admission/plugins.hpp"

namespace orchestra::apiserver {
namespace {
constexpr const char* kMirror = "/metadata/annotations/kubernetes.io~1config.mirror";

// Labels below kubernetes.io and k8s.io that a kubelet may set on its Node
// (kubelet/pkg/apis/well_known_labels.go).
constexpr std::array<std::string_view, 14> kKubeletLabels = {"kubernetes.io/hostname",
                                                             "kubernetes.io/instance-type",
                                                             "kubernetes.io/os",
                                                             "kubernetes.io/arch",
                                                             "beta.kubernetes.io/instance-type",
                                                             "beta.kubernetes.io/os",
                                                             "beta.kubernetes.io/arch",
                                                             "failure-domain.beta.kubernetes.io/zone",
                                                             "failure-domain.beta.kubernetes.io/region",
                                                             "failure-domain.kubernetes.io/zone",
                                                             "failure-domain.kubernetes.io/region",
                                                             "topology.kubernetes.io/zone",
                                                             "topology.kubernetes.io/region",
                                                             "node.kubernetes.io/instance-type"};
constexpr std::array<std::string_view, 2> kKubeletDomains = {"kubelet.kubernetes.io", "node.kubernetes.io"};

bool below(std::string_view domain, std::string_view of) {
  return domain == of || (domain.ends_with(of) && domain[domain.size() - of.size() - 1] == '.');
}

bool forbidden_label(std::string_view key) {
  const std::size_t slash = key.find('/');
  if (slash == std::string_view::npos) return false;
  const std::string_view domain = key.substr(0, slash);
  if (below(domain, "node-restriction.kubernetes.io")) return true;
  if (!below(domain, "kubernetes.io") && !below(domain, "k8s.io")) return false;
  if (std::find(kKubeletLabels.begin(), kKubeletLabels.end(), key) != kKubeletLabels.end()) return false;
  return std::none_of(kKubeletDomains.begin(), kKubeletDomains.end(),
                      [&](std::string_view allowed) { return below(domain, allowed); });
}

// Labels that differ and may not, in order.
std::string forbidden_changes(const json::value& object, const json::value* old) {
  static const json::object kNone;
  const json::object* now = object_at(object, "/metadata/labels");
  const json::object* before = old == nullptr ? nullptr : object_at(*old, "/metadata/labels");
  if (now == nullptr) now = &kNone;
  if (before == nullptr) before = &kNone;
  std::set<std::string> changed;
  const auto compare = [&](const json::object& a, const json::object& b) {
    for (const auto& [key, value] : a) {
      const json::value* other = b.if_contains(key);
      if ((other == nullptr || *other != value) && forbidden_label(key)) changed.insert(std::string(key));
    }
  };
  compare(*now, *before);
  compare(*before, *now);
  std::string text;
  for (const std::string& key : changed) text += (text.empty() ? "" : ", ") + key;
  return text;
}

bool same(const json::value& a, const json::value& b, std::string_view pointer) {
  const json::value* one = find(a, pointer);
  const json::value* other = find(b, pointer);
  return one != nullptr && other != nullptr ? *one == *other : one == other;
}

std::string quoted(const std::string& text) { return "\"" + text + "\""; }
std::string node_is(const std::string& node) { return "node " + quoted(node) + " "; }

Result<void> restrict_node(const Admission& admission, const std::string& node) {
  const json::value& named = admission.object != nullptr ? *admission.object : *admission.old;
  const std::string name(api::meta_string(named, "name"));
  if (name != node) return deny(admission, node_is(node) + "is not allowed to modify node " + quoted(name));
  if (admission.object == nullptr) return {};
  const json::value& object = *admission.object;
  if (admission.old == nullptr) {
    if (const std::string labels = forbidden_changes(object, nullptr); !labels.empty())
      return deny(admission, node_is(node) + "is not allowed to set the following labels: " + labels);
    return {};
  }
  if (find(object, "/spec/configSource") != nullptr && !same(object, *admission.old, "/spec/configSource"))
    return deny(admission,
                node_is(node) + "is not allowed to update configSource to a new non-nil configSource");
  if (!same(object, *admission.old, "/spec/taints"))
    return deny(admission, node_is(node) + "is not allowed to modify taints");
  if (const std::string labels = forbidden_changes(object, admission.old); !labels.empty())
    return deny(admission, "is not allowed to modify labels: " + labels);
  return {};
}

// A mirror pod belongs to the Node that makes it.
Result<void> check_owner(const Admission& admission, const std::string& node) {
  const json::array* owners = array_at(*admission.object, "/metadata/ownerReferences");
  const std::string only = node_is(node) + "can only create pods with ";
  if (owners == nullptr || owners->empty()) return deny(admission, only + "an owner reference set to itself");
  if (owners->size() > 1) return deny(admission, only + "a single owner reference set to itself");
  const json::value& owner = owners->front();
  if (string_at(owner, "/apiVersion") != "v1" || string_at(owner, "/kind") != "Node" ||
      string_at(owner, "/name") != node) {
    return deny(admission, only + "an owner reference set to itself");
  }
  if (!bool_at(owner, "/controller"))
    return deny(admission, only + "a controller owner reference set to itself");
  if (bool_at(owner, "/blockOwnerDeletion"))
    return deny(admission, node_is(node) + "must not set blockOwnerDeletion on an owner reference");
  ORC_ASSIGN(const auto found, admission.view.load(object_key({"", "nodes"}, "", node)));
  if (!found) return api::not_found(api::ResourceName("", "nodes"), node);
  const std::string uid = string_at(owner, "/uid");
  if (uid == found->view.uid) return {};
  return deny(admission,
              "node " + node + " UID mismatch: expected " + uid + " got " + std::string(found->view.uid));
}

Result<void> restrict_new_pod(const Admission& admission, const std::string& node) {
  json::value pod = *admission.object;
  if (find(pod, kMirror) == nullptr) {
    return deny(admission, "pod does not have \"kubernetes.io/config.mirror\" annotation, " + node_is(node) +
                               "can only create mirror pods");
  }
  if (string_at(pod, "/spec/nodeName") != node)
    return deny(admission, node_is(node) + "can only create pods with spec.nodeName set to itself");
  ORC_TRY(check_owner(admission, node));
  api::metadata(pod)["annotations"] = json::object();  // names_in_pod says nothing of mirror pods
  for (const std::string& name : api::names_in_pod(pod)) {
    const std::string ns(api::meta_string(pod, "namespace"));
    if (name == "account/" + ns + "/default") continue;  // our default, given to every pod before this
    const std::string kind = name.substr(0, name.find('/'));
    const char* what = kind == "account"     ? "a service account"
                       : kind == "secret"    ? "secrets"
                       : kind == "configmap" ? "configmaps"
                                             : "persistentvolumeclaims";
    return deny(admission, node_is(node) + "can not create pods that reference " + what);
  }
  const json::array* volumes = array_at(pod, "/spec/volumes");
  if (volumes == nullptr) return {};
  for (const json::value& volume : *volumes) {
    const json::array* sources = array_at(volume, "/projected/sources");
    if (sources == nullptr) continue;
    for (const json::value& source : *sources) {
      if (find(source, "/clusterTrustBundle") != nullptr)
        return deny(admission, node_is(node) + "can not create pods that reference clustertrustbundles");
    }
  }
  return {};
}

Result<void> restrict_pod(const Admission& admission, const std::string& node, const std::string& sub) {
  const bool mine = admission.old != nullptr && string_at(*admission.old, "/spec/nodeName") == node;
  if (sub == "status") {
    if (!mine)
      return deny(admission,
                  node_is(node) + "can only update pod status for pods with spec.nodeName set to itself");
    if (!same(*admission.object, *admission.old, "/metadata/labels"))
      return deny(admission, node_is(node) + "cannot update labels through pod status");
    if (!same(*admission.object, *admission.old, "/status/resourceClaimStatuses"))
      return deny(admission, node_is(node) + "cannot update resource claim statues");
    return {};
  }
  if (sub == "eviction") {
    if (mine) return {};
    return deny(admission, "node " + node + " can only evict pods with spec.nodeName set to itself");
  }
  if (!sub.empty()) {
    return deny(admission,
                "unexpected pod subresource " + quoted(sub) + ", only 'status' and 'eviction' are allowed");
  }
  if (admission.old == nullptr) return restrict_new_pod(admission, node);
  if (admission.object == nullptr) {
    if (mine) return {};
    return deny(admission, node_is(node) + "can only delete pods with spec.nodeName set to itself");
  }
  return deny(admission,
              "unexpected operation \"UPDATE\", " + node_is(node) + "can only create and delete mirror pods");
}

// Only what growing a volume changes.
Result<void> restrict_claim(const Admission& admission, const std::string& node, const std::string& sub) {
  if (sub != "status" || admission.object == nullptr || admission.old == nullptr)
    return deny(admission, "may only update PVC status");
  const auto rest = [](json::value claim) {
    json::object& object = claim.get_object();
    if (json::value* status = object.if_contains("status"); status != nullptr && status->is_object()) {
      for (const char* field : {"capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"})
        status->get_object().erase(field);
      if (status->get_object().empty()) object.erase("status");
    }
    for (const char* field : {"resourceVersion", "managedFields"}) api::metadata(claim).erase(field);
    return claim;
  };
  if (rest(*admission.object) == rest(*admission.old)) return {};
  return deny(
      admission,
      node_is(node) + "is not allowed to update fields other than status.capacity and status.conditions");
}

// A token for a pod that runs there, bound to it.
Result<void> restrict_token(const Admission& admission, const std::string& node, const std::string& sub) {
  if (sub != "token" || admission.object == nullptr) return {};
  const json::value* ref = find(*admission.object, "/spec/boundObjectRef");
  const std::string name = ref == nullptr ? std::string() : string_at(*ref, "/name");
  if (name.empty() || string_at(*ref, "/apiVersion") != "v1" || string_at(*ref, "/kind") != "Pod")
    return deny(admission, "node requested token not bound to a pod");
  const std::string uid = string_at(*ref, "/uid");
  if (uid.empty()) return deny(admission, "node requested token with a pod binding without a uid");
  ORC_ASSIGN(const auto found, admission.view.load(object_key({"", "pods"}, admission.input.ns(), name)));
  if (!found) return api::not_found(api::ResourceName("", "pods"), name);
  if (uid != found->view.uid) {
    return deny(admission, "the UID in the bound object reference (" + uid +
                               ") does not match the UID in record. The object might have been deleted and "
                               "then recreated");
  }
  ORC_ASSIGN(const json::value pod, found->tree());
  if (string_at(pod, "/spec/nodeName") == node) return {};
  return deny(admission, "node requested token bound to a pod scheduled on a different node");
}

Result<void> restrict_named(const Admission& admission, const std::string& node, const char* what) {
  const json::value& named = admission.object != nullptr ? *admission.object : *admission.old;
  if (api::meta_string(named, "name") == node) return {};
  return deny(admission,
              std::string("can only access ") + what + " with the same name as the requesting node");
}
}  // namespace

Result<void> admit_node_restriction(Admission& admission) {
  const Identity& user = admission.input.call->user;
  const auto identity = api::node_of_user(user.user, user.groups);
  if (!identity) return {};
  const std::string& node = *identity;
  if (node.empty()) return deny(admission, "could not determine node from user " + quoted(user.user));
  const std::string sub = admission.input.sub == nullptr ? std::string() : admission.input.sub->name;
  if (is_type(admission, "", "nodes")) return restrict_node(admission, node);
  if (is_type(admission, "", "pods")) return restrict_pod(admission, node, sub);
  if (is_type(admission, "", "persistentvolumeclaims")) return restrict_claim(admission, node, sub);
  if (is_type(admission, "", "serviceaccounts")) return restrict_token(admission, node, sub);
  if (is_type(admission, "storage.k8s.io", "csinodes")) return restrict_named(admission, node, "CSINode");
  if (!is_type(admission, "coordination.k8s.io", "leases")) return {};
  if (admission.input.ns() != "kube-node-lease")
    return deny(admission, "can only access leases in the \"kube-node-lease\" system namespace");
  return restrict_named(admission, node, "node lease");
}

}  // namespace orchestra::apiserver
