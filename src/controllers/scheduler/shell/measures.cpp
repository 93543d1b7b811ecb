#include "controllers/scheduler/shell/measures.hpp"

#include <vector>

namespace orchestra::sched {
namespace {

std::vector<double> exponential(double first, int count) {
  std::vector<double> bounds;
  for (double bound = first; count > 0; bound *= 2, --count) bounds.push_back(bound);
  return bounds;
}

// Names and labels are right, and a family of another kind by such a name would be the host's own doing: then
// it is not measured.
template <class Family>
std::optional<Family> kept(Result<Family> family) {
  if (!family) return std::nullopt;
  return std::move(*family);
}

double seconds(std::int64_t ns) { return static_cast<double>(ns) / 1e9; }

}  // namespace

Measures::Measures(Metrics& registry)
    : attempts_(kept(registry.histogram("scheduler_scheduling_attempt_duration_seconds",
                                        "Attempts to place a pod, up to its binding or refusal.",
                                        exponential(0.001, 15), {"result", "profile"}))),
      whole_(kept(registry.histogram("scheduler_pod_scheduling_sli_duration_seconds",
                                     "From the moment that a pod could be placed to its binding.",
                                     exponential(0.01, 20), {"attempts"}))),
      points_(kept(registry.histogram("scheduler_framework_extension_point_duration_seconds",
                                      "What one extension point took in one attempt.",
                                      exponential(0.0001, 12), {"extension_point", "status", "profile"}))),
      unschedulable_(
          kept(registry.gauge("scheduler_unschedulable_pods",
                              "Pods that wait, by the plugins that refused them.", {"plugin", "profile"}))) {}

Measures::~Measures() {
  while (!refused_.empty()) pod_left(std::string(refused_.begin()->first));
}

void Measures::attempt(const std::string& result, const std::string& profile, std::int64_t took_ns) const {
  if (attempts_) attempts_->with({result, profile}).observe(seconds(took_ns));
}

void Measures::point(const char* point, const char* status, const std::string& profile,
                     std::int64_t took_ns) {
  if (!points_) return;
  std::lock_guard lock(mutex_);
  const auto key = std::tuple(point, status, profile);
  auto found = kept_points_.find(key);
  if (found == kept_points_.end())
    found = kept_points_.emplace(key, points_->with({point, status, profile})).first;
  found->second.observe(seconds(took_ns));
}

void Measures::scheduled(std::uint32_t attempts, std::int64_t took_ns) const {
  // As upstream: 1 to 15, then "16+".
  if (whole_) whole_->with({attempts > 15 ? "16+" : std::to_string(attempts)}).observe(seconds(took_ns));
}

void Measures::pod_refused(const std::string& uid, const std::string& profile,
                           const std::set<std::string>& plugins) {
  const auto known = refused_.find(uid);
  if (known != refused_.end() && known->second.plugins == plugins && known->second.profile == profile) return;
  pod_left(uid);
  refused_[uid] = {profile, plugins};
  for (const std::string& plugin : plugins) {
    if (unschedulable_) unschedulable_->with({plugin, profile}).add(1);
  }
}

void Measures::pod_left(const std::string& uid) {
  const auto known = refused_.find(uid);
  if (known == refused_.end()) return;
  for (const std::string& plugin : known->second.plugins) {
    if (unschedulable_) unschedulable_->with({plugin, known->second.profile}).add(-1);
  }
  refused_.erase(known);
}

}  // namespace orchestra::sched
