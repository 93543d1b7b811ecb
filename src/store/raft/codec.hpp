#pragma once
// Messages and configurations as bytes (docs/formats/store-wire.md). Every length is checked; a
// configuration inside an entry is checked too, so that the core may rely on it.
#include <string>
#include <string_view>

#include "orchestra/result.hpp"
#include "store/raft/types.hpp"

namespace orchestra::store {

constexpr std::size_t kMembersMax = 32;
constexpr std::size_t kMemberTextMax = 256;  ///< bytes of a name or an address

std::string encode_configuration(const Configuration& configuration);
Result<Configuration> decode_configuration(std::string_view bytes);
std::string encode_message(const Message& message);
Result<Message> decode_message(std::string_view bytes);

}  // namespace orchestra::store
