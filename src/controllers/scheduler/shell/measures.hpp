#pragma once
// What a Scheduler measures: kubernetes/pkg/scheduler/metrics/metrics.go. Extension points are timed as a
// whole; single builtin plugins are not, since they are columns of one evaluation.
//
// Thread safe as far as Metrics is; pod_* are called under the scheduler's mutex.
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>

#include "orchestra/metrics.hpp"

namespace orchestra::sched {

class Measures {
 public:
  explicit Measures(Metrics& registry);
  ~Measures();  ///< whom it counted waits elsewhere now
  Measures(const Measures&) = delete;
  Measures& operator=(const Measures&) = delete;
  /// One attempt, from the moment that the pod was taken to its binding or refusal. `result`: "scheduled",
  /// "unschedulable", "error".
  void attempt(const std::string& result, const std::string& profile, std::int64_t took_ns) const;
  /// A pod is bound: since it came into the queue. `attempts`: how many it took.
  void scheduled(std::uint32_t attempts, std::int64_t took_ns) const;
  /// One extension point of one attempt; both texts are literals. Any thread.
  void point(const char* point, const char* status, const std::string& profile, std::int64_t took_ns);
  /// The pod waits, refused by these plugins.
  void pod_refused(const std::string& uid, const std::string& profile, const std::set<std::string>& plugins);
  /// The pod waits no longer.
  void pod_left(const std::string& uid);

 private:
  std::optional<MetricFamily<Histogram>> attempts_, whole_, points_;
  std::mutex mutex_;
  // Kept, because there are several of these for each pod. The literals' addresses tell them apart.
  std::map<std::tuple<const char*, const char*, std::string>, Histogram> kept_points_;
  std::optional<MetricFamily<Gauge>> unschedulable_;
  struct Refused {
    std::string profile;
    std::set<std::string> plugins;
  };
  std::unordered_map<std::string, Refused> refused_;  // by UID
};

}  // namespace orchestra::sched
