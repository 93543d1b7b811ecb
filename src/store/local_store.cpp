// LocalStore, the writing half: admission, applying, publishing, waking, lease expiry, compaction.
#include "store/local_store.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/assert.hpp"
#include "orchestra/env.hpp"
#include "store/planted.hpp"

namespace orchestra::store {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::size_t kExpireBatch = 1000;  ///< leases whose end or rest is proposed at once
constexpr std::int64_t kRecordRest = 300 * kSecond;
constexpr std::int64_t kExpireAgain = kSecond;  ///< when a proposal to end a lease failed
constexpr std::size_t kSamplesMax = 64;
constexpr auto kLeaseTtlMax = std::chrono::hours(24);

Error stopped_error() {
  return Error(Error::unavailable, "store", "the store has been stopped; nothing was applied");
}

TxnOp read_op(const KeyRange& range) {
  TxnOp op;
  op.type = TxnOp::Type::range;
  op.range = range;
  op.range_options.limit = 1;
  return op;
}

WriteResult to_write_result(TxnResult&& txn) {
  WriteResult result;
  result.revision = txn.revision;
  result.removed = txn.ops.at(0).removed;
  result.previous = std::move(txn.ops.at(0).previous);
  return result;
}

}  // namespace

Error conflict_error(const std::string& key, const Txn& txn, const RangeResult& now) {
  KeyValue current;
  current.key = key;
  std::string message = "key \"" + key + "\" does not exist";
  if (!now.items.empty()) {
    current = now.items.front();
    message = "key \"" + current.key + "\" is at revision " + std::to_string(current.mod_revision) +
              ", version " + std::to_string(current.version);
  }
  for (const Compare& compare : txn.compares) {
    if (compare.target == Compare::Target::mod && compare.number == 0) {
      message += "; it was to be created";
    } else {
      message += std::string("; wanted ") +
                 (compare.target == Compare::Target::mod ? "revision " : "version ") +
                 std::to_string(compare.number);
    }
  }
  return Error(Error::conflict, "store", std::move(message)).with_detail(std::move(current));
}

LocalStore::LocalStore(Engine& engine, StoreLimits limits) : engine_(engine), limits_(limits) {
  state_bytes_max_ = limits.state_bytes_max.value != 0 ? limits.state_bytes_max.value : memory_bytes() / 2;
}

LocalStore::~LocalStore() { LocalStore::stop(); }

std::int64_t LocalStore::steady_now() const { return engine_.clock().now().steady_ns; }

std::optional<Error> LocalStore::refusal() const {
  if (core_->stopped.load(std::memory_order_acquire)) return stopped_error();
  return read_refusal();
}

// ---- writes

std::optional<Error> LocalStore::admit(const Txn& txn) const {
  if (auto ok = check_txn(txn, capabilities()); !ok) return ok.error();
  if (!any_op(txn, is_put)) return std::nullopt;
  const std::uint64_t used = core_->state_bytes.load(std::memory_order_relaxed);
  if (used < state_bytes_max_) return std::nullopt;
  return Error(Error::no_space, "store",
               "the store holds " + std::to_string(used) + " bytes of a limit of " +
                   std::to_string(state_bytes_max_) + "; remove keys or raise state_bytes_max");
}

void LocalStore::run_txn(Txn&& txn, Answer answer, std::optional<RequestId> once) {
  if (auto no = refusal()) return answer(std::move(*no));
  if (auto no = admit(txn)) return answer(std::move(*no));
  if (!once) return propose(Command(std::move(txn)), std::move(answer));
  propose(OnceTxn{once->session, once->sequence, std::move(txn)}, std::move(answer));
}

Pending<std::string> LocalStore::session_open() {
  if (!capabilities().exactly_once)
    return Error(Error::unsupported, "store",
                 "this store has no sessions (exactly_once in its capabilities())");
  if (auto no = refusal()) return std::move(*no);
  Promise<std::string> promise;
  auto pending = promise.pending();
  propose(SessionOpen{}, [promise](Outcome outcome) {
    if (!outcome) return promise.set(outcome.error());
    promise.set(std::to_string(outcome->ops.at(0).removed));
  });
  return pending;
}

