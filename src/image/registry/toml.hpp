#pragma once
// The part of TOML 1.0 that hosts.toml and registries.conf use, read into a JSON tree. Pure.
//
// Tables, arrays of tables, dotted and quoted keys, strings (basic, literal, their multi-line forms),
// integers, booleans, arrays, inline tables, comments. Dates and floats are refused by name: nothing here has
// them.
#include <string_view>

#include "base/json.hpp"
#include "orchestra/result.hpp"

namespace orchestra::image {

inline constexpr std::size_t kTomlBytesMax = 1 << 20;

/// Errors begin with "line N: ".
Result<json::object> parse_toml(std::string_view text);

}  // namespace orchestra::image
