// Backups that grow and stores made from them; a restore that several peers share.
#include <atomic>
#include <thread>

#include "base/fd.hpp"
#include "orchestra/raft_store.hpp"
#include "store/backup.hpp"
#include "tests/store/command_run.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

std::string dump(const std::string& data) {
  return run({"get", "", "--prefix", "--json", "--data", data}).out;
}
std::string word_after(const std::string& text, const std::string& word) {
  const std::size_t at = text.find(word);
  REQUIRE(at != std::string::npos);
  const std::size_t from = at + word.size();
  return text.substr(from, text.find('\n', from) - from);
}
std::vector<std::string> files_of(const std::string& folder, const std::string& prefix) {
  auto names = *real_disk().list(folder);
  std::erase_if(names, [&](const std::string& name) { return name.rfind(prefix, 0) != 0; });
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

TEST_CASE("a backup holds what changed since the last one, and gives back every revision in between") {
  orchestra::test::TempDir folder;
  const std::string data = folder / "d", kept = folder / "backup";
  const auto store = [&](std::vector<std::string> args, const std::string& input = {}) {
    args.insert(args.end(), {"--data", data});
    return run(std::move(args), input);
  };
  const std::string binary("\0\n\xFF", 3);
  REQUIRE(store({"put", "a", "1"}).status == 0);  // revision 2
  const Ran first = store({"backup", kept});
  CHECK_MESSAGE(first.status == 0, first.err);
  CHECK(first.out.find("full backup of revision 2\nchanges 0") == 0);
  std::vector<std::string> at{"", "", dump(data)};  // by revision
  const auto change = [&](std::vector<std::string> args, const std::string& input = {}) {
    REQUIRE(store(std::move(args), input).status == 0);
    at.push_back(dump(data));
  };
  change({"put", "bytes", "-"}, binary);
  change({"put", "a", "2"});
  change({"txn", "-"}, "put b 1\nput c 2\ndel a\n");
  change({"put", "leased", "v", "--lease", "1h"});
  CHECK(word_after(store({"backup", kept}).out, "changes ") == "6 after revision 2");
  change({"put", "a", "again"});
  change({"del", "", "--prefix"});
  change({"put", "last", "one"});
  CHECK(store({"backup", kept}).status == 0);
  CHECK(word_after(store({"backup", kept}).out, "changes ") == "0 after revision 9");  // nothing new, no file
  CHECK(files_of(kept, "full-").size() == 1);
  CHECK(files_of(kept, "changes-").size() == 2);
  for (std::size_t revision = 2; revision < at.size(); ++revision) {
    const std::string to = folder / ("r" + std::to_string(revision));
    const Ran made = run(
        {"restore", kept, "--to-revision", std::to_string(revision), "--bump-revision", "0", "--data", to});
    CHECK_MESSAGE(made.status == 0, made.err);
    CHECK(dump(to) == at[revision]);  // keys, values, versions, creation, leases' keys
    CHECK(word_after(run({"status", "--data", to}).out, "revision: ") == std::to_string(revision));
  }
  CHECK(run({"status", "--data", folder / "r6"}).out.find("leases: 1\n") != std::string::npos);
  CHECK(run({"restore", kept, "--to-revision", "77", "--data", folder / "no"}).status == 3);
  CHECK(run({"restore", kept, "--to-revision", "1", "--data", folder / "no"}).status == 3);

  // Restored, it is another life: its changes do not belong behind the old ones.
  REQUIRE(run({"restore", kept, "--data", folder / "new"}).status == 0);
  const Ran other = run({"backup", kept, "--data", folder / "new"});
  CHECK(other.status == 2);
  CHECK(other.err.find("another life") != std::string::npos);
}

TEST_CASE("a backup that came too late says so, one that is damaged or has a hole is refused by name") {
  orchestra::test::TempDir folder;
  const std::string data = folder / "d", kept = folder / "backup";
  const auto store = [&](std::vector<std::string> args) {
    args.insert(args.end(), {"--data", data});
    return run(std::move(args));
  };
  for (const char* value : {"1", "2"}) {
    REQUIRE(store({"put", "a", value}).status == 0);
    REQUIRE(store({"backup", kept}).status == 0);
  }
  REQUIRE(store({"put", "a", "3"}).status == 0);
  REQUIRE(store({"put", "a", "4"}).status == 0);
  REQUIRE(store({"compact", "5"}).status == 0);
  const Ran late = store({"backup", kept});
  CHECK(late.status == 7);
  CHECK(late.err.find("--full") != std::string::npos);
  CHECK(store({"backup", kept, "--full"}).status == 0);
  REQUIRE(store({"put", "a", "5"}).status == 0);
  REQUIRE(store({"backup", kept}).status == 0);
  CHECK(run({"restore", kept, "--bump-revision", "0", "--data", folder / "all"}).status == 0);
  CHECK(dump(folder / "all") == dump(data));
  const Ran hole = run({"restore", kept, "--to-revision", "4", "--data", folder / "hole"});
  CHECK(hole.status == 9);
  CHECK(hole.err.find("lacks the changes between revision 3 and 5") != std::string::npos);

  const std::string file = kept + "/" + files_of(kept, "changes-").back();
  const std::string whole = *real_disk().read_file(file, 1 << 20);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string bad = whole;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    REQUIRE(replace_file(file, bad, 0600, false).has_value());
    const Ran refused = run({"restore", kept, "--data", folder / "bad"});
    CHECK(refused.status == 9);
    CHECK(refused.err.find(" is damaged at offset ") != std::string::npos);
  }
  REQUIRE(replace_file(file, whole.substr(0, whole.size() - 3), 0600, false).has_value());
  CHECK(run({"restore", kept, "--data", folder / "bad"}).status == 9);
  CHECK_FALSE(real_disk().exists(folder / "bad/store"));
}

