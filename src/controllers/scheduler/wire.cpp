// The scheduler's shell: informers in, bindings out; see scheduler.hpp.
//
// One `mutex` guards snapshot and queue. Placing runs on one worker at a time and only touches memory;
// requests are answered by callbacks, so no thread ever waits for the server. A placed pod is assumed: it
// counts on its node from that moment, and the pod's own event (or a failed binding) makes the assumption
// true (or undone).
#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <set>

#include "controllers/common/pods.hpp"
#include "controllers/scheduler/queue.hpp"
#include "orchestra/reconciler.hpp"
#include "orchestra/scheduler.hpp"

namespace orchestra {

using namespace controllers;

namespace {
constexpr std::size_t kPlacementsPerTurn = 1024;  // then events get the mutex
}  // namespace

std::string SchedulingDecision::text() const {
  if (const Placement* at = decision.placement()) {
    return pod + " -> " + at->node + " (score " + std::to_string(at->score) + ", " +
           std::to_string(at->feasible) + " feasible)";
  }
  return pod + ": " + decision.unschedulable()->message();
}

struct Scheduler::Impl : std::enable_shared_from_this<Scheduler::Impl> {
  Engine& engine;
  const Client client;
  const SchedulerOptions options;
  InformerSet informers;
  EventRecorder events;
  std::function<void(const SchedulingDecision&)> on_decision;

  mutable std::mutex mutex;
  std::condition_variable ended;
  SchedulingSnapshot snapshot;
  sched::SchedulingQueue queue;
  std::set<std::string> changed_nodes;  // waiting pods have not been asked about these
  struct Told {
    std::string message;
    std::int64_t at_ns = 0;
  };
  std::unordered_map<std::string, Told> told;              // uid -> what its condition says
  std::unordered_map<std::string, std::string> in_flight;  // uid -> node
  std::optional<Engine::TimerId> timer;
  bool placing = false;
  bool started = false;
  bool stopped = false;
  SchedulerStats stats;

  Impl(Engine& engine, Client client, SchedulerOptions options)
      : engine(engine),
        client(client),
        options(std::move(options)),
        informers(engine, client),
        events(engine, client),
        queue({this->options.backoff_min.count(), this->options.backoff_max.count(),
               this->options.flush_interval.count()}) {}

  std::int64_t now() const { return engine.clock().now().steady_ns; }

  template <class F>
  std::function<void()> step(F run) {
    return [weak = weak_from_this(), run = std::move(run)]() mutable {
      if (const auto self = weak.lock()) run(*self);
    };
  }

  Result<void> start() {
    informers.informer(nodes()).on_event([weak = weak_from_this()](const Object& old, const Object& now) {
      if (const auto self = weak.lock()) self->node_changed(old, now);
    });
    informers.informer(pods()).on_event([weak = weak_from_this()](const Object& old, const Object& now) {
      if (const auto self = weak.lock()) self->pod_changed(old, now);
    });
    for (const ResourceRef& resource : {persistent_volume_claims(), persistent_volumes()})
      informers.informer(resource);
    ORC_TRY(informers.start());
    // Placing begins when both lists are complete: an empty cluster is not the same as an unknown one.
    for (const ResourceRef& resource : {nodes(), pods(), persistent_volume_claims(), persistent_volumes()}) {
      informers.informer(resource).wait_synced().on_ready([weak = weak_from_this()](const Result<void>&) {
        if (const auto self = weak.lock()) self->pump();
      });
    }
    return {};
  }

  void node_changed(const Object& old, const Object& now_object) {
    {
      std::lock_guard lock(mutex);
      if (!now_object) {
        snapshot.remove_node(old.name());
      } else {
        NodeShape shape = NodeShape::from_object(now_object);
        shape.shares_ports = shape.shares_ports || options.process_level;
        // A new node changes what is said of every waiting pod ("0/2 nodes ..."), so each has another look.
        const std::size_t before = snapshot.node_count();
        if (snapshot.set_node(shape)) changed_nodes.insert(shape.name);
        if (snapshot.node_count() != before) queue.wake(now(), [](const PodShape&) { return true; });
      }
    }
    pump();
  }

  bool ours(const Object& pod) const {
    const std::string name = string_at(tree(pod), "/spec/schedulerName");
    return name.empty() || name == options.name;
  }

  // A pod that waits for a node and may have one now.
  bool wants_node(const Object& pod) const {
    const json::array* gates = array_at(tree(pod), "/spec/schedulingGates");
    return string_at(tree(pod), "/spec/nodeName").empty() && !pod.deleting() && !pod_terminal(pod) &&
           (gates == nullptr || gates->empty()) && ours(pod);
  }

