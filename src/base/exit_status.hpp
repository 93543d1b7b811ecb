#pragma once
// What a command of the orchestra program ends with for an error (DESIGN.md section 5); `oci` follows its models.
#include "orchestra/error.hpp"

namespace orchestra {

/// 2 usage or bad input, 3 not found, 4 conflict, 5 unavailable (nothing applied), 6 unknown outcome, 7 compacted
/// or expired, 8 no space or too large, 9 corrupt, 10 denied, 1 any other.
ORC_API int exit_status(const Error& error);

}  // namespace orchestra
