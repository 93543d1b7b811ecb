// OpenAPI v3 documents per group version, and the v2 document (JSON and gnostic protobuf).
//
// kubectl reads from a v3 document: under `paths`, which query parameters and patch types the PATCH of a kind
// takes (any gap sends it to v2), and which kind a resource is (explain); under `components`, the schemas
// with patch strategies. Of the paths the v2 document has
// the PATCH of each kind only.
#include "api/openapi.hpp"

#include "api/openapi_schema.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kDeleteOptions = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
constexpr const char* kStatus = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
constexpr const char* kVersion = "v1.35.0";

json::object parameter(const char* name, const char* where, const char* type, const char* text) {
  json::object out{{"name", name}, {"in", where}, {"description", text}};
  if (std::string_view(where) == "path") out["required"] = true;
  json::object schema{{"type", type}, {"uniqueItems", true}};
  out["schema"] = std::move(schema);
  return out;
}

json::array write_parameters(bool patch) {
  json::array out;
  out.push_back(
      parameter("dryRun", "query", "string", "All: run every stage of the request, store nothing."));
  out.push_back(
      parameter("fieldManager", "query", "string", "The name under which changed fields are recorded."));
  out.push_back(parameter("fieldValidation", "query", "string",
                          "What to do about unknown and duplicate fields: Ignore, Warn or Strict."));
  if (patch)
    out.push_back(parameter("force", "query", "boolean", "Apply only: take over fields that others own."));
  return out;
}

json::array list_parameters() {
  json::array out;
  out.push_back(parameter("allowWatchBookmarks", "query", "boolean", "Send bookmarks on a watch."));
  out.push_back(parameter("continue", "query", "string", "The token of the page before."));
  out.push_back(parameter("fieldSelector", "query", "string", "Only objects whose fields match."));
  out.push_back(parameter("labelSelector", "query", "string", "Only objects whose labels match."));
  out.push_back(parameter("limit", "query", "integer", "The size of a page."));
  out.push_back(parameter("resourceVersion", "query", "string", "How new the answer must be."));
  out.push_back(parameter("resourceVersionMatch", "query", "string", "NotOlderThan or Exact."));
  out.push_back(
      parameter("sendInitialEvents", "query", "boolean", "Start a watch with the objects that exist."));
  out.push_back(parameter("timeoutSeconds", "query", "integer", "When to end the call."));
  out.push_back(parameter("watch", "query", "boolean", "Send changes as they happen."));
  return out;
}

json::object json_content(const std::string& reference) {
  const json::object schema{{"schema", json::object{{"$ref", reference}}}};
  return {{"application/json", schema},
          {"application/yaml", schema},
          {"application/vnd.kubernetes.protobuf", schema}};
}

/// One operation on a kind.
class Operations {
 public:
  Operations(OpenApiSchemas& schemas, const TypeRecord& record, const TypeVersion& version)
      : schemas_(schemas), record_(record), version_(version), name_(version.schema.type_name()) {}

  json::object collection() {
    json::object path;
    if (record_.allows("list")) path["get"] = operation("list", name_ + "List", list_parameters());
    if (record_.allows("create"))
      path["post"] = with_body(operation("post", name_, write_parameters(false)), name_);
    if (record_.allows("deletecollection")) {
      path["delete"] = operation("deletecollection", kStatus, list_parameters());
    }
    return finished(std::move(path), false);
  }
  json::object item() {
    json::object path;
    if (record_.allows("get")) path["get"] = operation("get", name_, {});
    if (record_.allows("update"))
      path["put"] = with_body(operation("put", name_, write_parameters(false)), name_);
    if (record_.allows("patch")) path["patch"] = patch_operation();
    if (record_.allows("delete"))
      path["delete"] = with_body(operation("delete", kStatus, write_parameters(false)), kDeleteOptions);
    return finished(std::move(path), true);
  }
  /// A subresource whose body is the object itself.
  json::object own_subresource(const Subresource& sub) {
    json::object path;
    for (const std::string& verb : sub.verbs) {
      if (verb == "get") path["get"] = operation("get", name_, {});
      if (verb == "update") path["put"] = with_body(operation("put", name_, write_parameters(false)), name_);
      if (verb == "patch") path["patch"] = patch_operation();
    }
    return finished(std::move(path), true);
  }

 private:
  json::object operation(const char* action, const std::string& answer, json::array parameters) {
    json::object out{{"description", std::string(action) + " " + record_.kind},
                     {"operationId", std::string(action) + record_.group + version_.name + record_.kind}};
    if (!parameters.empty()) out["parameters"] = std::move(parameters);
    json::object ok{{"description", "OK"}, {"content", json_content(schemas_.reference(answer))}};
    out["responses"] = json::object{{"200", std::move(ok)}};
    out["x-kubernetes-action"] = action;
    out["x-kubernetes-group-version-kind"] =
        json::object{{"group", record_.group}, {"kind", record_.kind}, {"version", version_.name}};
    return out;
  }
  json::object with_body(json::object operation, const std::string& type) {
    operation["requestBody"] = json::object{{"content", json_content(schemas_.reference(type))}};
    return operation;
  }
  json::object patch_operation() {
    json::object out = operation("patch", name_, write_parameters(true));
    json::object content;
    const json::object any{{"schema", json::object{{"type", "object"}}}};
    std::vector<const char*> types{"application/json-patch+json", "application/merge-patch+json",
                                   "application/apply-patch+yaml"};
    if (record_.builtin) types.push_back("application/strategic-merge-patch+json");
    for (const char* type : types) content[type] = any;
    out["requestBody"] = json::object{{"content", std::move(content)}, {"required", true}};
    return out;
  }
  json::object finished(json::object path, bool named) const {
    json::array parameters;
    if (named) parameters.push_back(parameter("name", "path", "string", "The name of the object."));
    if (record_.namespaced)
      parameters.push_back(parameter("namespace", "path", "string", "The namespace of the object."));
    parameters.push_back(parameter("pretty", "query", "string", "Print the answer for reading."));
    path["parameters"] = std::move(parameters);
    return path;
  }

