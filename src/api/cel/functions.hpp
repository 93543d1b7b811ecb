#pragma once
// The tables of functions, one per library; a name may be served by several, which then look at types.
#include <map>

#include "api/cel/ast.hpp"

namespace orchestra::api::cel {

using Arguments = std::vector<Value>;
/// Answers no_overload() where the arguments are not its own.
using Function = Value (*)(Context& context, Arguments& arguments);
struct Library {
  std::multimap<std::string, Function> functions, methods;
};
const Library& standard_library();
const Library& string_library();      ///< strings, lists, sets, regex, optionals
const Library& kubernetes_library();  ///< url, quantity, ip, cidr, format, authorizer

template <class T>
const T* argument(const Arguments& arguments, std::size_t index) {
  return index < arguments.size() ? arguments[index].as<T>() : nullptr;
}
inline Optional none() { return Optional{}; }
inline Optional some(Value value) { return Optional{std::make_shared<const Value>(std::move(value))}; }

}  // namespace orchestra::api::cel
