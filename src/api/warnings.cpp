// Warnings by kind: the WarningsOnCreate and WarningsOnUpdate of pkg/registry/*/*/strategy.go.
#include "api/warnings.hpp"

#include <algorithm>
#include <string_view>

#include "api/crd/formats.hpp"
#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_parts.hpp"
#include "api/x509/key_pair.hpp"
#include "base/base64.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

std::string quoted(std::string_view text) { return to_json(json::value(text)); }

void warn(const FieldPath& path, std::string_view text, Warnings& out) {
  out.push_back(path.to_string() + ": " + std::string(text));
}

constexpr std::pair<std::string_view, const char*> kNodeLabels[] = {
    {"beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"},
    {"beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"},
    {"failure-domain.beta.kubernetes.io/region",
     "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"},
    {"failure-domain.beta.kubernetes.io/zone",
     "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"},
    {"beta.kubernetes.io/instance-type",
     "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"},
    {"app.kubernetes.io/created-by", "deprecated since v1.9"},
    {"scheduler.alpha.kubernetes.io/preferAvoidPods",
     "deprecated since v1.22; use Taints and Tolerations instead"},
    {"node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"},
};
constexpr const char* kStorageClassNote = "volume.beta.kubernetes.io/storage-class";
constexpr const char* kStorageClassText = "deprecated since v1.8; use \"storageClassName\" attribute instead";

/// "used in Pod names", as a name that is no label.
void warn_name(const json::object& object, const char* use, Warnings& out) {
  const std::string wrong = check_dns1123_label(text_of(object_or_empty(object, "metadata"), "name"));
  if (wrong.empty()) return;
  out.push_back("metadata.name: this is used in " + std::string(use) +
                ", which can result in surprising behavior; a DNS label is recommended: [" + wrong + "]");
}

const json::object& template_of(const json::object& spec) { return object_or_empty(spec, "template"); }

void warn_template(const json::object& pod_template, const FieldPath& path, Warnings& out) {
  warn_pod(object_or_empty(pod_template, "metadata"), object_or_empty(pod_template, "spec"), true, path, out);
}

void warn_job_spec(const json::object& spec, const FieldPath& path, Warnings& out) {
  constexpr std::int64_t kCompletions = 100'000, kParallelism = 10'000;
  if (text_of(spec, "completionMode") == "Indexed" && int_of(spec, "completions") > kCompletions &&
      int_of(spec, "parallelism") > kParallelism) {
    warn(path,
         "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "
         "Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
         out);
  }
  warn_template(template_of(spec), path / "template", out);
}

/// Deployment, ReplicaSet, ReplicationController, StatefulSet, DaemonSet.
void warn_workload(const TypeRecord& type, const json::object& object, const json::object* old,
                   Warnings& out) {
  const json::object& spec = object_or_empty(object, "spec");
  const bool stateful = type.kind == "StatefulSet";
  if (old == nullptr && !stateful && type.kind != "DaemonSet")
    warn_name(object, "Pod names and hostnames", out);
  const auto generation = [](const json::object& each) {
    return int_of(object_or_empty(each, "metadata"), "generation");
  };
  if (old == nullptr || generation(object) != generation(*old)) {
    const FieldPath path("spec"), pod_template = path / "template", claims = path / "volumeClaimTemplates";
    warn_template(template_of(spec), pod_template, out);
    if (!stateful) return;
    for_each_object(spec, "volumeClaimTemplates", [&](std::size_t i, const json::object& claim) {
      warn_claim_spec(object_or_empty(claim, "spec"), claims[i], out);
    });
  }
  if (stateful && int_of(spec, "revisionHistoryLimit") < 0) {
    out.emplace_back(
        "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is "
        "recommended");
  }
}

void warn_jobs(const TypeRecord& type, const json::object& object, const json::object* old, Warnings& out) {
  const json::object& spec = object_or_empty(object, "spec");
  if (old == nullptr) warn_name(object, "Pod names and hostnames", out);
  const bool changed = old == nullptr || int_of(object_or_empty(object, "metadata"), "generation") !=
                                             int_of(object_or_empty(*old, "metadata"), "generation");
  const FieldPath path("spec");
  if (type.kind == "Job") {
    if (changed) warn_job_spec(spec, path, out);
    return;
  }
  const FieldPath job = path / "jobTemplate";
  if (changed)
    warn_job_spec(object_or_empty(object_or_empty(spec, "jobTemplate"), "spec"), job / "spec", out);
  if (old != nullptr && text_of(spec, "schedule").find("TZ") != std::string_view::npos) {
    out.emplace_back(
        "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see "
        "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details");
  }
}

