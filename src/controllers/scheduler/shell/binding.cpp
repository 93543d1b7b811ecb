// From placed to bound: batches of bindings, and what their answers mean.
#include <algorithm>

#include "controllers/scheduler/shell/impl.hpp"

namespace orchestra {

using namespace controllers;
using sched::Hint;

void Scheduler::Impl::advance(std::vector<Placed> placed) {
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

void Scheduler::Impl::give_up(const Placed& placed, const std::string& message) {
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

ApiRequest Scheduler::Impl::binding(const Placed& placed) const {
  const json::object body{
      {"apiVersion", "v1"},
      {"kind", "Binding"},
      {"metadata", {{"name", placed.pod.name()}, {"namespace", placed.pod.ns()}, {"uid", placed.pod.uid()}}},
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

void Scheduler::Impl::bind(std::vector<Placed> placed) {
  for (Placed& each : placed) each.bind_ns = now();
  if (http) {
    std::vector<Placed> own;
    for (Placed& each : placed) {
      const SchedulerExtender* binder = binder_of(each.pod);
      if (binder == nullptr || each.passed_binder) {
        own.push_back(std::move(each));
      } else {
        bind_by(*binder, std::move(each));
      }
    }
    placed = std::move(own);
  }
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

void Scheduler::Impl::measure(const Placed& placed, const char* result) {
  if (!measures) return;
  const SchedulingProfile* profile = profile_of(placed.pod);
  measures->attempt(result, profile == nullptr ? options.name : profile->name, now() - placed.begun_ns);
  if (std::string_view(result) != "scheduled") return;
  measures->pod_left(placed.pod.uid());
  if (placed.history) measures->scheduled(placed.history->second + 1, now() - placed.history->first);
}

void Scheduler::Impl::bound(const Placed& placed, const std::optional<Error>& error) {
  const std::string key = ObjectKey::of(placed.pod).text();
  measure_point(placed.pod, "Bind", error ? "Error" : "Success", placed.bind_ns);
  if (!error) {
    {
      std::lock_guard lock(mutex);
      ++stats.scheduled;
      measure(placed, "scheduled");
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
  measure(placed, "error");
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

}  // namespace orchestra
