// Containers of a PodWorker: start, probes, restarts with back-off, hooks, stop.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "api/object_tree.hpp"
#include "base/fd.hpp"
#include "logs/cri_log.hpp"
#include "logs/log_file.hpp"
#include "node/pod_worker.hpp"

namespace orchestra::node {

using namespace std::chrono_literals;

namespace {
constexpr Duration kRuntimeDeadline = 120s;
constexpr Duration kStartErrorDeadline = 5s;
constexpr Duration kStableAfter = 10min;  // a container up for so long starts its back-off anew
constexpr std::size_t kTerminationBytesMax = 4096;
constexpr Duration kHookExtension = 2s;  // once, for a preStop hook that overruns
constexpr Duration kHookDeadlineMax = 1h;
constexpr Duration kHookErrorShown =
    10s;  // of a wait after a failed postStart hook, as the kubelet's next sync

constexpr std::size_t kTerminationBytesOfPod = 12 << 10;
constexpr std::size_t kTerminationBytesOfLog = 2048;
constexpr std::int64_t kTerminationLines = 80;

// The last lines of a container's log as its user wrote them, at most `most` bytes.
std::string end_of_log(const std::string& live, std::size_t most) {
  const auto files = logs::open_log_files(live);
  if (!files) return {};
  const logs::LogPosition from = logs::tail_position(*files, kTerminationLines);
  logs::CriFilter filter({});
  std::string text;
  for (std::size_t i = from.file; i < files->paths.size(); ++i) {
    auto fd = logs::open_log_file(files->paths[i]);
    if (!fd) continue;
    std::uint64_t at = i == from.file ? from.offset : 0;
    char block[16384];
    for (ssize_t got; (got = pread(fd->get(), block, sizeof block, static_cast<off_t>(at))) > 0;) {
      at += static_cast<std::uint64_t>(got);
      filter.feed(std::string_view(block, static_cast<std::size_t>(got)), text);
      if (text.size() > 2 * most) text.erase(0, text.size() - most);
    }
  }
  if (text.size() > most) text.erase(0, text.size() - most);
  return text;
}

int signal_number(const std::string& name) {
  static const std::map<std::string, int> kNames{
      {"SIGHUP", SIGHUP},   {"SIGINT", SIGINT},   {"SIGQUIT", SIGQUIT}, {"SIGKILL", SIGKILL},
      {"SIGUSR1", SIGUSR1}, {"SIGUSR2", SIGUSR2}, {"SIGTERM", SIGTERM}, {"SIGWINCH", SIGWINCH}};
  if (name.empty()) return SIGTERM;
  if (name[0] >= '0' && name[0] <= '9') return std::atoi(name.c_str());
  const auto it = kNames.find(name.compare(0, 3, "SIG") == 0 ? name : "SIG" + name);
  return it == kNames.end() ? SIGTERM : it->second;
}

const char* pull_reason(const Error& error, bool again) {
  switch (error.code()) {
    case Error::invalid:
      return "InvalidImageName";
    case Error::not_found:
      return error.message().find("Never") != std::string::npos ? "ErrImageNeverPull"
             : again                                            ? "ImagePullBackOff"
                                                                : "ErrImagePull";
    default:
      return again ? "ImagePullBackOff" : "ErrImagePull";
  }
}

// What a pull that went well is told as: the kubelet's words.
std::string pulled_message(const ImageInfo& info, const std::string& image, bool was_present,
                           std::int64_t took_ns) {
  if (was_present)
    return "Container image \"" + image + "\" already present on machine and can be accessed by the pod";
  char took[32];
  if (took_ns < 1'000'000'000) {
    std::snprintf(took, sizeof took, "%dms", static_cast<int>(took_ns / 1'000'000));
  } else {
    std::snprintf(took, sizeof took, "%.3fs", static_cast<double>(took_ns) / 1e9);
  }
  return "Successfully pulled image \"" + image + "\" in " + took + " (" + took +
         " including waiting). Image size: " + std::to_string(info.bytes) + " bytes.";
}

bool never_started(const ContainerStatus& status) {
  return status.state == ContainerState::exited && status.started_ns == 0;
}
}  // namespace

bool PodWorker::should_restart(const Object& pod, const Slot& slot, const json::value& spec) const {
  if (terminating_ || slot.ephemeral) return false;
  if (slot.restart_for_resize || (slot.init && slot.of_old_sandbox)) return true;
  return restarts(tree(pod), spec, slot.init, slot.current->exit_code);
}

void PodWorker::advance(const Object& pod, Slot& slot, const json::value& spec) {
  if (slot.current && slot.current->state == ContainerState::running) {
    if (!slot.watched) started(pod, slot, spec);  // adopted
    if (slot.stopping) drive_stop(pod, slot);
    return;
  }
  if (slot.current && slot.current->state != ContainerState::created) {
    if (!should_restart(pod, slot, spec)) return;
    const Duration wait = slot.restart_for_resize
                              ? Duration::zero()
                              : restart_backoff(slot.backoff_level, context_.options.restart_backoff_base,
                                                context_.options.restart_backoff_max);
    const std::int64_t due = slot.current->finished_ns + wait.count();
    const std::int64_t now = context_.engine.clock().now().wall_ns;
    if (now < due && due - now <= wait.count()) {
      std::lock_guard lock(mutex_);
      const std::int64_t over = now - slot.current->finished_ns;
      const bool by_hook =
          !slot.hook_failure.empty() && over < std::chrono::nanoseconds(kHookErrorShown).count();
      slot.waiting_reason = by_hook ? "PostStartHookError" : "CrashLoopBackOff";
      slot.waiting_message = by_hook ? slot.hook_failure
                                     : "back-off " + std::to_string(wait / 1s) +
                                           "s restarting failed container=" + slot.name +
                                           " pod=" + pod.name() + "_" + pod.ns() + "(" + uid_ + ")";
    }
    if (now < due && due - now <= wait.count()) {
      context_.event(pod, "Warning", "BackOff",
                     "Back-off restarting failed container " + slot.name + " in pod " + pod.name() + "_" +
                         pod.ns() + "(" + uid_ + ")");
      const Duration left = std::chrono::nanoseconds(due - now);
      wake_after(slot.hook_failure.empty() ? left : std::min(left, kHookErrorShown));
      return;
    }
  }
  if (steady() < slot.next_try_ns) {
    wake_after(std::chrono::nanoseconds(slot.next_try_ns - steady()));
    return;
  }
  if (!ready_image(pod, slot, spec)) return;
  auto created = create(pod, slot, spec);
  if (created) {
    if (never_started(*slot.current)) return watch_exit(slot);
    return started(pod, slot, spec);
  }
  const std::string& domain_reason = created.error().message();
  const bool config = std::string_view(created.error().domain()) == "node";
  {
    std::lock_guard lock(mutex_);
    slot.waiting_reason = config ? "CreateContainerConfigError" : "RunContainerError";
    slot.waiting_message = created.error().to_string();
  }
  context_.event(pod, "Warning", "Failed", "Error: " + domain_reason);
  slot.next_try_ns = steady() + std::chrono::nanoseconds(config ? 10s : 5s).count();
  if (!config) slot.pulled.reset();
  wake_after(config ? 10s : 5s);
}

bool PodWorker::ready_image(const Object& pod, Slot& slot, const json::value& spec) {
  const std::string image = string_at(spec, "/image");
  {
    std::lock_guard lock(mutex_);
    if (slot.pulling) return false;
    if (slot.pulled && *slot.pulled) return true;
  }
  if (slot.pulled) {
    const Error error = slot.pulled->error();
    slot.pulled.reset();
    ++slot.pull_failures;
    const Duration wait = restart_backoff(slot.pull_failures, context_.options.restart_backoff_base,
                                          context_.options.restart_backoff_max);
    {
      std::lock_guard lock(mutex_);
      slot.waiting_reason = pull_reason(error, slot.pull_failures > 1);
      slot.waiting_message = slot.pull_failures > 1
                                 ? "Back-off pulling image \"" + image + "\": " + error.to_string()
                                 : error.to_string();
    }
    context_.event(pod, "Warning", "Failed", "Failed to pull image \"" + image + "\": " + error.to_string());
    slot.next_try_ns = steady() + wait.count();
    wake_after(wait);
    return false;
  }
  PullRequest request;
  request.reference = image;
  const std::string policy = string_at(spec, "/imagePullPolicy", "IfNotPresent");
  request.policy = policy == "Always"  ? PullPolicy::always
                   : policy == "Never" ? PullPolicy::never
                                       : PullPolicy::if_not_present;
  if (const json::array* wanted = array_at(tree(pod), "/spec/imagePullSecrets")) {
    for (const json::value& one : *wanted) {
      const auto secret = context_.secrets.get(pod.ns(), string_at(one, "/name"));
      if (!secret || !*secret) continue;
      const DataMap data = data_of(tree(*secret));
      for (const char* key : {".dockerconfigjson", ".dockercfg"}) {
        if (const auto it = data.find(key); it != data.end()) request.docker_configs.push_back(it->second);
      }
    }
  }
  {
    std::lock_guard lock(mutex_);
    slot.pulling = true;
  }
  const std::string name = slot.name;
  const auto found = context_.parts.images->lookup(image);
  const bool present = request.policy != PullPolicy::always && found && *found;
  if (!present && request.policy != PullPolicy::never)
    context_.event(pod, "Normal", "Pulling", "Pulling image \"" + image + "\"");
  context_.parts.images->ensure(std::move(request))
      .on_ready(
          [self = shared_from_this(), name, pod, image, present, began = steady()](Result<ImageInfo> info) {
            if (info) {
              self->context_.event(pod, "Normal", "Pulled",
                                   pulled_message(*info, image, present, self->steady() - began));
            }
            {
              std::lock_guard lock(self->mutex_);
              Slot& mine = self->slots_.at(name);
              mine.pulling = false;
              mine.pulled.emplace(std::move(info));
            }
            self->wake();
          });
  // A present image answers at once; then there is nothing to wait for.
  std::lock_guard lock(mutex_);
  return !slot.pulling && slot.pulled && slot.pulled->has_value();
}

Result<void> PodWorker::create(const Object& pod, Slot& slot, const json::value& spec) {
  const ImageInfo image = slot.pulled->value();
  const bool again = slot.current.has_value() && slot.current->state != ContainerState::created;
  if (again) {
    const bool stable =
        slot.current->started_ns != 0 && slot.current->finished_ns - slot.current->started_ns >=
                                             std::chrono::nanoseconds(kStableAfter).count();
    if (!slot.restart_for_resize && !slot.of_old_sandbox)
      slot.backoff_level = stable ? 0 : slot.backoff_level + 1;
  }
  const std::uint32_t attempt = again ? slot.attempt + 1 : slot.attempt;
  Slot next = slot;
  next.attempt = attempt;
  ORC_ASSIGN(ContainerConfig config, make_config(pod, next, spec, image));
  // The attempt before the last is forgotten now; the last one stays for `previous` and lastState.
  if (again && slot.last)
    (void)context_.parts.runtime->remove_container(uid_, slot.last->id).wait(kRuntimeDeadline);
  if (again) (void)context_.parts.images->release_root(slot.current->id).wait(kRuntimeDeadline);
  auto created = context_.parts.runtime->create_container(uid_, config).wait(kRuntimeDeadline);
  if (!created) return created.error();
  context_.event(pod, "Normal", "Created", "Created container: " + slot.name);
  auto running = context_.parts.runtime->start_container(uid_, config.id).wait(kRuntimeDeadline);
  auto status = context_.parts.runtime->status(uid_, config.id).wait(kRuntimeDeadline);
  if (!running) {
    // A program that cannot be run is an end like others (StartError, 128): it counts as a restart, and a pod
    // that never restarts has failed. The runtime knows of it a moment after it refused.
    if (!status || status->state == ContainerState::created)
      status = context_.parts.runtime->exited(uid_, config.id).wait(kStartErrorDeadline);
    if (!status || !never_started(*status)) {
      (void)context_.parts.runtime->remove_container(uid_, config.id).wait(kRuntimeDeadline);
      return running.error();
    }
    context_.event(pod, "Warning", "Failed", "Error: " + running.error().message());
  }
  if (!status) return status.error();
  std::lock_guard lock(mutex_);
  if (again) {
    slot.last = slot.current;
    slot.last_termination_message = slot.termination_message;
  }
  slot.termination_message.clear();
  slot.current = *status;
  slot.attempt = attempt;
  slot.waiting_reason.clear();
  slot.waiting_message.clear();
  slot.hook_failure.clear();
  slot.pull_failures = 0;
  slot.watched = slot.end_seen = slot.stopping = slot.term_sent = slot.kill_sent = false;
  slot.ready = slot.started = false;
  slot.restart_for_resize = slot.of_old_sandbox = false;
  slot.stop_signal = config.annotations["orchestra.dev/stop-signal"];
  slot.resources = resources_of(spec);
  return {};
}

void PodWorker::started(const Object& pod, Slot& slot, const json::value& spec) {
  const bool adopted = slot.current->started_ns != 0 &&
                       context_.engine.clock().now().wall_ns - slot.current->started_ns > 5'000'000'000;
  if (!adopted) context_.event(pod, "Normal", "Started", "Started container " + slot.name);
  {
    std::lock_guard lock(mutex_);
    slot.watched = true;
    slot.started = find(spec, "/startupProbe") == nullptr;
    slot.ready = slot.started && find(spec, "/readinessProbe") == nullptr;
  }
  watch_exit(slot);
  start_probes(pod, slot, spec);
  if (!adopted && find(spec, "/lifecycle/postStart") != nullptr) {
    const std::string name = slot.name, id = slot.current->id;
    slot.post_start_running = true;
    run_hook(pod, slot, spec, "postStart", [self = shared_from_this(), pod, name, id](std::string failure) {
      if (failure.empty()) {
        self->hear([name, id](PodWorker& worker) {
          Slot& mine = worker.slots_.at(name);
          if (mine.current && mine.current->id == id) mine.post_start_running = false;
        });
        return;
      }
      self->context_.event(pod, "Warning", "FailedPostStartHook", "PostStartHook failed: " + failure);
      self->hear([name, id, failure](PodWorker& worker) {
        Slot& mine = worker.slots_.at(name);
        if (!mine.current || mine.current->id != id) return;  // it has ended and was started again meanwhile
        mine.post_start_running = false;
        mine.hook_failure = "PostStartHook failed: " + failure;
        mine.stopping = mine.term_sent = true;
        mine.kill_at_ns = 0;
      });
    });
  }
}

void PodWorker::watch_exit(Slot& slot) {
  const std::string name = slot.name, id = slot.current->id;
  context_.parts.runtime->exited(uid_, id).on_ready(
      [weak = weak_from_this(), name, id](Result<ContainerStatus> end) {
        auto self = weak.lock();
        if (!self) return;
        if (!end && end.error().is(Error::cancelled))
          return;  // the runtime is closed; the next start asks again
        self->hear([name, id, end](PodWorker& worker) {
          Slot& mine = worker.slots_.at(name);
          if (!mine.current || mine.current->id != id) return;
          if (end) {
            mine.current = *end;
          } else {
            mine.current->state = ContainerState::unknown;
            mine.current->reason = end.error().to_string();
            mine.current->finished_ns = worker.context_.engine.clock().now().wall_ns;
          }
          mine.ready = false;
        });
      });
}

void PodWorker::start_probes(const Object&, Slot& slot, const json::value& spec) {
  if (find(spec, "/startupProbe") == nullptr && find(spec, "/readinessProbe") == nullptr &&
      find(spec, "/livenessProbe") == nullptr)
    return;
  ProbeTarget target{uid_, slot.current->id, pod_ips_.empty() ? "" : pod_ips_.front(), spec};
  auto probes = std::make_shared<ContainerProbes>(
      context_.engine, context_.parts.runtime, context_.parts.http, std::move(target),
      [weak = weak_from_this(), name = slot.name, id = slot.current->id](ProbeReport report) {
        if (auto self = weak.lock()) self->on_probe(name, id, report);
      });
  {
    std::lock_guard lock(mutex_);
    slot.probes = probes;
  }
  probes->start();
}

void PodWorker::on_probe(const std::string& name, std::string id, const ProbeReport& report) {
  Object pod;
  {
    std::lock_guard lock(mutex_);
    pod = pod_;
    const Slot& slot = slots_.at(name);
    if (!slot.current || slot.current->id != id || slot.current->state != ContainerState::running) return;
    if (report.decided && report.kind == ProbeKind::readiness && slot.ready == report.success &&
        report.success)
      return;  // nothing new: most reports are such
  }
  if (!report.success) {
    context_.event(pod, "Warning", "Unhealthy",
                   std::string(to_string(report.kind)) + " probe failed: " + report.message);
    if (report.decided && report.kind != ProbeKind::readiness) {
      context_.event(pod, "Normal", "Killing",
                     "Container " + name + " failed " +
                         (report.kind == ProbeKind::startup ? "startup" : "liveness") +
                         " probe, will be restarted");
    }
  }
  if (report.decided && !(report.success && report.kind == ProbeKind::liveness))
    hear([name, id, report](PodWorker& worker) { worker.take_probe(name, id, report); });
}

void PodWorker::take_probe(const std::string& name, const std::string& id, const ProbeReport& report) {
  Slot& slot = slots_.at(name);
  if (!slot.current || slot.current->id != id || slot.current->state != ContainerState::running) return;
  if (report.kind == ProbeKind::readiness) {
    slot.ready = report.success;
  } else if (report.kind == ProbeKind::startup && report.success) {
    slot.started = true;
    const json::array* all = array_at(tree(pod_), slot.init ? "/spec/initContainers" : "/spec/containers");
    for (const json::value& spec : *all) {
      if (string_at(spec, "/name") == name && find(spec, "/readinessProbe") == nullptr) slot.ready = true;
    }
  } else if (!report.success && !slot.stopping && !terminating_) {
    slot.stopping = true;  // liveness or startup: the container is restarted
    slot.kill_at_ns =
        steady() + int_at(tree(pod_), "/spec/terminationGracePeriodSeconds", 30) * 1'000'000'000;
  }
}

// What the container left as its last words: its file, or the end of its log where it failed and asks for
// that.
std::string PodWorker::end_message(const Slot& slot) const {
  // All containers of a pod share 12 KiB.
  const std::size_t most =
      std::min(kTerminationBytesMax, kTerminationBytesOfPod / std::max<std::size_t>(1, slots_.size()));
  std::string text;
  if (auto fd = open_file(message_path(slot), O_RDONLY)) {
    text.resize(most);
    const ssize_t got = pread(fd->get(), text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  }
  if (!text.empty() || slot.current->exit_code == 0) return text;
  const Object pod = this->pod();
  for (const char* where : {"/spec/initContainers", "/spec/containers"}) {
    const json::array* all = array_at(tree(pod), where);
    if (all == nullptr) continue;
    for (const json::value& spec : *all) {
      if (string_at(spec, "/name") == slot.name &&
          string_at(spec, "/terminationMessagePolicy") == "FallbackToLogsOnError")
        return end_of_log(slot.current->log_path, std::min(most, kTerminationBytesOfLog));
    }
  }
  return text;
}

void PodWorker::ended(Slot& slot) {
  std::string text = end_message(slot);
  if (slot.probes) slot.probes->stop();
  std::lock_guard lock(mutex_);
  slot.probes.reset();
  slot.termination_message = text;
  slot.end_seen = true;
  slot.post_start_running = false;
  slot.ready = false;
  slot.started = false;
  slot.stopping = false;
}

void PodWorker::stop_container(const Object& pod, Slot& slot, const json::value& spec, Duration grace,
                               const std::string& why) {
  context_.event(pod, "Normal", "Killing", why);
  if (slot.probes) slot.probes->only_readiness();
  const bool hook = find(spec, "/lifecycle/preStop") != nullptr && grace > Duration::zero();
  {
    std::lock_guard lock(mutex_);
    slot.stopping = true;
    slot.pre_stop_running = hook;
    slot.kill_at_ns = steady() + grace.count();
  }
  if (!hook) return;
  const std::string name = slot.name;
  run_hook(pod, slot, spec, "preStop", [self = shared_from_this(), pod, name](std::string failure) {
    if (!failure.empty())
      self->context_.event(pod, "Warning", "FailedPreStopHook", "PreStopHook failed: " + failure);
    self->hear([name](PodWorker& worker) { worker.slots_.at(name).pre_stop_running = false; });
  });
}

void PodWorker::drive_stop(const Object& pod, Slot& slot) {
  const std::int64_t now = steady();
  bool send_term = false, send_kill = false;
  {
    std::lock_guard lock(mutex_);
    if (!slot.term_sent && (!slot.pre_stop_running || now >= slot.kill_at_ns)) {
      slot.term_sent = send_term = true;
      // A hook that used up the grace period leaves the program two seconds of its own.
      if (now >= slot.kill_at_ns && slot.pre_stop_running)
        slot.kill_at_ns = now + std::chrono::nanoseconds(kHookExtension).count();
    } else if (slot.term_sent && !slot.kill_sent && now >= slot.kill_at_ns) {
      slot.kill_sent = send_kill = true;
    }
  }
  const auto deliver = [&](int signal) {
    auto sent =
        context_.parts.runtime->signal_container(uid_, slot.current->id, signal).wait(kRuntimeDeadline);
    if (!sent && !sent.error().is(Error::not_found)) {
      context_.event(pod, "Warning", "FailedKillPod",
                     "error killing container " + slot.name + ": " + sent.error().to_string());
    }
  };
  if (send_term) deliver(signal_number(slot.stop_signal));
  if (send_term && now >= slot.kill_at_ns) {
    slot.kill_sent = send_kill = true;
  }
  if (send_kill) deliver(SIGKILL);
  wake_after(std::clamp<Duration>(std::chrono::nanoseconds(slot.kill_at_ns - now), 50ms, 30s));
}

void PodWorker::run_hook(const Object&, Slot& slot, const json::value& spec, const char* hook,
                         std::function<void(std::string)> done) {
  const json::value& action = *find(spec, std::string("/lifecycle/") + hook);
  const Duration deadline = kHookDeadlineMax;
  if (const json::value* exec = find(action, "/exec")) {
    std::vector<std::string> args;
    if (const json::array* command = array_at(*exec, "/command")) {
      for (const json::value& arg : *command)
        args.push_back(arg.is_string() ? std::string(arg.get_string()) : "");
    }
    context_.parts.runtime->exec(uid_, slot.current->id, args, deadline, kTerminationBytesMax)
        .on_ready([done](Result<ExecResult> result) {
          if (!result) return done(result.error().to_string());
          done(result->exit_code == 0
                   ? ""
                   : "command exited with " + std::to_string(result->exit_code) + ": " + result->output);
        });
    return;
  }
  if (const json::value* http = find(action, "/httpGet")) {
    HttpRequest request = make_http_request(spec, *http, pod_ips_.empty() ? "" : pod_ips_.front(), 30s);
    context_.parts.http->send(std::move(request)).on_ready([done](Result<HttpResponse> response) {
      if (!response) return done(response.error().to_string());
      done(response->status < 400 ? "" : "HTTP status " + std::to_string(response->status));
    });
    return;
  }
  if (const json::value* pause = find(action, "/sleep")) {
    context_.engine.after(std::chrono::seconds(int_at(*pause, "/seconds")), [done] { done(""); });
    return;
  }
  done("this kind of hook is not supported; supported: exec, httpGet, sleep");
}

}  // namespace orchestra::node
