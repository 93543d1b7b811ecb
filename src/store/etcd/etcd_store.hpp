#pragma once
// EtcdStoreImpl: etcd decides, a mirror of the prefix serves; see orchestra/etcd_store.hpp.
//
// A LocalStore whose commands become final in etcd and whose state follows the feed. Reads, watches,
// snapshots and old revisions come from the mirror where it has them; a linearizable read first asks etcd
// for its revision and waits until the mirror is there (3 s, then it reads through). Where changes outside
// of the prefix move etcd's revision on, the feed is asked for progress each 100 ms; with releases whose
// progress answers may overtake events, etcd is asked instead for the number of keys and the newest change
// under the prefix: if the mirror has both, nothing is missing.
//
//   etcd_store.cpp   reads, leases, status        mirror.cpp    loading, following, catching up
//   writes.cpp       commands, compaction         wire.cpp      the HTTP client and open()
#include <atomic>

#include "orchestra/etcd_store.hpp"
#include "store/etcd/feed.hpp"
#include "store/etcd/gateway.hpp"
#include "store/local_store.hpp"

namespace orchestra::store::etcd {

class EtcdStoreImpl final : public LocalStore {
 public:
  EtcdStoreImpl(Engine& engine, std::shared_ptr<HttpClient> http, EtcdStoreOptions options);
  ~EtcdStoreImpl() override;
  /// Blocks until the mirror is there.
  Result<void> start();

  Pending<GetResult> get(std::string key, GetOptions options) override;
  Pending<RangeResult> range(KeyRange range, RangeOptions options) override;
  Pending<Snapshot> snapshot(Revision revision, Consistency consistency) override;
  Result<Watch> watch(WatchOptions options) override;
  Pending<void> lease_keep_alive(LeaseId id) override;
  Pending<LeaseInfo> lease_time_to_live(LeaseId id, bool want_keys) override;
  Pending<std::vector<LeaseInfo>> lease_list() override;
  Pending<void> wait_revision(Revision revision, Duration deadline) override;
  StoreStatus status() const override;
  StoreCapabilities capabilities() const override;
  Pending<Revision> save_snapshot(std::function<Result<void>(std::string_view)> sink) override;
  std::string cluster_id() const override;
  void stop() override;

 private:
  using Done = std::function<void(Result<void>)>;
  using Caught = std::function<void(bool)>;
  using Records = std::vector<RecordRef>;

  void propose(Command&& command, Answer answer) override;
  LogIdentity identity() const override;

  // writes.cpp
  void propose_txn(Txn txn, Answer answer);
  void propose_grant(const LeaseGrant& grant, Answer answer);
  void propose_revoke(const LeaseRevoke& revoke, Answer answer);
  void propose_compact(const Compact& compact, Answer answer);
  /// Answers once the mirror shows `result`, if it changed what is mirrored.
  void settle(TxnResult result, bool visible, const Answer& answer);
  bool changed_mirror(const Txn& txn, const TxnResult& result) const;
  void schedule_compaction();
  void compete_to_compact();
  void compacted_by(bool us, Revision now, std::int64_t version);

  // mirror.cpp
  struct Load;
  Result<void> check_prefix();
  void load(Revision revision, std::function<void(Result<std::shared_ptr<Load>>)> done);
  void load_page(const std::shared_ptr<Load>& load);
  Result<void> load_and_follow();
  void reload(const std::string& why);
  void begin_feed(Revision after);
  /// Calls `caught(true)` when the mirror has `revision`, `caught(false)` after 3 s.
  void catch_up(Revision revision, Caught caught);
  void hurry(Revision revision, std::int64_t until_ns);
  void prove(Revision revision);
  /// etcd's revision now, which the mirror then has if true.
  void catch_up_to_now(std::function<void(Result<bool>)> caught);

  void read_through(const KeyRange& range, RangeOptions options, Promise<RangeResult> promise);
  struct Pages;
  void read_page(const std::shared_ptr<Pages>& pages);
  bool mirrors(const KeyRange& range) const;
  bool mirrored_at(Revision revision) const;
  /// Fills in what etcd's text does not tell.
  Error with_revisions(Error error, Revision asked) const;
  void call(std::string path, std::string body, bool write, bool linearizable, Answered answered);
  std::int64_t steady() const;

  const EtcdStoreOptions options_;
  const std::shared_ptr<HttpClient> http_;
  const std::shared_ptr<Gateway> gateway_;
  const KeyRange mirrored_;
  bool trusts_progress_ = false;  ///< set before other threads come
  std::string version_;
  mutable std::mutex etcd_mutex_;  ///< guards what follows
  std::shared_ptr<Feed> feed_;
  std::vector<std::string> alarms_, notes_;  ///< the last few
  std::uint64_t epoch_ = 0;
  Revision newest_change_ = 0;  ///< the highest mod_revision the mirror has seen
  bool reloading_ = false;
  Engine::TimerId compaction_timer_ = 0;
  std::int64_t compaction_version_ = 0;
  Revision compaction_revision_ = 0;
};

Result<std::shared_ptr<StateStore>> open_etcd_store(Engine& engine, std::shared_ptr<HttpClient> http,
                                                    EtcdStoreOptions options);

}  // namespace orchestra::store::etcd
