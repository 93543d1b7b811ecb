#pragma once
// Several RaftCores, their disks (what report_stored made durable), and the messages between them: what the
// tests of single rules need. Whole stores with clocks, disks and clients run in src/sim.
#include <algorithm>
#include <deque>
#include <map>
#include <set>

#include "sim/sim_env.hpp"
#include "store/raft/core.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {

struct Faults {
  unsigned lose_percent = 0;
  unsigned double_percent = 0;
  bool reorder = false;
};

inline Configuration voters_of(const std::vector<PeerId>& ids) {
  Configuration made;
  for (const PeerId id : ids) {
    made.members.push_back(
        {id, "p" + std::to_string(id.value), "host:" + std::to_string(id.value), true, false, true});
  }
  return made;
}

class Peers {
 public:
  Peers(std::size_t count, std::uint64_t seed) : random_(seed) {
    for (std::size_t i = 1; i <= count; ++i) ids_.push_back(PeerId{i});
    initial_ = voters_of(ids_);
    for (const PeerId peer : ids_) start(peer);
  }

  Faults faults;
  std::set<PeerId> cut_off;
  std::set<std::pair<PeerId, PeerId>> cut_one_way;  ///< from, to
  std::set<PeerId> slow_disks;  ///< disks that answer late: receipts wait until this is cleared
  /// Sees every message on its way; false swallows it.
  std::function<bool(const Message&)> filter;
  RaftOptions options;

  void run(int ticks) {
    for (int i = 0; i < ticks; ++i) {
      for (auto& [peer, node] : nodes_) {
        if (node.core) node.core->tick();
      }
      settle();
    }
  }
  /// Delivers until nothing moves.
  void settle() {
    for (int round = 0; round < 50; ++round) {
      for (auto& [peer, node] : nodes_) work(peer, node);
      if (network_.empty()) return;
      deliver();
      check();
    }
  }
  std::optional<PeerId> leader() const {
    std::optional<PeerId> found;
    for (const auto& [peer, node] : nodes_) {
      if (!node.core || node.core->role() != Role::leader || cut_off.contains(peer)) continue;
      if (!found || nodes_.at(*found).core->term() < node.core->term()) found = peer;
    }
    return found;
  }
  PeerId wait_for_leader() {
    for (int i = 0; i < 300; ++i) {
      run(1);
      if (const auto found = leader(); found && core(*found).serving()) return *found;
    }
    FAIL("no leader in 300 ticks");
    return {};
  }
  PeerId other_than(PeerId peer) const { return peer == PeerId{1} ? PeerId{2} : PeerId{1}; }
  PeerId third(PeerId a, PeerId b) const {
    for (const PeerId id : ids_) {
      if (id != a && id != b) return id;
    }
    return {};
  }
  RaftCore& core(PeerId peer) { return *nodes_.at(peer).core; }
  bool propose(PeerId peer, const std::string& data) {
    return core(peer).propose(std::make_shared<const std::string>(data)).has_value();
  }
  bool applied(PeerId peer, const std::string& data) const {
    const auto& all = nodes_.at(peer).applied;
    return std::find(all.begin(), all.end(), data) != all.end();
  }
  const std::vector<std::string>& applied(PeerId peer) const { return nodes_.at(peer).applied; }
  std::vector<ReadState> take_reads(PeerId peer) { return std::exchange(nodes_.at(peer).reads, {}); }
  int snapshots_taken_in(PeerId peer) const { return nodes_.at(peer).installs; }

  /// What was not reported stored is gone; the applied state is rebuilt from snapshot and log.
  void crash(PeerId peer) { nodes_.at(peer).core.reset(); }
  void restart(PeerId peer) { start(peer); }
  bool down(PeerId peer) const { return !nodes_.at(peer).core; }
  /// A new machine without data: it knows nobody until somebody tells it.
  void add_machine(PeerId peer) {
    ids_.push_back(peer);
    nodes_[peer].joins = true;
    start(peer);
  }
  /// The peer takes a snapshot of what it has applied and forgets the log before it.
  void compact(PeerId peer) {
    Node& node = nodes_.at(peer);
    const Index at = node.core->applied();
    if (at <= node.base || node.core->term_at(at).value == 0) return;
    node.base_term = node.core->term_at(at);
    node.base = at;
    node.base_configuration = node.core->configuration_at(at);
    node.base_applied = node.applied;
    std::erase_if(node.log, [&](const Entry& entry) { return entry.index <= at; });
  }
  Result<ProposalId> change(PeerId at, MemberChange::Type type, PeerId id, bool force = false) {
    const std::string number = std::to_string(id.value);
    return core(at).change_membership({type, {id, "p" + number, "host:" + number}, force});
  }
  /// Votes, acknowledgements and leaders so far.
  const std::map<Term, PeerId>& leaders() const { return leader_of_term_; }
  const std::vector<PeerId>& ids() const { return ids_; }
  sim::SimRandom& random() { return random_; }
  const std::vector<Entry>& log(PeerId peer) const { return nodes_.at(peer).log; }
  HardState hard(PeerId peer) const { return nodes_.at(peer).hard; }
  void deliver_to(const Message& message) { core(message.to).step(message); }

