// A turn of placing: who is next, where to, and what becomes of those that fit nowhere.
#include <algorithm>

#include "controllers/scheduler/shell/impl.hpp"
#include "sched/volumes.hpp"

namespace orchestra {

using namespace controllers;
using sched::Hint;

namespace {
constexpr std::size_t kPlacementsPerTurn = 1024;  // then events get the mutex
}  // namespace

bool Scheduler::Impl::has_work() {
  const auto due = queue->next_due();
  const bool room = in_flight.size() < options.in_flight_max;
  return (room && (queue->active() > 0 || (!inquiry && !line.empty()))) || (inquiry && inquiry->answered) ||
         queue->wants_wake() || queue->wants_relist(now()) || (due && *due <= now());
}

void Scheduler::Impl::pump() {
  std::lock_guard lock(mutex);
  if (placing || stopped || !started || !informers.synced()) return;
  if (!has_work()) return arm_timer();
  placing = true;
  const auto queued = engine.post_blocking([self = shared_from_this()] { self->turn(); });
  if (!queued) placing = false;
}

void Scheduler::Impl::turn() {
  Outcome outcome;
  {
    std::lock_guard lock(mutex);
    if (queue->wants_relist(now())) relist();
    wake_helped();
    if (inquiry && inquiry->answered) conclude_inquiry(*std::exchange(inquiry, nullptr), outcome);
    for (std::size_t i = 0; i < kPlacementsPerTurn && !stopped && in_flight.size() < options.in_flight_max;
         ++i) {
      const auto pod = queue->take(now());
      if (!pod) break;
      decide(*pod, outcome);
    }
    begin_inquiry(outcome);
    // Who was placed may be whom others want to be with.
    if (!outcome.placed.empty()) queue->changed(Hint::topology);
  }
  for (const SchedulingDecision& decision : outcome.decisions) {
    if (on_decision) on_decision(decision);
  }
  for (const Refusal& each : outcome.refused)
    tell(each.pod, each.reason, each.message, each.nominated, !each.quiet);
  for (const auto& [victim, preemptor] : outcome.victims) evict(victim, preemptor);
  if (outcome.ask) ask_next(outcome.ask);
  advance(std::move(outcome.placed));
  {
    std::lock_guard lock(mutex);
    placing = false;
    arm_timer();
    ended.notify_all();
  }
  pump();
}

void Scheduler::Impl::relist() {
  queue->relisted(now());
  std::vector<Object> all = informers.informer(pods()).cache().list();
  const auto first = std::find_if(all.begin(), all.end(), [&](const Object& pod) {
    return std::pair(pod.ns(), pod.name()) >= relist_from;
  });
  std::rotate(all.begin(), first, all.end());
  bool full = false;
  for (const Object& pod : all) {
    if (!wants_node(pod) || has_gates(pod) || in_flight.contains(pod.uid()) || queue->contains(pod.uid()))
      continue;
    queue->add(shape_of(pod), now());
    if (full || queue->contains(pod.uid())) continue;
    full = true;
    relist_from = {pod.ns(), pod.name()};
  }
}

void Scheduler::Impl::wake_helped() {
  if (!queue->wants_wake()) return;
  queue->wake(now(), [&](const PodShape& pod) {
    const Object object = informers.get(pods(), pod.ns, pod.name);
    const SchedulingProfile* profile = object ? profile_of(object) : nullptr;
    PlaceOptions how;
    how.profile = profile == nullptr ? &profiles.front() : profile;
    // A claim that has come: the pod may still fit nowhere, but no longer for the reason that it was told.
    const auto last = told.find(pod.uid);
    if (!pod.claims.empty() && last != told.end() &&
        last->second.volume_error != volume_error(pod, *how.profile)) {
      return true;
    }
    return fits_somewhere(snapshot, pod, how);
  });
}

void Scheduler::Impl::decide(const PodShape& queued, Outcome& outcome) {
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
  const PlaceOptions how = how_to_decide(*profile);
  const std::int64_t begun = now();
  SchedulingDecision decision{pod.ns + "/" + pod.name, {}, {}};
  if (decide_gang(object, pod, how, outcome, decision)) {
    if (on_decision) outcome.decisions.push_back(std::move(decision));
    return;
  }
  if (asks_extenders(object)) return stand_in_line(pod);
  settle(object, pod, how, begun, std::move(decision), outcome);
}

void Scheduler::Impl::settle(const Object& object, const PodShape& pod, const PlaceOptions& how,
                             std::int64_t begun, SchedulingDecision decision, Outcome& outcome) {
  decision.decision = place(snapshot, pod, how);
  if (const Placement* at = decision.decision.placement()) {
    snapshot.assume(pod, at->node);
    in_flight[pod.uid] = at->node;
    assume_volumes(pod, at->volumes);
    outcome.placed.push_back({object, pod, at->node, at->volumes, begun, 0, queue->history(pod.uid)});
  } else if (const PlacementFailed* failed = decision.decision.failed()) {
    ++stats.errors;
    if (measures) measures->attempt("error", how.profile->name, now() - begun);
    queue->retry(pod.uid, now());
    outcome.refused.push_back(
        {object, "SchedulerError", "plugin " + failed->plugin + ": " + failed->message, {}});
  } else {
    refuse(object, pod, std::get<Unschedulable>(decision.decision.answer), how, outcome, decision);
    if (measures) {
      measures->attempt("unschedulable", how.profile->name, now() - begun);
      measures->pod_refused(pod.uid, how.profile->name, decision.decision.unschedulable()->plugins);
    }
  }
  if (on_decision) outcome.decisions.push_back(std::move(decision));
}

void Scheduler::Impl::refuse(const Object& object, const PodShape& pod, Unschedulable& why,
                             const PlaceOptions& how, Outcome& outcome, SchedulingDecision& decision) {
  ++stats.unschedulable;
  std::optional<std::string> nominated;
  if (why.nodes > 0 && (why.resolvable > 0 || pod.never_preempts) &&
      !how.profile->disabled_filters.contains("DefaultPreemption")) {
    const std::int64_t begun = now();
    Preemption preemption = preempt(snapshot, pod, current_budgets(), how);
    if (measures) {
      measures->point("PostFilter", preemption.node.empty() ? "Unschedulable" : "Success", how.profile->name,
                      now() - begun);
    }
    why.preemption = std::move(preemption.why);
    why.preemption_note = std::move(preemption.note);
    if (!preemption.node.empty()) {
      ++stats.preemptions;
      decision.preempted_on = preemption.node;
      promise(pod, preemption.node);
      nominated = preemption.node;
      make_way(preemption.victims, object, outcome);
    } else if (why.preemption_note.empty() && !snapshot.nominated_node(pod.uid).empty()) {
      snapshot.remove_nomination(pod.uid);
      nominated = std::string();
    }
  }
  const std::uint32_t hints = why.never.empty() ? Hint::of(why.plugins) : std::uint32_t{Hint::node};
  park_and_tell(object, pod, why.message(), hints, std::move(nominated), outcome);
  if (!pod.claims.empty()) told[pod.uid].volume_error = volume_error(pod, *how.profile);
}

std::string Scheduler::Impl::volume_error(const PodShape& pod, const SchedulingProfile& profile) const {
  return sched::VolumePlan(snapshot.impl(), pod, profile).error();
}

void Scheduler::Impl::park_and_tell(const Object& object, const PodShape& pod, std::string message,
                                    std::uint32_t hints, std::optional<std::string> nominated,
                                    Outcome& outcome) {
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

}  // namespace orchestra
