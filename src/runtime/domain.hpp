#pragma once

namespace orchestra::runtime {
/// The domain of this area's errors.
inline constexpr const char* kDomain = "runtime";
}  // namespace orchestra::runtime
