#pragma once
// What the server tells a client about an object that it takes: deprecated fields, values that do not do what
// they seem to. Upstream: WarningsOnCreate and WarningsOnUpdate of the strategies.
#include <string>
#include <vector>

#include "api/field_error.hpp"
#include "api/types.hpp"

namespace orchestra::api {

using Warnings = std::vector<std::string>;

/// `old` is null on create. Both objects are valid.
ORC_API Warnings warnings_of(const TypeRecord& type, const json::object& object, const json::object* old);

// Parts, by the kind of thing.
/// `path` is that of the template, the root for a pod.
void warn_pod(const json::object& meta, const json::object& spec, bool is_template, const FieldPath& path,
              Warnings& out);
void warn_claim_spec(const json::object& spec, const FieldPath& path, Warnings& out);
/// Addresses and ranges in other than their usual form; nothing about what is none.
void warn_address(std::string_view text, const FieldPath& path, Warnings& out);
void warn_range(std::string_view text, const FieldPath& path, Warnings& out);
/// `own`: those in the cluster's range; else those outside.
enum class ServiceAddresses : std::uint8_t { own, outside };
void warn_service_addresses(const json::object& spec, ServiceAddresses which, Warnings& out);
void warn_pod_addresses(const json::object& spec, const FieldPath& path, Warnings& out);
void warn_endpoints(const json::object& object, Warnings& out);
void warn_slice(const json::object& object, bool created, Warnings& out);
void warn_network_policy(const json::object& object, Warnings& out);
/// What to use instead of a node label; null where the label is none that is deprecated.
const char* deprecated_node_label(std::string_view key);
void warn_node_selector_term(const json::object& term, bool values, const FieldPath& path, Warnings& out);
/// `object[name]` of a resource list, where it is a fraction of a byte.
void warn_fraction(const json::object& resources, std::string_view name, const FieldPath& path,
                   Warnings& out);

}  // namespace orchestra::api
