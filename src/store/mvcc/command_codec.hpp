#pragma once
// Commands as bytes: the payload of a log entry (docs/formats/store.md).
#include <string>
#include <string_view>

#include "store/mvcc/command.hpp"

namespace orchestra::store {

std::string encode_command(const Command& command);
/// `corrupt` for malformed bytes; `unsupported`, naming type and version, for a command that only a newer
/// release knows: apply then stops, it never skips.
Result<Command> decode_command(std::string_view bytes);
/// The last type that this release knows, and that one which did not tell its peers knew.
constexpr std::uint8_t kCommandsKnown = 9, kCommandsKnownFirst = 8;
/// 0: too short for one.
std::uint8_t command_type(std::string_view bytes);
/// What a release says that knows the types up to `known`; the command has a type.
Error unknown_command(std::string_view bytes, std::uint8_t known);

}  // namespace orchestra::store
