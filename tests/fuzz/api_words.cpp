// Quantities, label and field selectors, times: what is accepted prints as text that reads back the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/meta.hpp"
#include "orchestra/quantity.hpp"
#include "orchestra/selector.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto quantity = Quantity::parse(text)) {
    const auto again = Quantity::parse(quantity->to_string());
    if (!again || *again != *quantity || again->to_string() != quantity->to_string()) std::abort();
  }
  if (const auto selector = Selector::parse(text)) {
    const auto again = Selector::parse(selector->to_string());
    if (!again || !(*again == *selector)) std::abort();
    (void)selector->matches({{"a", "b"}});
  }
  (void)FieldSelector::parse(text);
  if (const auto time = api::parse_time(text)) {
    if (*time != INT64_MAX && *time != INT64_MIN) {
      const auto again = api::parse_time(api::format_time(*time));
      if (!again || *again / api::kSecond * api::kSecond != *again) std::abort();
    }
  }
  return 0;
}
