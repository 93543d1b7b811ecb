#pragma once
// Those who have something to do now, and the few jobs that go through them.
//
// A write to the store wakes all its watchers, one by one, on the thread of the writer. A job on the event
// threads for each of a thousand would cost more than what most of them have to do. So the writer only puts
// them down here, and as many jobs as work side by side take them from the front, some at a time: what else
// waits for an event thread comes in between.
#include <deque>
#include <memory>
#include <mutex>

#include "orchestra/engine.hpp"

namespace orchestra::apiserver {

class WakeList : public std::enable_shared_from_this<WakeList> {
 public:
  class Sleeper {
   public:
    virtual ~Sleeper() = default;
    /// On an event thread.
    virtual void woken() = 0;
  };
  static constexpr std::size_t kJobsMax = 2;  ///< what an engine has of event threads, by default
  static constexpr std::size_t kAtATime = 32;

  explicit WakeList(Engine& engine) : engine_(engine) {}
  /// Any thread; each addition is one call of woken(), in the order of the additions.
  void add(std::shared_ptr<Sleeper> sleeper);

 private:
  struct Job;
  void post();
  void run();
  void drop();

  Engine& engine_;
  std::mutex mutex_;
  std::deque<std::shared_ptr<Sleeper>> waiting_;
  std::size_t jobs_ = 0;
};

}  // namespace orchestra::apiserver
