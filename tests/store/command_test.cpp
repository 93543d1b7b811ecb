// `orchestra store` on a stopped folder and through the control socket of a running one.
#include "orchestra/store_command.hpp"

#include <atomic>
#include <thread>

#include "base/control.hpp"
#include "orchestra/raft_store.hpp"
#include "store/ops.hpp"
#include "tests/store/command_run.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

/// The same commands and the same answers, whoever has the store open.
void check_commands(const std::string& data) {
  const auto store = [&](std::vector<std::string> args, const std::string& input = {}) {
    args.insert(args.end(), {"--data", data});
    return run(std::move(args), input);
  };
  CHECK(store({"put", "a", "1"}).out == "revision 2\n");
  CHECK(store({"put", "a", "2", "--previous"}).out == "revision 3\na\n1\n");
  CHECK(store({"get", "a"}).out == "a\n2\n");
  CHECK(store({"get", "a", "--value-only"}).out == "2");
  CHECK(store({"get", "a", "--revision", "2"}).out == "a\n1\n");
  const std::string binary("\0\n\xFF", 3);
  CHECK(store({"put", "bytes", "-"}, binary).status == 0);
  CHECK(store({"get", "bytes", "--value-only"}).out == binary);
  CHECK(store({"get", "", "--prefix", "--keys-only"}).out == "a\nbytes\n");
  CHECK(store({"get", "", "--prefix", "--count"}).out == "2\n");
  CHECK(store({"get", "a", "--range-end", "b", "--json"}).out.find("\"count\":1") != std::string::npos);

  const Ran taken = store({"put", "a", "x", "--if-revision", "0"});
  CHECK(taken.status == 4);
  CHECK(taken.err.find("is at revision 3") != std::string::npos);
  const Ran missing = store({"get", "nothing"});
  CHECK(missing.status == 3);
  CHECK(missing.err.find("there is no key \"nothing\"") != std::string::npos);
  CHECK(store({"watch", "", "--prefix", "--after", "1", "--count", "2"}).out == "PUT 2\na\n1\nPUT 3\na\n2\n");
  CHECK(store({"compact", "3"}).out == "compacted 3\n");
  CHECK(store({"get", "a", "--revision", "2"}).status == 7);
  CHECK(store({"watch", "a", "--after", "1"}).status == 7);
  CHECK(store({"del", "bytes"}).out == "removed 1\nrevision 5\n");
  CHECK(store({"status"}).out.find("revision: 5\n") != std::string::npos);
  CHECK(store({"put", "leased", "v", "--lease", "1h"}).status == 0);
  const std::string swap =
      "# the old value, and nobody else\nif value a = 2\nif missing b\nput a \"three words here\"\n"
      "put b x\nget a\ndel leased\nelse\nget a\n";
  CHECK(store({"txn", "-"}, swap).out == "held\na\nthree words here\nremoved 1\nrevision 7\n");
  const Ran late = store({"txn", "-"}, swap);
  CHECK(late.status == 4);
  CHECK(late.out == "did not hold\na\nthree words here\nrevision 7\n");
  const Ran within =
      store({"txn", "-"}, "get a\ntxn\nif missing a\nput a 1\nelse\nget b\ndel b\nput d y\nend\nput c z\n");
  CHECK(within.status == 0);
  CHECK(within.out == "held\na\nthree words here\ndid not hold\nb\nx\nremoved 1\nrevision 8\n");
  CHECK(store({"txn", "-"}, "put b x\ndel c\ndel d\n").status == 0);
  CHECK(store({"txn", "-"}, "put a 1\nput a 2\n").status == 2);
  CHECK(store({"txn", "-"}, "if value a = \"open\nput a 1\n").err.find("line 1") != std::string::npos);
  CHECK(store({"txn", "-", "--json"}, "get \"\" --prefix\n").out.find("\"succeeded\":true") !=
        std::string::npos);
  CHECK(store({"del", "b"}).status == 0);
}

TEST_CASE("store commands open a stopped folder themselves") {
  orchestra::test::TempDir folder;
  check_commands(folder.path());
}

TEST_CASE("store commands reach a running store through its control socket") {
  orchestra::test::TempDir folder;
  Engine engine;
  RaftStoreOptions options;
  options.data_dir = folder / "store";
  auto store = RaftStore::open(engine, options);
  REQUIRE(store.has_value());
  ControlServer server(engine, folder / "control.sock");
  register_store_ops(server, *store);
  REQUIRE(server.start().has_value());
  check_commands(folder.path());
  CHECK((*store)->revision() == 10);
  CHECK(run({"restore", folder / "none", "--data", folder.path()}).status == 4);
}

