// The scheduler's shell: informers in, bindings out; see scheduler.hpp.
//
// One `mutex` guards snapshot and queue. Placing runs on one worker at a time and only touches memory;
// requests are answered by callbacks, so no thread ever waits for the server. A placed pod is assumed: it
// counts on its node from that moment, and the pod's own event (or a failed binding) makes the assumption
// true (or undone). On its way to the binding it may wait for volumes or for a plugin's permit.
#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <set>

#include "controllers/common/pods.hpp"
#include "controllers/scheduler/queue.hpp"
#include "controllers/scheduler/shell/guard.hpp"
#include "orchestra/gang.hpp"
#include "orchestra/reconciler.hpp"
#include "orchestra/scheduler.hpp"
#include "sched/snapshot.hpp"

namespace orchestra {

using namespace controllers;
using sched::Hint;

namespace {

constexpr std::size_t kPlacementsPerTurn = 1024;  // then events get the mutex
constexpr std::size_t kRetoldMax = 1000;          // waiting pods that a new node gives another look
constexpr std::size_t kSelectorsMax = 4096;       // remembered default selectors
constexpr int kPreBindDeadlines = 100;

ResourceRef csi_nodes() { return {"storage.k8s.io/v1", "csinodes"}; }

}  // namespace

std::string SchedulingDecision::text() const {
  if (const Placement* at = decision.placement()) {
    return pod + " -> " + at->node + " (score " + std::to_string(at->score) + ", " +
           std::to_string(at->feasible) + " feasible)";
  }
  if (const PlacementFailed* failed = decision.failed())
    return pod + ": plugin " + failed->plugin + ": " + failed->message;
  return pod + ": " + decision.unschedulable()->message() +
         (preempted_on.empty() ? "" : " (makes room on " + preempted_on + ")");
}

struct Scheduler::Impl : std::enable_shared_from_this<Scheduler::Impl> {
  Engine& engine;
  const Client client;
  SchedulerOptions options;
  std::vector<SchedulingProfile> profiles;
  InformerSet informers;
  InformerSet groups;  // PodGroups, where pods name one
  EventRecorder events;
  std::function<void(const SchedulingDecision&)> on_decision;
  sched::PluginGuard guard;

  mutable std::mutex mutex;
  std::condition_variable ended;
  mutable SchedulingSnapshot snapshot;
  std::unique_ptr<sched::SchedulingQueue> queue;
  struct Told {
    std::string message;
    std::int64_t at_ns = 0;
  };
  std::unordered_map<std::string, Told> told;                          // uid -> what its condition says
  std::unordered_map<std::string, std::string> in_flight;              // uid -> node
  std::set<std::string> gated;                                         // UIDs
  std::unordered_map<std::string, std::optional<Selector>> selectors;  // of default constraints
  std::vector<DisruptionBudget> budgets;
  bool budgets_stale = true;

  struct Placed {
    Object pod;
    PodShape shape;
    std::string node;
    std::vector<VolumeChoice> volumes;
    std::int64_t deadline_ns = 0;  // of what it waits for
  };
  std::map<std::string, Placed> awaiting_volumes, awaiting_permit;  // by UID
  std::optional<Engine::TimerId> timer;
  bool placing = false;
  bool started = false;
  bool stopped = false;
  SchedulerStats stats;

  Impl(Engine& engine, Client client, SchedulerOptions how)
      : engine(engine),
        client(client),
        options(std::move(how)),
        informers(engine, client),
        groups(engine, client),
        events(engine, client),
        guard(engine, options.plugin_deadline,
              std::make_shared<std::vector<std::shared_ptr<SchedulerPlugin>>>(options.plugins)) {
    SchedulingProfile profile;
    profile.name = options.name;
    profiles = {profile};
    make_queue();
  }

  void make_queue() {
    sched::QueueOptions how;
    how.backoff_min_ns = options.backoff_min.count();
    how.backoff_max_ns = options.backoff_max.count();
    how.flush_ns = options.flush_interval.count();
    queue = std::make_unique<sched::SchedulingQueue>(how);
  }

  std::int64_t now() const { return engine.clock().now().steady_ns; }

  template <class F>
  std::function<void()> step(F run) {
    return [weak = weak_from_this(), run = std::move(run)]() mutable {
      if (const auto self = weak.lock()) run(*self);
    };
  }

  // ---- what happens in the cluster ----

  using Handler = void (Impl::*)(const Object& old, const Object& now);
  void watch(const ResourceRef& resource, Handler handler) {
    informers.informer(resource).on_event(
        [weak = weak_from_this(), handler](const Object& old, const Object& now) {
          if (const auto self = weak.lock()) ((*self).*handler)(old, now);
        });
  }

  Result<void> configure() {
    if (options.config_yaml.empty()) return {};
    std::vector<std::string> names;
    for (const auto& plugin : options.plugins) names.push_back(plugin->name());
    ORC_ASSIGN(const SchedulerConfiguration parsed,
               SchedulerConfiguration::parse(options.config_yaml, names));
    profiles = parsed.profiles;
    options.backoff_min = parsed.backoff_min;
    options.backoff_max = parsed.backoff_max;
    make_queue();
    return {};
  }

  Result<void> start() {
    watch(nodes(), &Impl::node_changed);
    watch(pods(), &Impl::pod_changed);
    watch(namespaces(), &Impl::namespace_changed);
    watch(persistent_volumes(), &Impl::volume_changed);
    watch(persistent_volume_claims(), &Impl::claim_changed);
    watch(storage_classes(), &Impl::class_changed);
    watch(csi_nodes(), &Impl::csi_node_changed);
    watch(services(), &Impl::owner_changed);
    watch(disruption_budgets(), &Impl::budget_changed);
    for (const ResourceRef& resource : {replica_sets(), stateful_sets(), replication_controllers()})
      informers.informer(resource);
    ORC_TRY(informers.start());
    ORC_TRY(groups.start());
    // Placing begins when all lists are complete: an empty cluster is not the same as an unknown one.
    for (const ResourceRef& resource :
         {nodes(), pods(), namespaces(), persistent_volumes(), persistent_volume_claims(), storage_classes(),
          csi_nodes(), services(), disruption_budgets(), replica_sets(), stateful_sets(),
          replication_controllers()}) {
      informers.informer(resource).wait_synced().on_ready([weak = weak_from_this()](const Result<void>&) {
        if (const auto self = weak.lock()) self->pump();
      });
    }
    return {};
  }

