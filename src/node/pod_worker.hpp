#pragma once
// PodWorker: the life of one pod on this node, in one serial worker.
//
// Every trigger (the API object changed, a container ended, a probe decided, an image arrived, a timer)
// only wakes the worker; sync() then compares what should be with what is and does the next step. So steps
// repeat safely after a crash of the host, and nothing depends on the order of triggers. sync() runs on an
// engine worker thread, never twice at once. Syncing -> terminating -> finished, never back.
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "node/admission.hpp"
#include "node/context.hpp"
#include "node/environment.hpp"
#include "node/pod_status.hpp"
#include "node/probes.hpp"

namespace orchestra::node {

/// Annotation of a container: the `resources` that it was started with, as JSON.
inline constexpr const char* kResources = "orchestra.dev/resources";
inline constexpr std::size_t kAllocationBytesMax = 1 << 20;
inline constexpr Duration kEvictionSlack =
    std::chrono::seconds(30);  ///< for taking a pod apart after its grace

class PodWorker : public std::enable_shared_from_this<PodWorker> {
 public:
  PodWorker(AgentContext& context, Object pod, std::function<void()> on_finished);

  /// Takes over what runs already; before the first wake().
  void adopt(const PodRecord& record);
  /// It has ended and was taken apart before this agent came; its logs are left. Before the first wake().
  void only_logs_left() { cleaned_ = true; }
  /// A newer version of the object.
  void update(Object pod);
  /// The object is gone from the API: everything ends, with the pod's grace period.
  void removed();
  /// The mirror of this static pod was made anew: it has no status yet.
  void mirrored();
  /// Ends the pod as failed, for the node's sake, within `grace` at most. One that ends already just goes on.
  void evict(const std::string& message, Duration grace);
  /// evict() has taken it, and it is still expected to give back what it used: until it has ended, and no
  /// longer than its grace and kEvictionSlack (a program that the kernel cannot kill must not keep others
  /// from going).
  bool evicting() const;
  /// evict() has taken it, however long ago.
  bool evicted() const;
  /// The node goes down: the pod ends as failed within `grace` at most.
  void shut_down(Duration grace);
  /// Nothing of it runs any more.
  bool at_rest() const;
  /// Names and ids of the containers that run.
  std::vector<std::pair<std::string, std::string>> running() const;
  /// Ends the pod now, whatever the API says (`orchestra down`).
  void force_end();
  void wake();
  void wake_after(Duration delay);
  /// No sync runs after this has returned; containers run on.
  void stop();

  Object pod() const;
  /// The address that it has here; empty before it is there.
  std::string address() const;
  /// Newest id of a container by name, for logs and exec; empty if there is none.
  std::optional<ContainerStatus> container(const std::string& name, bool previous) const;

 private:
  struct Slot {
    std::string name;
    bool init = false, sidecar = false, ephemeral = false;
    std::uint32_t attempt = 0;  ///< of `current`; the next one is attempt + 1 (first: 0)
    std::optional<ContainerStatus> current, last;
    std::string termination_message, last_termination_message;
    std::string waiting_reason, waiting_message;
    std::string hook_failure;  ///< of the postStart hook of `current`, which was killed for it
    std::uint32_t backoff_level = 0;
    std::int64_t next_try_ns = 0;  ///< steady; after a failure to pull or create
    std::uint32_t pull_failures = 0;
    bool pulling = false;
    std::optional<Result<ImageInfo>> pulled;
    std::shared_ptr<ContainerProbes> probes;
    bool ready = false, started = false, watched = false, end_seen = false;
    bool post_start_running = false;  ///< of `current`: containers after it wait for that to be started
    bool stopping = false, pre_stop_running = false, term_sent = false, kill_sent = false;
    std::int64_t kill_at_ns = 0;
    std::string stop_signal;
    json::value resources;            ///< that `current` runs with
    bool restart_for_resize = false;  ///< the next start is not a failure
    bool of_old_sandbox = false;  ///< `current` ended with a sandbox that is gone (the machine was restarted)
  };

