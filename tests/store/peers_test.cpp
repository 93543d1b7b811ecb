// RaftStore on three peers over real sockets: writes through any of them, a leader that goes, members that
// come.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <mutex>

#include "orchestra/env.hpp"
#include "store/raft/codec.hpp"
#include "store/raft_store.hpp"
#include "store/transport/peer_net.hpp"
#include "store/transport/peer_wire.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

RaftStoreImpl& raft(const std::shared_ptr<StateStore>& store) { return dynamic_cast<RaftStoreImpl&>(*store); }

std::size_t wait_for_leader(PeersFixture& fixture) {
  std::size_t leader = fixture.peers.size();
  REQUIRE(eventually([&] {
    for (std::size_t i = 0; i < fixture.peers.size(); ++i) {
      if (fixture.peers[i] && fixture.peers[i]->status().role == "leader") leader = i;
    }
    return leader < fixture.peers.size();
  }));
  return leader;
}
StateStore& any_other(PeersFixture& fixture, std::size_t than) {
  return *fixture.peers[(than + 1) % fixture.peers.size()];
}
/// What is on its way to a leader that has just stopped has an unknown outcome.
void put_in_the_end(StateStore& store, const std::string& key, const std::string& value) {
  REQUIRE(eventually([&] { return store.put(key, value).wait(kSoon).has_value(); }));
}

TEST_CASE("three peers: a write through any of them is read from all, and all have the same state") {
  PeersFixture fixture;
  fixture.open(3, no_compaction());
  for (std::size_t i = 0; i < 30; ++i) put(*fixture.peers[i % 3], "k" + std::to_string(i), std::to_string(i));
  for (auto& peer : fixture.peers) {
    CHECK(get(*peer, "k29") == "29");
    CHECK(peer->range(KeyPrefix("k")).wait(kSoon)->count == 30);
  }
  CHECK(fixture.peers[0]->cluster_id() == fixture.peers[2]->cluster_id());
  REQUIRE(eventually([&] {
    return raft(fixture.peers[0]).state_hash() == raft(fixture.peers[1]).state_hash() &&
           raft(fixture.peers[1]).state_hash() == raft(fixture.peers[2]).state_hash();
  }));
}

TEST_CASE(
    "three peers: the leader stops in order or is gone, and writes go on; it comes back and catches up") {
  PeersFixture fixture;
  fixture.open(3, no_compaction());
  const std::size_t leader = wait_for_leader(fixture);
  put(any_other(fixture, leader), "before", "1");
  fixture.peers[leader]->stop();
  fixture.peers[leader].reset();
  put_in_the_end(any_other(fixture, leader), "without", "2");
  fixture.start(leader, no_compaction());
  CHECK(get(*fixture.peers[leader], "before") == "1");
  CHECK(get(*fixture.peers[leader], "without") == "2");
  put(*fixture.peers[leader], "again", "3");
  CHECK(get(any_other(fixture, leader), "again") == "3");
}

TEST_CASE("three peers with leases: reads are right through any of them, also when the leader has gone") {
  PeersFixture fixture;
  fixture.change = [](RaftStoreOptions& options) { options.lease_reads = true; };
  fixture.open(3, no_compaction());
  const std::size_t leader = wait_for_leader(fixture);
  bool held = false;
  REQUIRE(eventually([&] {
    raft(fixture.peers[leader]).inspect([&](const RaftCore& core) { held = core.lease_held(); });
    return held;
  }));
  for (int i = 0; i < 20; ++i) {
    put(*fixture.peers[static_cast<std::size_t>(i) % 3], "k", std::to_string(i));
    for (auto& peer : fixture.peers) CHECK(get(*peer, "k") == std::to_string(i));
  }
  fixture.peers[leader]->stop();
  fixture.peers[leader].reset();
  put_in_the_end(any_other(fixture, leader), "k", "after");
  CHECK(get(any_other(fixture, leader), "k") == "after");
}

TEST_CASE("three peers: without a majority nothing is acknowledged, and errors say what is certain") {
  PeersFixture fixture;
  fixture.change = [](RaftStoreOptions& options) { options.write_deadline = 2s; };
  fixture.open(3, no_compaction());
  const std::size_t leader = wait_for_leader(fixture);
  put(*fixture.peers[leader], "k", "1");
  for (std::size_t i = 0; i < 3; ++i) {
    if (i == leader) continue;
    fixture.peers[i]->stop();
    fixture.peers[i].reset();
  }
  auto written = fixture.peers[leader]->put("k", "2").wait(kSoon);
  REQUIRE_FALSE(written.has_value());
  CHECK((written.error().is(Error::unknown_outcome) || written.error().is(Error::unavailable)));
  auto read = fixture.peers[leader]->get("k").wait(kSoon);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().is(Error::unavailable));
  auto local = fixture.peers[leader]->get("k", {.consistency = Consistency::serializable}).wait(kSoon);
  REQUIRE(local.has_value());
  CHECK(text(local->kv) == "1");
}