  void node_changed(const Object& old, const Object& now_object) {
    {
      std::lock_guard lock(mutex);
      const std::size_t before = snapshot.node_count();
      if (!now_object) {
        snapshot.remove_node(old.name());
        queue->changed(Hint::topology);
      } else {
        NodeShape shape = NodeShape::from_object(now_object);
        shape.shares_ports = shape.shares_ports || options.process_level;
        if (snapshot.set_node(shape)) queue->changed(Hint::all);
      }
      // Their number is part of what waiting pods are told ("0/2 nodes ...").
      if (snapshot.node_count() != before && queue->waiting() <= kRetoldMax) queue->wake_all(now());
    }
    pump();
  }

  void namespace_changed(const Object& old, const Object& now_object) {
    {
      std::lock_guard lock(mutex);
      const Object& it = now_object ? now_object : old;
      if (snapshot.set_namespace(it.name(), now_object ? it.labels() : LabelMap()))
        queue->changed(Hint::topology);
    }
    pump();
  }

  void volume_changed(const Object& old, const Object& now_object) {
    {
      std::lock_guard lock(mutex);
      const bool changed = now_object ? snapshot.set_volume(VolumeShape::from_object(now_object))
                                      : snapshot.remove_volume(old.name());
      if (changed) queue->changed(Hint::volume);
    }
    pump();
  }

  void claim_changed(const Object& old, const Object& now_object) {
    {
      std::lock_guard lock(mutex);
      const bool changed = now_object ? snapshot.set_claim(ClaimShape::from_object(now_object))
                                      : snapshot.remove_claim(old.ns(), old.name());
      if (changed) queue->changed(Hint::volume);
    }
    check_volumes();
    pump();
  }

  void class_changed(const Object& old, const Object& now_object) {
    {
      std::lock_guard lock(mutex);
      const bool changed = now_object ? snapshot.set_storage_class(StorageClassShape::from_object(now_object))
                                      : snapshot.remove_storage_class(old.name());
      if (changed) queue->changed(Hint::volume);
    }
    pump();
  }

  void csi_node_changed(const Object& old, const Object& now_object) {
    {
      std::lock_guard lock(mutex);
      std::map<std::string, std::int64_t> limits;
      if (now_object) limits = csi_limits_of(now_object);
      if (snapshot.set_volume_limits(now_object ? now_object.name() : old.name(), limits))
        queue->changed(Hint::volume);
    }
    pump();
  }

  void owner_changed(const Object& old, const Object& now_object) {
    if (old && now_object &&
        same_meaning(find(tree(old), "/spec/selector"), find(tree(now_object), "/spec/selector"))) {
      return;
    }
    std::lock_guard lock(mutex);
    selectors.clear();
  }

  void budget_changed(const Object&, const Object&) {
    std::lock_guard lock(mutex);
    budgets_stale = true;
  }

  const SchedulingProfile* profile_of(const Object& pod) const {
    const std::string name = string_at(tree(pod), "/spec/schedulerName");
    if (name.empty()) return &profiles.front();
    for (const SchedulingProfile& profile : profiles) {
      if (profile.name == name) return &profile;
    }
    return nullptr;
  }

  static bool has_gates(const Object& pod) {
    const json::array* gates = array_at(tree(pod), "/spec/schedulingGates");
    return gates != nullptr && !gates->empty();
  }

  // A pod that waits for a node, gated or not.
  bool wants_node(const Object& pod) const {
    return string_at(tree(pod), "/spec/nodeName").empty() && !pod.deleting() && !pod_terminal(pod) &&
           profile_of(pod) != nullptr;
  }

  // Under the mutex. What the pod carried through the queue, or promised to it, is no more.
  void forget_waiting(const std::string& uid) {
    queue->remove(uid);
    told.erase(uid);
    in_flight.erase(uid);
    gated.erase(uid);
    awaiting_permit.erase(uid);
    awaiting_volumes.erase(uid);
    snapshot.remove_nomination(uid);
  }

  void pod_changed(const Object& old, const Object& now_object) {
    bool gate = false;
    {
      std::lock_guard lock(mutex);
      const Object& pod = now_object ? now_object : old;
      const std::string node = string_at(tree(pod), "/spec/nodeName");
      if (!now_object || pod_terminal(pod)) {
        forget_waiting(pod.uid());
        if (!snapshot.remove_pod(pod.uid()).empty())
          queue->changed(Hint::room | Hint::topology | Hint::volume | Hint::plugin);
      } else if (!node.empty()) {
        forget_waiting(pod.uid());
        const bool moved = snapshot.node_of(pod.uid()) != node;
        const bool altered =
            !old || old.labels() != pod.labels() || old.deleting() != pod.deleting() ||
            string_at(tree(old), "/status/startTime") != string_at(tree(pod), "/status/startTime") ||
            (!string_at(tree(old), "/spec/nodeName").empty() &&
             *find(tree(old), "/spec") != *find(tree(pod), "/spec"));
        if (moved || altered) {
          snapshot.set_pod(PodShape::from_object(pod), node);
          queue->changed(Hint::topology | Hint::plugin |
                         (old && !moved ? std::uint32_t{Hint::room} : std::uint32_t{0}));
        }
      } else if (wants_node(pod) && has_gates(pod)) {
        queue->remove(pod.uid());
        gate = gated.insert(pod.uid()).second;
      } else if (wants_node(pod)) {
        gated.erase(pod.uid());
        const bool same = old && old.labels() == pod.labels() &&
                          same_meaning(find(tree(old), "/spec"), find(tree(pod), "/spec"));
        if (!in_flight.contains(pod.uid()) && !(same && queue->contains(pod.uid())))
          queue->add(shape_of(pod), now());
        const std::string promised = string_at(tree(pod), "/status/nominatedNodeName");
        if (!old && !promised.empty()) snapshot.nominate(shape_of(pod), promised);
      } else {
        forget_waiting(pod.uid());
      }
    }
    if (gate) {
      tell(now_object, "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates", {},
           false);
    }
    pump();
  }

