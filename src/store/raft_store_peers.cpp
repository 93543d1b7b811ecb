// RaftStore among peers: ticks, forwarded writes, reads by rounds, leases of others, members.
#include <algorithm>
#include <tuple>

#include "orchestra/env.hpp"
#include "store/mvcc/command_codec.hpp"
#include "store/mvcc/wire.hpp"
#include "store/planted.hpp"
#include "store/raft/codec.hpp"
#include "store/raft_store.hpp"

namespace orchestra::store {
namespace {

constexpr std::int64_t kMillisecond = 1'000'000;
constexpr unsigned kTicksPerHeartbeat = 4;  ///< so that election timeouts differ by less than a heartbeat
constexpr std::int64_t kLookEvery = 100 * kMillisecond;
constexpr std::int64_t kWaitForLeader = 3000 * kMillisecond;
constexpr std::int64_t kReadAskAgain = 200 * kMillisecond;
constexpr std::int64_t kReadDeadline = 5000 * kMillisecond;
constexpr std::size_t kReadsMax = 1u << 20;
constexpr std::size_t kWaitingChangesMax = 16;
constexpr std::int64_t kChangeWaits = 3000 * kMillisecond;

Error no_leader() {
  return Error(Error::unavailable, "store",
               "no leader of the store could be reached in time; is a majority of its peers running?");
}

std::string encode_ids(std::initializer_list<std::uint64_t> ids) {
  std::string bytes;
  Writer out(bytes);
  for (const std::uint64_t id : ids) out.u64(id);
  return bytes;
}

std::string encode_change(const MemberChange& change) {
  std::string bytes;
  Writer out(bytes);
  out.u8(static_cast<std::uint8_t>(change.type));
  out.u8(change.force ? 1 : 0);
  out.u64(change.member.id.value);
  out.bytes(change.member.name);
  out.bytes(change.member.address);
  if (change.type == MemberChange::Type::start) out.u64(change.nonce);
  return bytes;
}
Result<MemberChange> decode_change(std::string_view bytes) {
  Reader in(bytes);
  MemberChange change;
  const std::uint8_t type = in.u8();
  change.force = in.u8() != 0;
  change.member.id = PeerId{in.u64()};
  change.member.name = in.bytes();
  change.member.address = in.bytes();
  if (type == static_cast<std::uint8_t>(MemberChange::Type::start)) change.nonce = in.u64();
  if (!in.done() || type > static_cast<std::uint8_t>(MemberChange::Type::start) ||
      change.member.name.size() > kMemberTextMax || change.member.address.size() > kMemberTextMax) {
    return Error(Error::corrupt, "store", "a malformed change of members");
  }
  change.type = static_cast<MemberChange::Type>(type);
  return change;
}

void write_lease(std::string& bytes, const LeaseInfo& info) {
  Writer out(bytes);
  out.u64(static_cast<std::uint64_t>(info.id));
  out.u64(static_cast<std::uint64_t>(info.ttl.count()));
  out.u64(static_cast<std::uint64_t>(info.remaining.count()));
  out.varint(info.keys.size());
  for (const std::string& key : info.keys) out.bytes(key);
}
LeaseInfo read_lease(Reader& in) {
  LeaseInfo info;
  info.id = static_cast<LeaseId>(in.u64());
  info.ttl = std::chrono::seconds(in.u64());
  info.remaining = std::chrono::seconds(in.u64());
  const std::size_t keys = in.count();
  for (std::size_t i = 0; i < keys && in.ok(); ++i) info.keys.emplace_back(in.bytes());
  return info;
}

void write_member(std::string& bytes, const StoreMember& member) {
  Writer out(bytes);
  out.u64(member.id);
  out.bytes(member.name);
  out.bytes(member.address);
  out.bytes(member.role);
  out.u8(member.reachable ? 1 : 0);
  out.u64(member.lag);
}
StoreMember read_member(Reader& in) {
  StoreMember member;
  member.id = in.u64();
  member.name = in.bytes();
  member.address = in.bytes();
  member.role = in.bytes();
  member.reachable = in.u8() != 0;
  member.lag = in.u64();
  return member;
}

}  // namespace

RaftOptions RaftStoreImpl::raft_options() const {
  RaftOptions raft;
  raft.self = PeerId{identity_.peer};
  raft.seed = engine_.random().next();
  const auto ticks = [&](Duration time) {
    const auto one = std::max<std::int64_t>(1, options_.heartbeat.count() / kTicksPerHeartbeat);
    return static_cast<unsigned>(time.count() / one);
  };
  raft.heartbeat_ticks = kTicksPerHeartbeat;
  raft.election_ticks_min = std::max(ticks(options_.election_min), kTicksPerHeartbeat + 1);
  raft.election_ticks_max = std::max(ticks(options_.election_max), raft.election_ticks_min);
  if (options_.lease_reads) {
    // A peer's first tick may come at once after the heartbeat; its clock may be fast and this one slow.
    const double apart = (1 - options_.max_clock_drift) / (1 + options_.max_clock_drift);
    const std::int64_t tick = options_.heartbeat.count() / kTicksPerHeartbeat;
    raft.lease_ns =
        static_cast<std::int64_t>(static_cast<double>(tick * (raft.election_ticks_min - 1)) * apart);
  }
  raft.keep_entries = options_.log_keep_entries;
  raft.keep_bytes = options_.log_keep_bytes.value;
  if (given_ && given_->append_bytes_max != 0) raft.append_bytes_max = given_->append_bytes_max;
  return raft;
}

PeerHandlers RaftStoreImpl::peer_handlers() {
  PeerHandlers handlers;
  const auto weak = weak_from_this();
  const auto self_of = [](const std::weak_ptr<LocalStore>& from) {
    return std::static_pointer_cast<RaftStoreImpl>(from.lock());
  };
  handlers.on_message = [weak, self_of](const Message& message) {
    auto self = self_of(weak);
    if (!self) return;
    std::unique_lock lock(self->raft_mutex_);
    if (self->failed_ || self->stopping_) return;
    self->tell_time_locked();
    self->core_raft_->step(message);
    self->may_apply_inline_ = self->options_.log_thread;
    self->collect_locked();
    self->may_apply_inline_ = false;
    if (!std::exchange(self->apply_inline_, false)) return;
    lock.unlock();
    self->run_apply_inline();
  };
  handlers.on_unreachable = [weak, self_of](PeerId peer) {
    auto self = self_of(weak);
    if (!self) return;
    std::lock_guard lock(self->raft_mutex_);
    if (!self->failed_) self->core_raft_->report_unreachable(peer);
  };
  handlers.on_reset = [weak, self_of](PeerId peer) {
    auto self = self_of(weak);
    if (!self) return;
    std::lock_guard lock(self->raft_mutex_);
    if (!self->failed_) self->core_raft_->report_reset(peer);
  };
  handlers.on_request = [weak, self_of](PeerId from, RequestKind kind, const std::string& body,
                                        const PeerHandlers::Reply& reply) {
    if (auto self = self_of(weak)) self->on_request(from, kind, body, reply);
  };
  const Error gone(Error::unavailable, "store", "this peer is stopping");
  handlers.admit = [weak, self_of, gone](const Hello& hello) -> Result<void> {
    auto self = self_of(weak);
    return self ? self->admit_peer(hello) : Result<void>(gone);
  };
  handlers.enrol = [weak, self_of, gone](const Hello& hello, const PeerHandlers::TellPlace& tell) {
    if (auto self = self_of(weak)) return self->enrol_peer(hello, tell);
    tell(gone);
  };
  handlers.replace = [weak, self_of, gone](const Hello& hello, const PeerHandlers::TellPlace& tell) {
    auto self = self_of(weak);
    tell(self ? self->replace_peer(hello) : Result<Place>(gone));
  };
  handlers.receive_snapshot = [weak, self_of,
                               gone](const Hello& hello) -> Result<std::shared_ptr<SnapshotReceiver>> {
    auto self = self_of(weak);
    if (!self) return gone;
    return self->receive_snapshot(hello);
  };
  return handlers;
}

// ---- who may connect

Result<void> RaftStoreImpl::admit_peer(const Hello& hello) const {
  std::lock_guard lock(raft_mutex_);
  if (failed_) return *failed_;
  const Member* member = core_raft_->configuration().find(PeerId{hello.identity.peer});
  if (member != nullptr && member->started && hello.fresh) {
    return Error(Error::invalid, "store",
                 "peer \"" + hello.name +
                     "\" has taken part before and its disk is empty now; it may have "
                     "voted, so it must not come back under this id: remove the member and add it anew");
  }
  return {};
}

/// A new peer asks who it is: a member of this name and address that has not begun yet. That is the leader's
/// to tell, and of a cluster that never had one the founder's.
void RaftStoreImpl::enrol_peer(const Hello& hello, const PeerHandlers::TellPlace& tell) {
  MemberChange wanted;
  wanted.type = MemberChange::Type::start;
  wanted.member.name = hello.name;
  wanted.member.address = hello.address;
  wanted.nonce = hello.nonce;
  bool here = false, founding = false;
  {
    std::lock_guard lock(raft_mutex_);
    founding = core_raft_->founding();
    here = founding || core_raft_->role() == Role::leader || planted(Bug::enrol_unasked);
  }
  if (hello.term.value == 0 && !founding) {
    return tell(Error(Error::unsupported, "store",
                      "peer \"" + hello.name +
                          "\" is of a release that cannot join this one's cluster; start it with this one"));
  }
  if (here) return tell(enrol_here(wanted));
  ask_leader(RequestKind::change_members, encode_change(wanted))
      .on_ready([tell, identity = identity_](const Result<std::string>& answer) {
        if (!answer) {
          const Error& why = answer.error();
          const bool passes = why.is(Error::unavailable) || why.is(Error::not_leader) ||
                              why.is(Error::unknown_outcome) || why.is(Error::busy);
          if (why.is(Error::corrupt)) {
            return tell(Error(Error::unsupported, "store",
                              "the leader is of an earlier release; bring all members to this one first"));
          }
          return tell(passes ? Error(Error::unavailable, "store",
                                     why.message() + " (the leader alone tells new peers who they are)")
                             : why);
        }
        Reader in(*answer);
        Place place{identity, {}};
        place.identity.peer = in.u64();
        place.term = Term{in.u64()};
        if (!in.done()) return tell(Error(Error::internal, "store", "the leader's answer is malformed"));
        tell(place);
      });
}

Result<Place> RaftStoreImpl::enrol_here(const MemberChange& wanted) {
  std::lock_guard lock(raft_mutex_);
  if (failed_) return *failed_;
  const Configuration& now = core_raft_->configuration();
  const auto found = std::find_if(now.members.begin(), now.members.end(),
                                  [&](const Member& member) { return member.name == wanted.member.name; });
  if (found == now.members.end()) {
    return Error(Error::not_found, "store",
                 "this cluster has no member \"" + wanted.member.name +
                     "\"; add it first: `orchestra store members add " + wanted.member.name + " " +
                     wanted.member.address + "`");
  }
  if (found->address != wanted.member.address) {
    return Error(Error::invalid, "store",
                 "member \"" + wanted.member.name + "\" is known at " + found->address + ", not at " +
                     wanted.member.address + "; start it there, or update the member");
  }
  return place_locked(*found, wanted.nonce);
}

/// To one attempt only, and when a majority has it in its log; until then it asks again.
Result<Place> RaftStoreImpl::place_locked(const Member& member, std::uint64_t nonce) {
  const auto not_yet = [](const std::string& what) { return Error(Error::unavailable, "store", what); };
  const PeerId id = member.id;
  const std::string name = "member \"" + member.name + "\"";
  const auto given = enrolled_.find(id);
  const bool mine = given != enrolled_.end() && given->second.nonce == nonce;
  Place place{identity_, {}};
  place.identity.peer = id.value;
  if (planted(Bug::enrol_unasked) && !member.started) return place;
  if (core_raft_->founding() && !member.started) {
    if (!mine && given != enrolled_.end()) {
      return Error(Error::already_exists, "store",
                   "another process has already begun as " + name + "; stop one of them, or restart peer \"" +
                       options_.name + "\" and start only one");
    }
    enrolled_[id].nonce = nonce;
    return place;
  }
  if (core_raft_->role() != Role::leader) return not_yet("peer \"" + options_.name + "\" does not lead");
  if (!member.started) {
    if (net_->connected(id)) return not_yet(name + " seems to run; is another process its peer?");
    auto mark = core_raft_->change_membership({MemberChange::Type::start, {id}});
    if (!mark) return not_yet(mark.error().message());
    enrolled_[id] = {nonce, *mark};
    collect_locked();
    return not_yet("the place of " + name + " is being written; a majority of the members must store that");
  }
  // Still in the log: the very entry that this peer wrote for that attempt, in whatever term it is committed.
  const ProposalId mark = mine ? given->second.mark : ProposalId{};
  if (mark.index.value != 0 &&
      (mark.term == core_raft_->term() || core_raft_->term_at(mark.index) == mark.term)) {
    if (core_raft_->applied() < mark.index)
      return not_yet("no majority of the members has stored yet that " + name + " begins");
    place.term = core_raft_->term();
    return place;
  }
  if (planted(Bug::accept_empty_disk)) return place;
  return Error(Error::already_exists, "store",
               name +
                   " has taken part already and the new peer's disk is empty. The old disk may have voted "
                   "and acknowledged writes, so nothing goes on under its id: use `orchestra store members "
                   "replace " +
                   std::to_string(id.value) + " NEWNAME " + member.address +
                   "`, or remove the member and add it anew");
}

// ---- time

void RaftStoreImpl::arm_tick() {
  tick_timer_ = engine_.after(options_.heartbeat / kTicksPerHeartbeat, [weak = weak_from_this()] {
    if (auto self = weak.lock()) static_cast<RaftStoreImpl&>(*self).on_tick();
  });
}

void RaftStoreImpl::on_tick() {
  std::lock_guard lock(raft_mutex_);
  if (stopping_ || failed_) return;
  tell_time_locked();
  core_raft_->tick();
  collect_locked();
  if (steady_now() - looked_ns_ >= kLookEvery) look_after_locked();
  arm_tick();
}

/// Deadlines, and what waited for a leader or lost its answer.
void RaftStoreImpl::look_after_locked() {
  const std::int64_t now = looked_ns_ = steady_now();
  flush_waiting_locked();
  compare_states_locked(now);
  rejoin_locked(now);
  const std::int64_t oldest = now - options_.write_deadline.count();
  const Error late(Error::unknown_outcome, "store",
                   "no majority stored this within " +
                       std::to_string(options_.write_deadline.count() / 1'000'000'000) +
                       " s; it may or may not be done later");
  for (auto* list : {&forwarded_}) {
    std::erase_if(*list, [&](auto& entry) {
      if (entry.second.at_ns > oldest) return false;
      answer_later(std::move(entry.second.answer), late);
      return true;
    });
  }
  if (!proposals_.empty()) {
    std::erase_if(proposals_, [&](auto& entry) {
      if (entry.second.at_ns > oldest || !entry.second.answer) return false;
      answer_later(std::move(entry.second.answer), late);
      return true;
    });
  }
  for (WaitingChange& each : std::exchange(waiting_changes_, {})) {
    engine_.post([self = std::static_pointer_cast<RaftStoreImpl>(shared_from_this()), each = std::move(each),
                  late = each.until_ns < now] {
      if (!late) return self->change_here(each.change, each.reply, each.until_ns);
      each.reply(Error(Error::busy, "store", "another change of the members is not finished yet; try again"));
    });
  }
  while (!waiting_.empty() && waiting_.front().proposal.at_ns < now - kWaitForLeader) {
    answer_later(std::move(waiting_.front().proposal.answer),
                 no_leader().with_context("nothing was applied"));
    waiting_.pop_front();
  }
  for (auto* list : {&reads_round_, &reads_gathering_}) {
    std::erase_if(*list, [&](Read& read) {
      if (read.until_ns > now) return false;
      engine_.post([done = std::move(read.done)] { done(no_leader()); });
      return true;
    });
  }
  std::erase_if(reads_applying_, [&](auto& entry) {
    if (entry.second.until_ns > now) return false;
    engine_.post([done = std::move(entry.second.done)] { done(no_leader()); });
    return true;
  });
  if (read_context_ != 0 && reads_round_.empty()) read_context_ = 0;
  if (read_context_ == 0 && !reads_gathering_.empty()) {
    start_round_locked();
  } else if (read_context_ != 0 && now - read_asked_ns_ >= kReadAskAgain) {
    read_asked_ns_ = now;
    tell_time_locked();
    if (core_raft_->read_index(read_context_)) collect_locked();
  }
}

void RaftStoreImpl::note_role_locked() {
  const bool leads = core_raft_->serving() && !failed_;
  if (core_raft_->leader() != leader_seen_) {
    leader_seen_ = core_raft_->leader();
    ++leader_changes_;
    quiet_.notify_all();
    if (leader_seen_.value != 0 && !waiting_.empty()) {
      engine_.post([weak = weak_from_this()] {
        auto self = std::static_pointer_cast<RaftStoreImpl>(weak.lock());
        if (!self) return;
        std::lock_guard lock(self->raft_mutex_);
        if (!self->stopping_ && !self->failed_) self->flush_waiting_locked();
      });
    }
  }
  if (leads_.load(std::memory_order_acquire) == leads) return;
  // Before anybody sees that this peer leads: it must not end a lease by what its clock said as a follower.
  if (leads && !planted(Bug::leases_not_restarted)) restart_leases();
  leads_.store(leads, std::memory_order_release);
  if (leads) arm_lease_timer();
}

// ---- writes that another peer must order

/// A member of an earlier release would stop at an entry that it does not know. One that has not been reached
/// since this peer began is not waited for.
std::optional<Error> RaftStoreImpl::refuse_unknown_locked(std::string_view command) const {
  const std::uint8_t type = command_type(command);
  if (type <= kCommandsKnownFirst || !net_ || planted(Bug::skip_unknown_command)) return std::nullopt;
  for (const Member& member : core_raft_->configuration().members) {
    if (member.id.value == identity_.peer) continue;
    const auto known = net_->commands_known(member.id);
    if (!known || std::max(*known, kCommandsKnownFirst) >= type) continue;
    return Error(Error::unsupported, "store",
                 "member \"" + member.name +
                     "\" is of an earlier release, which does not know commands of type " +
                     std::to_string(type) +
                     " (transactions within transactions); nothing was applied. Bring all members to this "
                     "release first");
  }
  return std::nullopt;
}

void RaftStoreImpl::flush_waiting_locked() {
  const bool leader = core_raft_->role() == Role::leader && !core_raft_->transferring();
  const PeerId other = core_raft_->leader();
  if (waiting_.empty()) return;
  if (!leader && (other.value == 0 || other.value == identity_.peer || !net_->connected(other))) return;
  for (Submission& submission : std::exchange(waiting_, {})) {
    if (auto refused = submit_locked(submission))
      answer_later(std::move(submission.proposal.answer), *refused);
  }
}

/// The leader answers with the entry's place; the outcome comes from the own applying of that entry.
bool RaftStoreImpl::forward_locked(Submission& submission) {
  const std::uint64_t sequence = next_sequence_++;
  const auto bytes = submission.bytes;
  forwarded_.emplace(sequence, std::move(submission.proposal));
  const bool sent = net_->request(
      core_raft_->leader(), RequestKind::propose, *bytes,
      [weak = weak_from_this(), sequence, bytes](const Result<std::string>& answer) {
        auto self = std::static_pointer_cast<RaftStoreImpl>(weak.lock());
        if (!self) return;
        const bool again =
            !answer && (answer.error().is(Error::not_leader) || answer.error().is(Error::busy) ||
                        (planted(Bug::retry_unknown) && answer.error().is(Error::unknown_outcome)));
        if (!again) return self->on_forwarded(sequence, answer);
        // Certainly not proposed there: wait for who leads now.
        std::lock_guard lock(self->raft_mutex_);
        const auto found = self->forwarded_.find(sequence);
        if (found == self->forwarded_.end()) return;
        self->waiting_.push_back({bytes, std::move(found->second)});
        self->forwarded_.erase(found);
      });
  if (!sent) {
    submission.proposal = std::move(forwarded_.at(sequence));
    forwarded_.erase(sequence);
  }
  return sent;
}

void RaftStoreImpl::on_forwarded(std::uint64_t sequence, const Result<std::string>& answer) {
  Answer tell;
  std::optional<Error> error;
  {
    std::lock_guard lock(raft_mutex_);
    const auto found = forwarded_.find(sequence);
    if (found == forwarded_.end()) return;
    Proposal proposal = std::move(found->second);
    forwarded_.erase(found);
    if (!answer) {
      error = overloaded_locked(answer.error());
    } else {
      Reader in(*answer);
      const Term term{in.u64()};
      const Index index{in.u64()};
      if (!in.done()) error = Error(Error::unknown_outcome, "store", "the leader's answer is malformed");
      if (!error && index <= dequeued_)
        error = Error(Error::unknown_outcome, "store", "the answer came after a change of leaders");
      if (!error) {
        add_proposal_locked(ProposalId{term, index}, std::move(proposal));
        return;
      }
    }
    tell = std::move(proposal.answer);
  }
  if (tell) tell(*error);
}

void RaftStoreImpl::on_propose_request(const std::string& body, const PeerHandlers::Reply& reply) {
  auto command = decode(body);
  if (!command) return reply(command.error());
  auto bytes = std::make_shared<const std::string>(body);
  std::lock_guard lock(raft_mutex_);
  if (auto refused = refuse_locked(&*command)) return reply(*refused);
  if (core_raft_->role() != Role::leader || core_raft_->transferring())
    return reply(Error(Error::not_leader, "store", "this peer is not the leader (any more)"));
  if (auto refused = refuse_unknown_locked(*bytes)) return reply(*refused);
  auto id = core_raft_->propose(std::move(bytes));
  if (!id) return reply(id.error());
  add_proposal_locked(*id, Proposal{std::move(*command), {}, steady_now()});
  // First the place, then the append: on the connection to that peer they keep this order.
  reply(encode_ids({id->term.value, id->index.value}));
  collect_locked();
}

// ---- reads

void RaftStoreImpl::when_current(Done done) {
  std::optional<Error> refused;
  {
    std::lock_guard lock(raft_mutex_);
    if (planted(Bug::serve_stale_after_pause)) {
      engine_.post([done] { done(std::nullopt); });
      return;
    }
    if (failed_) {
      refused = failed_;
    } else if (stopping_) {
      refused = Error(Error::unavailable, "store", "the store has been stopped");
    } else if (reads_gathering_.size() >= kReadsMax) {
      refused =
          overloaded_locked(Error(Error::overloaded, "store",
                                  std::to_string(kReadsMax) + " reads wait for the leader; try again later"));
    } else {
      reads_gathering_.push_back({std::move(done), steady_now() + kReadDeadline});
      if (read_context_ == 0) start_round_locked();
      return;
    }
  }
  done(refused);
}

/// All reads that have come until now are answered by one question to the leader.
void RaftStoreImpl::start_round_locked() {
  ORC_ASSERT(read_context_ == 0);
  reads_round_ = std::exchange(reads_gathering_, {});
  if (next_context_ == 0) ++next_context_;
  read_context_ = next_context_++;
  read_asked_ns_ = steady_now();
  tell_time_locked();
  if (core_raft_->read_index(read_context_)) collect_locked();
}

void RaftStoreImpl::on_read_locked(const ReadState& read) {
  if (read.context != read_context_ || read_context_ == 0) return;
  read_context_ = 0;
  const bool applied = core_raft_->applied() >= read.index;
  for (Read& each : std::exchange(reads_round_, {})) {
    if (applied) {
      engine_.post([done = std::move(each.done)] { done(std::nullopt); });
    } else {
      reads_applying_.emplace(read.index, std::move(each));
    }
  }
  if (!reads_gathering_.empty()) start_round_locked();
}

// ---- what the leader does for the others

Pending<std::string> RaftStoreImpl::ask_leader(RequestKind kind, std::string body) {
  Promise<std::string> promise;
  auto pending = promise.pending();
  PeerId leader;
  {
    std::lock_guard lock(raft_mutex_);
    if (core_raft_) leader = core_raft_->leader();
  }
  const bool sent = net_ && leader.value != 0 && leader.value != identity_.peer &&
                    net_->request(leader, kind, std::move(body),
                                  [promise](Result<std::string> answer) { promise.set(std::move(answer)); });
  if (!sent) promise.set(no_leader());
  return pending;
}

Pending<void> RaftStoreImpl::remote_keep_alive(LeaseId id) {
  return ask_leader(RequestKind::lease_keep_alive, encode_ids({static_cast<std::uint64_t>(id)}))
      .then(
          [](Result<std::string> answer) { return answer ? Result<void>() : Result<void>(answer.error()); });
}

Pending<LeaseInfo> RaftStoreImpl::remote_time_to_live(LeaseId id, bool want_keys) {
  return ask_leader(RequestKind::lease_time_to_live,
                    encode_ids({static_cast<std::uint64_t>(id), want_keys ? 1u : 0u}))
      .then([](Result<std::string> answer) -> Result<LeaseInfo> {
        if (!answer) return answer.error();
        Reader in(*answer);
        LeaseInfo info = read_lease(in);
        if (!in.done()) return Error(Error::internal, "store", "the leader's answer is malformed");
        return info;
      });
}

Pending<std::vector<LeaseInfo>> RaftStoreImpl::remote_lease_list() {
  return ask_leader(RequestKind::lease_list, {})
      .then([](Result<std::string> answer) -> Result<std::vector<LeaseInfo>> {
        if (!answer) return answer.error();
        Reader in(*answer);
        std::vector<LeaseInfo> all;
        while (in.ok() && !in.empty()) all.push_back(read_lease(in));
        if (!in.done()) return Error(Error::internal, "store", "the leader's answer is malformed");
        return all;
      });
}

void RaftStoreImpl::on_request(PeerId, RequestKind kind, const std::string& body,
                               const PeerHandlers::Reply& reply) {
  if (kind == RequestKind::propose) return on_propose_request(body, reply);
  if (kind == RequestKind::state_hash) return on_state_request(body, reply);
  if (kind == RequestKind::diverged) return on_diverged(body, reply);
  if (!leads()) return reply(Error(Error::not_leader, "store", "this peer is not the leader (any more)"));
  Reader in(body);
  switch (kind) {
    case RequestKind::lease_keep_alive: {
      const auto id = static_cast<LeaseId>(in.u64());
      lease_keep_alive(id).on_ready([reply](Result<void> kept) {
        reply(kept ? Result<std::string>(std::string()) : Result<std::string>(kept.error()));
      });
      return;
    }
    case RequestKind::lease_time_to_live: {
      const auto id = static_cast<LeaseId>(in.u64());
      lease_time_to_live(id, in.u64() != 0).on_ready([reply](Result<LeaseInfo> info) {
        if (!info) return reply(info.error());
        std::string bytes;
        write_lease(bytes, *info);
        reply(std::move(bytes));
      });
      return;
    }
    case RequestKind::lease_list: {
      lease_list().on_ready([reply](Result<std::vector<LeaseInfo>> all) {
        if (!all) return reply(all.error());
        std::string bytes;
        for (const LeaseInfo& info : *all) write_lease(bytes, info);
        reply(std::move(bytes));
      });
      return;
    }
    case RequestKind::change_members: {
      auto change = decode_change(body);
      if (!change) return reply(change.error());
      if (change->type != MemberChange::Type::start) return change_here(*change, reply);
      const auto place = enrol_here(*change);
      return reply(place ? Result<std::string>(encode_ids({place->identity.peer, place->term.value}))
                         : Result<std::string>(place.error()));
    }
    case RequestKind::transfer: {
      std::lock_guard lock(raft_mutex_);
      auto begun = core_raft_->transfer_leadership(PeerId{in.u64()});
      reply(begun ? Result<std::string>(std::string()) : Result<std::string>(begun.error()));
      return collect_locked();
    }
    case RequestKind::members: {
      std::string bytes;
      for (const StoreMember& member : members_here()) write_member(bytes, member);
      return reply(std::move(bytes));
    }
    case RequestKind::propose:
    case RequestKind::state_hash:
    case RequestKind::diverged:
      return;
  }
}

// ---- members

std::vector<StoreMember> RaftStoreImpl::members_here() const {
  std::vector<StoreMember> all;
  const auto links = net_ ? net_->links() : std::vector<LinkInfo>();
  std::lock_guard lock(raft_mutex_);
  const auto progress = core_raft_->progress();
  for (const Member& member : core_raft_->configuration().members) {
    StoreMember each;
    each.id = member.id.value;
    each.name = member.name;
    each.address = member.address;
    each.self = member.id.value == identity_.peer;
    each.role = member.id == core_raft_->leader() ? "leader"
                : member.voter                    ? "voter"
                : member.was_voter                ? "leaving"
                                                  : "learner";
    each.reachable = each.self;
    for (const LinkInfo& link : links) {
      if (link.id != member.id) continue;
      each.reachable = link.connected;
      each.round_trip_us = static_cast<double>(link.round_trip.count()) / 1000;
      each.trouble = link.trouble;
    }
    const auto known = progress.find(member.id);
    if (known != progress.end() && !each.self)
      each.lag =
          core_raft_->last_index().value - std::min(known->second.match, core_raft_->last_index()).value;
    all.push_back(std::move(each));
  }
  return all;
}

Pending<std::vector<StoreMember>> RaftStoreImpl::members() {
  if (leads() || !net_) return Pending<std::vector<StoreMember>>(members_here());
  Promise<std::vector<StoreMember>> promise;
  auto pending = promise.pending();
  ask_leader(RequestKind::members, {})
      .on_ready([promise, self = std::static_pointer_cast<RaftStoreImpl>(shared_from_this())](
                    Result<std::string> answer) {
        auto all = self->members_here();
        if (answer) {  // the leader knows the lag of each
          Reader in(*answer);
          while (in.ok() && !in.empty()) {
            const StoreMember theirs = read_member(in);
            for (StoreMember& mine : all) {
              if (mine.id == theirs.id) mine.lag = theirs.lag;
            }
          }
        }
        promise.set(std::move(all));
      });
  return pending;
}

void RaftStoreImpl::change_here(const MemberChange& change, const PeerHandlers::Reply& reply,
                                std::int64_t until) {
  std::optional<Error> refused;
  {
    std::lock_guard lock(raft_mutex_);
    refused = refuse_locked(nullptr);
    if (!refused) {
      auto place = core_raft_->change_membership(change);
      if (place) {
        change_waiters_.emplace_back(place->index, reply);
        collect_locked();
      } else if (place.error().is(Error::busy) && waiting_changes_.size() < kWaitingChangesMax) {
        // The change before it is nearly always done within a round trip.
        waiting_changes_.push_back({change, reply, until != 0 ? until : steady_now() + kChangeWaits});
      } else {
        refused = place.error();
      }
    }
  }
  if (refused) reply(*refused);
}

Pending<std::uint64_t> RaftStoreImpl::change(MemberChange change) {
  if (!net_) {
    return Error(
        Error::unsupported, "store",
        "this store was opened without a peer listener (peer_listen), so it has no peers; open it with one");
  }
  while (change.member.id.value == 0) change.member.id = PeerId{engine_.random().next()};
  const std::uint64_t id = change.member.id.value;
  Promise<std::uint64_t> promise;
  auto pending = promise.pending();
  const auto reply = [promise, id](Result<std::string> done) {
    promise.set(done ? Result<std::uint64_t>(id) : Result<std::uint64_t>(done.error()));
  };
  if (leads()) {
    change_here(change, reply);
  } else {
    ask_leader(RequestKind::change_members, encode_change(change)).on_ready(reply);
  }
  return pending;
}

namespace {
Result<void> without_id(const Result<std::uint64_t>& done) {
  return done ? Result<void>() : Result<void>(done.error());
}
}  // namespace

Pending<std::uint64_t> RaftStoreImpl::add_member(std::string name, std::string address, bool learner,
                                                 bool force) {
  if (name.empty() || address.empty() || name.size() > kMemberTextMax || address.size() > kMemberTextMax)
    return Error(Error::invalid, "store",
                 "a member needs a name and an address HOST:PORT of at most 256 bytes");
  MemberChange change;
  change.type = learner ? MemberChange::Type::add_learner : MemberChange::Type::add_voter;
  change.member.name = std::move(name);
  change.member.address = std::move(address);
  change.force = force;
  return this->change(std::move(change));
}
Pending<void> RaftStoreImpl::promote_member(std::uint64_t id) {
  if (id == 0) return Error(Error::invalid, "store", "a member id is not 0");
  return change({MemberChange::Type::promote, {PeerId{id}}}).then(without_id);
}
Pending<void> RaftStoreImpl::remove_member(std::uint64_t id, bool force) {
  if (id == 0) return Error(Error::invalid, "store", "a member id is not 0");
  return change({MemberChange::Type::remove, {PeerId{id}}, force}).then(without_id);
}
Pending<void> RaftStoreImpl::update_member(std::uint64_t id, std::string address) {
  if (id == 0) return Error(Error::invalid, "store", "a member id is not 0");
  return change({MemberChange::Type::update, {PeerId{id}, "", std::move(address)}}).then(without_id);
}

Pending<void> RaftStoreImpl::transfer_leadership(std::uint64_t id) {
  if (!leads()) {
    return ask_leader(RequestKind::transfer, encode_ids({id})).then([](Result<std::string> answer) {
      return answer ? Result<void>() : Result<void>(answer.error());
    });
  }
  std::lock_guard lock(raft_mutex_);
  auto begun = core_raft_->transfer_leadership(PeerId{id});
  if (begun) collect_locked();
  return Pending<void>(std::move(begun));
}

/// A leader that stops names its successor first, so that the others need no election timeout.
void RaftStoreImpl::hand_over() {
  if (detail::on_event_thread()) return;
  std::unique_lock lock(raft_mutex_);
  if (stopping_ || failed_ || !core_raft_ || core_raft_->role() != Role::leader) return;
  PeerId best;
  Index match;
  for (const auto& [peer, progress] : core_raft_->progress()) {
    if (peer.value == identity_.peer || !progress.active || !core_raft_->configuration().votes(peer))
      continue;
    if (best.value == 0 || progress.match > match) std::tie(best, match) = std::pair(peer, progress.match);
  }
  if (best.value == 0 || !core_raft_->transfer_leadership(best)) return;
  collect_locked();
  quiet_.wait_for(lock, options_.election_min,
                  [this] { return core_raft_->role() != Role::leader && core_raft_->leader().value != 0; });
}

}  // namespace orchestra::store
