// LeaderElection: campaign, hold, lose, campaign again.
//
// Everything happens in answers and timers on engine threads; each carries the round it belongs to, and one
// of an older round is ignored: but for a lease that it brings, which is given back. A round ends when
// leadership is lost, an attempt fails, or stop() comes.
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

  using Round = std::uint64_t;
  bool is_now(Round at) const {
    std::lock_guard lock(mutex);
    return round == at;
  }
  /// `handler(self, answer)` if the round is still `at` when the answer comes, else `late(answer)`.
  template <class T, class F, class Late>
  void then(Round at, Pending<T> pending, F handler, Late late) {
    pending.on_ready([weak = weak_from_this(), at, handler, late](Result<T> answer) {
      auto self = weak.lock();
      if (self && self->is_now(at)) return handler(*self, std::move(answer));
      late(answer);
    });
  }
  template <class T, class F>
  void then(Round at, Pending<T> pending, F handler) {
    then(at, std::move(pending), handler, [](const Result<T>&) {});
  }
  template <class F>
  void after(Round at, Duration delay, F handler) {
    engine.after(delay, [weak = weak_from_this(), at, handler] {
      auto self = weak.lock();
      if (self && self->is_now(at)) handler(*self);
    });
  }

  void campaign(Round at);
  void attempt(Round at, LeaseId granted, std::int64_t granted_at);
  void wait_for_vacancy(Round at, Revision after_revision);
  void held_by(Round at, const KeyValue& holder, Revision revision);
  void look_at_watch(Round at);
  void elected(Round at, Revision revision, LeaseId granted, std::int64_t granted_at);
  void keep_alive(Round at);
  void lose(Round at, const Error& why);
  void again_later(Round at) {
    after(at, options.retry, [at](Impl& self) { self.campaign(at); });
  }
  static void give_back(StateStore& store, LeaseId id) {
    store.lease_revoke(id).on_ready([](Result<void>) {});
  }
  void call(const std::function<void()>& callback);

  Engine& engine;
  const std::shared_ptr<StateStore> store;
  const LeaderElectionOptions options;

  mutable std::mutex mutex;
  std::condition_variable called;
  Round round = 0;
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

void LeaderElection::Impl::campaign(Round at) {
  then(at, store->get(options.key), [at](Impl& self, Result<GetResult> found) {
    if (!found) return self.again_later(at);
    if (found->kv) return self.held_by(at, *found->kv, found->revision);
    const std::int64_t asked = self.now();
    self.then(
        at, self.store->lease_grant(self.options.ttl),
        [at, asked](Impl& campaigner, Result<LeaseId> granted) {
          if (!granted) return campaigner.again_later(at);
          campaigner.attempt(at, *granted, asked);
        },
        [store = self.store](const Result<LeaseId>& granted) {
          if (granted) give_back(*store, *granted);
        });
  });
}

/// The transaction checks the vacancy and, by putting with the lease, that the lease still lives.
void LeaderElection::Impl::attempt(Round at, LeaseId granted, std::int64_t granted_at) {
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
  then(
      at, store->txn(std::move(txn)),
      [at, granted, granted_at](Impl& self, Result<TxnResult> done) {
        if (done && done->succeeded) return self.elected(at, done->revision, granted, granted_at);
        // Also after an unknown outcome: revoking takes the key with it, if it was written.
        give_back(*self.store, granted);
        if (!done) return self.again_later(at);
        self.held_by(at, done->ops.at(0).range.items.at(0), done->revision);
      },
      [store = store, granted](const Result<TxnResult>&) { give_back(*store, granted); });
}

void LeaderElection::Impl::held_by(Round at, const KeyValue& holder, Revision revision) {
  if (!options.on_busy) return wait_for_vacancy(at, revision);
  const Error busy(Error::busy, "store", "the key " + options.key + " is held by another");
  call([&] { options.on_busy(Error(busy).with_detail(holder)); });
}

void LeaderElection::Impl::wait_for_vacancy(Round at, Revision after_revision) {
  WatchOptions wanted;
  wanted.range = Key(options.key);
  wanted.after = after_revision;
  auto opened = store->watch(std::move(wanted));
  if (!opened) return again_later(at);
  {
    std::lock_guard lock(mutex);
    if (round != at) return;
    watch = std::make_shared<Watch>(std::move(*opened));
  }
  look_at_watch(at);
}

/// Reads what the watch has; a removal of the key ends the wait, or the leadership.
void LeaderElection::Impl::look_at_watch(Round at) {
  std::shared_ptr<Watch> open;
  bool held = false;
  {
    std::lock_guard lock(mutex);
    if (round != at) return;
    open = watch;
    held = holds;
  }
  if (!open) return;
  bool removed = false;
  while (auto batch = open->poll()) {
    for (const WatchEvent& event : batch->events) removed |= event.type == WatchEvent::Type::remove;
  }
  if (removed || open->error()) {
    {
      std::lock_guard lock(mutex);
      if (round != at) return;
      watch.reset();
    }
    if (held) {
      return lose(
          at, Error(Error::expired, "store", "the key " + options.key + " was removed or its lease ended"));
    }
    return open->error() ? again_later(at) : campaign(at);
  }
  open->notify([weak = weak_from_this(), at] {
    auto self = weak.lock();
    if (!self) return;
    self->engine.post([weak, at] {  // the callback must not use the watch itself
      if (auto again = weak.lock()) again->look_at_watch(at);
    });
  });
}

void LeaderElection::Impl::elected(Round at, Revision revision, LeaseId granted, std::int64_t granted_at) {
  bool late = false;
  {
    std::lock_guard lock(mutex);
    late = round != at;
    if (!late) {
      holds = true;
      token = revision;
      lease = granted;
      valid_until = granted_at + Duration(options.ttl).count();
    }
  }
  if (late) return give_back(*store, granted);
  call([this, revision] {
    if (options.on_elected) options.on_elected(revision);
  });
  after(at, Duration(options.ttl) / 3, [at](Impl& self) { self.keep_alive(at); });
  wait_for_vacancy(at, revision);
}

void LeaderElection::Impl::keep_alive(Round at) {
  const std::int64_t asked = now();
  LeaseId held = 0;
  std::int64_t until = 0;
  {
    std::lock_guard lock(mutex);
    held = lease;
    until = valid_until;
  }
  if (asked >= until)
    return lose(at, Error(Error::expired, "store", "the lease could not be kept alive in time"));
  then(at, store->lease_keep_alive(held), [at, asked](Impl& self, Result<void> kept) {
    if (!kept && kept.error().is(Error::not_found)) return self.lose(at, kept.error());
    if (kept) {
      std::lock_guard lock(self.mutex);
      self.valid_until = asked + Duration(self.options.ttl).count();
    }
    self.after(at, Duration(self.options.ttl) / (kept ? 3 : 10),
               [at](Impl& holder) { holder.keep_alive(at); });
  });
}

void LeaderElection::Impl::lose(Round at, const Error& why) {
  std::shared_ptr<Watch> dropped;
  {
    std::lock_guard lock(mutex);
    if (!holds || round != at) return;
    holds = false;
    at = ++round;
    dropped = std::move(watch);
  }
  call([&] {
    if (options.on_lost) options.on_lost(why);
  });
  if (is_now(at)) campaign(at);  // else stopped, by the callback
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
  Impl::Round at = 0;
  {
    std::lock_guard lock(impl_->mutex);
    if (!impl_->stopped) return {};
    impl_->stopped = false;
    at = ++impl_->round;
  }
  impl_->campaign(at);
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
  if (held != 0) Impl::give_back(*impl_->store, held);
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
