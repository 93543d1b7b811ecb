// Admission rules of namespaces, pods and what belongs to them.
//
// Upstream's plug-ins NamespaceLifecycle, Priority and DefaultTolerationSeconds, and the deletion rules of
// their strategies; the other plug-ins are in admission/.
#include <array>

#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "api/status.hpp"
#include "api/tree.hpp"
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

/// The class with globalDefault; of several the one with the lowest value. Empty: there is none.
Result<Object> default_priority_class(const Admission& admission) {
  ORC_ASSIGN(
      const auto classes,
      admission.view.range(objects_range({"scheduling.k8s.io", "priorityclasses"}, ""), kPriorityClassesMax));
  Object found;
  for (const KeyValue& kv : classes) {
    ORC_ASSIGN(Object object, admission.input.core->cache().get(kv.value, kv.mod_revision));
    if (!bool_at(tree(object), "/globalDefault")) continue;
    if (!found || int_at(tree(object), "/value") < int_at(tree(found), "/value")) found = std::move(object);
  }
  return found;
}

/// Priority and policy are those of the class; a pod that says others is refused.
Result<void> set_priority(Admission& admission, json::object& spec) {
  const auto refuse = [&](const std::string& why) {
    return api::forbidden(*admission.input.type, std::string(api::meta_string(*admission.object, "name")),
                          why);
  };
  const std::string name = string_at(*admission.object, "/spec/priorityClassName");
  Object chosen;
  if (!name.empty()) {
    ORC_ASSIGN(const auto found,
               admission.view.get(object_key({"scheduling.k8s.io", "priorityclasses"}, "", name)));
    if (!found) return refuse("no PriorityClass with name " + name + " was found");
    ORC_ASSIGN(chosen, admission.input.core->cache().get(found->value, found->mod_revision));
  } else {
    ORC_ASSIGN(chosen, default_priority_class(admission));
    if (chosen) spec["priorityClassName"] = chosen.name();
  }
  const std::string preempts = "PreemptLowerPriority";
  const std::int64_t priority = int_at(tree(chosen), "/value");
  const std::string policy = string_at(tree(chosen), "/preemptionPolicy", preempts);
  if (spec.contains("priority") && int_at(*admission.object, "/spec/priority") != priority) {
    return refuse("the integer value of priority (" +
                  std::to_string(int_at(*admission.object, "/spec/priority")) +
                  ") must not be provided in pod spec; priority admission controller computed " +
                  std::to_string(priority) + " from the given PriorityClass name");
  }
  const std::string asked = string_at(*admission.object, "/spec/preemptionPolicy", policy);
  if (asked != policy) {
    return refuse("the string value of PreemptionPolicy (" + asked +
                  ") must not be provided in pod spec; priority admission controller computed " + policy +
                  " from the given PriorityClass name");
  }
  spec["priority"] = priority;
  spec["preemptionPolicy"] = policy;
  return {};
}

/// An update that leaves out what this plug-in has set keeps it.
Result<void> keep_priority(Admission& admission) {
  json::object& spec = spec_of(*admission.object);
  for (const char* field : {"priority", "preemptionPolicy"}) {
    const json::value* old = find(*admission.old, std::string("/spec/") + field);
    if (old != nullptr && !spec.contains(field)) spec[field] = *old;
  }
  return {};
}

Result<void> admit_priority_class(Admission& admission) {
  if (!bool_at(*admission.object, "/globalDefault")) return {};
  const std::string name(api::meta_string(*admission.object, "name"));
  ORC_ASSIGN(const Object other, default_priority_class(admission));
  if (!other || other.name() == name) return {};
  return api::forbidden(
      *admission.input.type, name,
      "PriorityClass " + other.name() + " is already marked as default. Only one default can exist");
}

bool tolerates(const json::array& tolerations, std::string_view key) {
  for (const json::value& toleration : tolerations) {
    if (!toleration.is_object()) continue;
    const std::string_view own = api::text_of(toleration.get_object(), "key");
    const std::string_view effect = api::text_of(toleration.get_object(), "effect");
    if ((own == key || own.empty()) && (effect == "NoExecute" || effect.empty())) return true;
  }
  return false;
}

void add_default_tolerations(json::object& spec) {
  static const json::value kToleration = json::object{{"key", ""},
                                                      {"operator", "Exists"},
                                                      {"effect", "NoExecute"},
                                                      {"tolerationSeconds", kTolerationSeconds}};
  json::value& list = spec["tolerations"];
  json::array& tolerations = list.is_array() ? list.get_array() : list.emplace_array();
  for (const char* key : {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}) {
    if (!tolerates(tolerations, key)) tolerations.emplace_back(kToleration).get_object()["key"] = key;
  }
}

Result<void> admit_pod(Admission& admission) {
  json::object& spec = spec_of(*admission.object);
  if (!spec.contains("serviceAccountName")) {
    spec["serviceAccountName"] = "default";
    spec["serviceAccount"] = "default";
  }
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
      {.group = "",
       .resource = "pods",
       .on_create = admit_pod,
       .on_update = keep_priority,
       .grace_seconds = pod_grace},
      {.group = "scheduling.k8s.io",
       .resource = "priorityclasses",
       .on_create = admit_priority_class,
       .on_update = admit_priority_class},
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
