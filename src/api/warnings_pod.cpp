// Warnings about pods and pod templates: pkg/api/pod/warnings.go.
#include <map>
#include <set>

#include "api/tree.hpp"
#include "api/validate_parts.hpp"
#include "api/warnings.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

std::string quoted(std::string_view text) { return to_json(json::value(text)); }

void warn(const FieldPath& path, std::string_view text, Warnings& out) {
  out.push_back(path.to_string() + ": " + std::string(text));
}

constexpr std::pair<const char*, const char*> kDeadVolumes[] = {
    {"photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
    {"gitRepo", "deprecated in v1.11"},
    {"scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
    {"flocker", "deprecated in v1.22, non-functional in v1.25+"},
    {"storageos", "deprecated in v1.22, non-functional in v1.25+"},
    {"quobyte", "deprecated in v1.22, non-functional in v1.25+"},
    {"glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
    {"cephfs", "deprecated in v1.28, non-functional in v1.31+"},
    {"rbd", "deprecated in v1.28, non-functional in v1.31+"},
};

constexpr std::pair<const char*, const char*> kDeadAnnotations[] = {
    {"scheduler.alpha.kubernetes.io/critical-pod",
     "non-functional in v1.16+; use the \"priorityClassName\" field instead"},
    {"security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"},
    {"security.alpha.kubernetes.io/unsafe-sysctls",
     "non-functional in v1.11+; use the \"sysctls\" field instead"},
};

/// A path that is equal to one before it, or in it, or around it; in upstream's sense of a common beginning.
std::string overlap(const std::set<std::string>& seen, const std::string& path) {
  for (const std::string& item : seen) {
    if (item.empty() || path.empty()) return {};
    if (item == path || (item + "/").starts_with(path) || (path + "/").starts_with(item)) return item;
  }
  return {};
}

void warn_overlaps(const std::vector<std::string>& paths, const std::string& what, Warnings& out) {
  std::set<std::string> seen;
  for (std::string path : paths) {
    path.erase(path.find_last_not_of('/') + 1);
    if (const std::string other = overlap(seen, path); !other.empty())
      out.push_back(what + ": overlapping paths: " + quoted(path) + " with " + quoted(other));
    seen.insert(std::move(path));
  }
}

std::vector<std::string> item_paths(const json::object& source) {
  std::vector<std::string> paths;
  for_each_object(source, "items",
                  [&](std::size_t, const json::object& item) { paths.emplace_back(text_of(item, "path")); });
  return paths;
}

/// What a warning calls a source, and its paths; no paths where it says none.
std::pair<std::string, std::vector<std::string>> projected_paths(const json::object& source) {
  if (const json::object* found = object_of(source, "configMap");
      found != nullptr && found->contains("items"))
    return {"ConfigMap " + quoted(text_of(*found, "name")), item_paths(*found)};
  if (const json::object* found = object_of(source, "secret"); found != nullptr && found->contains("items"))
    return {"Secret " + quoted(text_of(*found, "name")), item_paths(*found)};
  if (const json::object* found = object_of(source, "downwardAPI");
      found != nullptr && found->contains("items"))
    return {"DownwardAPI", item_paths(*found)};
  if (const json::object* found = object_of(source, "serviceAccountToken"))
    return {"ServiceAccountToken", {std::string(text_of(*found, "path"))}};
  return {};
}

void warn_projected(const std::string& volume, const json::object& projected, Warnings& out) {
  std::set<std::string> all;
  for_each_object(projected, "sources", [&](std::size_t, const json::object& source) {
    if (source.empty()) {
      out.push_back(volume + " (Projected) has no sources provided");
      return;
    }
    const auto [what, paths] = projected_paths(source);
    if (paths.empty()) return;
    const std::string prefix = volume + " (Projected " + what + ")";
    warn_overlaps(paths, prefix, out);
    const std::set<std::string> unique(paths.begin(), paths.end());
    std::multiset<std::string> ordered(unique.begin(), unique.end());
    ordered.insert(all.begin(), all.end());
    warn_overlaps({ordered.begin(), ordered.end()}, prefix, out);
    all.insert(unique.begin(), unique.end());
  });
}

void warn_volumes(const json::object& spec, const FieldPath& path, Warnings& out) {
  const FieldPath volumes = path / "volumes";
  for_each_object(spec, "volumes", [&](std::size_t i, const json::object& volume) {
    const FieldPath at = volumes[i];
    for (const auto& [name, text] : kDeadVolumes) {
      if (!volume.contains(name)) continue;
      // The Go name of the field, which is the path upstream tells.
      warn(at / (std::string_view(name) == "storageos" ? "storageOS" : name), text, out);
    }
    const json::object& claim = object_or_empty(object_or_empty(volume, "ephemeral"), "volumeClaimTemplate");
    if (claim.empty()) return;
    const FieldPath ephemeral = at / "ephemeral", claims = ephemeral / "volumeClaimTemplate";
    warn_claim_spec(object_or_empty(claim, "spec"), claims / "spec", out);
  });
  for_each_object(spec, "volumes", [&](std::size_t, const json::object& volume) {
    const std::string name = "volume " + quoted(text_of(volume, "name"));
    if (const json::object* found = object_of(volume, "configMap"))
      warn_overlaps(item_paths(*found), name + " (ConfigMap " + quoted(text_of(*found, "name")) + ")", out);
    if (const json::object* found = object_of(volume, "secret"))
      warn_overlaps(item_paths(*found), name + " (Secret " + quoted(text_of(*found, "secretName")) + ")",
                    out);
    if (const json::object* found = object_of(volume, "downwardAPI"))
      warn_overlaps(item_paths(*found), name + " (DownwardAPI)", out);
    if (const json::object* found = object_of(volume, "projected")) warn_projected(name, *found, out);
  });
}

/// Items that repeat a name.
void warn_repeated(const json::object& spec, std::string_view list, std::string_view field,
                   const FieldPath& path, Warnings& out) {
  std::set<std::string_view> seen;
  const FieldPath items = path / list;
  for_each_object(spec, list, [&](std::size_t i, const json::object& item) {
    const std::string_view name = text_of(item, field);
    if (!seen.insert(name).second)
      warn(items[i] / field, "duplicate " + std::string(field) + " " + quoted(name), out);
  });
}

void warn_environment(const json::object& container, const FieldPath& path, Warnings& out) {
  std::set<std::string_view> seen;
  const FieldPath variables = path / "env";
  for_each_object(container, "env", [&](std::size_t i, const json::object& variable) {
    const std::string_view name = text_of(variable, "name"), value = text_of(variable, "value");
    if (seen.insert(name).second) return;
    const std::string reference = "$(" + std::string(name) + ")";
    if (!variable.contains("valueFrom") && value != reference &&
        value.find(reference) != std::string_view::npos)
      return;
    warn(variables[i],
         "hides previous definition of " + quoted(name) + ", which may be dropped when using apply", out);
  });
}

void warn_containers(const json::object& meta, const json::object& spec, bool is_template,
                     const FieldPath& path, Warnings& out) {
  const json::object& annotations = object_or_empty(meta, "annotations");
  const FieldPath meta_path = path / "metadata", notes = meta_path / "annotations", at = path / "spec";
  const bool pod_profile = object_or_empty(spec, "securityContext").contains("appArmorProfile");
  for_each_container(spec, at, [&](const json::object& container, const FieldPath& each) {
    const json::object& security = object_or_empty(container, "securityContext");
    const std::string name(text_of(container, "name"));
    const std::string seccomp = "container.seccomp.security.alpha.kubernetes.io/" + name;
    if (!security.contains("seccompProfile") && annotations.contains(seccomp))
      warn(notes.key(seccomp), "non-functional in v1.27+; use the \"seccompProfile\" field instead", out);
    const std::string armor = "container.apparmor.security.beta.kubernetes.io/" + name;
    if (is_template && !pod_profile && !security.contains("appArmorProfile") && annotations.contains(armor))
      warn(notes.key(armor), "deprecated since v1.30; use the \"appArmorProfile\" field instead", out);
    const json::object& resources = object_or_empty(container, "resources");
    const FieldPath resource_path = each / "resources";
    for (const char* resource : {"memory", "ephemeral-storage"}) {
      for (const char* list : {"limits", "requests"})
        warn_fraction(object_or_empty(resources, list), resource, resource_path / list, out);
    }
    warn_environment(container, each, out);
  });
}

struct Port {
  std::string path;
  std::string_view host_ip;
  std::int64_t host_port = 0;
};

const char* conflict(const Port& port, const Port& other) {
  if (port.host_ip == other.host_ip && port.host_port == other.host_port) return "duplicate";
  if (port.host_port == 0 || other.host_port == 0) return "overlapping";
  if (port.host_port == other.host_port && port.host_ip.empty() != other.host_ip.empty())
    return "dangerously ambiguous";
  return nullptr;
}

void warn_ports(const json::object& spec, const FieldPath& path, Warnings& out) {
  std::map<std::string, std::vector<Port>> all;
  for_each_container(spec, path, [&](const json::object& container, const FieldPath& each) {
    const FieldPath ports = each / "ports";
    for_each_object(container, "ports", [&](std::size_t i, const json::object& item) {
      const Port port{ports[i].to_string(), text_of(item, "hostIP"), int_of(item, "hostPort")};
      if (!port.host_ip.empty() && port.host_port == 0)
        out.push_back(port.path + ": hostIP set without hostPort: " + to_json(item));
      auto& same =
          all[std::to_string(int_of(item, "containerPort")) + "/" + std::string(text_of(item, "protocol"))];
      for (const Port& other : same) {
        if (const char* kind = conflict(port, other))
          out.push_back(port.path + ": " + kind + " port definition with " + other.path);
      }
      same.push_back(port);
    });
  });
}

void warn_node_affinity(const json::object& affinity, const FieldPath& path, Warnings& out) {
  const FieldPath required = path / "requiredDuringSchedulingIgnoredDuringExecution",
                  terms = required / "nodeSelectorTerms",
                  preferred = path / "preferredDuringSchedulingIgnoredDuringExecution";
  for_each_object(
      object_or_empty(affinity, "requiredDuringSchedulingIgnoredDuringExecution"), "nodeSelectorTerms",
      [&](std::size_t i, const json::object& term) { warn_node_selector_term(term, false, terms[i], out); });
  for_each_object(affinity, "preferredDuringSchedulingIgnoredDuringExecution",
                  [&](std::size_t i, const json::object& item) {
                    const FieldPath at = preferred[i];
                    warn_node_selector_term(object_or_empty(item, "preference"), true, at / "preference",
                                            out);
                  });
}

constexpr const char* kNoSelector = "a null labelSelector results in matching no pod";

void warn_pod_affinity(const json::object& affinity, const FieldPath& path, Warnings& out) {
  const FieldPath required = path / "requiredDuringSchedulingIgnoredDuringExecution",
                  preferred = path / "preferredDuringSchedulingIgnoredDuringExecution";
  for_each_object(affinity, "requiredDuringSchedulingIgnoredDuringExecution",
                  [&](std::size_t i, const json::object& term) {
                    const FieldPath at = required[i];
                    if (!term.contains("labelSelector")) warn(at / "labelSelector", kNoSelector, out);
                  });
  for_each_object(affinity, "preferredDuringSchedulingIgnoredDuringExecution",
                  [&](std::size_t i, const json::object& item) {
                    const FieldPath at = preferred[i], term = at / "podAffinityTerm";
                    if (!object_or_empty(item, "podAffinityTerm").contains("labelSelector"))
                      warn(term / "labelSelector", kNoSelector, out);
                  });
}

/// Where a pod may run, as far as it asks for labels that are deprecated.
void warn_placement(const json::object& spec, const FieldPath& path, Warnings& out) {
  const FieldPath selector = path / "nodeSelector", affinity = path / "affinity",
                  spread = path / "topologySpreadConstraints";
  for (const auto& item : object_or_empty(spec, "nodeSelector")) {
    if (const char* text = deprecated_node_label(item.key())) warn(selector.key(item.key()), text, out);
  }
  warn_node_affinity(object_or_empty(object_or_empty(spec, "affinity"), "nodeAffinity"),
                     affinity / "nodeAffinity", out);
  for_each_object(spec, "topologySpreadConstraints", [&](std::size_t i, const json::object& constraint) {
    const std::string_view key = text_of(constraint, "topologyKey");
    const FieldPath at = spread[i];
    if (const char* text = deprecated_node_label(key))
      warn(at / "topologyKey", std::string(key) + " is " + text, out);
    if (!constraint.contains("labelSelector")) warn(at / "labelSelector", kNoSelector, out);
  });
}

}  // namespace

void warn_pod(const json::object& meta, const json::object& spec, bool is_template, const FieldPath& path,
              Warnings& out) {
  const json::object& annotations = object_or_empty(meta, "annotations");
  const FieldPath at = path / "spec", meta_path = path / "metadata", notes = meta_path / "annotations";
  warn_placement(spec, at, out);
  for (const auto& [key, text] : kDeadAnnotations) {
    if (annotations.contains(key)) warn(notes.key(key), text, out);
  }
  warn_volumes(spec, at, out);
  warn_repeated(spec, "hostAliases", "ip", at, out);
  warn_repeated(spec, "imagePullSecrets", "name", at, out);
  const FieldPath secrets = at / "imagePullSecrets";
  for_each_object(spec, "imagePullSecrets", [&](std::size_t i, const json::object& item) {
    const FieldPath each = secrets[i];
    if (text_of(item, "name").empty()) warn(each / "name", "invalid empty name \"\"", out);
  });
  for (const char* resource : {"memory", "ephemeral-storage"})
    warn_fraction(object_or_empty(spec, "overhead"), resource, at / "overhead", out);
  constexpr const char* kSeccomp = "seccomp.security.alpha.kubernetes.io/pod";
  if (!object_or_empty(spec, "securityContext").contains("seccompProfile") && annotations.contains(kSeccomp))
    warn(notes.key(kSeccomp), "non-functional in v1.27+; use the \"seccompProfile\" field instead", out);
  warn_containers(meta, spec, is_template, path, out);
  warn_ports(spec, at, out);
  if (int_of(spec, "terminationGracePeriodSeconds") < 0)
    warn(at / "terminationGracePeriodSeconds",
         "must be >= 0; negative values are invalid and will be treated as 1", out);
  const json::object& affinity = object_or_empty(spec, "affinity");
  const FieldPath affinity_path = at / "affinity";
  for (const char* kind : {"podAffinity", "podAntiAffinity"})
    warn_pod_affinity(object_or_empty(affinity, kind), affinity_path / kind, out);
  warn_pod_addresses(spec, at, out);
}

}  // namespace orchestra::api
