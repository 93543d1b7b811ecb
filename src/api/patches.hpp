#pragma once
// JSON patch (RFC 6902), merge patch (RFC 7386) and strategic merge patch on trees. Pure; the public
// twins on text are in orchestra/patch.hpp.
#include "api/schema.hpp"
#include "orchestra/result.hpp"

#include <boost/json.hpp>
#include <string>
#include <vector>

namespace orchestra::api {
namespace json = boost::json;

inline constexpr std::size_t kJsonPatchOperationsMax = 10'000;  ///< more: too_large

/// A failed test or a missing path is `invalid` (422), a malformed patch `invalid` too, with domain "patch"
/// and a message that names the operation. The target is unchanged on error.
ORC_API Result<void> json_patch(json::value& target, const json::value& patch);
/// RFC 7386: null deletes.
ORC_API void merge_patch(json::value& target, const json::value& patch);
/// Keys and strategies from the schema; directives $patch, $deleteFromPrimitiveList, $setElementOrder,
/// $retainKeys (upstream strategicpatch/patch.go).
ORC_API Result<void> strategic_merge_patch(SchemaRef schema, json::value& target, const json::value& patch);

/// prune_unknown() of what a strategic patch has made. Upstream does not print and parse that again but takes
/// it over by reflection (apimachinery runtime/converter.go), which has other words for a value of the wrong
/// type.
Result<std::vector<std::string>> prune_strategic(SchemaRef schema, json::value& value,
                                                 std::span<const std::string_view> settled = {});

}  // namespace orchestra::api
