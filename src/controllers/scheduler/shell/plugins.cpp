// Reserve, Permit and PreBind of the host's plugins, each call with its deadline.
#include <algorithm>

#include "controllers/scheduler/shell/impl.hpp"

namespace orchestra {

using namespace controllers;
using sched::Hint;

namespace {
constexpr int kPreBindDeadlines = 100;
}  // namespace

std::vector<SchedulerPlugin*> Scheduler::Impl::plugins_for(const Object& pod) const {
  const SchedulingProfile* profile = profile_of(pod);
  std::vector<SchedulerPlugin*> all;
  for (const auto& plugin : options.plugins) {
    if (profile != nullptr && !profile->disabled_filters.contains(plugin->name()))
      all.push_back(plugin.get());
  }
  return all;
}

Result<PermitAnswer> Scheduler::Impl::ask(
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

Result<PermitAnswer> Scheduler::Impl::as_answer(Result<void> result) {
  if (!result) return result.error();
  return PermitAnswer{};
}

void Scheduler::Impl::unreserve(const Placed& placed) {
  for (SchedulerPlugin* plugin : plugins_for(placed.pod)) {
    (void)ask(
        *plugin, placed, 1,
        [](SchedulerPlugin& each, const PodShape& pod, const std::string& node) -> Result<PermitAnswer> {
          each.unreserve(pod, node);
          return PermitAnswer{};
        });
  }
}

bool Scheduler::Impl::reserve(Placed& placed) {
  std::int64_t begun = now();
  for (SchedulerPlugin* plugin : plugins_for(placed.pod)) {
    const auto done =
        ask(*plugin, placed, 1, [](SchedulerPlugin& each, const PodShape& pod, const std::string& node) {
          return as_answer(each.reserve(pod, node));
        });
    if (!done) {
      measure_point(placed.pod, "Reserve", "Error", begun);
      return give_up(placed, "plugin " + plugin->name() + ": reserve: " + done.error().message()), false;
    }
  }
  measure_point(placed.pod, "Reserve", "Success", std::exchange(begun, now()));
  for (SchedulerPlugin* plugin : plugins_for(placed.pod)) {
    const auto answer =
        ask(*plugin, placed, 1,
            [](SchedulerPlugin& each, const PodShape& pod, const std::string& node) -> Result<PermitAnswer> {
              return each.permit(pod, node);
            });
    if (!answer) {
      measure_point(placed.pod, "Permit", "Error", begun);
      return give_up(placed, "plugin " + plugin->name() + ": permit: " + answer.error().message()), false;
    }
    if (answer->kind != PermitAnswer::Kind::allow) {
      const bool waits = answer->kind == PermitAnswer::Kind::wait;
      measure_point(placed.pod, "Permit", waits ? "Wait" : "Unschedulable", begun);
    }
    if (answer->kind == PermitAnswer::Kind::deny)
      return give_up(placed, "plugin " + plugin->name() + ": " + answer->reason), false;
    if (answer->kind == PermitAnswer::Kind::wait) {
      std::lock_guard lock(mutex);
      placed.deadline_ns = now() + Duration(answer->timeout).count();
      awaiting_permit.insert_or_assign(placed.pod.uid(), std::move(placed));
      return false;
    }
  }
  measure_point(placed.pod, "Permit", "Success", begun);
  return true;
}

bool Scheduler::Impl::pre_bind(const Placed& placed) {
  const std::int64_t begun = now();
  for (SchedulerPlugin* plugin : plugins_for(placed.pod)) {
    const auto done = ask(*plugin, placed, kPreBindDeadlines,
                          [](SchedulerPlugin& each, const PodShape& pod, const std::string& node) {
                            return as_answer(each.pre_bind(pod, node));
                          });
    if (!done) {
      measure_point(placed.pod, "PreBind", "Error", begun);
      return give_up(placed, "plugin " + plugin->name() + ": preBind: " + done.error().message()), false;
    }
  }
  measure_point(placed.pod, "PreBind", "Success", begun);
  return true;
}

bool Scheduler::Impl::permitted(const std::string& ns, const std::string& name,
                                const std::optional<std::string>& refusal) {
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

void Scheduler::Impl::check_permits() {
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

}  // namespace orchestra
