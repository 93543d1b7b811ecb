// LeaderElection: campaign, hold, lose, campaign again.
//
// Everything happens in answers and timers on engine threads; each carries the round it belongs to, and one
// of an older round is ignored. A round ends when leadership is lost, an attempt fails, or stop() comes.
#include "orchestra/leader_election.hpp"

#include <condition_variable>
#include <mutex>
#include <thread>

#include "orchestra/env.hpp"

namespace orchestra {

struct LeaderElection::Impl : std::enable_shared_from_this<LeaderElection::Impl> {
  Impl(Engine& host, std::shared_ptr<StateStore> where, LeaderElectionOptions given)
      : engine(host), store(std::move(where)), options(std::move(given)) {}

  std::int64_t now() const { return engine.clock().now().steady_ns; }

  /// `handler(self, answer)` if the round is still the same when the answer comes.
  template <class T, class F>
  void then(Pending<T> pending, F handler) {
    pending.on_ready([weak = weak_from_this(), round = current_round(), handler](Result<T> answer) {
      auto self = weak.lock();
      if (self && self->current_round() == round) handler(*self, std::move(answer));
    });
  }
  template <class F>
  void after(Duration delay, F handler) {
    engine.after(delay, [weak = weak_from_this(), round = current_round(), handler] {
      auto self = weak.lock();
      if (self && self->current_round() == round) handler(*self);
    });
  }
  std::uint64_t current_round() const {
    std::lock_guard lock(mutex);
    return round;
  }

  void campaign();
  void attempt(LeaseId granted, std::int64_t granted_at);
  void wait_for_vacancy(Revision after_revision);
  void held_by(const KeyValue& holder, Revision at);
  void look_at_watch();
  void elected(Revision revision, LeaseId granted, std::int64_t granted_at);
  void keep_alive();
  void lose(const Error& why);
  void again_later() {
    after(options.retry, [](Impl& self) { self.campaign(); });
  }
  void call(const std::function<void()>& callback);

  Engine& engine;
  const std::shared_ptr<StateStore> store;
  const LeaderElectionOptions options;