Pending<TxnResult> LocalStore::txn(Txn txn) {
  Promise<TxnResult> promise;
  auto pending = promise.pending();
  run_txn(std::move(txn), [promise](Outcome outcome) { promise.set(std::move(outcome)); });
  return pending;
}

Pending<WriteResult> LocalStore::put(std::string key, Value value, PutOptions options) {
  Txn txn;
  KeyRange range = Key(std::move(key));
  if (options.if_mod_revision) {
    txn.compares.push_back({range, Compare::Target::mod, Compare::Op::equal, *options.if_mod_revision});
  }
  if (options.if_version) {
    txn.compares.push_back({range, Compare::Target::version, Compare::Op::equal, *options.if_version});
  }
  std::optional<RequestId> once;
  if (!options.request_id.empty()) {
    if (!capabilities().exactly_once) {
      return Error(Error::unsupported, "store",
                   "request_id needs a store with exactly_once in its capabilities(); leave it out");
    }
    if (options.want_previous)
      return Error(Error::invalid, "store",
                   "what a request replaced is not kept for its repetition: no want_previous");
    const std::string& id = options.request_id;
    const char* const end = id.data() + id.size();
    once = RequestId{};
    auto at = std::from_chars(id.data(), end, once->session);
    if (at.ec == std::errc() && at.ptr != end && *at.ptr == '.')
      at = std::from_chars(at.ptr + 1, end, once->sequence);
    if (at.ec != std::errc() || at.ptr != end || once->sequence == 0) {
      return Error(Error::invalid, "store",
                   "request_id \"" + id +
                       "\" is not SESSION.NUMBER, with the session of session_open() and a number "
                       "from 1 on");
    }
  }
  TxnOp& op = txn.then.emplace_back();
  op.range = std::move(range);
  op.value = std::move(value);
  op.lease = options.lease;
  op.want_previous = options.want_previous;
  return run_conditional(std::move(txn), once);
}

Pending<WriteResult> LocalStore::remove(KeyRange range, RemoveOptions options) {
  Txn txn;
  if (options.if_mod_revision) {
    txn.compares.push_back({range, Compare::Target::mod, Compare::Op::equal, *options.if_mod_revision});
  }
  TxnOp op;
  op.type = TxnOp::Type::remove;
  op.range = range;
  op.want_previous = options.want_previous;
  txn.then.push_back(std::move(op));
  return run_conditional(std::move(txn));
}

/// Runs a txn of one write whose failure answers the key that is there now.
Pending<WriteResult> LocalStore::run_conditional(Txn&& txn, std::optional<RequestId> once) {
  Promise<WriteResult> promise;
  auto pending = promise.pending();
  if (txn.compares.empty()) {
    run_txn(
        std::move(txn),
        [promise](Outcome outcome) {
          if (!outcome) return promise.set(outcome.error());
          promise.set(to_write_result(std::move(*outcome)));
        },
        once);
    return pending;
  }
  const KeyRange& range = txn.then.front().range;
  Txn conditions;
  conditions.compares = txn.compares;
  std::string key = range.begin;
  txn.otherwise.push_back(read_op(range));
  run_txn(
      std::move(txn),
      [promise, key = std::move(key), conditions = std::move(conditions)](Outcome outcome) {
        if (!outcome) return promise.set(outcome.error());
        if (!outcome->succeeded)
          return promise.set(conflict_error(key, conditions, outcome->ops.at(0).range));
        promise.set(to_write_result(std::move(*outcome)));
      },
      once);
  return pending;
}

Pending<void> LocalStore::propose_void(Command&& command) {
  Promise<void> promise;
  auto pending = promise.pending();
  if (auto no = refusal()) return std::move(*no);
  propose(std::move(command), [promise](Outcome outcome) {
    promise.set(outcome ? Result<void>() : Result<void>(outcome.error()));
  });
  return pending;
}