  OpenApiSchemas& schemas_;
  const TypeRecord& record_;
  const TypeVersion& version_;
  std::string name_;
};

std::string path_of(std::string_view group, std::string_view version) {
  return group.empty() ? "api/" + std::string(version)
                       : "apis/" + std::string(group) + "/" + std::string(version);
}

json::object info() { return {{"title", "Kubernetes"}, {"version", kVersion}}; }

std::string hash_of(std::string_view text) {
  std::uint64_t hash = 14695981039346656037ull;  // FNV-1a
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (int shift = 60; shift >= 0; shift -= 4) out += kHex[(hash >> shift) & 15];
  return out;
}

/// Of the paths only what old clients look for: which kinds take a PATCH, and with which parameters
/// (kubectl 1.20 refuses --dry-run=server where it does not find dryRun here).
json::object v2_path(const TypeRecord& record, const TypeVersion& version) {
  json::array parameters;
  for (const json::value& each : write_parameters(true)) {
    json::object flat = each.get_object();
    flat["type"] = flat["schema"].at("type");
    flat.erase("schema");
    parameters.push_back(std::move(flat));
  }
  json::object patch{{"description", "patch " + record.kind},
                     {"operationId", "patch" + record.group + version.name + record.kind},
                     {"parameters", std::move(parameters)},
                     {"responses", json::object{{"200", json::object{{"description", "OK"}}}}}};
  patch["x-kubernetes-action"] = "patch";
  patch["x-kubernetes-group-version-kind"] =
      json::object{{"group", record.group}, {"kind", record.kind}, {"version", version.name}};
  return {{"patch", std::move(patch)}};
}

json::object v2_document(const TypeRegistry& registry) {
  OpenApiSchemas schemas(false);
  json::object paths;
  for (const TypePtr& record : registry.records()) {
    for (const TypeVersion& version : record->versions) {
      if (!version.served) continue;
      schemas.add_kind(*record, version);
      if (!record->allows("patch")) continue;
      paths["/" + path_of(record->group, version.name) +
            (record->namespaced ? "/namespaces/{namespace}/" : "/") + record->plural + "/{name}"] =
          v2_path(*record, version);
    }
  }
  schemas.add_bodies("", "");
  schemas.add_type(kDeleteOptions);
  schemas.add_type(kStatus);
  return {{"swagger", "2.0"}, {"info", info()}, {"paths", std::move(paths)}, {"definitions", schemas.take()}};
}

}  // namespace

std::string openapi_v3(const TypeRegistry& registry, std::string_view group, std::string_view version) {
  if (!registry.has_group_version(group, version)) return {};
  OpenApiSchemas schemas(true);
  schemas.add_type(kDeleteOptions);
  schemas.add_type(kStatus);
  schemas.add_bodies(group, version);
  json::object paths;
  const std::string root = "/" + path_of(group, version);
  for (const TypePtr& record : registry.records()) {
    const TypeVersion* found = record->group == group ? record->version(version) : nullptr;
    if (found == nullptr || !found->served) continue;
    schemas.add_kind(*record, *found);
    Operations operations(schemas, *record, *found);
    const std::string base = root + (record->namespaced ? "/namespaces/{namespace}/" : "/") + record->plural;
    paths[base] = operations.collection();
    if (record->virtual_only) continue;
    paths[base + "/{name}"] = operations.item();
    for (const Subresource& sub : record->in_version(version).subresources) {
      if (sub.kind == record->gvk(version))
        paths[base + "/{name}/" + sub.name] = operations.own_subresource(sub);
    }
  }
  json::object document{{"openapi", "3.0.0"}, {"info", info()}, {"paths", std::move(paths)}};
  document["components"] = json::object{{"schemas", schemas.take()}};
  return to_json(document);
}

std::string openapi_v3_hash(const TypeRegistry& registry, std::string_view group, std::string_view version) {
  return hash_of(openapi_v3(registry, group, version));
}

std::string openapi_v3_index(const TypeRegistry& registry) {
  json::object paths;
  for (const TypeRegistry::GroupVersion& each : registry.group_versions()) {
    const std::string path = path_of(each.group, each.version);
    const std::string url =
        "/openapi/v3/" + path + "?hash=" + openapi_v3_hash(registry, each.group, each.version);
    paths[path] = json::object{{"serverRelativeURL", url}};
  }
  return to_json(json::object{{"paths", std::move(paths)}});
}

std::string openapi_v2_json(const TypeRegistry& registry) { return to_json(v2_document(registry)); }

}  // namespace orchestra::api
