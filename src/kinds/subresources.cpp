// Subresources with a body of their own: scale for any type that has it, binding and eviction of pods.
#include "api/meta.hpp"
#include "api/select.hpp"
#include "api/status.hpp"
#include "api/walker.hpp"
#include "apiserver/admission.hpp"
#include "apiserver/admission/plugins.hpp"

namespace orchestra::apiserver {
namespace {

// metav1.LabelSelector or a plain map (ReplicationController) as the text of a selector.
std::string selector_text(const api::TypeRecord& type, const json::value& object) {
  const json::value* selector = type.scale.selector.empty() ? nullptr : find(object, type.scale.selector);
  if (type.scale.selector_is_text)
    return selector != nullptr && selector->is_string() ? std::string(selector->get_string()) : std::string();
  if (selector == nullptr || !selector->is_object()) return {};
  const bool plain =
      !selector->get_object().contains("matchLabels") && !selector->get_object().contains("matchExpressions");
  const json::value wrapped = plain ? json::value(json::object{{"matchLabels", *selector}}) : *selector;
  auto parsed = api::selector_of(&wrapped);
  return parsed ? parsed->to_string() : std::string();
}

Result<json::value> scale_of(const api::TypeRecord& type, const json::value& object) {
  json::object metadata;
  for (const char* field : {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"}) {
    if (const json::value* value = find(object, std::string("/metadata/") + field)) metadata[field] = *value;
  }
  json::object spec;
  if (const std::int64_t replicas = int_at(object, type.scale.replicas); replicas != 0)
    spec["replicas"] = replicas;
  json::object status{{"replicas", int_at(object, type.scale.current)}};
  if (const std::string text = selector_text(type, object); !text.empty()) status["selector"] = text;
  return json::value(json::object{{"kind", "Scale"},
                                  {"apiVersion", "autoscaling/v1"},
                                  {"metadata", std::move(metadata)},
                                  {"spec", std::move(spec)},
                                  {"status", std::move(status)}});
}

// Update and patch of a Scale are writes of spec.replicas.
Result<Change> write_scale(const WriteInput& input, const View& view) {
  ORC_ASSIGN(Loaded old, load_target(input, view));
  ORC_ASSIGN(json::value tree, work_tree(input, old));
  ORC_ASSIGN(json::value scale, scale_of(*input.type, tree));
  std::optional<api::FieldManagers> managers;
  if (input.call->info.verb == "patch" && input.patch == PatchKind::apply) {
    ORC_ASSIGN(AppliedScale applied, apply_scale(input, old, scale));
    scale = std::move(applied.scale);
    managers = std::move(applied.managers);
  } else if (input.call->info.verb == "patch") {
    ORC_TRY(apply_patch(input, input.schema, scale));
  } else if (input.call->info.verb == "update") {
    scale = input.body;
  } else {
    return api::method_not_allowed(*input.type, input.call->info.verb);
  }
  ORC_ASSIGN(const json::value before, scale_of(*input.type, tree));
  Change judged;
  Admission admission{input, view, judged, &scale, &before};
  ORC_TRY(admit_document(admission));
  const std::string asked = string_at(scale, "/metadata/resourceVersion");
  if (!asked.empty() && asked != std::to_string(old.kv.mod_revision)) {
    return api::conflict(api::ResourceName(input.type->group, input.type->plural + "/scale"), input.name());
  }
  const json::value* replicas = find(scale, "/spec/replicas");
  if (replicas != nullptr && !replicas->is_int64()) {
    return api::cannot_be_handled("Scale", "v1", "spec.replicas must be an integer");
  }
  const std::int64_t count = replicas == nullptr ? 0 : replicas->get_int64();
  if (count < 0) {
    api::FieldErrors errors;
    errors.invalid(api::FieldPath("spec") / "replicas", json::value(count),
                   "must be greater than or equal to 0");
    return api::invalid("autoscaling", "Scale", input.name(), errors);
  }
  json::value next(tree, input.storage());
  set_at(next, input.type->scale.replicas, count);
  WriteInput main = input;
  main.sub = nullptr;
  main.judged = true;
  ORC_ASSIGN(Change change,
             finish_update(main, view, old, std::move(tree), std::move(next), std::move(managers)));
  change.answer_subresource = "scale";
  change.warnings.insert(change.warnings.begin(), judged.warnings.begin(), judged.warnings.end());
  return change;
}

Change success(Change change) {
  change.code = 201;
  change.status = api::success_status();
  return change;
}

Error refused_binding(const WriteInput& input, const std::string& why) {
  return api::conflict(api::ResourceName("", "pods/binding"), input.name(), why);
}

Result<Change> bind_pod(const WriteInput& input, const View& view) {
  if (input.call->info.verb != "create") return api::method_not_allowed(*input.type, input.call->info.verb);
  ORC_ASSIGN(Loaded old, load_target(input, view));
  ORC_ASSIGN(json::value next, work_tree(input, old));
  json::value binding(input.body, input.storage());
  Change change;
  change.dry_run = input.dry_run;
  Admission admission{input, view, change, &binding, nullptr};
  ORC_TRY(admit_document(admission));
  const std::string node = string_at(binding, "/target/name");
  const std::string kind = string_at(binding, "/target/kind", "Node");
  api::FieldErrors errors;
  if (node.empty()) errors.required(api::FieldPath("target") / "name");
  if (kind != "Node") {
    errors.not_supported(api::FieldPath("target") / "kind", json::value(kind), {std::string_view("Node")});
  }
  api::validate_labels(find(binding, "/metadata/labels"), api::FieldPath("metadata") / "labels", errors);
  if (!errors.empty()) return api::invalid("", "Binding", input.name(), errors);
  if (const std::string uid = string_at(binding, "/metadata/uid"); !uid.empty() && uid != old.view.uid) {
    return refused_binding(input, "Precondition failed: UID in precondition: " + uid +
                                      ", UID in object meta: " + std::string(old.view.uid));
  }
  if (old.view.deleting)
    return refused_binding(input, "pod " + input.name() + " is being deleted, cannot be assigned to a host");
  if (const std::string bound = string_at(next, "/spec/nodeName"); !bound.empty()) {
    return refused_binding(input, "pod " + input.name() + " is already assigned to node \"" + bound + "\"");
  }
  if (const json::array* gates = array_at(next, "/spec/schedulingGates"); gates != nullptr && !gates->empty())
    return refused_binding(input, "pod " + input.name() + " has non-empty .spec.schedulingGates");
  set_at(next, "/spec/nodeName", json::value(node));
  for (const char* words : {"annotations", "labels"}) {
    const json::object* given = object_at(binding, std::string("/metadata/") + words);
    if (given == nullptr) continue;
    json::value& own = api::metadata(next)[words];
    if (!own.is_object()) own = json::object();
    for (const auto& [key, value] : *given) own.get_object()[key] = value;
  }
  const json::value scheduled = json::object{{"type", "PodScheduled"},
                                             {"status", "True"},
                                             {"observedGeneration", int_at(next, "/metadata/generation")},
                                             {"lastProbeTime", nullptr},
                                             {"lastTransitionTime", api::format_time(input.now().wall_ns)}};
  json::array conditions(next.storage());
  if (const json::array* before = array_at(next, "/status/conditions")) {
    for (const json::value& condition : *before) {
      if (string_at(condition, "/type") != "PodScheduled") conditions.push_back(condition);
    }
  }
  conditions.push_back(scheduled);
  set_at(next, "/status/conditions", std::move(conditions));
  api::metadata(next).erase("resourceVersion");
  // A binding is no new generation: upstream writes it past the strategy that counts them.
  change.expect(old.kv.key, old.kv);
  change.put(old.kv.key, Value(encode_object(*input.type, next, old.view.managed_fields)));
  return success(std::move(change));
}

/// The pod with the condition that upstream writes before it deletes it: by this those who count failures
/// know a disruption (pkg/registry/core/pod/storage/eviction.go).
Result<Loaded> disrupted(const WriteInput& input, const Loaded& pod) {
  ORC_ASSIGN(json::value tree, pod.tree());
  std::string since = api::format_time(input.now().wall_ns);
  json::array conditions;
  if (const json::array* before = array_at(tree, "/status/conditions")) {
    for (const json::value& condition : *before) {
      if (string_at(condition, "/type") != "DisruptionTarget") {
        conditions.push_back(condition);
      } else if (string_at(condition, "/status") == "True") {
        since = string_at(condition, "/lastTransitionTime");
      }
    }
  }
  conditions.push_back(json::object{{"type", "DisruptionTarget"},
                                    {"status", "True"},
                                    {"observedGeneration", int_at(tree, "/metadata/generation")},
                                    {"lastProbeTime", nullptr},
                                    {"lastTransitionTime", since},
                                    {"reason", "EvictionByEvictionAPI"},
                                    {"message", "Eviction API: evicting"}});
  set_at(tree, "/status/conditions", std::move(conditions));
  api::metadata(tree).erase("resourceVersion");
  Loaded out{pod.kv, {}};
  out.kv.value = Value(encode_object(*input.type, tree));
  ORC_ASSIGN(out.view, decode_stored(out.kv.value.bytes()));
  return out;
}

Result<Change> evict_pod(const WriteInput& input, const View& view) {
  if (input.call->info.verb != "create") return api::method_not_allowed(*input.type, input.call->info.verb);
  const std::string name = string_at(input.body, "/metadata/name", input.name());
  if (name != input.name()) {
    return api::bad_request("name in URL does not match name in Eviction object: \"" + input.name() +
                            "\" vs \"" + name + "\"");
  }
  ORC_ASSIGN(Loaded pod, load_target(input, view));
  json::value eviction = input.body;
  Change judged;
  Admission admission{input, view, judged, &eviction, nullptr};
  ORC_TRY(admit_document(admission));
  WriteInput main = input;
  main.judged = true;
  const json::value* options = find(eviction, "/deleteOptions");
  ORC_ASSIGN(const DeleteRequest request,
             read_delete_options(options == nullptr ? json::value(json::object()) : *options));
  main.dry_run = main.dry_run || request.dry_run;
  ORC_ASSIGN(const Loaded marked, disrupted(input, pod));
  ORC_ASSIGN(Change change, remove_object(main, view, marked, request));
  change.warnings.insert(change.warnings.begin(), judged.warnings.begin(), judged.warnings.end());
  ORC_ASSIGN(const json::value tree, pod.tree());
  ORC_TRY(spend_budget(view, tree, input.now().wall_ns, change));
  return success(std::move(change));
}
}  // namespace

const std::vector<SubresourceHook>& pod_subresources() {
  static const std::vector<SubresourceHook> kHooks = {
      {.group = "", .resource = "", .name = "scale", .write = write_scale, .read = scale_of},
      {.group = "", .resource = "pods", .name = "binding", .write = bind_pod},
      {.group = "", .resource = "pods", .name = "eviction", .write = evict_pod},
  };
  return kHooks;
}

const SubresourceHook* subresource_hook(const api::TypeRecord& type, std::string_view name) {
  for (const auto* list : {&pod_subresources(), &token_subresources()}) {
    for (const SubresourceHook& hook : *list) {
      if (hook.name != name) continue;
      if (hook.resource.empty() || (hook.group == type.group && hook.resource == type.plural)) return &hook;
    }
  }
  return nullptr;
}

}  // namespace orchestra::apiserver