void warn_service(const json::object& object, Warnings& out) {
  const json::object& spec = object_or_empty(object, "spec");
  if (object_or_empty(object_or_empty(object, "metadata"), "annotations")
          .contains("service.kubernetes.io/topology-aware-hints")) {
    out.emplace_back(
        "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use "
        "service.kubernetes.io/topology-mode instead");
  }
  const std::string_view type = text_of(spec, "type");
  const bool external_ips = !array_or_empty(spec, "externalIPs").empty();
  warn_service_addresses(spec, ServiceAddresses::own, out);
  if (type == "ClusterIP" && text_of(spec, "clusterIP") == "None") {
    if (!text_of(spec, "loadBalancerIP").empty())
      out.emplace_back("spec.loadBalancerIP is ignored for headless services");
    if (external_ips) out.emplace_back("spec.externalIPs is ignored for headless services");
    if (text_of(spec, "sessionAffinity") != "None")
      out.emplace_back("spec.SessionAffinity is ignored for headless services");
  }
  warn_service_addresses(spec, ServiceAddresses::outside, out);
  if (type == "ExternalName" && external_ips)
    out.emplace_back("spec.externalIPs is ignored when spec.type is \"ExternalName\"");
  if (type != "ExternalName" && !text_of(spec, "externalName").empty())
    out.emplace_back("spec.externalName is ignored when spec.type is not \"ExternalName\"");
  if (text_of(spec, "trafficDistribution") == "PreferClose")
    out.emplace_back("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"");
}

void warn_storage_class_note(const json::object& object, Warnings& out) {
  const FieldPath meta("metadata"), notes = meta / "annotations";
  if (object_or_empty(object_or_empty(object, "metadata"), "annotations").contains(kStorageClassNote))
    warn(notes.key(kStorageClassNote), kStorageClassText, out);
}

void warn_volume(const json::object& object, Warnings& out) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec"), affinity = path / "nodeAffinity", required = affinity / "required",
                                terms = required / "nodeSelectorTerms";
  warn_storage_class_note(object, out);
  if (text_of(spec, "persistentVolumeReclaimPolicy") == "Recycle") {
    warn(path / "persistentVolumeReclaimPolicy",
         "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic "
         "provisioning.",
         out);
  }
  for_each_object(
      object_or_empty(object_or_empty(spec, "nodeAffinity"), "required"), "nodeSelectorTerms",
      [&](std::size_t i, const json::object& term) { warn_node_selector_term(term, false, terms[i], out); });
}

void warn_ingress(const json::object& object, Warnings& out) {
  constexpr const char* kClass = "kubernetes.io/ingress.class";
  if (object_or_empty(object_or_empty(object, "metadata"), "annotations").contains(kClass) &&
      !object_or_empty(object, "spec").contains("ingressClassName")) {
    out.push_back("annotation " + quoted(kClass) +
                  " is deprecated, please use 'spec.ingressClassName' instead");
  }
}

/// Topologies of CSIStorageCapacities: GetWarningsForNodeSelector.
void warn_topology(const json::object& selector, const FieldPath& path, Warnings& out) {
  const FieldPath expressions = path / "matchExpressions", labels = path / "matchLabels";
  for_each_object(selector, "matchExpressions", [&](std::size_t i, const json::object& expression) {
    const std::string_view key = text_of(expression, "key");
    const FieldPath at = expressions[i];
    if (const char* text = deprecated_node_label(key))
      warn(at / "key", std::string(key) + " is " + text, out);
  });
  for (const auto& item : object_or_empty(selector, "matchLabels")) {
    const std::string key(item.key());
    if (const char* text = deprecated_node_label(key)) warn(labels / key.c_str(), text, out);
  }
}

/// Of type kubernetes.io/tls: do its certificate and its key belong together?
void warn_secret(const json::object& object, Warnings& out) {
  if (text_of(object, "type") != "kubernetes.io/tls") return;
  const json::object& data = object_or_empty(object, "data");
  const auto part = [&](const char* name) {
    return decode_base64_text(text_of(data, name)).value_or(std::string());
  };
  std::string wrong = key_pair_mismatch(part("tls.crt"), part("tls.key"));
  if (!wrong.empty()) out.push_back(std::move(wrong));
}

void warn_service_account(const json::object& object, const json::object* old, Warnings& out) {
  constexpr const char* kEnforce = "kubernetes.io/enforce-mountable-secrets";
  const auto value = [&](const json::object& each) {
    return text_of(object_or_empty(object_or_empty(each, "metadata"), "annotations"), kEnforce);
  };
  if (value(object) != "true" || (old != nullptr && value(*old) == "true")) return;
  const FieldPath meta("metadata"), notes = meta / "annotations";
  warn(notes.key(kEnforce),
       "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets", out);
}

void warn_node(const json::object& object, Warnings& out) {
  const json::object& spec = object_or_empty(object, "spec");
  if (spec.contains("configSource")) out.emplace_back("spec.configSource: the feature is removed");
  if (!text_of(spec, "externalID").empty())
    out.emplace_back("spec.externalID: this field is deprecated, and is unused by Kubernetes");
}

}  // namespace

