// MemoryStore: a command is final as soon as it is applied, on the thread that brings it.
#include "orchestra/memory_store.hpp"

#include "orchestra/env.hpp"
#include "store/local_store.hpp"

namespace orchestra {
namespace store {
namespace {

class MemoryStoreImpl final : public LocalStore {
 public:
  MemoryStoreImpl(Engine& engine, StoreLimits limits) : LocalStore(engine, limits) {
    engine.random().fill(identity_.cluster.data(), identity_.cluster.size());
  }
  using LocalStore::start_timers;

  std::string cluster_id() const override { return to_uuid(identity_.cluster) + ".0"; }
  StoreStatus status() const override {
    StoreStatus status = LocalStore::status();
    status.kind = "memory";
    status.role = "leader";
    status.durability = "none";
    return status;
  }

 private:
  void propose(Command&& command, Answer answer) override { answer(std::move(apply({&command, 1}).front())); }

  LogIdentity identity() const override { return identity_; }

  LogIdentity identity_;
};

}  // namespace
}  // namespace store

std::shared_ptr<StateStore> MemoryStore::create(Engine& engine, MemoryStoreOptions options) {
  auto made = std::make_shared<store::MemoryStoreImpl>(engine, options.limits);
  made->start_timers();
  return made;
}

}  // namespace orchestra
