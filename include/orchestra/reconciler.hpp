#pragma once
// Reconciler: a controller is a pure function from what is to what must be done.
//
//   Actions decide(key, view, now)
//
// `view` is the local copy of the objects (informers in production, plain caches in tests), `now` the time;
// no I/O, no clock, no memory of its own. ControllerRunner does the rest: maps changes to keys, queues them,
// calls decide on worker threads, executes the actions in order with their preconditions, waits until the
// view has seen its own writes before it decides on the same key again (so that a late watch can never create
// twice), and retries failures with growing pauses. Since 0.1.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/env.hpp"
#include "orchestra/informer.hpp"
#include "orchestra/work_queue.hpp"

namespace orchestra {

/// When a reconciler's runner saw a change that Source::observes names. Since 0.2.
struct Observed {
  Now at;                  ///< by the runner's own clocks
  bool witnessed = false;  ///< false: it was so when the runner first saw the object
  /// How long ago that was, whatever became of the wall clock since. What was not witnessed counts from
  /// `stamp_ns`, the time that the object itself tells.
  Duration elapsed(Now now, std::int64_t stamp_ns) const;
};

/// Read access to cached objects by resource.
class ORC_API View {
 public:
  virtual ~View() = default;
  /// nullptr: this resource is not watched.
  virtual const ObjectCache* cache(const ResourceRef& resource) const = 0;
  /// The last observed change of an object; nullopt: there was none. Since 0.2.
  virtual std::optional<Observed> observed(const ResourceRef& resource, const ObjectKey& key) const;

  Object get(const ResourceRef& resource, const std::string& ns, const std::string& name) const;
  std::vector<Object> list(const ResourceRef& resource, const std::string& ns) const;
  std::vector<Object> list(const ResourceRef& resource) const;
  std::vector<Object> find(const ResourceRef& resource, const std::string& index,
                           const std::string& value) const;
  std::vector<Object> select(const ResourceRef& resource, const std::string& ns, const LabelMatcher& matches,
                             const LabelViews& having = {}) const;
  std::vector<Object> select_orphans(const ResourceRef& resource, const std::string& ns,
                                     const LabelMatcher& matches, const LabelViews& having = {}) const;
};

/// A look at the server itself right before an action: caches may be late, ownership must not be.
struct LiveCheck {
  ResourceRef resource;
  std::string ns, name, uid;
  enum class Expect : std::uint8_t {
    present,  ///< exists with this UID and is not being deleted
    absent,   ///< does not exist, or another UID has its name (empty UID: does not exist at all)
    none,     ///< no object of this resource is in the namespace
  } expect = Expect::present;
};

/// An Event to record once an action is done; the name of what it made is appended to the message.
struct Announcement {
  Object about;
  std::string reason, message;
};

struct Action {
  enum class Verb : std::uint8_t { create, update, patch, remove, event };
  Verb verb = Verb::update;
  ResourceRef resource;
  std::string subresource;       ///< "status", "finalize", "binding"
  std::string ns, name;          ///< create: name may be empty with metadata.generateName
  Object object;                 ///< create, update: what to write; event: what it is about
  std::string patch;             ///< merge patch
  std::string uid;               ///< remove: precondition
  std::string resource_version;  ///< remove, patch: precondition (update carries its own in the object)
  std::string propagation;       ///< remove: Background, Foreground, Orphan
  std::optional<std::int64_t> grace_period_seconds;  ///< remove
  std::vector<LiveCheck> checks;
  bool independent = false;  ///< may run together with its neighbours: 1, 2, 4, ... at a time
  bool coalesce = false;     ///< a status of counts: at most one per 100 ms and key, the first at once
  std::string reason;        ///< why, for people
  std::optional<Announcement> announce;
  std::string event_type, event_reason, event_message;  ///< event

  std::string describe() const;  ///< "create pods shop/web-x7k2p: 1 of 3 is missing"
};

struct Actions {
  std::vector<Action> list;
  std::optional<Duration> requeue_after;
  std::string reason;  ///< the decision in words, for explain()

