#pragma once
// Versions of one stored object: what is stored is one form, requests may speak another.
//
// Upstream converts every version to an internal one and back. Here the stored form is the hub: a version
// that only differs by its apiVersion needs nothing more, the two that differ by shape (events.k8s.io,
// autoscaling/v1) have a pair of functions, and a custom type's versions are pruned and completed by their
// own schema (strategy None).
#include "api/types.hpp"

namespace orchestra::api {

/// The conversion that a kind block of a .types file names.
const VersionConversion* conversion_named(std::string_view name);

/// Stored bytes of this type can be sent as `version` unchanged.
ORC_API bool stored_as(const TypeRecord& record, const TypeVersion& version);
/// From `version` to what is stored. The object is complete (pruned, with the defaults of `version`). Fails,
/// and may block, only where the type has a converter.
ORC_API Result<void> to_stored(const TypeRecord& record, const TypeVersion& version, json::value& object);
/// From what is stored (in whatever version it was written) to `version`. Likewise.
ORC_API Result<void> from_stored(const TypeRecord& record, const TypeVersion& version, json::value& object);

}  // namespace orchestra::api
