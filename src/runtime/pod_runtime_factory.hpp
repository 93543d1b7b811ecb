#pragma once
// The one door through which the cluster and the node agent get the real PodRuntime.
#include "api/pod_runtime.hpp"
#include "base/http_client.hpp"
#include "orchestra/runtime.hpp"

namespace orchestra {

/// Opens the runtime over `state_dir`: adopts what runs there, undoes what was half made. `busy` when
/// another process owns the folder; `unsupported` when the asked isolation does not work here.
ORC_API Result<std::shared_ptr<PodRuntime>> make_pod_runtime(Engine& engine, RuntimeOptions options);

/// Runs build and pipeline steps in containers of their own over a ready root.
ORC_API Result<std::shared_ptr<StepRunner>> make_step_runner(Engine& engine, RuntimeOptions options);

}  // namespace orchestra