TEST_CASE("one peer grows to three while it serves, by learners and promotion; a member may go") {
  PeersFixture fixture;
  const auto addresses = free_addresses(fixture.engine, 3);
  fixture.list = {"a=" + addresses[0]};
  fixture.peers.resize(3);
  fixture.start(0, no_compaction());
  for (int i = 0; i < 100; ++i) put(*fixture.peers[0], "k" + std::to_string(i), "v");
  auto& members = dynamic_cast<StoreMembers&>(*fixture.peers[0]);
  for (std::size_t i = 1; i < 3; ++i) {
    const std::string name(1, static_cast<char>('a' + i));
    auto id = members.add_member(name, addresses[i], true, false).wait(kSoon);
    REQUIRE_MESSAGE(id.has_value(), (id ? "" : id.error().to_string()));
    fixture.list.push_back(name + "=" + addresses[i]);
    fixture.change = [&](RaftStoreOptions& options) {
      options.initial_peers.clear();
      options.join = {addresses[0]};
      options.peer_listen = addresses[i];
    };
    fixture.start(i, no_compaction());
    REQUIRE(eventually([&] { return members.promote_member(*id).wait(kSoon).has_value(); }));
    put(*fixture.peers[i], "from " + name, "v");
  }
  auto all = members.members().wait(kSoon);
  REQUIRE(all.has_value());
  CHECK(all->size() == 3);
  CHECK(std::count_if(all->begin(), all->end(), [](const StoreMember& m) { return m.role == "voter"; }) == 2);
  // The founder goes; the others keep everything.
  REQUIRE(eventually([&] {
    return dynamic_cast<StoreMembers&>(*fixture.peers[1])
        .remove_member(
            raft(fixture.peers[0]).raft_view().configuration.find(PeerId{(*all)[0].id}) != nullptr
                ? std::find_if(all->begin(), all->end(), [](const StoreMember& m) { return m.self; })->id
                : 0,
            false)
        .wait(kSoon)
        .has_value();
  }));
  fixture.peers[0]->stop();
  fixture.peers[0].reset();
  put_in_the_end(*fixture.peers[2], "after", "v");
  CHECK(fixture.peers[1]->range(KeyPrefix("k")).wait(kSoon)->count == 100);
}

TEST_CASE("a peer that was away longer than the log reaches back takes a snapshot, and its watches go on") {
  PeersFixture fixture;
  fixture.change = [](RaftStoreOptions& options) {
    options.segment_bytes = Bytes{64u << 10};
    options.first_segment_bytes = Bytes{64u << 10};
    options.snapshot_log_bytes = Bytes{64u << 10};
  };
  fixture.open(3, no_compaction());
  const std::size_t leader = wait_for_leader(fixture);
  const std::size_t away = (leader + 1) % 3;
  fixture.peers[away]->stop();
  fixture.peers[away].reset();
  const std::string value(2000, 'v');
  StateStore& other = *fixture.peers[(leader + 2) % 3];
  for (int i = 0; i < 200; ++i) put(other, "k" + std::to_string(i % 50), value + std::to_string(i));
  fixture.start(away, no_compaction());
  CHECK(get(*fixture.peers[away], "k49") == value + "199");
  put(*fixture.peers[away], "after", "x");
  REQUIRE(eventually(
      [&] { return raft(fixture.peers[away]).state_hash() == raft(fixture.peers[leader]).state_hash(); }));
}

