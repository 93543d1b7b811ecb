// zstd, block by block (compress.hpp).
#include "store/disk/compress.hpp"

#include <zstd.h>

#include <cstdint>

#include "base/assert.hpp"
#include "store/mvcc/wire.hpp"

namespace orchestra::store {

std::string compress_block(std::string_view bytes, int level) {
  std::string block;
  Writer(block).u32(static_cast<std::uint32_t>(bytes.size()));
  const std::size_t head = block.size();
  block.resize(head + ZSTD_compressBound(bytes.size()));
  const std::size_t size =
      ZSTD_compress(block.data() + head, block.size() - head, bytes.data(), bytes.size(), level);
  ORC_ASSERT(!ZSTD_isError(size));  // there is room for the worst case
  block.resize(head + size);
  return block;
}

std::optional<std::string> decompress_block(std::string_view block, std::size_t size_max) {
  Reader in(block);
  const std::size_t size = in.u32();
  // A frame says how much it holds: what it does not claim is not allocated.
  const std::string_view frame = block.substr(block.size() - in.left());
  if (!in.ok() || size > size_max || ZSTD_getFrameContentSize(frame.data(), frame.size()) != size)
    return std::nullopt;
  std::string bytes(size, '\0');
  if (ZSTD_decompress(bytes.data(), bytes.size(), frame.data(), frame.size()) != size) return std::nullopt;
  return bytes;
}

}  // namespace orchestra::store
