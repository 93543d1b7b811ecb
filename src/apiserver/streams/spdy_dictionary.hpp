#pragma once
// The zlib dictionary of SPDY header blocks.
#include <string>

namespace orchestra::apiserver {
const std::string& spdy_dictionary();
}
