// Snapshots under arbitrary bytes: read or refused, with memory bounded by the input.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "store/disk/snapshot.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra::store;
  std::string_view left(reinterpret_cast<const char*>(data), size);
  MvccState state;
  const auto source = [&left](std::size_t wanted) -> orchestra::Result<std::string> {
    std::string part(left.substr(0, wanted));
    left.remove_prefix(part.size());
    return part;
  };
  const auto summary = read_snapshot(source, &state);
  state.tree().check();
  if (summary && summary->records != state.tree().size()) std::abort();
  return 0;
}