TEST_CASE("an empty disk under the name of a member that took part is refused, and so is a foreign cluster") {
  PeersFixture fixture;
  fixture.open(3, no_compaction());
  put(*fixture.peers[0], "k", "v");
  put(*fixture.peers[1], "k", "v");
  REQUIRE(eventually([&] {
    for (const Member& member : raft(fixture.peers[0]).raft_view().configuration.members) {
      if (!member.started) return false;
    }
    return true;
  }));
  fixture.peers[2]->stop();
  fixture.peers[2].reset();
  RaftStoreOptions options;
  options.name = "c";
  options.data_dir = fixture.folder / "empty";
  options.initial_peers = fixture.list;
  options.enrol_deadline = 2s;
  auto refused = RaftStore::open(fixture.engine, options);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().to_string().find("add it anew") != std::string::npos);
  CHECK(refused.error().to_string().find("members replace") != std::string::npos);
  options.name = "x";
  options.join = {fixture.list[0].substr(2)};
  options.initial_peers.clear();
  options.peer_listen = "127.0.0.1:1";
  auto unknown = RaftStore::open(fixture.engine, options);
  REQUIRE_FALSE(unknown.has_value());
  CHECK(unknown.error().to_string().find("members add") != std::string::npos);
}

TEST_CASE("an empty disk is not let in by a peer that lags behind: the leader alone says who it is") {
  PeersFixture fixture;
  fixture.change = [](RaftStoreOptions& options) { options.write_deadline = 2s; };
  fixture.open(3, no_compaction());
  const auto stop = [&](std::size_t number) {
    fixture.peers[number]->stop();
    fixture.peers[number].reset();
  };
  put(*fixture.peers[0], "before", "v");
  stop(1);
  put(*fixture.peers[0], "acknowledged", "v");  // by a and c
  stop(0);
  stop(2);
  fixture.start(1, no_compaction());
  RaftStoreOptions options;
  options.name = "c";
  options.data_dir = fixture.folder / "empty";
  options.join = {fixture.list[1].substr(2)};
  options.peer_listen = fixture.list[2].substr(2);
  options.enrol_deadline = 2s;
  auto alone = RaftStore::open(fixture.engine, options);
  REQUIRE_FALSE(alone.has_value());
  CHECK(alone.error().is(Error::unavailable));
  CHECK(alone.error().to_string().find("is a majority of its peers running") != std::string::npos);
  fixture.start(0, no_compaction());
  CHECK(get(*fixture.peers[1], "acknowledged") == "v");
  options.enrol_deadline = 60s;
  auto refused = RaftStore::open(fixture.engine, options);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().is(Error::already_exists));
  CHECK(refused.error().to_string().find("members replace") != std::string::npos);
}

TEST_CASE("a snapshot from a peer that comes too late does not take away the own one of its index") {
  Fixture fixture;
  RaftStoreOptions options;
  options.name = "a";
  options.data_dir = fixture.folder / "a";
  options.peer_listen = free_addresses(fixture.engine, 1)[0];
  options.snapshot_log_bytes = Bytes{1};
  fixture.store = *RaftStore::open(fixture.engine, options);
  put(*fixture.store, "k", "v");
  // The newest of the files, once its record is in the log: then the older ones go.
  std::string own;
  REQUIRE(eventually([&] {
    std::size_t files = 0;
    for (const auto& file : std::filesystem::directory_iterator(options.data_dir)) {
      const std::string name = file.path().filename().string();
      if (name.rfind("snapshot-", 0) != 0) continue;
      ++files;
      own = name;
    }
    return files == 1 && own.size() == 47;
  }));
  const std::string bytes = *fixture.engine.disk().read_file(options.data_dir + "/" + own, 1u << 20);
  const auto self = **LogFile::find_identity(fixture.engine.disk(), options.data_dir);

  Message last;
  last.type = MessageType::snapshot;
  last.from = PeerId{77};
  last.to = PeerId{self.peer};
  last.term = Term{1};
  last.index = Index{std::stoull(own.substr(9, 16), nullptr, 16)};
  last.log_term = Term{std::stoull(own.substr(26, 16), nullptr, 16)};
  last.configuration = raft(fixture.store).raft_view().configuration;
  Hello hello;
  hello.purpose = Purpose::snapshot;
  hello.identity = self;
  hello.identity.peer = 77;
  hello.to = PeerId{self.peer};
  hello.index = Index{1000};  // when it began nothing was there yet
  hello.file_bytes = bytes.size();
  std::atomic<bool> told{false}, beat{false}, taken{false};
  TransportHandler handler;
  handler.on_message = [&, size = bytes.size()](const std::string& frame) {
    if (const auto answer = decode_hello_answer(frame)) told = answer->text == kBeats;
    if (const auto offset = decode_chunk_answer(frame)) {
      if (*offset == size + 2) beat = true;  // it is being verified
      if (*offset == size + 1) taken = true;
    }
  };
  auto connection = fixture.engine.transport().connect(options.peer_listen, handler).wait(kSoon);
  REQUIRE(connection.has_value());
  for (const std::string& frame :
       {encode_hello(hello), encode_chunk({0, bytes}),
        encode_message_frame(FrameKind::snapshot_end, self.cluster, encode_message(last))})
    REQUIRE((*connection)->send(frame).has_value());
  REQUIRE(eventually([&] { return taken.load(); }));
  CHECK(told);
  CHECK(beat);
  (*connection)->close();
  CHECK(std::filesystem::exists(options.data_dir + "/" + own));
  fixture.store->stop();
  fixture.store.reset();
  auto again = RaftStore::open(fixture.engine, options);
  REQUIRE_MESSAGE(again.has_value(), (again ? "" : again.error().to_string()));
  fixture.store = *again;
  CHECK(get(*fixture.store, "k") == "v");
}

