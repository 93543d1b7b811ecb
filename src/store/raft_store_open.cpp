// RaftStore: from a folder to a leader that has applied everything.
#include <algorithm>

#include "orchestra/env.hpp"
#include "store/disk/compress.hpp"
#include "store/mvcc/command_codec.hpp"
#include "store/planted.hpp"
#include "store/raft/codec.hpp"
#include "store/raft_store.hpp"
#include "store/restore.hpp"
#include "store/transport/shell/tls_transport.hpp"

namespace orchestra {
namespace store {
namespace {

constexpr std::size_t kReplayBatch = 1024;
constexpr Duration kEnrolOnce = std::chrono::seconds(2);
constexpr Duration kEnrolQuietly = std::chrono::seconds(2);
constexpr Duration kEnrolAgain = std::chrono::milliseconds(100);

bool is_snapshot_name(const std::string& name) { return name.compare(0, 9, "snapshot-") == 0; }

}  // namespace

RaftStoreImpl::RaftStoreImpl(Engine& engine, RaftStoreOptions options, std::optional<SimulatedPeer> given)
    : LocalStore(engine, options.limits),
      options_(std::move(options)),
      given_(std::move(given)),
      disk_(engine.disk()) {}

std::string RaftStoreImpl::snapshot_path(const SnapshotMarker& marker) const {
  return options_.data_dir + "/" + snapshot_file_name(marker.index, marker.term);
}

/// A simulated peer may be of a release that does not know all of them.
Result<Command> RaftStoreImpl::decode(std::string_view bytes) const {
  if (given_ && given_->commands_known != 0 && command_type(bytes) > given_->commands_known) {
    if (planted(Bug::skip_unknown_command)) return Command(StateCheck{});
    return unknown_command(bytes, given_->commands_known);
  }
  return decode_command(bytes);
}

Result<void> RaftStoreImpl::open_log(RecoveredLog& recovered) {
  LogOptions log;
  log.folder = options_.data_dir;
  log.segment_bytes = options_.segment_bytes.value;
  log.first_segment_bytes = options_.first_segment_bytes.value;
  using Durability = RaftStoreOptions::Durability;
  log.sync = options_.durability == Durability::sync       ? LogOptions::Sync::each
             : options_.durability == Durability::interval ? LogOptions::Sync::later
                                                           : LogOptions::Sync::never;
  if (given_) log.on_append = given_->on_append;
  recovered = {};
  ORC_ASSIGN(log_, LogFile::open(disk_, log, identity_, recovered));
  return {};
}

/// Asks those of its cluster in turn until one knows.
Result<Place> RaftStoreImpl::ask_place() {
  Hello hello;
  hello.purpose = Purpose::enrol;
  hello.name = options_.name;
  hello.address = options_.peer_address.empty() ? options_.peer_listen : options_.peer_address;
  hello.nonce = engine_.random().next();
  hello.term = Term{1};
  const std::vector<std::string> addresses = other_addresses();  // of a new cluster: the founder first
  // Only what may pass is tried again.
  return ask_peers(hello, addresses, [this](const Error& error) {
    return error.is(Error::unavailable) || error.is(Error::deadline_exceeded) ||
           (error.is(Error::not_found) && options_.join.empty());
  });
}

/// In turn, until one says who this peer is.
Result<Place> RaftStoreImpl::ask_peers(const Hello& hello, const std::vector<std::string>& addresses,
                                       const std::function<bool(const Error&)>& may_pass) {
  const std::int64_t until = steady_now() + options_.enrol_deadline.count();
  std::map<std::string, std::string> said;
  const auto all_said = [&said] {
    std::string all;
    for (const auto& [address, what] : said) all += (all.empty() ? "" : "; ") + address + ": " + what;
    return all;
  };
  const std::int64_t patient_until = steady_now() + kEnrolQuietly.count();
  bool told_of = false;
  while (steady_now() < until) {
    for (const std::string& address : addresses) {
      auto place = PeerNet::enrol(tls_ ? *tls_ : engine_.transport(), address, hello).wait(kEnrolOnce);
      if (place) return place;
      if (!may_pass(place.error())) return place.error().with_context("joining through " + address);
      said[address] = place.error().message();
    }
    if (steady_now() >= patient_until && !std::exchange(told_of, true)) {
      engine_.log(LogLevel::warning, "store",
                  "nobody has told this peer who it is yet; asking on (" + all_said() + ")");
    }
    const Promise<> nobody;
    (void)nobody.pending().wait(kEnrolAgain);
  }
  return Error(Error::unavailable, "store",
               "nobody told this peer who it is within " +
                   std::to_string(options_.enrol_deadline.count() / 1'000'000'000) + " s (" + all_said() +
                   ")");
}

/// From now on the folder says who it belongs to.
Result<void> RaftStoreImpl::take_place(const Place& place, RecoveredLog& recovered) {
  LogBatch mine;
  mine.hard_state = HardState{};
  // What it may have voted under this id it cannot know; the leader of that term was elected without it.
  if (place.term.value != 0) mine.hard_state = HardState{place.term, kNobody, {}};
  ORC_TRY(log_->append(mine));
  recovered.hard_state = *mine.hard_state;
  return {};
}

/// Fresh: founded here, given, or asked for. Else what the folder says, if the options agree with it.
Result<void> RaftStoreImpl::find_identity(RecoveredLog& recovered) {
  if (!recovered.fresh) {
    identity_ = recovered.identity;
    return {};
  }
  const auto name_of = [](const std::string& peer) { return peer.substr(0, peer.find('=')); };
  const auto address_of = [](const std::string& peer) { return peer.substr(peer.find('=') + 1); };
  const bool founds = options_.join.empty() && (options_.initial_peers.empty() ||
                                                name_of(options_.initial_peers.front()) == options_.name);
  Place place;
  if (given_) {
    place = {given_->identity, given_->enrolled};
  } else if (founds) {
    engine_.random().fill(place.identity.cluster.data(), place.identity.cluster.size());
    while (place.identity.peer == 0) place.identity.peer = engine_.random().next();
  } else {
    ORC_ASSIGN(place, ask_place());
  }
  identity_ = place.identity;
  ORC_TRY(open_log(recovered));
  if (given_ ? given_->founds.has_value() : founds) {
    Configuration configuration;
    if (given_) {
      configuration = *given_->founds;
    } else if (options_.initial_peers.empty()) {
      const std::string address =
          options_.peer_address.empty() ? options_.peer_listen : options_.peer_address;
      configuration.members.push_back({PeerId{identity_.peer}, options_.name, address, true});
    }
    for (const std::string& peer : given_ ? std::vector<std::string>() : options_.initial_peers) {
      Member member{PeerId{identity_.peer}, name_of(peer), address_of(peer), true};
      if (member.name != options_.name) {
        do {
          member.id = PeerId{engine_.random().next()};
        } while (member.id.value == 0 || configuration.find(member.id) != nullptr);
      }
      configuration.members.push_back(std::move(member));
    }
    std::sort(configuration.members.begin(), configuration.members.end(),
              [](const Member& a, const Member& b) { return a.id < b.id; });
    return found_cluster(std::move(configuration), recovered);
  }
  return take_place(place, recovered);
}

/// The first entry of a new cluster says who takes part in it.
Result<void> RaftStoreImpl::found_cluster(Configuration configuration, RecoveredLog& recovered) {
  for (Member& member : configuration.members) member.started = member.id.value == identity_.peer;
  LogBatch first;
  first.hard_state = HardState{Term{1}, {}, {}};
  first.entries.push_back({Term{1}, Index{1}, EntryType::configuration,
                           std::make_shared<const std::string>(encode_configuration(configuration))});
  ORC_TRY(log_->append(first));
  recovered.hard_state = *first.hard_state;
  recovered.entries = first.entries;
  return {};
}

/// As of the snapshot. Folders of the first release hold no configuration: they are of one peer.
Result<Configuration> RaftStoreImpl::base_configuration(const RecoveredLog& recovered) const {
  bool in_log = false;
  for (const Entry& entry : recovered.entries) {
    if (entry.type != EntryType::configuration) continue;
    in_log = true;
    auto checked = decode_configuration(entry.bytes());
    if (!checked) return checked.error().with_context("log entry " + std::to_string(entry.index.value));
  }
  if (!snapshot_configuration_.members.empty()) return snapshot_configuration_;
  Configuration none;
  const bool first_release =
      !recovered.entries.empty() || recovered.snapshot || recovered.hard_state.vote.value == identity_.peer;
  if (in_log || !first_release) return none;
  Configuration alone;
  const std::string address = options_.peer_address.empty() ? options_.peer_listen : options_.peer_address;
  alone.members.push_back({PeerId{identity_.peer}, options_.name, address, true, false, true});
  return alone;
}

Result<void> RaftStoreImpl::start() {
  ORC_TRY(disk_.make_directories(options_.data_dir, 0700));
  ORC_ASSIGN(folder_lock_, disk_.lock(options_.data_dir + "/LOCK"));
  if (!options_.peer_tls.empty()) {
    ORC_ASSIGN(tls_, make_tls_transport(engine_, options_.peer_tls));
  }
  RecoveredLog recovered;
  ORC_TRY(open_or_repair(recovered));
  notes_ = recovered.notes;
  newest_snapshot_ = recovered.snapshot;

  RaftStart start;
  start.hard_state = recovered.hard_state;
  if (recovered.snapshot) {
    start.snapshot_index = recovered.snapshot->index;
    start.snapshot_term = recovered.snapshot->term;
  }
  ORC_ASSIGN(start.configuration, base_configuration(recovered));
  if (recovered.snapshot && snapshot_configuration_.members.empty())
    snapshot_configuration_ = start.configuration;
  start.entries = std::move(recovered.entries);
  const bool fresh = start.entries.empty() && !recovered.snapshot && start.hard_state.term.value == 0;
  std::lock_guard lock(raft_mutex_);  // peers may talk to us as soon as we listen
  core_raft_.emplace(raft_options(), std::move(start));
  next_context_ = engine_.random().next();
  dequeued_ = core_raft_->applied();
  if (!options_.peer_listen.empty()) ORC_TRY(start_peers());
  if (core_raft_->alone()) {
    ORC_TRY(become_leader_alone());
  } else if (!net_) {
    return Error(
        Error::invalid, "store",
        options_.data_dir + " is of a peer of a cluster; open it with a peer listener (--peer-listen)");
  }
  log_bytes_ = log_->bytes();
  log_grown_ = recovered.snapshot ? 0 : log_bytes_;  // each append adds to it
  leads_ = core_raft_->serving();
  start_timers();
  if (options_.log_thread) log_thread_ = std::thread([this] { log_loop(); });
  if (options_.scrub_every > Duration::zero()) {
    engine_.post([weak = weak_from_this()] {
      auto self = std::static_pointer_cast<RaftStoreImpl>(weak.lock());
      if (self) self->scrub_later(self->options_.scrub_every, {});
    });
  }
  if (net_) {
    net_->set_fresh(fresh);
    collect_locked();
    arm_tick();
  }
  return {};
}

Result<void> RaftStoreImpl::start_peers() {
  const Member* self = core_raft_->configuration().find(PeerId{identity_.peer});
  if (self != nullptr && !self->name.empty() && self->name != options_.name) {
    return Error(Error::invalid, "store",
                 options_.data_dir + " holds the data of peer \"" + self->name + "\", not of \"" +
                     options_.name + "\"; use its own name or folder");
  }
  PeerNetOptions net;
  net.identity = identity_;
  net.name = options_.name;
  net.listen = options_.peer_listen;
  net.address = options_.peer_address;
  net.snapshot_bytes_per_s = options_.snapshot_bytes_per_s.value;
  net.tls = tls_;
  net.commands_known = given_ && given_->commands_known != 0 ? given_->commands_known : kCommandsKnown;
  ORC_ASSIGN(net_, PeerNet::start(engine_, std::move(net), peer_handlers()));
  return {};
}

Result<void> RaftStoreImpl::load_newest_snapshot(const RecoveredLog& recovered) {
  if (recovered.snapshot) ORC_TRY(load_snapshot_file(*recovered.snapshot));
  if (recovered.fresh) {
    ORC_ASSIGN(const auto names, disk_.list(options_.data_dir));
    const auto found = std::find_if(names.begin(), names.end(), [](const std::string& name) {
      return is_snapshot_name(name) && name.find(".tmp") == std::string::npos;
    });
    if (found != names.end()) {
      return Error(
          Error::corrupt, "store",
          options_.data_dir + " holds " + *found +
              " but no log: its log-*.seg files were lost; put them back, or use `orchestra store restore`");
    }
  }
  return remove_other_snapshots(recovered.snapshot);
}

Result<void> RaftStoreImpl::load_snapshot_file(const SnapshotMarker& marker) {
  const std::string path = snapshot_path(marker);
  auto file = disk_.open(path, Disk::Open::existing);
  if (!file) {
    return Error(Error::corrupt, "store",
                 "the log begins behind the snapshot " + path +
                     ", which cannot be read; use `orchestra store restore`")
        .because(file.error());
  }
  auto summary = read_snapshot(snapshot_source(**file), &core_->state);
  if (!summary) return summary.error().with_context(path);
  const SnapshotMeta& meta = summary->meta;
  if (meta.identity.cluster != identity_.cluster || meta.identity.epoch != identity_.epoch ||
      meta.index != marker.index || meta.term != marker.term) {
    return Error(Error::corrupt, "store", path + " is a snapshot of another store or another time");
  }
  snapshot_configuration_ = meta.configuration;
  core_->applied = {meta.term, meta.index};
  return {};
}

/// What an interrupted snapshot left, and those that a newer one replaced.
Result<void> RaftStoreImpl::remove_other_snapshots(std::optional<SnapshotMarker> keep) {
  ORC_ASSIGN(const auto names, disk_.list(options_.data_dir));
  const std::string kept = keep ? snapshot_path(*keep) : std::string();
  for (const std::string& name : names) {
    const std::string path = options_.data_dir + "/" + name;
    if (is_snapshot_name(name) && path != kept) ORC_TRY(disk_.remove(path));
  }
  return {};
}

/// Newer ones may be on their way from a peer.
Result<void> RaftStoreImpl::remove_older_snapshots(const SnapshotMarker& keep) {
  ORC_ASSIGN(const auto names, disk_.list(options_.data_dir));
  const std::string kept = snapshot_file_name(keep.index, keep.term);  // fixed width: sorts by index
  for (const std::string& name : names) {
    if (is_snapshot_name(name) && name.compare(0, kept.size(), kept) < 0)
      ORC_TRY(disk_.remove(options_.data_dir + "/" + name));
  }
  return {};
}

/// Alone, the core campaigns at once; storing its vote and its first entry makes it leader and commits
/// all that the log holds.
Result<void> RaftStoreImpl::become_leader_alone() {
  while (true) {
    Ready ready = core_raft_->take_ready();
    if (ready.empty()) break;
    if (ready.must_store()) {
      LogBatch batch;
      batch.hard_state = ready.hard_state;
      batch.entries = ready.entries;
      ORC_TRY(log_->append(batch));
      core_raft_->report_stored(ready.receipt);
    }
    std::vector<Command> commands;
    ProposalId last{};
    for (std::size_t i = 0; i < ready.committed.size(); ++i) {
      const Entry& entry = ready.committed[i];
      last = {entry.term, entry.index};
      if (entry.type == EntryType::command) {
        auto command = decode(entry.bytes());
        if (!command) return command.error().with_context("log entry " + std::to_string(entry.index.value));
        commands.push_back(std::move(*command));
      }
      if (commands.size() < kReplayBatch && i + 1 < ready.committed.size()) continue;
      apply(commands, last);
      commands.clear();
      core_raft_->report_applied(last.index);
    }
  }
  if (core_raft_->serving()) return {};
  return Error(Error::internal, "store", "the only peer of a store did not become its leader");
}

namespace {

Result<void> check_peers(RaftStoreOptions& options) {
  const auto wrong = [](const std::string& what) { return Error(Error::invalid, "store", what); };
  bool listed = options.initial_peers.empty();
  for (const std::string& peer : options.initial_peers) {
    const std::size_t equals = peer.find('=');
    if (equals == std::string::npos || equals == 0 || peer.find(':', equals) == std::string::npos)
      return wrong("initial peer \"" + peer + "\" is not NAME=HOST:PORT");
    if (peer.substr(0, equals) != options.name) continue;
    listed = true;
    if (options.peer_listen.empty()) options.peer_listen = peer.substr(equals + 1);
    if (options.peer_address.empty()) options.peer_address = peer.substr(equals + 1);
  }
  if (!listed) return wrong("the list of initial peers does not name this peer, \"" + options.name + "\"");
  if (!options.join.empty() && !options.initial_peers.empty())
    return wrong("a peer either founds a cluster (initial peers) or joins one, not both");
  if (!options.join.empty() && options.peer_listen.empty())
    return wrong("a peer that joins a cluster needs an address for the others (peer_listen)");
  if (!options.peer_listen.empty() && options.election_min < 4 * options.heartbeat)
    return wrong("election_min must be at least four heartbeats");
  if (options.election_max < options.election_min) return wrong("election_max lies below election_min");
  return {};
}

}  // namespace
}  // namespace store

Result<std::shared_ptr<StateStore>> RaftStore::open(Engine& engine, RaftStoreOptions options) {
  if (options.data_dir.empty()) return Error(Error::invalid, "store", "a RaftStore needs a data_dir");
  ORC_TRY(store::check_peers(options));
  if (options.segment_bytes.value < (64u << 10) || options.segment_bytes.value > store::kSegmentSizeMax) {
    return Error(Error::invalid, "store", "segment_bytes must lie between 64 KiB and 1 GiB");
  }
  if (options.snapshot_zstd < 0 || options.snapshot_zstd > store::kZstdLevelMax) {
    return Error(Error::invalid, "store", "snapshot_zstd must lie between 0 and 19");
  }
  if (!(options.max_clock_drift >= 0 && options.max_clock_drift <= 0.5)) {
    return Error(Error::invalid, "store", "max_clock_drift must lie between 0 and 0.5");
  }
  const std::string folder = options.data_dir;
  auto made = std::make_shared<store::RaftStoreImpl>(engine, std::move(options));
  if (auto started = made->start(); !started)
    return started.error().with_context("cannot open the store in " + folder);
  // The caller's handle is apart from the references that running work holds for a moment: dropping its last
  // copy closes the store there and then, so that the folder can be opened again at once.
  store::RaftStoreImpl* const impl = made.get();
  return std::shared_ptr<StateStore>(impl, [made = std::move(made)](StateStore*) { made->stop(); });
}

}  // namespace orchestra
