#pragma once
// The resources that a server has, as far as whoever deletes across all of them must know.
#include <string>
#include <vector>

#include "orchestra/informer.hpp"

namespace orchestra::controllers {

struct KnownResource {
  ResourceRef ref;
  std::string kind;
  bool namespaced = true;
};

/// Every stored builtin type that can be listed, watched and deleted.
std::vector<KnownResource> builtin_catalog();

}  // namespace orchestra::controllers
