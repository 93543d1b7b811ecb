#pragma once
#include "bench/bench.hpp"

namespace orchestra::bench {

/// Rows of the node agent: real pods, so they need root.
void agent_rows(const Options& options, Report& report);

}  // namespace orchestra::bench
