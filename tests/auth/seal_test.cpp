// Encryption at rest: what lies in the store, what opens it and what does not.
#include <sys/stat.h>

#include <fstream>

#include "apiserver/seal/sealed_store.hpp"
#include "tests/auth/served.hpp"

using namespace orchestra;
using namespace orchestra::test;
using apiserver::SealedStore;
using apiserver::Sealer;

namespace {
const std::string kKey = "/orchestra/objects/core/secrets/default/s";
const std::string kSecret =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: default}\nstringData: {password: "
    "hunter22}\n";

std::string config(const std::string& providers, const std::string& resources = "secrets") {
  return "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [" +
         resources + "]\n  providers:\n" + providers;
}
std::string key(const std::string& provider, const std::string& name, char fill) {
  // base64 of 32 equal bytes of the letter
  std::string secret;
  secret = fill == 'A' ? "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="
                       : "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=";
  return "  - " + provider + ": {keys: [{name: " + name + ", secret: " + secret + "}]}\n";
}
struct Server {
  Engine engine;
  TempDir folder;
  std::shared_ptr<StateStore> store = MemoryStore::create(engine);
  std::unique_ptr<ApiServer> server;
  Client client;
  void start(const std::string& text = "", KmsPlugins kms = {}) {
    server.reset();
    ApiServerOptions options;
    options.data_directory = folder.path();
    options.kms = std::move(kms);
    if (!text.empty()) {
      std::ofstream(folder / "enc.yaml") << text;
      options.encryption_config = folder / "enc.yaml";
    }
    server = std::make_unique<ApiServer>(engine, store, options);
    const auto started = server->start();
    REQUIRE_MESSAGE(started, (started ? "" : started.error().to_string()));
    client = server->client();
  }
  std::string raw(const std::string& at = kKey) {
    auto found = store->get(at).wait(60s);
    REQUIRE(found);
    return found->kv ? std::string(found->kv->value.bytes()) : std::string();
  }
  std::string password() {
    auto got = client.get("v1", "secrets", "s", "default").wait(60s);
    if (got) return got->get("/data/password").value_or("");
    return std::to_string(got.error().detail<Status>()->code) + " " + got.error().detail<Status>()->message;
  }
};
struct Vault final : KmsPlugin {
  int wrapped = 0, opened = 0;
  bool sealed_up = false;
  Result<Wrapped> encrypt(std::string_view plain) override {
    ++wrapped;
    std::string out(plain);
    for (char& c : out) c = static_cast<char>(c ^ 0x5A);
    return Wrapped{out, "vault-1"};
  }
  Result<std::string> decrypt(const Wrapped& wrapped_key) override {
    ++opened;
    if (sealed_up) return Error(Error::unavailable, "vault", "the vault is sealed");
    std::string out = wrapped_key.ciphertext;
    for (char& c : out) c = static_cast<char>(c ^ 0x5A);
    return out;
  }
};
}  // namespace

