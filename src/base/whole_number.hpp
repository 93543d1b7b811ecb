#pragma once
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

namespace orchestra {

/// The decimal number that the whole text is, in the range of `Int`; nullopt: it is none.
template <class Int = std::int64_t>
std::optional<Int> whole_number(std::string_view text) {
  Int number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace orchestra
