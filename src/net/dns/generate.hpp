#pragma once
// The numbers of $GENERATE (BIND 9 Administrator Reference Manual, "BIND Primary File Extension"). Pure.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "orchestra/result.hpp"

namespace orchestra::dns {

constexpr std::uint32_t kGenerateMax = 65'536;  ///< records of one directive: a name for each of a /16

struct GenerateRange {
  std::uint32_t first = 0, last = 0, step = 1;
};
/// "1-9", "0-254/2": below 2^31, at most kGenerateMax numbers, the last not before the first.
std::optional<GenerateRange> parse_generate_range(std::string_view text);

/// `text` with the number in the place of each $: `${offset[,width[,base]]}` adds the offset, fills with
/// zeros up to the width, and writes in base d, o, x, X, or as nibbles from the last to the first (n, N: the
/// width counts their dots). `$$` and `\$` are a dollar. `invalid` names a form that is none of these.
Result<std::string> generate_text(std::string_view text, std::uint32_t number);

}  // namespace orchestra::dns
