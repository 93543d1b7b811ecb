#pragma once
// StoreAudit: what the peers of a simulated cluster must never do, looked at from outside.
//
// It knows three things that no peer tells another: what each disk holds for certain (from the log's
// appends), what leaves each peer, and what each core believes. With them the promises of Raft are checked
// when they are given, not when a later crash happens to break them: a vote or an acknowledgement that leaves
// is on disk; what a leader commits is on the disks of a majority and of its own term (section 3.6.2); what
// was committed never changes and every later leader has it (3.6.3); members change by joint consensus, one
// change at a time (4.3); a leader that hears no majority stops (6.2); a disk gives back what it was given.
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/units.hpp"
#include "store/disk/log.hpp"
#include "store/raft/core.hpp"

namespace orchestra::sim {

class StoreAudit {
 public:
  using Violated = std::function<void(const std::string&)>;
  explicit StoreAudit(Violated violated) : violated_(std::move(violated)) {}

  /// See LogOptions::on_append.
  void on_append(store::PeerId peer, const store::LogBatch& batch, bool stored);
  /// A frame between peers (SimNetwork::watch).
  void on_frame(std::string_view frame, bool arrived, std::int64_t now_ns);
  /// Before a start: what was being written when the power failed may be there.
  void opens(store::PeerId peer) { peers_[peer].opening = true; }
  /// Its disk was replaced by an empty one. What it said before was true then, and counts; what it says under
  /// this id from now on must convince nobody.
  void lost(store::PeerId peer) { peers_[peer].lost = true; }
  /// Its id was told to an empty disk, for the first time as far as the log knows: from now on that one
  /// counts.
  void reborn(store::PeerId peer) { peers_[peer] = {}; }
  /// After it: what is there now against what the disk was given before.
  void opened(store::PeerId peer, const store::RaftCore& core);
  /// It does nothing, or does something again: silence counts from here.
  void woke(store::PeerId peer, std::int64_t now_ns) { peers_[peer].awake_ns = now_ns; }
  void look(store::PeerId peer, const store::RaftCore& core, std::int64_t now_ns);

 private:
  using Index = store::Index;
  using PeerId = store::PeerId;
  using Term = store::Term;
  /// What the disk of a peer holds: written and synced.
  struct OnDisk {
    Term term;
    PeerId vote;
    std::vector<Term> terms;  ///< by index - 1; Term{0} under a snapshot
    std::optional<store::LogBatch> writing;
  };
  struct Peer {
    OnDisk disk;
    Index looked;   ///< committed entries up to here were compared
    Term leads;     ///< the term in which it was seen as leader
    Index counted;  ///< commit index that was looked into, as leader
    bool opening = false;
    bool lost = false;
    std::int64_t led_ns = 0;  ///< since when it leads, as far as was seen
    std::int64_t awake_ns = 0;
    std::int64_t members_ns = 0;  ///< since when it believes in these members: new ones are waited for
    std::uint64_t changes = 0;    ///< of its configuration
    std::map<PeerId, std::int64_t> heard_ns;
  };
  bool holds(PeerId peer, Index index, Term term) const;
  void check_leader(PeerId peer, Peer& known, const store::RaftCore& core, std::int64_t now_ns);
  void check_members(PeerId peer, const store::RaftCore& core);
  void violated(PeerId peer, const std::string& what) const;

  const Violated violated_;
  std::map<PeerId, Peer> peers_;
  std::vector<Term> committed_;  ///< by index - 1; Term{0}: not seen
  std::vector<Term>
      committed_seen_;  ///< the term of the peer that was first seen to know it: not before it happened
};

}  // namespace orchestra::sim
