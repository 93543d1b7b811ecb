#pragma once
// Where a port of the machine is listened on at level process.
#include <cstdint>
#include <vector>

namespace orchestra::net {

/// Every IPv4 address of the machine's links as they are now, each once (several links may have the same), in
/// the namespace of the calling thread. Not 0.0.0.0: pods listen on the same ports of their own addresses,
/// which a listener on all of them would forbid.
std::vector<std::uint32_t> machine_addresses();

}  // namespace orchestra::net
