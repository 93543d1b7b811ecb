#pragma once
// Is a schema structural? apiextensions-apiserver/pkg/apiserver/schema/validation.go: every value has a type,
// logical parts (allOf, anyOf, oneOf, not) only restrict what is said outside of them.
#include <boost/json.hpp>

#include "api/field_error.hpp"

namespace orchestra::api {

/// Depth of nested schemas; deeper is an error, so that recursion here and in the builder is bounded.
inline constexpr int kSchemaDepthMax = 64;

void check_structural(const boost::json::object& schema, const FieldPath& path, FieldErrors& errors);

}  // namespace orchestra::api
