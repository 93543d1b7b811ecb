// See scale_managers.hpp.
#include "api/apply/scale_managers.hpp"

#include <algorithm>

namespace orchestra::api {
namespace {
constexpr const char* kScaleVersion = "autoscaling/v1";

// The set of one path: "/spec/replicas".
FieldSet set_of(std::string_view pointer) {
  FieldSet set;
  FieldSet* at = &set;
  while (!pointer.empty()) {
    pointer.remove_prefix(1);
    const std::size_t end = std::min(pointer.find('/'), pointer.size());
    at = &at->children[PathElement::field(pointer.substr(0, end))];
    pointer.remove_prefix(end);
  }
  at->member = true;
  return set;
}

bool same_writer(const FieldManager& a, const FieldManager& b) {
  return a.name == b.name && a.operation == b.operation && a.subresource == b.subresource;
}
}  // namespace

FieldManagers managers_of_scale(const FieldManagers& own, const ReplicaPaths& paths) {
  FieldManagers out;
  for (const FieldManager& manager : own) {
    const auto path = paths.find(manager.api_version);
    if (path == paths.end() || path->second.empty() || !manager.fields.contains(set_of(path->second)))
      continue;
    FieldManager shown = manager;
    shown.api_version = kScaleVersion;
    shown.fields = set_of("/spec/replicas");
    out.push_back(std::move(shown));
  }
  return out;
}

FieldManagers managers_after_scale(const FieldManagers& own, FieldManagers scale,
                                   const std::string& api_version, const ReplicaPaths& paths) {
  const FieldSet shown = set_of("/spec/replicas");
  std::erase_if(scale, [&](const FieldManager& manager) { return !manager.fields.contains(shown); });
  FieldManagers out;
  for (const FieldManager& manager : own) {
    const auto path = paths.find(manager.api_version);
    if (path == paths.end()) continue;  // the type has this version no more
    const FieldSet replicas = path->second.empty() ? FieldSet() : set_of(path->second);
    if (path->second.empty() || !manager.fields.contains(replicas)) {
      out.push_back(manager);
      continue;
    }
    const auto still = std::find_if(scale.begin(), scale.end(),
                                    [&](const FieldManager& one) { return same_writer(one, manager); });
    FieldManager kept = manager;
    if (still == scale.end()) {
      kept.fields = FieldSet::without(manager.fields, replicas);
    } else {
      kept.time = still->time;
      scale.erase(still);
    }
    if (!kept.fields.empty()) out.push_back(std::move(kept));
  }
  for (FieldManager& manager : scale) {
    manager.api_version = api_version;
    manager.fields = set_of(paths.at(api_version));
    out.push_back(std::move(manager));
  }
  return out;
}

}  // namespace orchestra::api