  // ---- shapes ----

  // helper.DefaultSelector: the Services that select the pod, and its ReplicaSet, StatefulSet or
  // ReplicationController. nullopt: none of these.
  std::optional<Selector> default_selector(const Object& pod) {
    const OwnerReference* owner = pod.controller();
    std::string key = pod.ns() + '\n' + (owner == nullptr ? std::string() : owner->uid);
    for (const auto& [name, value] : pod.labels()) key += '\n' + name + '=' + value;
    if (const auto found = selectors.find(key); found != selectors.end()) return found->second;
    std::map<std::string, std::string> merged;
    for (const Object& service : informers.informer(services()).cache().list(pod.ns())) {
      const json::object* selector = object_at(tree(service), "/spec/selector");
      if (selector == nullptr || selector->empty()) continue;
      std::map<std::string, std::string> wanted;
      for (const auto& [name, value] : *selector) {
        if (value.is_string()) wanted[std::string(name)] = value.get_string();
      }
      if (Selector::from_map(wanted).matches(pod.labels())) merged.insert(wanted.begin(), wanted.end());
    }
    bool found_owner = owner == nullptr;
    std::vector<Selector::Requirement> more;
    if (owner != nullptr && owner->kind == "ReplicationController") {
      const Object controller = informers.get(replication_controllers(), pod.ns(), owner->name);
      const json::object* selector = controller ? object_at(tree(controller), "/spec/selector") : nullptr;
      found_owner = selector != nullptr;
      if (selector != nullptr) {
        for (const auto& [name, value] : *selector) {
          if (value.is_string()) merged[std::string(name)] = value.get_string();
        }
      }
    } else if (owner != nullptr && (owner->kind == "ReplicaSet" || owner->kind == "StatefulSet")) {
      const Object controller = informers.get(owner->kind == "ReplicaSet" ? replica_sets() : stateful_sets(),
                                              pod.ns(), owner->name);
      const json::value* selector = controller ? find(tree(controller), "/spec/selector") : nullptr;
      if (selector != nullptr) {
        if (auto parsed = Selector::from_label_selector(to_json(*selector))) more = parsed->requirements();
        found_owner = true;
      }
    } else {
      found_owner = true;
    }
    std::vector<Selector::Requirement> all = Selector::from_map(merged).requirements();
    all.insert(all.end(), more.begin(), more.end());
    std::optional<Selector> made;
    if (!all.empty()) made = Selector::from_requirements(std::move(all));
    // An owner whose object is not here yet is looked for again.
    if (found_owner) {
      if (selectors.size() >= kSelectorsMax) selectors.clear();
      selectors.emplace(std::move(key), made);
    }
    return made;
  }

  PodShape shape_of(const Object& pod) {
    PodShape shape = PodShape::from_object(pod);
    const SchedulingProfile* profile = profile_of(pod);
    if (shape.spread.empty() && profile != nullptr && !profile->default_constraints.empty())
      shape.default_spread = default_selector(pod);
    return shape;
  }

  PlaceOptions how_to_place(const SchedulingProfile& profile) {
    PlaceOptions how;
    how.tie_seed = options.tie_seed;
    how.profile = &profile;
    for (const auto& plugin : options.plugins) {
      if (!profile.disabled_filters.contains(plugin->name())) how.plugins.push_back(plugin.get());
    }
    if (!how.plugins.empty()) {
      how.guard = [this](std::function<void()> call) { return guard.run(std::move(call)); };
    }
    return how;
  }

  const std::vector<DisruptionBudget>& current_budgets() {
    if (!std::exchange(budgets_stale, false)) return budgets;
    budgets.clear();
    for (const Object& object : informers.informer(disruption_budgets()).cache().list()) {
      DisruptionBudget budget;
      budget.ns = object.ns();
      budget.name = object.name();
      const json::value* selector = find(tree(object), "/spec/selector");
      budget.selector = selector == nullptr
                            ? Selector::nothing()
                            : Selector::from_label_selector(to_json(*selector)).value_or(Selector::nothing());
      budget.allowed = int_at(tree(object), "/status/disruptionsAllowed");
      if (const json::object* disrupted = object_at(tree(object), "/status/disruptedPods")) {
        for (const auto& [name, since] : *disrupted) budget.disrupted.insert(std::string(name));
      }
      budgets.push_back(std::move(budget));
    }
    return budgets;
  }

  // ---- a turn ----

  // Under the mutex.
  bool has_work() {
    const auto due = queue->next_due();
    return (queue->active() > 0 && in_flight.size() < options.in_flight_max) || queue->wants_wake() ||
           (due && *due <= now());
  }

  // Starts a turn of placing unless one runs.
  void pump() {
    std::lock_guard lock(mutex);
    if (placing || stopped || !started || !informers.synced()) return;
    if (!has_work()) return arm_timer();
    placing = true;
    const auto queued = engine.post_blocking([self = shared_from_this()] { self->turn(); });
    if (!queued) placing = false;
  }

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
    std::map<std::string, std::string> failed_gangs;  // UID of the group -> why, in this turn
  };

  void turn() {
    Outcome outcome;
    {
      std::lock_guard lock(mutex);
      wake_helped();
      for (std::size_t i = 0; i < kPlacementsPerTurn && !stopped && in_flight.size() < options.in_flight_max;
           ++i) {
        const auto pod = queue->take(now());
        if (!pod) break;
        decide(*pod, outcome);
      }
      // Who was placed may be whom others want to be with.
      if (!outcome.placed.empty()) queue->changed(Hint::topology);
    }
    for (const SchedulingDecision& decision : outcome.decisions) {
      if (on_decision) on_decision(decision);
    }
    for (const Refusal& each : outcome.refused)
      tell(each.pod, each.reason, each.message, each.nominated, !each.quiet);
    for (const auto& [victim, preemptor] : outcome.victims) evict(victim, preemptor);
    advance(std::move(outcome.placed));
    {
      std::lock_guard lock(mutex);
      placing = false;
      arm_timer();
      ended.notify_all();
    }
    pump();
  }