Pending<void> LocalStore::compact(Revision revision) { return propose_void(Compact{revision}); }
Pending<void> LocalStore::lease_revoke(LeaseId id) { return propose_void(LeaseRevoke{id}); }

Pending<LeaseId> LocalStore::lease_grant(std::chrono::seconds ttl, LeaseId id) {
  if (ttl < std::chrono::seconds(1) || ttl > kLeaseTtlMax) {
    return Error(Error::invalid, "store",
                 "a lease of " + std::to_string(ttl.count()) + " s is out of range; choose 1 s to 24 h");
  }
  if (id < 0) return Error(Error::invalid, "store", "a lease id is positive, or 0 to let the store choose");
  if (auto no = refusal()) return std::move(*no);
  {
    std::lock_guard lock(core_->mutex);
    if (core_->state.leases().size() >= limits_.leases_max) {
      return Error(
          Error::resource_exhausted, "store",
          std::to_string(limits_.leases_max) + " leases are alive (leases_max); share leases among keys");
    }
  }
  while (id == 0) id = static_cast<LeaseId>(engine_.random().next() >> 1);
  Promise<LeaseId> promise;
  auto pending = promise.pending();
  propose(LeaseGrant{id, ttl}, [promise, id](Outcome outcome) {
    promise.set(outcome ? Result<LeaseId>(id) : Result<LeaseId>(outcome.error()));
  });
  return pending;
}

// ---- applying

std::vector<Outcome> LocalStore::apply(std::span<Command> commands, ProposalId last,
                                       std::vector<Outcome> memory) {
  std::vector<Outcome> outcomes = std::move(memory);
  outcomes.clear();
  outcomes.reserve(commands.size());
  WatchHub::Wake wake;
  std::vector<Core::Waiter> reached;
  bool too_much_history = false;
  {
    std::lock_guard lock(core_->mutex);
    MvccState& state = core_->state;
    const std::pair before(state.revision(), state.compacted());
    for (Command& command : commands) {
      const Sequence first = state.history().end();
      const LeaseGrant* grant = std::get_if<LeaseGrant>(&command);
      const LeaseRevoke* revoke = std::get_if<LeaseRevoke>(&command);
      const std::optional<LeaseGrant> granted = grant != nullptr ? std::optional(*grant) : std::nullopt;
      const LeaseId revoked = revoke != nullptr ? revoke->id : 0;
      const auto* check = std::get_if<StateCheck>(&command);
      const std::uint64_t mark = check != nullptr ? check->number : 0;
      std::vector<LeaseId> renewed;
      if (const auto* rests = std::get_if<LeaseCheckpoint>(&command)) {
        for (const LeaseCheckpoint::Left& left : rests->leases) {
          if (left.remaining.count() == 0) renewed.push_back(left.id);
        }
      }
      if (planted(Bug::state_rots) && identity().peer == 2 && std::holds_alternative<Txn>(command)) {
        outcomes.push_back(Error(Error::unknown_outcome, "store", "not applied"));
        continue;
      }
      outcomes.push_back(state.apply(std::move(command)));
      for (Sequence at = first; at < state.history().end(); ++at)
        core_->hub.match(state.history().at(at), at, wake);
      if (granted && outcomes.back()) start_lease_locked(granted->id, granted->ttl, granted->ttl);
      if (revoked != 0) core_->leases.forget(revoked);
      if (mark != 0) core_->mark = {mark, state.fingerprint()};
      // Promised by a leader before this one: it counts here too; but not if its end is on its way behind
      // this.
      for (const LeaseId id : renewed) {
        const auto lease = state.leases().find(id);
        if (lease != state.leases().end() && !core_->leases.ending(id))
          start_lease_locked(id, lease->second.ttl, lease->second.ttl);
      }
    }
    core_->applied = last;
    if (before != std::pair(state.revision(), state.compacted())) core_->changed_locked();
    while (!core_->waiters.empty() && core_->waiters.begin()->first.first <= state.revision()) {
      reached.push_back(std::move(core_->waiters.begin()->second));
      core_->waiters.erase(core_->waiters.begin());
    }
    too_much_history = state.history().bytes() > limits_.history_bytes_max.value;
  }
  for (const auto& watcher : wake) watcher->signal();
  for (const Core::Waiter& waiter : reached) {
    engine_.cancel_timer(waiter.timer);
    waiter.promise.set({});
  }
  arm_lease_timer();
  if (too_much_history) compact_by_size();
  return outcomes;
}

