#pragma once
// CRC32C (Castagnoli): by the processor's instruction where it has one, else by table.
#include <cstdint>
#include <string_view>

namespace orchestra::store {

/// Of `bytes` after what `seed` is the checksum of; 0 to begin.
std::uint32_t crc32c(std::string_view bytes, std::uint32_t seed = 0);
/// The table version, whatever the processor can (tests compare).
std::uint32_t crc32c_by_table(std::string_view bytes, std::uint32_t seed = 0);

}  // namespace orchestra::store
