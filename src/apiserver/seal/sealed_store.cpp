// Opening and sealing around a store: see sealed_store.hpp.
#include "apiserver/seal/sealed_store.hpp"

#include <mutex>

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kCacheBytesMax = 4 << 20;
constexpr std::size_t kPage = 500;
constexpr Duration kStepDeadline = std::chrono::seconds(30);
const std::string kObjects = "/orchestra/objects/";
}  // namespace

/// What reads, snapshots and watches share: the sealer, and values opened lately, so that the same version
/// is the same bytes to every reader.
struct SealedStore::Shared {
  std::shared_ptr<const Sealer> sealer;
  std::mutex mutex;
  struct Opened {
    Revision revision = 0;
    Value value;
  };
  std::unordered_map<std::string, Opened> opened;
  std::size_t bytes = 0;

  Result<void> open(KeyValue& kv) {
    if (!Sealer::is_sealed(kv.value.bytes())) return {};
    if (sealer == nullptr) {
      return Error(Error::internal, "apiserver",
                   kv.key + " is sealed and this server has no encryption configuration");
    }
    {
      std::lock_guard lock(mutex);
      const auto found = opened.find(kv.key);
      if (found != opened.end() && found->second.revision == kv.mod_revision) {
        kv.value = found->second.value;
        return {};
      }
    }
    ORC_ASSIGN(const std::string plain, sealer->open(kv.key, kv.value.bytes()));
    kv.value = Value(plain);
    std::lock_guard lock(mutex);
    if (bytes + plain.size() > kCacheBytesMax) {
      opened.clear();
      bytes = 0;
    }
    bytes += plain.size();
    opened[kv.key] = {kv.mod_revision, kv.value};
    return {};
  }
  Result<void> open(std::vector<KeyValue>& items) {
    for (KeyValue& kv : items) ORC_TRY(open(kv));
    return {};
  }
  Result<void> open(TxnResult& result) {
    for (TxnResult::OpResult& op : result.ops) {
      ORC_TRY(open(op.previous));
      ORC_TRY(open(op.range.items));
      for (TxnResult& nested : op.nested) ORC_TRY(open(nested));
    }
    return {};
  }
  Result<void> seal(Txn& txn) const {
    for (auto* ops : {&txn.then, &txn.otherwise}) {
      for (TxnOp& op : *ops) {
        if (op.type == TxnOp::Type::put) ORC_TRY(seal(op.range.begin, op.value));
        for (Txn& nested : op.nested) ORC_TRY(seal(nested));
      }
    }
    return {};
  }
  Result<void> seal(const std::string& key, Value& value) const {
    if (sealer == nullptr || !sealer->seals(key)) return {};
    ORC_ASSIGN(const std::string sealed, sealer->seal(key, value.bytes()));
    value = Value(sealed);
    return {};
  }
};

namespace {
using SharedPtr = std::shared_ptr<SealedStore::Shared>;

struct SealedSnapshot final : Snapshot::Impl {
  SealedSnapshot(Snapshot below, SharedPtr shared) : below_(std::move(below)), shared_(std::move(shared)) {}
  Revision revision() const override { return below_.revision(); }
  Result<RangeResult> range(const KeyRange& range, const RangeOptions& options) override {
    ORC_ASSIGN(RangeResult result, below_.try_range(range, options));
    ORC_TRY(shared_->open(result.items));
    return result;
  }
  Snapshot below_;
  SharedPtr shared_;
};

struct SealedWatch final : Watch::Impl {
  SealedWatch(Watch below, SharedPtr shared) : below_(std::move(below)), shared_(std::move(shared)) {}
  Result<std::optional<WatchBatch>> next(Duration deadline) override { return opened(below_.next(deadline)); }
  Result<std::optional<WatchBatch>> poll() override { return opened(below_.poll()); }
  void notify(std::function<void()> ready) override { below_.notify(std::move(ready)); }
  void cancel() override { below_.cancel(); }
  Revision progress() override { return below_.progress(); }

