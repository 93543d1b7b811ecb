#pragma once
// The scheduler's shell, shared by its files: observe (events in), shapes (objects to what the core reads),
// turn (who is placed next, and where), gang, plugins, extenders, volumes and binding (from placed to bound),
// tell (what pods hear).
//
// One `mutex` guards snapshot and queue. Placing runs on one worker at a time and only touches memory;
// requests are answered by callbacks, so no thread ever waits for the server. A placed pod is assumed: it
// counts on its node from that moment, and the pod's own event (or a failed binding) makes the assumption
// true (or undone). On its way to the binding it may wait for volumes or for a plugin's permit.
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/http_client.hpp"
#include "controllers/common/pods.hpp"
#include "controllers/scheduler/queue.hpp"
#include "controllers/scheduler/shell/guard.hpp"
#include "controllers/scheduler/shell/measures.hpp"
#include "orchestra/gang.hpp"
#include "orchestra/reconciler.hpp"
#include "orchestra/scheduler.hpp"
#include "sched/snapshot.hpp"

namespace orchestra {

struct Scheduler::Impl : std::enable_shared_from_this<Scheduler::Impl> {
  Engine& engine;
  const Client client;
  SchedulerOptions options;
  std::vector<SchedulingProfile> profiles;
  InformerSet informers;
  InformerSet groups;  // Workloads and PodGroups, where pods name one
  EventRecorder events;
  std::function<void(const SchedulingDecision&)> on_decision;
  sched::PluginGuard guard;

  mutable std::mutex mutex;
  std::condition_variable ended;
  mutable SchedulingSnapshot snapshot;
  std::unique_ptr<sched::SchedulingQueue> queue;
  std::pair<std::string, std::string> relist_from;  // namespace and name: where the next relist() begins
  struct Told {
    std::string message;
    std::int64_t at_ns = 0;
    std::string volume_error;  // why its claims alone forbade every node
  };
  std::unordered_map<std::string, Told> told;              // uid -> what its condition says
  std::unordered_map<std::string, std::string> in_flight;  // uid -> node
  // Victims whose end was asked for and has not been seen yet: whoever is decided on again meanwhile names
  // them again.
  std::set<std::string> leaving;              // UIDs
  std::unique_ptr<sched::Measures> measures;  // null: nobody reads them
  std::set<std::string> gated;                // UIDs
  // Pods that wait for a scheduler of another name, which has said nothing yet: after a while they hear so.
  std::unordered_map<std::string, std::pair<std::int64_t, Object>> strangers;  // by UID; until when; 0: told
  std::set<std::pair<std::int64_t, std::string>> stranger_due;                 // (until when, UID)
  std::unordered_map<std::string, std::optional<Selector>> selectors;          // of default constraints
  std::vector<DisruptionBudget> budgets;
  bool budgets_stale = true;

  struct Placed {
    Object pod;
    PodShape shape;
    std::string node;
    std::vector<VolumeChoice> volumes;
    std::int64_t begun_ns = 0;     // the attempt
    std::int64_t deadline_ns = 0;  // of what it waits for
    // Since when it is in the queue, and how many attempts have failed.
    std::optional<std::pair<std::int64_t, std::uint32_t>> history = {};
    std::int64_t bind_ns = 0;    // when its binding was asked for
    bool passed_binder = false;  // an extender that may be passed over did not bind it
  };
  std::map<std::string, Placed> awaiting_volumes, awaiting_permit;  // by UID

  // Extenders are asked without the mutex, about one pod at a time, as upstream does: what one was promised
  // is counted before they hear of the next. Pods that they are for stand in line meanwhile, all others go
  // on.
  std::vector<SchedulerExtender> extenders;
  std::shared_ptr<HttpClient> http;  // null: there are no extenders
  struct Question {
    const SchedulerExtender* extender = nullptr;
    bool filters = false;  // else it gives priorities
  };
  struct Scores {
    const SchedulerExtender* extender = nullptr;
    std::map<std::string, std::int64_t> of;  // by node, 0..10
  };
  struct Inquiry {
    Object pod;
    std::vector<Question> questions;
    std::size_t next = 0;
    std::set<std::string> asked;                 // nodes at the beginning
    std::vector<std::string> left;               // of those
    std::map<std::string, std::string> refused;  // the others, and why
    std::vector<Scores> scores;
    std::string failure;  // not empty: the pod goes no further now
    std::int64_t begun_ns = 0;
    bool again = false;     // the question was repeated
    bool answered = false;  // under the mutex; before it, only the call that is under way touches the rest
  };
  std::shared_ptr<Inquiry> inquiry;
  using Turn = std::tuple<std::int64_t, std::uint64_t, std::string>;  // minus priority, number, UID
  std::set<Turn> line;
  std::unordered_map<std::string, Turn> in_line;  // by UID
  std::uint64_t line_number = 0;
  std::optional<Engine::TimerId> timer;
  bool placing = false;
  bool started = false;
  bool stopped = false;
  SchedulerStats stats;

