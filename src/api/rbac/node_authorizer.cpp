// The rules of nodes: see node_authorizer.hpp.
#include "api/rbac/node_authorizer.hpp"

#include <algorithm>

#include "api/rbac/rules.hpp"
#include "api/schema.hpp"
#include "api/tree.hpp"

namespace orchestra::api {
namespace {

constexpr std::string_view kUserPrefix = "system:node:";
constexpr const char* kNodeLeases = "kube-node-lease";

AccessDecision allow() { return {true, ""}; }
AccessDecision no(std::string reason) { return {false, std::move(reason)}; }

bool one_of(const std::string& word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

const std::vector<PolicyRule>& node_rules() {
  static const std::vector<PolicyRule> kRules = [] {
    for (const json::value& object : rbac::default_objects()) {
      if (string_at(object, "/kind") == "ClusterRole" && string_at(object, "/metadata/name") == "system:node")
        return rbac::rules_of(object);
    }
    return std::vector<PolicyRule>();
  }();
  return kRules;
}

// Is `field` asked to be exactly `value`?
bool selects(const std::string& selector, const std::string& field, const std::string& value) {
  for (const std::string_view part : split_words(selector, ',')) {
    if (part == field + "=" + value || part == field + "==" + value) return true;
  }
  return false;
}

// What the parts of a pod name, one line per place: kind, pointer below a container or a volume.
struct Place {
  std::string_view kind, pointer;
};
constexpr Place kVolumePlaces[] = {
    {"secret", "/secret/secretName"},         {"secret", "/azureFile/secretName"},
    {"secret", "/cephfs/secretRef/name"},     {"secret", "/cinder/secretRef/name"},
    {"secret", "/flexVolume/secretRef/name"}, {"secret", "/rbd/secretRef/name"},
    {"secret", "/scaleIO/secretRef/name"},    {"secret", "/iscsi/secretRef/name"},
    {"secret", "/storageos/secretRef/name"},  {"secret", "/csi/nodePublishSecretRef/name"},
    {"configmap", "/configMap/name"},         {"claim", "/persistentVolumeClaim/claimName"},
};
constexpr Place kProjectedPlaces[] = {{"secret", "/secret/name"}, {"configmap", "/configMap/name"}};
constexpr Place kEnvironmentPlaces[] = {{"secret", "/valueFrom/secretKeyRef/name"},
                                        {"configmap", "/valueFrom/configMapKeyRef/name"}};
constexpr Place kEnvironmentFromPlaces[] = {{"secret", "/secretRef/name"},
                                            {"configmap", "/configMapRef/name"}};

class Collector {
 public:
  explicit Collector(const json::value& pod) : pod_(pod), ns_(string_at(pod, "/metadata/namespace")) {}

  std::set<std::string> all() {
    add("account", string_at(pod_, "/spec/serviceAccountName"));
    each(pod_, "/spec/imagePullSecrets",
         [&](const json::value& one) { add("secret", string_at(one, "/name")); });
    for (const char* list : {"/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"}) {
      each(pod_, list, [&](const json::value& container) {
        each(container, "/env", [&](const json::value& one) { take(one, kEnvironmentPlaces); });
        each(container, "/envFrom", [&](const json::value& one) { take(one, kEnvironmentFromPlaces); });
      });
    }
    each(pod_, "/spec/volumes", [&](const json::value& volume) {
      take(volume, kVolumePlaces);
      each(volume, "/projected/sources", [&](const json::value& source) { take(source, kProjectedPlaces); });
      if (find(volume, "/ephemeral") != nullptr)
        add("claim", string_at(pod_, "/metadata/name") + "-" + string_at(volume, "/name"));
    });
    return std::move(names_);
  }

 private:
  template <class Each>
  static void each(const json::value& parent, std::string_view pointer, Each call) {
    const json::array* list = array_at(parent, pointer);
    if (list == nullptr) return;
    for (const json::value& item : *list) call(item);
  }
  template <std::size_t N>
  void take(const json::value& parent, const Place (&places)[N]) {
    for (const Place& place : places) add(place.kind, string_at(parent, place.pointer));
  }
  void add(std::string_view kind, const std::string& name) {
    if (!name.empty()) names_.insert(std::string(kind) + "/" + ns_ + "/" + name);
  }
  const json::value& pod_;
  const std::string ns_;
  std::set<std::string> names_;
};

// Secrets that a node needs for a volume: upstream pkg/api/v1/persistentvolume/util.go, those it may see.
std::set<std::string> secrets_of_volume(const json::value& volume) {
  std::set<std::string> out;
  const std::string claim_ns = string_at(volume, "/spec/claimRef/namespace");
  const auto add = [&](std::string_view reference, std::string_view name, std::string_view ns) {
    const json::value* at = find(volume, std::string("/spec/") + std::string(reference));
    if (at == nullptr || string_at(*at, name).empty()) return;
    out.insert("secret/" + string_at(*at, ns, claim_ns) + "/" + string_at(*at, name));
  };
  add("azureFile", "/secretName", "/secretNamespace");
  for (const char* source : {"cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"})
    add(std::string(source) + "/secretRef", "/name", "/namespace");
  for (const char* reference : {"nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"})
    add(std::string("csi/") + reference, "/name", "/namespace");
  return out;
}

AccessDecision of_leases(const std::string& node, const AccessRequest& request) {
  if (!one_of(request.verb, {"get", "create", "update", "patch", "delete"}))
    return no("can only get, create, update, patch, or delete a node lease");
  if (request.ns != kNodeLeases)
    return no("can only access leases in the \"kube-node-lease\" system namespace");
  // The name of a new one is not known here; admission (NodeRestriction) looks at it.
  if (request.verb != "create" && request.name != node)
    return no("can only access node lease with the same name as the requesting node");
  return allow();
}

AccessDecision of_csi_nodes(const std::string& node, const AccessRequest& request) {
  if (!one_of(request.verb, {"get", "create", "update", "patch", "delete"}))
    return no("can only get, create, update, patch, or delete a CSINode");
  if (!request.subresource.empty()) return no("cannot authorize CSINode subresources");
  if (request.verb != "create" && request.name != node)
    return no("can only access CSINode with the same name as the requesting node");
  return allow();
}

AccessDecision of_nodes(const std::string& node, const AccessRequest& request) {
  if (request.subresource == "status") return {one_of(request.verb, {"update", "patch"}), ""};
  if (!request.subresource.empty()) return no("");
  if (one_of(request.verb, {"create", "update", "patch"})) return allow();
  if (!one_of(request.verb, {"get", "list", "watch"})) return no("");
  if (request.name == node) return allow();
  return no("node '" + node + "' cannot read " +
            (request.name.empty() ? "all nodes" : "'" + request.name + "'") + ", only its own Node object");
}
}  // namespace

std::optional<std::string> node_of_user(const std::string& user, const std::vector<std::string>& groups) {
  if (!user.starts_with(kUserPrefix)) return std::nullopt;
  if (std::find(groups.begin(), groups.end(), "system:nodes") == groups.end()) return std::nullopt;
  return user.substr(kUserPrefix.size());
}

std::set<std::string> names_in_pod(const json::value& pod) {
  if (find(pod, "/metadata/annotations/kubernetes.io~1config.mirror") != nullptr) return {};
  return Collector(pod).all();
}

void NodeAuthorizer::put_pod(const std::string& ns, const std::string& name, const std::string& node,
                             Load load) {
  if (node.empty()) return remove_pod(ns, name);
  const std::string key = ns + "/" + name;
  Pod& pod = pods_[key];
  if (pod.node != node) {
    if (!pod.node.empty()) by_node_[pod.node].erase(key);
    by_node_[node].insert(key);
  }
  pod = {node, std::move(load), {}};
}

void NodeAuthorizer::remove_pod(const std::string& ns, const std::string& name) {
  const auto found = pods_.find(ns + "/" + name);
  if (found == pods_.end()) return;
  const auto node = by_node_.find(found->second.node);
  if (node != by_node_.end()) {
    node->second.erase(found->first);
    if (node->second.empty()) by_node_.erase(node);
  }
  pods_.erase(found);
}

void NodeAuthorizer::forget_pods() {
  pods_.clear();
  by_node_.clear();
}

void NodeAuthorizer::put_volume(const json::value& volume) {
  Volume entry;
  if (find(volume, "/spec/claimRef") != nullptr) {
    entry.claim = "claim/" + string_at(volume, "/spec/claimRef/namespace") + "/" +
                  string_at(volume, "/spec/claimRef/name");
    entry.secrets = secrets_of_volume(volume);
  }
  volumes_[string_at(volume, "/metadata/name")] = std::move(entry);
}
void NodeAuthorizer::remove_volume(const std::string& name) { volumes_.erase(name); }
void NodeAuthorizer::put_attachment(const std::string& name, const std::string& node) {
  attachments_[name] = node;
}
void NodeAuthorizer::remove_attachment(const std::string& name) { attachments_.erase(name); }

// Does a pod of this node name it?
bool NodeAuthorizer::names(const std::string& node, const std::string& what) {
  const auto found = by_node_.find(node);
  if (found == by_node_.end()) return false;
  for (const std::string& key : found->second) {
    Pod& pod = pods_.at(key);
    if (pod.load) {
      const Load load = std::move(pod.load);
      pod.load = nullptr;
      if (const auto tree = load()) pod.names = names_in_pod(*tree);
    }
    if (pod.names.contains(what)) return true;
  }
  return false;
}

bool NodeAuthorizer::related(const std::string& node, std::string_view kind, const std::string& ns,
                             const std::string& name) {
  if (kind == "pod") {
    const auto found = pods_.find(ns + "/" + name);
    return found != pods_.end() && found->second.node == node;
  }
  if (kind == "attachment") {
    const auto found = attachments_.find(name);
    return found != attachments_.end() && found->second == node;
  }
  if (kind == "volume") {
    const auto found = volumes_.find(name);
    return found != volumes_.end() && !found->second.claim.empty() && names(node, found->second.claim);
  }
  const std::string what = std::string(kind) + "/" + ns + "/" + name;
  if (names(node, what)) return true;
  if (kind != "secret") return false;
  return std::any_of(volumes_.begin(), volumes_.end(), [&](const auto& entry) {
    return entry.second.secrets.contains(what) && names(node, entry.second.claim);
  });
}

AccessDecision NodeAuthorizer::by_relation(const std::string& node, std::string_view kind,
                                           const AccessRequest& request) {
  if (request.name.empty()) return no("No Object name found");
  if (related(node, kind, request.ns, request.name)) return allow();
  return no("no relationship found between node '" + node + "' and this object");
}

AccessDecision NodeAuthorizer::of_pods(const std::string& node, const AccessRequest& request) {
  if (request.subresource == "status") return {one_of(request.verb, {"update", "patch"}), ""};
  if (request.subresource == "eviction") return {request.verb == "create", ""};
  if (!request.subresource.empty()) return no("");
  if (request.verb == "get") return by_relation(node, "pod", request);
  if (one_of(request.verb, {"create", "delete"}))
    return allow();  // NodeRestriction: mirror pods and own ones
  if (!one_of(request.verb, {"list", "watch"})) return no("");
  if (selects(request.field_selector, "spec.nodeName", node)) return allow();
  if (!request.name.empty()) return by_relation(node, "pod", request);
  return no("can only list/watch pods with spec.nodeName field selector");
}

AccessDecision NodeAuthorizer::decide(const AccessRequest& request) {
  const auto identity = node_of_user(request.user, request.groups);
  if (!identity) return no("");
  const std::string& node = *identity;
  if (node.empty()) return no("unknown node for user \"" + request.user + "\"");
  const auto get_only = [&](std::string_view kind) {
    if (request.verb != "get") return no("can only get individual resources of this type");
    if (!request.subresource.empty()) return no("cannot get subresource");
    return by_relation(node, kind, request);
  };
  const auto read_only = [&](std::string_view kind) {
    if (!one_of(request.verb, {"get", "list", "watch"})) return no("can only read resources of this type");
    if (!request.subresource.empty()) return no("cannot read subresource");
    if (request.ns.empty()) return no("can only read namespaced object of this type");
    return by_relation(node, kind, request);
  };
  const std::string& resource = request.resource;
  if (request.is_resource && request.api_group.empty()) {
    if (resource == "secrets") return read_only("secret");
    if (resource == "configmaps") return read_only("configmap");
    if (resource == "persistentvolumes") return get_only("volume");
    if (resource == "nodes") return of_nodes(node, request);
    if (resource == "pods") return of_pods(node, request);
    if (resource == "persistentvolumeclaims") {
      if (request.subresource != "status") return get_only("claim");
      if (!one_of(request.verb, {"update", "patch"})) return no("can only get/update/patch this type");
      return by_relation(node, "claim", request);
    }
    if (resource == "serviceaccounts") {
      if (request.verb != "create" || request.name.empty())
        return no("can only create tokens for individual service accounts");
      if (request.subresource != "token") return no("can only create token subresource of serviceaccount");
      return by_relation(node, "account", request);
    }
  }
  if (request.is_resource && request.api_group == "storage.k8s.io") {
    if (resource == "volumeattachments") return get_only("attachment");
    if (resource == "csinodes") return of_csi_nodes(node, request);
  }
  if (request.is_resource && request.api_group == "coordination.k8s.io" && resource == "leases")
    return of_leases(node, request);
  const std::vector<PolicyRule>& rules = node_rules();
  return {std::any_of(rules.begin(), rules.end(),
                      [&](const PolicyRule& rule) { return rbac::allows(rule, request); }),
          ""};
}

}  // namespace orchestra::api
