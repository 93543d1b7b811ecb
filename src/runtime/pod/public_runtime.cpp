// The public classes Runtime, RuntimePod and Container: names and values over RealPodRuntime.
#include "orchestra/runtime.hpp"

#include "base/assert.hpp"
#include "runtime/pod/pod_runtime.hpp"

namespace orchestra {

using runtime::RealPodRuntime;

struct Runtime::Impl {
  std::shared_ptr<RealPodRuntime> real;
};
struct RuntimePod::Impl {
  std::shared_ptr<RealPodRuntime> real;
  std::string id;
};
struct Container::Impl {
  std::shared_ptr<RealPodRuntime> real;
  std::string pod, id;
};

namespace {

ContainerInfo info_of(const ContainerStatus& status) {
  using State = ContainerInfo::State;
  ContainerInfo info;
  info.id = status.id;
  info.pid = status.pid;
  switch (status.state) {
    case ContainerState::created:
      info.state = State::created;
      break;
    case ContainerState::running:
      info.state = State::running;
      break;
    case ContainerState::exited:
      info.state = State::exited;
      break;
    case ContainerState::unknown:
      info.state = State::unknown;
      break;
  }
  return info;
}

Container container_handle(const std::shared_ptr<RealPodRuntime>& real, const std::string& pod,
                           const std::string& id) {
  return Container(std::make_shared<Container::Impl>(Container::Impl{real, pod, id}));
}
RuntimePod pod_handle(const std::shared_ptr<RealPodRuntime>& real, const std::string& id) {
  return RuntimePod(std::make_shared<RuntimePod::Impl>(RuntimePod::Impl{real, id}));
}
Result<PodRecord> find_pod(RealPodRuntime& real, const std::string& id) {
  // list() answers at once: it reads what is known in this process.
  ORC_ASSIGN(const auto pods, real.list().wait(Duration::zero()));
  for (const PodRecord& pod : pods) {
    if (pod.config.uid == id) return pod;
  }
  return Error(Error::not_found, "runtime", "pod " + id + " does not exist here");
}
}  // namespace

Result<std::shared_ptr<Runtime>> Runtime::open(Engine& engine, RuntimeOptions options) {
  ORC_ASSIGN(auto real, runtime::open_pod_runtime(engine, std::move(options)));
  return std::make_shared<Runtime>(std::make_shared<Impl>(Impl{std::move(real)}));
}

Pending<RuntimePod> Runtime::create_pod(RuntimePodOptions options) {
  PodSandboxConfig config;
  config.uid = config.name = options.id;
  config.hostname = options.hostname;
  config.host_network = options.host_network;
  config.host_pid = options.host_pid;
  config.host_ipc = options.host_ipc;
  config.share_process_namespace = options.share_process_namespace;
  if (options.log_bytes_per_second != 0)
    config.annotations[kLogLimitAnnotation] = std::to_string(options.log_bytes_per_second);
  return impl_->real->create_pod(std::move(config))
      .then([real = impl_->real, id = options.id](Result<PodSandbox> made) -> Result<RuntimePod> {
        if (!made) return made.error();
        return pod_handle(real, id);
      });
}

Result<RuntimePod> Runtime::pod(const std::string& id) const {
  ORC_TRY(find_pod(*impl_->real, id));
  return pod_handle(impl_->real, id);
}

std::vector<RuntimePod> Runtime::pods() const {
  std::vector<RuntimePod> all;
  const auto pods = impl_->real->list().wait(Duration::zero());
  if (!pods) return all;
  for (const PodRecord& pod : *pods) all.push_back(pod_handle(impl_->real, pod.config.uid));
  return all;
}

RuntimeOptions::Isolation Runtime::isolation() const {
  using Choice = RuntimeOptions::Isolation;
  switch (impl_->real->isolation()) {
    case Isolation::full:
      return Choice::full;
    case Isolation::rootless:
      return Choice::rootless;
    case Isolation::process:
      return Choice::process;
  }
  return Choice::process;
}

const std::string& RuntimePod::id() const { return impl_->id; }

Pending<Container> RuntimePod::create_container(ContainerSpec spec, ContainerOptions options) {
  ContainerConfig config;
  config.id = config.name = options.id;
  config.log_path = std::move(options.log_path);
  config.log_file_bytes_max = options.log_file_bytes_max;
  config.in = options.standard_input;
  return impl_->real->create_from_spec(impl_->id, std::move(config), std::move(spec))
      .then([real = impl_->real, pod = impl_->id,
             id = options.id](Result<ContainerStatus> made) -> Result<Container> {
        if (!made) return made.error();
        return container_handle(real, pod, id);
      });
}

Result<Container> RuntimePod::container(const std::string& id) const {
  ORC_ASSIGN(const PodRecord pod, find_pod(*impl_->real, impl_->id));
  for (const ContainerStatus& status : pod.containers) {
    if (status.id == id) return container_handle(impl_->real, impl_->id, id);
  }
  return Error(Error::not_found, "runtime", "container " + id + " does not exist in pod " + impl_->id);
}

Pending<std::vector<ContainerInfo>> RuntimePod::containers() {
  auto pod = find_pod(*impl_->real, impl_->id);
  if (!pod) return pod.error();
  std::vector<ContainerInfo> all;
  for (const ContainerStatus& status : pod->containers) all.push_back(info_of(status));
  return Result<std::vector<ContainerInfo>>(std::move(all));
}

std::vector<std::string> RuntimePod::degraded() const {
  const auto pod = find_pod(*impl_->real, impl_->id);
  return pod ? pod->sandbox.degraded : std::vector<std::string>();
}

Pending<void> RuntimePod::remove() { return impl_->real->remove_pod(impl_->id); }

const std::string& Container::id() const { return impl_->id; }
Pending<void> Container::start() { return impl_->real->start_container(impl_->pod, impl_->id); }
Pending<void> Container::signal(int number) {
  return impl_->real->signal_container(impl_->pod, impl_->id, number);
}
Pending<void> Container::remove() { return impl_->real->remove_container(impl_->pod, impl_->id); }

Pending<ContainerExecResult> Container::exec(ContainerExecOptions options) {
  return impl_->real
      ->exec(impl_->pod, impl_->id, std::move(options.args), options.deadline, options.capture_bytes_max)
      .then([](Result<ExecResult> ran) -> Result<ContainerExecResult> {
        if (!ran) return ran.error();
        return ContainerExecResult{ran->exit_code, std::move(ran->output), ran->truncated};
      });
}

Pending<ContainerInfo> Container::info() {
  return impl_->real->status(impl_->pod, impl_->id)
      .then([real = impl_->real, pod = impl_->pod](Result<ContainerStatus> status) -> Result<ContainerInfo> {
        if (!status) return status.error();
        ContainerInfo info = info_of(*status);
        if (info.state == ContainerInfo::State::running && real->is_frozen(pod, info.id))
          info.state = ContainerInfo::State::paused;
        return info;
      });
}

Pending<ContainerStats> Container::stats() { return impl_->real->stats(impl_->pod, impl_->id); }
Pending<void> Container::update(ContainerSpec::Resources resources) {
  return impl_->real->update_container(impl_->pod, impl_->id, std::move(resources));
}
Pending<void> Container::pause() { return impl_->real->freeze_container(impl_->pod, impl_->id, true); }
Pending<void> Container::resume() { return impl_->real->freeze_container(impl_->pod, impl_->id, false); }
Pending<void> Container::resize(std::uint16_t columns, std::uint16_t rows) {
  return impl_->real->resize_container(impl_->pod, impl_->id, columns, rows);
}

struct RuntimeEvents::Impl {
  std::shared_ptr<RealPodRuntime> real;
  std::uint64_t last = 0;
};
std::optional<std::vector<RuntimeEvent>> RuntimeEvents::next(Duration deadline) {
  return impl_->real->events()->next(impl_->last, deadline);
}
RuntimeEvents Runtime::events(std::optional<std::uint64_t> from) const {
  const std::uint64_t last = from ? (*from == 0 ? 0 : *from - 1) : impl_->real->events()->last();
  return RuntimeEvents(std::make_shared<RuntimeEvents::Impl>(RuntimeEvents::Impl{impl_->real, last}));
}

Pending<ExitRecord> Container::exited() {
  return impl_->real->exited(impl_->pod, impl_->id)
      .then([](Result<ContainerStatus> status) -> Result<ExitRecord> {
        if (!status) return status.error();
        return ExitRecord{status->exit_code,  status->signal,      status->oom_killed,
                          status->started_ns, status->finished_ns, status->reason};
      });
}

}  // namespace orchestra
