// OpenAPI v3 documents per group version, and the v2 document (JSON and gnostic protobuf).
//
// kubectl reads from a v3 document: under `paths`, which query parameters and patch types the PATCH of a kind
// takes (any gap sends it to v2), and which kind a resource is (explain); under `components`, the schemas
// with patch strategies. The v2 document says the same of all group versions at once.
#include "api/openapi.hpp"

#include <algorithm>

#include "api/openapi_paths.hpp"
#include "api/openapi_schema.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kVersion = "v1.35.0";

std::string path_of(std::string_view group, std::string_view version) {
  return group.empty() ? "api/" + std::string(version)
                       : "apis/" + std::string(group) + "/" + std::string(version);
}

json::object info() { return {{"title", "Kubernetes"}, {"version", kVersion}}; }

}  // namespace

std::string openapi_hash(std::string_view document) {
  std::uint64_t hash = 14695981039346656037ull;  // FNV-1a
  for (const char c : document) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (int shift = 60; shift >= 0; shift -= 4) out += kHex[(hash >> shift) & 15];
  return out;
}

namespace {
/// "apis/apps", "apis" and "api": the documents of discovery; empty: no such group.
json::object discovery_document(const TypeRegistry& registry, std::string_view path) {
  const char* kind = path == "api" ? "APIVersions" : path == "apis" ? "APIGroupList" : "APIGroup";
  if (path.starts_with("apis/")) {
    const auto groups = registry.group_versions();
    const auto its = [&](const auto& each) { return !each.group.empty() && each.group == path.substr(5); };
    if (std::none_of(groups.begin(), groups.end(), its)) return {};
  }
  OpenApiSchemas schemas(true);
  json::object paths;
  add_discovery_path(schemas, "/" + std::string(path) + "/", kind, paths);
  json::object document{{"openapi", "3.0.0"}, {"info", info()}, {"paths", std::move(paths)}};
  document["components"] = json::object{{"schemas", schemas.take()}};
  return document;
}

json::object v2_document(const TypeRegistry& registry) {
  OpenApiSchemas schemas(false);
  json::object paths;
  add_discovery_path(schemas, "/api/", "APIVersions", paths);
  add_discovery_path(schemas, "/apis/", "APIGroupList", paths);
  for (const TypeRegistry::GroupVersion& each : registry.group_versions()) {
    if (!each.group.empty()) add_discovery_path(schemas, "/apis/" + each.group + "/", "APIGroup", paths);
    add_discovery_path(schemas, "/" + path_of(each.group, each.version) + "/", "APIResourceList", paths);
  }
  for (const TypePtr& record : registry.records()) {
    for (const TypeVersion& version : record->versions) {
      if (!version.served) continue;
      schemas.add_kind(*record, version);
      add_paths(schemas, *record, version, "/" + path_of(record->group, version.name), paths);
    }
  }
  for (auto& entry : paths) entry.value() = v2_item(entry.value().get_object());
  schemas.add_bodies("", "");
  schemas.add_common();
  return {{"swagger", "2.0"}, {"info", info()}, {"paths", std::move(paths)}, {"definitions", schemas.take()}};
}

}  // namespace

std::string openapi_v3(const TypeRegistry& registry, std::string_view group, std::string_view version) {
  if (!registry.has_group_version(group, version)) return {};
  OpenApiSchemas schemas(true);
  schemas.add_common();
  schemas.add_bodies(group, version);
  json::object paths;
  const std::string root = "/" + path_of(group, version);
  add_discovery_path(schemas, root + "/", "APIResourceList", paths);
  for (const TypePtr& record : registry.records()) {
    const TypeVersion* found = record->group == group ? record->version(version) : nullptr;
    if (found == nullptr || !found->served) continue;
    schemas.add_kind(*record, *found);
    add_paths(schemas, *record, *found, root, paths);
  }
  json::object document{{"openapi", "3.0.0"}, {"info", info()}, {"paths", std::move(paths)}};
  document["components"] = json::object{{"schemas", schemas.take()}};
  return to_json(document);
}

std::string openapi_v3_at(const TypeRegistry& registry, std::string_view path) {
  const std::size_t slash = path.find('/');
  const std::size_t last = path.rfind('/');
  const std::string_view root = path.substr(0, slash);
  if (root == "api" && slash != std::string_view::npos && slash == last)
    return openapi_v3(registry, "", path.substr(last + 1));
  if (root == "apis" && slash != last)
    return openapi_v3(registry, path.substr(slash + 1, last - slash - 1), path.substr(last + 1));
  if (path != "api" && root != "apis") return {};
  const json::object document = discovery_document(registry, path);
  return document.empty() ? std::string() : to_json(document);
}

std::string openapi_v3_index(const TypeRegistry& registry) {
  json::object paths;
  const auto add = [&](const std::string& path) {
    if (paths.contains(path)) return;
    const std::string url = "/openapi/v3/" + path + "?hash=" + openapi_hash(openapi_v3_at(registry, path));
    paths[path] = json::object{{"serverRelativeURL", url}};
  };
  add("api");
  add("apis");
  for (const TypeRegistry::GroupVersion& each : registry.group_versions()) {
    if (!each.group.empty()) add("apis/" + each.group);
    add(path_of(each.group, each.version));
  }
  return to_json(json::object{{"paths", std::move(paths)}});
}

std::string openapi_v2_json(const TypeRegistry& registry) { return to_json(v2_document(registry)); }

}  // namespace orchestra::api
