// The builtin types as a catalog for the garbage collector and the namespace controller.
#include "controllers/common/catalog.hpp"

#include "api/types.hpp"

namespace orchestra::controllers {

std::vector<KnownResource> builtin_catalog() {
  std::vector<KnownResource> catalog;
  for (const api::TypePtr& type : api::TypeRegistry::builtin()->records()) {
    // Types that live in another type's place are seen there.
    if (type->virtual_only || type->computed || !type->storage_group.empty() || !type->storage_plural.empty())
      continue;
    if (!type->allows("list") || !type->allows("watch") || !type->allows("delete")) continue;
    const std::string api_version = type->gvk(type->storage_version().name).api_version();
    catalog.push_back({{api_version, type->plural}, type->kind, type->namespaced});
  }
  return catalog;
}

}  // namespace orchestra::controllers
