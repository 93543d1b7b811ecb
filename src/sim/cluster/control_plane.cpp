#include "sim/cluster/control_plane.hpp"

#include <algorithm>

#include "base/engine_manual.hpp"
#include "orchestra/memory_store.hpp"

namespace orchestra::sim {

using namespace std::chrono_literals;

namespace {
// As the control loops of a Cluster name their election.
constexpr const char* kElection = "/orchestra/elections/control";
constexpr Duration kLedWithin = 60s;  // of virtual time, at the start
constexpr Duration kAskAgain = 200ms, kServeAgain = 1s;
constexpr Duration kSlowDisk = 400ms;  // a batch of the log takes up to so long on a slow disk
constexpr std::size_t kHashesKept = 4096;
}  // namespace

ControlPlane::ControlPlane(Simulator& world, const SimScenario& scenario, Hooks hooks)
    : world_(world), scenario_(scenario), hooks_(std::move(hooks)), audit_(hooks_.violated) {
  for (std::size_t i = 0; i < scenario.peers; ++i) {
    Peer& peer = *peers_.emplace_back(std::make_unique<Peer>());
    peer.index = i;
    peer.raft.name = std::string(1, static_cast<char>('a' + i));
  }
  if (raft()) {
    outside_ = &world_.add_host("outside");
    found_peers(world_, stores());
    for (const auto& peer : peers_) peer->host = peer->raft.host;
    front_ = std::make_shared<Front>(world_, *outside_, scenario.model.network);
    for (const auto& peer : peers_) front_->add(*peer->host);
    world_.network().watch([this](const std::string&, const std::string&, std::string_view frame,
                                  bool arrived) { audit_.on_frame(frame, arrived, world_.now_ns()); });
  } else {
    outside_ = peers_.front()->host = &world_.add_host("control");
  }
  const auto pumped = [this](std::int64_t until) { return pump(until); };
  set_pump(*outside_->engine, pumped);
  for (const auto& peer : peers_) set_pump(*peer->host->engine, pumped);
  world_.on_event = [this] { settle(); };
}

ControlPlane::~ControlPlane() {
  over_ = true;
  drain();
  for (const auto& peer : peers_) {
    if (front_) front_->down(peer->index, "the simulation is over");
    end(*peer);
  }
  drain();  // who waited for an answer hears that there is none
  world_.on_event = {};
}

std::vector<SimPeer*> ControlPlane::stores() {
  std::vector<SimPeer*> all;
  for (const auto& peer : peers_) all.push_back(&peer->raft);
  return all;
}

Client ControlPlane::client(std::size_t prefer) {
  return front_ ? front_->client(prefer) : peers_.front()->server->client();
}

std::uint64_t ControlPlane::revision() const {
  std::uint64_t most = 0;
  for (const auto& peer : peers_) {
    if (peer->store) most = std::max(most, static_cast<std::uint64_t>(peer->store->revision()));
  }
  return most;
}

std::optional<SchedulerStats> ControlPlane::scheduling() const {
  for (const auto& peer : peers_) {
    if (peer->scheduler && !peer->isolated) return peer->scheduler->stats();
  }
  return std::nullopt;
}

bool ControlPlane::pump(std::int64_t until) {
  const std::uint64_t before = world_.events();
  ++waiting_;
  bool moved = false;
  while (!moved && world_.run_one(until)) moved = world_.events() != before;
  --waiting_;
  return moved;
}

void ControlPlane::drain() {
  for (const auto& peer : peers_) world_.run_host(*peer->host);
  if (raft()) world_.run_host(*outside_);
}

void ControlPlane::soon(std::function<void()> job) {
  jobs_.push_back(std::move(job));
  outside_->dirty = true;  // an event comes, and after it settle()
}

// After an event in which no task waits in the middle of itself.
void ControlPlane::settle() {
  if (waiting_ > 0 || settling_ || over_) return;
  settling_ = true;
  while (!jobs_.empty()) {
    const auto job = std::move(jobs_.front());
    jobs_.pop_front();
    job();
  }
  for (const auto& peer : peers_) {
    const auto wanted = loops_wanted_ && peer->serving ? peer->elected : std::nullopt;
    if (!raft() || peer->runs == wanted) continue;
    end_loops(*peer);
    if (!wanted) continue;
    auto begun = begin_loops(*peer, std::string(kElection) + "=" + std::to_string(*wanted));
    if (!begun)
      hooks_.failed("the controllers could not start on peer " + peer->raft.name + ": " +
                    begun.error().to_string());
    peer->runs = wanted;
    hooks_.note("controllers and scheduler run on peer " + peer->raft.name);
  }
  if (raft()) look();
  settling_ = false;
}

// ---- checks: what StoreSim checks after each event

void ControlPlane::look() {
  for (const auto& each : peers_) {
    Peer& peer = *each;
    if (!peer.raft.store || !std::exchange(peer.host->ran, false)) continue;
    std::optional<store::Term> leads;
    peer.raft.store->inspect([&](const store::RaftCore& core) {
      audit_.look(peer.raft.id(), core, world_.now_ns());
      if (core.role() == store::Role::leader) leads = core.term();
    });
    if (leads) {
      const auto [found, fresh] = leaders_.try_emplace(*leads, peer.raft.name);
      if (fresh) hooks_.note("peer " + peer.raft.name + " leads the store");
      if (found->second != peer.raft.name)
        hooks_.violated("peers " + found->second + " and " + peer.raft.name + " lead in one term");
    }
    const auto [index, hash] = peer.raft.store->state_hash();
    if (index.value != 0 && hashes_.try_emplace(index, hash).first->second != hash)
      hooks_.violated("peer " + peer.raft.name + " has another state than another at index " +
                      std::to_string(index.value));
    while (hashes_.size() > kHashesKept) hashes_.erase(hashes_.begin());
    const auto revision = static_cast<std::uint64_t>(peer.store->revision());
    if (revision < peer.revision) hooks_.violated("the revision of peer " + peer.raft.name + " went back");
    peer.revision = revision;
    if (!peer.raft.store->failed() || std::exchange(peer.failed, true)) continue;
    hooks_.violated("the store of peer " + peer.raft.name + " gave up");
    power(peer.raft.name, 1s);
  }
}

// ---- start

Result<void> ControlPlane::open_store(Peer& peer) {
  if (!raft()) {
    peer.store = MemoryStore::create(*peer.host->engine);
    return {};
  }
  const store::PeerId id = peer.raft.id();
  peer.raft.identity.on_append = [this, id](const store::LogBatch& batch, bool stored) {
    audit_.on_append(id, batch, stored);
  };
  peer.raft.identity.log_delay = [this, at = &peer] {
    const SimRange& disk = scenario_.model.disk;
    const Duration most = at->slow ? kSlowDisk : disk.most;
    return disk.least + Duration(static_cast<std::int64_t>(at->host->random.below(
                            static_cast<std::uint64_t>((most - disk.least).count()) + 1)));
  };
  audit_.opens(id);
  ORC_TRY(open_peer(world_, peer.raft, options_of_peer(peer.raft)));
  peer.raft.store->inspect([&](const store::RaftCore& core) { audit_.opened(id, core); });
  audit_.woke(id, world_.now_ns());
  peer.store = peer.raft.store;
  peer.host->dirty = true;
  peer.revision = 0;
  peer.failed = false;
  return {};
}

Result<void> ControlPlane::serve(Peer& peer) {
  ApiServerOptions api;
  api.bookmark_interval = 1h;  // in process nobody needs them
  auto server = std::make_unique<ApiServer>(*peer.host->engine, peer.store, std::move(api));
  ORC_TRY(server->start());
  peer.server = std::move(server);
  peer.serving = true;
  wire();
  return {};
}

/// An API server that starts writes what every cluster has: it needs a store that can.
void ControlPlane::serve_when_led(Peer& peer) {
  const auto again = [this, at = &peer](Duration delay) {
    world_.after(delay, [this, at] {
      soon([this, at] {
        if (at->raft.store && !at->serving) serve_when_led(*at);
      });
    });
  };
  bool led = false;
  peer.raft.store->inspect([&](const store::RaftCore& core) { led = core.leader().value != 0; });
  if (!led) return again(kAskAgain);
  if (auto served = serve(peer); !served) return again(kServeAgain);
  if (loops_wanted_) campaign(peer);
}

Result<void> ControlPlane::start() {
  for (const auto& peer : peers_) ORC_TRY(open_store(*peer));
  const std::int64_t end = world_.now_ns() + kLedWithin.count();
  while (raft() && leader_of(stores()) == nullptr) {
    if (world_.now_ns() >= end) return Error(Error::deadline_exceeded, "simulation", "no peer was elected");
    world_.run_for(10ms);
  }
  for (const auto& peer : peers_) ORC_TRY(serve(*peer));
  return {};
}

// ---- controllers and scheduler

Result<void> ControlPlane::begin_loops(Peer& peer, const std::string& fence) {
  ControllersOptions how;
  how.fence = fence;
  how.node_heard = hooks_.node_heard;
  peer.controllers = std::make_unique<Controllers>(*peer.host->engine, peer.server->client(), std::move(how));
  ORC_TRY(peer.controllers->start());
  SchedulerOptions scheduling;
  scheduling.tie_seed = scenario_.seed;
  scheduling.plugin_deadline = Duration::zero();
  scheduling.fence = fence;
  peer.scheduler =
      std::make_unique<Scheduler>(*peer.host->engine, peer.server->client(), std::move(scheduling));
  ORC_TRY(peer.scheduler->start());
  peer.host->dirty = true;
  return {};
}

void ControlPlane::end_loops(Peer& peer) {
  peer.runs.reset();
  world_.run_host(*peer.host);  // whoever is stopped has no task that waits for its turn
  if (peer.scheduler) peer.scheduler->stop();
  if (peer.controllers) peer.controllers->stop();
  world_.run_host(*peer.host);
  peer.scheduler.reset();
  peer.controllers.reset();
}

void ControlPlane::campaign(Peer& peer) {
  LeaderElectionOptions election;
  election.key = kElection;
  election.identity = peer.raft.name;
  election.on_elected = [at = &peer](Revision token) { at->elected = token; };
  election.on_lost = [at = &peer](const Error&) { at->elected.reset(); };
  peer.election = std::make_unique<LeaderElection>(*peer.host->engine, peer.store, std::move(election));
  if (auto begun = peer.election->start(); !begun) hooks_.failed(begun.error().to_string());
  peer.host->dirty = true;
}

Result<void> ControlPlane::start_loops() {
  loops_wanted_ = true;
  if (!raft()) return begin_loops(*peers_.front(), {});
  for (const auto& peer : peers_) {
    if (peer->serving && !peer->election) campaign(*peer);
  }
  return {};
}

void ControlPlane::stop_loops() {
  loops_wanted_ = false;
  soon([this] {
    for (const auto& peer : peers_) {
      end_loops(*peer);
      peer->election.reset();
      peer->elected.reset();
    }
  });
}

// ---- faults

ControlPlane::Peer* ControlPlane::named(const std::string& target) {
  std::vector<Peer*> running;
  for (const auto& peer : peers_) {
    if (peer->raft.name == target) return peer.get();
    if (peer->raft.store) running.push_back(peer.get());
  }
  if (running.empty()) return nullptr;
  if (target == "random") return running[world_.random().below(running.size())];
  const SimPeer* leads = leader_of(stores());
  for (Peer* peer : running) {
    if (&peer->raft == leads) return peer;
  }
  return nullptr;
}

/// Who can speak with whom, now.
void ControlPlane::wire() {
  if (!front_) return;
  world_.network().heal();
  for (const auto& peer : peers_) {
    if (!peer->isolated) continue;
    for (const auto& other : peers_) {
      if (other != peer) world_.network().cut(peer->raft.name, other->raft.name);
    }
  }
  for (const auto& peer : peers_) {
    if (peer->serving && !peer->isolated) {
      front_->up(peer->index, peer->server->client());
    } else {
      front_->down(peer->index, "peer " + peer->raft.name + " does not answer");
    }
  }
}

/// Nothing of it runs any more. What it still tries while it ends gets nowhere: store and network are gone
/// first.
void ControlPlane::end(Peer& peer) {
  peer.serving = false;
  if (raft() && peer.raft.store) peer.raft.store->stop();
  end_loops(peer);
  peer.election.reset();
  peer.elected.reset();
  world_.run_host(*peer.host);
  if (peer.server) peer.server->stop();
  world_.run_host(*peer.host);
  peer.server.reset();
  peer.store.reset();
  if (raft()) close_peer(world_, peer.raft);
}

void ControlPlane::power(const std::string& target, std::optional<Duration> lasts) {
  soon([this, target, lasts] {
    Peer* peer = named(target);
    if (peer == nullptr || !peer->raft.store) return hooks_.note("there is no peer to lose its power");
    hooks_.note("peer " + peer->raft.name + " loses its power");
    peer->serving = false;
    peer->isolated = true;
    wire();
    peer->host->disk.power_off();
    end(*peer);
    peer->host->disk.restart();
    if (!lasts) return;
    world_.after(*lasts, [this, peer] {
      soon([this, peer] {
        hooks_.note("peer " + peer->raft.name + " has power again");
        peer->isolated = false;
        wire();
        if (auto opened = open_store(*peer); !opened) {
          hooks_.violated("peer " + peer->raft.name + " cannot open its disk: " + opened.error().to_string());
          return;
        }
        serve_when_led(*peer);
      });
    });
  });
}

void ControlPlane::isolate(const std::string& target, std::optional<Duration> lasts) {
  soon([this, target, lasts] {
    Peer* peer = named(target);
    if (peer == nullptr || !peer->raft.store) return hooks_.note("there is no peer to cut off");
    hooks_.note("peer " + peer->raft.name + " is cut off");
    peer->isolated = true;
    wire();
    if (!lasts) return;
    world_.after(*lasts, [this, peer] {
      soon([this, peer] {
        if (!peer->raft.store) return;  // lost its power meanwhile
        hooks_.note("peer " + peer->raft.name + " is connected again");
        peer->isolated = false;
        wire();
      });
    });
  });
}

void ControlPlane::slow_disk(const std::string& target, std::optional<Duration> lasts) {
  soon([this, target, lasts] {
    Peer* peer = named(target);
    if (peer == nullptr) return hooks_.note("there is no peer whose disk could be slow");
    hooks_.note("the disk of peer " + peer->raft.name + " is slow");
    peer->slow = true;
    if (!lasts) return;
    world_.after(*lasts, [this, peer] {
      hooks_.note("the disk of peer " + peer->raft.name + " is well again");
      peer->slow = false;
    });
  });
}

void ControlPlane::hand_over() {
  soon([this] {
    const SimPeer* leads = leader_of(stores());
    if (leads == nullptr) return hooks_.note("there is no leader that could hand over");
    std::vector<Peer*> others;
    for (const auto& peer : peers_) {
      if (&peer->raft != leads && peer->raft.store && !peer->isolated) others.push_back(peer.get());
    }
    if (others.empty()) return hooks_.note("there is no peer to hand over to");
    const Peer& next = *others[world_.random().below(others.size())];
    hooks_.note("peer " + leads->name + " hands over to peer " + next.raft.name);
    leads->store->transfer_leadership(next.raft.id().value).on_ready([](const Result<void>&) {});
    leads->host->dirty = true;
  });
}

std::string ControlPlane::step_clock(const std::string& target, Duration by) {
  Peer* peer = raft() ? named(target) : peers_.front().get();
  if (peer == nullptr) {
    hooks_.note("there is no peer whose clock could be set");
    return {};
  }
  peer->host->clock.step_wall(by);
  return raft() ? peer->raft.name : target;
}

}  // namespace orchestra::sim