  // Under the mutex. One question per kind of waiting pod.
  void wake_helped() {
    if (!queue->wants_wake()) return;
    queue->wake(now(), [&](const PodShape& pod) {
      const Object object = informers.get(pods(), pod.ns, pod.name);
      const SchedulingProfile* profile = object ? profile_of(object) : nullptr;
      PlaceOptions how;
      how.profile = profile == nullptr ? &profiles.front() : profile;
      return fits_somewhere(snapshot, pod, how);
    });
  }

  // Under the mutex.
  void decide(const PodShape& queued, Outcome& outcome) {
    const Object object = informers.get(pods(), queued.ns, queued.name);
    const SchedulingProfile* profile = object ? profile_of(object) : nullptr;
    if (!object || object.uid() != queued.uid || profile == nullptr) {
      queue->remove(queued.uid);
      return;
    }
    // What its owner is may have become known meanwhile.
    PodShape pod = queued;
    if (pod.spread.empty() && !pod.default_spread && object.controller() != nullptr &&
        !profile->default_constraints.empty()) {
      pod.default_spread = default_selector(object);
    }
    const PlaceOptions how = how_to_place(*profile);
    SchedulingDecision decision{pod.ns + "/" + pod.name, {}, {}};
    if (decide_gang(object, pod, how, outcome, decision)) {
      if (on_decision) outcome.decisions.push_back(std::move(decision));
      return;
    }
    decision.decision = place(snapshot, pod, how);
    if (const Placement* at = decision.decision.placement()) {
      snapshot.assume(pod, at->node);
      in_flight[pod.uid] = at->node;
      assume_volumes(pod, at->volumes);
      outcome.placed.push_back({object, pod, at->node, at->volumes});
    } else if (const PlacementFailed* failed = decision.decision.failed()) {
      ++stats.errors;
      queue->retry(pod.uid, now());
      outcome.refused.push_back(
          {object, "SchedulerError", "plugin " + failed->plugin + ": " + failed->message, {}});
    } else {
      refuse(object, pod, std::get<Unschedulable>(decision.decision.answer), how, outcome, decision);
    }
    if (on_decision) outcome.decisions.push_back(std::move(decision));
  }

  // Under the mutex. Fits nowhere: others may have to make room, and somebody has to be told.
  void refuse(const Object& object, const PodShape& pod, Unschedulable& why, const PlaceOptions& how,
              Outcome& outcome, SchedulingDecision& decision) {
    ++stats.unschedulable;
    std::optional<std::string> nominated;
    if (why.nodes > 0 && (why.resolvable > 0 || pod.never_preempts) &&
        !how.profile->disabled_filters.contains("DefaultPreemption")) {
      Preemption preemption = preempt(snapshot, pod, current_budgets(), how);
      why.preemption = std::move(preemption.why);
      why.preemption_note = std::move(preemption.note);
      if (!preemption.node.empty()) {
        ++stats.preemptions;
        decision.preempted_on = preemption.node;
        promise(pod, preemption.node);
        nominated = preemption.node;
        for (const std::string& uid : preemption.victims) {
          const Object victim = informers.informer(pods()).cache().by_uid(uid);
          if (victim && !victim.deleting()) outcome.victims.emplace_back(victim, object);
        }
        stats.victims += preemption.victims.size();
      } else if (why.preemption_note.empty() && !snapshot.nominated_node(pod.uid).empty()) {
        snapshot.remove_nomination(pod.uid);
        nominated = std::string();
      }
    }
    park_and_tell(object, pod, why.message(), Hint::of(why.plugins), std::move(nominated), outcome);
  }

  // Under the mutex. The pod waits for a change, and is told why if that is news.
  void park_and_tell(const Object& object, const PodShape& pod, std::string message, std::uint32_t hints,
                     std::optional<std::string> nominated, Outcome& outcome) {
    Told& last = told[pod.uid];
    const bool talked = last.at_ns != 0 && now() - last.at_ns < options.status_interval.count();
    const bool news = last.message != message;
    if (news && talked && !nominated) {
      queue->retry(pod.uid, now());  // there is news, but not so soon after the last
      return;
    }
    queue->park(pod.uid, now(), hints);
    if (!news && !nominated) return;
    last = {message, now()};
    outcome.refused.push_back({object, "Unschedulable", std::move(message), std::move(nominated), !news});
  }

  // ---- gangs ----

  // The PodGroup of a pod: of scheduler-plugins (a label) or of Volcano (an annotation). Empty: none.
  struct GroupRef {
    ResourceRef resource;
    std::string name;
    friend bool operator==(const GroupRef&, const GroupRef&) = default;
  };
  static GroupRef group_of(const Object& pod) {
    const auto label = pod.labels().find("scheduling.x-k8s.io/pod-group");
    if (label != pod.labels().end() && !label->second.empty())
      return {{"scheduling.x-k8s.io/v1alpha1", "podgroups"}, label->second};
    const auto named = pod.annotations().find("scheduling.k8s.io/group-name");
    if (named != pod.annotations().end() && !named->second.empty())
      return {{"scheduling.volcano.sh/v1beta1", "podgroups"}, named->second};
    return {};
  }

  // PodGroups are custom resources: they are watched from the first pod on that names one.
  Object pod_group(const std::string& ns, const GroupRef& group) {
    if (groups.cache(group.resource) == nullptr) {
      groups.informer(group.resource).on_event([weak = weak_from_this()](const Object&, const Object&) {
        const auto self = weak.lock();
        if (!self) return;
        // Posted: the informer tells with its own lock held, and it was made with the mutex held.
        self->engine.post([weak] {
          const auto still = weak.lock();
          if (!still) return;
          {
            std::lock_guard lock(still->mutex);
            still->queue->changed(Hint::all);
            still->queue->wake_all(still->now());
          }
          still->pump();
        });
      });
    }
    return groups.get(group.resource, ns, group.name);
  }

