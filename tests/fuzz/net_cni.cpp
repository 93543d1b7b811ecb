// CNI: configurations given by hand, what plugins answer.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "net/cni/configuration.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  using namespace orchestra::net;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)cni_plugin_error("p", "ADD", 1, text, text);
  (void)parse_cni_versions(text, "p");
  const auto result = parse_cni_result(text, "p");
  if (result) {
    const auto again = parse_cni_result(result->json, "p");
    if (!again || again->addresses != result->addresses) std::abort();
  }
  const auto list = parse_cni_configuration(text, "f");
  if (!list) return 0;
  if (list->plugins.empty() || list->versions.empty()) std::abort();
  const CniInput input{list->versions.back(), {}, result ? result->json : "", nullptr, "eth0"};
  for (std::size_t i = 0; i < list->plugins.size(); ++i) {
    if (!parse_json(cni_input(*list, i, input))) std::abort();
  }
  return 0;
}