 private:
  struct Node {
    std::optional<RaftCore> core;
    HardState hard;
    Index base;
    Term base_term;
    Configuration base_configuration;
    std::vector<std::string> base_applied;
    std::vector<Entry> log;  ///< durable
    std::deque<Ready> writing;
    std::vector<std::string> applied;
    std::vector<ReadState> reads;
    bool joins = false;
    int installs = 0;
  };

  void start(PeerId peer) {
    Node& node = nodes_[peer];
    node.writing.clear();
    node.applied = node.base_applied;
    RaftOptions made = options;
    made.self = peer;
    made.seed = random_.next();
    made.keep_entries = 5;
    made.keep_bytes = 0;
    if (node.base.value == 0 && !node.joins) node.base_configuration = initial_;
    node.core.emplace(made,
                      RaftStart{node.hard, node.base, node.base_term, node.base_configuration, node.log});
  }

  void work(PeerId peer, Node& node) {
    if (!node.core) return;
    Ready ready = node.core->take_ready();
    for (Message& message : ready.messages_now) send(std::move(message));
    if (ready.snapshot) install(node, *ready.snapshot);
    for (const Entry& entry : ready.committed) {
      note_committed(entry);
      if (entry.type == EntryType::command) node.applied.emplace_back(entry.bytes());
    }
    if (!ready.committed.empty()) node.core->report_applied(ready.committed.back().index);
    for (const ReadState& read : ready.reads) node.reads.push_back(read);
    for (const PeerId to : ready.snapshots_wanted) send_snapshot(peer, node, to);
    if (ready.must_store() || !ready.messages_after_sync.empty()) node.writing.push_back(std::move(ready));
    while (!node.writing.empty() && !slow_disks.contains(peer)) {
      const Ready stored = std::move(node.writing.front());
      node.writing.pop_front();
      if (stored.hard_state) node.hard = *stored.hard_state;
      if (stored.snapshot) store_snapshot(node, *stored.snapshot);
      for (const Entry& entry : stored.entries) {
        while (!node.log.empty() && node.log.back().index >= entry.index) node.log.pop_back();
        node.log.push_back(entry);
      }
      node.core->report_stored(stored.receipt);
      for (const Message& message : stored.messages_after_sync) send(message);
    }
  }

  void install(Node& node, const SnapshotPoint& point) {
    node.applied = files_.at(point.index).applied;
    ++node.installs;
    node.core->report_applied(point.index);
  }
  void store_snapshot(Node& node, const SnapshotPoint& point) {
    node.base = point.index;
    node.base_term = point.term;
    node.base_configuration = files_.at(point.index).configuration;
    node.base_applied = files_.at(point.index).applied;
    node.log.clear();
  }
  void send_snapshot(PeerId from, Node& node, PeerId to) {
    const Index at = node.core->applied();
    Message message;
    message.type = MessageType::snapshot;
    message.from = from;
    message.to = to;
    message.term = node.core->term();
    message.index = at;
    message.log_term = node.core->term_at(at);
    message.configuration = node.core->configuration_at(at);
    files_[at] = {node.applied, *message.configuration};
    const bool arrives = !cut_off.contains(from) && !cut_off.contains(to) && !down(to);
    if (arrives) network_.push_back(message);
    node.core->report_snapshot(to, at, arrives);
  }

  void send(Message message) {
    if (filter && !filter(message)) return;
    if (random_.below(100) < faults.lose_percent) return;
    if (random_.below(100) < faults.double_percent) network_.push_back(message);
    network_.push_back(std::move(message));
  }
  void deliver() {
    std::deque<Message> now = std::exchange(network_, {});
    if (faults.reorder) {
      for (std::size_t i = now.size(); i > 1; --i) std::swap(now[i - 1], now[random_.below(i)]);
    }
    for (const Message& message : now) {
      if (cut_off.contains(message.from) || cut_off.contains(message.to)) continue;
      if (cut_one_way.contains({message.from, message.to})) continue;
      const auto node = nodes_.find(message.to);
      if (node != nodes_.end() && node->second.core) node->second.core->step(message);
    }
  }

  void note_committed(const Entry& entry) {
    const auto [found, fresh] = committed_.try_emplace(entry.index, entry);
    // The committed prefix never changes, whoever tells it.
    CHECK(found->second.term == entry.term);
    CHECK(found->second.bytes() == entry.bytes());
  }
  void check() {
    for (const auto& [peer, node] : nodes_) {
      if (!node.core || node.core->role() != Role::leader) continue;
      const auto [found, fresh] = leader_of_term_.try_emplace(node.core->term(), peer);
      CHECK(found->second == peer);
    }
  }

  struct File {
    std::vector<std::string> applied;
    Configuration configuration;
  };
  sim::SimRandom random_;
  std::vector<PeerId> ids_;
  Configuration initial_;
  std::map<PeerId, Node> nodes_;
  std::deque<Message> network_;
  std::map<Index, File> files_;
  std::map<Index, Entry> committed_;
  std::map<Term, PeerId> leader_of_term_;
};

}  // namespace orchestra::store::test
