#pragma once
// CRC-32 (ISO 3309, the one of zlib and gzip), of short pieces too: what each frame between two processes
// costs.
#include <cstdint>
#include <string_view>

namespace orchestra {

/// By carry-less multiplication where the processor has it, else by zlib.
std::uint32_t crc32_of(std::string_view bytes);

}  // namespace orchestra