  Result<std::optional<WatchBatch>> opened(std::optional<WatchBatch> batch) {
    if (!batch) {
      if (below_.error()) return *below_.error();
      return std::optional<WatchBatch>();
    }
    for (WatchEvent& event : batch->events) {
      ORC_TRY(shared_->open(event.kv));
      if (event.previous) ORC_TRY(shared_->open(*event.previous));
    }
    return batch;
  }
  Watch below_;
  SharedPtr shared_;
};
}  // namespace

SealedStore::SealedStore(std::shared_ptr<StateStore> below)
    : below_(std::move(below)), shared_(std::make_shared<Shared>()) {}
SealedStore::~SealedStore() = default;
void SealedStore::set_sealer(std::shared_ptr<const Sealer> sealer) { shared_->sealer = std::move(sealer); }

Pending<GetResult> SealedStore::get(std::string key, GetOptions options) {
  return below_->get(std::move(key), options)
      .then([shared = shared_](Result<GetResult> result) -> Result<GetResult> {
        if (result && result->kv) ORC_TRY(shared->open(*result->kv));
        return result;
      });
}
Pending<RangeResult> SealedStore::range(KeyRange range, RangeOptions options) {
  return below_->range(std::move(range), options)
      .then([shared = shared_](Result<RangeResult> result) -> Result<RangeResult> {
        if (result) ORC_TRY(shared->open(result->items));
        return result;
      });
}
Pending<Snapshot> SealedStore::snapshot(Revision revision, Consistency consistency) {
  return below_->snapshot(revision, consistency)
      .then([shared = shared_](Result<Snapshot> snapshot) -> Result<Snapshot> {
        if (!snapshot) return snapshot.error();
        return Snapshot(std::make_shared<SealedSnapshot>(std::move(*snapshot), shared));
      });
}
Pending<WriteResult> SealedStore::put(std::string key, Value value, PutOptions options) {
  if (auto sealed = shared_->seal(key, value); !sealed) return sealed.error();
  return below_->put(std::move(key), std::move(value), std::move(options))
      .then([shared = shared_](Result<WriteResult> result) -> Result<WriteResult> {
        if (result) ORC_TRY(shared->open(result->previous));
        return result;
      });
}
Pending<WriteResult> SealedStore::remove(KeyRange range, RemoveOptions options) {
  return below_->remove(std::move(range), std::move(options))
      .then([shared = shared_](Result<WriteResult> result) -> Result<WriteResult> {
        if (result) ORC_TRY(shared->open(result->previous));
        return result;
      });
}
Pending<TxnResult> SealedStore::txn(Txn txn) {
  if (auto sealed = shared_->seal(txn); !sealed) return sealed.error();
  return below_->txn(std::move(txn)).then([shared = shared_](Result<TxnResult> result) -> Result<TxnResult> {
    if (!result) return result.error();
    ORC_TRY(shared->open(*result));
    return result;
  });
}
Result<Watch> SealedStore::watch(WatchOptions options) {
  ORC_ASSIGN(Watch below, below_->watch(std::move(options)));
  return Watch(std::make_unique<SealedWatch>(std::move(below), shared_));
}

Result<std::size_t> SealedStore::reencrypt() {
  if (shared_->sealer == nullptr) return std::size_t{0};
  std::size_t written = 0;
  KeyRange range = KeyPrefix(kObjects);
  while (true) {
    RangeOptions options;
    options.limit = kPage;
    ORC_ASSIGN(RangeResult page, below_->range(range, options).wait(kStepDeadline));
    for (KeyValue& kv : page.items) {
      if (shared_->sealer->is_current(kv.key, kv.value.bytes())) continue;
      PutOptions condition;
      condition.if_mod_revision = kv.mod_revision;
      condition.lease = kv.lease;
      ORC_TRY(shared_->open(kv));
      auto put = this->put(kv.key, kv.value, condition).wait(kStepDeadline);
      if (put) ++written;
      // Written by somebody else meanwhile: then as it should be.
      if (!put && !put.error().is(Error::conflict)) return put.error();
    }
    if (!page.more || page.items.empty()) return written;
    range.begin = page.items.back().key + '\0';
  }
}

}  // namespace orchestra::apiserver
