// StoreLock: an election that ends when it is lost, and that a caller waits for.
#include "orchestra/store_lock.hpp"

#include <mutex>

#include "orchestra/leader_election.hpp"

namespace orchestra {

struct StoreLock::Impl : std::enable_shared_from_this<StoreLock::Impl> {
  Impl(Engine& host, std::shared_ptr<StateStore> where, StoreLockOptions given)
      : engine(host), store(std::move(where)), options(std::move(given)) {}

  Pending<Revision> begin(bool wait);
  /// The election of this attempt is over, one way or the other; `round` 0: whichever it is.
  std::shared_ptr<LeaderElection> end(std::uint64_t of_round);

  Engine& engine;
  const std::shared_ptr<StateStore> store;
  const StoreLockOptions options;
  mutable std::mutex mutex;
  std::uint64_t round = 0;
  std::shared_ptr<LeaderElection> election;  ///< while it is held or waited for
};

std::shared_ptr<LeaderElection> StoreLock::Impl::end(std::uint64_t of_round) {
  std::lock_guard lock(mutex);
  if (of_round != 0 && of_round != round) return nullptr;
  return std::exchange(election, nullptr);
}

Pending<Revision> StoreLock::Impl::begin(bool wait) {
  const Promise<Revision> promise;
  auto pending = promise.pending();
  std::shared_ptr<LeaderElection> started;
  {
    std::lock_guard lock(mutex);
    if (election)
      return Error(Error::busy, "store",
                   "the lock " + options.name + " is held or waited for by this object already");
    const auto finish = [weak = weak_from_this(), at = ++round]() -> std::shared_ptr<Impl> {
      auto self = weak.lock();
      const auto ended = self ? self->end(at) : nullptr;
      if (!ended) return nullptr;
      ended->stop();
      return self;
    };
    LeaderElectionOptions campaign;
    campaign.key = options.name;
    campaign.identity = options.identity;
    campaign.ttl = options.ttl;
    campaign.retry = options.retry;
    campaign.on_elected = [promise](Revision token) { promise.set(token); };
    campaign.on_lost = [finish](const Error& why) {
      const auto self = finish();
      if (self && self->options.on_lost) self->options.on_lost(why);
    };
    if (!wait) {
      campaign.on_busy = [finish, promise](const Error& why) {
        finish();
        promise.set(why);
      };
    }
    promise.on_cancel([finish] { finish(); });
    election = started = std::make_shared<LeaderElection>(engine, store, std::move(campaign));
  }
  if (auto ok = started->start(); !ok) {
    end(0);
    return ok.error();
  }
  return pending;
}

StoreLock::StoreLock(Engine& engine, std::shared_ptr<StateStore> store, StoreLockOptions options)
    : impl_(std::make_shared<Impl>(engine, std::move(store), std::move(options))) {}

StoreLock::~StoreLock() {
  if (const auto held = impl_->end(0)) held->stop();
}

Pending<Revision> StoreLock::lock() { return impl_->begin(true); }
Pending<Revision> StoreLock::try_lock() { return impl_->begin(false); }

Pending<void> StoreLock::unlock() {
  const auto held = impl_->end(0);
  if (!held) return Pending<void>(Result<void>());
  const auto token = held->token();
  held->stop();
  if (!token) return Pending<void>(Result<void>());
  // stop() lets the lease end, and does not wait for that.
  Txn gone;
  gone.compares.push_back(LeaderElection::fence(impl_->options.name, *token));
  TxnOp& op = gone.then.emplace_back();
  op.type = TxnOp::Type::remove;
  op.range = Key(impl_->options.name);
  return impl_->store->txn(std::move(gone)).then([](const Result<TxnResult>& done) {
    return done ? Result<void>() : Result<void>(done.error());
  });
}

std::optional<Revision> StoreLock::token() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->election ? impl_->election->token() : std::nullopt;
}

std::optional<Compare> StoreLock::fence() const {
  const auto held = token();
  if (!held) return std::nullopt;
  return LeaderElection::fence(impl_->options.name, *held);
}

}  // namespace orchestra
