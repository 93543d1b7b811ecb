#pragma once
// The bytes of orch-shim, as built together with this library.
#include <string_view>

namespace orchestra::runtime {
std::string_view embedded_shim();
}
