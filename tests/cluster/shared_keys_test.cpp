// The keys that API servers share: sealed by the token, opened by nothing else.
#include "cluster/shared_keys.hpp"

#include "base/fd.hpp"
#include "orchestra/memory_store.hpp"
#include "sim/sim_env.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::cluster;

TEST_CASE("sealed keys open with the token that sealed them, and a wrong one is refused by name") {
  sim::SimRandom random(7);
  const SharedFiles files{{"ca.key", "secret\n"}, {"ca.crt", std::string("\0binary", 7)}, {"empty", ""}};
  auto sealed = seal(files, "the-token-of-this-cluster", random);
  REQUIRE(sealed.has_value());
  CHECK(sealed->find("secret") == std::string::npos);
  auto opened = unseal(*sealed, "the-token-of-this-cluster");
  REQUIRE(opened.has_value());
  CHECK(*opened == files);
  auto refused = unseal(*sealed, "another-token-than-that");
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().is(Error::denied));
  CHECK(refused.error().message().find("--token-file") != std::string::npos);
  std::string damaged = *sealed;
  damaged[damaged.size() / 2] ^= 1;
  CHECK_FALSE(unseal(damaged, "the-token-of-this-cluster").has_value());
  CHECK_FALSE(unseal("", "the-token-of-this-cluster").has_value());
}

TEST_CASE("the first peer makes token and keys, the second takes them, and nobody replaces them") {
  orchestra::test::TempDir folder;
  Engine engine;
  auto store = MemoryStore::create(engine);
  sim::SimRandom random(8);
  auto token = load_token(folder / ".", "", true, random);
  REQUIRE(token.has_value());
  CHECK(*load_token(folder / ".", "", true, random) == *token);
  CHECK_FALSE(load_token(folder / "elsewhere", "", false, random).has_value());
  CHECK_FALSE(*take_shared_keys(*store, folder / "b", *token));
  REQUIRE(make_directories(folder / "a/pki", 0700).has_value());
  REQUIRE(replace_file(folder / "a/pki/ca.key", "first", 0600, false).has_value());
  CHECK(*put_shared_keys(*store, folder / "a", *token, random));
  CHECK(*take_shared_keys(*store, folder / "b", *token));
  CHECK(*read_file(folder / "b/pki/ca.key", 100) == "first");
  REQUIRE(replace_file(folder / "a/pki/ca.key", "second", 0600, false).has_value());
  CHECK_FALSE(*put_shared_keys(*store, folder / "a", *token, random));
  CHECK(take_shared_keys(*store, folder / "c", "wrong-wrong-wrong-wrong").error().is(Error::denied));
  store->stop();
}
