// The tar reader and the decoders in front of it under arbitrary bytes: every archive ends, every entry
// keeps its bounds, and no entry reads more than it announced.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "image/byte_source.hpp"
#include "image/layer_stack.hpp"
#include "image/tar.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra::image;
  auto plain = decompress(make_memory_source(std::string(reinterpret_cast<const char*>(data), size)));
  if (!plain) return 0;
  HashingSource source(std::move(*plain), 8 << 20);
  TarLimits limits;
  limits.entries_max = 1000;
  TarReader tar(source, limits);
  while (true) {
    const auto entry = tar.next();
    if (!entry || !*entry) return 0;
    if ((*entry)->path.size() > limits.path_bytes_max || (*entry)->extents.size() > limits.extents_max)
      std::abort();
    if (const auto parts = split_path((*entry)->path)) {
      for (const std::string& part : *parts) {
        if (part.empty() || part == ".." || part == "." || part.find('/') != std::string::npos) std::abort();
      }
    }
    std::uint64_t announced = tar.data_left(), got = 0;
    char buffer[4096];
    while (true) {
      const auto read = tar.read(buffer, sizeof buffer);
      if (!read || *read == 0) break;
      got += *read;
    }
    if (got > announced) std::abort();
  }
}
