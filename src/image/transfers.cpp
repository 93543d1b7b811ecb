// Helpers hold only the queue until they really have something to do; the caller outlives their work.
#include "image/transfers.hpp"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>

namespace orchestra::image {
namespace {

struct Queue {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Transfer> waiting;  ///< last first
  int running = 0;
  std::optional<Error> failure;
};

/// A helper that starts late finds nothing, and touches nothing.
void work(Queue& queue) {
  while (true) {
    Transfer transfer;
    {
      std::lock_guard lock(queue.mutex);
      if (queue.waiting.empty() || queue.failure) return;
      transfer = std::move(queue.waiting.back());
      queue.waiting.pop_back();
      ++queue.running;
    }
    auto done = transfer();
    transfer = nullptr;
    std::lock_guard lock(queue.mutex);
    if (!done && !queue.failure) queue.failure = done.error();
    --queue.running;
    queue.changed.notify_all();
  }
}

}  // namespace

Result<void> run_transfers(Engine& engine, std::vector<Transfer> transfers) {
  const auto queue = std::make_shared<Queue>();
  queue->waiting.assign(std::make_move_iterator(transfers.rbegin()),
                        std::make_move_iterator(transfers.rend()));
  const std::size_t count = queue->waiting.size();
  for (std::size_t i = 1; i < kTransfersAtOnce && i < count; ++i) {
    (void)engine.post_blocking([queue] { work(*queue); });
  }
  work(*queue);
  std::unique_lock lock(queue->mutex);
  queue->changed.wait(lock, [&] { return queue->running == 0; });
  queue->waiting.clear();
  if (queue->failure) return *queue->failure;
  return {};
}

}  // namespace orchestra::image
