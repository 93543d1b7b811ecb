#pragma once
// The one recursion over (schema, value): prune and strict check, normalise, default, validate.
//
// All of it is pure: trees in, trees out. The order of a write is: parse -> prune_unknown -> (patch) ->
// apply_defaults -> admission -> validate / validate_update -> encode. Printing (Tables, OpenAPI) is in
// table.hpp and openapi.hpp, patches are in patches.hpp, protobuf is in protobuf.hpp.
#include <span>
#include <string>
#include <vector>

#include "api/field_error.hpp"
#include "api/schema.hpp"
#include "api/types.hpp"
#include "orchestra/result.hpp"

namespace orchestra::api {

/// How deep a value may nest; deeper is `invalid`.
inline constexpr int kDepthMax = 512;

/// Removes what the schema does not know and brings the value to the form that upstream's decode and encode
/// gives: null is absent, empty values of omitempty fields are absent, times are normalised. Returns the
/// paths of the fields removed as unknown, in document order: `spec.foo`, `spec.containers[0].imagee`.
/// A value of the wrong type (1.5 or "1" for an int, a list for an object) is an error whose message is what
/// upstream's decoder says after "... cannot be handled as a KIND: ".
/// `settled`: members of `value` that are known to be in that form; they are not looked at.
ORC_API Result<std::vector<std::string>> prune_unknown(SchemaRef schema, json::value& value,
                                                       std::span<const std::string_view> settled = {});

/// What Go prints for an empty object of this type: only what is never omitted.
ORC_API json::value zero_value_of(SchemaRef schema);

/// Fills in defaults exactly as upstream does (pkg/apis/*/v1/defaults.go). Idempotent. `settled`: members of
/// `value` that have theirs.
ORC_API void apply_defaults(SchemaRef schema, json::value& value,
                            std::span<const std::string_view> settled = {});

/// What schemas can say: required, enum, formats, duplicates in sets and maps; then the hooks of each
/// message. Does not look at metadata of the object itself (see validate_object).
ORC_API void validate_schema(SchemaRef schema, const json::value& value, FieldErrors& errors);
/// The same of a value that stands at `path`.
void validate_schema(SchemaRef schema, const json::value& value, const FieldPath& path, FieldErrors& errors);

/// `schema` is that of the version that the object is in.
/// What holds for the object at any time: metadata, schema, the record's own rules.
ORC_API FieldErrors validate_object(const TypeRecord& record, SchemaRef schema, const json::value& object,
                                    const json::value* old = nullptr);
/// Everything for a create: metadata, schema, the record's own rules. An error for each rule that is broken.
ORC_API FieldErrors validate_create(const TypeRecord& record, SchemaRef schema, const json::value& object);
/// Everything for an update of the main resource: also immutability.
ORC_API FieldErrors validate_update(const TypeRecord& record, SchemaRef schema, const json::value& object,
                                    const json::value& old);
/// The same for a write through /status.
ORC_API FieldErrors validate_status_update(const TypeRecord& record, SchemaRef schema,
                                           const json::value& object, const json::value& old);

/// True if the parts that count for metadata.generation differ (everything but metadata and status).
ORC_API bool spec_differs(const json::object& a, const json::object& b);

}  // namespace orchestra::api
