// The loop of PodWorker, the steps of a pod that lives, and its end. Containers are in
// pod_containers.cpp, what goes into them in pod_config.cpp.
#include "node/pod_worker.hpp"

#include <algorithm>

#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "base/fd.hpp"
#include "node/network_wishes.hpp"
#include "node/static_pods.hpp"
#include "node/volumes.hpp"

namespace orchestra::node {

using namespace std::chrono_literals;

namespace {
constexpr Duration kRuntimeDeadline = 120s;
constexpr Duration kApiDeadline = 10s;
constexpr Duration kRetry = 2s;
constexpr const char* kHandlers[] = {"orchestra", "runc"};  // of RuntimeClasses; both are our runtime
constexpr const char* kContainerLists[] = {"/spec/initContainers", "/spec/containers",
                                           "/spec/ephemeralContainers"};

bool phase_is_final(const std::string& phase) { return phase == "Succeeded" || phase == "Failed"; }
}  // namespace

PodWorker::PodWorker(AgentContext& context, Object pod, std::function<void()> on_finished)
    : context_(context), on_finished_(std::move(on_finished)), uid_(pod.uid()), pod_(std::move(pod)) {
  add_slots(pod_);
  const json::value& object = tree(pod_);
  start_time_ = string_at(object, "/status/startTime");
  if (!phase_is_final(string_at(object, "/status/phase"))) return;
  // The last word on it was said before this agent came; what it does not know itself stays as it was told.
  reason_ = string_at(object, "/status/reason");
  message_ = string_at(object, "/status/message");
  if (const json::array* addresses = array_at(object, "/status/podIPs")) {
    for (const json::value& one : *addresses) pod_ips_.push_back(string_at(one, "/ip"));
  }
}

// A slot for each container; ephemeral ones may come while the pod runs.
void PodWorker::add_slots(const Object& pod) {
  for (const char* where : kContainerLists) {
    const json::array* all = array_at(tree(pod), where);
    if (all == nullptr) continue;
    for (const json::value& container : *all) {
      Slot slot;
      slot.name = string_at(container, "/name");
      if (slots_.count(slot.name) != 0) continue;
      slot.init = where == kContainerLists[0];
      slot.ephemeral = where == kContainerLists[2];
      slot.sidecar = slot.init && string_at(container, "/restartPolicy") == "Always";
      std::lock_guard lock(mutex_);
      order_.push_back(slot.name);
      slots_.emplace(slot.name, std::move(slot));
    }
  }
}

void PodWorker::adopt(const PodRecord& record) {
  if (!record.sandbox.ended) sandbox_ = record.sandbox;
  // What the node had promised; of an older agent there is no file, and its pods have what they ask for.
  const auto kept = read_file(allocation_path(), kAllocationBytesMax);
  const auto allocated = kept ? parse_json(*kept) : Result<json::value>(kept.error());
  allocated_ =
      allocated && allocated->is_object() ? allocated->get_object() : resources_by_container(tree(pod_));
  context_.allocations.adopt(uid_, requests_of(with_resources(tree(pod_), allocated_)),
                             host_ports_of(tree(pod_)));
  std::vector<ContainerStatus> all = record.containers;
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.attempt < b.attempt; });
  for (const ContainerStatus& status : all) {
    const auto it = slots_.find(status.name);
    if (it == slots_.end()) continue;
    Slot& slot = it->second;
    slot.last = slot.current;
    slot.current = status;
    slot.attempt = status.attempt;
    const auto level = status.annotations.find("orchestra.dev/backoff-level");
    if (level != status.annotations.end())
      slot.backoff_level = static_cast<std::uint32_t>(std::atoi(level->second.c_str()));
    const auto signal = status.annotations.find("orchestra.dev/stop-signal");
    if (signal != status.annotations.end()) slot.stop_signal = signal->second;
    // Without a note of its own (an older agent made it, when nothing was resized) it has what was allocated.
    if (const json::value* has = allocated_.if_contains(slot.name)) slot.resources = *has;
    if (const auto text = status.annotations.find(kResources); text != status.annotations.end()) {
      if (auto resources = parse_json(text->second)) slot.resources = *resources;
    }
  }
  adopt_limits(record.config.limits);
}

Object PodWorker::pod() const {
  std::lock_guard lock(mutex_);
  return pod_;
}

