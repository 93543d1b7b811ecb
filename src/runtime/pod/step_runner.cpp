#include "runtime/pod_runtime_factory.hpp"

namespace orchestra {
Result<std::shared_ptr<StepRunner>> make_step_runner(Engine&, RuntimeOptions) {
  return Error(Error::unsupported, "runtime", "step runner is not built in yet");
}
}  // namespace orchestra
