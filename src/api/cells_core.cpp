// Rows of nodes, namespaces, configuration, events, storage and access kinds, and the words all rows share.
#include <algorithm>
#include <map>
#include <set>

#include "api/cells.hpp"
#include "api/meta.hpp"
#include "api/select.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

std::string node_status(const json::object& object) {
  std::string text;
  for_each_object(object_or_empty(object, "status"), "conditions",
                  [&](std::size_t, const json::object& condition) {
                    if (text_of(condition, "type") == "Ready")
                      text = text_of(condition, "status") == "True" ? "Ready" : "NotReady";
                  });
  if (text.empty()) text = "Unknown";
  return flag_of(object_or_empty(object, "spec"), "unschedulable") ? text + ",SchedulingDisabled" : text;
}

std::string node_roles(const json::object& object) {
  static constexpr std::string_view kPrefix = "node-role.kubernetes.io/";
  std::set<std::string> roles;
  for (const auto& [key, value] : object_or_empty(object_or_empty(object, "metadata"), "labels")) {
    const std::string_view name = key;
    if (name.starts_with(kPrefix) && name.size() > kPrefix.size()) roles.emplace(name.substr(kPrefix.size()));
    if (name == "kubernetes.io/role" && value.is_string() && !value.get_string().empty())
      roles.emplace(value.get_string());
  }
  return or_none(join({roles.begin(), roles.end()}, ","));
}

std::string node_address(const json::object& object, std::string_view type) {
  std::string found;
  for_each_object(object_or_empty(object, "status"), "addresses",
                  [&](std::size_t, const json::object& address) {
                    if (found.empty() && text_of(address, "type") == type)
                      found = text_of(address, "address");
                  });
  return or_none(found);
}

std::string or_unknown(std::string_view text) { return text.empty() ? "<unknown>" : std::string(text); }

std::string access_modes(const json::object& spec_or_status) {
  static constexpr std::pair<const char*, const char*> kShort[] = {{"ReadWriteOnce", "RWO"},
                                                                   {"ReadOnlyMany", "ROX"},
                                                                   {"ReadWriteMany", "RWX"},
                                                                   {"ReadWriteOncePod", "RWOP"}};
  std::vector<std::string> words;
  for (const auto& [mode, word] : kShort) {
    const json::array& modes = array_or_empty(spec_or_status, "accessModes");
    if (std::find(modes.begin(), modes.end(), json::value(mode)) != modes.end()) words.emplace_back(word);
  }
  return join(words, ",");
}

/// The class of a volume or a claim: the annotation of old first, as upstream has it.
std::string storage_class(const json::object& object) {
  const json::object& annotations = object_or_empty(object_or_empty(object, "metadata"), "annotations");
  const std::string_view old = text_of(annotations, "volume.beta.kubernetes.io/storage-class");
  return std::string(old.empty() ? text_of(object_or_empty(object, "spec"), "storageClassName") : old);
}

std::string storage_of(const json::object& object, std::string_view list) {
  const std::string_view storage = text_of(object_or_empty(object, list), "storage");
  return storage.empty() ? "0" : std::string(storage);
}

/// `cpu` of `resource`, with its values now and wanted: "cpu: 10%/50%".
std::string utilization(const json::object& now, const json::object& target) {
  if (target.contains("averageValue")) {
    const std::string_view value = text_of(now, "averageValue");
    return (now.empty() ? "<unknown>" : std::string(value)) + "/" +
           std::string(text_of(target, "averageValue"));
  }
  const auto percent = [](const json::object& from, const char* other) {
    return from.contains("averageUtilization") ? std::to_string(int_of(from, "averageUtilization")) + "%"
                                               : std::string(other);
  };
  return percent(now, "<unknown>") + "/" + percent(target, "<auto>");
}

/// A value of an object or from outside: "5/10", "5/10 (avg)".
std::string outer_metric(const json::object& now, const json::object& target) {
  const bool average = target.contains("averageValue");
  const char* field = average ? "averageValue" : "value";
  const std::string_view value = text_of(now, field);
  return (value.empty() ? "<unknown>" : std::string(value)) + "/" + std::string(text_of(target, field)) +
         (average ? " (avg)" : "");
}

