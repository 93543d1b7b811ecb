#pragma once
// A compiled expression and its evaluation with a budget. Pure; thread safe.
#include <map>
#include <memory>

#include "api/cel/ast.hpp"
#include "api/field_error.hpp"

namespace orchestra::api::cel {

/// Upstream apiserver/pkg/apis/cel/config.go.
inline constexpr std::uint64_t kCallBudget = 1'000'000;    ///< of one expression
inline constexpr std::uint64_t kTotalBudget = 10'000'000;  ///< of all expressions of one request

class Program {
 public:
  /// `invalid` with positions. `variables`: the roots that evaluate() will know.
  static Result<Program> compile(std::string_view text, const std::vector<std::string>& variables);
  using Variables = std::map<std::string, Value>;
  /// A Failure value on errors; `context.cost` grows.
  Value evaluate(const Variables& variables, Context& context) const;
  const std::string& text() const { return *text_; }
  /// Does the expression use this variable?
  bool uses(const std::string& variable) const;
  const Ast& ast() const { return *ast_; }

 private:
  std::shared_ptr<const std::string> text_;
  std::shared_ptr<const Ast> ast_;
};

/// x-kubernetes-validations of one node, judged (upstream apiextensions-apiserver/pkg/apiserver/schema/cel).
struct RuleSubject {
  SchemaRef schema;  ///< may be empty
  const json::value* self = nullptr;
  const json::value* old = nullptr;  ///< null: new, or nothing that corresponds
  bool unchanged = false;            ///< rules that do not compare with the old value only warn
};
/// Rules as JSON (rule, message, messageExpression, reason, fieldPath, optionalOldSelf). Adds to `errors`
/// under `path`. The budget is shared by all calls of a request. False: it is used up, and nothing more may
/// be judged.
bool validate_rules(const json::array& rules, const RuleSubject& subject, const FieldPath& path,
                    std::uint64_t& budget, FieldErrors& errors);

/// What the writer of a definition is told about the rules of one node, under `path`[i].
struct RulePlace {
  SchemaRef schema;          ///< of `self`; empty: fields are not checked
  double cardinality = 1;    ///< how often the rule may run in one object
  std::string uncorrelated;  ///< the list within which nothing old corresponds to; empty: everything does
};
/// Adds the estimated cost of the rules to `total`.
void check_rules(const json::array& rules, const RulePlace& place, const FieldPath& path, double& total,
                 FieldErrors& errors);

/// ".spec.replicas" or ".metadata['a.b']" as it is printed behind a path: "spec.replicas", "metadata[a.b]".
/// `invalid` where the schema has no such field.
Result<std::string> normalized_field_path(std::string_view text, SchemaRef schema);

/// Schemas of variables by name; of a member of `variables` by "variables.NAME".
using KnownVariables = std::map<std::string, SchemaRef, std::less<>>;
/// Fields of these variables that their schemas do not have, with position.
Result<void> check_fields(const Ast& ast, std::string_view text, const KnownVariables& variables);
/// The same for `self` and `oldSelf` of a rule, of whose metadata only the names may be asked for.
Result<void> check_fields(const Ast& ast, std::string_view text, SchemaRef self);
/// The schema of what an expression gives; empty where it is not known.
SchemaRef schema_of_result(const Ast& ast, const KnownVariables& variables);
/// An upper bound of what an evaluation costs, from the bounds of the schema (maxItems, maxLength...), as
/// upstream's estimator; where there is no bound, what fits into a request.
double estimate_cost(const Ast& ast, SchemaRef self);
/// How many elements a list or map of this schema has at most.
double elements_max(SchemaRef schema);
inline constexpr double kEstimateMax = 10'000'000;        ///< of one rule
inline constexpr double kEstimateTotalMax = 100'000'000;  ///< of one schema

/// Property names as they are written in expressions: "a__dash__b" is a-b, "__if__" is if.
std::string unescaped_field(std::string_view name);

}  // namespace orchestra::api::cel
