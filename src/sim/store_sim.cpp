// The run of store_sim.hpp.
#include "sim/store_sim.hpp"

#include <algorithm>

#include "sim/sim_peers.hpp"
#include "sim/store_audit.hpp"
#include "store/disk/segment.hpp"
#include "store/raft/quorum.hpp"
#include "store/transport/peer_wire.hpp"

namespace orchestra::sim {
namespace {

using namespace std::chrono_literals;
using store::Index;
using store::Member;
using store::PeerId;
using store::Role;
using store::SimulatedPeer;
using store::Term;

StoreLimits small_history() {
  StoreLimits limits;
  limits.history_age = 5s;
  return limits;
}

class StoreSim {
 public:
  explicit StoreSim(const StoreSimOptions& options)
      : options_(options),
        simulator_(options.seed, network_options(options.seed)),
        random_(simulator_.random()),
        losses_(options.seed * 131 + 7),
        audit_([this](const std::string& what) { violated(what); }) {
    simulator_.network().watch(
        [this](const std::string&, const std::string&, std::string_view frame, bool arrived) {
          audit_.on_frame(frame, arrived, simulator_.now_ns());
        });
  }

  StoreSimReport run() {
    const std::uint64_t dice = random_.below(10);
    const std::size_t peers = options_.peers != 0 ? options_.peers : dice == 0 ? 1 : dice < 8 ? 3 : 5;
    draw_rates();
    found(peers);
    simulator_.on_event = [this] { check(); };
    for (std::size_t client = 0; client < options_.clients; ++client) think(static_cast<int>(client));
    for (std::size_t holder = 0; holder < kHolders; ++holder) simulator_.after(1s, [this] { take_lease(); });
    plan_fault();
    simulator_.run_for(options_.chaos);
    heal();
    simulator_.run_for(options_.heal);
    finish();
    report_.events = simulator_.events();
    report_.trace_hash = trace_hash_;
    for (auto& [name, peer] : peers_) stop(peer);
    return report_;
  }

 private:
  struct Peer : SimPeer {
    std::unique_ptr<Watch> watch;
    Revision watched = 1;  ///< delivered up to here
    std::set<Revision> seen;
    Revision revision = 0;
    std::int64_t restart_at = 0;
    std::string rotten;  ///< a segment with a turned byte
    std::uint64_t rotten_at = 0;
    struct Damage {
      std::string file;
      std::uint64_t offset = 0;
      std::string before;
    };
    std::optional<Damage> damaged;  ///< what its next start must refuse
    std::uint64_t asks = 0;         ///< its disk is empty: the nonce with which it asks who it is
    unsigned opened = 0;            ///< how often
    bool gone = false;              ///< for good: another machine takes its place
    bool has_disk() const { return asks == 0 && !gone; }
  };