  // Under the mutex. All members that wait are decided on together; false: the pod is no member of a gang.
  bool decide_gang(const Object& object, const PodShape& pod, const PlaceOptions& how, Outcome& outcome,
                   SchedulingDecision& decision) {
    const GroupRef group = group_of(object);
    if (group.name.empty()) return false;
    Unschedulable why;
    why.nodes = snapshot.node_count();
    const auto refuse_all = [&](std::string message) {
      ++stats.unschedulable;
      why.for_all = message;
      decision.decision = {why};
      park_and_tell(object, pod, std::move(message), Hint::all, std::nullopt, outcome);
    };
    const Object record = pod_group(object.ns(), group);
    if (!record) {
      refuse_all("the PodGroup " + object.ns() + "/" + group.name + " of the pod is not there");
      return true;
    }
    if (const auto failed = outcome.failed_gangs.find(record.uid()); failed != outcome.failed_gangs.end()) {
      refuse_all(failed->second);
      return true;
    }
    const std::size_t minimum =
        static_cast<std::size_t>(std::max<std::int64_t>(1, int_at(tree(record), "/spec/minMember", 1)));
    std::size_t bound = 0;
    std::vector<PodShape> waiting;
    std::map<std::string, Object> members;
    for (const Object& other : informers.informer(pods()).cache().list(object.ns())) {
      if (!(group_of(other) == group) || pod_terminal(other) || other.deleting()) continue;
      if (!string_at(tree(other), "/spec/nodeName").empty() || in_flight.contains(other.uid())) {
        ++bound;
      } else if (wants_node(other) && !has_gates(other) && queue->contains(other.uid())) {
        waiting.push_back(shape_of(other));
        members[other.uid()] = other;
      }
    }
    if (bound + waiting.size() < minimum) {
      refuse_all("the group " + group.name + " has " + std::to_string(bound + waiting.size()) + " of the " +
                 std::to_string(minimum) + " pods that it needs");
      return true;
    }
    Gang gang = place_gang(snapshot, waiting, bound, minimum, how);
    if (!gang.placed) {
      outcome.failed_gangs[record.uid()] = gang.message;
      refuse_all(std::move(gang.message));
      return true;
    }
    std::map<std::string, const PodShape*> shapes;
    for (const PodShape& each : waiting) shapes[each.uid] = &each;
    bool own = false;
    for (auto& [uid, at] : gang.placements) {
      if (uid == pod.uid) {
        own = true;
        decision.decision = {at};
      } else {
        queue->hold(uid);
      }
      in_flight[uid] = at.node;
      assume_volumes(*shapes.at(uid), at.volumes);
      outcome.placed.push_back({members.at(uid), *shapes.at(uid), at.node, at.volumes});
    }
    if (!own) refuse_all("the group " + group.name + " has enough pods, and there is no room for this one");
    return true;
  }

  // Under the mutex. The node is kept for the pod; those of lower priority that waited for it do so no more.
  void promise(const PodShape& pod, const std::string& node) {
    std::vector<std::string> lower;
    for (const auto& [uid, other] : snapshot.impl().nominations) {
      if (snapshot.nominated_node(uid) == node && other.pod.priority < pod.priority) lower.push_back(uid);
    }
    for (const std::string& uid : lower) snapshot.remove_nomination(uid);
    snapshot.nominate(pod, node);
  }

  void evict(const Object& victim, const Object& preemptor) {
    events.record(
        options.name, victim, "Normal", "Preempted",
        "Preempted by pod " + preemptor.uid() + " on node " + string_at(tree(victim), "/spec/nodeName"));
    const json::object condition{
        {"type", "DisruptionTarget"},
        {"status", "True"},
        {"reason", "PreemptionByScheduler"},
        {"message", profiles.front().name + ": preempting to accommodate a higher " + "priority pod"},
        {"lastTransitionTime", format_time(engine.clock().now().wall_ns)}};
    const json::object body{{"metadata", {{"uid", victim.uid()}}},
                            {"status", {{"conditions", json::array{condition}}}}};
    WriteOptions write;
    write.subresource = "status";
    write.fence = options.fence;
    client.patch("v1", "pods", victim.name(), victim.ns(), PatchType::strategic, to_json(body), write)
        .on_ready([weak = weak_from_this(), victim](const Result<Object>&) {
          // The condition is a courtesy: without it the pod has to go all the same.
          const auto self = weak.lock();
          if (!self) return;
          ApiRequest request;
          request.verb = "delete";
          request.resource = "pods";
          request.ns = victim.ns();
          request.name = victim.name();
          request.body = to_json(json::object{{"preconditions", {{"uid", victim.uid()}}}});
          request.fence = self->options.fence;
          self->client.request(std::move(request)).on_ready([weak, victim](const Result<ApiResponse>& done) {
            const auto again = weak.lock();
            if (again && !done && !done.error().is(Error::not_found))
              again->complain("preempting " + ObjectKey::of(victim).text(), done.error());
          });
        });
  }

  void complain(const std::string& what, const Error& error) {
    if (engine.logs(LogLevel::info)) engine.log(LogLevel::info, "scheduler", what + ": " + error.to_string());
  }

  // ---- what a pod is told ----

  // Condition, nomination and Event of a pod that has no node.
  void tell(const Object& pod, const std::string& reason, const std::string& message,
            const std::optional<std::string>& nominated, bool event = true) {
    if (event) events.record(options.name, pod, "Warning", "FailedScheduling", message);
    const json::object* present = find_condition(tree(pod), "PodScheduled");
    const bool was_false = present != nullptr && string_at(*present, "/status") == "False";
    if (was_false && string_at(*present, "/message") == message && string_at(*present, "/reason") == reason &&
        !nominated) {
      return;
    }
    const std::string since =
        was_false ? string_at(*present, "/lastTransitionTime") : format_time(engine.clock().now().wall_ns);
    const json::object condition{{"type", "PodScheduled"},
                                 {"status", "False"},
                                 {"reason", reason},
                                 {"message", message},
                                 {"lastTransitionTime", since}};
    json::object status{{"conditions", json::array{condition}}};
    if (nominated) {
      status["nominatedNodeName"] = nominated->empty() ? json::value(nullptr) : json::value(*nominated);
    }
    const json::object body{{"metadata", {{"uid", pod.uid()}}}, {"status", status}};
    WriteOptions write;
    write.subresource = "status";
    write.fence = options.fence;
    client.patch("v1", "pods", pod.name(), pod.ns(), PatchType::strategic, to_json(body), write)
        .on_ready([weak = weak_from_this(), pod](const Result<Object>& done) {
          const auto self = weak.lock();
          if (self && !done) self->not_told(pod, done.error());
        });
  }

