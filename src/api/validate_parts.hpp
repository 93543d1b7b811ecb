#pragma once
// Small rules that the validation of several kinds shares: numbers, names, paths, resource names.
// Upstream: pkg/apis/core/validation/validation.go and pkg/apis/core/helper/helpers.go.
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "api/field_error.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::api {

inline constexpr const char* kNotNegativeText = "must be greater than or equal to 0";
inline constexpr const char* kPositiveText = "must be greater than zero";
inline constexpr const char* kPortRangeText = "must be between 1 and 65535, inclusive";
inline constexpr const char* kIpText = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
inline constexpr const char* kCidrText = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// `wrong` is the sentence of a check_* function of meta.hpp, empty where the value is good.
inline void check_text(std::string_view value, const std::string& wrong, const FieldPath& path,
                       FieldErrors& errors) {
  if (!wrong.empty()) errors.invalid(path, value, wrong);
}
void check_not_negative(const json::object& object, std::string_view field, const FieldPath& path,
                        FieldErrors& errors);
/// A required string field that is empty or absent.
void check_required(const json::object& object, std::string_view field, const FieldPath& path,
                    FieldErrors& errors);
/// Conditions in the form that most kinds share: apimachinery's metav1 ValidateConditions.
void check_status_conditions(const json::object& status, const FieldPath& path, FieldErrors& errors);
/// A port as a number or as a name.
void check_port(const json::value* port, const FieldPath& path, FieldErrors& errors);
/// No `..` among the parts of a path.
void check_no_backsteps(std::string_view text, const FieldPath& path, FieldErrors& errors);
/// Relative, and no `..` among its parts.
void check_descending_path(std::string_view text, const FieldPath& path, FieldErrors& errors);
/// The same, and its first part does not start with `..`.
void check_local_path(std::string_view text, const FieldPath& path, FieldErrors& errors);
/// "acme.io/foo": a domain and a path.
void check_domain_path(std::string_view text, const FieldPath& path, FieldErrors& errors);
/// The bytes of an address, 4 or 16; empty for anything else.
std::string address_bytes(std::string_view text);
/// "10.0.0.0/8" or "fd00::/64".
bool is_cidr(std::string_view text);

/// A number that is not negative, or a percentage; in the second case no more than 100% unless `unbounded`.
void check_int_or_percent(const json::object& object, std::string_view field, const FieldPath& path,
                          FieldErrors& errors);
void check_at_most_100_percent(const json::object& object, std::string_view field, const FieldPath& path,
                               FieldErrors& errors);
/// The number of `3` or `"3%"`; 0 for anything else.
std::int64_t int_or_percent_value(const json::object& object, std::string_view field);

// --- resources ---------------------------------------------------------------------------------------------
/// Absent or of another type: nullopt.
std::optional<Quantity> quantity_of(const json::value& value);
std::optional<Quantity> quantity_of(const json::object& object, std::string_view name);
bool is_huge_page(std::string_view name);
/// What a quota may count and is no extended resource.
bool is_quota_resource(std::string_view name);
/// Not negative; an integer where the resource is counted.
void check_quantity(std::string_view resource, const json::value& value, const FieldPath& path,
                    FieldErrors& errors);
/// A name that is qualified or known.
bool check_resource_name(std::string_view name, const FieldPath& path, FieldErrors& errors);
void check_container_resource_name(std::string_view name, const FieldPath& path, FieldErrors& errors);
/// limits, requests and claims of a container (`pod_level`: of the pod as a whole).
void check_resource_requirements(const json::object& resources, const std::set<std::string_view>& claims,
                                 bool pod_level, const FieldPath& path, FieldErrors& errors);

// --- volumes, classes, selectors ---------------------------------------------------------------------------
/// Sources of the volumes of a pod, by name; those that are wrong are told and left out.
using Volumes = std::map<std::string_view, const json::object*, std::less<>>;
void check_volumes(const json::object& spec, std::string_view pod_name, bool is_pod, const FieldPath& path,
                   FieldErrors& errors, Volumes& volumes);
void check_claim_spec(const json::object& spec, const FieldPath& path, FieldErrors& errors);
/// Of a PersistentVolume of this name, or (`inlined`) of a VolumeAttachment that has no such object.
void check_persistent_volume_spec(const json::object& spec, std::string_view name, bool inlined,
                                  const FieldPath& path, FieldErrors& errors);
void check_key_to_path(const json::object& item, const FieldPath& path, FieldErrors& errors);
void check_field_ref(const json::object& reference, bool in_volume, const FieldPath& path,
                     FieldErrors& errors);
void check_resource_field_ref(const json::object& reference, bool in_volume, const FieldPath& path,
                              FieldErrors& errors);
void check_node_selector(const json::object& selector, const FieldPath& path, FieldErrors& errors);
void check_scheduling(const json::object& spec, const FieldPath& path, FieldErrors& errors);
void check_tolerations(const json::object& spec, const FieldPath& path, FieldErrors& errors);
void check_taints(const json::object& spec, const FieldPath& path, FieldErrors& errors);
/// apiGroup, kind and name of something else.
void check_typed_reference(const json::object& reference, const FieldPath& path, FieldErrors& errors);
void check_topology_term(const json::object& term, const FieldPath& path, FieldErrors& errors);

// --- security ----------------------------------------------------------------------------------------------
void check_pod_security_context(const json::object& spec, const FieldPath& path, FieldErrors& errors);
void check_security_context(const json::object& container, bool host_users, const FieldPath& path,
                            FieldErrors& errors);
/// What spec.os allows: no Windows options on Linux, none of Linux on Windows.
void check_pod_os(const json::object& spec, const FieldPath& path, FieldErrors& errors);
/// Deprecated annotations of pods and templates: mirror, seccomp, AppArmor, deletion cost.
void check_pod_annotations(const json::object& meta, const json::object& spec, const FieldPath& path,
                           FieldErrors& errors);
/// Seccomp and AppArmor: the deprecated annotations must say what the fields say. `path` is that of the spec.
void check_profile_annotations(const json::object& meta, const json::object& spec, const FieldPath& path,
                               FieldErrors& errors);
/// Calls `each(container, path)` for all containers of a pod, in the order of upstream.
template <class Each>
void for_each_container(const json::object& spec, const FieldPath& path, Each each) {
  for (const char* list : {"initContainers", "containers", "ephemeralContainers"}) {
    const FieldPath at = path / list;
    std::size_t index = 0;
    const json::value* found = spec.if_contains(list);
    if (found == nullptr || !found->is_array()) continue;
    for (const json::value& item : found->get_array()) {
      if (item.is_object()) each(item.get_object(), at[index]);
      ++index;
    }
  }
}

}  // namespace orchestra::api
