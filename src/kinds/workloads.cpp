// Admission rules of namespaces, pods and what belongs to them.
//
// Upstream's plug-ins NamespaceLifecycle, Priority and DefaultTolerationSeconds, and the deletion rules of
// their strategies; the other plug-ins are in admission/.
#include <array>

#include "api/meta.hpp"
#include "api/status.hpp"
#include "apiserver/admission.hpp"
#include "apiserver/admission/plugins.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::array<std::string_view, 3> kImmortalNamespaces = {"default", "kube-system", "kube-public"};
constexpr std::int64_t kTolerationSeconds = 300;
constexpr std::size_t kPriorityClassesMax = 1000;

json::object& spec_of(json::value& object) {
  json::value& spec = object.get_object()["spec"];
  if (!spec.is_object()) spec = json::object();
  return spec.get_object();
}

Result<void> refuse_immortal(Admission& admission) {
  const std::string& name = admission.input.name();
  for (const std::string_view immortal : kImmortalNamespaces) {
    if (name == immortal)
      return api::forbidden(*admission.input.type, name, "this namespace may not be deleted");
  }
  return {};
}
bool namespace_has_content(const json::value& object) {
  const json::array* finalizers = array_at(object, "/spec/finalizers");
  return finalizers != nullptr && !finalizers->empty();
}
void mark_terminating(json::value& object) { set_at(object, "/status/phase", "Terminating"); }

Result<void> set_priority(Admission& admission, json::object& spec) {
  const std::string name = string_at(json::value(spec), "/priorityClassName");
  std::int64_t priority = 0;
  std::string policy = "PreemptLowerPriority";
  std::optional<json::value> chosen;
  if (!name.empty()) {
    ORC_ASSIGN(auto found,
               admission.view.load(object_key({"scheduling.k8s.io", "priorityclasses"}, "", name)));
    if (!found) {
      return api::forbidden(*admission.input.type, std::string(api::meta_string(*admission.object, "name")),
                            "no PriorityClass with name " + name + " was found");
    }
    ORC_ASSIGN(chosen, found->tree());
  } else {
    ORC_ASSIGN(auto classes, admission.view.range(objects_range({"scheduling.k8s.io", "priorityclasses"}, ""),
                                                  kPriorityClassesMax));
    for (const KeyValue& kv : classes) {
      ORC_ASSIGN(StoredView view, decode_stored_frame(kv.value.bytes()));
      ORC_ASSIGN(json::value tree, parse_json(view.json));
      if (!bool_at(tree, "/globalDefault")) continue;
      spec["priorityClassName"] = api::meta_string(tree, "name");
      chosen = std::move(tree);
      break;
    }
  }
  if (chosen) {
    priority = int_at(*chosen, "/value");
    policy = string_at(*chosen, "/preemptionPolicy", policy);
  }
  spec["priority"] = priority;
  if (!spec.contains("preemptionPolicy")) spec["preemptionPolicy"] = policy;
  return {};
}

bool tolerates(const json::array& tolerations, std::string_view key) {
  for (const json::value& toleration : tolerations) {
    const std::string own = string_at(toleration, "/key");
    const std::string effect = string_at(toleration, "/effect");
    if ((own == key || own.empty()) && (effect == "NoExecute" || effect.empty())) return true;
  }
  return false;
}

void add_default_tolerations(json::object& spec) {
  json::value& list = spec["tolerations"];
  if (!list.is_array()) list = json::array();
  json::array& tolerations = list.get_array();
  for (const char* key : {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}) {
    if (tolerates(tolerations, key)) continue;
    tolerations.push_back(json::object{{"key", key},
                                       {"operator", "Exists"},
                                       {"effect", "NoExecute"},
                                       {"tolerationSeconds", kTolerationSeconds}});
  }
}

Result<void> admit_pod(Admission& admission) {
  json::object& spec = spec_of(*admission.object);
  if (!spec.contains("serviceAccountName")) {
    const json::value* old_name = spec.if_contains("serviceAccount");
    spec["serviceAccountName"] = old_name != nullptr ? *old_name : json::value("default");
  }
  spec["serviceAccount"] = spec["serviceAccountName"];
  ORC_TRY(set_priority(admission, spec));
  add_default_tolerations(spec);
  return {};
}

// A pod that no node runs is gone at once.
std::int64_t pod_grace(const json::value& pod) {
  if (string_at(pod, "/spec/nodeName").empty()) return 0;
  const std::string phase = string_at(pod, "/status/phase");
  if (phase == "Succeeded" || phase == "Failed") return 0;
  return int_at(pod, "/spec/terminationGracePeriodSeconds", 30);
}
}  // namespace

Result<void> admit_namespace(Admission& admission) {
  if (!admission.input.type->namespaced || admission.input.type->virtual_only) return {};
  const std::string& ns = admission.input.ns();
  const std::string key = object_key({"", "namespaces"}, "", ns);
  ORC_ASSIGN(std::optional<Loaded> found, admission.view.load(key));
  if (!found) return api::not_found(api::ResourceName("", "namespaces"), ns);
  if (found->view.deleting) {
    const api::TypeRecord& type = *admission.input.type;
    const std::string name(api::meta_string(*admission.object, "name"));
    api::StatusDetails details{.name = name, .group = type.group, .kind = type.plural};
    details.causes.push_back(
        {"NamespaceTerminating", "namespace " + ns + " is being terminated", "metadata.namespace"});
    return api::status_error(
        api::make_status(403, "Forbidden",
                         type.qualified_resource() + " \"" + name +
                             "\" is forbidden: unable to create new content in namespace " + ns +
                             " because it is being terminated",
                         std::move(details)));
  }
  // Deleting the namespace meanwhile makes this write start again.
  admission.change.expect(key, found->kv);
  return {};
}

const std::vector<KindHooks>& workload_hooks() {
  static const std::vector<KindHooks> kHooks = {
      {.group = "",
       .resource = "namespaces",
       .on_create = furnish_namespace,
       .on_delete = refuse_immortal,
       .holds_deletion = namespace_has_content,
       .mark_deleted = mark_terminating},
      {.group = "", .resource = "pods", .on_create = admit_pod, .grace_seconds = pod_grace},
  };
  return kHooks;
}

const KindHooks* kind_hooks(const api::TypeRecord& type) {
  for (const auto* list :
       {&workload_hooks(), &network_hooks(), &review_hooks(), &rbac_hooks(), &certificate_hooks()}) {
    for (const KindHooks& hooks : *list) {
      if (hooks.group == type.group && hooks.resource == type.plural) return &hooks;
    }
  }
  return nullptr;
}

}  // namespace orchestra::apiserver
