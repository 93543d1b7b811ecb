#pragma once
// Objects as structured-merge-diff sees them: which fields a value sets, what changed between two, and how
// one is laid over another. Driven by the list types of the schema; what has no schema (preserved unknown
// fields) is a map field by field, and a list as a whole.
#include "api/apply/field_set.hpp"
#include "api/schema.hpp"

namespace orchestra::api {

/// typed.ToFieldSet: the fields that `value` sets.
FieldSet fields_of(SchemaRef schema, const json::value& value);

struct FieldChanges {
  FieldSet added, removed, modified;
  bool empty() const { return added.empty() && removed.empty() && modified.empty(); }
};
/// typed.Compare
FieldChanges compare_fields(SchemaRef schema, const json::value& before, const json::value& after);

/// typed.Merge: `config` over `live`. True: somewhere an empty map of the config met one with fields.
/// `invalid` where two items of a list have the same keys; `live` is then half merged.
Result<bool> merge_fields(SchemaRef schema, json::value& live, const json::value& config);

/// typed.RemoveItems: without the members of `gone`.
json::value remove_fields(SchemaRef schema, const json::value& value, const FieldSet& gone);

/// fieldpath.EnsureNamedFieldsAreMembers: named fields on the way to a member are members too.
FieldSet with_named_parents(SchemaRef schema, const FieldSet& set);

}  // namespace orchestra::api