std::string metric_words(const json::object& metric, const json::object& seen) {
  static constexpr std::pair<const char*, const char*> kFields[] = {
      {"External", "external"},
      {"Pods", "pods"},
      {"Object", "object"},
      {"Resource", "resource"},
      {"ContainerResource", "containerResource"}};
  const std::string_view type = text_of(metric, "type");
  for (const auto& [name, field] : kFields) {
    if (type != name) continue;
    const json::object& source = object_or_empty(metric, field);
    const json::object& target = object_or_empty(source, "target");
    const json::object& now = object_or_empty(object_or_empty(seen, field), "current");
    if (type == "External" || type == "Object") return outer_metric(now, target);
    if (type == "Pods") {
      const std::string_view value = text_of(now, "averageValue");
      return (value.empty() ? "<unknown>" : std::string(value)) + "/" +
             std::string(text_of(target, "averageValue"));
    }
    return std::string(text_of(source, "name")) + ": " + utilization(now, target);
  }
  return "<unknown type>";
}

std::string hpa_targets(const json::object& spec, const json::object& status) {
  constexpr std::size_t kShown = 2;
  static const json::object kNone;
  const json::array& metrics = array_or_empty(spec, "metrics");
  const json::array& seen = array_or_empty(status, "currentMetrics");
  if (metrics.empty()) return "<none>";
  std::vector<std::string> words;
  for (std::size_t i = 0; i < metrics.size() && i < kShown; ++i) {
    const bool known = i < seen.size() && seen[i].is_object();
    words.push_back(metric_words(metrics[i].is_object() ? metrics[i].get_object() : kNone,
                                 known ? seen[i].get_object() : kNone));
  }
  return join(words, ", ") +
         (metrics.size() > kShown ? " + " + std::to_string(metrics.size() - kShown) + " more..." : "");
}

std::string quota_words(const json::object& object, bool limits) {
  const json::object& status = object_or_empty(object, "status");
  const json::object& used = object_or_empty(status, "used");
  std::map<std::string, std::string> words;
  for (const auto& [name, hard] : object_or_empty(status, "hard")) {
    if (std::string_view(name).starts_with("limits.") != limits) continue;
    const std::string_view so_far = text_of(used, name);
    words[name] = std::string(name) + ": " + std::string(so_far.empty() ? "0" : so_far) + "/" +
                  (hard.is_string() ? std::string(hard.get_string()) : to_json(hard));
  }
  std::vector<std::string> list;
  for (auto& [name, text] : words) list.push_back(std::move(text));
  return join(list, ", ");
}

std::string subjects(const json::object& object, std::string_view kind) {
  std::vector<std::string> words;
  for_each_object(object, "subjects", [&](std::size_t, const json::object& subject) {
    if (text_of(subject, "kind") != kind) return;
    const std::string name(text_of(subject, "name"));
    words.push_back(kind == "ServiceAccount" ? std::string(text_of(subject, "namespace")) + "/" + name
                                             : name);
  });
  return join(words, ", ");
}

std::string event_source(const json::object& event) {
  const json::object& source = object_or_empty(event, "source");
  std::string component(text_of(source, "component")), host(text_of(source, "host"));
  if (component.empty()) component = text_of(event, "reportingComponent");
  if (host.empty()) host = text_of(event, "reportingInstance");
  return host.empty() ? component : component + ", " + host;
}

std::string trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1));
}

}  // namespace

std::string age_of(const json::object& object, Now now) {
  return age(text_of(object_or_empty(object, "metadata"), "creationTimestamp"), now);
}

std::string or_none(std::string_view text) { return text.empty() ? "<none>" : std::string(text); }

std::string join(const std::vector<std::string>& words, std::string_view separator) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += separator;
    out += words[i];
  }
  return out;
}

std::string format_labels(const json::object& labels) {
  std::map<std::string, std::string> sorted;
  for (const auto& [key, value] : labels)
    sorted[key] = value.is_string() ? std::string(value.get_string()) : to_json(value);
  std::vector<std::string> words;
  for (const auto& [key, value] : sorted) words.push_back(key + "=" + value);
  return or_none(join(words, ","));
}

std::string format_selector(const json::object& spec) {
  const Result<Selector> selector = selector_of(spec.if_contains("selector"));
  return selector ? or_none(selector->to_string()) : "<error>";
}

