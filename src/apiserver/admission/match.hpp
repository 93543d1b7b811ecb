#pragma once
// What policies and webhooks have in common: which writes they are about, and expressions over a write.
//
// Rules (operations, groups, versions, resources with subresources, scope, names), selectors of namespace and
// object, and CEL with object, oldObject, request, namespaceObject, authorizer.
#include <optional>
#include <string>

#include "api/cel/program.hpp"
#include "apiserver/admission.hpp"

namespace orchestra::apiserver {

inline constexpr std::size_t kCompiledMax = 4096;  // expressions kept by their text

/// A program for these variables, from a cache by text. `invalid` with the place.
Result<api::cel::Program> compiled_expression(const std::string& text);
/// Whether an expression of a new object compiles that may not name `hidden`, variables that are not there
/// where it runs. A blank one is another's business.
Result<void> check_expression(const std::string& text, const std::vector<std::string>& hidden);

/// A write as rules see it, made once.
struct WriteSubject {
  Admission& admission;
  std::string name, ns, resource, sub, group, version, operation;
  std::optional<json::value> ns_object;

  static Result<WriteSubject> of(Admission& admission);
  /// The same write in another version of its type.
  bool rule_matches(const json::value& rule, const std::string& in_version) const;
  bool any_rule(const json::value& parent, const char* pointer) const;
  /// rules, excludes and selectors of a MatchResources; `rules_needed`: without rules nothing matches.
  bool matches(const json::value* constraints, bool rules_needed) const;
  bool selectors_match(const json::value& parent) const;
  /// The request of a review, without object and oldObject.
  json::value request_json() const;
};

/// Evaluates expressions over one write, within one budget.
class WriteExpressions {
 public:
  WriteExpressions(const WriteSubject& subject, const json::value& request, std::uint64_t& budget);
  api::cel::Program::Variables& variables() { return variables_; }
  api::cel::Value evaluate(const std::string& text);

 private:
  const WriteSubject& subject_;
  std::uint64_t& budget_;
  api::cel::Program::Variables variables_;
};

}  // namespace orchestra::apiserver
