#pragma once
// `orchestra sim ...`: simulated clusters from the command line, as a function that the program calls.
#include <cstdio>
#include <string>
#include <vector>

#include "orchestra/client.hpp"
#include "orchestra/simulator.hpp"

namespace orchestra {

/// `args` without "sim". The answer is the exit status of DESIGN.md section 5: 0 when every expectation held,
/// 1 when one did not. Reports go to `out`, what happens on the way and errors to `err`.
ORC_API int run_sim_command(const std::vector<std::string>& args, std::FILE* out, std::FILE* err);

/// Nodes and objects of a cluster, as a scenario's: for rehearsals of what might happen there. Pods that have
/// a controller are left to it. Blocks; not on an event thread.
ORC_API Result<void> import_cluster(const Client& client, SimScenario& scenario);

/// What import_cluster reads. Blocks.
ORC_API Result<std::vector<Object>> list_cluster(const Client& client);

/// The scenario's nodes and objects from lists of objects (pure).
ORC_API Result<void> import_objects(const std::vector<Object>& objects, SimScenario& scenario);

}  // namespace orchestra
