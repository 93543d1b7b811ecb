#pragma once
// ControlLoops: controllers and scheduler, on the elected one only.
//
// With `elect` an election over the store decides. Whoever wins makes new controllers and a new scheduler
// whose every write carries the election's token and fails once another holds it; whoever loses stops them
// before anything else. Without `elect` (one peer) they run from start() on. Starting and stopping block, so
// one worker task at a time does it, and always drives towards what the election said last.
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "orchestra/controllers.hpp"
#include "orchestra/leader_election.hpp"
#include "orchestra/metrics.hpp"
#include "orchestra/scheduler.hpp"

namespace orchestra::cluster {

struct ControlLoopsOptions {
  bool elect = false;
  std::string identity;  ///< of this process among its peers
  std::chrono::seconds ttl{15};
  ControllersOptions controllers;
  SchedulerOptions scheduler;
};

inline constexpr const char* kControlKey = "/orchestra/elections/control";

class ControlLoops : public std::enable_shared_from_this<ControlLoops> {
 public:
  ControlLoops(Engine& engine, Client client, std::shared_ptr<StateStore> store, ControlLoopsOptions options);
  ~ControlLoops();  ///< stop()
  Result<void> start();
  /// No write is made after this has returned. Idempotent; not on an engine thread.
  void stop();
  /// This process runs them now.
  bool running() const;
  /// Waits until running() is `wanted`; for tests and `explain`.
  bool wait_running(bool wanted, Duration deadline) const;
  /// The running set; empty while another leads. Kept alive by the answer.
  std::shared_ptr<Controllers> controllers() const;
  std::shared_ptr<Scheduler> scheduler() const;
  /// The scheduler's counters, by upstream's names, while it runs here.
  void collect(MetricSink& sink) const;

 private:
  struct Set {
    std::shared_ptr<Controllers> controllers;
    std::shared_ptr<Scheduler> scheduler;
  };
  Result<Set> make_set(const std::string& fence);
  static void end_set(Set& set);
  void want(std::optional<Revision> token);
  void drive();

  Engine& engine_;
  const Client client_;
  const std::shared_ptr<StateStore> store_;
  const ControlLoopsOptions options_;
  std::unique_ptr<LeaderElection> election_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::optional<Revision> wanted_;  // the token to run under; none: not to run
  std::optional<Revision> current_;
  Set set_;
  bool driving_ = false, stopped_ = false;
};

}  // namespace orchestra::cluster
