// What is read back from disk or given by hand: the address journal, ranges and explain targets.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "net/lb/explain.hpp"
#include "net/podnet/address_pool.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  using namespace orchestra::net;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto range = IpRange::parse(text)) {
    const auto again = IpRange::parse(range->to_string());
    if (!again || !(*again == *range) || !range->contains(range->base)) std::abort();
  }
  static const NetworkSnapshot nothing;
  (void)explain_target(nothing, "n1", text);
  auto pool = AddressPool::create(IpRange::parse("10.244.1.0/24").value(), 0).value();
  if (pool.load(text, 1)) {
    auto second = AddressPool::create(IpRange::parse("10.244.1.0/24").value(), 0).value();
    if (!second.load(pool.journal(), 1) || second.journal() != pool.journal()) std::abort();
  }
  return 0;
}
