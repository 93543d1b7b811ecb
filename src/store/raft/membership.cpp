// RaftCore: who takes part (section 4): one change at a time, voters by joint consensus, learners, transfer.
//
// A configuration is effective as soon as its entry is in the log and goes with the entry if that is cut
// off, so the last configuration before the log's base is always kept. While joint, old and new voters must
// both agree; once the joint entry is committed the leader appends the new configuration by itself.
//
// An id belongs to one disk. Whoever asks with an empty one is told its id when the entry that says so
// (Member::started) is committed, and nobody is told it again: had a lost disk voted or acknowledged, a
// second one under its id could elect a leader that lacks what was committed. That entry is on a majority
// without the peer itself, so every later leader knows it, and has what the lost disk had acknowledged
// before. Ids of a new cluster are told by its founder, until it leads; nobody has anything to lose until
// then.
#include <algorithm>

#include "store/planted.hpp"
#include "store/raft/codec.hpp"
#include "store/raft/core.hpp"
#include "store/raft/quorum.hpp"

namespace orchestra::store {
namespace {

Error refuse(Error::Code code, const std::string& why) {
  return Error(code, "store", why + "; the members were not changed");
}
std::string shown(const Member& member) {
  return "\"" + member.name + "\" (" + std::to_string(member.id.value) + ")";
}

}  // namespace

void RaftCore::note_configuration(const Entry& entry) {
  auto decoded = decode_configuration(entry.bytes());
  ORC_ASSERT_MSG(decoded.has_value(), "a configuration entry was not checked before it came here");
  configurations_.push_back({entry.index, std::move(*decoded)});
  configuration_changed();
}

void RaftCore::forget_configurations(Index from) {
  bool changed = false;
  while (configurations_.size() > 1 && configurations_.back().index >= from) {
    configurations_.pop_back();
    changed = true;
  }
  if (changed) configuration_changed();
}

/// A leader keeps track of exactly the members there are now.
void RaftCore::configuration_changed() {
  ++configuration_changes_;
  if (role_ != Role::leader) return;
  for (const Member& member : configuration().members) {
    const auto [at, fresh] = progress_.try_emplace(member.id);
    if (!fresh) continue;
    at->second.next = Index{log_.last().value + 1};
    // The clock of check-quorum starts now for those who were voters already.
    if (configuration().votes(member.id)) at->second.heard = ticks_;
    if (member.id == options_.self) at->second.match = stored_;
  }
  std::erase_if(progress_, [this](const auto& entry) {
    return entry.first != options_.self && configuration().find(entry.first) == nullptr;
  });
  if (transfer_to_.value != 0 && !configuration().votes(transfer_to_)) transfer_to_ = {};
}

const Configuration& RaftCore::configuration_at(Index index) const {
  auto found = std::find_if(configurations_.rbegin(), configurations_.rend(),
                            [&](const PlacedConfiguration& placed) { return placed.index <= index; });
  ORC_ASSERT(found != configurations_.rend());
  return found->what;
}

std::map<PeerId, PeerProgress> RaftCore::progress() const {
  std::map<PeerId, PeerProgress> all;
  for (const auto& [peer, progress] : progress_) {
    const char* state = progress.flow == Flow::probe       ? "probe"
                        : progress.flow == Flow::replicate ? "replicate"
                                                           : "snapshot";
    all[peer] = {progress.match, recently_heard(peer), state};
  }
  return all;
}

bool RaftCore::recently_heard(PeerId peer) const {
  if (peer == options_.self) return true;
  const auto found = progress_.find(peer);
  return found != progress_.end() && found->second.heard != 0 &&
         ticks_ - found->second.heard <= options_.election_ticks_max;
}

void RaftCore::append_configuration(const Configuration& next) {
  append_own(EntryType::configuration, std::make_shared<const std::string>(encode_configuration(next)));
}

Result<Configuration> RaftCore::changed(const MemberChange& change) const {
  using Type = MemberChange::Type;
  Configuration next = configuration();
  const auto at = std::find_if(next.members.begin(), next.members.end(),
                               [&](const Member& member) { return member.id == change.member.id; });
  if (change.type == Type::add_learner || change.type == Type::add_voter) {
    if (change.member.id.value == 0 || at != next.members.end())
      return refuse(Error::already_exists,
                    "peer id " + std::to_string(change.member.id.value) + " is in use or invalid");
    for (const Member& member : next.members) {
      if (member.name == change.member.name || member.address == change.member.address)
        return refuse(Error::already_exists, "member " + shown(member) + " at " + member.address +
                                                 " has this name or address already");
    }
    Member added = change.member;
    added.voter = change.type == Type::add_voter;
    added.was_voter = added.started = false;
    next.members.push_back(added);
    std::sort(next.members.begin(), next.members.end(),
              [](const Member& a, const Member& b) { return a.id < b.id; });
    return next;
  }
  if (at == next.members.end())
    return refuse(Error::not_found, "there is no member " + std::to_string(change.member.id.value));
  switch (change.type) {
    case Type::start:
      if (at->started)
        return refuse(Error::already_exists,
                      "the id of member " + shown(*at) + " was given to a disk before");
      at->started = true;
      break;
    case Type::promote: {
      if (at->voter) return refuse(Error::conflict, "member " + shown(*at) + " votes already");
      if (!at->started)
        return refuse(Error::unavailable, "learner " + shown(*at) +
                                              " has never been started; start it (--join), and promote it "
                                              "when it has caught up");
      const auto progress = progress_.find(at->id);
      const std::uint64_t match = progress == progress_.end() ? 0 : progress->second.match.value;
      if (match + options_.promote_lag_max < log_.last().value)
        return refuse(Error::unavailable,
                      "learner " + shown(*at) + " lacks " + std::to_string(log_.last().value - match) +
                          " entries (at most " + std::to_string(options_.promote_lag_max) +
                          "); wait until it has caught up");
      at->voter = true;
      break;
    }
    case Type::update:
      if (!change.member.name.empty()) at->name = change.member.name;
      if (!change.member.address.empty()) at->address = change.member.address;
      break;
    default:
      if (at->learner()) {
        next.members.erase(at);
      } else {
        at->voter = false;
      }
      break;
  }
  return next;
}

/// After the change, those who answer now must be a majority.
Result<void> RaftCore::check_connected(const Configuration& next) const {
  std::string silent;
  std::size_t voters = 0;
  for (const Member& member : next.members) {
    if (!member.voter) continue;
    ++voters;
    if (!recently_heard(member.id)) silent += (silent.empty() ? "" : ", ") + shown(member);
  }
  if (voters == 0) return refuse(Error::invalid, "no voter would be left");
  Configuration settled = next;
  settled.joint = false;
  if (has_quorum(settled, [this](PeerId id) { return recently_heard(id); })) return {};
  return refuse(Error::unavailable, "of " + std::to_string(voters) +
                                        " voters these do not answer: " + silent +
                                        "; with them the cluster would stand still. Add a new peer as a "
                                        "learner, start it, then promote it (or force the change)");
}

/// Who has no disk yet is told its id by a majority, so it cannot be needed for one.
Result<void> RaftCore::check_started(const Configuration& next) const {
  std::string never;
  Configuration settled = next;
  settled.joint = false;
  const auto started = [&](PeerId id) { return id == options_.self || next.find(id)->started; };
  if (has_quorum(settled, started)) return {};
  for (const Member& member : next.members) {
    if (member.voter && !started(member.id)) never += (never.empty() ? "" : ", ") + shown(member);
  }
  return refuse(Error::unavailable,
                "these voters have never been started: " + never +
                    "; a majority without them has to tell them who they are, and there "
                    "would be none. Add a new peer as a learner, start it, then promote it");
}

Result<ProposalId> RaftCore::change_membership(const MemberChange& change) {
  if (role_ != Role::leader)
    return Error(Error::not_leader, "store", "this peer is not the leader; the members were not changed")
        .with_detail(leader_);
  if (!serving())
    return refuse(Error::unavailable, "the leader has not committed an entry of its own term yet");
  if (transfer_to_.value != 0) return refuse(Error::unavailable, "leadership is being handed over");
  if (configuration().joint || (configurations_.back().index > applied_ && !planted(Bug::two_changes)))
    return refuse(Error::busy, "another change of the members is not finished yet");
  ORC_ASSIGN(Configuration next, changed(change));
  const Configuration& now = configuration();
  bool voters_differ = false;
  for (const Member& member : next.members) {
    const Member* before = now.find(member.id);
    voters_differ |= member.voter != (before != nullptr && before->voter);
  }
  if (voters_differ) {
    if (!change.force) ORC_TRY(check_connected(next));
    ORC_TRY(check_started(next));
    if (!planted(Bug::no_joint)) {
      next.joint = true;
      for (Member& member : next.members) {
        const Member* before = now.find(member.id);
        member.was_voter = before != nullptr && before->voter;
      }
    } else {
      std::erase_if(next.members, [](const Member& member) { return !member.voter && member.was_voter; });
    }
  }
  append_configuration(next);
  return ProposalId{hard_.term, log_.last()};
}

/// Once old and new voters have agreed on the joint configuration, the new one alone follows. A leader that
/// is not part of it steps down when that is committed, after naming the best of the others.
void RaftCore::leave_joint() {
  if (role_ != Role::leader || configurations_.back().index > hard_.commit) return;
  if (configuration().joint) {
    Configuration next = configuration();
    next.joint = false;
    std::erase_if(next.members, [](const Member& member) { return member.was_voter && !member.voter; });
    for (Member& member : next.members) member.was_voter = false;
    return append_configuration(next);
  }
  if (configuration().votes(options_.self)) return;
  const Progress* best = nullptr;
  PeerId successor;
  for (const auto& [peer, progress] : progress_) {
    if (!configuration().votes(peer) || (best != nullptr && progress.match <= best->match)) continue;
    best = &progress;
    successor = peer;
  }
  send_appends(true);  // so that they know it is committed
  if (successor.value != 0) {
    Message now;
    now.type = MessageType::timeout_now;
    now.to = successor;
    send(std::move(now), false);
  }
  become_follower(hard_.term, {});
}

/// Those whom the founder told their ids have begun, at the latest when they have stored entries.
void RaftCore::mark_started() {
  if (configuration().joint || configurations_.back().index > applied_ || !serving()) return;
  const auto began = [&](const Member& member) {
    const auto progress = progress_.find(member.id);
    return !member.started && progress != progress_.end() && progress->second.match.value != 0;
  };
  const auto& members = configuration().members;
  if (std::none_of(members.begin(), members.end(), began)) return;
  Configuration next = configuration();
  for (Member& member : next.members) member.started = member.started || began(member);
  append_configuration(next);
}

Result<void> RaftCore::transfer_leadership(PeerId to) {
  if (role_ != Role::leader)
    return Error(Error::not_leader, "store", "this peer is not the leader").with_detail(leader_);
  if (to == options_.self) return {};
  if (transfer_to_.value != 0) {
    return Error(Error::busy, "store",
                 "leadership is being handed to peer " + std::to_string(transfer_to_.value) + " already");
  }
  const auto found = progress_.find(to);
  if (found == progress_.end() || !configuration().votes(to)) {
    return Error(Error::invalid, "store",
                 "peer " + std::to_string(to.value) + " is no voter of this cluster; name another one");
  }
  if (!recently_heard(to)) {
    return Error(Error::unavailable, "store",
                 "peer " + std::to_string(to.value) + " does not answer; name another one");
  }
  transfer_to_ = to;
  lease_given_up_ = true;
  transfer_elapsed_ = 0;
  maybe_send_timeout_now(to, found->second);
  if (found->second.match < log_.last()) send_append(to, found->second, false);
  return {};
}

void RaftCore::maybe_send_timeout_now(PeerId peer, const Progress& progress) {
  if (peer != transfer_to_ || progress.match != log_.last()) return;
  Message now;
  now.type = MessageType::timeout_now;
  now.to = peer;
  send(std::move(now), false);
}

}  // namespace orchestra::store
