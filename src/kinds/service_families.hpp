#pragma once
// Families and addresses of a Service: what its author left open is decided, what contradicts itself is
// refused. Pure; behaves as kubernetes/pkg/registry/core/service/storage (normalizeClusterIPs,
// patchAllocatedValues, dropTypeDependentFields, initIPFamilyFields), where the reasons are told.
#include <string>
#include <vector>

#include "api/field_error.hpp"
#include "base/json.hpp"

namespace orchestra::apiserver {

/// What Services of this cluster may have.
struct ClusterFamilies {
  std::string first = "IPv4";  ///< of a Service that does not say
  bool both = false;
  bool has(const std::string& family) const { return both || family == first; }
};

/// `service` as its author wrote it, `old` as it is stored (null: it is made). Afterwards, unless there are
/// errors, `ipFamilyPolicy` and `ipFamilies` are complete (but for type ExternalName), and `clusterIPs` is
/// ["None"] or has an entry for the first of the families only, or for each, or none: what is missing is to
/// be allocated.
void complete_service_families(json::value& service, const json::value* old, const ClusterFamilies& cluster,
                               api::FieldErrors& errors);

/// Texts of a list of the spec, `clusterIPs` or `ipFamilies`.
std::vector<std::string> texts_of(const json::object& spec, const char* field);
/// Addresses that the Service holds: `clusterIPs`, else `clusterIP`, without "None".
std::vector<std::string> held_addresses(const json::value& service);

}  // namespace orchestra::apiserver
