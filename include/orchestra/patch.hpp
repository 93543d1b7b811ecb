#pragma once
// Patches on JSON text, usable without a server. Since 0.1.
#include <string>
#include <string_view>

#include "orchestra/object.hpp"
#include "orchestra/result.hpp"

namespace orchestra {

/// RFC 6902. Returns the patched document; the first operation that fails is named in the error.
ORC_API Result<std::string> apply_json_patch(std::string_view document, std::string_view patch);
/// RFC 7386.
ORC_API Result<std::string> apply_merge_patch(std::string_view document, std::string_view patch);
/// Kubernetes' strategic merge patch with the list keys of a builtin kind. `not_found` for an unknown kind.
ORC_API Result<std::string> apply_strategic_merge_patch(const GroupVersionKind& kind,
                                                        std::string_view document, std::string_view patch);

}  // namespace orchestra
