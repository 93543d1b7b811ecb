// `orchestra store` against an existing etcd, and moving a store to one and back.
#include "tests/store/command_run.hpp"
#include "tests/store/etcd_server.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

#define NEEDS_ETCD(name) \
  if (!have_etcd()) ORC_SKIP(name, kNoEtcd)

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_CASE("store commands work on an etcd by its URL") {
  NEEDS_ETCD("store commands on an etcd");
  EtcdServer server;
  const auto store = [&](std::vector<std::string> args, const std::string& input = {}) {
    args.insert(args.end(), {"--endpoint", "etcd+" + server.url()});
    return run(std::move(args), input);
  };
  CHECK(store({"put", "a", "1"}).out == "revision 2\n");
  CHECK(store({"put", "a", "2", "--previous"}).out == "revision 3\na\n1\n");
  CHECK(store({"get", "a"}).out == "a\n2\n");
  CHECK(store({"get", "a", "--revision", "2", "--value-only"}).out == "1");
  CHECK(store({"get", "none"}).status == 3);
  CHECK(store({"put", "a", "x", "--if-revision", "0"}).status == 4);
  CHECK(store({"get", "", "--prefix", "--count"}).out == "1\n");
  CHECK(store({"watch", "a", "--after", "1", "--count", "2"}).out == "PUT 2\na\n1\nPUT 3\na\n2\n");
  CHECK(store({"txn", "-"}, "if value a = 2\nput b 1\nget a\n").out == "held\na\n2\nrevision 4\n");
  CHECK(store({"txn", "-"}, "if value a = 7\nput b 2\n").status == 4);
  CHECK(store({"del", "b"}).out == "removed 1\nrevision 5\n");
  CHECK(has(store({"status"}).out, "kind: etcd\n"));
  CHECK(store({"compact", "4"}).out == "compacted 4\n");
  CHECK(store({"get", "a", "--revision", "2"}).status == 7);
  CHECK(store({"lease", "grant", "60s"}).status == 0);
  CHECK(has(store({"members", "list"}).err, "no peers"));
  CHECK(run({"get", "a", "--endpoint", "etcd+unix:/nowhere", "--timeout", "2s"}).status == 5);
}

TEST_CASE("a store moves into an etcd and back: the same keys, values and leases; a used target is refused") {
  NEEDS_ETCD("migration to and from etcd");
  orchestra::test::TempDir folder;
  const std::string here = folder / "here", back = folder / "back";
  std::string fill;
  for (int i = 0; i < 300; ++i)
    fill += "put k" + std::to_string(i) + " \"" + std::string(static_cast<std::size_t>(i), 'v') + "\"\n";
  REQUIRE(run({"txn", "-", "--data", here}, fill).status == 0);
  REQUIRE(run({"put", "leased", "v", "--lease", "1h", "--data", here}).status == 0);
  const std::string binary("\0\n\xFF", 3);
  REQUIRE(run({"put", "bytes", "-", "--data", here}, binary).status == 0);

  EtcdServer server;
  const std::string url = "etcd+" + server.url();
  const Ran there = run({"migrate", here, url});
  CHECK_MESSAGE(there.status == 0, there.err);
  CHECK(has(there.out, "keys 302\n"));
  CHECK(has(there.out, "leases 1\n"));
  CHECK(run({"get", "bytes", "--value-only", "--endpoint", url}).out == binary);
  CHECK(run({"migrate", here, url}).status == 4);

  const Ran returned = run({"migrate", url, back});
  CHECK_MESSAGE(returned.status == 0, returned.err);
  CHECK(has(returned.out, there.out.substr(there.out.find("sha256"))));
  CHECK(run({"get", "k299", "--value-only", "--data", back}).out == std::string(299, 'v'));
  CHECK(run({"get", "", "--prefix", "--count", "--data", back}).out == "302\n");
  CHECK(has(run({"status", "--data", back}).out, "leases: 1\n"));
}

TEST_CASE("a snapshot of an etcd is one of ours: it can be restored into a folder") {
  NEEDS_ETCD("snapshot of an etcd");
  orchestra::test::TempDir folder;
  EtcdServer server;
  server.put("a", "1");
  server.put("b", "2");
  CHECK(run({"snapshot", "save", folder / "s", "--endpoint", "etcd+" + server.url()}).status == 0);
  CHECK(run({"restore", folder / "s", "--data", folder / "d"}).status == 0);
  CHECK(run({"get", "b", "--value-only", "--data", folder / "d"}).out == "2");
}

}  // namespace
}  // namespace orchestra::store::test