TEST_CASE("by default Secrets are sealed in the store with a key that only root reads, other kinds are not") {
  Server s;
  s.start();
  REQUIRE(s.client.create(Object::from_yaml(kSecret).value()).wait(60s));
  CHECK(Sealer::is_sealed(s.raw()));
  CHECK(s.raw().find("aHVudGVyMjI=") == std::string::npos);
  CHECK(s.raw().find("password") == std::string::npos);
  CHECK(s.password() == "aHVudGVyMjI=");
  CHECK_FALSE(Sealer::is_sealed(s.raw("/orchestra/objects/core/namespaces/-/default")));
  struct stat info {};
  REQUIRE(stat((s.folder / "pki/encryption.yaml").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  std::string snapshot;
  REQUIRE(s.store
              ->save_snapshot([&](std::string_view bytes) -> Result<void> {
                snapshot += bytes;
                return {};
              })
              .wait(60s));
  CHECK(snapshot.find("aHVudGVyMjI=") == std::string::npos);
  // Lists and watches above see plain objects; another start reads what this one wrote.
  auto watch = s.client.watch("v1", "secrets", {.ns = "default"});
  REQUIRE(watch);
  auto changes = watch->next(10s);
  REQUIRE(changes);
  CHECK(changes->front().object.get("/data/password") == "aHVudGVyMjI=");
  watch->cancel();
  s.start();
  CHECK(s.password() == "aHVudGVyMjI=");
  auto list = s.client.list("v1", "secrets", {.ns = "default"}).wait(60s);
  REQUIRE(list);
  CHECK(list->items.size() == 1);
}

TEST_CASE("values of transactions within transactions are sealed, and opened in their answers") {
  Engine engine;
  auto below = MemoryStore::create(engine);
  SealedStore sealed(below);
  auto sealer = Sealer::parse(Sealer::make_config(engine.random()), engine.random(), {});
  REQUIRE(sealer);
  sealed.set_sealer(std::move(*sealer));
  const auto nest = [](Txn txn) {
    TxnOp op;
    op.type = TxnOp::Type::txn;
    op.nested.push_back(std::move(txn));
    return op;
  };
  Txn inner;
  inner.then = {TxnOp{.range = Key(kKey), .value = "hunter22"},
                TxnOp{.type = TxnOp::Type::range, .range = Key(kKey)}};
  const Txn outer{{}, {nest(Txn{{}, {nest(inner)}, {}})}, {}};
  const auto made = sealed.txn(outer).wait(60s);
  REQUIRE(made);
  const TxnResult& done = made->ops.at(0).nested.at(0).ops.at(0).nested.at(0);
  REQUIRE(done.ops.at(1).range.items.size() == 1);
  CHECK(done.ops[1].range.items[0].value == Value("hunter22"));
  const auto raw = below->get(kKey).wait(60s);
  REQUIRE(raw);
  REQUIRE(raw->kv);
  CHECK(Sealer::is_sealed(raw->kv->value.bytes()));
  CHECK(raw->kv->value.bytes().find("hunter22") == std::string_view::npos);
  sealed.stop();
}

TEST_CASE(
    "plaintext of before stays readable, is sealed by its next write, and a write without change is none") {
  Server s;
  s.start(config("  - identity: {}\n"));
  REQUIRE(s.client.create(Object::from_yaml(kSecret).value()).wait(60s));
  CHECK_FALSE(Sealer::is_sealed(s.raw()));
  s.start(config(key("aesgcm", "k1", 'A') + "  - identity: {}\n"));
  CHECK(s.password() == "aHVudGVyMjI=");
  REQUIRE(
      s.client
          .patch("v1", "secrets", "s", "default", PatchType::merge, R"({"metadata":{"labels":{"a":"b"}}})")
          .wait(60s));
  CHECK(Sealer::is_sealed(s.raw()));
  const std::string before = s.raw();
  REQUIRE(
      s.client
          .patch("v1", "secrets", "s", "default", PatchType::merge, R"({"metadata":{"labels":{"a":"b"}}})")
          .wait(60s));
  CHECK(s.raw() == before);
}

TEST_CASE("rotation: a new first key writes, the old one reads, and reencrypt makes it needless") {
  Server s;
  for (const char* provider : {"aesgcm", "aescbc"}) {
    s.start(config(key("aesgcm", "old", 'A')));
    REQUIRE(s.client.create(Object::from_yaml(kSecret).value()).wait(60s));
    s.start(config(key(provider, "new", 'B') + key("aesgcm", "old", 'A')));
    CHECK(s.password() == "aHVudGVyMjI=");
    CHECK(s.raw().find(":old:") != std::string::npos);
    auto rewritten = s.server->reencrypt();
    REQUIRE(rewritten);
    CHECK(*rewritten == 1);
    CHECK(s.raw().find(":new:") != std::string::npos);
    CHECK(s.server->reencrypt().value() == 0);
    s.start(config(key(provider, "new", 'B')));
    CHECK(s.password() == "aHVudGVyMjI=");
    if (std::string_view(provider) == "aesgcm") {
      REQUIRE(s.client.remove("v1", "secrets", "s", "default").wait(60s));
    }
  }
  // And back to plain text.
  s.start(config("  - identity: {}\n" + key("aescbc", "new", 'B')));
  REQUIRE(s.server->reencrypt());
  CHECK_FALSE(Sealer::is_sealed(s.raw()));
}

TEST_CASE("a missing or wrong key is a 500 that names key and object, and nothing is overwritten") {
  Server s;
  s.start(config(key("aesgcm", "k1", 'A')));
  REQUIRE(s.client.create(Object::from_yaml(kSecret).value()).wait(60s));
  const std::string before = s.raw();
  s.start(config(key("aesgcm", "k2", 'B')));
  const std::string missing = s.password();
  CHECK(missing.starts_with("500 "));
  CHECK(missing.find("k1") != std::string::npos);
  CHECK(missing.find(kKey) != std::string::npos);
  auto patched =
      s.client.patch("v1", "secrets", "s", "default", PatchType::merge, R"({"data":null})").wait(60s);
  CHECK_FALSE(patched);
  CHECK_FALSE(s.client.list("v1", "secrets", {.ns = "default"}).wait(60s));
  s.start(config(key("aesgcm", "k1", 'B')));
  CHECK(s.password().find("does not open") != std::string::npos);
  CHECK(s.raw() == before);
  s.start(config(key("aesgcm", "k1", 'A')));
  CHECK(s.password() == "aHVudGVyMjI=");
}

TEST_CASE("a sealed value copied to another key, or changed in any byte, does not open") {
  Server s;
  for (const char* provider : {"aesgcm", "aescbc"}) {
    auto sealer = Sealer::parse(config(key(provider, "k", 'A')), s.engine.random(), {});
    REQUIRE(sealer);
    auto sealed = (*sealer)->seal(kKey, "the plain text");
    REQUIRE(sealed);
    CHECK((*sealer)->open(kKey, *sealed).value() == "the plain text");
    CHECK_FALSE((*sealer)->open("/orchestra/objects/core/secrets/default/t", *sealed));
    CHECK(*sealed != (*sealer)->seal(kKey, "the plain text").value());
    for (std::size_t i = 0; i < sealed->size(); ++i) {
      std::string changed = *sealed;
      changed[i] = static_cast<char>(changed[i] ^ 1);
      CHECK_MESSAGE(!(*sealer)->open(kKey, changed), i);
    }
    for (std::size_t i = 0; i < sealed->size(); ++i) CHECK_FALSE((*sealer)->open(kKey, sealed->substr(0, i)));
  }
}

TEST_CASE("a KMS plug-in wraps one data key per start and is asked again only for older ones") {
  Server s;
  auto vault = std::make_shared<Vault>();
  const std::string text = config("  - kms: {apiVersion: v2, name: vault}\n");
  s.start(text, {{"vault", vault}});
  REQUIRE(s.client.create(Object::from_yaml(kSecret).value()).wait(60s));
  CHECK(s.raw().find("vault-1") != std::string::npos);
  CHECK(vault->wrapped == 1);
  CHECK(vault->opened == 0);
  s.start(text, {{"vault", vault}});
  for (int i = 0; i < 3; ++i) CHECK(s.password() == "aHVudGVyMjI=");
  CHECK(vault->opened == 1);
  vault->sealed_up = true;
  s.start(text, {{"vault", vault}});
  CHECK(s.password().find("the vault is sealed") != std::string::npos);
}

TEST_CASE("configurations that cannot be are refused with their place") {
  Engine engine;
  const auto refusal = [&](const std::string& text) {
    auto sealer = Sealer::parse(text, engine.random(), {});
    REQUIRE_FALSE(sealer);
    return sealer.error().message();
  };
  CHECK(refusal(config("  - secretbox: {keys: []}\n")).find("OpenSSL has no XSalsa20") != std::string::npos);
  CHECK(refusal(config("  - aesgcm: {keys: [{name: a, secret: c2hvcnQ=}]}\n")).find("must be 32 bytes") !=
        std::string::npos);
  CHECK(refusal(config("  - aesgcm: {keys: []}\n")).find("resources[0].providers[0].aesgcm.keys") !=
        std::string::npos);
  CHECK(refusal(config("  - rot13: {}\n")).find("unknown provider \"rot13\"") != std::string::npos);
  CHECK(refusal(config("  - kms: {apiVersion: v2, name: none}\n")).find("no plug-in \"none\"") !=
        std::string::npos);
  CHECK(refusal("kind: Other\n").find("EncryptionConfiguration") != std::string::npos);
  CHECK(refusal("a: [").find("encryption configuration") != std::string::npos);
}
