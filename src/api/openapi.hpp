#pragma once
// OpenAPI and discovery documents as pure functions of the registry.
#include <string>
#include <string_view>

#include "api/types.hpp"

namespace orchestra::api {

/// {"paths":{"api/v1":{"serverRelativeURL":"/openapi/v3/api/v1?hash=H"},...}}, H being the openapi_hash() of
/// the document.
ORC_API std::string openapi_v3_index(const TypeRegistry& registry);
/// The document at "api/v1", "apis/apps/v1", or at "api", "apis", "apis/apps" (discovery); empty if not
/// served.
ORC_API std::string openapi_v3_at(const TypeRegistry& registry, std::string_view path);
/// Names a version of a document in its URL; changes whenever the document does.
ORC_API std::string openapi_hash(std::string_view document);
/// The document of one group version; empty if not served.
ORC_API std::string openapi_v3(const TypeRegistry& registry, std::string_view group,
                               std::string_view version);
ORC_API std::string openapi_v2_json(const TypeRegistry& registry);
/// gnostic OpenAPIv2.Document; content type
/// application/com.github.proto-openapi.spec.v2.v1.0+protobuf (with a dot).
ORC_API std::string openapi_v2_protobuf(const TypeRegistry& registry);

ORC_API std::string discovery_api(std::string_view server_address);  ///< /api
ORC_API std::string discovery_apis(const TypeRegistry& registry);    ///< /apis
ORC_API std::string discovery_group(const TypeRegistry& registry,
                                    std::string_view group);  ///< /apis/G; "" if none
/// /api/v1, /apis/G/V; "" if none
ORC_API std::string discovery_resources(const TypeRegistry& registry, std::string_view group,
                                        std::string_view version);
/// Aggregated: `core` = /api, else /apis; `version` is v2 or v2beta1.
ORC_API std::string discovery_aggregated(const TypeRegistry& registry, bool core, std::string_view version);

}  // namespace orchestra::api
