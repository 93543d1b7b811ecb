#pragma once
// When images go by themselves: the kubelet's image garbage collection, as a decision and a timer.
//
// Facts: kubernetes pkg/kubelet/images/image_gc_manager.go: from `high` percent of the file system in use
// images go until `low` percent, the least recently used first, none younger than the minimum age, none in
// use, none pinned; images unused for the maximum age go in any case.
#include <cstdint>
#include <memory>
#include <optional>

#include "image/store.hpp"

namespace orchestra::image {

struct DiskUse {
  std::uint64_t capacity = 0, available = 0;
};
/// Bytes to free now; 0: nothing has to go. Pure.
std::uint64_t bytes_to_free(const DiskUse& disk, const CollectPolicy& policy);

Result<CollectReport> collect_by_policy(Store& store, const CollectPolicy& policy);

/// A write found the disk full: what may go goes now, if the store collects by itself.
void collect_after_no_space(Store& store);

/// Looks every period on a worker thread until it is dropped.
class AutoCollect {
 public:
  static std::shared_ptr<AutoCollect> start(std::shared_ptr<Store> store);
  ~AutoCollect();

 private:
  struct State;
  explicit AutoCollect(std::shared_ptr<State> state) : state_(std::move(state)) {}
  static void arm(const std::shared_ptr<State>& state);
  std::shared_ptr<State> state_;
};

/// Tells the host of the store what happened; also a log line.
void tell(Store& store, bool warning, const std::string& reason, const std::string& message);

}  // namespace orchestra::image