std::pair<std::string, std::string> container_words(const json::object& pod_spec) {
  std::vector<std::string> names, images;
  for_each_object(pod_spec, "containers", [&](std::size_t, const json::object& container) {
    names.emplace_back(text_of(container, "name"));
    images.emplace_back(text_of(container, "image"));
  });
  return {join(names, ","), join(images, ",")};
}

void node_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& info = object_or_empty(object_or_empty(object, "status"), "nodeInfo");
  cells.emplace_back(node_status(object));
  cells.emplace_back(node_roles(object));
  cells.emplace_back(age_of(object, now));
  cells.emplace_back(json::string(text_of(info, "kubeletVersion")));
  cells.emplace_back(node_address(object, "InternalIP"));
  cells.emplace_back(node_address(object, "ExternalIP"));
  cells.emplace_back(or_unknown(text_of(info, "osImage")));
  cells.emplace_back(or_unknown(text_of(info, "kernelVersion")));
  cells.emplace_back(or_unknown(text_of(info, "containerRuntimeVersion")));
}

void namespace_cells(const json::object& object, Now now, json::array& cells) {
  cells.emplace_back(json::string(text_of(object_or_empty(object, "status"), "phase")));
  cells.emplace_back(age_of(object, now));
}

void configmap_cells(const json::object& object, Now now, json::array& cells) {
  const std::size_t count =
      object_or_empty(object, "data").size() + object_or_empty(object, "binaryData").size();
  cells.emplace_back(static_cast<std::int64_t>(count));
  cells.emplace_back(age_of(object, now));
}

void secret_cells(const json::object& object, Now now, json::array& cells) {
  cells.emplace_back(json::string(text_of(object, "type")));
  cells.emplace_back(static_cast<std::int64_t>(object_or_empty(object, "data").size()));
  cells.emplace_back(age_of(object, now));
}

void service_account_cells(const json::object& object, Now now, json::array& cells) {
  cells.emplace_back(static_cast<std::int64_t>(array_or_empty(object, "secrets").size()));
  cells.emplace_back(age_of(object, now));
}

void event_cells(const json::object& object, Now now, json::array& cells) {
  const std::string_view first_time = text_of(object, "firstTimestamp"),
                         last_time = text_of(object, "lastTimestamp");
  const std::string first = age(first_time.empty() ? text_of(object, "eventTime") : first_time, now);
  std::string last = last_time.empty() ? first : age(last_time, now);
  std::int64_t count = int_of(object, "count");
  if (const json::object* series = object_of(object, "series")) {
    last = age(text_of(*series, "lastObservedTime"), now);
    count = int_of(*series, "count");
  } else if (count == 0) {
    count = 1;
  }
  const json::object& involved = object_or_empty(object, "involvedObject");
  std::string target(text_of(involved, "kind"));
  std::transform(target.begin(), target.end(), target.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (const std::string_view name = text_of(involved, "name"); !name.empty())
    target += "/" + std::string(name);
  cells.emplace_back(last);
  cells.emplace_back(json::string(text_of(object, "type")));
  cells.emplace_back(json::string(text_of(object, "reason")));
  cells.emplace_back(target);
  cells.emplace_back(json::string(text_of(involved, "fieldPath")));
  cells.emplace_back(event_source(object));
  cells.emplace_back(trimmed(text_of(object, "message")));
  cells.emplace_back(first);
  cells.emplace_back(count);
  cells.emplace_back(json::string(text_of(object_or_empty(object, "metadata"), "name")));
}

void created_at_cells(const json::object& object, Now, json::array& cells) {
  cells.emplace_back(json::string(text_of(object_or_empty(object, "metadata"), "creationTimestamp")));
}

void persistent_volume_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  const json::object& status = object_or_empty(object, "status");
  const json::object& claim = object_or_empty(spec, "claimRef");
  const bool going = object_or_empty(object, "metadata").contains("deletionTimestamp");
  cells.emplace_back(storage_of(spec, "capacity"));
  cells.emplace_back(access_modes(spec));
  cells.emplace_back(json::string(text_of(spec, "persistentVolumeReclaimPolicy")));
  cells.emplace_back(going ? json::string("Terminating") : json::string(text_of(status, "phase")));
  cells.emplace_back(claim.empty() ? std::string()
                                   : std::string(text_of(claim, "namespace")) + "/" +
                                         std::string(text_of(claim, "name")));
  cells.emplace_back(storage_class(object));
  cells.emplace_back(text_of(spec, "volumeAttributesClassName").empty()
                         ? "<unset>"
                         : std::string(text_of(spec, "volumeAttributesClassName")));
  cells.emplace_back(json::string(text_of(status, "reason")));
  cells.emplace_back(age_of(object, now));
  cells.emplace_back(text_of(spec, "volumeMode").empty() ? "<unset>"
                                                         : std::string(text_of(spec, "volumeMode")));
}

