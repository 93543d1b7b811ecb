#pragma once
// PodStreams: how the API server reaches what runs in pods (logs, exec, attach, port-forward), without
// knowing the node agent. Implemented by src/node; called by src/apiserver. The streams themselves are
// public.
#include <memory>
#include <string>

#include "orchestra/pod_streams.hpp"

namespace orchestra {

struct PodTarget {
  std::string ns, pod, uid, container, node;
};

class ORC_API PodStreams {
 public:
  virtual ~PodStreams() = default;
  virtual Pending<std::shared_ptr<ByteStream>> log(PodTarget target, LogOptions options) = 0;
  virtual Pending<std::shared_ptr<ProcessStream>> exec(PodTarget target, ExecOptions options) = 0;
  virtual Pending<std::shared_ptr<DuplexStream>> port_forward(PodTarget target, int port) = 0;
};

}  // namespace orchestra