std::optional<std::uint64_t> LocalStore::state_mark(std::uint64_t number) const {
  std::lock_guard lock(core_->mutex);
  if (core_->mark.first != number || number == 0) return std::nullopt;
  return core_->mark.second;
}

std::shared_ptr<const Root> Core::publish_locked() {
  auto root = std::make_shared<Root>();
  root->tree = state.tree();
  root->revision = state.revision();
  root->compacted = state.compacted();
  std::shared_ptr<const Root> old = root;  // it frees its nodes after the lock
  std::lock_guard lock(root_mutex_);
  old.swap(root_);
  return root;
}

void Core::changed_locked() {
  state_bytes.store(state.bytes(), std::memory_order_relaxed);
  compacted.store(state.compacted(), std::memory_order_release);
  revision.store(state.revision(), std::memory_order_release);
  if (!old_trees.empty())
    std::erase_if(old_trees, [&](const auto& old) { return old->revision < state.compacted(); });
  if (read_.exchange(false, std::memory_order_relaxed)) {
    publish_locked();
    return;
  }
  std::shared_ptr<const Root> old;  // it frees its nodes after the lock
  std::lock_guard lock(root_mutex_);
  old.swap(root_);
}

// ---- timers

void LocalStore::start_timers() {
  {
    std::lock_guard lock(core_->mutex);
    core_->changed_locked();
    start_leases_locked();
  }
  arm_lease_timer();
  if (limits_.history_age > Duration::zero()) schedule_compaction();
}

void LocalStore::start_lease_locked(LeaseId id, std::chrono::seconds ttl, std::chrono::milliseconds left) {
  const std::int64_t every = records_leases() ? std::min(kRecordRest, ttl.count() * kSecond / 2) : 0;
  core_->leases.set(id, steady_now(), std::chrono::nanoseconds(left).count(), every);
}
void LocalStore::start_leases_locked() {
  for (const auto& [id, lease] : core_->state.leases()) start_lease_locked(id, lease.ttl, lease.remaining());
}

void LocalStore::restart_leases() {
  {
    std::lock_guard lock(core_->mutex);
    start_leases_locked();
  }
}

void LocalStore::install(MvccState state, ProposalId last) {
  WatchHub::Wake wake;
  std::vector<Core::Waiter> reached;
  {
    std::lock_guard lock(core_->mutex);
    core_->hub.move_to(core_->state, state, wake);
    for (const auto& [id, lease] : core_->state.leases()) core_->leases.forget(id);
    core_->state = std::move(state);
    start_leases_locked();
    core_->applied = last;
    core_->old_trees.clear();
    core_->changed_locked();
    while (!core_->waiters.empty() && core_->waiters.begin()->first.first <= core_->state.revision()) {
      reached.push_back(std::move(core_->waiters.begin()->second));
      core_->waiters.erase(core_->waiters.begin());
    }
  }
  for (const auto& watcher : wake) watcher->signal();
  for (const Core::Waiter& waiter : reached) {
    engine_.cancel_timer(waiter.timer);
    waiter.promise.set({});
  }
}

void LocalStore::arm_lease_timer() {
  if (!leads()) return;  // restart_leases() arms it
  std::optional<std::int64_t> next;
  {
    std::lock_guard lock(core_->mutex);
    if (!core_->stopped) next = core_->leases.next();
  }
  if (!next) return;
  std::lock_guard lock(timer_mutex_);
  if (lease_timer_ != 0 && lease_timer_at_ <= *next) return;  // it fires early, looks, and is armed again
  if (lease_timer_ != 0) engine_.cancel_timer(lease_timer_);
  lease_timer_at_ = *next;
  const Duration wait(std::max<std::int64_t>(0, *next - steady_now()));
  lease_timer_ = engine_.after(wait, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->expire_leases();
  });
}

