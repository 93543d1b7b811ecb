#pragma once
// Leases: what a running operation has touched cannot be collected until the operation ends.
//
// Keys are blob digests and "layer:CHAINID". An operation adds a key before it looks whether the content
// exists; the collector asks with the table locked, right before it deletes. Leases live in memory: the
// store has one owner process, so a crash leaves none behind.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

namespace orchestra::image {

class LeaseTable;

class Lease {
 public:
  explicit Lease(LeaseTable& table) : table_(&table) {}
  Lease(Lease&& other) noexcept : table_(other.table_), keys_(std::move(other.keys_)) { other.keys_.clear(); }
  Lease& operator=(Lease&&) = delete;
  ~Lease();
  void hold(const std::string& key);

 private:
  LeaseTable* table_;
  std::set<std::string> keys_;  ///< under the table's mutex
};

class LeaseTable {
 public:
  Lease begin() { return Lease(*this); }
  /// Calls `remove` with the table locked, unless `key` is held. True if called.
  template <class F>
  bool unless_held(const std::string& key, F remove) {
    std::lock_guard lock(mutex_);
    if (counts_.contains(key)) return false;
    remove();
    return true;
  }

 private:
  friend class Lease;
  std::mutex mutex_;
  std::map<std::string, std::uint64_t> counts_;
};

inline Lease::~Lease() {
  std::lock_guard lock(table_->mutex_);
  for (const std::string& key : keys_) {
    const auto found = table_->counts_.find(key);
    if (--found->second == 0) table_->counts_.erase(found);
  }
}
inline void Lease::hold(const std::string& key) {
  std::lock_guard lock(table_->mutex_);
  if (keys_.insert(key).second) ++table_->counts_[key];
}
inline std::string layer_key(const std::string& chain) { return "layer:" + chain; }

}  // namespace orchestra::image
