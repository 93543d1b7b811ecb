#pragma once
// A one-node cluster for measurements: an image of one static program, and the time from a pod's creation
// until it is ready. Needs root and a network namespace of its own.
#include <string>

#include "orchestra/cluster.hpp"

namespace orchestra::bench {

/// Enters a fresh network namespace with loopback only; false: not allowed here.
bool enter_own_network();
ClusterOptions options_of(const std::string& data);
/// FOLDER/data/preload/sleep.tar: the image bench/sleep:1, which sleeps; from Debian's busybox-static.
Result<void> make_image(const std::string& folder);
Result<double> pod_ready_ms(const Client& client, const std::string& name);

}  // namespace orchestra::bench