void LocalStore::expire_leases() {
  {
    std::lock_guard lock(timer_mutex_);
    lease_timer_ = 0;
  }
  LeaseClock::Due due;
  {
    std::lock_guard lock(core_->mutex);
    if (core_->stopped || !leads()) return;
    due = core_->leases.take_due(steady_now(), kExpireAgain, kExpireBatch);
  }
  for (LeaseId id : due.expired) propose_as_leader(LeaseRevoke{id}, [](Outcome) {});
  if (!due.record.empty()) {
    LeaseCheckpoint rests;
    for (const LeaseClock::Due::Rest& rest : due.record) {
      // At least one millisecond: 0 would be all of it.
      rests.leases.push_back({rest.id, std::chrono::milliseconds(1 + rest.left_ns / 1'000'000)});
    }
    propose_as_leader(std::move(rests), [](Outcome) {});
  }
  arm_lease_timer();
}

void LocalStore::schedule_compaction() {
  const Duration tick =
      std::clamp<Duration>(limits_.history_age / 10, std::chrono::milliseconds(10), std::chrono::seconds(30));
  std::lock_guard lock(timer_mutex_);
  compact_timer_ = engine_.after(tick, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->compact_by_age();
  });
}

void LocalStore::compact_by_age() {
  Revision target = 0;
  {
    std::lock_guard lock(core_->mutex);
    if (core_->stopped) return;
    const std::int64_t now = steady_now();
    const std::int64_t old = now - limits_.history_age.count();
    samples_.push_back({now, core_->state.revision()});
    while (samples_.size() > 1 && (samples_[1].steady_ns <= old || samples_.size() > kSamplesMax))
      samples_.pop_front();
    if (samples_.front().steady_ns <= old && samples_.front().revision > core_->state.compacted()) {
      target = samples_.front().revision;
    }
  }
  if (target > 1 && leads()) propose(Compact{target}, [](Outcome) {});
  schedule_compaction();
}

/// The history has outgrown its bytes: the older half of the changes goes.
void LocalStore::compact_by_size() {
  Revision target = 0;
  {
    std::lock_guard lock(core_->mutex);
    const History& history = core_->state.history();
    if (core_->stopped || size_compaction_running_ || !leads() || history.begin() == history.end()) return;
    size_compaction_running_ = true;
    target = history.at(history.begin() + (history.end() - history.begin()) / 2).revision;
  }
  engine_.post([weak = weak_from_this(), target] {
    auto self = weak.lock();
    if (!self) return;
    self->propose(Compact{target}, [weak](Outcome) {
      auto self = weak.lock();
      if (!self) return;
      std::lock_guard lock(self->core_->mutex);
      self->size_compaction_running_ = false;
    });
  });
}

void LocalStore::stop() {
  WatchHub::Wake wake;
  std::vector<Core::Waiter> waiters;
  {
    std::lock_guard lock(core_->mutex);
    if (core_->stopped) return;
    core_->stopped = true;
    core_->hub.end_all(Error(Error::cancelled, "store", "the store has been stopped"), wake);
    for (auto& [key, waiter] : core_->waiters) waiters.push_back(std::move(waiter));
    core_->waiters.clear();
  }
  for (const auto& watcher : wake) watcher->signal();
  for (const Core::Waiter& waiter : waiters) {
    engine_.cancel_timer(waiter.timer);
    waiter.promise.set(stopped_error());
  }
  std::lock_guard lock(timer_mutex_);
  if (lease_timer_ != 0) engine_.cancel_timer(lease_timer_);
  if (compact_timer_ != 0) engine_.cancel_timer(compact_timer_);
}

}  // namespace orchestra::store