  // The condition could not be written: it is said again at the next attempt, which comes soon.
  void not_told(const Object& pod, const Error& error) {
    complain("condition of " + ObjectKey::of(pod).text(), error);
    {
      std::lock_guard lock(mutex);
      ++stats.errors;
      told.erase(pod.uid());
      if (queue->contains(pod.uid())) queue->add(shape_of(pod), now());
    }
    pump();
  }

  // ---- from placed to bound ----

  // Not under the mutex, on a worker: plugins, then volumes, then the binding.
  void advance(std::vector<Placed> placed) {
    std::vector<Placed> ready;
    for (Placed& each : placed) {
      if (!options.plugins.empty() && !reserve(each)) continue;
      if (!each.volumes.empty()) {
        bind_volumes(std::move(each));
      } else if (options.plugins.empty() || pre_bind(each)) {
        ready.push_back(std::move(each));
      }
    }
    bind(std::move(ready));
  }

  std::vector<SchedulerPlugin*> plugins_for(const Object& pod) const {
    const SchedulingProfile* profile = profile_of(pod);
    std::vector<SchedulerPlugin*> all;
    for (const auto& plugin : options.plugins) {
      if (profile != nullptr && !profile->disabled_filters.contains(plugin->name()))
        all.push_back(plugin.get());
    }
    return all;
  }

  // One call into a plugin; an answer that is no success is the pod's failure.
  Result<PermitAnswer> ask(
      SchedulerPlugin& plugin, const Placed& placed, int deadlines,
      std::function<Result<PermitAnswer>(SchedulerPlugin&, const PodShape&, const std::string&)> call) {
    struct Answer {
      PodShape pod;
      std::string node;
      Result<PermitAnswer> result = Error(Error::internal, "scheduler", "no answer");
    };
    auto answer = std::make_shared<Answer>();
    answer->pod = placed.shape;
    answer->node = placed.node;
    const bool in_time = guard.run(
        [answer, &plugin, call = std::move(call)] {
          try {
            answer->result = call(plugin, answer->pod, answer->node);
          } catch (const std::exception& error) {
            answer->result = Error(Error::internal, "scheduler", error.what());
          } catch (...) {
            answer->result = Error(Error::internal, "scheduler", "an exception that is no std::exception");
          }
        },
        deadlines);
    if (!in_time) return Error(Error::deadline_exceeded, "scheduler", "no answer within its deadline");
    return answer->result;
  }

  static Result<PermitAnswer> as_answer(Result<void> result) {
    if (!result) return result.error();
    return PermitAnswer{};
  }

  void unreserve(const Placed& placed) {
    for (SchedulerPlugin* plugin : plugins_for(placed.pod)) {
      (void)ask(
          *plugin, placed, 1,
          [](SchedulerPlugin& each, const PodShape& pod, const std::string& node) -> Result<PermitAnswer> {
            each.unreserve(pod, node);
            return PermitAnswer{};
          });
    }
  }

  // Reserve and Permit. False: the pod goes no further now.
  bool reserve(Placed& placed) {
    for (SchedulerPlugin* plugin : plugins_for(placed.pod)) {
      const auto done =
          ask(*plugin, placed, 1, [](SchedulerPlugin& each, const PodShape& pod, const std::string& node) {
            return as_answer(each.reserve(pod, node));
          });
      if (!done)
        return give_up(placed, "plugin " + plugin->name() + ": reserve: " + done.error().message()), false;
    }
    for (SchedulerPlugin* plugin : plugins_for(placed.pod)) {
      const auto answer =
          ask(*plugin, placed, 1,
              [](SchedulerPlugin& each, const PodShape& pod,
                 const std::string& node) -> Result<PermitAnswer> { return each.permit(pod, node); });
      if (!answer)
        return give_up(placed, "plugin " + plugin->name() + ": permit: " + answer.error().message()), false;
      if (answer->kind == PermitAnswer::Kind::deny)
        return give_up(placed, "plugin " + plugin->name() + ": " + answer->reason), false;
      if (answer->kind == PermitAnswer::Kind::wait) {
        std::lock_guard lock(mutex);
        placed.deadline_ns = now() + Duration(answer->timeout).count();
        awaiting_permit.insert_or_assign(placed.pod.uid(), std::move(placed));
        return false;
      }
    }
    return true;
  }

  bool pre_bind(const Placed& placed) {
    for (SchedulerPlugin* plugin : plugins_for(placed.pod)) {
      const auto done = ask(*plugin, placed, kPreBindDeadlines,
                            [](SchedulerPlugin& each, const PodShape& pod, const std::string& node) {
                              return as_answer(each.pre_bind(pod, node));
                            });
      if (!done)
        return give_up(placed, "plugin " + plugin->name() + ": preBind: " + done.error().message()), false;
    }
    return true;
  }

  // A placed pod cannot be bound: its place is free again, and it gets another try later.
  void give_up(const Placed& placed, const std::string& message) {
    unreserve(placed);
    {
      std::lock_guard lock(mutex);
      ++stats.errors;
      if (in_flight.erase(placed.pod.uid()) == 0) return;
      snapshot.forget(placed.pod.uid());
      forget_volumes(placed.volumes, placed.pod.ns());
      queue->changed(Hint::room | Hint::topology | Hint::volume);
      queue->retry(placed.pod.uid(), now());
    }
    tell(placed.pod, "SchedulerError", message, {});
  }

