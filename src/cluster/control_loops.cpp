#include "cluster/control_loops.hpp"

namespace orchestra::cluster {

ControlLoops::ControlLoops(Engine& engine, Client client, std::shared_ptr<StateStore> store,
                           ControlLoopsOptions options)
    : engine_(engine), client_(std::move(client)), store_(std::move(store)), options_(std::move(options)) {}

ControlLoops::~ControlLoops() { stop(); }

Result<ControlLoops::Set> ControlLoops::make_set(const std::string& fence) {
  ControllersOptions for_controllers = options_.controllers;
  for_controllers.fence = fence;
  SchedulerOptions for_scheduler = options_.scheduler;
  for_scheduler.fence = fence;
  Set set;
  set.controllers = std::make_shared<Controllers>(engine_, client_, std::move(for_controllers));
  set.scheduler = std::make_shared<Scheduler>(engine_, client_, std::move(for_scheduler));
  Result<void> started = set.controllers->start();
  if (started) started = set.scheduler->start();
  if (started) return set;
  end_set(set);
  return started.error();
}

void ControlLoops::end_set(Set& set) {
  if (set.scheduler) set.scheduler->stop();
  if (set.controllers) set.controllers->stop();
  set = {};
}

Result<void> ControlLoops::start() {
  if (!options_.elect) {
    ORC_ASSIGN(Set set, make_set({}));
    std::lock_guard lock(mutex_);
    set_ = std::move(set);
    current_ = wanted_ = 0;
    changed_.notify_all();
    return {};
  }
  LeaderElectionOptions election;
  election.key = kControlKey;
  election.identity = options_.identity;
  election.ttl = options_.ttl;
  election.on_elected = [weak = weak_from_this()](Revision token) {
    if (const auto self = weak.lock()) self->want(token);
  };
  election.on_lost = [weak = weak_from_this()](const Error&) {
    if (const auto self = weak.lock()) self->want(std::nullopt);
  };
  election_ = std::make_unique<LeaderElection>(engine_, store_, std::move(election));
  return election_->start();
}

void ControlLoops::want(std::optional<Revision> token) {
  {
    std::lock_guard lock(mutex_);
    wanted_ = token;
    if (driving_ || stopped_) return;
    driving_ = true;
  }
  const auto queued = engine_.post_blocking([self = shared_from_this()] { self->drive(); });
  if (queued) return;
  std::lock_guard lock(mutex_);
  driving_ = false;
  changed_.notify_all();
}

// One step at a time until what runs is what was asked for last.
void ControlLoops::drive() {
  std::unique_lock lock(mutex_);
  while (!stopped_ && current_ != wanted_) {
    const std::optional<Revision> token = wanted_;
    Set old = std::move(set_);
    set_ = {};
    current_.reset();
    lock.unlock();
    end_set(old);
    Set fresh;
    bool runs = false;
    if (!token)
      engine_.log(LogLevel::info, "cluster", "no longer elected: controllers and scheduler ended here");
    if (token) {
      const std::string fence = std::string(kControlKey) + "=" + std::to_string(*token);
      auto made = make_set(fence);
      if (made) {
        fresh = std::move(*made);
        runs = true;
        engine_.log(LogLevel::info, "cluster", "elected: controllers and scheduler run here now");
      } else {
        engine_.log(LogLevel::error, "cluster", "the controllers could not start",
                    {{"error", made.error().to_string()}});
      }
    }
    lock.lock();
    set_ = std::move(fresh);
    if (runs) current_ = token;
    changed_.notify_all();
    if (token && !runs) break;  // the next election tries again
  }
  driving_ = false;
  changed_.notify_all();
}

void ControlLoops::stop() {
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return;
    stopped_ = true;
  }
  Set old;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !driving_; });
    old = std::move(set_);
    set_ = {};
    current_.reset();
    changed_.notify_all();
  }
  end_set(old);
  if (election_) election_->stop();  // only now may another one begin
}

bool ControlLoops::running() const {
  std::lock_guard lock(mutex_);
  return current_.has_value();
}

bool ControlLoops::wait_running(bool wanted, Duration deadline) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, deadline, [&] { return current_.has_value() == wanted; });
}

std::shared_ptr<Controllers> ControlLoops::controllers() const {
  std::lock_guard lock(mutex_);
  return set_.controllers;
}

std::shared_ptr<Scheduler> ControlLoops::scheduler() const {
  std::lock_guard lock(mutex_);
  return set_.scheduler;
}

}  // namespace orchestra::cluster