  // The loop.
  void run();
  void sync();
  void note_ends();
  void add_slots(const Object& pod);
  void sync_alive(const Object& pod);
  void sync_ending(const Object& pod);
  bool is_over(const Object& pod);
  // Resources (pod_resize.cpp).
  Object allocate(const Object& pod);
  bool claim(const Object& pod);
  std::optional<Refusal> refusal_of_node(const Object& pod) const;
  void keep_allocation(json::object allocated);
  void adopt_limits(const ResourceLimits& made_with);
  void begin_resize(const Object& pod);
  void lift_limits(const Object& pod);
  void resize_containers(const Object& pod);
  void judge_resize(const Object& pod, const Result<void>& step);
  Result<void> resize_in_place(const Object& pod, const std::vector<const json::value*>& changed);
  // Steps; each answers whether the next one may go on.
  bool ensure_sandbox(const Object& pod);
  bool add_user_namespace(const Object& pod, PodSandboxConfig& config);
  bool ensure_volumes(const Object& pod);
  bool run_init(const Object& pod);
  void run_containers(const Object& pod);
  void run_ephemeral(const Object& pod);
  // One container.
  void advance(const Object& pod, Slot& slot, const json::value& spec);
  bool should_restart(const Object& pod, const Slot& slot, const json::value& spec) const;
  bool ready_image(const Object& pod, Slot& slot, const json::value& spec);
  Result<void> create(const Object& pod, Slot& slot, const json::value& spec);
  Result<void> check_runtime_class(const json::value& pod);
  /// hostUsers: false
  static bool has_own_users(const json::value& pod) { return !bool_at(pod, "/spec/hostUsers", true); }
  static Result<void> check_supported(const json::value& pod, const json::value& spec);
  Result<ContainerConfig> make_config(const Object& pod, Slot& slot, const json::value& spec,
                                      const ImageInfo& image);
  Result<void> add_security(const Object& pod, const json::value& spec, const ImageInfo& image,
                            const std::string& id, ContainerConfig& config);
  Result<void> add_mounts(const Object& pod, const json::value& spec, ContainerConfig& config);
  Result<void> write_into_root(const Object& pod, const json::value& spec, const MountPlan& root);
  void started(const Object& pod, Slot& slot, const json::value& spec);
  void watch_exit(Slot& slot);
  void start_probes(const Object& pod, Slot& slot, const json::value& spec);
  void ended(Slot& slot);
  std::string end_message(const Slot& slot) const;
  void stop_container(const Object& pod, Slot& slot, const json::value& spec, Duration grace,
                      const std::string& why);
  void drive_stop(const Object& pod, Slot& slot);
  /// Event threads: what happened is done by the worker at its next turn, with mutex_ held, so that it reads
  /// its slots without the lock and nothing changes under its hands.
  void hear(std::function<void(PodWorker&)> news);
  void on_probe(const std::string& name, std::string id, const ProbeReport& report);
  void take_probe(const std::string& name, const std::string& id, const ProbeReport& report);
  void run_hook(const Object& pod, Slot& slot, const json::value& spec, const char* hook,
                std::function<void(std::string)> done);
  // Environment.
  EnvironmentInputs inputs(const Object& pod, const json::value* container) const;
  std::string directory() const { return context_.pod_directory(uid_); }
  std::string allocation_path() const { return directory() + "/allocated.json"; }
  std::string volume_directory(const std::string& name) const { return directory() + "/volumes/" + name; }
  Result<std::string> token(const Object& pod, const std::string& audience, std::int64_t seconds) const;
  std::string message_path(const Slot& slot) const;
  std::string resolver(const Object& pod) const;
  Result<void> make_memory_volume(const json::value& volume, const std::string& path);
  static bool shared_by_containers(const json::value& pod, const std::string& volume);
  /// Rootless and process: pods share the machine's network, each with addresses of its own.
  bool loopback_network() const { return context_.parts.runtime->isolation() != Isolation::full; }
  bool process_level() const { return context_.parts.runtime->isolation() == Isolation::process; }
  // Status.
  PodView view(const Object& pod);
  /// False: the API has not taken it and may do so later; it is tried again.
  bool publish(const Object& pod);
  bool knows_mains() const;
  bool cleanup(const Object& pod);
  void fail(const Object& pod, const std::string& reason, const std::string& message,
            const char* event = "Warning");
  void keep_deadline(const Object& pod);
  std::int64_t steady() const { return context_.engine.clock().now().steady_ns; }

  AgentContext& context_;
  std::function<void()> on_finished_;
  const std::string uid_;

  mutable std::mutex mutex_;  ///< guards what triggers touch: pod_, flags, news; slots where they are written
  Object pod_;
  std::vector<std::function<void(PodWorker&)>> news_;
  bool republish_ = false;
  std::string evict_message_;
  std::optional<Duration> shutdown_grace_, evict_grace_;
  std::int64_t evict_until_ns_ = 0;  ///< steady
  bool removed_ = false, forced_ = false, stopped_ = false, finished_ = false;
  bool running_ = false, dirty_ = false;
  std::condition_variable idle_;
  Engine::TimerId timer_ = 0;
  std::int64_t timer_due_ = 0;

  struct Token {
    std::string text;
    std::int64_t refresh_ns = 0, expires_ns = 0;  // wall
  };
  mutable std::map<std::string, Token> tokens_;  // by audience and length; under mutex_

  // Of the serial worker (slots are also read under mutex_ by others).
  std::map<std::string, Slot> slots_;
  std::vector<std::string> order_;
  std::optional<PodSandbox> sandbox_;
  std::vector<std::string> pod_ips_;  ///< written under mutex_
  std::string reason_, message_, start_time_;
  std::optional<Now> deadline_seen_;  // when this worker first looked at the pod's deadline
  bool terminating_ = false, cleaned_ = false, volumes_ready_ = false;
  std::int64_t end_deadline_ns_ = 0;
  std::string published_;
  json::object allocated_;  ///< resources of each container that the node has promised; empty: nothing yet
  std::string resize_pending_, resize_pending_why_;  ///< reason and message of PodResizePending
  bool resizing_ = false;
  std::string resize_error_;
  bool resize_unsupported_ = false;  ///< so says the runtime of what is allocated now: it is not asked again
  /// The pod's own limits are to be lifted while those of its containers change, and set when all have.
  bool limits_due_ = false, lifted_ = false;
  std::int64_t memory_meanwhile_ = 0;  ///< bytes for the whole pod until then; 0: as it is
};

}  // namespace orchestra::node
