#pragma once
// Capabilities by name, and the sets that containers get by default.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace orchestra::runtime {

inline constexpr int kCapabilityLast = 40;  ///< CAP_CHECKPOINT_RESTORE
inline constexpr std::uint64_t kAllCapabilities = (std::uint64_t{1} << (kCapabilityLast + 1)) - 1;

/// "NET_ADMIN", "cap_net_admin", "CAP_NET_ADMIN" -> 12.
std::optional<int> capability_number(std::string_view name);
std::string capability_name(int number);  ///< "CAP_NET_ADMIN"
/// The 14 of containerd and moby.
std::uint64_t default_capabilities();
/// Defaults plus `add`, minus `drop`; "ALL" in either. Unknown names go to `unknown`.
std::uint64_t choose_capabilities(const std::vector<std::string>& add, const std::vector<std::string>& drop,
                                  std::vector<std::string>& unknown);
std::vector<std::string> capability_names(std::uint64_t set);

}  // namespace orchestra::runtime