  Impl(Engine& engine, Client client, SchedulerOptions how);
  void make_queue();
  std::int64_t now() const { return engine.clock().now().steady_ns; }

  template <class F>
  std::function<void()> step(F run) {
    return [weak = weak_from_this(), run = std::move(run)]() mutable {
      if (const auto self = weak.lock()) run(*self);
    };
  }

  // ---- what happens in the cluster ----

  using Handler = void (Impl::*)(const Object& old, const Object& now);
  void watch(const ResourceRef& resource, Handler handler);
  Result<void> configure();
  Result<void> start();
  void node_changed(const Object& old, const Object& now_object);
  void namespace_changed(const Object& old, const Object& now_object);
  void volume_changed(const Object& old, const Object& now_object);
  void claim_changed(const Object& old, const Object& now_object);
  void class_changed(const Object& old, const Object& now_object);
  void csi_node_changed(const Object& old, const Object& now_object);
  void csi_driver_changed(const Object& old, const Object& now_object);
  void capacity_changed(const Object& old, const Object& now_object);
  void owner_changed(const Object& old, const Object& now_object);
  void budget_changed(const Object&, const Object&);
  const SchedulingProfile* profile_of(const Object& pod) const;
  static bool has_gates(const Object& pod);

  // A pod that waits for a node, gated or not.
  bool wants_node(const Object& pod) const;

  // Under the mutex. Whose scheduler is not this one: `now_object` is empty when it is gone.
  void note_stranger(const std::string& uid, const Object& now_object);
  // Those of them that have waited long enough are told.
  void tell_strangers();

  // Under the mutex. What the pod carried through the queue, or promised to it, is no more.
  void forget_waiting(const std::string& uid);
  void pod_changed(const Object& old, const Object& now_object);

  // ---- shapes ----

  // helper.DefaultSelector: the Services that select the pod, and its ReplicaSet, StatefulSet or
  // ReplicationController. nullopt: none of these.
  std::optional<Selector> default_selector(const Object& pod);
  PodShape shape_of(const Object& pod);
  PlaceOptions how_to_place(const SchedulingProfile& profile);
  // The same, measured.
  PlaceOptions how_to_decide(const SchedulingProfile& profile);
  const std::vector<DisruptionBudget>& current_budgets();

  // Takes the mutex. `question` is asked about the cluster as it is without this pod.
  void ask_about(
      const Object& pod,
      const std::function<void(const SchedulingSnapshot&, const PodShape&, const PlaceOptions&)>& question);

  // ---- a turn ----

  // Under the mutex.
  bool has_work();

  // Starts a turn of placing unless one runs.
  void pump();

  struct Refusal {
    Object pod;
    std::string reason, message;
    std::optional<std::string> nominated;  // to write; empty text: to take away
    bool quiet = false;                    // no Event
  };
  struct Outcome {
    std::vector<Placed> placed;
    std::vector<Refusal> refused;
    std::vector<std::pair<Object, Object>> victims;  // victim, preemptor
    std::vector<SchedulingDecision> decisions;
    std::map<std::string, std::string> failed_gangs;    // group -> why, in this turn
    std::map<std::string, std::string> promised_nodes;  // UID of a member of those -> its node
    std::shared_ptr<Inquiry> ask;                       // the extenders, when the mutex is free
  };

  void turn();

  // Under the mutex. A full queue left pods out: those that still want a node come again.
  void relist();

  // Under the mutex. One question per kind of waiting pod.
  void wake_helped();

  // Under the mutex. What the pod's claims forbid whatever the node; empty: nothing.
  std::string volume_error(const PodShape& pod, const SchedulingProfile& profile) const;

  // Under the mutex.
  void decide(const PodShape& queued, Outcome& outcome);

  // Under the mutex. The pod's turn: it is placed, refused, or has failed.
  void settle(const Object& object, const PodShape& pod, const PlaceOptions& how, std::int64_t begun,
              SchedulingDecision decision, Outcome& outcome);

  // Under the mutex. Fits nowhere: others may have to make room, and somebody has to be told.
  void refuse(const Object& object, const PodShape& pod, Unschedulable& why, const PlaceOptions& how,
              Outcome& outcome, SchedulingDecision& decision);

  // Under the mutex. The pod waits for a change, and is told why if that is news.
  void park_and_tell(const Object& object, const PodShape& pod, std::string message, std::uint32_t hints,
                     std::optional<std::string> nominated, Outcome& outcome);

  // ---- extenders ----

