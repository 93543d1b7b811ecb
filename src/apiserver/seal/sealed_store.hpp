#pragma once
// SealedStore: a StateStore whose values are sealed on the way in and opened on the way out.
//
// It stands between the API server and any store, so tree, log, snapshots and backups below it hold
// ciphertext only, and nothing above it knows. What cannot be opened is an error of that read, never
// garbage. Everything but values passes through.
#include "apiserver/seal/sealer.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

class SealedStore final : public StateStore {
 public:
  explicit SealedStore(std::shared_ptr<StateStore> below);
  ~SealedStore() override;
  /// Before the first call; without one everything passes as it is.
  void set_sealer(std::shared_ptr<const Sealer> sealer);

  /// Rewrites every value that is not sealed as a write would seal it now; answers how many. Blocks.
  Result<std::size_t> reencrypt();

  Pending<GetResult> get(std::string key, GetOptions options) override;
  Pending<RangeResult> range(KeyRange range, RangeOptions options) override;
  Pending<Snapshot> snapshot(Revision revision, Consistency consistency) override;
  Pending<WriteResult> put(std::string key, Value value, PutOptions options) override;
  Pending<WriteResult> remove(KeyRange range, RemoveOptions options) override;
  Pending<TxnResult> txn(Txn txn) override;
  Result<Watch> watch(WatchOptions options) override;
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
  Revision revision() const override { return below_->revision(); }
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

  /// Answers (`cancelled`) once this is gone and has let go of the store below. One caller.
  Pending<> released() const { return gone_.pending(); }

  struct Shared;

 private:
  const Promise<> gone_;  ///< first: it goes last
  std::shared_ptr<StateStore> below_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace orchestra::apiserver
