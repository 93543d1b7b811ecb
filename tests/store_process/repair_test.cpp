// Damage on real disks under load: a peer that starts on damaged files takes a new place and fetches
// everything from the others; what scrubbing finds in a running one is mended from memory.
#include <filesystem>
#include <fstream>

#include "store/raft_store.hpp"
#include "tests/store_process/lab.hpp"

using namespace orchestra;
using namespace orchestra::test;

namespace {

namespace fs = std::filesystem;

void damage(const std::string& file, std::streamoff at) {
  std::fstream segment(file, std::ios::in | std::ios::out | std::ios::binary);
  REQUIRE(segment.good());
  segment.seekp(at);
  segment.write("XXXX", 4);
}
std::string text_of(const std::string& file) {
  std::ifstream in(file);
  return {(std::istreambuf_iterator<char>(in)), {}};
}
void fill(StateStore& store, int count, std::size_t bytes) {
  for (int done = 0; done < count;) {
    std::vector<Pending<WriteResult>> some;
    for (; some.size() < 64 && done < count; ++done)
      some.push_back(store.put("fill" + std::to_string(done), std::string(bytes, 'v')));
    for (auto& each : some) REQUIRE(each.wait(kSoon).has_value());
  }
}
/// It votes under another id than `before`, and has all that `fill` wrote.
void wait_until_replaced(Lab& lab, std::size_t victim, const std::string& before, std::uint64_t count) {
  auto any = lab.client();
  REQUIRE(eventually([&] {
    const auto all = dynamic_cast<StoreMembers&>(*any).members().wait(kSoon);
    if (!all || all->size() != 3) return false;
    for (const StoreMember& member : *all) {
      if (member.name == lab.name(victim))
        return std::to_string(member.id) != before && member.role == "voter";
    }
    return false;
  }));
  any->stop();
  auto back = StoreClient::connect(lab.engine, {.endpoints = {lab.clients[victim]}, .call_deadline = 5s});
  const RangeOptions own{.count_only = true, .consistency = Consistency::serializable};
  REQUIRE(eventually([&] {
    const auto here = (*back)->range(KeyPrefix("fill"), own).wait(kSoon);
    return here && here->count == count;
  }));
  (*back)->stop();
  REQUIRE(eventually([&] { return !fs::exists(lab.data(victim) + "/store/repair"); }));
}

}  // namespace

TEST_CASE("a peer with a corrupted segment fetches what it lost from the others, under load") {
  Lab lab;
  auto client = lab.client(30s);
  fill(*client, 200, 100);
  const std::size_t victim = (lab.leader() + 1) % 3;
  const std::string before = lab.id_of(lab.name(victim));
  Load load(lab);
  CHECK(lab.children[victim]->end(SIGTERM) == 0);
  const std::string segment = lab.data(victim) + "/store/log-00000001.seg";
  damage(segment, 700);
  CHECK(lab.run({"check", "--data", lab.data(victim)}) == 9);
  lab.start(victim);
  wait_until_replaced(lab, victim, before, 200);
  CHECK(fs::exists(lab.data(victim) + "/store/damaged.log-00000001.seg"));

  // It counts: with it, one of the others may go.
  const std::size_t other = lab.leader() == (victim + 1) % 3 ? (victim + 2) % 3 : (victim + 1) % 3;
  lab.children[other]->end(SIGKILL);
  const std::size_t acknowledged = load.acknowledged();
  REQUIRE(eventually([&] { return load.acknowledged() > acknowledged + 30; }));
  lab.start(other);
  // And it starts again as who it is now.
  CHECK(lab.children[victim]->end(SIGTERM) == 0);
  CHECK(lab.run({"check", "--data", lab.data(victim)}) == 0);
  lab.start(victim);
  const std::size_t again = load.acknowledged();
  REQUIRE(eventually([&] { return load.acknowledged() > again + 30; }));
  check(load.finish());
  client->stop();
}

TEST_CASE("a peer that was told that its state is wrong takes everything anew at its next start") {
  Lab lab;
  auto client = lab.client(30s);
  fill(*client, 50, 100);
  const std::size_t victim = (lab.leader() + 1) % 3;
  const std::string before = lab.id_of(lab.name(victim));
  CHECK(lab.children[victim]->end(SIGTERM) == 0);
  // What fail_diverged() leaves (test_sim_bugs, state_rots: the others find such a peer).
  store::RepairMark mark;
  mark.step = "wanted";
  const std::string cluster = client->cluster_id();  // a UUID, a dot, the epoch
  std::string digits;
  for (const char c : cluster.substr(0, cluster.find('.'))) {
    if (c != '-') digits += c;
  }
  REQUIRE(digits.size() == 32);
  for (std::size_t i = 0; i < 16; ++i)
    mark.identity.cluster[i] = static_cast<char>(std::stoul(digits.substr(2 * i, 2), nullptr, 16));
  mark.identity.epoch = static_cast<std::uint32_t>(std::stoul(cluster.substr(cluster.find('.') + 1)));
  mark.identity.peer = std::stoull(before);
  std::ofstream(lab.data(victim) + "/store/repair") << store::encode_repair_mark(mark);
  Load load(lab);
  lab.start(victim);
  wait_until_replaced(lab, victim, before, 50);
  check(load.finish());
  client->stop();
}

TEST_CASE("rot that scrubbing finds in a running peer is mended from memory, under load") {
  Lab lab(3, [](Lab& made) { made.serve_flags = {"--scrub-every", "1s", "--segment-bytes", "65536"}; });
  auto client = lab.client(30s);
  fill(*client, 200, 2000);
  const std::size_t victim = (lab.leader() + 1) % 3;
  const std::string segment = lab.data(victim) + "/store/log-00000002.seg";
  REQUIRE(fs::exists(lab.data(victim) + "/store/log-00000004.seg"));
  Load load(lab);
  damage(segment, 5000);
  const auto log = [&] { return text_of(lab.folder / (lab.name(victim) + ".log")); };
  auto one = StoreClient::connect(lab.engine, {.endpoints = {lab.clients[victim]}, .call_deadline = 5s});
  REQUIRE(eventually([&] { return (*one)->get("ready").wait(kSoon).has_value(); }));
  REQUIRE(eventually([&] { return !fs::exists(segment); }));
  CHECK((*one)->put("goes on", "x").wait(kSoon).has_value());
  (*one)->stop();
  CHECK(lab.children[victim]->end(SIGTERM) == 0);
  CHECK(lab.run({"check", "--data", lab.data(victim)}) == 0);
  lab.start(victim);
  const std::size_t acknowledged = load.acknowledged();
  REQUIRE(eventually([&] { return load.acknowledged() > acknowledged + 30; }));
  check(load.finish());
  client->stop();
  CHECK(log().find("cannot open the store") == std::string::npos);  // nobody was refused
}
