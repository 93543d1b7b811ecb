// RaftStore: from a folder to a leader that has applied everything.
#include <algorithm>

#include "orchestra/env.hpp"
#include "store/mvcc/command_codec.hpp"
#include "store/raft_store.hpp"
#include "store/restore.hpp"

namespace orchestra {
namespace store {
namespace {

constexpr std::size_t kReplayBatch = 1024;

bool is_snapshot_name(const std::string& name) { return name.compare(0, 9, "snapshot-") == 0; }

}  // namespace

RaftStoreImpl::RaftStoreImpl(Engine& engine, RaftStoreOptions options)
    : LocalStore(engine, options.limits), options_(std::move(options)), disk_(engine.disk()) {}

std::string RaftStoreImpl::snapshot_path(const SnapshotMarker& marker) const {
  return options_.data_dir + "/" + snapshot_file_name(marker.index, marker.term);
}

Result<void> RaftStoreImpl::start() {
  ORC_TRY(disk_.make_directories(options_.data_dir, 0700));
  ORC_ASSIGN(folder_lock_, disk_.lock(options_.data_dir + "/LOCK"));
  engine_.random().fill(identity_.cluster.data(), identity_.cluster.size());
  while (identity_.peer == 0) identity_.peer = engine_.random().next();
  RecoveredLog recovered;
  LogOptions log;
  log.folder = options_.data_dir;
  log.segment_bytes = options_.segment_bytes.value;
  log.first_segment_bytes = options_.first_segment_bytes.value;
  log.sync = options_.durability == RaftStoreOptions::Durability::sync;
  ORC_ASSIGN(log_, LogFile::open(disk_, log, identity_, recovered));
  identity_ = recovered.identity;
  notes_ = recovered.notes;
  ORC_TRY(load_newest_snapshot(recovered));

  RaftOptions raft;
  raft.self = PeerId{identity_.peer};
  raft.seed = engine_.random().next();
  RaftStart start;
  start.hard_state = recovered.hard_state;
  if (recovered.snapshot) {
    start.snapshot_index = recovered.snapshot->index;
    start.snapshot_term = recovered.snapshot->term;
  }
  start.configuration.members.push_back({raft.self, options_.name, "", true, false, true});
  start.entries = std::move(recovered.entries);
  core_raft_.emplace(raft, std::move(start));
  ORC_TRY(become_leader_alone());
  log_bytes_ = log_->bytes();
  log_bytes_at_snapshot_ = recovered.snapshot ? log_bytes_ : 0;
  start_timers();
  if (options_.log_thread) log_thread_ = std::thread([this] { log_loop(); });
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
        auto command = decode_command(entry.bytes());
        if (!command) return command.error().with_context("log entry " + std::to_string(entry.index.value));
        commands.push_back(std::move(*command));
      }
      if (commands.size() < kReplayBatch && i + 1 < ready.committed.size()) continue;
      apply(std::exchange(commands, {}), last);
      core_raft_->report_applied(last.index);
    }
  }
  if (core_raft_->serving()) return {};
  return Error(Error::internal, "store", "the only peer of a store did not become its leader");
}

}  // namespace store

Result<std::shared_ptr<StateStore>> RaftStore::open(Engine& engine, RaftStoreOptions options) {
  if (options.data_dir.empty()) return Error(Error::invalid, "store", "a RaftStore needs a data_dir");
  if (options.initial_peers.size() > 1) {
    return Error(Error::unsupported, "store",
                 "a store of " + std::to_string(options.initial_peers.size()) +
                     " peers is not possible in this release; open it with one");
  }
  if (options.segment_bytes.value < (64u << 10) || options.segment_bytes.value > store::kSegmentSizeMax) {
    return Error(Error::invalid, "store", "segment_bytes must lie between 64 KiB and 1 GiB");
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
