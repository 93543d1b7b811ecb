#pragma once
// Owners of the replicas of an object as a Scale shows them, and back.
//
// apimachinery/pkg/util/managedfields/scalehandler.go as two pure functions: of the object's sets a Scale
// sees who owns its replicas; what a write on the Scale does to them is done to the sets of the object, where
// each version of the type may have the replicas elsewhere.
#include <map>
#include <string>

#include "api/apply/managed_fields.hpp"

namespace orchestra::api {

/// JSON pointers by apiVersion; empty: the version has no scale.
using ReplicaPaths = std::map<std::string, std::string>;

FieldManagers managers_of_scale(const FieldManagers& own, const ReplicaPaths& paths);
/// `own` after a write that left `scale`; the replicas of new owners are those of `api_version`.
FieldManagers managers_after_scale(const FieldManagers& own, FieldManagers scale,
                                   const std::string& api_version, const ReplicaPaths& paths);

}  // namespace orchestra::api
