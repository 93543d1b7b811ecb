// Custom resources for whoever deletes across all resources; see catalog.hpp.
#include "controllers/common/catalog.hpp"

#include "controllers/common/objects.hpp"

namespace orchestra::controllers {
namespace {

bool established(const json::value& definition) {
  const json::object* condition = find_condition(definition, "Established");
  return condition != nullptr && string_at(*condition, "/status") == "True";
}

/// The version in which objects are stored, if it is served; else the first that is.
std::string version_of(const json::value& definition) {
  const json::array* versions = array_at(definition, "/spec/versions");
  if (versions == nullptr) return {};
  std::string first;
  for (const json::value& one : *versions) {
    if (!bool_at(one, "/served")) continue;
    if (bool_at(one, "/storage")) return string_at(one, "/name");
    if (first.empty()) first = string_at(one, "/name");
  }
  return first;
}

}  // namespace

std::vector<KnownResource> custom_catalog(const std::vector<Object>& definitions) {
  std::vector<KnownResource> catalog;
  for (const Object& object : definitions) {
    const json::value& definition = tree(object);
    const std::string version = version_of(definition);
    const std::string group = string_at(definition, "/spec/group");
    const std::string plural =
        string_at(definition, "/status/acceptedNames/plural", string_at(definition, "/spec/names/plural"));
    const std::string kind =
        string_at(definition, "/status/acceptedNames/kind", string_at(definition, "/spec/names/kind"));
    if (!established(definition) || version.empty() || group.empty() || plural.empty() || kind.empty())
      continue;
    catalog.push_back(
        {{group + "/" + version, plural}, kind, string_at(definition, "/spec/scope") == "Namespaced"});
  }
  return catalog;
}

}  // namespace orchestra::controllers
