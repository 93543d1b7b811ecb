// The builtin types as a whole: what holds for every kind and every field.
#include <fstream>
#include <set>
#include <sstream>

#include "api/openapi.hpp"
#include "tests/api/support.hpp"

using namespace orchestra;
using namespace orchestra::api;

TEST_CASE("types are found by resource and by kind") {
  const auto registry = TypeRegistry::builtin();
  const TypePtr deployment = registry->find("apps", "v1", "deployments");
  REQUIRE(deployment != nullptr);
  CHECK(deployment == registry->find_kind("apps", "v1", "Deployment"));
  CHECK(deployment->qualified_resource() == "deployments.apps");
  CHECK(deployment->has_status);
  CHECK(deployment->subresource("scale")->kind == GroupVersionKind{"autoscaling", "v1", "Scale"});
  CHECK(registry->find("apps", "v1beta1", "deployments") == nullptr);
  CHECK(registry->find("", "v1", "deployments") == nullptr);
  CHECK(registry->records().front()->group.empty());
  CHECK(split_api_version("apps/v1") == std::pair<std::string, std::string>{"apps", "v1"});
}

TEST_CASE("a record is added and taken away without touching the registry that readers hold") {
  const auto registry = TypeRegistry::builtin();
  auto record = std::make_shared<TypeRecord>();
  record->group = "example.com";
  record->kind = "Widget";
  record->plural = "widgets";
  record->versions.push_back({.name = "v1"});
  const auto with = registry->with(record);
  CHECK(with->find("example.com", "v1", "widgets") == record);
  CHECK(registry->find("example.com", "v1", "widgets") == nullptr);
  CHECK(with->has_group_version("example.com", "v1"));
  CHECK_FALSE(with->without("example.com", "widgets")->has_group_version("example.com", "v1"));
}

TEST_CASE("every default in the tables is JSON that its own field accepts") {
  const SchemaPool& pool = builtin_schemas();
  std::size_t defaults = 0;
  for (std::uint32_t i = 1; i < pool.nodes.size(); ++i) {
    const SchemaRef node(&pool, i);
    if (node.default_json().empty()) continue;
    ++defaults;
    CAPTURE(node.name());
    auto value = parse_json(node.default_json());
    REQUIRE(value.has_value());
    CHECK(prune_unknown(node, *value).has_value());
  }
  CHECK(defaults > 40);
}

TEST_CASE("lists that are maps have keys, and merged object lists a merge key, that their items know") {
  const SchemaPool& pool = builtin_schemas();
  for (std::uint32_t i = 1; i < pool.nodes.size(); ++i) {
    const SchemaRef node(&pool, i);
    if (node.kind() != SchemaKind::list) continue;
    CAPTURE(node.name());
    if (node.list_kind() == ListKind::map) {
      CHECK_FALSE(node.keys().empty());
      for (const std::string_view key : split_words(node.keys(), ','))
        CHECK(bool(node.element().property(key)));
    }
    if (!node.merge_key().empty()) CHECK(bool(node.element().property(node.merge_key())));
  }
}

