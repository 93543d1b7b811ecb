#pragma once
// RaftStore: a StateStore whose writes are on disk before they are answered, on one or several peers.
//
// Every write goes through the Raft core and a checksummed log, is synced together with all that arrived
// during the sync before it, and then applied and answered. kill -9 at any time loses no acknowledged write.
// With several peers a write is answered once a majority has it on disk; any peer takes calls, followers
// forward writes to the leader and serve reads themselves after asking it. Since 0.1.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "orchestra/memory_store.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra {

/// Mutual TLS 1.3, as PEM text: both sides show a certificate that `ca_pem` has signed, and the side that
/// dials demands that the other's names the IP it dialled. All three, or none: not encrypted.
struct StoreTls {
  std::string ca_pem = {};
  std::string certificate_pem = {};  ///< with the rest of its chain
  std::string key_pem = {};
  /// Files that hold them, instead of the text. They are looked at again, at most once a second, when a
  /// connection begins: new ones serve from then on, those that are no good are logged and not taken.
  std::string ca_file = {}, certificate_file = {}, key_file = {};
  bool empty() const {
    return ca_pem.empty() && certificate_pem.empty() && key_pem.empty() && ca_file.empty() &&
           certificate_file.empty() && key_file.empty();
  }
};

struct RaftStoreOptions {
  std::string data_dir;    ///< made (0700) if absent; one process at a time, by a lock on DIR/LOCK
  std::string name = "a";  ///< of this peer, for people; unique in its cluster
  /// "NAME=HOST:PORT" of all peers of a new cluster, the same list for each. The first one founds it, the
  /// others ask it who they are. Counts only while the folder is empty. None: a cluster of one.
  std::vector<std::string> initial_peers = {};
  /// HOST:PORT of peers of a running cluster that this one (added there before) joins; folder empty.
  std::vector<std::string> join = {};
  /// Where peers reach this one; port 0 takes a free one. Empty: no listener, a cluster of one for good.
  std::string peer_listen = {};
  std::string peer_address = {};  ///< what the others dial, if it differs from peer_listen
  StoreTls peer_tls = {};         ///< between peers; all of a cluster have it, or none
  /// sync: a write is answered when it is on the medium. interval: when it is written; a crash of the machine
  /// (not of the process) may lose the answered writes of the last `sync_interval`. none: it may lose more
  /// (tests). Votes and snapshots are synced in any case but none.
  enum class Durability : std::uint8_t { sync, interval, none };
  Durability durability = Durability::sync;
  Duration sync_interval = std::chrono::milliseconds(100);
  StoreLimits limits = {};
  Bytes segment_bytes{64u << 20};
  Bytes first_segment_bytes{4u << 20};
  /// A snapshot is taken when the log since the last one passes this and half of what the snapshot would hold
  /// (the state and its history), or 512 MiB.
  Bytes snapshot_log_bytes{64u << 20};
  /// Of snapshots in the data folder: 1 (fast) to 19 (small) compresses them (zstd), 0 does not. Peers that
  /// are sent one must be of 0.2 or later. Since 0.2.
  int snapshot_zstd = 0;
  /// Of the log before the last snapshot so much stays for peers that are slow, whichever is more; one that
  /// lacks older entries gets the snapshot.
  std::uint64_t log_keep_entries = 10'000;
  Bytes log_keep_bytes{64u << 20};
  /// False: the log is written by the engine's workers instead of a thread of its own (simulator).
  bool log_thread = true;
  Duration heartbeat = std::chrono::milliseconds(100);
  Duration election_min = std::chrono::milliseconds(500);  ///< drawn anew each time; >= 4 heartbeats
  Duration election_max = std::chrono::milliseconds(900);
  /// Among peers: the leader answers linearizable reads without asking the others first, while it knows that
  /// they elect nobody else (each that answers its heartbeat promises that for election_min). Right as long
  /// as no clock of the cluster runs faster or slower than true time by more than `max_clock_drift`; a
  /// machine that sleeps does no harm. All peers should have it: those without it make no promise, and
  /// without a majority of promises every read asks. Since 0.2.
  bool lease_reads = false;
  double max_clock_drift = 0.01;                      ///< 0 to 0.5: a part of the time that passes
  Duration write_deadline = std::chrono::seconds(5);  ///< then a write among peers is `unknown_outcome`
  /// How long open() of a new peer waits to be told who it is: by the leader, with a majority of the members.
  Duration enrol_deadline = std::chrono::seconds(60);
  Bytes snapshot_bytes_per_s{};  ///< to a slow peer; 0 = no limit
  /// How often complete files are read again and verified, at this rate; damage is an alarm of status(). 0 =
  /// never.
  Duration scrub_every = std::chrono::hours(24);
  Bytes scrub_bytes_per_s{10u << 20};
  /// A peer among others whose files are damaged, or whose state differs from that of the majority, takes a
  /// new place in its cluster when it is opened and fetches everything from them. False: open() answers
  /// `corrupt`.
  bool repair = true;
  /// How often the leader lets all peers compare their states; one that differs from the majority stops. 0 =
  /// never.
  Duration state_check_every = std::chrono::minutes(5);
};

