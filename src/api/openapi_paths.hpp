#pragma once
// The paths of an OpenAPI document: the operations on a kind and on its subresources, and discovery.
//
// They are made in the words of version 3; v2_item() says the same in those of version 2.
#include <string>

#include "api/openapi_schema.hpp"
#include "api/types.hpp"

namespace orchestra::api {

/// Adds all paths of one kind in one version; `root` is "/apis/apps/v1".
void add_paths(OpenApiSchemas& schemas, const TypeRecord& record, const TypeVersion& version,
               const std::string& root, json::object& paths);
/// GET of a discovery document (`path` ends in a slash) that answers with `kind` of meta/v1.
void add_discovery_path(OpenApiSchemas& schemas, const std::string& path, const std::string& kind,
                        json::object& paths);
/// A path item in the words of version 2.
json::object v2_item(const json::object& item);

}  // namespace orchestra::api