  mutable std::mutex mutex;
  std::condition_variable called;
  std::uint64_t round = 0;
  bool stopped = true;
  bool holds = false;
  Revision token = 0;
  LeaseId lease = 0;
  std::int64_t valid_until = 0;  ///< by the own clock: the last moment at which the lease surely lives
  std::shared_ptr<Watch> watch;
  std::thread::id calling;
};

/// Runs a callback of the host: one at a time, none after stop().
void LeaderElection::Impl::call(const std::function<void()>& callback) {
  if (!callback) return;
  {
    std::unique_lock lock(mutex);
    called.wait(lock, [this] { return calling == std::thread::id(); });
    if (stopped) return;
    calling = std::this_thread::get_id();
  }
  callback();
  std::lock_guard lock(mutex);
  calling = {};
  called.notify_all();
}

void LeaderElection::Impl::campaign() {
  then(store->get(options.key), [](Impl& self, Result<GetResult> found) {
    if (!found) return self.again_later();
    if (found->kv) return self.held_by(*found->kv, found->revision);
    const std::int64_t at = self.now();
    self.then(self.store->lease_grant(self.options.ttl), [at](Impl& campaigner, Result<LeaseId> granted) {
      if (!granted) return campaigner.again_later();
      campaigner.attempt(*granted, at);
    });
  });
}

/// The transaction checks the vacancy and, by putting with the lease, that the lease still lives.
void LeaderElection::Impl::attempt(LeaseId granted, std::int64_t granted_at) {
  Txn txn;
  txn.compares.push_back({Key(options.key), Compare::Target::create, Compare::Op::equal, 0});
  TxnOp op;
  op.range = Key(options.key);
  op.value = options.identity;
  op.lease = granted;
  txn.then.push_back(std::move(op));
  TxnOp holder;
  holder.type = TxnOp::Type::range;
  holder.range = Key(options.key);
  txn.otherwise.push_back(std::move(holder));
  then(store->txn(std::move(txn)), [granted, granted_at](Impl& self, Result<TxnResult> done) {
    if (done && done->succeeded) return self.elected(done->revision, granted, granted_at);
    // Also after an unknown outcome: revoking takes the key with it, if it was written.
    self.store->lease_revoke(granted).on_ready([](Result<void>) {});
    if (!done) return self.again_later();
    self.held_by(done->ops.at(0).range.items.at(0), done->revision);
  });
}

void LeaderElection::Impl::held_by(const KeyValue& holder, Revision at) {
  if (!options.on_busy) return wait_for_vacancy(at);
  const Error busy(Error::busy, "store", "the key " + options.key + " is held by another");
  call([&] { options.on_busy(Error(busy).with_detail(holder)); });
}

void LeaderElection::Impl::wait_for_vacancy(Revision after_revision) {
  WatchOptions wanted;
  wanted.range = Key(options.key);
  wanted.after = after_revision;
  auto opened = store->watch(std::move(wanted));
  if (!opened) return again_later();
  {
    std::lock_guard lock(mutex);
    watch = std::make_shared<Watch>(std::move(*opened));
  }
  look_at_watch();
}

/// Reads what the watch has; a removal of the key ends the wait, or the leadership.
void LeaderElection::Impl::look_at_watch() {
  std::shared_ptr<Watch> open;
  Revision held = 0;
  {
    std::lock_guard lock(mutex);
    open = watch;
    held = holds ? token : 0;
  }
  if (!open) return;
  bool removed = false;
  while (auto batch = open->poll()) {
    for (const WatchEvent& event : batch->events) removed |= event.type == WatchEvent::Type::remove;
  }
  if (removed || open->error()) {
    {
      std::lock_guard lock(mutex);
      watch.reset();
    }
    if (held != 0) {
      return lose(
          Error(Error::expired, "store", "the key " + options.key + " was removed or its lease ended"));
    }
    return open->error() ? again_later() : campaign();
  }
  open->notify([weak = weak_from_this(), at = current_round()] {
    auto self = weak.lock();
    if (!self) return;
    self->engine.post([weak, at] {  // the callback must not use the watch itself
      auto again = weak.lock();
      if (again && again->current_round() == at) again->look_at_watch();
    });
  });
}

void LeaderElection::Impl::elected(Revision revision, LeaseId granted, std::int64_t granted_at) {
  {
    std::lock_guard lock(mutex);
    if (stopped) return;
    holds = true;
    token = revision;
    lease = granted;
    valid_until = granted_at + Duration(options.ttl).count();
  }
  call([this, revision] {
    if (options.on_elected) options.on_elected(revision);
  });
  after(Duration(options.ttl) / 3, [](Impl& self) { self.keep_alive(); });
  wait_for_vacancy(revision);
}

void LeaderElection::Impl::keep_alive() {
  const std::int64_t asked = now();
  LeaseId held = 0;
  std::int64_t until = 0;
  {
    std::lock_guard lock(mutex);
    held = lease;
    until = valid_until;
  }
  if (asked >= until)
    return lose(Error(Error::expired, "store", "the lease could not be kept alive in time"));
  then(store->lease_keep_alive(held), [asked](Impl& self, Result<void> kept) {
    if (!kept && kept.error().is(Error::not_found)) return self.lose(kept.error());
    if (kept) {
      std::lock_guard lock(self.mutex);
      self.valid_until = asked + Duration(self.options.ttl).count();
    }
    self.after(Duration(self.options.ttl) / (kept ? 3 : 10), [](Impl& holder) { holder.keep_alive(); });
  });
}

void LeaderElection::Impl::lose(const Error& why) {
  std::shared_ptr<Watch> dropped;
  {
    std::lock_guard lock(mutex);
    if (!holds) return;
    holds = false;
    ++round;
    dropped = std::move(watch);
  }
  call([&] {
    if (options.on_lost) options.on_lost(why);
  });
  {
    std::lock_guard lock(mutex);
    if (stopped) return;  // by the callback
  }
  campaign();
}

LeaderElection::LeaderElection(Engine& engine, std::shared_ptr<StateStore> store,
                               LeaderElectionOptions options)
    : impl_(std::make_shared<Impl>(engine, std::move(store), std::move(options))) {}
LeaderElection::~LeaderElection() { stop(); }

Result<void> LeaderElection::start() {
  if (impl_->options.key.empty() || impl_->options.identity.empty() ||
      impl_->options.ttl < std::chrono::seconds(1)) {
    return Error(Error::invalid, "store", "an election needs a key, an identity and a ttl of at least 1 s");
  }
  {
    std::lock_guard lock(impl_->mutex);
    if (!impl_->stopped) return {};
    impl_->stopped = false;
    ++impl_->round;
  }
  impl_->campaign();
  return {};
}

void LeaderElection::stop() {
  LeaseId held = 0;
  std::shared_ptr<Watch> dropped;
  {
    std::unique_lock lock(impl_->mutex);
    if (impl_->stopped) return;
    impl_->stopped = true;
    ++impl_->round;
    if (std::exchange(impl_->holds, false)) held = impl_->lease;
    dropped = std::move(impl_->watch);
    impl_->called.wait(lock, [&] {
      return impl_->calling == std::thread::id() || impl_->calling == std::this_thread::get_id();
    });
  }
  if (held != 0) impl_->store->lease_revoke(held).on_ready([](Result<void>) {});
}

std::optional<Revision> LeaderElection::token() const {
  std::lock_guard lock(impl_->mutex);
  if (!impl_->holds || impl_->now() >= impl_->valid_until) return std::nullopt;
  return impl_->token;
}

Compare LeaderElection::fence(const std::string& key, Revision token) {
  return {Key(key), Compare::Target::create, Compare::Op::equal, token};
}

}  // namespace orchestra
