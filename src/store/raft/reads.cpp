// RaftCore: linearizable reads by ReadIndex (section 6.4).
//
// The leader notes its commit index, confirms by one heartbeat round that it still leads, and only then may
// the read be served from the state at that index. One round is under way at a time; reads that come
// meanwhile share the next one. Followers ask the leader and serve the read themselves.
//
// With leases (section 6.4.1) each heartbeat is a round, and an answer to it a promise to vote for nobody
// else for the shortest election timeout, counted in ticks of the own clock from its receipt, over a restart
// too. The leader may then answer reads at once for a little less than that, counted by its clock from when
// the round began. Nobody promises for the others: only answers that say so count. Who offers its leadership
// to another has given up the lease for the rest of its term, since that one may campaign in spite of
// promises.
#include "store/planted.hpp"
#include "store/raft/core.hpp"
#include "store/raft/quorum.hpp"

namespace orchestra::store {
namespace {
constexpr std::size_t kPendingReadsMax = 1u << 20;
constexpr std::size_t kRoundsMax = 256;
}  // namespace

Result<void> RaftCore::read_index(std::uint64_t context) {
  if (role_ == Role::leader) {
    if (pending_reads_.size() >= kPendingReadsMax) {
      return Error(Error::overloaded, "store",
                   std::to_string(kPendingReadsMax) + " reads wait for their confirmation; try again later");
    }
    add_read(context, options_.self);
    return {};
  }
  if (leader_.value == 0) {
    return Error(Error::not_leader, "store", "no leader is known").with_detail(leader_);
  }
  Message ask;
  ask.type = MessageType::read_index;
  ask.to = leader_;
  ask.context = context;
  send(std::move(ask), stored_term_ != hard_.term);
  return {};
}

void RaftCore::add_read(std::uint64_t context, PeerId from) {
  if (pending_reads_.size() + early_reads_.size() >= kPendingReadsMax) return;
  if (!serving()) {
    early_reads_.emplace_back(context, from);
    return;
  }
  if (alone() || lease_held() || planted(Bug::read_without_round))
    return answer_read(context, from, hard_.commit);
  pending_reads_.push_back({context, from, hard_.commit, read_round_ + 1});
  if (!read_round_open_) start_read_round();
}

void RaftCore::begin_round() {
  ++read_round_;
  if (options_.lease_ns == 0) return;
  round_began_.emplace_back(read_round_, now_ns_);
  if (round_began_.size() > kRoundsMax) round_began_.pop_front();
}

void RaftCore::renew_lease() {
  if (options_.lease_ns == 0) return;
  const std::uint64_t promised = agreed_index(configuration(), [this](PeerId id) {
                                   if (id == options_.self) return Index{read_round_};
                                   const auto found = progress_.find(id);
                                   return Index{found == progress_.end() ? 0 : found->second.promised_round};
                                 }).value;
  for (; !round_began_.empty() && round_began_.front().first <= promised; round_began_.pop_front()) {
    const std::int64_t lease = options_.lease_ns * (planted(Bug::break_promise) ? 20 : 1);
    lease_until_ns_ = round_began_.front().second + lease;
    lease_configuration_ = configuration_changes_;
  }
}

/// To whoever leads now, or led before a restart.
void RaftCore::promise() {
  if (options_.lease_ns > 0) promised_until_ = ticks_ + options_.election_ticks_min;
}

void RaftCore::start_read_round() {
  begin_round();
  read_round_open_ = true;
  broadcast_heartbeat();
  confirm_reads();  // a single voter among learners confirms itself
}

void RaftCore::confirm_reads() {
  const std::uint64_t confirmed =
      agreed_index(configuration(), [this](PeerId id) {
        if (id == options_.self) return Index{read_round_};
        const auto found = progress_.find(id);
        return Index{found == progress_.end() ? 0 : found->second.confirmed_round};
      }).value;
  if (!read_round_open_ || confirmed < read_round_) return;
  read_round_open_ = false;
  while (!pending_reads_.empty() && pending_reads_.front().round <= confirmed) {
    const PendingRead read = pending_reads_.front();
    pending_reads_.pop_front();
    answer_read(read.context, read.from, read.index);
  }
  if (!pending_reads_.empty()) start_read_round();
}

void RaftCore::answer_read(std::uint64_t context, PeerId to, Index index) {
  if (to == options_.self) {
    out_.reads.push_back({context, index});
    return;
  }
  Message answer;
  answer.type = MessageType::read_index_answer;
  answer.to = to;
  answer.context = context;
  answer.index = index;
  send(std::move(answer), false);
}

}  // namespace orchestra::store
