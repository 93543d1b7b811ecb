// The roles and bindings that every cluster has, as a table.
//
// Facts from upstream plugin/pkg/auth/authorizer/rbac/bootstrappolicy (policy.go, controller_policy.go,
// namespace_policy.go). Lines:
//   role NAME [+x] [=x]     ClusterRole; +x: counted by aggregate-to-x; =x: is the sum of aggregate-to-x
//   role NS NAME            Role
//   VERBS GROUPS RESOURCES [NAMES]   a rule; R W RW are the usual verbs, "core" the empty group
//   VERBS url PATHS         a rule on paths
//   bind NAME SUBJECT..     ClusterRoleBinding to the ClusterRole of that name; u: g: s:NS/NAME
//   bind NS NAME SUBJECT..  RoleBinding to the Role of that name
//   grant NAME ROLE SUBJECT..  ClusterRoleBinding NAME to the ClusterRole ROLE: what upstream leaves to
//   kubeadm, so
//                           that a bootstrap token is all that a node needs to join
//   controller NAME         ClusterRole system:controller:NAME, bound to its account in kube-system
#include <sstream>

#include "api/rbac/rules.hpp"
#include "api/schema.hpp"
#include "base/assert.hpp"

namespace orchestra::api::rbac {
namespace {

constexpr const char* kPolicy = R"(
role admin =admin
role edit =edit +admin
role view =view +edit
role cluster-admin
* * *
* url *
role system:aggregate-to-admin +admin
create authorization.k8s.io localsubjectaccessreviews
RW rbac.authorization.k8s.io rolebindings,roles
role system:aggregate-to-edit +edit
R core pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy
impersonate core serviceaccounts
W core pods,pods/attach,pods/exec,pods/portforward,pods/proxy
create core pods/eviction
W core configmaps,events,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale,secrets,serviceaccounts,services,services/proxy
create core serviceaccounts/token
W apps daemonsets,deployments,deployments/rollback,deployments/scale,replicasets,replicasets/scale,statefulsets,statefulsets/scale
W autoscaling horizontalpodautoscalers
W batch cronjobs,jobs
W extensions daemonsets,deployments,deployments/rollback,deployments/scale,ingresses,networkpolicies,replicasets,replicasets/scale,replicationcontrollers/scale
W policy poddisruptionbudgets
W networking.k8s.io ingresses,networkpolicies
RW coordination.k8s.io leases
role system:aggregate-to-view +view
R core configmaps,endpoints,persistentvolumeclaims,persistentvolumeclaims/status,pods,replicationcontrollers,replicationcontrollers/scale,serviceaccounts,services,services/status
R core bindings,events,limitranges,namespaces/status,pods/log,pods/status,replicationcontrollers/status,resourcequotas,resourcequotas/status
R core namespaces
R discovery.k8s.io endpointslices
R apps controllerrevisions,daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,replicasets,replicasets/scale,replicasets/status,statefulsets,statefulsets/scale,statefulsets/status
R autoscaling horizontalpodautoscalers,horizontalpodautoscalers/status
R batch cronjobs,cronjobs/status,jobs,jobs/status
R extensions daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,ingresses,ingresses/status,networkpolicies,replicasets,replicasets/scale,replicasets/status,replicationcontrollers/scale
R policy poddisruptionbudgets,poddisruptionbudgets/status
R networking.k8s.io ingresses,ingresses/status,networkpolicies
role system:auth-delegator
create authentication.k8s.io tokenreviews
create authorization.k8s.io subjectaccessreviews
role system:basic-user
create authorization.k8s.io selfsubjectaccessreviews,selfsubjectrulesreviews
create authentication.k8s.io selfsubjectreviews
role system:certificates.k8s.io:certificatesigningrequests:nodeclient
create certificates.k8s.io certificatesigningrequests/nodeclient
role system:certificates.k8s.io:certificatesigningrequests:selfnodeclient
create certificates.k8s.io certificatesigningrequests/selfnodeclient
role system:certificates.k8s.io:kube-apiserver-client-approver
approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client
role system:certificates.k8s.io:kube-apiserver-client-kubelet-approver
approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client-kubelet
role system:certificates.k8s.io:kubelet-serving-approver
approve certificates.k8s.io signers kubernetes.io/kubelet-serving
role system:certificates.k8s.io:legacy-unknown-approver
approve certificates.k8s.io signers kubernetes.io/legacy-unknown
role system:discovery
get url /api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,/version,/version/
role system:heapster
R core events,namespaces,nodes,pods
R extensions deployments
role system:kube-aggregator
R core endpoints,services
role system:kube-controller-manager
EVENTS
create coordination.k8s.io leases
get,update coordination.k8s.io leases kube-controller-manager
create core secrets,serviceaccounts
delete core secrets
get core configmaps,namespaces,secrets,serviceaccounts
update core secrets,serviceaccounts
create authentication.k8s.io tokenreviews
create authorization.k8s.io subjectaccessreviews
list,watch * *
create core serviceaccounts/token
role system:kube-dns
list,watch core endpoints,services
role system:kube-scheduler
EVENTS
create coordination.k8s.io leases
get,update coordination.k8s.io leases kube-scheduler
R core nodes
delete,get,list,watch core pods
create core bindings,pods/binding
patch,update core pods/status
R core replicationcontrollers,services
R apps,extensions replicasets
R apps statefulsets
R policy poddisruptionbudgets
R core persistentvolumeclaims,persistentvolumes
create authentication.k8s.io tokenreviews
create authorization.k8s.io subjectaccessreviews
R storage.k8s.io csinodes
R core namespaces
R storage.k8s.io csidrivers
R storage.k8s.io csistoragecapacities
role system:kubelet-api-admin
R core nodes
proxy core nodes
* core nodes/log,nodes/metrics,nodes/proxy,nodes/stats
role system:monitoring
get url /healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,/readyz,/readyz/*
role system:node
create authentication.k8s.io tokenreviews
create authorization.k8s.io localsubjectaccessreviews,subjectaccessreviews
R core services
create,get,list,watch core nodes
patch,update core nodes/status
patch,update core nodes
create,patch,update core events
R core pods
create,delete core pods
patch,update core pods/status
create core pods/eviction
R core configmaps,secrets
get core persistentvolumeclaims,persistentvolumes
get core endpoints
create,get,list,watch certificates.k8s.io certificatesigningrequests
create,delete,get,patch,update coordination.k8s.io leases
get storage.k8s.io volumeattachments
create core serviceaccounts/token
get,patch,update core persistentvolumeclaims/status
R storage.k8s.io csidrivers
create,delete,get,patch,update storage.k8s.io csinodes
R node.k8s.io runtimeclasses
role system:node-bootstrapper
create,get,list,watch certificates.k8s.io certificatesigningrequests
role system:node-problem-detector
get core nodes
patch core nodes/status
EVENTS
role system:node-proxier
list,watch core endpoints,services
R core nodes
EVENTS
list,watch discovery.k8s.io endpointslices
role system:persistent-volume-provisioner
create,delete,get,list,watch core persistentvolumes
get,list,update,watch core persistentvolumeclaims
R storage.k8s.io storageclasses
watch core events
EVENTS
role system:public-info-viewer
get url /healthz,/livez,/readyz,/version,/version/
role system:service-account-issuer-discovery
get url /.well-known/openid-configuration,/openid/v1/jwks
role system:volume-scheduler
get,list,patch,update,watch core persistentvolumes
R storage.k8s.io storageclasses
get,list,patch,update,watch core persistentvolumeclaims
controller attachdetach-controller
list,watch core persistentvolumeclaims,persistentvolumes
R core nodes
patch,update core nodes/status
list,watch core pods
EVENTS
create,delete,get,list,watch storage.k8s.io volumeattachments
R storage.k8s.io csidrivers
R storage.k8s.io csinodes
controller certificate-controller
delete,get,list,watch certificates.k8s.io certificatesigningrequests
update certificates.k8s.io certificatesigningrequests/approval,certificatesigningrequests/status
approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client-kubelet
sign certificates.k8s.io signers kubernetes.io/kube-apiserver-client,kubernetes.io/kube-apiserver-client-kubelet,kubernetes.io/kubelet-serving,kubernetes.io/legacy-unknown
create authorization.k8s.io subjectaccessreviews
EVENTS
controller clusterrole-aggregation-controller
escalate,get,list,patch,update,watch rbac.authorization.k8s.io clusterroles
controller cronjob-controller
get,list,update,watch batch cronjobs
create,delete,get,list,patch,update,watch batch jobs
update batch cronjobs/status
update batch cronjobs/finalizers
delete,list,watch core pods
EVENTS
controller daemon-set-controller
R apps,extensions daemonsets
update apps,extensions daemonsets/status
update apps,extensions daemonsets/finalizers
list,watch core nodes
create,delete,list,patch,watch core pods
create core pods/binding
create,delete,get,list,patch,update,watch apps controllerrevisions
EVENTS
controller deployment-controller
get,list,update,watch apps,extensions deployments
update apps,extensions deployments/status
update apps,extensions deployments/finalizers
create,delete,get,list,patch,update,watch apps,extensions replicasets
get,list,update,watch core pods
EVENTS
controller disruption-controller
R apps,extensions deployments
R apps,extensions replicasets
R core replicationcontrollers
R policy poddisruptionbudgets
R apps statefulsets
update policy poddisruptionbudgets/status
patch,update core pods/status
get * */scale
EVENTS
controller endpoint-controller
R core pods,services
create,delete,get,list,update,watch core endpoints
create core endpoints/restricted
EVENTS
controller endpointslice-controller
R core nodes,pods,services
update core services/finalizers
create,delete,get,list,update,watch discovery.k8s.io endpointslices
EVENTS
controller endpointslicemirroring-controller
R core endpoints,services
update core services/finalizers
update core endpoints/finalizers
create,delete,get,list,update,watch discovery.k8s.io endpointslices
EVENTS
controller ephemeral-volume-controller
R core pods
update core pods/finalizers
create,get,list,watch core persistentvolumeclaims
EVENTS
controller expand-controller
get,list,patch,update,watch core persistentvolumes
patch,update core persistentvolumeclaims/status
R core persistentvolumeclaims
EVENTS
get core services
controller generic-garbage-collector
delete,get,list,patch,update,watch * *
EVENTS
controller horizontal-pod-autoscaler
R autoscaling horizontalpodautoscalers
update autoscaling horizontalpodautoscalers/status
get,update * */scale
list,watch core pods
list metrics.k8s.io pods
R custom.metrics.k8s.io *
R external.metrics.k8s.io *
EVENTS
controller job-controller
get,list,patch,update,watch batch jobs
update batch jobs/status
update batch jobs/finalizers
create,delete,list,patch,watch core pods
EVENTS
controller legacy-service-account-token-cleaner
get core configmaps kube-apiserver-legacy-service-account-token-tracking
delete,patch core secrets
controller namespace-controller
delete,get,list,watch core namespaces
update core namespaces/finalize,namespaces/status
delete,deletecollection,get,list,watch * *
controller node-controller
delete,get,list,patch,update,watch core nodes
patch,update core nodes/status
patch,update core pods/status
delete,get,list,watch core pods
EVENTS
controller persistent-volume-binder
create,delete,get,list,update,watch core persistentvolumes
update core persistentvolumes/status
get,list,update,watch core persistentvolumeclaims
update core persistentvolumeclaims/status
create,delete,get,list,watch core pods
R storage.k8s.io storageclasses
list,watch core nodes
EVENTS
watch core events
get core services
controller pod-garbage-collector
delete,list,watch core pods
R core nodes
patch core pods/status
controller pv-protection-controller
get,list,update,watch core persistentvolumes
EVENTS
controller pvc-protection-controller
get,list,update,watch core persistentvolumeclaims
R core pods
EVENTS
controller replicaset-controller
get,list,update,watch apps,extensions replicasets
update apps,extensions replicasets/status
update apps,extensions replicasets/finalizers
create,delete,list,patch,watch core pods
EVENTS
controller replication-controller
get,list,update,watch core replicationcontrollers
update core replicationcontrollers/status
update core replicationcontrollers/finalizers
create,delete,list,patch,watch core pods
EVENTS
controller resourcequota-controller
list,watch * *
update core resourcequotas/status
EVENTS
controller root-ca-cert-publisher
create,update core configmaps
EVENTS
controller route-controller
list,watch core nodes
patch core nodes/status
EVENTS
controller service-account-controller
create core serviceaccounts
EVENTS
controller service-cidrs-controller
get,list,patch,update,watch networking.k8s.io servicecidrs
patch,update networking.k8s.io servicecidrs/finalizers
patch,update networking.k8s.io servicecidrs/status
R networking.k8s.io ipaddresses
EVENTS
controller service-controller
R core services
patch,update core services/status
list,watch core nodes
EVENTS
controller statefulset-controller
list,watch core pods
R apps statefulsets
update apps statefulsets/status
update apps statefulsets/finalizers
create,delete,get,patch,update core pods
create,delete,get,list,patch,update,watch apps controllerrevisions
create,get,list,watch core persistentvolumeclaims
delete,update core persistentvolumeclaims
update core pods/finalizers
EVENTS
controller ttl-after-finished-controller
delete,get,list,watch batch jobs
EVENTS
controller ttl-controller
list,patch,update,watch core nodes
EVENTS
controller validatingadmissionpolicy-status-controller
R admissionregistration.k8s.io validatingadmissionpolicies
get,patch,update admissionregistration.k8s.io validatingadmissionpolicies/status
EVENTS
bind cluster-admin g:system:masters
bind system:basic-user g:system:authenticated
bind system:discovery g:system:authenticated
bind system:kube-controller-manager u:system:kube-controller-manager
bind system:kube-dns s:kube-system/kube-dns
bind system:kube-scheduler u:system:kube-scheduler
bind system:monitoring g:system:monitoring
bind system:node
bind system:node-proxier u:system:kube-proxy
grant orchestra:node-autoapprove-bootstrap system:certificates.k8s.io:certificatesigningrequests:nodeclient g:system:bootstrappers
grant orchestra:node-autoapprove-certificate-rotation system:certificates.k8s.io:certificatesigningrequests:selfnodeclient g:system:nodes
grant orchestra:node-bootstrapper system:node-bootstrapper g:system:bootstrappers
bind system:public-info-viewer g:system:authenticated g:system:unauthenticated
bind system:service-account-issuer-discovery g:system:serviceaccounts
bind system:volume-scheduler u:system:kube-scheduler
role kube-system extension-apiserver-authentication-reader
R core configmaps extension-apiserver-authentication
role kube-system system::leader-locking-kube-controller-manager
watch core configmaps
get,update core configmaps kube-controller-manager
role kube-system system::leader-locking-kube-scheduler
watch core configmaps
get,update core configmaps kube-scheduler
role kube-system system:controller:bootstrap-signer
R core secrets
role kube-system system:controller:cloud-provider
create,get,list,watch core configmaps
role kube-system system:controller:token-cleaner
delete,get,list,watch core secrets
EVENTS
role kube-public system:controller:bootstrap-signer
R core configmaps
update core configmaps cluster-info
EVENTS
bind kube-system system::extension-apiserver-authentication-reader u:system:kube-controller-manager u:system:kube-scheduler
bind kube-system system::leader-locking-kube-controller-manager u:system:kube-controller-manager s:kube-system/kube-controller-manager
bind kube-system system::leader-locking-kube-scheduler u:system:kube-scheduler s:kube-system/kube-scheduler
bind kube-system system:controller:bootstrap-signer s:kube-system/bootstrap-signer
bind kube-system system:controller:cloud-provider s:kube-system/cloud-provider
bind kube-system system:controller:token-cleaner s:kube-system/token-cleaner
bind kube-public system:controller:bootstrap-signer s:kube-system/bootstrap-signer
)";

constexpr const char* kGroup = "rbac.authorization.k8s.io";

json::array list_of(std::string_view text) {
  if (text == "R") text = "get,list,watch";
  if (text == "W") text = "create,delete,deletecollection,patch,update";
  if (text == "RW") text = "create,delete,deletecollection,get,list,patch,update,watch";
  json::array out;
  for (const std::string_view word : split_words(text, ',')) {
    out.push_back(json::value(word == "core" ? std::string_view() : word));
  }
  return out;
}

json::value object_of_kind(const char* kind, const std::string& ns, const std::string& name) {
  json::object metadata{
      {"name", name},
      {"labels", json::object{{"kubernetes.io/bootstrapping", "rbac-defaults"}}},
      {"annotations", json::object{{"rbac.authorization.kubernetes.io/autoupdate", "true"}}}};
  if (!ns.empty()) metadata["namespace"] = ns;
  return json::object{
      {"apiVersion", std::string(kGroup) + "/v1"}, {"kind", kind}, {"metadata", std::move(metadata)}};
}

json::value subject_of(std::string_view text) {
  const std::string_view name = text.substr(2);
  if (text.starts_with("s:")) {
    const std::size_t slash = name.find('/');
    return json::object{
        {"kind", "ServiceAccount"}, {"name", name.substr(slash + 1)}, {"namespace", name.substr(0, slash)}};
  }
  return json::object{
      {"apiGroup", kGroup}, {"kind", text.starts_with("u:") ? "User" : "Group"}, {"name", name}};
}

json::value binding_of(const std::string& ns, const std::string& name, json::array subjects) {
  json::value binding = object_of_kind(ns.empty() ? "ClusterRoleBinding" : "RoleBinding", ns, name);
  // One binding of upstream has another name than its role.
  std::string role = name;
  if (name == "system::extension-apiserver-authentication-reader") role = name.substr(8);
  binding.get_object()["roleRef"] =
      json::object{{"apiGroup", kGroup}, {"kind", ns.empty() ? "ClusterRole" : "Role"}, {"name", role}};
  if (!subjects.empty()) binding.get_object()["subjects"] = std::move(subjects);
  return binding;
}

json::value rule_from(const std::vector<std::string>& words) {
  if (words[0] == "EVENTS") {
    return json::object{{"verbs", json::array{"create", "patch", "update"}},
                        {"apiGroups", json::array{"", "events.k8s.io"}},
                        {"resources", json::array{"events"}}};
  }
  ORC_ASSERT(words.size() >= 3);
  if (words[1] == "url")
    return json::object{{"verbs", list_of(words[0])}, {"nonResourceURLs", list_of(words[2])}};
  json::object rule{
      {"verbs", list_of(words[0])}, {"apiGroups", list_of(words[1])}, {"resources", list_of(words[2])}};
  if (words.size() > 3) rule["resourceNames"] = list_of(words[3]);
  return rule;
}

const char* aggregate_label(char of) {
  return of == 'a'   ? "rbac.authorization.k8s.io/aggregate-to-admin"
         : of == 'e' ? "rbac.authorization.k8s.io/aggregate-to-edit"
                     : "rbac.authorization.k8s.io/aggregate-to-view";
}

json::value cluster_role_from(const std::vector<std::string>& words) {
  json::value role = object_of_kind("ClusterRole", "", words[1]);
  for (std::size_t i = 2; i < words.size(); ++i) {
    const char* label = aggregate_label(words[i][1]);
    if (words[i][0] == '+') {
      role.at("metadata").at("labels").get_object()[label] = "true";
      continue;
    }
    role.get_object()["aggregationRule"] = json::object{
        {"clusterRoleSelectors", json::array{json::object{{"matchLabels", json::object{{label, "true"}}}}}}};
  }
  return role;
}

std::vector<json::value> parse() {
  std::vector<json::value> out;
  std::vector<json::value> bindings;
  std::istringstream lines(kPolicy);
  for (std::string line; std::getline(lines, line);) {
    std::vector<std::string> words;
    std::istringstream text(line);
    for (std::string word; text >> word;) words.push_back(word);
    if (words.empty()) continue;
    if (words[0] == "role") {
      const bool cluster = words.size() < 3 || words[2][0] == '+' || words[2][0] == '=';
      out.push_back(cluster ? cluster_role_from(words) : object_of_kind("Role", words[1], words[2]));
    } else if (words[0] == "controller") {
      const std::string name = "system:controller:" + words[1];
      out.push_back(object_of_kind("ClusterRole", "", name));
      bindings.push_back(binding_of("", name, json::array{subject_of("s:kube-system/" + words[1])}));
    } else if (words[0] == "bind") {
      const auto is_subject = [](const std::string& word) {
        return word[1] == ':' && word.size() > 2 && word[0] != ':';
      };
      const bool cluster = words.size() < 3 || is_subject(words[2]);
      json::array subjects;
      for (std::size_t i = cluster ? 2 : 3; i < words.size(); ++i) subjects.push_back(subject_of(words[i]));
      bindings.push_back(
          binding_of(cluster ? "" : words[1], cluster ? words[1] : words[2], std::move(subjects)));
    } else if (words[0] == "grant") {
      json::array subjects;
      for (std::size_t i = 3; i < words.size(); ++i) subjects.push_back(subject_of(words[i]));
      bindings.push_back(binding_of("", words[1], std::move(subjects)));
      set_at(bindings.back(), "/roleRef/name", json::value(words[2]));
    } else {
      json::value& rules = out.back().get_object()["rules"];
      if (!rules.is_array()) rules = json::array();
      rules.get_array().push_back(rule_from(words));
    }
  }
  for (json::value& binding : bindings) out.push_back(std::move(binding));
  return out;
}
}  // namespace

const std::vector<json::value>& default_objects() {
  static const std::vector<json::value> kObjects = parse();
  return kObjects;
}

}  // namespace orchestra::api::rbac