  void pod_changed(const Object& old, const Object& now_object) {
    {
      std::lock_guard lock(mutex);
      const Object& pod = now_object ? now_object : old;
      const std::string node = string_at(tree(pod), "/spec/nodeName");
      if (!now_object || pod_terminal(pod)) {
        queue.remove(pod.uid());
        told.erase(pod.uid());
        in_flight.erase(pod.uid());
        const std::string freed = snapshot.remove_pod(pod.uid());
        if (!freed.empty()) changed_nodes.insert(freed);
      } else if (!node.empty()) {
        queue.remove(pod.uid());
        told.erase(pod.uid());
        in_flight.erase(pod.uid());
        if (snapshot.node_of(pod.uid()) != node || !old) snapshot.set_pod(PodShape::from_object(pod), node);
      } else if (wants_node(pod)) {
        const bool same = old && same_meaning(find(tree(old), "/spec"), find(tree(pod), "/spec"));
        if (!in_flight.contains(pod.uid()) && !(same && queue.contains(pod.uid()))) {
          queue.add(PodShape::from_object(pod), now());
        }
      } else {
        queue.remove(pod.uid());
      }
    }
    pump();
  }

  // Under the mutex.
  bool has_work() {
    if (queue.waiting() == 0) changed_nodes.clear();
    const auto due = queue.next_due();
    return (queue.active() > 0 && in_flight.size() < options.in_flight_max) || !changed_nodes.empty() ||
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

  struct Placed {
    Object pod;
    std::string node;
  };

  void turn() {
    std::vector<Placed> placed;
    std::vector<std::pair<Object, std::string>> refused;
    std::vector<SchedulingDecision> decisions;
    {
      std::lock_guard lock(mutex);
      wake_helped();
      for (std::size_t i = 0; i < kPlacementsPerTurn && !stopped && in_flight.size() < options.in_flight_max;
           ++i) {
        const auto pod = queue.take(now());
        if (!pod) break;
        decide(*pod, placed, refused, decisions);
      }
    }
    for (const SchedulingDecision& decision : decisions) {
      if (on_decision) on_decision(decision);
    }
    for (const auto& [pod, message] : refused) tell(pod, message);
    bind(std::move(placed));
    {
      std::lock_guard lock(mutex);
      placing = false;
      arm_timer();
      ended.notify_all();
    }
    pump();
  }

  // Under the mutex. A change wakes exactly the pods that one of the changed nodes would take now.
  void wake_helped() {
    if (changed_nodes.empty()) return;
    const std::set<std::string> nodes_now = std::exchange(changed_nodes, {});
    queue.wake(now(), [&](const PodShape& pod) {
      return std::any_of(nodes_now.begin(), nodes_now.end(),
                         [&](const std::string& node) { return fits(snapshot, pod, node); });
    });
  }

  // A pod has to go where its bound volumes are: their node affinities join its own, as "and". (Volumes that
  // wait for their first consumer are made where the pod goes.)
  std::optional<PodShape> with_volumes(const PodShape& shape, const Object& object) const {
    const json::array* volumes = array_at(tree(object), "/spec/volumes");
    if (volumes == nullptr) return std::nullopt;
    std::optional<PodShape> pod;
    for (const json::value& each : *volumes) {
      std::string claim = string_at(each, "/persistentVolumeClaim/claimName");
      if (claim.empty() && object_at(each, "/ephemeral") != nullptr)
        claim = object.name() + "-" + string_at(each, "/name");
      if (claim.empty()) continue;
      const Object bound = informers.get(persistent_volume_claims(), object.ns(), claim);
      if (!bound) continue;
      const Object volume =
          informers.get(persistent_volumes(), {}, string_at(tree(bound), "/spec/volumeName"));
      const json::value* required =
          volume ? orchestra::find(tree(volume), "/spec/nodeAffinity/required") : nullptr;
      if (required == nullptr) continue;
      json::value carrier = json::object{{"metadata", {{"name", "volume"}}}};
      set_at(carrier, "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution",
             *required);
      PodShape of_volume = PodShape::from_object(object_from_tree(std::move(carrier)));
      if (!pod) pod = shape;
      if (!pod->required_terms) {
        pod->required_terms = std::move(of_volume.required_terms);
        continue;
      }
      std::vector<NodeTerm> both;
      for (const NodeTerm& own : *pod->required_terms) {
        for (const NodeTerm& other : *of_volume.required_terms) {
          NodeTerm term = own;
          term.labels.insert(term.labels.end(), other.labels.begin(), other.labels.end());
          term.fields.insert(term.fields.end(), other.fields.begin(), other.fields.end());
          both.push_back(std::move(term));
        }
      }
      pod->required_terms = std::move(both);
    }
    return pod;
  }

  // Under the mutex.
  void decide(const PodShape& pod, std::vector<Placed>& placed,
              std::vector<std::pair<Object, std::string>>& refused,
              std::vector<SchedulingDecision>& decisions) {
    const Object object = informers.get(pods(), pod.ns, pod.name);
    if (!object || object.uid() != pod.uid) {
      queue.remove(pod.uid);
      return;
    }
    PlaceOptions how;
    how.tie_seed = options.tie_seed;
    const std::optional<PodShape> bound = with_volumes(pod, object);
    SchedulingDecision decision{pod.ns + "/" + pod.name, place(snapshot, bound ? *bound : pod, how)};
    if (const Placement* at = decision.decision.placement()) {
      snapshot.assume(pod, at->node);
      in_flight[pod.uid] = at->node;
      placed.push_back({object, at->node});
    } else {
      ++stats.unschedulable;
      std::string message = decision.decision.unschedulable()->message();
      Told& last = told[pod.uid];
      const bool talked = last.at_ns != 0 && now() - last.at_ns < options.status_interval.count();
      if (last.message != message && talked) {
        queue.retry(pod.uid, now());  // there is news, but not so soon after the last
      } else {
        queue.park(pod.uid, now());
      }
      if (last.message != message && !talked) {
        last = {message, now()};
        refused.emplace_back(object, std::move(message));
      }
    }
    if (on_decision) decisions.push_back(std::move(decision));
  }

  // Condition and Event of a pod that fits nowhere.
  void tell(const Object& pod, const std::string& message) {
    events.record(options.name, pod, "Warning", "FailedScheduling", message);
    const json::object* present = find_condition(tree(pod), "PodScheduled");
    const bool was_false = present != nullptr && string_at(*present, "/status") == "False";
    if (was_false && string_at(*present, "/message") == message) return;
    const std::string since =
        was_false ? string_at(*present, "/lastTransitionTime") : format_time(engine.clock().now().wall_ns);
    const json::object condition{{"type", "PodScheduled"},
                                 {"status", "False"},
                                 {"reason", "Unschedulable"},
                                 {"message", message},
                                 {"lastTransitionTime", since}};
    const json::object body{{"metadata", {{"uid", pod.uid()}}},
                            {"status", {{"conditions", json::array{condition}}}}};
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
    if (engine.logs(LogLevel::info)) {
      engine.log(LogLevel::info, "scheduler",
                 "condition of " + ObjectKey::of(pod).text() + ": " + error.to_string());
    }
    {
      std::lock_guard lock(mutex);
      ++stats.errors;
      told.erase(pod.uid());
      if (queue.contains(pod.uid())) queue.add(PodShape::from_object(pod), now());
    }
    pump();
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
      std::vector<Placed> batch(placed.begin() + static_cast<std::ptrdiff_t>(begin),
                                placed.begin() + static_cast<std::ptrdiff_t>(end));
      for (const Placed& each : batch) requests.push_back(binding(each));
      client.batch(std::move(requests))
          .on_ready([weak = weak_from_this(),
                     batch = std::move(batch)](const Result<std::vector<Result<Object>>>& done) {
            const auto self = weak.lock();
            if (!self) return;
            for (std::size_t i = 0; i < batch.size(); ++i) {
              const bool answered = done && i < done->size();
              self->bound(batch[i], !done ? std::optional(done.error())
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
        queue.remove(placed.pod.uid());
      }
      events.record(options.name, placed.pod, "Normal", "Scheduled",
                    "Successfully assigned " + key + " to " + placed.node);
      return;
    }
    if (engine.logs(LogLevel::info)) {
      engine.log(LogLevel::info, "scheduler",
                 "binding " + key + " to " + placed.node + ": " + error->to_string());
    }
    std::lock_guard lock(mutex);
    ++stats.errors;
    // Already answered by the pod's own event: bound by somebody else, or gone.
    if (in_flight.erase(placed.pod.uid()) == 0) return;
    // An unknown outcome keeps its place: if the pod was bound its event comes, else the retry finds it free.
    if (!error->is(Error::unknown_outcome)) {
      snapshot.forget(placed.pod.uid());
      changed_nodes.insert(placed.node);
    }
    queue.retry(placed.pod.uid(), now());
    arm_timer();
  }

  // Under the mutex.
  void arm_timer() {
    if (timer) engine.cancel_timer(*timer);
    timer.reset();
    const auto due = queue.next_due();
    if (!due || stopped) return;
    timer = engine.after(Duration(std::max<std::int64_t>(0, *due - now())),
                         step([](Impl& impl) { impl.pump(); }));
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
    if (std::exchange(impl_->started, true)) return {};
  }
  return impl_->start();
}

void Scheduler::stop() { impl_->stop(); }

Result<std::vector<NodeVerdict>> Scheduler::explain(const std::string& ns, const std::string& name) const {
  const Object pod = impl_->informers.get(pods(), ns, name);
  if (!pod) return Error(Error::not_found, "scheduler", "there is no pod " + ns + "/" + name);
  std::lock_guard lock(impl_->mutex);
  SchedulingSnapshot without = impl_->snapshot;
  without.forget(pod.uid());
  PodShape shape = PodShape::from_object(pod);
  shape.node_name.clear();
  return orchestra::explain(without, shape);
}

SchedulerStats Scheduler::stats() const {
  std::lock_guard lock(impl_->mutex);
  SchedulerStats stats = impl_->stats;
  stats.active = impl_->queue.active();
  stats.backing_off = impl_->queue.backing_off();
  stats.waiting = impl_->queue.waiting();
  stats.in_flight = impl_->in_flight.size();
  return stats;
}

SchedulingSnapshot Scheduler::snapshot() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->snapshot;
}

}  // namespace orchestra