  // Under the mutex. A volume that is promised to a claim is no other's.
  void assume_volumes(const PodShape& pod, const std::vector<VolumeChoice>& choices) {
    for (const VolumeChoice& choice : choices) {
      const auto found = snapshot.impl().volumes.find(choice.volume);
      if (found == snapshot.impl().volumes.end()) continue;
      VolumeShape taken = found->second;
      taken.claim = pod.ns + "/" + choice.claim;
      snapshot.set_volume(taken);
    }
  }
  void forget_volumes(const std::vector<VolumeChoice>& choices, const std::string&) {
    for (const VolumeChoice& choice : choices) {
      const Object volume = informers.get(persistent_volumes(), {}, choice.volume);
      if (volume) snapshot.set_volume(VolumeShape::from_object(volume));
    }
  }

  // VolumeBinding's PreBind: the volume is given its claim, or the claim its node; the binder does the rest.
  void bind_volumes(Placed placed) {
    const std::string uid = placed.pod.uid();
    const Placed copy = placed;
    {
      std::lock_guard lock(mutex);
      placed.deadline_ns = now() + options.volume_deadline.count();
      awaiting_volumes.insert_or_assign(uid, std::move(placed));
    }
    WriteOptions write;
    write.fence = options.fence;
    for (const VolumeChoice& choice : copy.volumes) {
      const Object claim = informers.get(persistent_volume_claims(), copy.pod.ns(), choice.claim);
      if (!claim) continue;
      const auto done = [weak = weak_from_this(), uid, choice](const Result<Object>& result) {
        const auto self = weak.lock();
        if (self && !result) self->volume_failed(uid, choice, result.error());
      };
      if (choice.volume.empty()) {
        const json::object body{
            {"metadata",
             {{"uid", claim.uid()}, {"annotations", {{"volume.kubernetes.io/selected-node", copy.node}}}}}};
        client
            .patch("v1", "persistentvolumeclaims", claim.name(), claim.ns(), PatchType::merge, to_json(body),
                   write)
            .on_ready(done);
      } else {
        const Object volume = informers.get(persistent_volumes(), {}, choice.volume);
        if (!volume) continue;
        const json::object body{{"metadata", {{"resourceVersion", volume.resource_version()}}},
                                {"spec",
                                 {{"claimRef",
                                   {{"apiVersion", "v1"},
                                    {"kind", "PersistentVolumeClaim"},
                                    {"namespace", claim.ns()},
                                    {"name", claim.name()},
                                    {"uid", claim.uid()}}}}}};
        client.patch("v1", "persistentvolumes", volume.name(), {}, PatchType::merge, to_json(body), write)
            .on_ready(done);
      }
    }
    check_volumes();
  }

  void volume_failed(const std::string& uid, const VolumeChoice& choice, const Error& error) {
    std::optional<Placed> placed;
    {
      std::lock_guard lock(mutex);
      const auto found = awaiting_volumes.find(uid);
      if (found == awaiting_volumes.end()) return;
      placed = std::move(found->second);
      awaiting_volumes.erase(found);
    }
    give_up(*placed, "binding volumes: claim " + choice.claim + ": " + error.message());
    pump();
  }

  // Pods whose claims are all bound now go on; those that waited too long start over.
  void check_volumes() {
    std::vector<Placed> ready;
    std::vector<Placed> late;
    {
      std::lock_guard lock(mutex);
      for (auto it = awaiting_volumes.begin(); it != awaiting_volumes.end();) {
        const Placed& placed = it->second;
        const bool bound = std::all_of(
            placed.shape.claims.begin(), placed.shape.claims.end(), [&](const std::string& claim) {
              const auto found = snapshot.impl().claims.find(placed.shape.ns + "/" + claim);
              return found != snapshot.impl().claims.end() && found->second.bound;
            });
        const bool over = placed.deadline_ns <= now();
        if (!bound && !over) {
          ++it;
          continue;
        }
        (bound ? ready : late).push_back(std::move(it->second));
        it = awaiting_volumes.erase(it);
      }
    }
    for (const Placed& placed : late) give_up(placed, "binding volumes: timed out waiting for the condition");
    if (ready.empty()) return;
    if (options.plugins.empty()) return bind(std::move(ready));
    // Plugins may take their time: not on an event thread.
    auto shared = std::make_shared<std::vector<Placed>>(std::move(ready));
    (void)engine.post_blocking([weak = weak_from_this(), shared] {
      const auto self = weak.lock();
      if (!self) return;
      std::vector<Placed> bindable;
      for (Placed& placed : *shared) {
        if (self->pre_bind(placed)) bindable.push_back(std::move(placed));
      }
      self->bind(std::move(bindable));
    });
  }

  bool permitted(const std::string& ns, const std::string& name, const std::optional<std::string>& refusal) {
    std::optional<Placed> placed;
    {
      std::lock_guard lock(mutex);
      for (auto it = awaiting_permit.begin(); it != awaiting_permit.end(); ++it) {
        if (it->second.pod.ns() != ns || it->second.pod.name() != name) continue;
        placed = std::move(it->second);
        awaiting_permit.erase(it);
        break;
      }
    }
    if (!placed) return false;
    auto shared = std::make_shared<Placed>(std::move(*placed));
    (void)engine.post_blocking([weak = weak_from_this(), shared, refusal] {
      const auto self = weak.lock();
      if (!self) return;
      if (refusal) {
        self->give_up(*shared, *refusal);
      } else if (!shared->volumes.empty()) {
        self->bind_volumes(std::move(*shared));
      } else if (self->pre_bind(*shared)) {
        std::vector<Placed> one;
        one.push_back(std::move(*shared));
        self->bind(std::move(one));
      }
      self->pump();
    });
    return true;
  }

  void check_permits() {
    std::vector<std::pair<std::string, std::string>> late;
    {
      std::lock_guard lock(mutex);
      for (const auto& [uid, placed] : awaiting_permit) {
        if (placed.deadline_ns <= now()) late.emplace_back(placed.pod.ns(), placed.pod.name());
      }
    }
    for (const auto& [ns, name] : late)
      permitted(ns, name, "rejected due to timeout after waiting for a plugin's permit");
  }

