// How much memory this process may use: the machine's, or less where its cgroup (v1 or v2) says so.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string>

#include "base/fd.hpp"
#include "store/local_store.hpp"

namespace orchestra::store {
namespace {
std::uint64_t limit_in(const char* path) {
  std::uint64_t limit = UINT64_MAX;
  const auto text =
      read_file(path, 64);  // "max", or a number; a v1 cgroup without limit says 2^63 and the like
  if (text) std::from_chars(text->data(), text->data() + text->size(), limit);
  return limit;
}
}  // namespace

std::uint64_t memory_bytes() {
  constexpr std::uint64_t kMost = 128ull << 30;  // a store's state is half of this at most
  const auto pages = static_cast<std::uint64_t>(std::max(1L, ::sysconf(_SC_PHYS_PAGES)));
  const auto page = static_cast<std::uint64_t>(std::max(4096L, ::sysconf(_SC_PAGESIZE)));
  return std::min({kMost, pages * page, limit_in("/sys/fs/cgroup/memory.max"),
                   limit_in("/sys/fs/cgroup/memory/memory.limit_in_bytes")});
}

}  // namespace orchestra::store