std::string PodWorker::address() const {
  std::lock_guard lock(mutex_);
  return pod_ips_.empty() ? std::string() : pod_ips_.front();
}

std::optional<ContainerStatus> PodWorker::container(const std::string& name, bool previous) const {
  std::lock_guard lock(mutex_);
  const auto it = slots_.find(name);
  if (it == slots_.end()) return std::nullopt;
  return previous ? it->second.last : it->second.current;
}

void PodWorker::update(Object pod) {
  {
    std::lock_guard lock(mutex_);
    pod_ = std::move(pod);
  }
  wake();
}

void PodWorker::removed() {
  {
    std::lock_guard lock(mutex_);
    removed_ = true;
  }
  context_.allocations.release(uid_);  // the scheduler counts its place as free already
  wake();
}

void PodWorker::mirrored() {
  {
    std::lock_guard lock(mutex_);
    republish_ = true;
  }
  wake();
}

void PodWorker::evict(const std::string& message, Duration grace) {
  {
    std::lock_guard lock(mutex_);
    const bool ends = removed_ || forced_ || shutdown_grace_ || cleaned_ || finished_ || pod_.deleting() ||
                      phase_is_final(string_at(tree(pod_), "/status/phase"));
    if (ends || !evict_message_.empty()) return;
    evict_message_ = message;
    evict_grace_ = grace;
    evict_until_ns_ = steady() + (grace + kEvictionSlack).count();
  }
  wake();
}

bool PodWorker::evicting() const {
  std::lock_guard lock(mutex_);
  return !evict_message_.empty() && !cleaned_ && !finished_ && steady() < evict_until_ns_;
}

bool PodWorker::evicted() const {
  std::lock_guard lock(mutex_);
  return !evict_message_.empty();
}

void PodWorker::shut_down(Duration grace) {
  {
    std::lock_guard lock(mutex_);
    shutdown_grace_ = grace;
  }
  wake();
}

bool PodWorker::at_rest() const {
  std::lock_guard lock(mutex_);
  return cleaned_ || finished_;
}

std::vector<std::pair<std::string, std::string>> PodWorker::running() const {
  std::lock_guard lock(mutex_);
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& [name, slot] : slots_) {
    if (slot.current && slot.current->state == ContainerState::running)
      out.emplace_back(name, slot.current->id);
  }
  return out;
}

void PodWorker::force_end() {
  {
    std::lock_guard lock(mutex_);
    forced_ = true;
  }
  wake();
}

void PodWorker::stop() {
  std::vector<std::shared_ptr<ContainerProbes>> probes;
  {
    std::unique_lock lock(mutex_);
    stopped_ = true;
    context_.engine.cancel_timer(timer_);
    idle_.wait(lock, [&] { return !running_; });
    for (auto& [name, slot] : slots_) {
      if (slot.probes) probes.push_back(slot.probes);
    }
  }
  for (auto& one : probes) one->stop();
  for (auto& one : probes) one->drain();
}

void PodWorker::wake() {
  {
    std::lock_guard lock(mutex_);
    if (stopped_ || finished_) return;
    dirty_ = true;
    if (running_) return;
    running_ = true;
  }
  auto queued = context_.runs.post([self = shared_from_this()] { self->run(); });
  if (queued) return;
  std::lock_guard lock(mutex_);
  running_ = false;
  idle_.notify_all();
}

void PodWorker::hear(std::function<void(PodWorker&)> news) {
  {
    std::lock_guard lock(mutex_);
    news_.push_back(std::move(news));
  }
  wake();
}

void PodWorker::wake_after(Duration delay) {
  const std::int64_t due = steady() + delay.count();
  std::lock_guard lock(mutex_);
  if (stopped_ || finished_) return;
  if (timer_ != 0 && timer_due_ <= due && timer_due_ > steady()) return;  // an earlier one will look anyway
  context_.engine.cancel_timer(timer_);
  timer_due_ = due;
  timer_ = context_.engine.after(delay, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->wake();
  });
}

void PodWorker::run() {
  while (true) {
    {
      std::lock_guard lock(mutex_);
      if (!dirty_ || stopped_ || finished_) {
        running_ = false;
        idle_.notify_all();
        if (!finished_) return;
        break;
      }
      dirty_ = false;
    }
    sync();
  }
  on_finished_();
}

