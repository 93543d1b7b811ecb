// MemoryStore: a command is final as soon as it is applied, on the thread that brings it.
#include "orchestra/memory_store.hpp"

#include "orchestra/env.hpp"
#include "store/local_store.hpp"

namespace orchestra {
namespace store {
namespace {

class MemoryStoreImpl final : public LocalStore {
 public:
  MemoryStoreImpl(Engine& engine, StoreLimits limits)
      : LocalStore(engine, limits), cluster_id_(engine.random().uuid()) {}
  using LocalStore::start_timers;

  std::string cluster_id() const override { return cluster_id_; }
  StoreStatus status() const override {
    StoreStatus status = LocalStore::status();
    status.kind = "memory";
    status.role = "leader";
    status.durability = "none";
    return status;
  }

 private:
  void propose(Command command, Answer answer) override {
    std::vector<Command> one;
    one.push_back(std::move(command));
    answer(std::move(apply(std::move(one)).front()));
  }

  const std::string cluster_id_;
};

}  // namespace
}  // namespace store

std::shared_ptr<StateStore> MemoryStore::create(Engine& engine, MemoryStoreOptions options) {
  auto made = std::make_shared<store::MemoryStoreImpl>(engine, options.limits);
  made->start_timers();
  return made;
}

}  // namespace orchestra
