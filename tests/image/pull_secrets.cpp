// An image that was pulled with a login is for pods that have it; what was not pulled for a pod is for all.
#include <sys/stat.h>

#include "base/base64.hpp"
#include "image/pull_record.hpp"
#include "image/service.hpp"
#include "orchestra/image_store.hpp"
#include "tests/image/fake_registry.hpp"

using namespace orchestra;
using namespace orchestra::image;
using namespace orchestra::image::test;
using namespace std::chrono_literals;
using orchestra::test::TempDir;

namespace {

/// A registry that hands out its images to alice and to bob, and `team/open` to everybody.
struct SecretsFixture {
  TempDir dir;
  Engine engine;
  FakeRegistry registry{engine};
  std::shared_ptr<ImageStore> store;
  std::string layer = TarText().file("one", "1").finish();

  SecretsFixture() {
    registry.set_hook([](const HttpServerRequest& request, HttpResponder& responder) {
      const auto found = request.headers.find("authorization");
      const std::string given = found == request.headers.end() ? "" : found->second;
      const bool good = given == basic("alice:1") || given == basic("bob:2") ||
                        request.target.find("/team/open/") != std::string::npos;
      if (good) return false;
      responder.respond(401, {{"WWW-Authenticate", "Basic realm=x"}}, "");
      return true;
    });
    open();
  }
  void open() {
    store.reset();
    ImageStoreOptions options;
    options.dir = dir / "store";
    options.http = make_http_client(engine);
    options.registry_retry_delay = 10ms;
    store = ImageStore::open(engine, options).value();
  }
  static std::string basic(const std::string& login) { return "Basic " + encode_base64_text(login); }
  std::string secret(const std::string& login) const {
    return "{\"auths\":{\"" + registry.host() + "\":{\"auth\":\"" + encode_base64_text(login) + "\"}}}";
  }
  /// "" when the pod gets the image, else why not.
  std::string ensure(const std::string& image, PullPolicy policy, const std::string& login) {
    PullRequest request;
    request.reference = registry.host() + "/" + image;
    request.policy = policy;
    if (!login.empty()) request.docker_configs.push_back(secret(login));
    const auto got = store->service()->ensure(request).wait(60s);
    return got ? "" : got.error().message();
  }
  std::size_t asked() { return registry.requests().size(); }
};
bool says(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("an image that came with a login is not handed to a pod without it") {
  SecretsFixture f;
  f.registry.image("team/app:1", {f.layer});
  REQUIRE(f.ensure("team/app:1", PullPolicy::if_not_present, "alice:1").empty());
  std::size_t before = f.asked();
  CHECK(f.ensure("team/app:1", PullPolicy::if_not_present, "alice:1").empty());
  CHECK(f.ensure("team/app:1", PullPolicy::never, "alice:1").empty());
  CHECK(f.asked() == before);  // known: nobody is asked

  CHECK(says(f.ensure("team/app:1", PullPolicy::if_not_present, ""), "401"));
  CHECK(says(f.ensure("team/app:1", PullPolicy::if_not_present, "mallory:3"), "401"));
  CHECK(says(f.ensure("team/app:1", PullPolicy::never, ""),
             "its pull policy is Never; name a secret with the login"));
  CHECK(says(f.ensure("team/app:1", PullPolicy::never, "bob:2"), "its pull policy is Never"));

  // Bob's login is as good, once the registry said so.
  before = f.asked();
  CHECK(f.ensure("team/app:1", PullPolicy::if_not_present, "bob:2").empty());
  CHECK(f.asked() > before);
  before = f.asked();
  CHECK(f.ensure("team/app:1", PullPolicy::never, "bob:2").empty());
  CHECK(f.asked() == before);

  f.open();  // a new program on the same store knows it too
  CHECK(f.ensure("team/app:1", PullPolicy::never, "alice:1").empty());
  CHECK(says(f.ensure("team/app:1", PullPolicy::never, ""), "its pull policy is Never"));

  // The same content under a name that everybody may pull does not open the other name.
  f.registry.image("team/open:1", {f.layer});
  CHECK(f.ensure("team/open:1", PullPolicy::if_not_present, "").empty());
  CHECK(f.ensure("team/open:1", PullPolicy::never, "mallory:3").empty());
  CHECK(says(f.ensure("team/app:1", PullPolicy::never, ""), "its pull policy is Never"));
}

TEST_CASE("images that no pod pulled are for all: imported, pulled by hand") {
  SecretsFixture f;
  f.registry.image("team/app:1", {f.layer});
  ImagePullOptions by_hand;
  by_hand.credentials = RegistryCredentials{"alice", "1"};
  REQUIRE(f.store->pull(f.registry.host() + "/team/app:1", by_hand).wait(60s));
  CHECK(f.ensure("team/app:1", PullPolicy::never, "").empty());
  CHECK(f.ensure("team/app:1", PullPolicy::if_not_present, "").empty());
}

TEST_CASE("an image by its id is as closed as by its name") {
  SecretsFixture f;
  f.registry.image("team/app:1", {f.layer});
  REQUIRE(f.ensure("team/app:1", PullPolicy::if_not_present, "alice:1").empty());
  PullRequest request;
  request.reference = f.store->lookup(f.registry.host() + "/team/app:1").value()->id;
  const auto refused = f.store->service()->ensure(request).wait(60s);
  REQUIRE(!refused);
  CHECK_MESSAGE(says(refused.error().message(), "for pods with its login only"), refused.error().message());
}

TEST_CASE("a program that ends between a pull and its record leaves the image closed") {
  SecretsFixture f;
  f.registry.image("team/app:1", {f.layer});
  const ImageReference name = ImageReference::parse(f.registry.host() + "/team/app:1").value();
  ImagePullOptions alice;
  alice.credentials = RegistryCredentials{"alice", "1"};
  REQUIRE(f.store->internal()->pull_records().begin(name));
  REQUIRE(f.store->pull(f.registry.host() + "/team/app:1", alice).wait(60s));  // it is here, and ends now
  f.open();
  CHECK(says(f.ensure("team/app:1", PullPolicy::never, ""), "its pull policy is Never"));
  CHECK(says(f.ensure("team/app:1", PullPolicy::if_not_present, ""), "401"));
  CHECK(f.ensure("team/app:1", PullPolicy::if_not_present, "alice:1").empty());
  f.open();
  CHECK(f.ensure("team/app:1", PullPolicy::never, "alice:1").empty());
  CHECK(says(f.ensure("team/app:1", PullPolicy::never, ""), "its pull policy is Never"));
}

TEST_CASE("records: no login is readable in them, damage is an error and not a way in") {
  TempDir dir;
  const std::string folder = dir / "pulled", manifest = "sha256:" + std::string(64, 'a');
  const ImageReference name = ImageReference::parse("registry.example/team/app:1").value();
  PullRecords records(folder);
  const RegistryCredentials alice{"alice", "password-of-alice"}, other{"alice", "another"};
  CHECK(records.allows(manifest, name, {}).value());
  REQUIRE(records.note(manifest, name, &alice));
  CHECK(records.allows(manifest, name, {other, alice}).value());
  CHECK(!records.allows(manifest, name, {other}).value());
  CHECK(!records.allows(manifest, ImageReference::parse("registry.example/team/other:1").value(), {alice})
             .value());
  CHECK(records.allows(manifest, ImageReference::parse("registry.example/team/app:2").value(), {alice})
            .value());
  const std::string file = folder + "/" + std::string(64, 'a') + ".json";
  const std::string text = read_file(file, 1 << 20).value();
  CHECK(text.find("alice") == std::string::npos);
  struct stat status {};
  REQUIRE(::stat(file.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  REQUIRE(records.note(manifest, name, nullptr));
  CHECK(records.allows(manifest, name, {}).value());
  REQUIRE(replace_file(file, "[]", 0600, false));
  const auto damaged = records.allows(manifest, name, {alice});
  REQUIRE(!damaged);
  CHECK(damaged.error().message() == file + ": not a record of pulls");
  records.keep_only([](const std::string&) { return false; });
  CHECK(!records.has(manifest));
}