  ApiRequest binding(const Placed& placed) const {
    const json::object body{
        {"apiVersion", "v1"},
        {"kind", "Binding"},
        {"metadata",
         {{"name", placed.pod.name()}, {"namespace", placed.pod.ns()}, {"uid", placed.pod.uid()}}},
        {"target", {{"apiVersion", "v1"}, {"kind", "Node"}, {"name", placed.node}}}};
    ApiRequest request;
    request.verb = "create";
    request.resource = "pods";
    request.subresource = "binding";
    request.ns = placed.pod.ns();
    request.name = placed.pod.name();
    request.body = to_json(body);
    request.fence = options.fence;
    return request;
  }

  void bind(std::vector<Placed> placed) {
    for (std::size_t begin = 0; begin < placed.size(); begin += options.batch_max) {
      const std::size_t end = std::min(placed.size(), begin + options.batch_max);
      std::vector<ApiRequest> requests;
      auto batch = std::make_shared<std::vector<Placed>>(
          std::make_move_iterator(placed.begin() + static_cast<std::ptrdiff_t>(begin)),
          std::make_move_iterator(placed.begin() + static_cast<std::ptrdiff_t>(end)));
      for (const Placed& each : *batch) requests.push_back(binding(each));
      client.batch(std::move(requests))
          .on_ready([weak = weak_from_this(), batch](const Result<std::vector<Result<Object>>>& done) {
            const auto self = weak.lock();
            if (!self) return;
            for (std::size_t i = 0; i < batch->size(); ++i) {
              const bool answered = done && i < done->size();
              self->bound((*batch)[i], !done ? std::optional(done.error())
                                       : answered
                                           ? ((*done)[i] ? std::nullopt : std::optional((*done)[i].error()))
                                           : std::nullopt);
            }
            self->pump();
          });
    }
  }

  void bound(const Placed& placed, const std::optional<Error>& error) {
    const std::string key = ObjectKey::of(placed.pod).text();
    if (!error) {
      {
        std::lock_guard lock(mutex);
        ++stats.scheduled;
        in_flight.erase(placed.pod.uid());
        queue->remove(placed.pod.uid());
      }
      events.record(options.name, placed.pod, "Normal", "Scheduled",
                    "Successfully assigned " + key + " to " + placed.node);
      return;
    }
    complain("binding " + key + " to " + placed.node, *error);
    std::lock_guard lock(mutex);
    ++stats.errors;
    // Already answered by the pod's own event: bound by somebody else, or gone.
    if (in_flight.erase(placed.pod.uid()) == 0) return;
    // An unknown outcome keeps its place: if the pod was bound its event comes, else the retry finds it free.
    if (!error->is(Error::unknown_outcome)) {
      snapshot.forget(placed.pod.uid());
      queue->changed(Hint::room | Hint::topology | Hint::volume);
    }
    queue->retry(placed.pod.uid(), now());
    arm_timer();
  }

  // Under the mutex.
  void arm_timer() {
    if (timer) engine.cancel_timer(*timer);
    timer.reset();
    auto due = queue->next_due();
    for (const auto* waiting : {&awaiting_volumes, &awaiting_permit}) {
      for (const auto& [uid, placed] : *waiting) {
        if (!due || placed.deadline_ns < *due) due = placed.deadline_ns;
      }
    }
    if (!due || stopped) return;
    timer = engine.after(Duration(std::max<std::int64_t>(0, *due - now())), step([](Impl& impl) {
                           impl.check_volumes();
                           impl.check_permits();
                           impl.pump();
                         }));
  }

  void stop() {
    {
      std::unique_lock lock(mutex);
      stopped = true;
      if (timer) engine.cancel_timer(*timer);
      timer.reset();
      ended.wait(lock, [this] { return !placing; });
    }
    informers.stop();
    groups.stop();
    events.stop();
  }
};

Scheduler::Scheduler(Engine& engine, Client client, SchedulerOptions options)
    : impl_(std::make_shared<Impl>(engine, std::move(client), std::move(options))) {}
Scheduler::~Scheduler() { stop(); }

void Scheduler::on_decision(std::function<void(const SchedulingDecision&)> callback) {
  impl_->on_decision = std::move(callback);
}

Result<void> Scheduler::start() {
  if (!impl_->client) return Error(Error::invalid, "scheduler", "the scheduler has no client");
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->stopped)
      return Error(Error::cancelled, "scheduler", "the scheduler was stopped; make a new one");
    if (impl_->started) return {};
    ORC_TRY(impl_->configure());
    impl_->started = true;
  }
  return impl_->start();
}

void Scheduler::stop() { impl_->stop(); }

Result<std::vector<NodeVerdict>> Scheduler::explain(const std::string& ns, const std::string& name) const {
  const Object pod = impl_->informers.get(pods(), ns, name);
  if (!pod) return Error(Error::not_found, "scheduler", "there is no pod " + ns + "/" + name);
  std::lock_guard lock(impl_->mutex);
  const SchedulingProfile* profile = impl_->profile_of(pod);
  PodShape shape = impl_->shape_of(pod);
  shape.node_name.clear();
  const PlaceOptions how = impl_->how_to_place(profile == nullptr ? impl_->profiles.front() : *profile);
  if (impl_->snapshot.node_of(pod.uid()).empty()) return orchestra::explain(impl_->snapshot, shape, how);
  SchedulingSnapshot without = impl_->snapshot;
  without.forget(pod.uid());
  return orchestra::explain(without, shape, how);
}

bool Scheduler::allow(const std::string& ns, const std::string& name) {
  return impl_->permitted(ns, name, std::nullopt);
}
bool Scheduler::reject(const std::string& ns, const std::string& name, const std::string& reason) {
  return impl_->permitted(ns, name, reason);
}

SchedulerStats Scheduler::stats() const {
  std::lock_guard lock(impl_->mutex);
  SchedulerStats stats = impl_->stats;
  stats.active = impl_->queue->active();
  stats.backing_off = impl_->queue->backing_off();
  stats.waiting = impl_->queue->waiting();
  stats.in_flight = impl_->in_flight.size();
  stats.gated = impl_->gated.size();
  return stats;
}

SchedulingSnapshot Scheduler::snapshot() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->snapshot;
}

}  // namespace orchestra
