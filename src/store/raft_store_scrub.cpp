// RaftStore: looking for rot before it is needed. Files that are complete are read again now and then,
// slowly; and the peers compare their states at the same place of the log.
#include <algorithm>

#include "orchestra/env.hpp"
#include "store/check.hpp"
#include "store/mvcc/wire.hpp"
#include "store/raft/agreement.hpp"
#include "store/raft_store.hpp"
#include "store/restore.hpp"

namespace orchestra::store {
namespace {

constexpr Duration kCompareAgain = std::chrono::milliseconds(200);
constexpr std::int64_t kCompareFor = 10'000'000'000;

std::string encode_number(std::uint64_t number) {
  std::string bytes;
  Writer(bytes).u64(number);
  return bytes;
}

}  // namespace

// ---- files

/// Which files are complete: all segments but the newest, and the snapshot that counts.
std::vector<std::string> RaftStoreImpl::complete_files() const {
  std::vector<std::string> segments;
  if (const auto names = disk_.list(options_.data_dir)) {
    for (const std::string& name : *names) {
      if (name.size() == 16 && name.compare(0, 4, "log-") == 0) segments.push_back(name);
    }
  }
  std::sort(segments.begin(), segments.end());
  if (!segments.empty()) segments.pop_back();
  std::lock_guard lock(raft_mutex_);
  if (newest_snapshot_)
    segments.push_back(snapshot_file_name(newest_snapshot_->index, newest_snapshot_->term));
  return segments;
}

void RaftStoreImpl::scrub_later(Duration wait, std::vector<std::string> left) {
  if (options_.scrub_every <= Duration::zero()) return;
  std::lock_guard lock(raft_mutex_);
  if (stopping_ || failed_) return;
  scrub_timer_ = engine_.after(wait, [weak = weak_from_this(), left = std::move(left)]() mutable {
    auto self = std::static_pointer_cast<RaftStoreImpl>(weak.lock());
    if (!self) return;
    // Dropped when the workers are full: the next round comes.
    (void)self->engine_.post_blocking(
        [self, left = std::move(left)]() mutable { self->scrub(std::move(left)); });
  });
}

/// One file, then a pause that keeps to the rate.
void RaftStoreImpl::scrub(std::vector<std::string> left) {
  {
    std::lock_guard lock(raft_mutex_);
    if (stopping_ || failed_) return;
  }
  if (left.empty()) left = complete_files();
  if (left.empty()) return scrub_later(options_.scrub_every, {});
  const std::string file = options_.data_dir + "/" + left.back();
  left.pop_back();
  std::uint64_t bytes = 0;
  if (const auto opened = disk_.open(file, Disk::Open::existing)) {
    bytes = (*opened)->size().value_or(0);
    const auto checked = file.find("/log-") != std::string::npos ? check_complete_segment(disk_, file)
                                                                 : check_snapshot(disk_, file);
    // It may have been retired or recycled while it was read: then it does not count any more.
    const auto still = complete_files();
    const bool counts =
        std::find(still.begin(), still.end(), file.substr(file.rfind('/') + 1)) != still.end();
    if (!checked && counts) note_rot(file, checked.error());
  }
  const auto pause = static_cast<std::int64_t>(
      1e9 * static_cast<double>(bytes) /
      static_cast<double>(std::max<std::uint64_t>(1, options_.scrub_bytes_per_s.value)));
  const bool last = left.empty();
  scrub_later(last ? options_.scrub_every : Duration(pause), std::move(left));
}

/// What the file held is in memory, and was verified when it came there: a snapshot of that takes its place.
void RaftStoreImpl::note_rot(const std::string& file, const Error& error) {
  engine_.log(LogLevel::error, "store", "scrubbing found damage: " + error.to_string());
  std::lock_guard lock(raft_mutex_);
  if (stopping_ || failed_) return;
  if (rot_.size() < kRotMax) rot_[file] = error.message();
  snapshot_due_ = true;
  if (applying_ == Applying::idle) maybe_snapshot_locked();
}

/// Alarms about files that a snapshot has replaced become notes.
void RaftStoreImpl::forget_rot_locked() {
  std::erase_if(rot_, [this](const auto& entry) {
    const auto& [file, what] = entry;
    const bool newest = newest_snapshot_ && file == snapshot_path(*newest_snapshot_);
    if (file.empty() || (disk_.exists(file) && !newest)) return false;
    if (notes_.size() < kRotMax) notes_.push_back("mended: " + what);
    return true;
  });
}

// ---- states

/// Called by the leader now and then: a mark in the log, at which everybody keeps the hash of its state.
void RaftStoreImpl::compare_states_locked(std::int64_t now) {
  if (options_.state_check_every <= Duration::zero() || !leads_ || now < compare_at_ns_) return;
  const bool first = compare_at_ns_ == 0;
  compare_at_ns_ = now + options_.state_check_every.count();
  if (first || core_raft_->configuration().members.size() < 2) return;
  const std::uint64_t number = (core_raft_->term().value << 24) + ++compares_;
  engine_.post([self = std::static_pointer_cast<RaftStoreImpl>(shared_from_this()), number] {
    self->propose_as_leader(StateCheck{number}, [self, number](const Outcome& done) {
      if (done) self->ask_states(number);
    });
  });
}

void RaftStoreImpl::ask_states(std::uint64_t number) {
  const auto own = state_mark(number);
  if (!own) return;
  std::lock_guard lock(raft_mutex_);
  if (stopping_ || failed_) return;
  compare_ = Compare{
      number, core_raft_->configuration(), {{PeerId{identity_.peer}, *own}}, steady_now() + kCompareFor};
  for (const Member& member : compare_->configuration.members) ask_state_locked(number, member.id);
}

void RaftStoreImpl::ask_state_locked(std::uint64_t number, PeerId peer) {
  if (peer.value == identity_.peer) return;
  const auto again = [weak = weak_from_this(), number, peer](const Result<std::string>& answer) {
    auto self = std::static_pointer_cast<RaftStoreImpl>(weak.lock());
    if (self) self->on_state(number, peer, answer);
  };
  (void)net_->request(peer, RequestKind::state_hash, encode_number(number), again);
}

void RaftStoreImpl::on_state(std::uint64_t number, PeerId peer, const Result<std::string>& answer) {
  std::lock_guard lock(raft_mutex_);
  if (stopping_ || failed_ || !compare_ || compare_->number != number) return;
  if (!answer) {
    // Not there yet; one that is away does not take part.
    if (!answer.error().is(Error::busy) || steady_now() > compare_->until_ns) return;
    engine_.after(kCompareAgain, [weak = weak_from_this(), number, peer] {
      auto self = std::static_pointer_cast<RaftStoreImpl>(weak.lock());
      if (!self) return;
      std::lock_guard again(self->raft_mutex_);
      if (!self->stopping_ && !self->failed_) self->ask_state_locked(number, peer);
    });
    return;
  }
  Reader in(*answer);
  const std::uint64_t hash = in.u64();
  if (!in.done()) return;
  compare_->hashes[peer] = hash;
  judge_states_locked();
}

/// After each answer: two of three suffice to know which one is wrong once all three have spoken.
void RaftStoreImpl::judge_states_locked() {
  const Agreement found = judge(compare_->configuration, compare_->hashes);
  const auto shown = [](std::uint64_t value) {
    char text[20];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
    return std::string(text);
  };
  std::string all;
  for (const auto& [peer, hash] : compare_->hashes)
    all +=
        (all.empty() ? "" : ", ") + std::string("peer ") + std::to_string(peer.value) + " has " + shown(hash);
  if (found.split && compare_->hashes.size() == compare_->configuration.members.size())
    rot_[""] = "the peers' states differ and no majority agrees: " + all + "; nothing was changed";
  for (const PeerId wrong : found.wrong) {
    if (wrong.value == identity_.peer) {
      const Error error = diverged_error(all);
      engine_.post([self = std::static_pointer_cast<RaftStoreImpl>(shared_from_this()), error] {
        self->fail_diverged(error);
      });
    } else {
      std::string body = encode_number(compare_->number);
      body += all;
      (void)net_->request(wrong, RequestKind::diverged, std::move(body), [](const Result<std::string>&) {});
    }
  }
}

Error RaftStoreImpl::diverged_error(const std::string& hashes) const {
  return Error(Error::corrupt, "store",
               "the state of this peer differs from that of the majority (" + hashes +
                   "); it serves nothing more: start it again, and it takes everything anew from the others, "
                   "or without --repair from its files; if that does not help empty its folder and use "
                   "`orchestra store members replace`");
}

/// The next start must not trust the files: they may hold what is wrong.
void RaftStoreImpl::fail_diverged(const Error& error) {
  if (may_repair()) {
    const auto marked = write_repair_mark("wanted", identity_);
    if (!marked)
      engine_.log(LogLevel::error, "store",
                  "the repair could not be prepared: " + marked.error().to_string());
  }
  fail(error);
}

/// The leader says that this peer is wrong; it looks for itself whether that can be.
void RaftStoreImpl::on_diverged(const std::string& body, const PeerHandlers::Reply& reply) {
  reply(std::string());
  Reader in(std::string_view(body).substr(0, std::min<std::size_t>(8, body.size())));
  const std::uint64_t number = in.u64();
  if (in.done() && state_mark(number)) fail_diverged(diverged_error(body.substr(8)));
}

void RaftStoreImpl::on_state_request(const std::string& body, const PeerHandlers::Reply& reply) const {
  Reader in(body);
  const std::uint64_t number = in.u64();
  if (!in.done()) return reply(Error(Error::invalid, "store", "a malformed request for a state's hash"));
  const auto hash = state_mark(number);
  if (!hash) return reply(Error(Error::busy, "store", "this peer has not come to that place of the log"));
  reply(encode_number(*hash));
}

}  // namespace orchestra::store
