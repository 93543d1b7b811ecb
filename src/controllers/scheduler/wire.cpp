// The scheduler's shell: its life. How it works is in shell/impl.hpp, piece by piece in the files beside it.
#include <algorithm>

#include "controllers/scheduler/shell/impl.hpp"
#include "net/http/http_server.hpp"
#include "sched/explanation.hpp"

namespace orchestra {

using namespace controllers;

namespace {
ResourceRef csi_nodes() { return {"storage.k8s.io/v1", "csinodes"}; }
ResourceRef csi_drivers() { return {"storage.k8s.io/v1", "csidrivers"}; }
ResourceRef csi_capacities() { return {"storage.k8s.io/v1", "csistoragecapacities"}; }
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

Scheduler::Impl::Impl(Engine& engine, Client client, SchedulerOptions how)
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
  if (options.metrics) measures = std::make_unique<sched::Measures>(*options.metrics);
  make_queue();
}

void Scheduler::Impl::make_queue() {
  sched::QueueOptions how;
  how.backoff_min_ns = options.backoff_min.count();
  how.backoff_max_ns = options.backoff_max.count();
  how.flush_ns = options.flush_interval.count();
  how.bytes_max = options.queue_bytes_max;
  queue = std::make_unique<sched::SchedulingQueue>(how);
}

Result<void> Scheduler::Impl::configure() {
  if (options.config_yaml.empty()) return {};
  std::vector<std::string> names;
  for (const auto& plugin : options.plugins) names.push_back(plugin->name());
  ORC_ASSIGN(const SchedulerConfiguration parsed, SchedulerConfiguration::parse(options.config_yaml, names));
  profiles = parsed.profiles;
  extenders = parsed.extenders;
  if (!extenders.empty()) http = make_http_client(engine);
  options.backoff_min = parsed.backoff_min;
  options.backoff_max = parsed.backoff_max;
  options.volume_deadline = parsed.volume_deadline.value_or(options.volume_deadline);
  make_queue();
  return {};
}

Result<void> Scheduler::Impl::start() {
  watch(nodes(), &Impl::node_changed);
  watch(pods(), &Impl::pod_changed);
  watch(namespaces(), &Impl::namespace_changed);
  watch(persistent_volumes(), &Impl::volume_changed);
  watch(persistent_volume_claims(), &Impl::claim_changed);
  watch(storage_classes(), &Impl::class_changed);
  watch(csi_nodes(), &Impl::csi_node_changed);
  watch(csi_drivers(), &Impl::csi_driver_changed);
  watch(csi_capacities(), &Impl::capacity_changed);
  watch(services(), &Impl::owner_changed);
  watch(disruption_budgets(), &Impl::budget_changed);
  for (const ResourceRef& resource : {replica_sets(), stateful_sets(), replication_controllers()})
    informers.informer(resource);
  ORC_TRY(informers.start());
  ORC_TRY(groups.start());
  // Placing begins when all lists are complete: an empty cluster is not the same as an unknown one.
  for (const ResourceRef& resource :
       {nodes(), pods(), namespaces(), persistent_volumes(), persistent_volume_claims(), storage_classes(),
        csi_nodes(), csi_drivers(), csi_capacities(), services(), disruption_budgets(), replica_sets(),
        stateful_sets(), replication_controllers()}) {
    informers.informer(resource).wait_synced().on_ready([weak = weak_from_this()](const Result<void>&) {
      if (const auto self = weak.lock()) self->pump();
    });
  }
  return {};
}

void Scheduler::Impl::arm_timer() {
  if (timer) engine.cancel_timer(*timer);
  timer.reset();
  auto due = queue->next_due();
  if (!stranger_due.empty() && (!due || stranger_due.begin()->first < *due))
    due = stranger_due.begin()->first;
  for (const auto* waiting : {&awaiting_volumes, &awaiting_permit}) {
    for (const auto& [uid, placed] : *waiting) {
      if (!due || placed.deadline_ns < *due) due = placed.deadline_ns;
    }
  }
  if (!due || stopped) return;
  timer = engine.after(Duration(std::max<std::int64_t>(0, *due - now())), step([](Impl& impl) {
                         impl.check_volumes();
                         impl.check_permits();
                         impl.tell_strangers();
                         impl.pump();
                       }));
}

void Scheduler::Impl::stop() {
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

namespace {
Error no_such_pod(const std::string& ns, const std::string& name) {
  return Error(Error::not_found, "scheduler", "there is no pod " + ns + "/" + name);
}
}  // namespace

void Scheduler::Impl::ask_about(
    const Object& pod,
    const std::function<void(const SchedulingSnapshot&, const PodShape&, const PlaceOptions&)>& question) {
  std::lock_guard lock(mutex);
  const SchedulingProfile* profile = profile_of(pod);
  PodShape shape = shape_of(pod);
  shape.node_name.clear();
  const PlaceOptions how = how_to_place(profile == nullptr ? profiles.front() : *profile);
  if (snapshot.node_of(pod.uid()).empty()) return question(snapshot, shape, how);
  SchedulingSnapshot without = snapshot;
  without.forget(pod.uid());
  question(without, shape, how);
}

Result<std::vector<NodeVerdict>> Scheduler::explain(const std::string& ns, const std::string& name) const {
  const Object pod = impl_->informers.get(pods(), ns, name);
  if (!pod) return no_such_pod(ns, name);
  std::vector<NodeVerdict> out;
  impl_->ask_about(pod, [&](const auto& snapshot, const PodShape& shape, const PlaceOptions& how) {
    out = orchestra::explain(snapshot, shape, how);
  });
  return out;
}

Result<PodAnswer> Scheduler::explain_pod(const std::string& ns, const std::string& name) const {
  const Object pod = impl_->informers.get(pods(), ns, name);
  if (!pod) return no_such_pod(ns, name);
  PodAnswer out;
  out.pod = ns + "/" + name;
  out.runs_on = string_at(tree(pod), "/spec/nodeName");
  impl_->ask_about(pod, [&](const auto& snapshot, const PodShape& shape, const PlaceOptions& how) {
    sched::judge(out, snapshot, shape, how, impl_->current_budgets());
  });
  return out;
}

std::vector<PodAnswer> Scheduler::waiting_pods(const std::string& ns) const {
  std::vector<PodAnswer> out;
  const auto& known = impl_->informers.informer(pods()).cache();
  for (const Object& pod : ns.empty() ? known.list() : known.list(ns)) {
    if (!impl_->wants_node(pod)) continue;
    const json::object* told = find_condition(tree(pod), "PodScheduled");
    PodAnswer& answer = out.emplace_back();
    answer.pod = pod.ns() + "/" + pod.name();
    answer.refusal = told == nullptr ? "not decided on yet" : string_at(*told, "/message");
  }
  return out;
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
  stats.active = impl_->queue->active() + impl_->line.size() + (impl_->inquiry ? 1 : 0);
  stats.backing_off = impl_->queue->backing_off();
  stats.waiting = impl_->queue->waiting();
  stats.in_flight = impl_->in_flight.size();
  stats.gated = impl_->gated.size();
  stats.left_out = impl_->queue->left_out();
  return stats;
}

SchedulingSnapshot Scheduler::snapshot() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->snapshot;
}

}  // namespace orchestra
