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

 private:
  std::shared_ptr<const std::string> text_;
  std::shared_ptr<const Ast> ast_;
};

/// x-kubernetes-validations of one node: rules as JSON (rule, message, messageExpression, reason, fieldPath,
/// optionalOldSelf). `self` and `old` (may be null: a create) are values of that node. Adds to `errors` under
/// `path`. The budget is shared by all calls of a request; used up, the object is refused.
void validate_rules(const json::array& rules, SchemaRef schema, const json::value& self,
                    const json::value* old, const FieldPath& path, std::uint64_t& budget,
                    FieldErrors& errors);
/// Errors of rules that do not compile, under `path`[i].rule: for the write of a definition.
void check_rules(const json::array& rules, const FieldPath& path, FieldErrors& errors);

}  // namespace orchestra::api::cel