void PodWorker::sync() {
  Object pod;
  bool gone, forced;
  {
    std::lock_guard lock(mutex_);
    pod = pod_;
    gone = removed_;
    forced = forced_;
    for (const auto& news : std::exchange(news_, {})) news(*this);
  }
  add_slots(pod);
  // Ends of containers come first: everything below decides on what is true now.
  note_ends();
  const json::value& object = tree(pod);
  const bool final = phase_is_final(string_at(object, "/status/phase"));
  std::string evicted;
  bool shutdown;
  {
    std::lock_guard lock(mutex_);
    evicted = evict_message_;
    shutdown = shutdown_grace_.has_value();
  }
  if (shutdown && !terminating_ && !pod.deleting() && !final)
    fail(pod, "Terminated", "Pod was terminated in response to imminent node shutdown.");
  if (!evicted.empty() && !terminating_ && !pod.deleting() && !final) fail(pod, "Evicted", evicted);
  if (!terminating_ && !pod.deleting() && !final) keep_deadline(pod);
  if (terminating_ || pod.deleting() || gone || forced || final) {
    sync_ending(pod);
  } else {
    const Object allocated = allocate(pod);
    if (!reason_.empty()) return sync_ending(pod);  // the node has no room for it
    sync_alive(allocated);
  }
}

void PodWorker::note_ends() {
  for (const std::string& name : order_) {
    Slot& slot = slots_.at(name);
    bool over;
    {
      std::lock_guard lock(mutex_);
      over =
          slot.current && !slot.end_seen &&
          (slot.current->state == ContainerState::exited || slot.current->state == ContainerState::unknown);
    }
    if (over) ended(slot);
  }
}

void PodWorker::fail(const Object& pod, const std::string& reason, const std::string& message,
                     const char* event) {
  reason_ = reason;
  message_ = message;
  terminating_ = true;
  context_.event(pod, event, reason, message);
}

