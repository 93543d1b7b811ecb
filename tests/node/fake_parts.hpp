#pragma once
// What a pod worker stands on, as values in memory: containers that run until the test ends them, images that
// are there, a network that gives one address. Everything that the worker asks for is written down in order.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <map>
#include <mutex>

#include "api/image_service.hpp"
#include "api/pod_attacher.hpp"
#include "api/pod_runtime.hpp"
#include "node/pod_worker.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/remote_client.hpp"
#include "tests/support/test.hpp"

namespace orchestra::node_test {

using namespace std::chrono_literals;

/// The real clock, time that the test lets pass, and a wall clock that it sets.
class SteppedClock final : public Clock {
 public:
  Now now() override {
    Now real = real_clock().now();
    real.wall_ns += ahead.load() + set_by.load();
    real.steady_ns += ahead.load();
    return real;
  }
  std::atomic<std::int64_t> ahead{0}, set_by{0};
};

/// Lines, and a wait for one of them.
class Journal {
 public:
  void add(std::string line) {
    std::lock_guard lock(mutex_);
    lines_.push_back(std::move(line));
    changed_.notify_all();
  }
  bool wait(const std::string& line, std::size_t times = 1, Duration deadline = 30s) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, deadline, [&] { return count_now(line) >= times; });
  }
  std::size_t count(const std::string& line) {
    std::lock_guard lock(mutex_);
    return count_now(line);
  }
  std::vector<std::string> lines() {
    std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  std::size_t count_now(const std::string& line) const {
    return static_cast<std::size_t>(std::count(lines_.begin(), lines_.end(), line));
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> lines_;
};

class FakeRuntime final : public PodRuntime {
 public:
  explicit FakeRuntime(Journal& journal) : journal_(journal) {}

  /// Set before the first pod: a signal ends a container with this code; nullopt: it is not heeded.
  std::optional<int> code_on_signal = 0;
  /// What update_limits answers; asked without a lock of ours.
  std::function<Result<void>(const std::string& id)> limits_answer = [](const std::string&) {
    return Result<void>();
  };

  void end(const std::string& id, int code) {
    std::optional<Promise<ContainerStatus>> waiter;
    ContainerStatus status;
    {
      std::lock_guard lock(mutex_);
      ContainerStatus& mine = all_.at(id);
      if (mine.state == ContainerState::exited) return;
      mine.state = ContainerState::exited;
      mine.exit_code = code;
      mine.finished_ns = real_clock().now().wall_ns;
      status = mine;
      if (const auto found = waiters_.find(id); found != waiters_.end()) waiter = found->second;
      waiters_.erase(id);
    }
    if (waiter) waiter->set(status);
  }

  /// All that run end with this code.
  void finish_commands(int code) {
    std::vector<Promise<ExecResult>> finished;
    {
      std::lock_guard lock(mutex_);
      finished.swap(commands_);
    }
    for (const auto& command : finished) command.set(ExecResult{.exit_code = code});
  }
  void forget_commands() {
    std::vector<Promise<ExecResult>> dropped;
    std::lock_guard lock(mutex_);
    dropped.swap(commands_);
  }

  Isolation isolation() const override { return Isolation::rootless; }
  Pending<PodSandbox> create_pod(PodSandboxConfig config) override {
    journal_.add("create pod" + limits_text(config.limits));
    return Result<PodSandbox>(PodSandbox{.uid = config.uid, .isolation = Isolation::rootless});
  }
  Pending<ContainerStatus> create_container(std::string pod_uid, ContainerConfig config) override {
    std::lock_guard lock(mutex_);
    ContainerStatus status{
        .id = config.id, .pod_uid = pod_uid, .name = config.name, .attempt = config.attempt};
    status.annotations = config.annotations;
    all_[config.id] = status;
    return Result<ContainerStatus>(status);
  }
  Pending<void> start_container(std::string, std::string id) override {
    {
      std::lock_guard lock(mutex_);
      all_.at(id).state = ContainerState::running;
      all_.at(id).started_ns = real_clock().now().wall_ns;
    }
    journal_.add("start " + id);
    return Result<void>();
  }
  Pending<void> signal_container(std::string, std::string id, int signal) override {
    journal_.add((signal == SIGKILL ? "kill " : "signal ") + id);
    if (code_on_signal) end(id, *code_on_signal);
    return Result<void>();
  }
  Pending<void> remove_container(std::string, std::string) override { return Result<void>(); }
  Pending<void> remove_pod(std::string) override {
    journal_.add("remove pod");
    return Result<void>();
  }
  Pending<std::vector<PodRecord>> list() override {
    return Result<std::vector<PodRecord>>(std::vector<PodRecord>());
  }
  Pending<ContainerStatus> status(std::string, std::string id) override {
    std::lock_guard lock(mutex_);
    return Result<ContainerStatus>(all_.at(id));
  }
  Pending<ContainerStatus> exited(std::string, std::string id) override {
    std::lock_guard lock(mutex_);
    if (const auto found = all_.find(id);
        found != all_.end() && found->second.state == ContainerState::exited)
      return Result<ContainerStatus>(found->second);
    Promise<ContainerStatus> promise;
    waiters_.insert_or_assign(id, promise);
    return promise.pending();
  }
  /// Runs until forget_commands().
  Pending<ExecResult> exec(std::string, std::string id, std::vector<std::string>, Duration,
                           std::size_t) override {
    Promise<ExecResult> promise;
    auto pending = promise.pending();
    {
      std::lock_guard lock(mutex_);
      commands_.push_back(promise);
    }
    journal_.add("exec " + id);
    return pending;
  }
  Pending<std::shared_ptr<ProcessStream>> exec_stream(std::string, std::string, ExecOptions) override {
    return none();
  }
  Pending<std::shared_ptr<ProcessStream>> attach(std::string, std::string, ExecOptions) override {
    return none();
  }
  Pending<ContainerUsage> usage(std::string, std::string) override { return none(); }
  Pending<void> update_limits(std::string, std::string id, ResourceLimits limits) override {
    journal_.add((id.empty() ? "limit pod" : "limit " + id) + limits_text(limits));
    return limits_answer(id);
  }

 private:
  static Error none() { return {Error::unsupported, "test", "not here"}; }
  static std::string limits_text(const ResourceLimits& limits) {
    return " cpu " + std::to_string(limits.cpu_quota_us / 100) + "m memory " +
           std::to_string(limits.memory_bytes >> 20) + "Mi";
  }
  Journal& journal_;
  std::mutex mutex_;
  std::map<std::string, ContainerStatus> all_;
  std::map<std::string, Promise<ContainerStatus>> waiters_;
  std::vector<Promise<ExecResult>> commands_;
};

class FakeImages final : public ImageService {
 public:
  Pending<ImageInfo> ensure(PullRequest request) override {
    ImageInfo info;
    info.id = info.pinned = request.reference;
    return Result<ImageInfo>(info);
  }
  Result<std::optional<ImageInfo>> lookup(const std::string&) override { return std::optional<ImageInfo>(); }
  Result<std::vector<ImageInfo>> list() override { return std::vector<ImageInfo>(); }
  Pending<MountPlan> prepare_root(std::string, std::string, Isolation) override {
    return Result<MountPlan>(MountPlan());
  }
  Pending<void> release_root(std::string) override { return Result<void>(); }
  Pending<std::uint64_t> free_unused(Duration) override { return Result<std::uint64_t>(std::uint64_t{0}); }
  Result<std::vector<std::string>> root_owners() override { return std::vector<std::string>(); }
  Pending<User> resolve_user(std::string, std::string) override { return Result<User>(User()); }
};

class FakeNetwork final : public PodAttacher {
 public:
  std::vector<std::string> warnings;
  Pending<Attachment> attach(AttachRequest request) override {
    Attachment out{.pod_uid = request.pod_uid, .addresses = {"127.128.0.2"}};
    out.warnings = warnings;
    return Result<Attachment>(out);
  }
  Pending<void> detach(std::string) override { return Result<void>(); }
  Result<std::vector<Attachment>> list() override { return std::vector<Attachment>(); }
  std::string dns_address() const override { return {}; }
  std::string node_address() const override { return "127.0.0.1"; }
};

/// One node, alone or with an API server. Alone, the events of pods are lines of the log: "event Reason:
/// message".
struct FakeNode {
  enum class Api : std::uint8_t { none, server, away };
  explicit FakeNode(Api api = Api::none) : away(api == Api::away), server(start_server(api)) {
    context.allocations.set_capacity({4000, 1 << 30}, 10);
  }
  ~FakeNode() {
    runtime->forget_commands();
    for (const auto& worker : workers) worker->stop();
    if (server) server->stop();
    engine.stop();
  }
  static Object object(const std::string& json) {
    auto made = Object::from_json(json);
    REQUIRE_MESSAGE(made, made.error().to_string());
    return *made;
  }
  Object create(const Object& pod) {
    auto made = context.client.create(pod).wait(60s);
    REQUIRE_MESSAGE(made, made.error().to_string());
    return *made;
  }
  Object pod(const std::string& name) {
    return context.client.get("v1", "pods", name, "default").wait(60s).value();
  }
  /// Until its phase is this one.
  bool wait_phase(const std::string& name, const std::string& phase) {
    ListOptions options;
    options.ns = "default";
    auto watch = context.client.watch("v1", "pods", options).value();
    const auto end = clock.now().steady_ns + Duration(30s).count();
    while (clock.now().steady_ns < end) {
      if (pod(name).get("/status/phase") == phase) return true;
      (void)watch.next(200ms);
    }
    return false;
  }
  std::shared_ptr<node::PodWorker> worker(const Object& pod) {
    workers.push_back(std::make_shared<node::PodWorker>(context, pod, [this] { journal.add("finished"); }));
    return workers.back();
  }

  test::TempDir dir;
  Journal journal;
  SteppedClock clock;
  std::function<void(const std::string&)> on_event;  ///< "reason: message"; set before the first pod
  Engine engine{EngineOptions{.log_sink = [this](const LogRecord& r) { hear(r); }, .clock = &clock}};
  const bool away;  ///< nobody listens where the API server should be
  std::unique_ptr<ApiServer> server;
  std::shared_ptr<FakeRuntime> runtime = std::make_shared<FakeRuntime>(journal);
  std::shared_ptr<FakeNetwork> network = std::make_shared<FakeNetwork>();
  node::AgentContext context{engine,
                             client(),
                             {runtime, std::make_shared<FakeImages>(), network, nullptr, nullptr},
                             {.node_name = "n1", .data_dir = dir.path()}};
  std::vector<std::shared_ptr<node::PodWorker>> workers;

 private:
  Client client() {
    if (server) return server->client();
    return away ? RemoteClient::connect(engine, {.server = "http://127.0.0.1:1"}) : Client();
  }
  std::unique_ptr<ApiServer> start_server(Api api) {
    if (api != Api::server) return nullptr;
    auto made = std::make_unique<ApiServer>(engine, MemoryStore::create(engine), ApiServerOptions{});
    const auto started = made->start();
    REQUIRE_MESSAGE(started, started.error().to_string());
    return made;
  }
  void hear(const LogRecord& record) {
    const std::string message(record.message);
    journal.add("event " + message);
    if (on_event) on_event(message);
  }
};

}  // namespace orchestra::node_test
