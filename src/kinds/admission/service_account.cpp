// The identity of pods: upstream plugin/pkg/admission/serviceaccount/admission.go.
//
// A pod gets its account (default: "default"), the account's pull secrets, and a projected volume with
// token, CA and namespace at the usual place, unless pod or account say no. A new namespace gets its account
// `default` and its CA in the transaction that makes it, so nobody ever has to wait for them.
#include <algorithm>

#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "api/status.hpp"
#include "apiserver/admission/plugins.hpp"
#include "apiserver/auth/tokens.hpp"

namespace orchestra::apiserver {
namespace {
constexpr const char* kMountPath = "/var/run/secrets/kubernetes.io/serviceaccount";
constexpr std::int64_t kTokenSeconds = 3607;

bool mounts_at(const json::value& container, std::string_view path) {
  const json::array* mounts = array_at(container, "/volumeMounts");
  return mounts != nullptr && std::any_of(mounts->begin(), mounts->end(), [&](const json::value& mount) {
           return string_at(mount, "/mountPath") == path;
         });
}

/// All but its name.
json::value access_volume() {
  const json::value token = json::object{
      {"serviceAccountToken", json::object{{"expirationSeconds", kTokenSeconds}, {"path", "token"}}}};
  const json::value ca = json::object{
      {"configMap",
       json::object{{"name", "kube-root-ca.crt"},
                    {"items", json::array{json::object{{"key", "ca.crt"}, {"path", "ca.crt"}}}}}}};
  const json::value ns = json::object{
      {"downwardAPI",
       json::object{{"items", json::array{json::object{
                                  {"path", "namespace"},
                                  {"fieldRef", json::object{{"apiVersion", "v1"},
                                                            {"fieldPath", "metadata.namespace"}}}}}}}}};
  return json::object{
      {"name", ""},
      {"projected", json::object{{"sources", json::array{token, ca, ns}}, {"defaultMode", 420}}}};
}

json::array& list_of(json::object& object, std::string_view field) {
  json::value& list = object[field];
  return list.is_array() ? list.get_array() : list.emplace_array();
}

void mount_access(Admission& admission, json::object& spec) {
  static const json::value kVolume = access_volume();
  static const json::value kMount = json::object{{"name", ""}, {"readOnly", true}, {"mountPath", kMountPath}};
  const auto add = [](json::object& to, std::string_view list, const json::value& item,
                      const std::string& name) {
    list_of(to, list).emplace_back(item).get_object()["name"] = name;
  };
  std::string name;
  bool mounted = false;
  for (const char* list : {"initContainers", "containers"}) {
    json::value* containers = spec.if_contains(list);
    if (containers == nullptr || !containers->is_array()) continue;
    for (json::value& container : containers->get_array()) {
      if (!container.is_object() || mounts_at(container, kMountPath)) continue;
      if (name.empty())
        name = api::generate_name("kube-api-access-", admission.input.core->engine().random());
      add(container.get_object(), "volumeMounts", kMount, name);
      mounted = true;
    }
  }
  if (mounted) add(spec, "volumes", kVolume, name);
}

json::value new_object(Admission& admission, const char* kind, const std::string& ns, const char* name) {
  return json::object{
      {"apiVersion", "v1"},
      {"kind", kind},
      {"metadata", json::object{{"name", name},
                                {"namespace", ns},
                                {"uid", admission.input.core->engine().random().uuid()},
                                {"creationTimestamp", api::format_time(admission.input.now().wall_ns)}}}};
}

Result<void> put_new(Admission& admission, const char* resource, const json::value& object) {
  const api::TypePtr type = admission.input.core->registry()->find("", "v1", resource);
  if (type == nullptr) return {};
  const std::string key =
      key_of(*type, string_at(object, "/metadata/namespace"), string_at(object, "/metadata/name"));
  ORC_ASSIGN(const auto found, admission.view.get(key));
  if (found) return {};
  admission.change.expect(key, std::nullopt);
  admission.change.put(key, Value(encode_object(*type, object)));
  return {};
}
}  // namespace

Result<void> admit_service_account(Admission& admission) {
  if (!is_type(admission, "", "pods") || !creates(admission)) return {};
  json::value& pod = *admission.object;
  if (find(pod, "/metadata/annotations/kubernetes.io~1config.mirror") != nullptr) return {};
  json::object& spec = pod.at("spec").get_object();
  const std::string name = string_at(pod, "/spec/serviceAccountName");
  ORC_ASSIGN(const auto found,
             admission.view.get(object_key({"", "serviceaccounts"}, admission.input.ns(), name)));
  if (!found) {
    return deny(admission, "error looking up service account " + admission.input.ns() + "/" + name +
                               ": serviceaccount \"" + name + "\" not found");
  }
  ORC_ASSIGN(const Object kept, admission.input.core->cache().get(found->value, found->mod_revision));
  const json::value& account = tree(kept);
  const json::value* own = spec.if_contains("automountServiceAccountToken");
  const bool automount = own != nullptr && own->is_bool()
                             ? own->get_bool()
                             : bool_at(account, "/automountServiceAccountToken", true);
  if (automount) mount_access(admission, spec);
  const json::array* secrets = array_at(account, "/imagePullSecrets");
  const json::array* given = array_at(pod, "/spec/imagePullSecrets");
  if (secrets != nullptr && !secrets->empty() && (given == nullptr || given->empty())) {
    spec["imagePullSecrets"] = *secrets;
  }
  return {};
}

Result<void> furnish_namespace(Admission& admission) {
  const std::string ns(api::meta_string(*admission.object, "name"));
  ORC_TRY(put_new(admission, "serviceaccounts", new_object(admission, "ServiceAccount", ns, "default")));
  const auto authority = admission.input.core->tokens();
  if (authority == nullptr || authority->ca_pem.empty()) return {};
  json::value map = new_object(admission, "ConfigMap", ns, "kube-root-ca.crt");
  set_at(map, "/metadata/annotations/kubernetes.io~1description",
         "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints "
         "such as "
         "the internal service IP or kubernetes.default.svc. No other usage is guaranteed across "
         "distributions of "
         "Kubernetes clusters.");
  map.get_object()["data"] = json::object{{"ca.crt", authority->ca_pem}};
  return put_new(admission, "configmaps", map);
}

}  // namespace orchestra::apiserver
