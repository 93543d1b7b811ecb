#pragma once
// Bodies in: JSON, YAML or protobuf bytes to a tree of a known type, with what the strict check found.
#include <string>
#include <string_view>
#include <vector>

#include "api/types.hpp"
#include "orchestra/result.hpp"

namespace orchestra::api {

enum class BodyFormat : std::uint8_t { json, yaml, protobuf };

struct DecodedBody {
  json::value tree;
  GroupVersionKind gvk;                ///< as the body names it (defaulted from `expected` where absent)
  std::vector<std::string> unknown;    ///< paths of unknown fields, already pruned
  std::vector<std::string> duplicate;  ///< paths of duplicate keys
};

/// Parses, prunes and normalises; errors carry the 400 Status that upstream would send. A body that names
/// another kind or version than `expected` is a 400.
ORC_API Result<DecodedBody> decode_body(std::string_view bytes, BodyFormat format,
                                        const GroupVersionKind& expected, SchemaRef schema,
                                        const json::storage_ptr& memory = {});
/// Only the tree (patches, DeleteOptions of unknown shape): 400 Status on malformed bytes.
ORC_API Result<json::value> parse_body(std::string_view bytes, BodyFormat format);
/// From a Content-Type header; empty optional = 415.
ORC_API std::optional<BodyFormat> body_format(std::string_view content_type);

}  // namespace orchestra::api
