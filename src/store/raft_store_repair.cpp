// RaftStore: a peer whose files are damaged takes a new place in its cluster and fetches everything anew.
//
// It may have acknowledged what it lost, and it may have voted, so it must not go on as who it was: it could
// elect a leader that lacks what was committed. Like one whose disk was replaced it becomes a new member,
// with a new id under the old name and address. It asks the others; the leader removes the old member and
// adds the new one as a learner, each as an ordinary change of members, which a majority must agree to and
// which is refused when it would cost the quorum. Then the damaged files are moved aside (damaged.*, the last
// ones are kept), the leader sends its snapshot and log, and the learner asks to be a voter again (one that
// was a learner before asks, too: what it was may be among what it lost). The file `repair` says how far that
// came: a crash at any step goes on with it.
#include <algorithm>
#include <charconv>

#include "orchestra/env.hpp"
#include "store/raft/codec.hpp"
#include "store/raft_store.hpp"
#include "store/restore.hpp"

namespace orchestra::store {
namespace {

constexpr std::size_t kMarkMax = 256;
constexpr std::int64_t kPromoteEvery = 500'000'000;
constexpr const char* kMoving = "moving";    ///< the new id is known, files are being moved aside
constexpr const char* kJoining = "joining";  ///< the log is the new member's
constexpr const char* kWanted = "wanted";    ///< nothing was done yet

std::string to_text(const LogIdentity& identity) {
  std::string text;
  for (const char byte : identity.cluster) {
    text += "0123456789abcdef"[static_cast<unsigned char>(byte) >> 4];
    text += "0123456789abcdef"[static_cast<unsigned char>(byte) & 15];
  }
  return text + " " + std::to_string(identity.epoch) + " " + std::to_string(identity.peer);
}
template <class Number>
bool take_number(std::string_view& text, Number& number, int base = 10) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (parsed.ec != std::errc()) return false;
  text.remove_prefix(static_cast<std::size_t>(parsed.ptr - text.data()));
  if (!text.empty() && (text.front() == ' ' || text.front() == '\n')) text.remove_prefix(1);
  return true;
}

}  // namespace

std::string encode_repair_mark(const RepairMark& mark) {
  return mark.step + " " + to_text(mark.identity) + "\n";
}

std::optional<RepairMark> decode_repair_mark(std::string_view text) {
  RepairMark mark;
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  mark.step = std::string(text.substr(0, space));
  text.remove_prefix(space + 1);
  for (char& byte : mark.identity.cluster) {
    std::string_view digits = text.substr(0, 2);
    unsigned char value = 0;
    if (digits.size() != 2 || !take_number(digits, value, 16) || !digits.empty()) return std::nullopt;
    byte = static_cast<char>(value);
    text.remove_prefix(2);
  }
  if (text.empty() || text.front() != ' ') return std::nullopt;
  text.remove_prefix(1);
  const bool fine =
      take_number(text, mark.identity.epoch) && take_number(text, mark.identity.peer) && text.empty();
  const bool known = mark.step == kMoving || mark.step == kJoining || mark.step == kWanted;
  if (!fine || !known || mark.identity.peer == 0) return std::nullopt;
  return mark;
}

// ---- the damaged peer

/// Where the others may be; none: this peer has nobody to ask.
std::vector<std::string> RaftStoreImpl::other_addresses() const {
  std::vector<std::string> others = options_.join;
  for (const std::string& peer : options_.initial_peers) {
    const std::size_t equals = peer.find('=');
    if (peer.substr(0, equals) != options_.name) others.push_back(peer.substr(equals + 1));
  }
  return others;
}
bool RaftStoreImpl::may_repair() const {
  return options_.repair && !given_ && !options_.peer_listen.empty() && !other_addresses().empty();
}

Result<void> RaftStoreImpl::write_repair_mark(const char* step, const LogIdentity& identity) {
  const std::string path = options_.data_dir + "/repair", fresh = path + ".tmp";
  {
    if (disk_.exists(fresh)) ORC_TRY(disk_.remove(fresh));
    ORC_ASSIGN(const auto file, disk_.open(fresh, Disk::Open::create_new));
    ORC_TRY(file->write_at(0, encode_repair_mark({step, identity})));
    ORC_TRY(file->sync());
  }
  ORC_TRY(disk_.rename(fresh, path));
  return disk_.sync_directory(options_.data_dir);
}
Result<std::optional<RepairMark>> RaftStoreImpl::read_repair_mark() const {
  const std::string path = options_.data_dir + "/repair";
  if (!disk_.exists(path)) return std::optional<RepairMark>();
  ORC_ASSIGN(const std::string text, disk_.read_file(path, kMarkMax));
  auto mark = decode_repair_mark(text);
  if (!mark) return Error(Error::corrupt, "store", path + " is malformed; remove it to open what is there");
  return mark;
}
void RaftStoreImpl::end_repair() {
  const auto removed = disk_.remove(options_.data_dir + "/repair");
  if (removed) (void)disk_.sync_directory(options_.data_dir);
}

/// Opens what is there; what is damaged is fetched anew from the others.
Result<void> RaftStoreImpl::open_or_repair(RecoveredLog& recovered) {
  ORC_ASSIGN(const auto mark, read_repair_mark());
  const bool begun = mark && mark->step != kJoining;
  if (begun) {
    const Error cause(Error::corrupt, "store", "the files of this peer were found damaged before");
    if (!may_repair()) {
      return cause.with_context(
          options_.data_dir +
          "/repair says that a repair is under way, which needs the other peers' addresses");
    }
    return repair(mark->identity, cause, recovered);
  }
  auto opened = [&]() -> Result<void> {
    ORC_TRY(open_log(recovered));
    ORC_TRY(find_identity(recovered));
    return load_newest_snapshot(recovered);
  }();
  if (opened) {
    rejoining_ = mark.has_value();
    return {};
  }
  if (!opened.error().is(Error::corrupt) || !may_repair()) return opened;
  const auto identity = LogFile::find_identity(disk_, options_.data_dir);
  if (!identity || !*identity) return opened;  // not even a header tells who this is
  return repair(**identity, opened.error(), recovered);
}

