// Discovery documents, legacy and aggregated, as functions of the registry.
#include <algorithm>

#include "api/openapi.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

json::array strings(const std::vector<std::string>& words) {
  json::array out;
  for (const std::string& word : words) out.emplace_back(word);
  return out;
}

json::object version_entry(const std::string& group, const std::string& version) {
  return {{"groupVersion", GroupVersionKind{group, version, {}}.api_version()}, {"version", version}};
}

/// {"name": group, "versions": [...], "preferredVersion": {...}}
json::object group_entry(const TypeRegistry& registry, const std::string& group) {
  json::array versions;
  for (const TypeRegistry::GroupVersion& each : registry.group_versions()) {
    if (each.group == group) versions.push_back(version_entry(group, each.version));
  }
  json::object entry{{"name", group}};
  json::value preferred = versions.empty() ? json::value(json::object()) : versions.front();
  entry["versions"] = std::move(versions);
  entry["preferredVersion"] = std::move(preferred);
  return entry;
}

std::vector<std::string> groups_of(const TypeRegistry& registry) {
  std::vector<std::string> groups;
  for (const TypeRegistry::GroupVersion& each : registry.group_versions()) {
    if (std::find(groups.begin(), groups.end(), each.group) == groups.end()) groups.push_back(each.group);
  }
  return groups;
}

json::object resource_entry(const TypeRecord& record) {
  json::object entry{{"name", record.plural},
                     {"singularName", record.singular},
                     {"namespaced", record.namespaced},
                     {"kind", record.kind},
                     {"verbs", strings(record.verbs)}};
  if (!record.short_names.empty()) entry["shortNames"] = strings(record.short_names);
  if (!record.categories.empty()) entry["categories"] = strings(record.categories);
  return entry;
}

json::object subresource_entry(const TypeRecord& record, const Subresource& sub, std::string_view version) {
  json::object entry{
      {"name", record.plural + "/" + sub.name}, {"singularName", ""}, {"namespaced", record.namespaced}};
  if (sub.kind.group != record.group || sub.kind.version != version) {
    entry["group"] = sub.kind.group;
    entry["version"] = sub.kind.version;
  }
  entry["kind"] = sub.kind.kind;
  entry["verbs"] = strings(sub.verbs);
  return entry;
}

json::object response_kind(const GroupVersionKind& gvk) {
  return {{"group", gvk.group}, {"version", gvk.version}, {"kind", gvk.kind}};
}

json::object aggregated_resource(const TypeRecord& any, const std::string& version) {
  const TypeRecord& record = any.in_version(version);
  json::object entry{{"resource", record.plural},
                     {"responseKind", response_kind(record.gvk(version))},
                     {"scope", record.namespaced ? "Namespaced" : "Cluster"},
                     {"singularResource", record.singular},
                     {"verbs", strings(record.verbs)}};
  if (!record.short_names.empty()) entry["shortNames"] = strings(record.short_names);
  if (!record.categories.empty()) entry["categories"] = strings(record.categories);
  json::array subs;
  for (const Subresource& sub : record.subresources) {
    subs.push_back(json::object{
        {"subresource", sub.name}, {"responseKind", response_kind(sub.kind)}, {"verbs", strings(sub.verbs)}});
  }
  if (!subs.empty()) entry["subresources"] = std::move(subs);
  return entry;
}

json::object aggregated_group(const TypeRegistry& registry, const std::string& group) {
  json::array versions;
  for (const TypeRegistry::GroupVersion& each : registry.group_versions()) {
    if (each.group != group) continue;
    json::array resources;
    for (const TypePtr& record : registry.records()) {
      if (record->group == group && record->version(each.version) != nullptr) {
        resources.push_back(aggregated_resource(*record, each.version));
      }
    }
    versions.push_back(json::object{
        {"version", each.version}, {"resources", std::move(resources)}, {"freshness", "Current"}});
  }
  json::object meta;
  if (!group.empty()) meta["name"] = group;
  meta["creationTimestamp"] = nullptr;
  return {{"metadata", std::move(meta)}, {"versions", std::move(versions)}};
}

}  // namespace

std::string discovery_api(std::string_view server_address) {
  json::array addresses;
  addresses.push_back(
      json::object{{"clientCIDR", "0.0.0.0/0"}, {"serverAddress", json::string(server_address)}});
  json::array versions;
  versions.emplace_back("v1");
  return to_json(json::object{{"kind", "APIVersions"},
                              {"versions", std::move(versions)},
                              {"serverAddressByClientCIDRs", std::move(addresses)}});
}

std::string discovery_apis(const TypeRegistry& registry) {
  json::array groups;
  for (const std::string& group : groups_of(registry)) {
    if (!group.empty()) groups.push_back(group_entry(registry, group));
  }
  return to_json(json::object{{"kind", "APIGroupList"}, {"apiVersion", "v1"}, {"groups", std::move(groups)}});
}

std::string discovery_group(const TypeRegistry& registry, std::string_view group) {
  const std::vector<std::string> groups = groups_of(registry);
  if (group.empty() || std::find(groups.begin(), groups.end(), group) == groups.end()) return {};
  json::object document{{"kind", "APIGroup"}, {"apiVersion", "v1"}};
  for (auto& member : group_entry(registry, std::string(group)))
    document[member.key()] = std::move(member.value());
  return to_json(document);
}

std::string discovery_resources(const TypeRegistry& registry, std::string_view group,
                                std::string_view version) {
  if (!registry.has_group_version(group, version)) return {};
  json::array resources;
  for (const TypePtr& record : registry.records()) {
    if (record->group != group || record->version(version) == nullptr) continue;
    resources.push_back(resource_entry(*record));
    for (const Subresource& sub : record->in_version(version).subresources)
      resources.push_back(subresource_entry(*record, sub, version));
  }
  json::object document{{"kind", "APIResourceList"}, {"apiVersion", "v1"}};
  document["groupVersion"] = GroupVersionKind{std::string(group), std::string(version), {}}.api_version();
  document["resources"] = std::move(resources);
  return to_json(document);
}

std::string discovery_aggregated(const TypeRegistry& registry, bool core, std::string_view version) {
  json::array items;
  for (const std::string& group : groups_of(registry)) {
    if (group.empty() == core) items.push_back(aggregated_group(registry, group));
  }
  return to_json(json::object{{"kind", "APIGroupDiscoveryList"},
                              {"apiVersion", "apidiscovery.k8s.io/" + std::string(version)},
                              {"metadata", json::object()},
                              {"items", std::move(items)}});
}

}  // namespace orchestra::api
