#pragma once
// TypeRegistry: the builtin Kubernetes types as a library, without a server: what kinds there are, what is
// wrong with an object, and what it looks like once defaults are filled in.
//
//   const auto& types = orchestra::TypeRegistry::builtin();
//   if (auto good = types.validate(object); !good) report(good.error());     // the 422 that a server would
//   send auto full = types.with_defaults(object);                                  // as a server would store
//   it
//
// Immutable; any thread. Since 0.1.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/object.hpp"
#include "orchestra/result.hpp"

namespace orchestra {

class ORC_API TypeRegistry {
 public:
  struct Resource {
    GroupVersionKind kind;
    std::string resource;  ///< plural, lower case: "deployments"
    std::string singular;
    std::vector<std::string> short_names, categories, verbs, subresources;
    bool namespaced = true;
  };

  static const TypeRegistry& builtin();

  /// In the order of discovery: the core group first.
  const std::vector<Resource>& resources() const { return resources_; }
  const Resource* find_kind(const GroupVersionKind& kind) const;
  /// By plural, singular or short name, in any group: "deploy".
  const Resource* find_name(std::string_view name) const;

  /// Paths of fields that the type does not have: "spec.containers[0].imagee". `invalid` where a value has a
  /// wrong type, `not_found` for an unknown kind.
  Result<std::vector<std::string>> unknown_fields(const Object& object) const;
  /// Without unknown fields, with upstream's defaults.
  Result<Object> with_defaults(const Object& object) const;
  /// All rules of a create, after defaults. The error carries detail<Status>() with a cause for each.
  Result<void> validate(const Object& object) const;
  /// The OpenAPI v3 document of a group version ("", "v1"); empty if there is none.
  std::string openapi_v3(std::string_view group, std::string_view version) const;

 private:
  TypeRegistry();
  std::vector<Resource> resources_;
};

}  // namespace orchestra