Result<void> RaftStoreImpl::repair(const LogIdentity& old, const Error& cause, RecoveredLog& recovered) {
  engine_.log(LogLevel::error, "store",
              cause.message() + "; asking the other peers for a new place and everything that was lost");
  log_.reset();
  Hello hello;
  hello.purpose = Purpose::replace;
  hello.identity = old;
  hello.name = options_.name;
  hello.address = options_.peer_address.empty() ? options_.peer_listen : options_.peer_address;
  hello.nonce = engine_.random().next();
  hello.term = Term{1};
  auto place = ask_peers(hello, other_addresses(), [](const Error&) { return true; });
  if (!place) {
    return Error(cause).with_context("the other peers could not give this peer a new place (" +
                                     place.error().message() + ")");
  }
  ORC_TRY(write_repair_mark(kMoving, old));
  ORC_TRY(move_files_aside());
  core_->state = MvccState();
  core_->applied = {};
  snapshot_configuration_ = {};
  identity_ = place->identity;
  ORC_TRY(open_log(recovered));
  ORC_TRY(take_place(*place, recovered));
  ORC_TRY(write_repair_mark(kJoining, identity_));
  rejoining_ = true;
  recovered.notes.push_back("repaired: " + cause.message() +
                            "; the damaged files are kept as damaged.* and everything comes from the others");
  return {};
}

/// Those of an earlier repair go; the newest are kept for whoever wants to know.
Result<void> RaftStoreImpl::move_files_aside() {
  ORC_ASSIGN(const auto names, disk_.list(options_.data_dir));
  const auto ours = [](const std::string& name) {
    return name.compare(0, 4, "log-") == 0 || name.compare(0, 9, "snapshot-") == 0 || name == "spare.seg" ||
           name == "newest";
  };
  if (std::any_of(names.begin(), names.end(), ours)) {
    for (const std::string& name : names) {
      const std::string again = name.compare(0, 8, "damaged.") == 0 ? name.substr(8) : std::string();
      if (std::find(names.begin(), names.end(), again) != names.end())
        ORC_TRY(disk_.remove(options_.data_dir + "/" + name));
    }
  }
  for (const std::string& name : names) {
    if (ours(name))
      ORC_TRY(disk_.rename(options_.data_dir + "/" + name, options_.data_dir + "/damaged." + name));
  }
  return disk_.sync_directory(options_.data_dir);
}

/// A learner that was a voter asks now and then to be one again; the leader agrees when it has caught up.
void RaftStoreImpl::rejoin_locked(std::int64_t now) {
  if (!rejoining_ || now - rejoin_asked_ns_ < kPromoteEvery) return;
  const Member* self = core_raft_->configuration().find(PeerId{identity_.peer});
  if (self == nullptr || core_raft_->leader().value == 0) return;
  if (self->voter) {
    rejoining_ = false;
    (void)engine_.post_blocking(
        [self = std::static_pointer_cast<RaftStoreImpl>(shared_from_this())] { self->end_repair(); });
    return;
  }
  rejoin_asked_ns_ = now;
  engine_.post([self = std::static_pointer_cast<RaftStoreImpl>(shared_from_this())] {
    self->promote_member(self->identity_.peer).on_ready([](Result<void>) {});
  });
}

// ---- the leader

/// A damaged peer asks again and again; each time this does the next step, and at last says who it is now.
Result<Place> RaftStoreImpl::replace_peer(const Hello& hello) {
  const auto not_yet = [](const std::string& what) { return Error(Error::unavailable, "store", what); };
  std::lock_guard lock(raft_mutex_);
  if (failed_) return *failed_;
  if (!core_raft_->serving()) return not_yet("peer \"" + options_.name + "\" does not lead");
  const auto& members = core_raft_->configuration().members;
  const auto found = std::find_if(members.begin(), members.end(),
                                  [&](const Member& member) { return member.name == hello.name; });
  MemberChange change;
  if (found == members.end()) {
    change.type = MemberChange::Type::add_learner;
    change.member.name = hello.name;
    change.member.address = hello.address;
    while (change.member.id.value == 0) change.member.id = PeerId{engine_.random().next()};
  } else if (found->address != hello.address) {
    return Error(Error::invalid, "store",
                 "member \"" + hello.name + "\" is known at " + found->address + ", not at " + hello.address);
  } else if (found->id.value == hello.identity.peer) {
    if (net_->connected(found->id))
      return not_yet("peer \"" + hello.name + "\" seems to run; is another process working on its folder?");
    change.type = MemberChange::Type::remove;
    change.member.id = found->id;
  } else {
    auto place = place_locked(*found, hello.nonce);
    if (place || !place.error().is(Error::already_exists)) return place;
    if (!found->learner() || net_->connected(found->id)) {
      return Error(
          Error::already_exists, "store",
          "member \"" + hello.name + "\" has been replaced before, by a peer that has taken part since");
    }
    change.type = MemberChange::Type::remove;  // a try before this one ended in the middle
    change.member.id = found->id;
  }
  auto place = core_raft_->change_membership(change);
  if (!place && !place.error().is(Error::busy)) return place.error();
  if (place) collect_locked();
  return not_yet("the members are being changed");
}

}  // namespace orchestra::store