  Action& create(ResourceRef resource, Object object, std::string reason);
  Action& update(ResourceRef resource, Object object, std::string reason);
  Action& update_status(ResourceRef resource, Object object, std::string reason);
  /// With the object's UID as precondition, and its resourceVersion if `exact`.
  Action& remove(ResourceRef resource, const Object& object, std::string reason, bool exact = false);
  /// `type` is Normal or Warning.
  Action& event(const Object& about, std::string type, std::string event_reason, std::string message);
  void requeue(Duration after);  ///< the earliest wins
  bool empty() const { return list.empty(); }
};

/// Receives the keys that a change concerns.
using KeySink = std::function<void(const std::string& key)>;

/// A resource that a reconciler reads, and which keys a change of it wakes.
struct Source {
  ResourceRef resource;
  /// Work does not wait for the first list of this resource: a server that does not have it wedges nobody.
  bool optional = false;
  /// Absent: read only. `old` or `now` is empty for new and removed objects.
  std::function<void(const View& view, const Object& old, const Object& now, const KeySink& wake)> keys = {};
  /// Whether the runner is to remember when it saw this change, for View::observed(): times that objects tell
  /// come from other clocks, and wall clocks step. Forgotten with the object, or with the runner. `now` is
  /// never empty. Since 0.2.
  std::function<bool(const Object& old, const Object& now)> observes = {};
};
using KeysOf =
    std::function<void(const View& view, const Object& old, const Object& now, const KeySink& wake)>;
/// Keys are "namespace/name" of the objects themselves.
ORC_API Source watch_self(ResourceRef resource);
/// Keys are those of the controlling owner of this kind.
ORC_API Source watch_owned(ResourceRef resource, std::string owner_api_version, std::string owner_kind);

class ORC_API Reconciler {
 public:
  virtual ~Reconciler() = default;
  virtual std::string name() const = 0;
  virtual std::vector<Source> sources() const = 0;
  /// Pure. Called from several threads at once, for different keys.
  virtual Actions decide(const std::string& key, const View& view, Now now) const = 0;
  /// What else to do when `action` failed (a condition, an event). The key is retried in any case.
  virtual Actions failed(const std::string& key, const View& view, Now now, const Action& action,
                         const Error& error) const;
  virtual std::size_t parallel_keys() const { return 5; }
};

/// What happened the last time a key was looked at.
struct ReconcileDecision {
  std::string controller, key;
  Now at;
  std::string reason;
  std::vector<std::string> actions;                        ///< each with its outcome
  std::vector<std::pair<std::string, std::int64_t>> seen;  ///< resource and revision of the view
  std::optional<Duration> requeue_after;
  std::string error;  ///< empty: all done
  std::string explain() const;
};

struct RunnerOptions {
  bool dry_run = false;    ///< decisions only, to on_decision
  std::string fence = {};  ///< the election's token: a deposed leader's writes fail in their transaction
  std::size_t actions_max = 500;      ///< of one decision; the rest at once afterwards
  std::size_t decisions_kept = 4096;  ///< for explain(); the oldest go first
  Duration status_interval = std::chrono::milliseconds(100);
  Duration request_deadline = std::chrono::seconds(30);
  /// With `queue.metrics`, failed reconciles are counted beside it: orchestra_reconcile_errors_total, with
  /// the labels controller and reason (the error's code; since 0.2).
  WorkQueueOptions queue = {};
  /// What somebody else has observed (Source::observes); the later of both counts. Any thread. Since 0.2.
  std::function<std::optional<Observed>(const ResourceRef& resource, const ObjectKey& key)> also_observed =
      {};
};

struct RunnerStats {
  WorkQueueStats queue;
  std::uint64_t reconciles = 0, errors = 0, writes = 0;
  std::int64_t work_ns = 0;
};

class EventRecorder;
class InformerSet;

/// Runs one reconciler against a Client.
class ORC_API ControllerRunner {
 public:
  /// `informers` and `events` may be shared between runners and must outlive this one.
  ControllerRunner(Engine& engine, Client client, InformerSet& informers, EventRecorder& events,
                   std::shared_ptr<const Reconciler> reconciler, RunnerOptions options = {});
  ~ControllerRunner();  ///< stop()

  void on_decision(std::function<void(const ReconcileDecision&)> callback);
  /// Begins to work once the informers it reads are synced.
  Result<void> start();
  /// No action begins after this; returns when the running ones are done. Idempotent.
  void stop();
  /// Looks at a key soon.
  void wake(const std::string& key);
  std::optional<ReconcileDecision> decision(const std::string& key) const;
  std::string explain(const std::string& key) const;
  /// True when nothing is queued, running or waiting for a view (delayed keys do not count).
  bool idle() const;
  RunnerStats stats() const;
  const Reconciler& reconciler() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// The informers of a set of controllers: one per resource, shared.
class ORC_API InformerSet : public View {
 public:
  InformerSet(Engine& engine, Client client);
  ~InformerSet() override;  ///< stop()
  /// Made (and started, if the set is) on first use.
  InformerCore& informer(const ResourceRef& resource);
  /// The server no longer has this resource: its informer stops, and a later use makes a new one. References
  /// to the old one stay good as long as the set. Since 0.2.
  void retire(const ResourceRef& resource);
  Result<void> start();
  void stop();
  bool synced() const;
  const ObjectCache* cache(const ResourceRef& resource) const override;
  /// nullptr: not made.
  InformerCore* find_informer(const ResourceRef& resource) const;
  /// Those that have an informer. Since 0.2.
  std::vector<ResourceRef> resources() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct EventRecorderOptions {
  std::size_t queue_max = 4096;    ///< more events are dropped and counted
  std::size_t objects_max = 4096;  ///< remembered for counting repeats; the oldest are forgotten
  std::uint32_t burst = 25;        ///< per object; then one per `refill`
  Duration refill = std::chrono::minutes(5);
  std::string reporting_instance = {};
};

/// Writes Events: repeats of (object, reason, message) raise a count, talkative objects are cut. Never
/// blocks.
class ORC_API EventRecorder {
 public:
  EventRecorder(Engine& engine, Client client, EventRecorderOptions options = {});
  ~EventRecorder();  ///< stop()
  void record(const std::string& component, const Object& about, const std::string& type,
              const std::string& reason, const std::string& message);
  void stop();
  std::uint64_t dropped() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace orchestra
