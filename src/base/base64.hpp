#pragma once
// Base64, RFC 4648 section 4, with padding.
#include <optional>
#include <string>
#include <string_view>

#include "orchestra/error.hpp"

namespace orchestra {

ORC_API std::string encode_base64_text(std::string_view bytes);
/// nullopt for a wrong character, length or padding.
ORC_API std::optional<std::string> decode_base64_text(std::string_view text);

}  // namespace orchestra
