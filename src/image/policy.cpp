// The collection that nobody asked for, see policy.hpp.
#include "image/policy.hpp"

#include <sys/statvfs.h>

#include <cerrno>

#include "image/collect.hpp"

namespace orchestra::image {
namespace {

Result<DiskUse> disk_of(const std::string& path) {
  struct statvfs status {};
  if (::statvfs(path.c_str(), &status) != 0) return system_error("image", "statvfs", path, errno);
  DiskUse out;
  out.capacity = static_cast<std::uint64_t>(status.f_blocks) * status.f_frsize;
  out.available = static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
  return out;
}

}  // namespace

std::uint64_t bytes_to_free(const DiskUse& disk, const CollectPolicy& policy) {
  if (disk.capacity == 0 || disk.available > disk.capacity) return 0;
  // Percent by whole numbers, as the kubelet: 100 - available * 100 / capacity.
  const auto percent = static_cast<int>(100 - disk.available * 100 / disk.capacity);
  if (percent < policy.high_percent) return 0;
  const std::uint64_t wanted = disk.capacity / 100 * static_cast<std::uint64_t>(100 - policy.low_percent);
  return wanted > disk.available ? wanted - disk.available : 0;
}

void tell(Store& store, bool warning, const std::string& reason, const std::string& message) {
  store.engine().log(warning ? LogLevel::warning : LogLevel::info, "image", message, {{"reason", reason}});
  if (store.options().on_event) store.options().on_event({warning, reason, message});
}

Result<CollectReport> collect_by_policy(Store& store, const CollectPolicy& policy) {
  if (policy.low_percent > policy.high_percent || policy.low_percent < 0 || policy.high_percent > 100) {
    return Error(Error::invalid, "image",
                 "image GC from " + std::to_string(policy.high_percent) + " % down to " +
                     std::to_string(policy.low_percent) + " %: the first must be the larger, both 0..100");
  }
  ORC_ASSIGN(const DiskUse before, disk_of(store.directory()));
  const std::uint64_t goal = bytes_to_free(before, policy);
  CollectOptions options;
  options.minimum_age = policy.minimum_age;
  options.maximum_age = policy.maximum_age;
  options.bytes_max = policy.bytes_max;
  if (goal > 0) {
    ORC_ASSIGN(const std::uint64_t have, store_bytes(store));
    const std::uint64_t limit = have > goal ? have - goal : 0;
    options.bytes_max = std::min(options.bytes_max.value_or(limit), limit);
  }
  ORC_ASSIGN(CollectReport report, collect(store, options));
  if (!report.removed.empty()) {
    tell(store, false, "ImagesCollected",
         std::to_string(report.bytes) + " bytes freed, " + std::to_string(report.removed.size()) +
             " things removed");
  }
  if (goal > report.bytes) {
    const std::string message = "wanted to free " + std::to_string(goal) + " bytes, but only " +
                                std::to_string(report.bytes) +
                                " bytes of images may go: the rest is pinned, in use or not of this store";
    tell(store, true, "FreeDiskSpaceFailed", message);
    return Error(Error::no_space, "image", message).with_detail(report);
  }
  return report;
}

void collect_after_no_space(Store& store) {
  CollectPolicy policy = store.options().collect;
  if (!policy.automatic) return;
  // The disk is full by its own word: down to the low mark, whatever the percentage says.
  policy.high_percent = policy.low_percent;
  (void)collect_by_policy(store, policy);
}

struct AutoCollect::State {
  std::weak_ptr<Store> store;
  Engine* engine = nullptr;
  Duration period{};
  std::mutex mutex;
  Engine::TimerId timer = 0;
  bool stopped = false;
};

std::shared_ptr<AutoCollect> AutoCollect::start(std::shared_ptr<Store> store) {
  auto state = std::make_shared<State>();
  state->engine = &store->engine();
  state->period = std::max<Duration>(store->options().collect.period, std::chrono::seconds(1));
  state->store = store;
  arm(state);
  return std::shared_ptr<AutoCollect>(new AutoCollect(std::move(state)));
}

void AutoCollect::arm(const std::shared_ptr<State>& state) {
  std::lock_guard lock(state->mutex);
  if (state->stopped) return;
  state->timer = state->engine->after(state->period, [state] {
    (void)state->engine->post_blocking([state] {
      // The store may be going: its owner's drop must not be kept waiting by us for longer than one look.
      if (const auto store = state->store.lock()) {
        auto done = collect_by_policy(*store, store->options().collect);
        if (!done && !done.error().is(Error::no_space))
          tell(*store, true, "ImageGCFailed", done.error().to_string());
      }
      arm(state);
    });
  });
}

AutoCollect::~AutoCollect() {
  std::lock_guard lock(state_->mutex);
  state_->stopped = true;
  state_->engine->cancel_timer(state_->timer);
}

}  // namespace orchestra::image