TEST_CASE("the tables of all types weigh less than 150 kB") {
  const SchemaPool& pool = builtin_schemas();
  std::size_t strings = 0;
  const auto reach = [&](std::uint32_t offset) {
    strings = std::max(strings, offset + std::string_view(pool.strings + offset).size() + 1);
  };
  for (const SchemaNode& node : pool.nodes) {
    for (const std::uint32_t offset : {node.name, node.default_json, node.words, node.description})
      reach(offset);
  }
  for (const std::uint32_t offset : pool.type_names) reach(offset);
  for (const std::uint32_t offset : pool.type_descriptions) reach(offset);
  const std::size_t names = pool.type_names.size_bytes() + pool.type_descriptions.size_bytes();
  CAPTURE(strings);
  CHECK(pool.nodes.size_bytes() + strings + names < 150'000);
}

TEST_CASE("defaults are idempotent for an empty object of every kind") {
  for (const TypePtr& record : TypeRegistry::builtin()->records()) {
    CAPTURE(record->kind);
    json::value object = json::object();
    apply_defaults(record->versions.front().schema, object);
    json::value again = object;
    apply_defaults(record->versions.front().schema, again);
    CHECK(to_json(again) == to_json(object));
    CHECK(prune_unknown(record->versions.front().schema, again).value().empty());
    CHECK(table_cells(*record, object.get_object(), test::kNoon).size() == record->columns.size());
  }
}

TEST_CASE("discovery lists what the registry serves") {
  const auto registry = TypeRegistry::builtin();
  const json::value apps = parse_json(discovery_resources(*registry, "apps", "v1")).value();
  CHECK(string_at(apps, "/groupVersion") == "apps/v1");
  CHECK(
      to_json(*find(apps, "/resources/1")) ==
      R"({"name":"daemonsets","singularName":"daemonset","namespaced":true,"kind":"DaemonSet","verbs":["create","delete","deletecollection","get","list","patch","update","watch"],"shortNames":["ds"],"categories":["all"]})");
  CHECK(discovery_resources(*registry, "apps", "v2").empty());
  CHECK(discovery_group(*registry, "nope").empty());
  const json::value all = parse_json(discovery_aggregated(*registry, false, "v2")).value();
  CHECK(string_at(all, "/apiVersion") == "apidiscovery.k8s.io/v2");
  CHECK(string_at(all, "/items/0/metadata/name") == "apiregistration.k8s.io");
  CHECK(array_at(parse_json(discovery_apis(*registry)).value(), "/groups")->size() ==
        array_at(all, "/items")->size());
}

TEST_CASE("every reference of an OpenAPI document leads to a definition in it") {
  const auto registry = TypeRegistry::builtin();
  std::vector<std::string> documents{openapi_v2_json(*registry)};
  for (const auto& each : registry->group_versions())
    documents.push_back(openapi_v3(*registry, each.group, each.version));
  for (const std::string& text : documents) {
    const json::value document = parse_json(text).value();
    const bool v3 = document.get_object().contains("openapi");
    const std::string prefix = v3 ? "#/components/schemas/" : "#/definitions/";
    const json::object& definitions = *object_at(document, v3 ? "/components/schemas" : "/definitions");
    std::size_t references = 0;
    for (std::size_t at = text.find(prefix); at != std::string::npos; at = text.find(prefix, at + 1)) {
      const std::size_t start = at + prefix.size();
      const std::string name = text.substr(start, text.find('"', start) - start);
      ++references;
      CHECK_MESSAGE(definitions.contains(name), name);
    }
    CHECK(references > 0);
  }
}

TEST_CASE("OpenAPI tells of subresources with bodies of their own, of connections and of discovery") {
  const auto registry = TypeRegistry::builtin();
  const json::value v3 = parse_json(openapi_v3(*registry, "", "v1")).value();
  const json::value v2 = parse_json(openapi_v2_json(*registry)).value();
  const auto kind_of = [](const json::value& operation) {
    const json::value& gvk = operation.at("x-kubernetes-group-version-kind");
    return string_at(operation, "/x-kubernetes-action") + " " + string_at(gvk, "/group") + "/" +
           string_at(gvk, "/version") + " " + string_at(gvk, "/kind");
  };
  const std::string pod = "/api/v1/namespaces/{namespace}/pods/{name}/";
  const std::string account = "/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token";
  const std::string scale = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale";
  for (const json::value* document : {&v3, &v2}) {
    const json::object& paths = document->at("paths").as_object();
    CHECK(kind_of(paths.at(pod + "eviction").at("post")) == "post policy/v1 Eviction");
    CHECK(kind_of(paths.at(pod + "binding").at("post")) == "post /v1 Binding");
    CHECK(kind_of(paths.at(account).at("post")) == "post authentication.k8s.io/v1 TokenRequest");
    CHECK(kind_of(paths.at(pod + "exec").at("post")) == "connect /v1 PodExecOptions");
    CHECK(kind_of(paths.at(pod + "attach").at("get")) == "connect /v1 PodAttachOptions");
    CHECK(kind_of(paths.at(pod + "portforward").at("get")) == "connect /v1 PodPortForwardOptions");
    CHECK(kind_of(paths.at(pod + "log").at("get")) == "get /v1 Pod");
    CHECK(kind_of(paths.at(pod + "proxy").at("head")) == "connect /v1 PodProxyOptions");
    CHECK(paths.contains(pod + "proxy/{path}"));
    CHECK(paths.contains("/api/v1/nodes/{name}/proxy/{path}"));
    CHECK(paths.contains("/api/v1/namespaces/{namespace}/services/{name}/proxy"));
    CHECK(paths.contains("/api/v1/"));
    std::set<std::string> ids;
    for (const auto& [path, item] : paths) {
      for (const auto& [method, operation] : item.as_object()) {
        if (!operation.is_object()) continue;
        CHECK_MESSAGE(ids.insert(string_at(operation, "/operationId")).second, path);
      }
    }
  }
  CHECK(string_at(v2.at("paths").at(pod + "eviction"), "/post/parameters/0/schema/$ref") ==
        "#/definitions/io.k8s.api.policy.v1.Eviction");
  CHECK(string_at(v2.at("paths").at(pod + "exec"), "/get/parameters/0/name") == "command");
  CHECK(kind_of(v2.at("paths").at(scale).at("patch")) == "patch autoscaling/v1 Scale");
  const json::value apps = parse_json(openapi_v3(*registry, "apps", "v1")).value();
  CHECK(kind_of(apps.at("paths").at(scale).at("put")) == "put autoscaling/v1 Scale");
  CHECK(string_at(apps.at("paths").at("/apis/apps/v1/"),
                  "/get/responses/200/content/application~1json/schema/$ref") ==
        "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList");
  // Definitions of discovery and of watch frames, under their upstream names and kinds.
  const std::string meta = "io.k8s.apimachinery.pkg.apis.meta.v1.";
  for (const char* kind : {"APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "Status"}) {
    const json::value& schema = v2.at("definitions").at(meta + kind);
    CHECK(to_json(schema.at("x-kubernetes-group-version-kind")) ==
          R"([{"group":"","kind":")" + std::string(kind) + R"(","version":"v1"}])");
  }
  CHECK(v2.at("definitions").as_object().contains(meta + "APIResource"));
  for (const char* kind : {"WatchEvent", "DeleteOptions"}) {
    const json::array& kinds =
        apps.at("components").at("schemas").at(meta + kind).at("x-kubernetes-group-version-kind").as_array();
    CHECK(kinds.size() == registry->group_versions().size());
    CHECK(string_at(kinds.at(0), "/kind") == kind);
  }
  // Discovery has documents of its own in version 3.
  const json::value index = parse_json(openapi_v3_index(*registry)).value();
  for (const auto& [path, kind] : std::map<std::string, std::string>{
           {"api", "APIVersions"}, {"apis", "APIGroupList"}, {"apis/apps", "APIGroup"}}) {
    CHECK(index.at("paths").as_object().contains(path));
    const json::value document = parse_json(openapi_v3_at(*registry, path)).value();
    CHECK(document.at("components").at("schemas").as_object().contains(meta + kind));
    CHECK(document.at("paths").as_object().contains("/" + path + "/"));
  }
  CHECK(openapi_v3_at(*registry, "apis/nope").empty());
  CHECK(openapi_v3_at(*registry, "apis/apps/v9").empty());
  CHECK(openapi_v3_at(*registry, "api/v1/x").empty());
  CHECK(openapi_v3_at(*registry, "").empty());
  CHECK(openapi_v3_at(*registry, "apis/apps/v1") == openapi_v3(*registry, "apps", "v1"));
}

TEST_CASE("a v3 document says what kubectl looks for") {
  const json::value document = parse_json(openapi_v3(*TypeRegistry::builtin(), "apps", "v1")).value();
  const json::value& patch =
      document.at("paths").at("/apis/apps/v1/namespaces/{namespace}/deployments/{name}").at("patch");
  CHECK(string_at(patch, "/x-kubernetes-group-version-kind/kind") == "Deployment");
  CHECK(patch.at("requestBody").at("content").as_object().contains("application/strategic-merge-patch+json"));
  std::set<std::string> parameters;
  for (const json::value& each : *array_at(patch, "/parameters")) parameters.insert(string_at(each, "/name"));
  CHECK(parameters.count("fieldValidation") == 1);
  const json::value& spec = document.at("components").at("schemas").at("io.k8s.api.core.v1.PodSpec");
  CHECK(string_at(spec, "/properties/containers/x-kubernetes-patch-merge-key") == "name");
  CHECK(openapi_hash(openapi_v3(*TypeRegistry::builtin(), "apps", "v1")).size() == 16);
}