// spec.activeDeadlineSeconds counts from the start time in the status: a new agent goes on with it. What
// passes from then on is counted by the steady clock: one that is set ends no pod and keeps none.
void PodWorker::keep_deadline(const Object& pod) {
  const std::int64_t seconds = int_at(tree(pod), "/spec/activeDeadlineSeconds");
  const auto began = api::parse_time(start_time_);
  if (seconds <= 0 || !began) return;
  const Now now = context_.engine.clock().now();
  if (!deadline_seen_) deadline_seen_ = now;
  const std::int64_t active = std::max<std::int64_t>(0, deadline_seen_->wall_ns - *began) +
                              (now.steady_ns - deadline_seen_->steady_ns);
  const std::int64_t left = seconds * 1'000'000'000 - active;
  if (left > 0) return wake_after(std::chrono::nanoseconds(left));
  fail(pod, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline", "Normal");
}

// Its main containers have ended for good, or it cannot begin: nothing is started any more.
bool PodWorker::is_over(const Object& pod) {
  const bool again = std::any_of(slots_.begin(), slots_.end(),
                                 [](const auto& slot) { return slot.second.restart_for_resize; });
  return !again && summarise(view(pod)).over;
}

void PodWorker::sync_alive(const Object& pod) {
  if (start_time_.empty()) {
    start_time_ = api::format_time(context_.engine.clock().now().wall_ns);
    keep_deadline(pod);
  }
  if (is_over(pod)) {
    terminating_ = true;
    return sync_ending(pod);
  }
  const bool go = ensure_sandbox(pod) && ensure_volumes(pod);
  if (go) lift_limits(pod);
  if (go) run_ephemeral(pod);
  if (go && run_init(pod)) run_containers(pod);
  if (go) resize_containers(pod);
  note_ends();  // a container may have ended while it was started
  if (!reason_.empty()) return sync_ending(pod);
  if (is_over(pod)) {
    terminating_ = true;
    return sync_ending(pod);
  }
  publish(pod);
  wake_after(context_.options.sync_period);
}

// A class of runtimes that this node does not have is a border that somebody wanted: no other one takes its
// place.
Result<void> PodWorker::check_runtime_class(const json::value& pod) {
  const std::string name = string_at(pod, "/spec/runtimeClassName");
  if (name.empty()) return {};
  const auto error = [&](const std::string& why) {
    return Error(Error::unsupported, "node", "RuntimeClass \"" + name + "\": " + why);
  };
  if (!context_.client) return error("this node runs without an API server, which would know the class");
  auto found = context_.client.get("node.k8s.io/v1", "runtimeclasses", name).wait(kApiDeadline);
  if (!found) return found.error().with_context("RuntimeClass \"" + name + "\"");
  const std::string handler = string_at(tree(*found), "/handler");
  for (const char* ours : kHandlers) {
    if (handler == ours) return {};
  }
  return error("no runtime for \"" + handler +
               "\" is configured on this node; it has orchestra, runc (the same)");
}

bool PodWorker::add_user_namespace(const Object& pod, PodSandboxConfig& config) {
  if (!has_own_users(tree(pod))) return true;
  const auto first = context_.user_ranges.take(uid_);
  if (!first) {
    context_.event(pod, "Warning", "FailedCreatePodSandBox",
                   "Failed to create pod sandbox: no range of 65536 user ids is free on this node");
    wake_after(kRetry);
    return false;
  }
  config.first_user_id = *first;
  // The pod's network belongs to the machine's user namespace, where its containers have no rights: what root
  // does there without thinking is allowed to everybody in the pod (as containerd does for all pods).
  config.sysctls.emplace("net.ipv4.ip_unprivileged_port_start", "0");
  config.sysctls.emplace("net.ipv4.ping_group_range", "0 2147483647");
  return true;
}

bool PodWorker::ensure_sandbox(const Object& pod) {
  const json::value& object = tree(pod);
  const bool host_network = bool_at(object, "/spec/hostNetwork");
  if (!sandbox_ || (!sandbox_->network_namespace && !host_network && !loopback_network())) {
    PodSandboxConfig config;
    config.uid = uid_;
    config.ns = pod.ns();
    config.name = pod.name();
    const auto runtime_class = check_runtime_class(object);
    auto name = runtime_class ? pod_hostname(object, context_.options.cluster_domain)
                              : Result<std::string>(runtime_class.error());
    if (!name) {
      context_.event(pod, "Warning", "FailedCreatePodSandBox",
                     "Failed to create pod sandbox: " + name.error().to_string());
      wake_after(kRetry);
      return false;
    }
    config.hostname = *name;
    config.log_directory = context_.log_directory(pod.ns(), pod.name(), uid_);
    const std::string qos = qos_class(object);
    config.cgroup_parent = qos == "Guaranteed"  ? "kubepods"
                           : qos == "Burstable" ? "kubepods/burstable"
                                                : "kubepods/besteffort";
    config.limits = pod_limits(object, qos);
    config.host_network = host_network;
    config.host_pid = bool_at(object, "/spec/hostPID");
    config.host_ipc = bool_at(object, "/spec/hostIPC");
    config.share_process_namespace = bool_at(object, "/spec/shareProcessNamespace");
    for (const auto& [name, value] : pod.annotations()) config.annotations.emplace(name, value);
    if (const json::array* sysctls = array_at(object, "/spec/securityContext/sysctls")) {
      for (const json::value& one : *sysctls)
        config.sysctls[string_at(one, "/name")] = string_at(one, "/value");
    }
    if (!add_user_namespace(pod, config)) return false;
    auto made = context_.parts.runtime->create_pod(config).wait(kRuntimeDeadline);
    if (!made) {
      context_.event(pod, "Warning", "FailedCreatePodSandBox",
                     "Failed to create pod sandbox: " + made.error().to_string());
      if (made.error().is(Error::denied) && pod.annotations().count("orchestra.dev/isolation") != 0) {
        fail(pod, "UnexpectedAdmissionError", made.error().to_string());
        return false;
      }
      wake_after(kRetry);
      return false;
    }
    // What the whole level leaves out is said once, on the Node.
    if (made->isolation == Isolation::full) {
      for (const std::string& line : made->degraded) context_.event(pod, "Warning", "NotEnforced", line);
    }
    const bool fresh = !sandbox_;
    if (fresh) limits_due_ = lifted_ = false;  // it was made with those that it is to have
    std::lock_guard lock(mutex_);
    sandbox_ = *made;
    for (auto& [name, slot] : slots_) slot.of_old_sandbox |= fresh && slot.current.has_value();
  }
  if (!pod_ips_.empty()) return true;
  if (host_network) {
    std::lock_guard lock(mutex_);
    pod_ips_ = {context_.host_ip()};
    return true;
  }
  AttachRequest request{uid_, pod.ns(), pod.name(), sandbox_->network_namespace};
  const auto wishes = add_network_wishes(object, request);
  const std::int64_t begin_ns = context_.engine.clock().now().steady_ns;
  auto attached = wishes ? context_.parts.network->attach(request).wait(kRuntimeDeadline)
                         : Result<Attachment>(wishes.error());
  if (attached && context_.attach_seconds) {
    const std::int64_t took_ns = context_.engine.clock().now().steady_ns - begin_ns;
    context_.attach_seconds->observe(static_cast<double>(took_ns) / 1e9);
  }
  if (!attached) {
    context_.event(pod, "Warning", "FailedCreatePodSandBox",
                   "Failed to set up the pod's network: " + attached.error().to_string());
    wake_after(kRetry);
    return false;
  }
  {
    std::lock_guard lock(mutex_);
    pod_ips_ = attached->addresses;
  }
  // Without the lock: whoever takes the events may ask for this pod.
  for (const std::string& warning : attached->warnings)
    context_.event(pod, "Warning", "NetworkDegraded", warning);
  return true;
}

bool PodWorker::run_init(const Object& pod) {
  const json::array* all = array_at(tree(pod), "/spec/initContainers");
  if (all == nullptr) return true;
  // Main containers that run already (adopted) mean that init is over.
  for (const auto& [name, slot] : slots_) {
    if (!slot.init && !slot.ephemeral && slot.current && !slot.of_old_sandbox) return true;
  }
  for (const json::value& spec : *all) {
    Slot& slot = slots_.at(string_at(spec, "/name"));
    if (slot.sidecar) {
      advance(pod, slot, spec);
      const bool up = slot.current && slot.current->state == ContainerState::running && slot.started;
      if (!up || slot.post_start_running) return false;
      continue;
    }
    const bool done = slot.current && !slot.of_old_sandbox && slot.current->state == ContainerState::exited &&
                      slot.current->exit_code == 0;
    if (done) continue;
    advance(pod, slot, spec);
    return false;
  }
  return true;
}

// Containers for looking around (kubectl debug): started at any time, never again, and nothing waits for
// them.
void PodWorker::run_ephemeral(const Object& pod) {
  const json::array* all = array_at(tree(pod), kContainerLists[2]);
  if (all == nullptr) return;
  for (const json::value& spec : *all) advance(pod, slots_.at(string_at(spec, "/name")), spec);
}

// In their order: none is started while the postStart hook of one before it runs, which many use to hold the
// others back (as the kubelet does).
void PodWorker::run_containers(const Object& pod) {
  bool held = false;
  for (const char* where : {"/spec/initContainers", "/spec/containers"}) {
    const json::array* all = array_at(tree(pod), where);
    if (all == nullptr) continue;
    for (const json::value& spec : *all) {
      Slot& slot = slots_.at(string_at(spec, "/name"));
      if (slot.init && !slot.sidecar) continue;
      const bool up = slot.current && slot.current->state == ContainerState::running;
      if (up || !held) advance(pod, slot, spec);
      held = held || slot.post_start_running;
    }
  }
}

void PodWorker::sync_ending(const Object& pod) {
  const json::value& object = tree(pod);
  bool forced;
  std::optional<Duration> shutdown, evicted;
  {
    std::lock_guard lock(mutex_);
    forced = forced_;
    shutdown = shutdown_grace_;
    evicted = evict_grace_;
  }
  if (!terminating_ || end_deadline_ns_ == 0) {
    terminating_ = true;
    std::int64_t spec_grace = int_at(object, "/spec/terminationGracePeriodSeconds", 30);
    for (const auto& limit : {shutdown, evicted}) {
      if (limit) spec_grace = std::min<std::int64_t>(spec_grace, *limit / 1s);
    }
    const std::int64_t grace = forced ? std::min<std::int64_t>(spec_grace, 5)
                                      : int_at(object, "/metadata/deletionGracePeriodSeconds", spec_grace);
    end_deadline_ns_ = steady() + grace * 1'000'000'000;
  } else if (pod.deleting()) {
    // A later delete may shorten the grace period, never lengthen it.
    const std::int64_t grace = int_at(object, "/metadata/deletionGracePeriodSeconds", 30);
    end_deadline_ns_ = std::min(end_deadline_ns_, steady() + grace * 1'000'000'000);
  }
  // Sidecars end after the others, and among themselves in the reverse order of their start.
  bool mains_up = false, any_up = false;
  std::string last_sidecar;
  for (const std::string& name : order_) {
    const Slot& slot = slots_.at(name);
    const bool up = slot.current && slot.current->state == ContainerState::running;
    any_up = any_up || up;
    mains_up = mains_up || (up && !slot.sidecar && !slot.ephemeral);
    if (up && slot.sidecar) last_sidecar = name;
  }
  for (const char* where : kContainerLists) {
    const json::array* all = array_at(object, where);
    if (all == nullptr) continue;
    for (const json::value& spec : *all) {
      Slot& slot = slots_.at(string_at(spec, "/name"));
      if (!slot.current || slot.current->state != ContainerState::running) continue;
      if (!slot.watched) {  // adopted from a program that ended while the pod did
        slot.watched = true;
        watch_exit(slot);
      }
      const bool waits = slot.sidecar && (mains_up || slot.name != last_sidecar);
      if (waits && !slot.stopping && steady() < end_deadline_ns_) continue;
      const Duration left =
          std::max<Duration>(Duration::zero(), std::chrono::nanoseconds(end_deadline_ns_ - steady()));
      if (!slot.stopping) stop_container(pod, slot, spec, left, "Stopping container " + slot.name);
      slot.kill_at_ns = std::min(slot.kill_at_ns, end_deadline_ns_);
      drive_stop(pod, slot);
    }
  }
  if (any_up) {
    publish(pod);
    wake_after(std::clamp<Duration>(std::chrono::nanoseconds(end_deadline_ns_ - steady()), 50ms, 30s));
    return;
  }
  context_.allocations.release(uid_);  // before others hear that it has ended
  const bool told = publish(pod);
  bool gone;
  {
    std::lock_guard lock(mutex_);
    gone = removed_ || forced_;
  }
  // Until the API knows how it ended the records of its containers are all that says so: without them an
  // agent that comes after this one would run it again. What the node ends for its own sake goes at once.
  if (!told && !gone && !pod.deleting() && reason_.empty()) return;
  if (!cleaned_ && !cleanup(pod)) {
    wake_after(kRetry);
    return;
  }
  if (pod.deleting() && !gone) {  // a static pod is never deleting: its file ends it
    DeleteOptions options;
    options.grace_period_seconds = 0;
    options.uid = uid_;
    auto deleted = context_.client.remove("v1", "pods", pod.name(), pod.ns(), options).wait(kApiDeadline);
    if (!deleted && !deleted.error().is(Error::not_found) && !deleted.error().is(Error::conflict)) {
      wake_after(kRetry);
      return;
    }
    gone = true;
  }
  if (!gone) return;  // a finished pod: its object stays until somebody deletes it
  (void)remove_tree(context_.log_directory(pod.ns(), pod.name(), uid_));
  std::lock_guard lock(mutex_);
  finished_ = true;
}

bool PodWorker::cleanup(const Object& pod) {
  for (auto& [name, slot] : slots_) {
    if (slot.probes) slot.probes->stop();
    slot.probes.reset();
  }
  if (auto removed = context_.parts.runtime->remove_pod(uid_).wait(kRuntimeDeadline); !removed) {
    context_.event(pod, "Warning", "FailedKillPod", "error killing pod: " + removed.error().to_string());
    return false;
  }
  context_.user_ranges.release(uid_);
  if (!bool_at(tree(pod), "/spec/hostNetwork")) {
    if (auto detached = context_.parts.network->detach(uid_).wait(kRuntimeDeadline); !detached) {
      context_.event(pod, "Warning", "FailedKillPod",
                     "error detaching the network: " + detached.error().to_string());
      return false;
    }
  }
  // Roots are named after containers: everything of this pod's uid goes.
  if (auto owners = context_.parts.images->root_owners()) {
    for (const std::string& owner : *owners) {
      if (owner.compare(0, uid_.size(), uid_) == 0)
        (void)context_.parts.images->release_root(owner).wait(kRuntimeDeadline);
    }
  }
  unmount_volumes(directory() + "/volumes");
  (void)context_.parts.runtime->make_removable(directory()).wait(kRuntimeDeadline);
  if (auto removed = remove_tree(directory()); !removed) {
    context_.engine.log(LogLevel::warning, "node", "could not remove the folder of a pod",
                        {{"error", removed.error().to_string()}});
    return false;
  }
  std::lock_guard lock(mutex_);
  sandbox_.reset();
  cleaned_ = true;
  return true;
}

PodView PodWorker::view(const Object& pod) {
  PodView out;
  out.pod = &tree(pod);
  std::lock_guard lock(mutex_);
  for (const auto& [name, slot] : slots_) {
    ContainerView c;
    c.current = slot.current;
    // An end whose last words were not read yet is not told: a final status is never mended later.
    if (c.current && !slot.end_seen && c.current->state == ContainerState::exited)
      c.current->state = ContainerState::running;
    c.last = slot.last;
    c.restarts = slot.attempt;
    c.waiting_reason = slot.waiting_reason;
    c.waiting_message = slot.waiting_message;
    c.termination_message = slot.termination_message;
    c.last_termination_message = slot.last_termination_message;
    c.ready = slot.ready;
    c.started = slot.started;
    c.resources = slot.resources;
    out.containers.emplace(name, std::move(c));
  }
  out.pod_ips = pod_ips_;
  out.host_ip = context_.host_ip();
  out.sandbox_ready = sandbox_.has_value() && !pod_ips_.empty();
  out.terminating = terminating_;
  out.reason = reason_;
  out.message = message_;
  out.start_time = start_time_;
  out.resize_pending = resize_pending_;
  out.resize_pending_message = resize_pending_why_;
  out.resizing = resizing_;
  out.resize_error = resize_error_;
  return out;
}

bool PodWorker::knows_mains() const {
  return std::all_of(slots_.begin(), slots_.end(), [](const auto& each) {
    return each.second.init || each.second.ephemeral || each.second.current.has_value();
  });
}

bool PodWorker::publish(const Object& pod) {
  const json::value& object = tree(pod);
  const bool final = phase_is_final(string_at(object, "/status/phase"));
  if (cleaned_ && final && !pod.deleting()) return true;
  if (final && !knows_mains())
    return true;  // an agent before this one knew, has told it, and took the records away
  if (!context_.client) return true;
  {
    std::lock_guard lock(mutex_);
    if (republish_) published_.clear();
    republish_ = false;
  }
  json::value status = make_status(view(pod), context_.engine.clock().now());
  if (const json::value* now = find(object, "/status");
      now != nullptr && published_.empty() && !status_differs(*now, status))
    return true;
  const std::string text = to_json(status);
  if (text == published_) return true;
  // null removes what the last status had and this one has not (merge patch, RFC 7386).
  json::object patch = status.get_object();
  for (const char* field : {"reason", "message", "podIP", "podIPs"}) {
    if (patch.if_contains(field) == nullptr) patch[field] = nullptr;
  }
  std::string uid = uid_;
  if (is_static(pod)) {  // the API knows its mirror only
    const Object mirror = context_.pods.get(pod.ns(), pod.name());
    if (!mirror || !is_mirror(mirror)) {
      wake_after(kRetry);  // it is about to be made
      return true;
    }
    uid = mirror.uid();
    patch.erase("observedGeneration");
  }
  const json::value body =
      json::object{{"metadata", json::object{{"uid", uid}}}, {"status", std::move(patch)}};
  WriteOptions options;
  options.subresource = "status";
  auto written =
      context_.client.patch("v1", "pods", pod.name(), pod.ns(), PatchType::merge, to_json(body), options)
          .wait(kApiDeadline);
  if (written) {
    published_ = text;
    return true;
  }
  if (written.error().is(Error::not_found) || written.error().is(Error::conflict))
    return true;  // the informer tells
  context_.engine.log(LogLevel::warning, "node", "could not write a pod's status",
                      {{"pod", pod.ns() + "/" + pod.name()}, {"error", written.error().to_string()}});
  wake_after(kRetry);
  return written.error().is(Error::invalid);  // it will not be taken later, either
}

}  // namespace orchestra::node
