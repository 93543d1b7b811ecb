#pragma once
// PodStreams: how the API server reaches what runs in pods (logs, exec, attach, port-forward) and what the
// agent of a node tells of itself, without knowing the node agent. Implemented by src/node; called by
// src/apiserver. The streams themselves are public.
#include <memory>
#include <string>

#include "orchestra/pod_streams.hpp"

namespace orchestra {

struct PodTarget {
  std::string ns, pod, uid, container, node;
};

/// What the agent of a node answers to GET of a path, as a kubelet would over HTTP.
struct NodePage {
  int code = 200;
  std::string content_type, body;
};
/// A page above is refused: the pods of a node, and their numbers, need a tenth of it.
inline constexpr std::size_t kNodePageBytesMax = 64 << 20;

class ORC_API PodStreams {
 public:
  virtual ~PodStreams() = default;
  virtual Pending<std::shared_ptr<ByteStream>> log(PodTarget target, LogOptions options) = 0;
  virtual Pending<std::shared_ptr<ProcessStream>> exec(PodTarget target, ExecOptions options) = 0;
  virtual Pending<std::shared_ptr<DuplexStream>> port_forward(PodTarget target, int port) = 0;
  /// `path` with its query: "/stats/summary". An error: the agent could not be asked.
  virtual Pending<NodePage> page(std::string node, std::string path) = 0;
};

}  // namespace orchestra