  static SimNetworkOptions network_options(std::uint64_t seed) {
    SimRandom random(seed * 77 + 5);
    SimNetworkOptions network;
    network.delay_min = std::chrono::microseconds(50 + random.below(1000));
    network.delay_max = network.delay_min + std::chrono::microseconds(random.below(4) == 0 ? 200'000 : 3'000);
    if (random.below(2) == 0) network.resets_per_million = static_cast<std::uint32_t>(random.below(5'000));
    return network;
  }
  void note(const std::string& line) {
    for (const char c : line) trace_hash_ = (trace_hash_ ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
    trace_hash_ = (trace_hash_ ^ static_cast<std::uint64_t>(simulator_.now_ns())) * 0x100000001B3ull;
    if (options_.trace)
      report_.trace.push_back(std::to_string(simulator_.now_ns() / 1'000'000) + " ms " + line);
  }
  void violated(const std::string& what) {
    if (report_.violation.empty()) report_.violation = what;
    note("VIOLATION " + what);
  }

  // ---- peers

  void found(std::size_t count) {
    std::vector<SimPeer*> peers;
    for (std::size_t i = 0; i < count; ++i) {
      const std::string name(1, static_cast<char>('a' + i));
      peers_[name].name = name;
      peers.push_back(&peers_[name]);
    }
    found_peers(simulator_, peers);
    next_peer_ = count + 1;
    if (losses_.below(3) == 0) {
      for (SimPeer* peer : peers) {
        if (losses_.below(2) == 0) peer->identity.commands_known = kCommandsOfEarlier;
      }
    }
    if (losses_.below(3) == 0) {
      for (SimPeer* peer : peers) {
        if (peer == peers.front() || losses_.below(2) == 0) continue;
        simulator_.after(Duration(static_cast<std::int64_t>(1 + losses_.below(4'000'000'000))),
                         [this, late = static_cast<Peer*>(peer)] { ask_place(*late); });
        static_cast<Peer*>(peer)->asks = losses_.next();
      }
    }
    if (losses_.below(2) == 0) plan_loss();
    if (losses_.below(3) == 0) {
      const auto rate = static_cast<std::uint32_t>(1 + losses_.below(300'000));
      simulator_.network().double_messages(rate, [this](std::string_view frame) {
        // Of these a connection that was made anew may bring the same ones again; others have numbers.
        if (frame.empty() || frame[0] != static_cast<char>(store::FrameKind::message)) return false;
        ++report_.doubled;
        return true;
      });
    }
    for (auto& [name, peer] : peers_) {
      if (peer.has_disk()) open(peer);
    }
  }

  void open(Peer& peer) {
    RaftStoreOptions options = options_of_peer(peer);
    options.limits = small_history();
    options.segment_bytes = Bytes{64u << 10};
    options.first_segment_bytes = Bytes{16u << 10};
    options.snapshot_log_bytes = Bytes{24u << 10};
    options.log_keep_entries = log_keep_entries_;
    options.log_keep_bytes = Bytes{0};
    options.lease_reads = options_.lease_reads;
    options.max_clock_drift = 0.2;  // as draw_rates() lets clocks run
    options.scrub_every = 7s;
    options.state_check_every = 3s;
    SimulatedPeer& simulated = peer.identity;
    const PeerId id = peer.id();
    simulated.append_bytes_max = append_bytes_max_;
    simulated.on_append = [this, id](const store::LogBatch& batch, bool stored) {
      audit_.on_append(id, batch, stored);
    };
    if (disk_delay_max_ != 0) {
      simulated.log_delay = [this] {
        const bool stalls = !healing_ && random_.below(500) == 0;
        return Duration(static_cast<std::int64_t>(random_.below(stalls ? kDiskStall : disk_delay_max_)));
      };
    }
    if (simulated.commands_known != 0 && peer.opened++ > 0 && losses_.below(3) == 0) {
      note("upgrade in order " + peer.name);
      ++report_.upgraded;
      simulated.commands_known = 0;
    }
    audit_.opens(id);
    auto started = open_peer(simulator_, peer, std::move(options));
    note("open " + peer.name + (started ? "" : ": " + started.error().to_string()));
    if (!started && needs_upgrade(peer, started.error())) {
      peer.restart_at = simulator_.now_ns() + 1;
      return;
    }
    if (peer.damaged && !peer.host->disk.crashed()) {
      const auto damage = *std::exchange(peer.damaged, {});
      if (!started && started.error().is(Error::corrupt)) {
        if (started.error().to_string().find(damage.file) == std::string::npos)
          violated("peer " + peer.name + " refuses to open and does not name " + damage.file + ": " +
                   started.error().to_string());
        return replace_disk(peer);
      }
      // Nothing needs what was damaged there; the audit looks at what was read.
      if (peer.host->disk.exists(damage.file) &&
          peer.host->disk.file_size(damage.file) >= damage.offset + damage.before.size())
        peer.host->disk.overwrite(damage.file, damage.offset, damage.before);
    }
    if (!started) {
      // A power failure while it opened; anything else must not happen.
      if (!peer.host->disk.crashed() &&
          (started.error().is(Error::corrupt) || started.error().is(Error::internal)))
        violated("peer " + peer.name + " cannot open: " + started.error().to_string());
      peer.host->disk.restart();
      return;
    }
    peer.store->inspect([&](const store::RaftCore& core) { audit_.opened(id, core); });
    audit_.woke(id, simulator_.now_ns());
    peer.revision = 0;
    WatchOptions wanted;
    wanted.range = KeyPrefix("");
    wanted.after = peer.watched;
    auto watch = peer.store->watch(wanted);
    if (watch) peer.watch = std::make_unique<Watch>(std::move(*watch));
  }

  void stop(Peer& peer) {
    peer.watch.reset();
    close_peer(simulator_, peer);
  }
  /// The power fails; what was not synced is lost or not, by chance.
  void crash(Peer& peer) {
    note("crash " + peer.name);
    peer.host->paused = false;
    peer.host->disk.power_off();
    stop(peer);
    peer.host->disk.restart();
    end_rot(peer);
    peer.restart_at = simulator_.now_ns() + static_cast<std::int64_t>(random_.below(3'000'000'000));
  }

  Peer& any_peer() {
    auto at = peers_.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(random_.below(peers_.size())));
    return at->second;
  }
  Peer* leader() {
    std::vector<SimPeer*> all;
    for (auto& [name, peer] : peers_) all.push_back(&peer);
    return static_cast<Peer*>(leader_of(all));
  }

  // ---- clients

  void think(int client) {
    simulator_.after(Duration(static_cast<std::int64_t>(1'000'000 + random_.below(120'000'000))),
                     [this, client] { call(client); });
  }

  void call(int client) {
    if (done_) return;
    Peer& peer = any_peer();
    if (!peer.store) return think(client);
    ++report_.calls;
    auto op = std::make_shared<Operation>();
    op->client = client;
    op->key = "k" + std::to_string(random_.below(options_.keys));
    op->called = simulator_.now_ns();
    const std::uint64_t kind = random_.below(10);
    const std::string value = std::to_string(client) + "." + std::to_string(report_.calls) +
                              std::string(random_.below(20) == 0 ? 3000 : 0, 'v');
    const std::uint64_t slot = history_.size();
    history_.push_back(op);
    op->outcome = Operation::Outcome::unknown;
    op->type = kind < 4   ? Operation::Type::read
               : kind < 7 ? Operation::Type::write
               : kind < 9 ? Operation::Type::compare_and_write
                          : Operation::Type::remove;
    // On the machine itself: one that is paused begins later.
    const bool nests = slot % 2 == 0 && peer.identity.commands_known == 0;
    peer.host->engine->post([this, store = peer.store, op, client, kind, value, slot, nests] {
      start(*store, op, client, kind, value, slot, nests);
    });
    peer.host->dirty = true;
    think(client);
  }

  void start(StateStore& store, const std::shared_ptr<Operation>& op, int client, std::uint64_t kind,
             const std::string& value, std::uint64_t slot, bool nests) {
    if (kind < 4) {
      store.get(op->key, {}).on_ready([this, op, client](Result<GetResult> got) {
        op->returned = simulator_.now_ns();
        if (got) {
          op->outcome = Operation::Outcome::done;
          op->value = got->kv ? std::string(got->kv->value.bytes()) : "";
          op->revision = got->revision;
          last_mod_[{client, op->key}] = {got->kv ? got->kv->mod_revision : 0, op->value};
        }
        answered(*op, got ? nullptr : &got.error());
      });
    } else if (kind < 7) {
      op->value = value;
      std::string& session = sessions_[client];
      if (kind < 6 || session.empty()) {
        if (session.empty()) open_session(store, client);
        store.put(op->key, value, {}).on_ready([this, op, slot](Result<WriteResult> put) {
          wrote(op, slot, put);
        });
      } else {
        PutOptions options;
        options.request_id = session + "." + std::to_string(slot + 1);
        put_once(store, op, options, 8, false);
      }
    } else if (kind < 9) {
      op->value = value;
      const auto& [revision, expected] = last_mod_[{client, op->key}];
      op->expected = expected;
      if (nests) return nested_put(store, op, revision);
      PutOptions options;
      options.if_mod_revision = revision;
      store.put(op->key, value, options).on_ready([this, op, slot](Result<WriteResult> put) {
        wrote(op, slot, put);
      });
    } else {
      store.remove(Key(op->key), {}).on_ready([this, op, slot](Result<WriteResult> put) {
        wrote(op, slot, put);
      });
    }
  }

  /// A conditional put as a txn within a txn; whether it took effect is what the inner one says.
  void nested_put(StateStore& store, const std::shared_ptr<Operation>& op, Revision revision) {
    Txn inner;
    inner.compares = {{Key(op->key), Compare::Target::mod, Compare::Op::equal, revision}};
    TxnOp put;
    put.range = Key(op->key);
    put.value = op->value;
    inner.then.push_back(std::move(put));
    TxnOp within;
    within.type = TxnOp::Type::txn;
    within.nested.push_back(std::move(inner));
    Txn outer;
    outer.then.push_back(std::move(within));
    store.txn(std::move(outer)).on_ready([this, op](Result<TxnResult> done) {
      if (!done) return wrote(op, 0, done.error());
      if (!done->ops.at(0).nested.at(0).succeeded)
        return wrote(op, 0, Error(Error::conflict, "sim", "the inner condition did not hold"));
      wrote(op, 0, WriteResult{.revision = done->revision});
    });
  }

  void open_session(StateStore& store, int client) {
    dynamic_cast<StoreSessions&>(store).session_open().on_ready([this, client](Result<std::string> opened) {
      if (opened) sessions_[client] = *opened;
    });
  }
  /// Sent again, to any peer, until it is answered: it is one write all the same.
  void put_once(StateStore& store, const std::shared_ptr<Operation>& op, const PutOptions& options, int tries,
                bool doubtful) {
    store.put(op->key, op->value, options)
        .on_ready([this, op, options, tries, doubtful](Result<WriteResult> put) {
          const bool certain = put || put.error().is(Error::unavailable) || put.error().is(Error::overloaded);
          if (put) return wrote(op, 0, put);
          if (tries == 0 || done_ || put.error().is(Error::expired)) {
            if (doubtful || !certain) return answered(*op, &put.error());  // stays unknown
            return wrote(op, 0, put);
          }
          simulator_.after(Duration(static_cast<std::int64_t>(random_.below(400'000'000))),
                           [this, op, options, tries, again = doubtful || !certain] {
                             Peer& peer = any_peer();
                             if (!peer.store || peer.host->paused) {
                               if (!again) op->key.clear();
                               return;
                             }
                             put_once(*peer.store, op, options, tries - 1, again);
                             peer.host->dirty = true;
                           });
        });
  }

  void wrote(const std::shared_ptr<Operation>& op, std::uint64_t, const Result<WriteResult>& result) {
    op->returned = simulator_.now_ns();
    if (result) {
      op->outcome = Operation::Outcome::done;
      op->revision = result->revision;
      ++report_.acknowledged;
    } else if (result.error().is(Error::conflict)) {
      op->outcome = Operation::Outcome::failed_compare;
      // A read of the value that is there now, really; its revision is not part of the answer.
    } else if (result.error().is(Error::unavailable) || result.error().is(Error::overloaded) ||
               result.error().is(Error::no_space) || result.error().is(Error::unsupported)) {
      report_.held_back += result.error().is(Error::unsupported);
      op->key.clear();  // certainly not applied: it never was
    }
    answered(*op, result ? nullptr : &result.error());
  }
  void answered(const Operation& op, const Error* error) {
    note("client " + std::to_string(op.client) + " " + op.key + " revision " + std::to_string(op.revision) +
         (error != nullptr ? std::string(" ") + to_string(error->code()) : ""));
  }

  // ---- leases: taken, kept alive for a while, left. One that was kept alive lives at least its time from
  // that call on, by the fastest clock; one that was left is gone at the end.

  struct Held {
    LeaseId id = 0;
    std::chrono::seconds ttl{};
    std::int64_t promised_ns = 0;  ///< it lives until then
    int keeps = 0;                 ///< that are still to come
    bool gone = false;
  };
  static std::int64_t least(std::chrono::seconds ttl) { return ttl.count() * 1'000'000'000 / 6 * 5; }

  void take_lease() {
    if (healing_) return;
    Peer& peer = any_peer();
    if (!peer.store || peer.host->paused) return again_later();
    const std::chrono::seconds ttl(2 + random_.below(5));
    const std::int64_t called = simulator_.now_ns();
    peer.store->lease_grant(ttl, 0).on_ready(
        [this, ttl, called, store = peer.store](Result<LeaseId> granted) {
          if (!granted || done_) return again_later();
          const std::string key = "lease." + std::to_string(*granted);
          leases_[key] = {*granted, ttl, called + least(ttl), static_cast<int>(random_.below(12)), false};
          PutOptions options;
          options.lease = *granted;
          store->put(key, "held", options).on_ready([](Result<WriteResult>) {});
          keep_later(key);
        });
    peer.host->dirty = true;
  }
  void again_later() {
    if (!done_)
      simulator_.after(Duration(static_cast<std::int64_t>(random_.below(2'000'000'000))),
                       [this] { take_lease(); });
  }
  void keep_later(const std::string& key) {
    const auto ttl = static_cast<std::uint64_t>(leases_[key].ttl.count()) * 1'000'000'000;
    // Now and then just when it ends: that is when a lease whose end is under way may be kept alive.
    const bool late = random_.below(4) == 0;
    const std::uint64_t wait = late ? ttl + random_.below(60'000'000) : ttl / 8 + random_.below(ttl);
    simulator_.after(Duration(static_cast<std::int64_t>(wait)), [this, key] { keep(key); });
  }
  void keep(const std::string& key) {
    Held& held = leases_[key];
    if (held.gone) return again_later();
    if (healing_ || held.keeps-- <= 0) return again_later();  // left: nobody keeps it alive any more
    keep_later(key);
    Peer& peer = any_peer();
    if (!peer.store || peer.host->paused) return;
    const std::int64_t called = simulator_.now_ns();
    peer.store->lease_keep_alive(held.id).on_ready([this, key, called](Result<void> kept) {
      Held& lease = leases_[key];
      if (kept) {
        lease.promised_ns = std::max(lease.promised_ns, called + least(lease.ttl));
      } else if (kept.error().is(Error::not_found)) {
        lease_ended(key, "was not found");
      }
    });
    peer.host->dirty = true;
  }
  void lease_ended(const std::string& key, const char* how) {
    const auto held = leases_.find(key);
    if (held == leases_.end() || std::exchange(held->second.gone, true)) return;
    const std::int64_t early = held->second.promised_ns - simulator_.now_ns();
    if (early > 0)
      violated(key + " " + how + " " + std::to_string(early / 1'000'000) + " ms before its time");
  }

  // ---- faults

  void draw_rates() {
    for (unsigned& weight : weights_)
      weight = static_cast<unsigned>(random_.below(3) == 0 ? 0 : random_.below(6));
    pause_between_ = static_cast<std::int64_t>(200'000'000 + random_.below(1'500'000'000));
    const std::uint64_t delays[] = {0, 2'000'000, 10'000'000, 100'000'000};
    disk_delay_max_ = delays[random_.below(4)];
    const std::size_t appends[] = {0, 1, 300, 4000};
    append_bytes_max_ = appends[random_.below(4)];
    const std::uint64_t kept[] = {10'000, 100, 5};
    log_keep_entries_ = kept[random_.below(3)];
  }
  void plan_fault() {
    simulator_.after(
        Duration(static_cast<std::int64_t>(1 + random_.below(static_cast<std::uint64_t>(pause_between_)))),
        [this] {
          if (healing_) return;
          fault();
          plan_fault();
        });
  }
  void fault() {
    ++report_.faults;
    unsigned all = 1;
    for (const unsigned weight : weights_) all += weight;
    std::uint64_t pick = random_.below(all);
    std::size_t kind = 0;
    while (kind < kFaults && pick >= weights_[kind]) pick -= weights_[kind++];
    Peer& peer = any_peer();
    Peer& other = any_peer();
    switch (kind) {
      case 0:
        if (peer.store) crash(peer);
        break;
      case 1:  // at an operation of the disk that is still to come
        note("crash soon " + peer.name);
        if (peer.store) peer.host->disk.crash_at(1 + random_.below(20));
        break;
      case 2: {
        if (&peer == &other) break;
        const bool one_way = random_.below(2) == 0;
        note("cut " + peer.name + other.name + (one_way ? " one way" : ""));
        simulator_.network().cut(peer.name, other.name, one_way);
        break;
      }
      case 3:
        note("heal");
        simulator_.network().heal();
        break;
      case 4: {
        note("pause " + peer.name);
        peer.host->paused = true;
        Peer* paused = &peer;
        simulator_.after(Duration(static_cast<std::int64_t>(random_.below(5'000'000'000))),
                         [this, paused] { wake(*paused); });
        break;
      }
      case 5:
        note("sync fails " + peer.name);
        if (peer.store) peer.host->disk.fail_syncs(true);
        break;
      case 6:
        peer.host->clock.set_rate(0.8 + static_cast<double>(random_.below(40)) / 100);
        peer.host->clock.step_wall(
            Duration(static_cast<std::int64_t>(random_.below(7200)) * 1'000'000'000 - 3'600'000'000'000));
        break;
      case 7:
        if (Peer* leads = leader()) {
          note("transfer to " + peer.name);
          leads->store->transfer_leadership(peer.identity.identity.peer).on_ready([](Result<void>) {});
          leads->host->dirty = true;
        }
        break;
      case 8:
        if (options_.members) change_members(peer);
        break;
      case 9:  // everybody at once
        for (auto& [name, each] : peers_) {
          if (each.store) crash(each);
        }
        break;
      case 10:
        if (Peer* leads = leader()) elect_behind(*leads);
        break;
      case 11: {
        note("disk full " + peer.name);
        peer.host->disk.set_capacity(1);
        Peer* full = &peer;
        simulator_.after(Duration(static_cast<std::int64_t>(random_.below(4'000'000'000))),
                         [full] { full->host->disk.set_capacity(0); });
        break;
      }
      case 12:
        if (peer.store) rot(peer);
        break;
      default:
        break;
    }
  }

  /// A byte of a complete segment turns. The next scrub must see it and put a snapshot in its place; until
  /// then the peer may not need the file, so a crash in between takes the damage back.
  void rot(Peer& peer) {
    std::vector<std::string> segments;
    for (const std::string& file : peer.host->disk.files()) {
      if (file.find("/log-") != std::string::npos) segments.push_back(file);
    }
    std::sort(segments.begin(), segments.end());
    if (segments.size() < 2 || !peer.rotten.empty()) return;
    peer.rotten = segments.front();
    // In the first records: what lies behind the last one is nobody's.
    peer.rotten_at = random_.below(2000);
    note("rot " + peer.name + " " + peer.rotten);
    peer.host->disk.flip(peer.rotten, peer.rotten_at, kRotMask);
  }
  // ---- damage that a start meets, and disks that are replaced. One at a time, of a voter beside at least
  // two others, so that a majority keeps what was acknowledged; then recovery is demanded.

  void plan_loss() {
    const std::uint64_t wait_max = losses_.below(3) == 0 ? 500'000'000 : 6'000'000'000;
    simulator_.after(Duration(static_cast<std::int64_t>(100'000'000 + losses_.below(wait_max))), [this] {
      if (healing_) return;
      auto at = peers_.begin();
      std::advance(at, static_cast<std::ptrdiff_t>(losses_.below(peers_.size())));
      const bool damages = losses_.below(3) != 0;
      if (may_lose(at->second)) {
        if (damages) {
          damage(at->second);
        } else {
          replace_disk(at->second);
        }
      }
      plan_loss();
    });
  }
  bool may_lose(Peer& peer) {
    if (lost_ != 0 || leader() == nullptr || !peer.has_disk()) return false;
    for (const auto& [name, other] : peers_) {
      if (other.damaged) return false;
    }
    // Whatever anybody believes of who takes part: a majority without it has its disks, and something to
    // lose.
    bool committed = false;
    for (const auto& [name, other] : peers_) {
      if (!other.store) continue;
      bool left = true;
      other.store->inspect([&](const store::RaftCore& core) {
        committed |= core.commit().value >= 2;
        const auto keeps = [&](PeerId id) { return id != peer.id() && with_disk(id); };
        for (const auto& placed : core.configurations())
          left &= placed.what.members.empty() || store::has_quorum(placed.what, keeps);
      });
      if (!left) return false;
    }
    return committed;
  }

  /// While it is down a byte turns, or a sector of another place lies where it should not: in a place whose
  /// loss no crash explains. Its start must refuse, and name the file.
  void damage(Peer& peer) {
    if (peer.store) crash(peer);
    struct Place {
      std::string file;
      std::string bytes;
      std::uint64_t end = 0;  ///< in here
    };
    std::vector<Place> places;
    SimDisk& disk = peer.host->disk;
    std::vector<std::string> files = disk.files();
    std::sort(files.rbegin(), files.rend());
    bool newest = true;
    for (const std::string& file : files) {
      Place place{file, disk.contents(file), 0};
      if (file.find("/log-") != std::string::npos) {
        const auto header = store::decode_segment_header(place.bytes);
        if (!header || !*header) continue;
        const auto scan = store::scan_segment(place.bytes, (*header)->segment, (*header)->previous);
        place.end = std::exchange(newest, false) ? scan.synced_after : scan.end;
      } else if (file.find("/snapshot-") != std::string::npos && file.find(".tmp") == std::string::npos) {
        place.end = place.bytes.size();
      }
      if (place.end > 0) places.push_back(std::move(place));
    }
    if (places.empty()) return;
    const Place& to = places[losses_.below(places.size())];
    const Place& from = places[losses_.below(places.size())];
    Peer::Damage damage{to.file, losses_.below(to.end), {}};
    std::string bytes;
    if (losses_.below(2) == 0) {
      damage.offset = damage.offset / kSector * kSector;
      const std::uint64_t source = losses_.below(from.end) / kSector * kSector;
      bytes = from.bytes.substr(source, std::min({kSector, from.end - source, to.end - damage.offset}));
      damage.before = to.bytes.substr(damage.offset, bytes.size());
    }
    const bool misdirected = bytes != damage.before;
    if (!misdirected) {
      damage.before = to.bytes.substr(damage.offset, 1);
      bytes = std::string(1, static_cast<char>(damage.before[0] ^ kRotMask));
    }
    note((misdirected ? "misdirected write " : "rot at the start of ") + peer.name + " " + damage.file + " " +
         std::to_string(damage.offset));
    disk.overwrite(damage.file, damage.offset, bytes);
    peer.damaged = std::move(damage);
    ++report_.damaged;
  }

  /// Somebody starts it again as it was: it asks who it is. As soon as it is refused, or before, that member
  /// is removed and a new one comes.
  void replace_disk(Peer& peer) {
    if (peer.store) crash(peer);
    note("replace disk " + peer.name);
    ++report_.replaced;
    peer.host->disk.replace();
    peer.identity.founds.reset();
    peer.damaged.reset();
    peer.rotten.clear();
    audit_.lost(peer.id());
    lost_ = peer.id().value;
    peer.asks = losses_.next();
    ask_place(peer);
    if (losses_.below(4) == 0) replace_member();
  }

  /// Of anybody who runs, again and again.
  void ask_place(Peer& peer) {
    simulator_.after(Duration(static_cast<std::int64_t>(1 + losses_.below(300'000'000))), [this, &peer] {
      if (done_ || peer.asks == 0) return;
      auto at = peers_.begin();
      std::advance(at, static_cast<std::ptrdiff_t>(losses_.below(peers_.size())));
      Peer& asked = at->second;
      if (asked.store && !asked.host->paused) {
        store::Hello hello;
        hello.purpose = store::Purpose::enrol;
        hello.name = peer.name;
        hello.address = peer.name + ":1";
        hello.nonce = peer.asks;
        hello.term = Term{1};
        asked.host->dirty = true;
        asked.store->enrol_peer(hello, [this, &peer, nonce = peer.asks](const Result<store::Place>& place) {
          if (!done_ && peer.asks == nonce) was_told(peer, place);
        });
      }
      ask_place(peer);
    });
  }
  void was_told(Peer& peer, const Result<store::Place>& place) {
    note("told " + peer.name + (place ? "" : ": " + place.error().to_string()));
    if (place) {
      ++report_.told;
      peer.asks = 0;
      peer.identity.identity = place->identity;
      peer.identity.enrolled = place->term;
      if (lost_ == peer.id().value) lost_ = 0;
      audit_.reborn(peer.id());
      peer.restart_at = simulator_.now_ns() + 1;
    } else if (place.error().is(Error::already_exists) ||
               (place.error().is(Error::not_found) && lost_ == peer.id().value)) {
      ++report_.turned_away;
      peer.asks = 0;
      peer.gone = true;
      if (lost_ == 0) lost_ = peer.id().value;
      if (lost_ == peer.id().value) replace_member();
    }
  }
  void replace_member() {
    simulator_.after(300ms, [this] {
      if (done_) return;
      Peer* leads = leader();
      if (leads == nullptr || leads->host->paused) return replace_member();
      const store::Configuration now = leads->store->raft_view().configuration;
      if (now.joint) return replace_member();
      if (lost_ == 0) return;  // it was told who it is after all
      if (now.find(PeerId{lost_}) != nullptr) {
        leads->host->dirty = true;
        leads->store->remove_member(lost_, false).on_ready([](Result<void>) {});
        return replace_member();
      }
      for (auto& [name, peer] : peers_) {
        if (peer.id().value != lost_) continue;
        peer.asks = 0;
        peer.gone = true;
      }
      lost_ = 0;
      if (!healing_ && peers_.size() < kMachines) add_machine(*leads);
    });
  }

  /// A leader that did not know of it yet may have been asked before.
  void remove_gone() {
    simulator_.after(500ms, [this] {
      if (done_) return;
      Peer* leads = leader();
      for (auto& [name, peer] : peers_) {
        if (leads == nullptr || !peer.gone) continue;
        if (leads->store->raft_view().configuration.find(peer.id()) == nullptr) continue;
        leads->host->dirty = true;
        leads->store->remove_member(peer.id().value, false).on_ready([](Result<void>) {});
        break;
      }
      remove_gone();
    });
  }

  /// A command that its release does not know stopped it: the next start is one of this release.
  bool needs_upgrade(Peer& peer, const Error& error) {
    if (peer.identity.commands_known == 0 ||
        error.to_string().find("run a newer release") == std::string::npos)
      return false;
    note("upgrade " + peer.name);
    ++report_.upgraded;
    peer.identity.commands_known = 0;
    return true;
  }

  void end_rot(Peer& peer) {
    const std::string file = std::exchange(peer.rotten, {});
    if (!file.empty() && peer.host->disk.exists(file)) peer.host->disk.flip(file, peer.rotten_at, kRotMask);
  }

  /// Cut off with writes that nobody else has, a leader misses two elections: what it has then differs from
  /// the next leaders' logs in the middle of its own term, and they have entries of the term between.
  void elect_behind(Peer& deposed) {
    note("two elections behind " + deposed.name);
    for (const auto& [name, other] : peers_) {
      if (&other != &deposed) simulator_.network().cut(deposed.name, name, false);
    }
    elect_again(deposed, 40);
  }
  void elect_again(Peer& deposed, int looks) {
    simulator_.after(std::chrono::milliseconds(50), [this, &deposed, looks] {
      Peer* leads = leader();
      if (healing_ || looks == 0) return simulator_.network().heal();
      if (leads == nullptr || leads == &deposed || leads->host->paused)
        return elect_again(deposed, looks - 1);
      for (auto& [name, other] : peers_) {
        if (&other == &deposed || &other == leads || !other.store) continue;
        leads->store->transfer_leadership(other.identity.identity.peer).on_ready([](Result<void>) {});
        leads->host->dirty = true;
        break;
      }
      simulator_.after(std::chrono::milliseconds(100 + random_.below(600)),
                       [this] { simulator_.network().heal(); });
    });
  }

  void wake(Peer& peer) {
    peer.host->paused = false;
    peer.host->dirty = true;
    audit_.woke(PeerId{peer.identity.identity.peer}, simulator_.now_ns());
  }

  /// As a learner, now and then as a voter at once.
  void add_machine(Peer& leads) {
    const std::string name(1, static_cast<char>('a' + next_peer_++));
    const bool learner = losses_.below(4) != 0;
    note("add " + name);
    leads.host->dirty = true;
    leads.store->add_member(name, name + ":1", learner, false)
        .on_ready([this, name](Result<std::uint64_t> id) {
          if (!id || healing_) return;
          Peer& fresh = peers_[name];
          fresh.name = name;
          fresh.host = &simulator_.add_host(name);
          fresh.identity.identity.peer = *id;
          fresh.asks = losses_.next();
          ask_place(fresh);
        });
  }

  void change_members(Peer& peer) {
    Peer* leads = leader();
    if (leads == nullptr || leads->host->paused || lost_ != 0) return;
    auto& members = *leads->store;
    leads->host->dirty = true;
    const std::uint64_t what = random_.below(3);
    if (what == 0 && peers_.size() < 7) {
      add_machine(*leads);
    } else if (what == 1) {
      note("promote " + peer.name);
      members.promote_member(peer.identity.identity.peer).on_ready([](Result<void>) {});
    } else if (voters() > 2) {
      note("remove " + peer.name);
      members.remove_member(peer.identity.identity.peer, false).on_ready([](Result<void>) {});
    }
  }
  std::size_t voters() {
    Peer* leads = leader();
    if (leads == nullptr) return 0;
    std::size_t count = 0;
    for (const Member& member : leads->store->raft_view().configuration.members) count += member.voter;
    return count;
  }

  // ---- checks

  void check() {
    for (auto& [name, peer] : peers_) {
      if (!peer.store) {
        if (peer.has_disk() && peer.restart_at != 0 && simulator_.now_ns() >= peer.restart_at) {
          peer.restart_at = 0;
          open(peer);
          if (!peer.store) peer.restart_at = simulator_.now_ns() + 1'000'000'000;
        }
        continue;
      }
      if (!std::exchange(peer.host->ran, false)) continue;  // as it was when it was looked at last
      if (peer.host->disk.crashed()) {
        crash(peer);
        continue;
      }
      peer.store->inspect([&, who = &name](const store::RaftCore& core) {
        audit_.look(PeerId{peer.identity.identity.peer}, core, simulator_.now_ns());
        if (core.role() != Role::leader) return;
        const auto [found, fresh] = leader_of_term_.try_emplace(core.term(), *who);
        if (fresh) ++report_.elections;
        if (found->second != *who)
          violated("two leaders in term " + std::to_string(core.term().value) + ": " + *who + " and " +
                   found->second);
      });
      const auto [index, hash] = peer.store->state_hash();
      if (index.value != 0) {
        const auto [known, fresh] = hash_of_index_.try_emplace(index, hash);
        if (known->second != hash)
          violated("peer " + name + " has another state at index " + std::to_string(index.value));
      }
      const Revision revision = peer.store->revision();
      if (revision < peer.revision) violated("the revision of peer " + name + " went back");
      peer.revision = revision;
      read_watch(peer);
      if (peer.store->failed() && !peer.host->disk.crashed()) {
        for (const std::string& alarm : peer.store->status().alarms) {
          needs_upgrade(peer, Error(Error::unsupported, "sim", alarm));
          if (alarm.find("differs from that of the majority") == std::string::npos) continue;
          ++report_.diverged;
          violated("peer " + name + " was told that its state is wrong");
        }
        note("failed " + name);
        crash(peer);
      }
    }
  }

  void read_watch(Peer& peer) {
    if (!peer.watch) return;
    while (auto batch = peer.watch->poll()) {
      for (const WatchEvent& event : batch->events) {
        if (event.kv.mod_revision <= peer.watched && event.kv.mod_revision != last_event_[peer.name])
          violated("a watch of peer " + peer.name + " went back to revision " +
                   std::to_string(event.kv.mod_revision));
        last_event_[peer.name] = event.kv.mod_revision;
        peer.seen.insert(event.kv.mod_revision);
        if (event.type == WatchEvent::Type::remove) lease_ended(event.kv.key, "ended");
        const std::string what = event.kv.key + (event.type == WatchEvent::Type::put ? "=" : "-") +
                                 std::string(event.kv.value.bytes());
        const auto [known, fresh] = events_.try_emplace(std::pair(event.kv.mod_revision, event.kv.key), what);
        if (known->second != what)
          violated("watches disagree about revision " + std::to_string(event.kv.mod_revision));
      }
      peer.watched = std::max(peer.watched, batch->revision);
    }
    if (peer.watch->error()) {
      // Compacted: a watcher begins again at the present, and says so.
      peer.watch.reset();
      peer.seen.clear();
      peer.watched = peer.store->revision();
      gaps_.insert(peer.name);
      WatchOptions wanted;
      wanted.range = KeyPrefix("");
      wanted.after = peer.watched;
      auto watch = peer.store->watch(wanted);
      if (watch) peer.watch = std::make_unique<Watch>(std::move(*watch));
    }
  }

  void heal() {
    note("heal everything");
    healing_ = true;
    remove_gone();
    simulator_.network().calm();
    disk_delay_max_ = std::min<std::uint64_t>(disk_delay_max_, kCalmDisk);
    for (auto& [name, peer] : peers_) {
      wake(peer);
      peer.host->clock.set_rate(1.0);
      peer.host->disk.fail_syncs(false);
      peer.host->disk.set_capacity(0);
      if (peer.store && peer.host->disk.crashed()) crash(peer);
      if (!peer.store) peer.restart_at = simulator_.now_ns() + 1;
    }
  }

  /// A disk was lost while a change of members began that needs it for a majority: nothing is lost, but
  /// nothing goes on either, until somebody uses --force-new-cluster.
  bool stands_still() {
    bool still = false;
    for (auto& [name, peer] : peers_) {
      if (!peer.store) continue;
      peer.store->inspect([&](const store::RaftCore& core) {
        for (const auto& placed : core.configurations())
          still |= placed.index > core.commit() &&
                   !store::has_quorum(placed.what, [&](PeerId id) { return with_disk(id); });
        still |= !core.configuration().members.empty() &&
                 !store::has_quorum(core.configuration(), [&](PeerId id) { return with_disk(id); });
      });
    }
    return still;
  }
  bool with_disk(PeerId id) const {
    return std::any_of(peers_.begin(), peers_.end(),
                       [&](const auto& entry) { return entry.second.id() == id && entry.second.has_disk(); });
  }

  std::string described() {
    std::string text;
    for (const auto& [name, peer] : peers_) {
      text += " [" + name;
      if (!peer.store) text += " is down";
      if (peer.store) {
        peer.store->inspect([&, self = &peer](const store::RaftCore& core) {
          text += std::string(" ") + to_string(core.role()) + " term " + std::to_string(core.term().value) +
                  " leader " + std::to_string(core.leader().value) + " base " +
                  std::to_string(core.base_index().value) + " commit " + std::to_string(core.commit().value) +
                  " last " + std::to_string(core.last_index().value) + " applied " +
                  std::to_string(core.applied().value) + (core.transferring() ? " handing over" : "") +
                  (self->store->failed() ? " failed" : "");
          for (const auto& [id, progress] : core.progress())
            text += " " + std::to_string(id.value) + ":" + progress.state + "@" +
                    std::to_string(progress.match.value);
          for (const Member& member : core.configuration().members)
            text += " " + member.name + (member.voter ? "+" : member.was_voter ? "-" : "?");
        });
        for (const std::string& alarm : peer.store->status().alarms) text += " (" + alarm + ")";
      }
      text += "]";
    }
    return text;
  }

  void finish() {
    done_ = true;
    if (stands_still()) {
      ++report_.stood_still;
    } else {
      demand_progress();
    }
    std::vector<Operation> history;
    for (const auto& op : history_) {
      if (!op->key.empty()) history.push_back(*op);
    }
    if (const std::string wrong = check_linearizable(history); !wrong.empty()) violated(wrong);
    std::vector<Operation> with_revision;
    for (const Operation& op : history) {
      if (op.outcome == Operation::Outcome::done) with_revision.push_back(op);
    }
    if (const std::string wrong = check_revisions(with_revision); !wrong.empty()) violated(wrong);
  }

  void demand_progress() {
    Peer* leads = leader();
    if (leads == nullptr) return violated("no leader after everything was healed:" + described());
    auto written = leads->store->put("the last", "x", {});
    leads->host->dirty = true;
    simulator_.run_for(8s);
    if (!written.is_ready() || !written.wait(Duration{}))
      return violated("no progress after everything was healed:" + described());
    for (const auto& [key, held] : leases_) {
      const auto found = leads->store->get(key, {.consistency = Consistency::serializable}).wait(Duration{});
      if (found && found->kv) violated(key + " outlived its lease");
    }
    const auto configuration = leads->store->raft_view().configuration;
    // What the leader itself adds now and then reaches the others a moment later.
    const auto wanted = leads->store->state_hash();
    simulator_.run_for(2s);
    for (const Member& member : configuration.members) {
      const auto peer = std::find_if(peers_.begin(), peers_.end(), [&](const auto& entry) {
        return entry.second.identity.identity.peer == member.id.value;
      });
      if (peer == peers_.end()) continue;  // added, and its machine never came
      if (!peer->second.store) return violated("peer " + peer->first + " did not come back");
      const auto have = peer->second.store->state_hash();
      if (have.first < wanted.first)
        violated("peer " + peer->first + " did not converge: index " + std::to_string(have.first.value) +
                 " of " + std::to_string(wanted.first.value) + ":" + described());
      // Every change that anybody saw in the stretch that this watch covers was seen by it.
      if (!peer->second.rotten.empty() && peer->second.host->disk.exists(peer->second.rotten))
        return violated("peer " + peer->first + " has not mended " + peer->second.rotten);
      if (peer->second.seen.empty()) continue;
      const Revision first = *peer->second.seen.begin();
      for (const auto& [place, what] : events_) {
        if (place.first <= first || place.first > peer->second.watched) continue;
        if (!peer->second.seen.contains(place.first))
          return violated("the watch of peer " + peer->first + " missed revision " +
                          std::to_string(place.first));
      }
    }
  }

  static constexpr std::size_t kFaults = 13;
  static constexpr unsigned char kRotMask = 0x10;
  static constexpr std::uint64_t kSector = 512;
  static constexpr std::size_t kMachines = 12;           ///< in one run
  static constexpr std::uint8_t kCommandsOfEarlier = 8;  ///< release 0.1 had no txns within txns
  static constexpr std::size_t kHolders = 2;
  static constexpr std::uint64_t kDiskStall = 1'000'000'000;
  static constexpr std::uint64_t kCalmDisk = 2'000'000;
  const StoreSimOptions options_;
  Simulator simulator_;
  SimRandom& random_;
  /// For the losses below, so that a seed goes on meeting the other faults that it met before these came.
  SimRandom losses_;
  StoreAudit audit_;
  std::map<std::string, Peer> peers_;
  std::uint64_t next_peer_ = 1;
  std::uint64_t lost_ = 0;  ///< the member whose disk was replaced and that is still one
  unsigned weights_[kFaults] = {};
  std::int64_t pause_between_ = 0;
  std::uint64_t disk_delay_max_ = 0;  ///< nanoseconds for one batch of the log
  std::size_t append_bytes_max_ = 0;
  std::uint64_t log_keep_entries_ = 0;
  bool healing_ = false, done_ = false;
  std::vector<std::shared_ptr<Operation>> history_;
  std::map<std::pair<int, std::string>, std::pair<Revision, std::string>> last_mod_;
  std::map<int, std::string> sessions_;  ///< of each client
  std::map<std::string, Held> leases_;   ///< by their key
  std::map<Term, std::string> leader_of_term_;
  std::map<Index, std::uint64_t> hash_of_index_;
  std::map<std::pair<Revision, std::string>, std::string> events_;
  std::map<std::string, Revision> last_event_;
  std::set<std::string> gaps_;
  std::uint64_t trace_hash_ = 0xCBF29CE484222325ull;
  StoreSimReport report_;
};

}  // namespace

StoreSimReport run_store_sim(const StoreSimOptions& options) { return StoreSim(options).run(); }

}  // namespace orchestra::sim