/// Timing for peers on one machine or one fast network: fail-over within 300 ms.
inline void use_lan_fast_timing(RaftStoreOptions& options) {
  options.heartbeat = std::chrono::milliseconds(25);
  options.election_min = std::chrono::milliseconds(100);
  options.election_max = std::chrono::milliseconds(200);
}

class ORC_API RaftStore {
 public:
  /// Reads what is there. A cluster of one is ready to write when it returns; one of several answers as soon
  /// as a leader is elected. Blocks for the time that takes.
  /// `busy` names the process that holds the folder; `corrupt` names file and offset and changes nothing.
  /// Once a write or sync of the log fails, the store answers `unavailable` for good (`unknown_outcome`
  /// for what was being written): open it again. The engine must outlive the store. stop(), or dropping
  /// the last copy of what open() returned, closes it and frees the folder before it returns; a leader hands
  /// over first.
  static Result<std::shared_ptr<StateStore>> open(Engine& engine, RaftStoreOptions options);
};

/// Writes that are done once, however often they are sent; implemented by stores with exactly_once in their
/// capabilities: `dynamic_cast<StoreSessions*>(store.get())`. Any thread. Since 0.1.
///
/// A put whose PutOptions::request_id is "SESSION.NUMBER" may be sent again after `unknown_outcome`, to any
/// peer: it is applied once and answered alike each time. Numbers are the client's, from 1 on, growing; the
/// last 64 answers of a session and the 4,096 sessions used last are kept, whatever is older is `expired` and
/// not applied.
class ORC_API StoreSessions {
 public:
  virtual ~StoreSessions() = default;
  virtual Pending<std::string> session_open() = 0;
};

/// One member of a cluster of peers.
struct StoreMember {
  std::uint64_t id = 0;
  std::string name;
  std::string address;
  std::string role;   ///< "leader", "voter", "learner", "leaving" (until its removal is settled)
  bool self = false;  ///< the peer that answers
  bool reachable = false;
  std::uint64_t lag = 0;     ///< entries that it lacks, as the leader knows it
  double round_trip_us = 0;  ///< from the answering peer
  std::string trouble;       ///< why it cannot be reached
};

/// Changing who takes part; implemented by stores of several peers and their clients:
/// `dynamic_cast<StoreMembers*>(store.get())`. Any thread; forwarded to the leader. Since 0.2.
class ORC_API StoreMembers {
 public:
  virtual ~StoreMembers() = default;
  virtual Pending<std::vector<StoreMember>> members() = 0;
  /// Answers the new member's id. Start it with `join` then. `force` skips the check that the voters who
  /// answer now stay a majority. A voter that was never started is needed for no majority: where it would be
  /// (one peer that becomes two), add a learner, start it, and promote it.
  virtual Pending<std::uint64_t> add_member(std::string name, std::string address, bool learner,
                                            bool force) = 0;
  virtual Pending<void> promote_member(std::uint64_t id) = 0;
  virtual Pending<void> remove_member(std::uint64_t id, bool force) = 0;
  virtual Pending<void> update_member(std::uint64_t id, std::string address) = 0;
  virtual Pending<void> transfer_leadership(std::uint64_t id) = 0;
};

}  // namespace orchestra
