#include "runtime/pod/pod_runtime.hpp"

namespace orchestra::runtime {
Pending<std::shared_ptr<ProcessStream>> RealPodRuntime::exec_stream(std::string, std::string, ExecOptions) {
  return Error(Error::unsupported, "runtime", "exec streams are not built in yet");
}
Pending<std::shared_ptr<ProcessStream>> RealPodRuntime::attach(std::string, std::string, ExecOptions) {
  return Error(Error::unsupported, "runtime", "attach is not built in yet");
}
}  // namespace orchestra::runtime