void persistent_volume_claim_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  const json::object& status = object_or_empty(object, "status");
  const bool going = object_or_empty(object, "metadata").contains("deletionTimestamp");
  const std::string_view volume = text_of(spec, "volumeName");
  cells.emplace_back(going ? json::string("Terminating") : json::string(text_of(status, "phase")));
  cells.emplace_back(json::string(volume));
  cells.emplace_back(volume.empty() ? std::string() : storage_of(status, "capacity"));
  cells.emplace_back(volume.empty() ? std::string() : access_modes(status));
  cells.emplace_back(storage_class(object));
  cells.emplace_back(text_of(spec, "volumeAttributesClassName").empty()
                         ? "<unset>"
                         : std::string(text_of(spec, "volumeAttributesClassName")));
  cells.emplace_back(age_of(object, now));
  cells.emplace_back(text_of(spec, "volumeMode").empty() ? "<unset>"
                                                         : std::string(text_of(spec, "volumeMode")));
}

void resource_quota_cells(const json::object& object, Now now, json::array& cells) {
  cells.emplace_back(quota_words(object, false));
  cells.emplace_back(quota_words(object, true));
  cells.emplace_back(age_of(object, now));
}

void storage_class_cells(const json::object& object, Now now, json::array& cells) {
  cells.emplace_back(json::string(text_of(object, "provisioner")));
  cells.emplace_back(json::string(text_of(object, "reclaimPolicy")));
  cells.emplace_back(json::string(text_of(object, "volumeBindingMode")));
  cells.emplace_back(flag_of(object, "allowVolumeExpansion"));
  cells.emplace_back(age_of(object, now));
}

void priority_class_cells(const json::object& object, Now now, json::array& cells) {
  cells.emplace_back(int_of(object, "value"));
  cells.emplace_back(flag_of(object, "globalDefault"));
  cells.emplace_back(age_of(object, now));
  cells.emplace_back(json::string(text_of(object, "preemptionPolicy")));
}

void runtime_class_cells(const json::object& object, Now now, json::array& cells) {
  cells.emplace_back(json::string(text_of(object, "handler")));
  cells.emplace_back(age_of(object, now));
}

void role_binding_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& role = object_or_empty(object, "roleRef");
  cells.emplace_back(std::string(text_of(role, "kind")) + "/" + std::string(text_of(role, "name")));
  cells.emplace_back(age_of(object, now));
  for (const char* kind : {"User", "Group", "ServiceAccount"}) cells.emplace_back(subjects(object, kind));
}

void lease_cells(const json::object& object, Now now, json::array& cells) {
  cells.emplace_back(json::string(text_of(object_or_empty(object, "spec"), "holderIdentity")));
  cells.emplace_back(age_of(object, now));
}

void hpa_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  const json::object& status = object_or_empty(object, "status");
  const json::object& target = object_or_empty(spec, "scaleTargetRef");
  cells.emplace_back(std::string(text_of(target, "kind")) + "/" + std::string(text_of(target, "name")));
  cells.emplace_back(hpa_targets(spec, status));
  cells.emplace_back(spec.contains("minReplicas") ? std::to_string(int_of(spec, "minReplicas")) : "<unset>");
  cells.emplace_back(int_of(spec, "maxReplicas"));
  cells.emplace_back(int_of(status, "currentReplicas"));
  cells.emplace_back(age_of(object, now));
}

void pdb_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  for (const char* field : {"minAvailable", "maxUnavailable"}) {
    const json::value* value = spec.if_contains(field);
    cells.emplace_back(value == nullptr     ? std::string("N/A")
                       : value->is_string() ? std::string(value->get_string())
                                            : to_json(*value));
  }
  cells.emplace_back(int_of(object_or_empty(object, "status"), "disruptionsAllowed"));
  cells.emplace_back(age_of(object, now));
}

}  // namespace orchestra::api
