#pragma once
// The compact tree of a compiled expression: nodes in one array, children by index.
#include <string>
#include <vector>

#include "api/cel/value.hpp"
#include "orchestra/result.hpp"

namespace orchestra::api::cel {

enum class NodeKind : std::uint8_t {
  literal,
  ident,
  select,  ///< text = field; optional: a.?b
  test,    ///< has(a.b)
  index,   ///< a[b]; optional: a[?b]
  call,    ///< text = function; method: children[0] is the receiver
  list,
  map,          ///< children: key, value, key, value
  conditional,  ///< c ? a : b
  logic_and,
  logic_or,
  macro,  ///< text = all exists ...; children: range, [body..]; names in `names`
  bind,   ///< cel.bind(name, value, body)
};

struct Node {
  NodeKind kind = NodeKind::literal;
  std::uint32_t position = 0;  ///< byte offset
  bool method = false, optional = false;
  std::string text;
  std::vector<std::uint32_t> children;
  std::vector<std::string> names;
  std::vector<bool> optional_parts;  ///< of lists and maps: `?` before the element
  Value literal;
};

struct Ast {
  std::vector<Node> nodes;
  std::uint32_t root = 0;
};

inline constexpr std::size_t kExpressionBytesMax = 100'000;
inline constexpr int kDepthMax = 200;

/// Errors name line and column: `ERROR: <input>:1:5: Syntax error: ...`.
Result<Ast> parse(std::string_view text);
/// Undeclared variables and unknown functions, with position. `variables`: the roots that exist.
Result<void> check(const Ast& ast, std::string_view text, const std::vector<std::string>& variables);
/// `ERROR: <input>:LINE:COLUMN: WHY`
std::string located(std::string_view text, std::uint32_t position, const std::string& why);

/// Functions and methods that exist, by name.
bool is_function(const std::string& name);
bool is_method(const std::string& name);

struct Context;
Value call_function(Context& context, const std::string& name, std::vector<Value>& arguments);
Value call_method(Context& context, const std::string& name, std::vector<Value>& arguments);

/// What functions may ask for.
struct Context {
  std::uint64_t cost = 0, budget = 0;
  std::function<std::pair<bool, std::string>(const AccessQuery&)> authorize;
  AccessQuery request;  ///< what authorizer.requestResource stands for
  /// False: over budget.
  bool spend(std::uint64_t units) {
    cost += units;
    return cost <= budget;
  }
};

}  // namespace orchestra::api::cel
