#pragma once
// One block of bytes, compressed by zstd (RFC 8878): its size (u32), then one frame.
#include <optional>
#include <string>
#include <string_view>

namespace orchestra::store {

constexpr int kZstdLevelMax = 19;

/// `level` from 1 to kZstdLevelMax.
std::string compress_block(std::string_view bytes, int level);
/// None: damaged, or larger than `size_max`.
std::optional<std::string> decompress_block(std::string_view block, std::size_t size_max);

}  // namespace orchestra::store
