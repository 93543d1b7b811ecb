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
  CHECK(openapi_v3_hash(*TypeRegistry::builtin(), "apps", "v1").size() == 16);
}
