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
  friend bool operator==(const KnownResource&, const KnownResource&) = default;
};

/// Every stored builtin type that can be listed, watched and deleted.
std::vector<KnownResource> builtin_catalog();
/// The custom resources that these CustomResourceDefinitions make the server serve: established ones, in
/// their storage version. One that is being deleted counts as long as it is there: its objects are on their
/// way out.
std::vector<KnownResource> custom_catalog(const std::vector<Object>& definitions);

}  // namespace orchestra::controllers
