#pragma once
// The words of Raft (Ongaro, "Consensus: Bridging Theory and Practice", 2014): terms, indexes, entries,
// members, messages. Indexes start at 1; Index{0} and Term{0} mean "none".
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/units.hpp"

namespace orchestra::store {

using Term = Id<struct TermTag>;
using Index = Id<struct IndexTag>;
using PeerId = Id<struct PeerTag>;

enum class EntryType : std::uint8_t { empty = 0, command = 1, configuration = 2 };

struct Entry {
  Term term;
  Index index;
  EntryType type = EntryType::empty;
  std::shared_ptr<const std::string> data;  ///< may be null: no bytes
  std::string_view bytes() const { return data ? std::string_view(*data) : std::string_view(); }
};

/// A vote for nobody: who begins in the middle of a term takes no part in that term's election.
constexpr PeerId kNobody{~std::uint64_t{0}};

/// What must be on disk before anything that depends on it leaves. `commit` is advisory.
struct HardState {
  Term term;
  PeerId vote;
  Index commit;
  friend bool operator==(const HardState&, const HardState&) = default;
};

/// One peer of a cluster. Its id is never used again; name and address are for people and dialling.
struct Member {
  PeerId id;
  std::string name;
  std::string address;     ///< host:port of its peer listener
  bool voter = false;      ///< votes (in the new configuration, while joint)
  bool was_voter = false;  ///< votes in the old configuration, while joint
  bool started = false;    ///< its id was given to a disk: no other disk gets it
  bool learner() const { return !voter && !was_voter; }
  friend bool operator==(const Member&, const Member&) = default;
};

/// Who takes part. While `joint`, decisions need a majority of the old and of the new voters (section 4.3).
struct Configuration {
  std::vector<Member> members;  ///< in order of their ids
  bool joint = false;
  const Member* find(PeerId id) const {
    for (const Member& member : members) {
      if (member.id == id) return &member;
    }
    return nullptr;
  }
  bool votes(PeerId id) const {
    const Member* member = find(id);
    return member != nullptr && (member->voter || (joint && member->was_voter));
  }
  friend bool operator==(const Configuration&, const Configuration&) = default;
};

enum class MessageType : std::uint8_t {
  pre_vote = 1,
  pre_vote_answer,
  vote,
  vote_answer,
  append,
  append_answer,
  heartbeat,
  heartbeat_answer,
  timeout_now,  ///< leadership transfer: campaign at once
  read_index,   ///< a follower asks up to where a read must wait
  read_index_answer,
  snapshot,  ///< a snapshot file has arrived; what it holds
};
constexpr MessageType kLastMessageType = MessageType::snapshot;

/// One message between peers; which fields count depends on the type.
struct Message {
  MessageType type{};
  PeerId from, to;
  Term term;
  Term log_term;  ///< append: of the entry before; votes: of the candidate's last entry; snapshot: its last
  Index index;    ///< append: of the entry before; votes: candidate's last; answers: match or hint
  Index commit;   ///< append, heartbeat
  std::vector<Entry> entries;  ///< append
  bool reject = false;
  bool transfer = false;                       ///< votes: the leader itself asked for this campaign
  bool promise = false;                        ///< heartbeat answer: no vote for another one for a while
  Term hint_term;                              ///< rejected append: term at the hint index
  std::uint64_t context = 0;                   ///< heartbeat: the read round it confirms; reads: whose
  std::optional<Configuration> configuration;  ///< snapshot
};

}  // namespace orchestra::store
