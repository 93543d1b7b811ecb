// Waking many: see wake_list.hpp.
#include "apiserver/wake_list.hpp"

#include <utility>
#include <vector>

namespace orchestra::apiserver {

void WakeList::add(std::shared_ptr<Sleeper> sleeper) {
  {
    std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(sleeper));
    // A second job only where there is more than the first one takes.
    if (jobs_ == kJobsMax || waiting_.size() <= jobs_ * kAtATime) return;
    ++jobs_;
  }
  post();
}

/// One that an engine which stops throws away frees those who wait: they hold what holds this list.
struct WakeList::Job {
  explicit Job(std::shared_ptr<WakeList> of) : list(std::move(of)) {}
  ~Job() {
    if (list) list->drop();
  }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  std::shared_ptr<WakeList> list;  ///< null: it has run
};

void WakeList::post() {
  engine_.post(
      [job = std::make_shared<Job>(shared_from_this())] { std::exchange(job->list, nullptr)->run(); });
}

void WakeList::drop() {
  std::deque<std::shared_ptr<Sleeper>> dropped;
  std::lock_guard lock(mutex_);
  --jobs_;
  dropped.swap(waiting_);
}

void WakeList::run() {
  std::vector<std::shared_ptr<Sleeper>> taken;
  taken.reserve(kAtATime);
  {
    std::lock_guard lock(mutex_);
    while (!waiting_.empty() && taken.size() < kAtATime) {
      taken.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
  }
  for (const auto& sleeper : taken) sleeper->woken();
  {
    std::lock_guard lock(mutex_);
    if (waiting_.empty()) {
      --jobs_;
      return;
    }
  }
  post();
}

}  // namespace orchestra::apiserver