TEST_CASE("serve keeps a store open for other commands, and a watch outlives its restart") {
  orchestra::test::TempDir folder;
  const std::string data = folder / "d";
  std::atomic<bool> stop{false};
  const auto serve = [&] {
    std::FILE* out = std::tmpfile();
    StoreCommandOptions options;
    options.stop = &stop;
    CHECK(run_store_command(
              {"serve", "--data", data, "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"}, out,
              stderr, options) == 0);
    std::fclose(out);
  };
  const auto is_up = [&] { return ControlClient::connect(data + "/control.sock").has_value(); };
  std::thread first(serve);
  REQUIRE(eventually(is_up));
  CHECK(run({"put", "k", "1", "--data", data}).out == "revision 2\n");
  Ran watched;
  std::thread watcher([&] { watched = run({"watch", "k", "--after", "1", "--count", "3", "--data", data}); });
  CHECK(run({"put", "k", "2", "--data", data}).status == 0);
  REQUIRE(eventually([&] {
    return run({"status", "--data", data}).out.find("watchers: 1\n") != std::string::npos;
  }));
  stop = true;
  first.join();
  stop = false;
  std::thread second(serve);
  REQUIRE(eventually(is_up));
  CHECK(run({"put", "k", "3", "--data", data}).out == "revision 4\n");
  watcher.join();
  CHECK(watched.status == 0);
  CHECK(watched.out == "PUT 2\nk\n1\nPUT 3\nk\n2\nPUT 4\nk\n3\n");
  stop = true;
  second.join();
}

TEST_CASE("usage mistakes exit with 2 and one sentence, a missing store with 3") {
  orchestra::test::TempDir folder;
  CHECK(run({"get", "k", "--endpoint", "127.0.0.1:1", "--timeout", "1s"}).status == 5);
  CHECK(run({"get", "--data", folder.path()}).status == 2);
  CHECK(run({"frob", "--data", folder.path()}).status == 2);
  CHECK(run({"get", "k", "--frob"}).err == "orchestra store: there is no option --frob\n");
  CHECK(run({"get", "k", "--revision", "x", "--data", folder.path()}).status == 2);
  CHECK(run({"get", "k", "--data", folder.path()}).status == 3);
  CHECK(run({"help"}).status == 0);
  CHECK(run({}).status == 2);
}

TEST_CASE("snapshot save, status and restore: same content, new cluster, raised revision") {
  orchestra::test::TempDir folder;
  const std::string data = folder / "a";
  const std::string file = folder / "backup";
  for (int i = 0; i < 20; ++i) {
    REQUIRE(run({"put", "k" + std::to_string(i), "v" + std::to_string(i), "--data", data}).status == 0);
  }
  const Ran saved = run({"snapshot", "save", file, "--data", data});
  CHECK(saved.status == 0);
  CHECK(saved.out.find("revision 21\nkeys 20\n") == 0);
  CHECK(run({"snapshot", "status", file}).out == saved.out);
  CHECK_FALSE(std::filesystem::exists(file + ".part"));
  // Where values are sealed the file alone is not enough, and that is said.
  const std::string keys = data + "/pki/encryption.yaml";
  std::filesystem::create_directory(data + "/pki");
  std::fclose(std::fopen(keys.c_str(), "w"));
  CHECK(run({"snapshot", "save", folder / "sealed", "--data", data})
            .out.find("Sealed values in this file open only with " + keys + ": keep a copy of it apart.\n") ==
        0);

  const std::string bumped = folder / "b";
  CHECK(run({"restore", file, "--data", bumped}).status == 0);
  CHECK(run({"get", "k7", "--value-only", "--data", bumped}).out == "v7");
  CHECK(run({"put", "more", "x", "--data", bumped}).out == "revision 1000000022\n");
  CHECK(run({"watch", "k7", "--after", "21", "--data", bumped}).status == 7);
  CHECK(run({"restore", file, "--data", bumped}).status == 4);

  const std::string exact = folder / "c";
  CHECK(run({"restore", file, "--data", exact, "--bump-revision", "0"}).status == 0);
  CHECK(run({"get", "k7", "--revision", "9", "--value-only", "--data", exact}).out == "v7");
  CHECK(run({"put", "more", "x", "--data", exact}).out == "revision 22\n");

  // From the folder of a peer that is the only one left: all that it has, as a cluster of one.
  CHECK(run({"restore", exact, "--data", folder / "f"}).err.find("--force-new-cluster") != std::string::npos);
  CHECK(run({"restore", exact, "--data", folder / "f", "--force-new-cluster"}).status == 0);
  CHECK(run({"get", "more", "--value-only", "--data", folder / "f"}).out == "x");
  CHECK(run({"put", "again", "x", "--data", folder / "f"}).out == "revision 1000000023\n");
  CHECK(run({"restore", folder / "none", "--data", folder / "g", "--force-new-cluster"}).status != 0);

  std::FILE* broken = std::fopen(file.c_str(), "r+");
  std::fseek(broken, 150, SEEK_SET);
  std::fputc('!', broken);
  std::fclose(broken);
  CHECK(run({"snapshot", "status", file}).status == 9);
  CHECK(run({"restore", file, "--data", folder / "d"}).status == 9);
  CHECK_FALSE(std::filesystem::exists(folder / "d/store"));
}

}  // namespace
}  // namespace orchestra::store::test
