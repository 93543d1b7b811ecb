// StepRunner: one pod with one container per build step, removed when it has ended.
//
// Output is read through attach before the program starts, so no byte is missed; the step's end is the
// container's. Steps have a state folder and a cgroup of their own ("steps"), beside the pods'.
#include <algorithm>
#include <csignal>

#include "base/assert.hpp"
#include "orchestra/env.hpp"
#include "runtime/domain.hpp"
#include "runtime/pod_runtime_factory.hpp"

namespace orchestra {
namespace {

constexpr std::size_t kTailBytes = 64 << 10;
constexpr auto kSetupDeadline = std::chrono::seconds(120);
constexpr auto kRemoveDeadline = std::chrono::seconds(30);

class ContainerStepRunner final : public StepRunner,
                                  public std::enable_shared_from_this<ContainerStepRunner> {
 public:
  ContainerStepRunner(Engine& engine, std::shared_ptr<PodRuntime> runtime)
      : engine_(engine), runtime_(std::move(runtime)) {}

  Pending<StepResult> run(StepRequest request) override {
    return engine_.run_blocking(
        [self = shared_from_this(), request = std::move(request)] { return self->run_now(request); });
  }

 private:
  Result<StepResult> run_now(const StepRequest& request) {
    const std::string uid = "step-" + (request.id.empty() ? engine_.random().uuid() : request.id);
    auto result = run_in_pod(uid, request);
    auto removed = runtime_->remove_pod(uid).wait(kRemoveDeadline);
    if (!result) return result;
    if (!removed) return removed.error().with_context("step " + request.id + ": cleaning up");
    return result;
  }

  Result<StepResult> run_in_pod(const std::string& uid, const StepRequest& request) {
    const std::int64_t until = engine_.clock().now().steady_ns + request.deadline.count();
    PodSandboxConfig pod;
    pod.uid = uid;
    pod.name = pod.hostname = "build";
    pod.host_network = request.network;
    ORC_TRY(runtime_->create_pod(pod).wait(kSetupDeadline));
    ContainerConfig config;
    config.id = config.name = "step";
    config.root.directory = request.root_directory;
    config.root.layers_directory = request.layers_directory;
    config.root.overlay_lower = request.overlay_lower;
    config.root.overlay_upper = request.overlay_upper;
    config.root.overlay_work = request.overlay_work;
    config.args = request.args;
    config.env = request.env;
    config.cwd = request.cwd.empty() ? "/" : request.cwd;
    config.uid = request.uid;
    config.gid = request.gid;
    for (const StepMount& mount : request.mounts)
      config.mounts.push_back({mount.source, mount.target, mount.read_only});
    ORC_TRY(runtime_->create_container(uid, config).wait(kSetupDeadline));
    ORC_ASSIGN(const auto stream, runtime_->attach(uid, config.id, {}).wait(kSetupDeadline));
    if (auto started = runtime_->start_container(uid, config.id).wait(kSetupDeadline); !started) {
      return started.error().with_context("step \"" + (request.args.empty() ? "" : request.args.front()) +
                                          "\"");
    }
    return collect(*stream, request, until);
  }

  Result<StepResult> collect(ProcessStream& stream, const StepRequest& request, std::int64_t until) {
    StepResult result;
    while (true) {
      const std::int64_t left = until - engine_.clock().now().steady_ns;
      if (left <= 0) return late(request);
      auto chunk = stream.read().wait(std::chrono::nanoseconds(left));
      if (!chunk) return chunk.error().is(Error::deadline_exceeded) ? late(request) : chunk.error();
      if (chunk->channel == ProcessChunk::Channel::exit) {
        if (chunk->failure) return *chunk->failure;
        result.exit_code = chunk->exit_code;
        return result;
      }
      if (request.on_output) request.on_output(chunk->bytes);
      result.output += chunk->bytes;
      if (result.output.size() > kTailBytes) result.output.erase(0, result.output.size() - kTailBytes);
    }
  }

  static Error late(const StepRequest& request) {
    return Error(
        Error::deadline_exceeded, runtime::kDomain,
        "step \"" + (request.args.empty() ? std::string() : request.args.front()) + "\" did not end within " +
            std::to_string(std::chrono::duration_cast<std::chrono::seconds>(request.deadline).count()) +
            " s; it was killed");
  }

  Engine& engine_;
  const std::shared_ptr<PodRuntime> runtime_;
};
}  // namespace

Result<std::shared_ptr<StepRunner>> make_step_runner(Engine& engine, RuntimeOptions options) {
  if (options.state_dir.empty())
    return Error(Error::invalid, runtime::kDomain,
                 "state_dir: missing; name a folder on tmpfs such as /run/orchestra/ID");
  if (options.cgroup_parent.empty())
    options.cgroup_parent = options.instance.empty() ? "/orchestra" : "/orchestra-" + options.instance;
  options.state_dir += "/steps";
  options.cgroup_parent += "/steps";
  ORC_ASSIGN(auto runtime, make_pod_runtime(engine, std::move(options)));
  return std::shared_ptr<StepRunner>(std::make_shared<ContainerStepRunner>(engine, std::move(runtime)));
}

}  // namespace orchestra
