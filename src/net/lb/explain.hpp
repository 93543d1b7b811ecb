#pragma once
// "Why does 10.96.0.1:80/tcp lead there?" in a few lines of text. Pure.
#include <string>

#include "net/snapshot.hpp"
#include "orchestra/service_proxy.hpp"

namespace orchestra::net {
/// `target`: "ADDRESS:PORT/PROTOCOL" or "nodeport:PORT/PROTOCOL".
Result<std::string> explain_target(const NetworkSnapshot& snapshot, std::string_view node,
                                   std::string_view target);
}  // namespace orchestra::net