TEST_CASE("a snapshot that is not answered is given up when the connection to its receiver breaks") {
  Fixture fixture;
  Engine& engine = fixture.engine;
  // It takes everything, and says nothing about the end.
  std::mutex mutex;
  std::shared_ptr<TransportConnection> raft_connection;
  std::atomic<bool> all_sent{false};
  auto listener =
      engine.transport().listen("127.0.0.1:0", [&](std::shared_ptr<TransportConnection> accepted) {
        TransportHandler handler;
        handler.on_message = [&, accepted](const std::string& frame) {
          if (frame[0] == static_cast<char>(FrameKind::snapshot_end)) all_sent = true;
          if (frame[0] != static_cast<char>(FrameKind::hello)) return;
          (void)accepted->send(encode_hello_answer({}));
          std::lock_guard lock(mutex);
          if (decode_hello(frame)->purpose == Purpose::raft) raft_connection = accepted;
        };
        return handler;
      });
  REQUIRE(listener.has_value());
  PeerNetOptions options;
  options.identity.peer = 1;
  options.name = "a";
  options.listen = "127.0.0.1:0";
  auto net = PeerNet::start(engine, options, PeerHandlers{});
  REQUIRE(net.has_value());
  (*net)->set_members({{PeerId{2}, "b", (*listener)->address(), true}});
  REQUIRE(eventually([&] { return (*net)->connected(PeerId{2}); }));
  const std::string path = fixture.folder / "file";
  std::shared_ptr<DiskFile> file = *engine.disk().open(path, Disk::Open::create_new);
  REQUIRE(file->write_at(0, "bytes").has_value());
  Message last;
  last.type = MessageType::snapshot;
  last.configuration = Configuration{};
  std::atomic<bool> given_up{false};
  (*net)->send_snapshot(PeerId{2}, file, 5, last,
                        [&](const Result<void>& result) { given_up = !result.has_value(); });
  REQUIRE(eventually([&] { return all_sent.load(); }));
  CHECK_FALSE(given_up);
  {
    std::lock_guard lock(mutex);
    raft_connection->close();
    raft_connection.reset();
  }
  CHECK(eventually([&] { return given_up.load(); }));
  (*net)->stop();
  (*listener).reset();
}

TEST_CASE("leadership is handed over on request, and leases survive it") {
  PeersFixture fixture;
  fixture.open(3, no_compaction());
  const std::size_t leader = wait_for_leader(fixture);
  auto lease = any_other(fixture, leader).lease_grant(60s).wait(kSoon);
  REQUIRE(lease.has_value());
  put(any_other(fixture, leader), "leased", "v", {.lease = *lease});
  const auto all = dynamic_cast<StoreMembers&>(*fixture.peers[leader]).members().wait(kSoon);
  REQUIRE(all.has_value());
  const auto heir = std::find_if(all->begin(), all->end(), [](const StoreMember& m) { return !m.self; });
  auto handed =
      dynamic_cast<StoreMembers&>(any_other(fixture, leader)).transfer_leadership(heir->id).wait(kSoon);
  REQUIRE_MESSAGE(handed.has_value(), (handed ? "" : handed.error().to_string()));
  REQUIRE(eventually([&] { return fixture.peers[leader]->status().role != "leader"; }));
  REQUIRE(
      eventually([&] { return fixture.peers[leader]->lease_keep_alive(*lease).wait(kSoon).has_value(); }));
  auto info = fixture.peers[leader]->lease_time_to_live(*lease, true).wait(kSoon);
  REQUIRE(info.has_value());
  CHECK(info->keys == std::vector<std::string>{"leased"});
}

}  // namespace
}  // namespace orchestra::store::test