TEST_CASE("a backup that follows writes file after file until it is told to stop") {
  orchestra::test::TempDir folder;
  Engine engine;
  RaftStoreOptions options;
  options.data_dir = folder / "d";
  auto opened = RaftStore::open(engine, options);
  REQUIRE(opened.has_value());
  std::atomic<bool> stop{false};
  BackupOptions wanted;
  wanted.follow = 1s;
  wanted.stopped = [&] { return stop.load(); };
  std::optional<Result<BackupSummary>> done;
  std::thread backup([&] { done = back_up(**opened, real_disk(), folder / "b", wanted); });
  int written = 0;
  while (!real_disk().exists(folder / "b") || files_of(folder / "b", "changes-").size() < 2) {
    REQUIRE((*opened)->put("k" + std::to_string(++written), "v").wait(60s).has_value());
    const Promise<> nobody;
    (void)nobody.pending().wait(100ms);
  }
  stop = true;
  backup.join();
  REQUIRE(done->has_value());
  CHECK((*done)->upto == (*opened)->revision());
  MvccState state;
  LogIdentity identity;
  REQUIRE(read_backup(real_disk(), folder / "b", 0, state, identity).has_value());
  CHECK(state.tree().size() == static_cast<std::uint64_t>(written));
  (*opened)->stop();
}

TEST_CASE("one snapshot restored for three peers makes one cluster of them, that has its content") {
  orchestra::test::TempDir folder;
  REQUIRE(run({"put", "a", "1", "--data", folder / "d"}).status == 0);
  REQUIRE(run({"put", "a", "2", "--data", folder / "d"}).status == 0);
  REQUIRE(run({"snapshot", "save", folder / "s", "--data", folder / "d"}).status == 0);
  std::vector<std::string> names{"a", "b", "c"}, addresses;
  std::string list;
  {
    Engine engine;
    std::vector<std::unique_ptr<TransportListener>> held;
    for (const std::string& name : names) {
      held.push_back(
          std::move(*engine.transport().listen("127.0.0.1:0", [](auto) { return TransportHandler{}; })));
      addresses.push_back(held.back()->address());
      list += (list.empty() ? "" : ",") + name + "=" + addresses.back();
    }
  }
  CHECK(
      run({"restore", folder / "s", "--data", folder / "x", "--name", "z", "--initial-peers", list}).status ==
      2);
  for (const std::string& name : names) {
    const Ran made =
        run({"restore", folder / "s", "--data", folder / name, "--name", name, "--initial-peers", list});
    CHECK_MESSAGE(made.status == 0, made.err);
  }
  Engine engine;
  std::vector<std::shared_ptr<StateStore>> peers;
  for (const std::string& name : names) {
    RaftStoreOptions options;
    options.data_dir = folder / (name + "/store");
    options.name = name;
    options.peer_listen = addresses[peers.size()];
    auto opened = RaftStore::open(engine, options);
    REQUIRE_MESSAGE(opened.has_value(), opened.error().to_string());
    peers.push_back(*opened);
  }
  REQUIRE(eventually([&] { return peers[0]->put("b", "3").wait(60s).has_value(); }));
  CHECK(peers[0]->cluster_id() == peers[2]->cluster_id());
  for (auto& peer : peers) {
    const auto got = peer->get("a").wait(60s);
    REQUIRE(got.has_value());
    REQUIRE(got->kv.has_value());
    CHECK(got->kv->value.bytes() == "2");
    CHECK(got->revision > 1'000'000'000);  // nobody's cache takes it for the old one
    CHECK(dynamic_cast<StoreMembers&>(*peer).members().wait(60s)->size() == 3);
  }
  for (auto& peer : peers) peer->stop();
}

}  // namespace orchestra::store::test