  bool asks_extenders(const Object& pod) const;
  // Under the mutex.
  void stand_in_line(const PodShape& pod);
  // Under the mutex. The first in line is taken to the extenders, unless one is there.
  void begin_inquiry(Outcome& outcome);
  // Under the mutex. What they said decides.
  void conclude_inquiry(const Inquiry& said, Outcome& outcome);
  // Not under the mutex, on a worker: the next question; none is left: the answer is ready.
  void ask_next(const std::shared_ptr<Inquiry>& inquiry);
  void heard(const std::shared_ptr<Inquiry>& inquiry, const Result<HttpResponse>& answer);
  HttpRequest request_to(const SchedulerExtender& extender, const std::string& verb, std::string body) const;
  // Who binds the pod instead of us; nullptr: nobody.
  const SchedulerExtender* binder_of(const Object& pod) const;
  void bind_by(const SchedulerExtender& extender, Placed placed);

  // ---- gangs ----

  // What a pod belongs to: a group of a Workload (spec.workloadRef), the PodGroup of scheduler-plugins (a
  // label) or of Volcano (an annotation). No name: none.
  struct GroupRef {
    ResourceRef resource;
    std::string name, part, replica;  // the latter two of a Workload: which group, which replica of it
    friend bool operator==(const GroupRef&, const GroupRef&) = default;
  };
  static GroupRef group_of(const Object& pod);

  // Workloads and PodGroups are custom resources: they are watched from the first pod on that names one.
  Object pod_group(const std::string& ns, const GroupRef& group);

  struct GroupRules {
    std::string missing;                 // not empty: what has to be there first
    std::optional<std::size_t> minimum;  // none: its pods are scheduled one by one
    std::string id;
  };
  GroupRules rules_of(const std::string& ns, const GroupRef& group);

  // Under the mutex. All members that wait are decided on together; false: the pod is no member of a gang.
  bool decide_gang(const Object& object, const PodShape& pod, const PlaceOptions& how, Outcome& outcome,
                   SchedulingDecision& decision);

  // Under the mutex. A gang that does not fit as it is: others make room, if all of it fits then.
  void make_room_for_gang(const Object& object, const std::vector<PodShape>& waiting, std::size_t bound,
                          std::size_t minimum, const PlaceOptions& how, Outcome& outcome,
                          SchedulingDecision& decision);

  // Under the mutex. The node is kept for the pod; those of lower priority that waited for it do so no more.
  void promise(const PodShape& pod, const std::string& node);
  void make_way(const std::vector<std::string>& victims, const Object& preemptor, Outcome& outcome);
  void evict(const Object& victim, const Object& preemptor);
  void complain(const std::string& what, const Error& error);

  // ---- what a pod is told ----

  // Condition, nomination and Event of a pod that has no node.
  void tell(const Object& pod, const std::string& reason, const std::string& message,
            const std::optional<std::string>& nominated, bool event = true);

  // The condition could not be written: it is said again at the next attempt, which comes soon.
  void not_told(const Object& pod, const Error& error);

  // ---- from placed to bound ----

  // Not under the mutex, on a worker: plugins, then volumes, then the binding.
  void advance(std::vector<Placed> placed);
  std::vector<SchedulerPlugin*> plugins_for(const Object& pod) const;

  // One call into a plugin; an answer that is no success is the pod's failure.
  Result<PermitAnswer> ask(
      SchedulerPlugin& plugin, const Placed& placed, int deadlines,
      std::function<Result<PermitAnswer>(SchedulerPlugin&, const PodShape&, const std::string&)> call);
  static Result<PermitAnswer> as_answer(Result<void> result);
  void unreserve(const Placed& placed);

  // Reserve and Permit. False: the pod goes no further now.
  bool reserve(Placed& placed);
  bool pre_bind(const Placed& placed);

  // A placed pod cannot be bound: its place is free again, and it gets another try later.
  void give_up(const Placed& placed, const std::string& message);

  // Under the mutex. A volume that is promised to a claim is no other's.
  void assume_volumes(const PodShape& pod, const std::vector<VolumeChoice>& choices);
  void forget_volumes(const std::vector<VolumeChoice>& choices, const std::string&);

  // VolumeBinding's PreBind: the volume is given its claim, or the claim its node; the binder does the rest.
  void bind_volumes(Placed placed);
  void volume_failed(const std::string& uid, const VolumeChoice& choice, const Error& error);

  // Pods whose claims are all bound now go on; those that waited too long start over.
  void check_volumes();
  bool permitted(const std::string& ns, const std::string& name, const std::optional<std::string>& refusal);
  void check_permits();
  ApiRequest binding(const Placed& placed) const;
  void bind(std::vector<Placed> placed);
  void bound(const Placed& placed, const std::optional<Error>& error);
  // An extension point outside of place() has ended.
  void measure_point(const Object& pod, const char* point, const char* status, std::int64_t begun);
  // Under the mutex. The attempt is over.
  void measure(const Placed& placed, const char* result);

  // Under the mutex.
  void arm_timer();
  void stop();
};

}  // namespace orchestra