const char* deprecated_node_label(std::string_view key) {
  for (const auto& [name, text] : kNodeLabels) {
    if (name == key) return text;
  }
  return nullptr;
}

void warn_node_selector_term(const json::object& term, bool values, const FieldPath& path, Warnings& out) {
  const FieldPath expressions = path / "matchExpressions";
  for_each_object(term, "matchExpressions", [&](std::size_t i, const json::object& expression) {
    const std::string_view key = text_of(expression, "key");
    const FieldPath at = expressions[i], list = at / "values";
    if (const char* text = deprecated_node_label(key))
      warn(at / "key", std::string(key) + " is " + text, out);
    if (!values) return;
    std::size_t index = 0;
    for (const json::value& value : array_or_empty(expression, "values")) {
      const std::string_view word = value.is_string() ? std::string_view(value.get_string()) : "";
      const std::string wrong = check_label_value(word);
      if (!wrong.empty()) warn(list[index], std::string(word) + " is invalid, " + wrong, out);
      ++index;
    }
  });
}

void warn_fraction(const json::object& resources, std::string_view name, const FieldPath& path,
                   Warnings& out) {
  const std::optional<Quantity> value = quantity_of(resources, name);
  if (!value || value->milli_value() % 1000 == 0) return;
  warn(path.key(name),
       "fractional byte value " + quoted(value->to_string()) + " is invalid, must be an integer", out);
}

void warn_claim_spec(const json::object& spec, const FieldPath& path, Warnings& out) {
  const json::object& resources = object_or_empty(spec, "resources");
  const FieldPath at = path / "resources";
  for (const char* list : {"requests", "limits"})
    warn_fraction(object_or_empty(resources, list), "storage", at / list, out);
}

Warnings warnings_of(const TypeRecord& type, const json::object& object, const json::object* old) {
  Warnings out;
  if (!type.builtin) return out;
  const std::string_view kind = type.kind;
  const json::object& spec = object_or_empty(object, "spec");
  if (type.group == "apps" || kind == "ReplicationController") {
    if (kind != "ControllerRevision") warn_workload(type, object, old, out);
  } else if (type.group == "batch") {
    warn_jobs(type, object, old, out);
  } else if (kind == "Ingress" && old == nullptr) {
    warn_ingress(object, out);
  } else if (kind == "NetworkPolicy") {
    warn_network_policy(object, out);
  } else if (kind == "EndpointSlice") {
    warn_slice(object, old == nullptr, out);
  } else if (kind == "CSIStorageCapacity") {
    warn_topology(object_or_empty(object, "nodeTopology"), FieldPath("nodeTopology"), out);
  } else if (kind == "StorageClass") {
    const FieldPath path("allowedTopologies");
    for_each_object(object, "allowedTopologies", [&](std::size_t i, const json::object& term) {
      const FieldPath at = path[i], expressions = at / "matchLabelExpressions";
      for_each_object(term, "matchLabelExpressions", [&](std::size_t j, const json::object& expression) {
        const std::string_view key = text_of(expression, "key");
        const FieldPath each = expressions[j];
        if (const char* text = deprecated_node_label(key))
          warn(each / "key", std::string(key) + " is " + text, out);
      });
    });
  } else if (kind == "RuntimeClass") {
    for (const auto& item : object_or_empty(object_or_empty(object, "scheduling"), "nodeSelector")) {
      if (const char* text = deprecated_node_label(item.key()))
        out.push_back("scheduling.nodeSelector: " + std::string(text));
    }
  } else if (kind == "CustomResourceDefinition") {
    const Warnings before = old != nullptr ? warn_formats(*old) : Warnings();
    for (std::string& text : warn_formats(object)) {
      if (std::find(before.begin(), before.end(), text) == before.end()) out.push_back(std::move(text));
    }
  } else if (!type.group.empty()) {
    return out;
  } else if (kind == "Pod") {
    if (old != nullptr) return out;  // pods are seldom changed by people
    warn_name(object, "the Pod's hostname", out);
    warn_pod(object_or_empty(object, "metadata"), spec, false, FieldPath(), out);
  } else if (kind == "PodTemplate") {
    const FieldPath path("template");
    if (old == nullptr || template_of(object) != template_of(*old))
      warn_template(template_of(object), path, out);
  } else if (kind == "Service") {
    warn_service(object, out);
  } else if (kind == "PersistentVolume") {
    warn_volume(object, out);
  } else if (kind == "PersistentVolumeClaim") {
    warn_storage_class_note(object, out);
    warn_claim_spec(spec, FieldPath("spec"), out);
  } else if (kind == "ServiceAccount") {
    warn_service_account(object, old, out);
  } else if (kind == "Node") {
    warn_node(object, out);
  } else if (kind == "Endpoints") {
    warn_endpoints(object, out);
  } else if (kind == "Secret") {
    warn_secret(object, out);
  }
  return out;
}

}  // namespace orchestra::api
