#pragma once
// PodStreams of one node: logs from CRI files, exec and attach through the runtime, forwarded connections
// through the pod dialer, pages of the agent (pages.hpp).
#include <memory>
#include <string>

#include "api/pod_streams.hpp"
#include "node/context.hpp"
#include "node/pages.hpp"

namespace orchestra::node {

/// How streams find the workers of the agent, and what it has measured.
struct WorkerDirectory {
  virtual ~WorkerDirectory() = default;
  virtual std::shared_ptr<PodWorker> worker_of(const std::string& ns, const std::string& name) = 0;
  virtual std::shared_ptr<PodWorker> worker_of_uid(const std::string& uid) = 0;
  virtual PageSources page_sources() = 0;
};

class Streams final : public PodStreams {
 public:
  Streams(AgentContext& context, std::weak_ptr<WorkerDirectory> workers)
      : context_(context), workers_(std::move(workers)) {}
  Pending<std::shared_ptr<ByteStream>> log(PodTarget target, LogOptions options) override;
  Pending<std::shared_ptr<ProcessStream>> exec(PodTarget target, ExecOptions options) override;
  Pending<std::shared_ptr<DuplexStream>> port_forward(PodTarget target, int port) override;
  Pending<NodePage> page(std::string node, std::string path) override;

 private:
  Pending<std::shared_ptr<DuplexStream>> dial_machine(const PodWorker& worker, const std::string& pod,
                                                      int port);
  Result<ContainerStatus> find_container(const PodTarget& target, bool previous);
  AgentContext& context_;
  std::weak_ptr<WorkerDirectory> workers_;
};

}  // namespace orchestra::node
