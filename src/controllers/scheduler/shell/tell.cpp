// What pods hear: the condition PodScheduled, Events, the promise of a node, the end for those who make room.
#include <algorithm>

#include "controllers/scheduler/shell/impl.hpp"

namespace orchestra {

using namespace controllers;
using sched::Hint;

void Scheduler::Impl::promise(const PodShape& pod, const std::string& node) {
  std::vector<std::string> lower;
  for (const auto& [uid, other] : snapshot.impl().nominations) {
    if (snapshot.nominated_node(uid) == node && other.pod.priority < pod.priority) lower.push_back(uid);
  }
  for (const std::string& uid : lower) snapshot.remove_nomination(uid);
  snapshot.nominate(pod, node);
}

void Scheduler::Impl::make_way(const std::vector<std::string>& victims, const Object& preemptor,
                               Outcome& outcome) {
  for (const std::string& uid : victims) {
    const Object victim = informers.informer(pods()).cache().by_uid(uid);
    if (!victim || victim.deleting() || !leaving.insert(uid).second) continue;
    ++stats.victims;
    outcome.victims.emplace_back(victim, preemptor);
  }
}

void Scheduler::Impl::evict(const Object& victim, const Object& preemptor) {
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
          if (!again || done || done.error().is(Error::not_found)) return;
          {
            std::lock_guard lock(again->mutex);
            again->leaving.erase(victim.uid());
          }
          again->complain("preempting " + ObjectKey::of(victim).text(), done.error());
        });
      });
}

void Scheduler::Impl::complain(const std::string& what, const Error& error) {
  if (engine.logs(LogLevel::info)) engine.log(LogLevel::info, "scheduler", what + ": " + error.to_string());
}

void Scheduler::Impl::tell(const Object& pod, const std::string& reason, const std::string& message,
                           const std::optional<std::string>& nominated, bool event) {
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

void Scheduler::Impl::not_told(const Object& pod, const Error& error) {
  complain("condition of " + ObjectKey::of(pod).text(), error);
  {
    std::lock_guard lock(mutex);
    ++stats.errors;
    told.erase(pod.uid());
    if (queue->contains(pod.uid())) queue->add(shape_of(pod), now());
  }
  pump();
}

}  // namespace orchestra
