// The public face of the type tables: the same functions that the server uses, on Objects.
#include "orchestra/type_registry.hpp"

#include <algorithm>

#include "api/object_tree.hpp"
#include "api/openapi.hpp"
#include "api/status.hpp"
#include "api/walker.hpp"

namespace orchestra {
namespace {

struct Known {
  api::TypePtr record;
  const api::TypeVersion* version = nullptr;
};

Result<Known> known(const Object& object) {
  const auto [group, version] = api::split_api_version(object.api_version());
  Known found{api::TypeRegistry::builtin()->find_kind(group, version, object.kind())};
  if (found.record == nullptr) {
    return Error(
        Error::not_found, "api",
        "no builtin kind " + object.api_version() + " " + object.kind() + "; is apiVersion spelled right?");
  }
  found.version = found.record->version(version);
  return found;
}

/// The object's tree, pruned and with defaults.
Result<json::value> completed(const Object& object, const Known& type) {
  json::value tree = orchestra::tree(object);
  if (const auto pruned = api::prune_unknown(type.version->schema, tree); !pruned) {
    return api::cannot_be_handled(object.kind(), type.version->name, pruned.error().message());
  }
  api::apply_defaults(type.version->schema, tree);
  return tree;
}

bool contains(const std::vector<std::string>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace

TypeRegistry::TypeRegistry() {
  for (const api::TypePtr& record : api::TypeRegistry::builtin()->records()) {
    for (const api::TypeVersion& version : record->versions) {
      Resource resource{.kind = record->gvk(version.name),
                        .resource = record->plural,
                        .singular = record->singular,
                        .short_names = record->short_names,
                        .categories = record->categories,
                        .verbs = record->verbs,
                        .namespaced = record->namespaced};
      for (const api::Subresource& sub : record->subresources) resource.subresources.push_back(sub.name);
      resources_.push_back(std::move(resource));
    }
  }
}

const TypeRegistry& TypeRegistry::builtin() {
  static const TypeRegistry kBuiltin;
  return kBuiltin;
}

const TypeRegistry::Resource* TypeRegistry::find_kind(const GroupVersionKind& kind) const {
  const auto found = std::find_if(resources_.begin(), resources_.end(),
                                  [&](const Resource& each) { return each.kind == kind; });
  return found == resources_.end() ? nullptr : &*found;
}

const TypeRegistry::Resource* TypeRegistry::find_name(std::string_view name) const {
  const auto found = std::find_if(resources_.begin(), resources_.end(), [&](const Resource& each) {
    return each.resource == name || each.singular == name || contains(each.short_names, name);
  });
  return found == resources_.end() ? nullptr : &*found;
}

Result<std::vector<std::string>> TypeRegistry::unknown_fields(const Object& object) const {
  ORC_ASSIGN(const Known type, known(object));
  json::value tree = orchestra::tree(object);
  return api::prune_unknown(type.version->schema, tree);
}

Result<Object> TypeRegistry::with_defaults(const Object& object) const {
  ORC_ASSIGN(const Known type, known(object));
  ORC_ASSIGN(json::value tree, completed(object, type));
  return object_from_tree(std::move(tree));
}

Result<void> TypeRegistry::validate(const Object& object) const {
  ORC_ASSIGN(const Known type, known(object));
  ORC_ASSIGN(const json::value tree, completed(object, type));
  const api::FieldErrors errors = api::validate_create(*type.record, type.version->schema, tree);
  if (errors.empty()) return {};
  return api::invalid(type.record->group, type.record->kind, object.name(), errors);
}

std::string TypeRegistry::openapi_v3(std::string_view group, std::string_view version) const {
  return api::openapi_v3(*api::TypeRegistry::builtin(), group, version);
}

}  // namespace orchestra
