#pragma once
// `orchestra sim ...`: simulated clusters from the command line, as a function that the program calls.
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "orchestra/client.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/simulator.hpp"

namespace orchestra {

/// `args` without "sim". The answer is the exit status of DESIGN.md section 5: 0 when every expectation held,
/// 1 when one did not. Reports go to `out`, what happens on the way and errors to `err`.
ORC_API int run_sim_command(const std::vector<std::string>& args, std::FILE* out, std::FILE* err);

/// Nodes and objects of a cluster, as a scenario's: for rehearsals of what might happen there. Pods that have
/// a controller are left to it. Blocks; not on an event thread.
ORC_API Result<void> import_cluster(const Client& client, SimScenario& scenario);

/// What a recorded log (record_cluster) tells, as nodes, objects and events of a scenario: nodes that stop
/// being Ready lose their power, those that are again boot, what users changed is applied. Pure. `invalid`
/// names the line.
ORC_API Result<void> import_log(const std::string& log, SimScenario& scenario);

/// Writes what happens in a cluster for this long: one JSON object a line, {"at": seconds, "type": "added" |
/// "modified" | "removed", "object": {...}}, those that are there first at 0. Blocks.
ORC_API Result<void> record_cluster(Engine& engine, const Client& client, Duration time,
                                    const std::function<void(const std::string& line)>& write);

/// What import_cluster reads. Blocks.
ORC_API Result<std::vector<Object>> list_cluster(const Client& client);

/// The scenario's nodes and objects from lists of objects (pure).
ORC_API Result<void> import_objects(const std::vector<Object>& objects, SimScenario& scenario);

}  // namespace orchestra
