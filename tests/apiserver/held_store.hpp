#pragma once
// A store between an API server and a MemoryStore that does what a test says: it keeps calls waiting, fails
// them, or lets somebody else write first.
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "orchestra/memory_store.hpp"

namespace orchestra::test {

class HeldStore final : public StateStore {
 public:
  explicit HeldStore(Engine& engine) : below_(MemoryStore::create(engine)) {}

  /// Linearizable reads and writes wait from now on; local reads, which watches begin with, do not.
  void hold() {
    std::lock_guard lock(mutex_);
    holding_ = true;
  }
  void release() {
    std::vector<std::function<void()>> go;
    {
      std::lock_guard lock(mutex_);
      holding_ = false;
      go.swap(held_);
    }
    for (const auto& one : go) one();
  }
  /// Returns once this many calls wait; false after half a minute.
  bool wait_held(std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return held_.size() >= count; });
  }
  void fail_reads(std::optional<Error> error) {
    std::lock_guard lock(mutex_);
    read_error_ = std::move(error);
  }
  /// `applied`: the write happens, and nobody hears of it.
  void fail_writes(std::optional<Error> error, bool applied = false) {
    std::lock_guard lock(mutex_);
    write_error_ = std::move(error);
    applied_ = applied;
  }
  /// Called before each write reaches the store, with the store below and the write.
  void before_write(std::function<void(StateStore&, const Txn&)> call) {
    std::lock_guard lock(mutex_);
    before_write_ = std::move(call);
  }
  /// Ends every watch that is open, as the store ends one that history has left behind.
  void end_watches(const Error& error) {
    std::vector<std::function<void()>> ready;
    {
      std::lock_guard lock(mutex_);
      watch_error_ = error;
      ++endings_;
      ready.swap(ready_);
    }
    for (const auto& call : ready) call();
  }
  /// Says that it is at no revision, as one that has nothing yet.
  void look_empty(bool empty) { empty_ = empty; }
  std::uint64_t watchers() const { return below_->status().watchers; }

  Pending<Snapshot> snapshot(Revision revision, Consistency consistency) override {
    const bool local = consistency == Consistency::serializable;
    return pass<Snapshot>(local, read_error_, [below = below_, revision, consistency] {
      return below->snapshot(revision, consistency);
    });
  }
  Pending<TxnResult> txn(Txn txn) override {
    std::function<void(StateStore&, const Txn&)> before;
    bool unheard = false;
    {
      std::lock_guard lock(mutex_);
      before = before_write_;
      unheard = write_error_ && applied_;
    }
    if (before) before(*below_, txn);
    if (unheard) (void)below_->txn(txn).wait(std::chrono::seconds(30));
    return pass<TxnResult>(false, write_error_,
                           [below = below_, txn = std::move(txn)] { return below->txn(txn); });
  }
  Result<Watch> watch(WatchOptions options) override {
    auto below = below_->watch(std::move(options));
    if (!below) return below.error();
    return Watch(std::make_unique<HeldWatch>(*this, std::move(*below)));
  }

  Pending<GetResult> get(std::string key, GetOptions options) override {
    return below_->get(std::move(key), options);
  }
  Pending<RangeResult> range(KeyRange range, RangeOptions options) override {
    return below_->range(std::move(range), options);
  }
  Pending<WriteResult> put(std::string key, Value value, PutOptions options) override {
    return below_->put(std::move(key), std::move(value), std::move(options));
  }
  Pending<WriteResult> remove(KeyRange range, RemoveOptions options) override {
    return below_->remove(std::move(range), options);
  }
  Pending<LeaseId> lease_grant(std::chrono::seconds ttl, LeaseId id) override {
    return below_->lease_grant(ttl, id);
  }
  Pending<void> lease_keep_alive(LeaseId id) override { return below_->lease_keep_alive(id); }
  Pending<void> lease_revoke(LeaseId id) override { return below_->lease_revoke(id); }
  Pending<LeaseInfo> lease_time_to_live(LeaseId id, bool want_keys) override {
    return below_->lease_time_to_live(id, want_keys);
  }
  Pending<std::vector<LeaseInfo>> lease_list() override { return below_->lease_list(); }
  Pending<void> compact(Revision revision) override { return below_->compact(revision); }
  Revision revision() const override { return empty_ ? 0 : below_->revision(); }
  Revision compacted_revision() const override { return below_->compacted_revision(); }
  Pending<void> wait_revision(Revision revision, Duration deadline) override {
    return below_->wait_revision(revision, deadline);
  }
  StoreStatus status() const override { return below_->status(); }
  StoreCapabilities capabilities() const override { return below_->capabilities(); }
  Pending<Revision> save_snapshot(std::function<Result<void>(std::string_view)> sink) override {
    return below_->save_snapshot(std::move(sink));
  }
  std::string cluster_id() const override { return below_->cluster_id(); }
  void stop() override { below_->stop(); }

 private:
  class HeldWatch final : public Watch::Impl {
   public:
    HeldWatch(HeldStore& store, Watch below) : store_(store), below_(std::move(below)) {
      std::lock_guard lock(store_.mutex_);
      born_ = store_.endings_;
    }
    Result<std::optional<WatchBatch>> next(Duration deadline) override { return told(below_.next(deadline)); }
    Result<std::optional<WatchBatch>> poll() override {
      {
        std::lock_guard lock(store_.mutex_);
        if (born_ != store_.endings_) return *store_.watch_error_;
      }
      return told(below_.poll());
    }
    void notify(std::function<void()> ready) override {
      {
        std::lock_guard lock(store_.mutex_);
        store_.ready_.push_back(ready);
      }
      below_.notify(std::move(ready));
    }
    void cancel() override { below_.cancel(); }
    Revision progress() override { return below_.progress(); }

   private:
    Result<std::optional<WatchBatch>> told(std::optional<WatchBatch> batch) {
      if (!batch && below_.error()) return *below_.error();
      return batch;
    }
    HeldStore& store_;
    Watch below_;
    int born_ = 0;
  };

  template <class T, class F>
  Pending<T> pass(bool never_held, const std::optional<Error>& error, F call) {
    {
      std::lock_guard lock(mutex_);
      if (error) return *error;
      if (holding_ && !never_held) {
        Promise<T> promise;
        held_.push_back([promise, call] {
          call().on_ready([promise](Result<T> result) { promise.set(std::move(result)); });
        });
        changed_.notify_all();
        return promise.pending();
      }
    }
    return call();
  }

  std::shared_ptr<StateStore> below_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool holding_ = false, applied_ = false;
  int endings_ = 0;  ///< of watches
  std::atomic<bool> empty_{false};
  std::optional<Error> read_error_, write_error_, watch_error_;
  std::function<void(StateStore&, const Txn&)> before_write_;
  std::vector<std::function<void()>> held_, ready_;
};

}  // namespace orchestra::test
