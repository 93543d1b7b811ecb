#pragma once
// x-kubernetes-validations of custom resources: where the rules of a schema meet values, and definitions.
//
// Upstream apiextensions-apiserver/pkg/apiserver/schema/cel. Rules are judged only where the rest of the
// schema holds. Old values are found by property, by key, and in lists of type map by their keys; elsewhere
// nothing corresponds. What did not change is not refused (ratcheting): its rules warn.
#include "api/field_error.hpp"
#include "api/schema.hpp"

namespace orchestra::api {

/// Judges every rule below `schema`. `old` null: a create. The budget of a request is used up by all
/// together.
void validate_expressions(SchemaRef schema, const json::value& value, const json::value* old,
                          FieldErrors& errors);

/// What is wrong with the rules of a whole openAPIV3Schema that is structural, under `path`.
void check_expressions(const json::object& schema, const FieldPath& path, FieldErrors& errors);

/// The old value that corresponds to a child, and where it is looked for.
class OldValues {
 public:
  explicit OldValues(const json::value* old) { stack_.push_back(old); }
  const json::value* current() const { return stack_.back(); }
  void member(std::string_view name);
  void item(SchemaRef list, const json::value& item);
  void leave() { stack_.pop_back(); }

 private:
  std::vector<const json::value*> stack_;
};

}  // namespace orchestra::api
