#pragma once
// What a custom schema demands of one value: type, bounds, pattern, format, list keys, allOf/anyOf/oneOf/not.
// The errors are those of kube-openapi's validation, as the API server prints them.
#include <boost/json.hpp>

#include "api/field_error.hpp"
#include "api/schema.hpp"

namespace orchestra::api {

/// `rules` is the schema of this value; its properties and items are the walker's business.
void check_value(const json::object& rules, const json::value& value, const FieldPath& path,
                 FieldErrors& errors);

}  // namespace orchestra::api
