// Pulling from a registry that answers in every way that registries do.
#include <atomic>
#include <filesystem>

#include "base/base64.hpp"
#include "image/registry/auth.hpp"
#include "image/store.hpp"
#include "net/http/tls_context.hpp"
#include "orchestra/image_store.hpp"
#include "tests/image/fake_registry.hpp"

using namespace orchestra;
using namespace orchestra::image;
using namespace orchestra::image::test;
using namespace std::chrono_literals;
using orchestra::test::TempDir;

namespace {

struct Puller {
  TempDir dir;
  Engine engine;
  std::shared_ptr<ImageStore> store;
  std::vector<std::string> layers{TarText().file("one", std::string(100'000, '1')).finish(),
                                  TarText().file("two", "2").finish(), TarText().file("three", "3").finish()};

  explicit Puller(ImageStoreOptions options = {}) {
    options.dir = dir / "store";
    options.http = make_http_client(engine);
    options.registry_retry_delay = 10ms;
    store = ImageStore::open(engine, options).value();
  }
  Result<ImageInfo> pull(const std::string& name, ImagePullOptions options = {}) {
    return store->pull(name, std::move(options)).wait(60s);
  }
};

std::string header(const HttpServerRequest& request, const char* name) {
  const auto found = request.headers.find(name);
  return found == request.headers.end() ? "" : found->second;
}

}  // namespace

TEST_CASE("an image is pulled: whole, named, pinned; a second pull asks once and downloads nothing") {
  Puller f;
  FakeRegistry registry(f.engine);
  const std::string digest = registry.image("team/app:1", f.layers);
  const std::string name = registry.host() + "/team/app:1";
  const auto pulled = f.pull(name);
  REQUIRE_MESSAGE(pulled, why(pulled));
  CHECK(pulled->digest == digest);
  CHECK(pulled->pinned == registry.host() + "/team/app@" + digest);
  const auto plan = f.store->prepare_root(name, "look", Isolation::process).wait(30s).value();
  CHECK(read_file(plan.directory + "/three", 10).value() == "3");

  const std::size_t before = registry.requests().size();
  REQUIRE(f.pull(name));
  CHECK(registry.requests().size() == before + 1);
  CHECK(registry.requests().back().method == "HEAD");

  SUBCASE("a tag that moved is followed") {
    const std::string other = registry.image("team/app:1", {f.layers[1]});
    CHECK(f.pull(name)->digest == other);
  }
  SUBCASE("by digest nothing is asked for what is here") {
    const auto by_digest = f.pull(registry.host() + "/team/app@" + digest);
    REQUIRE_MESSAGE(by_digest, why(by_digest));
    CHECK(by_digest->digest == digest);
  }
}

TEST_CASE("of an index this machine's image is taken, and the index stays its pin") {
  Puller f;
  FakeRegistry registry(f.engine);
  const std::string digest = registry.image("app:only", f.layers);
  const auto entry = [&](const std::string& architecture) {
    return "{\"mediaType\":\"" + std::string(kOciManifest) + "\",\"digest\":\"" + digest +
           "\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"" + architecture + "\"}}";
  };
  const std::string start =
      "{\"schemaVersion\":2,\"mediaType\":\"" + std::string(kOciIndex) + "\",\"manifests\":[";
  const std::string index = registry.manifest(
      "app:multi", start + entry("unknown") + "," + entry(host_platform().architecture) + "]}", kOciIndex);
  const auto pulled = f.pull(registry.host() + "/app:multi");
  REQUIRE_MESSAGE(pulled, why(pulled));
  CHECK(pulled->digest == digest);
  CHECK(pulled->pinned.ends_with(index));

  registry.manifest("app:foreign", start + entry("s390x") + "," + entry("riscv64") + "]}", kOciIndex);
  const auto foreign = f.pull(registry.host() + "/app:foreign");
  REQUIRE_FALSE(foreign);
  CHECK(foreign.error().is(Error::unsupported));
  CHECK(foreign.error().message().find("it exists for: linux/s390x, linux/riscv64") != std::string::npos);
}

TEST_CASE("Basic: the login is sent after the challenge, a wrong one is named without its password") {
  Puller f;
  FakeRegistry registry(f.engine);
  registry.image("app:1", f.layers);
  registry.set_hook([](const HttpServerRequest& request, HttpResponder& responder) {
    if (header(request, "authorization") == "Basic " + encode_base64_text("alice:secret")) return false;
    responder.respond(401, {{"WWW-Authenticate", "Basic realm=\"a, b\""}}, "");
    return true;
  });
  ImagePullOptions options;
  options.credentials = RegistryCredentials{"alice", "secret", ""};
  const auto pulled = f.pull(registry.host() + "/app:1", options);
  REQUIRE_MESSAGE(pulled, why(pulled));
  CHECK(header(registry.requests().front(), "authorization").empty());

  options.credentials->password = "hunter2";
  const auto refused = f.pull(registry.host() + "/app:2", options);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().is(Error::unauthenticated));
  CHECK(refused.error().message().find("alice") != std::string::npos);
  CHECK(refused.error().to_string().find("hunter2") == std::string::npos);
  const auto anonymous = f.pull(registry.host() + "/app:2");
  REQUIRE_FALSE(anonymous);
  CHECK(anonymous.error().message().find("no credentials were given") != std::string::npos);
}

TEST_CASE("pull secrets are tried one after another until one fits") {
  Puller f;
  FakeRegistry registry(f.engine);
  registry.image("team/app:1", f.layers);
  registry.set_hook([](const HttpServerRequest& request, HttpResponder& responder) {
    if (header(request, "authorization") == "Basic " + encode_base64_text("good:2")) return false;
    responder.respond(401, {{"WWW-Authenticate", "Basic realm=x"}}, "");
    return true;
  });
  ImagePullOptions options;
  options.docker_configs = {
      "{\"auths\":{\"" + registry.host() + "/team\":{\"username\":\"bad\",\"password\":\"1\"}}}",
      "{\"auths\":{\"" + registry.host() + "\":{\"auth\":\"" + encode_base64_text("good:2") +
          "\"},\"elsewhere.example\":{\"auth\":\"" + encode_base64_text("other:3") + "\"}}}"};
  const auto pulled = f.pull(registry.host() + "/team/app:1", options);
  REQUIRE_MESSAGE(pulled, why(pulled));
  for (const auto& request : registry.requests()) {
    CHECK(header(request, "authorization") != "Basic " + encode_base64_text("other:3"));
  }
}

TEST_CASE("Bearer: a token is fetched with scope and service, anonymous or with a login, and renewed") {
  Puller f;
  FakeRegistry registry(f.engine), tokens(f.engine);
  registry.image("team/app:1", f.layers);
  std::atomic<int> serial{0}, uses{0};
  const std::string challenge = "Bearer realm=\"http://" + tokens.host() +
                                "/token\",service=\"registry, one\",scope=\"repository:team/app:pull\"";
  registry.set_hook([&](const HttpServerRequest& request, HttpResponder& responder) {
    // Each token is good for three requests: it ends in the middle of the pull.
    if (header(request, "authorization") == "Bearer token" + std::to_string(serial) && ++uses <= 3)
      return false;
    responder.respond(401, {{"WWW-Authenticate", challenge}}, "");
    return true;
  });
  std::string login;
  tokens.set_hook([&](const HttpServerRequest& request, HttpResponder& responder) {
    CHECK(request.target.find("scope=repository:team/app:pull") != std::string::npos);
    CHECK(request.target.find("service=registry,%20one") != std::string::npos);
    login = header(request, "authorization");
    uses = 0;
    responder.respond(200, {},
                      "{\"access_token\":\"token" + std::to_string(++serial) + "\",\"expires_in\":300}");
    return true;
  });
  SUBCASE("anonymous") {
    const auto pulled = f.pull(registry.host() + "/team/app:1");
    REQUIRE_MESSAGE(pulled, why(pulled));
    CHECK(login.empty());
  }
  SUBCASE("with a login") {
    ImagePullOptions options;
    options.credentials = RegistryCredentials{"alice", "secret", ""};
    const auto pulled = f.pull(registry.host() + "/team/app:1", options);
    REQUIRE_MESSAGE(pulled, why(pulled));
    CHECK(login == "Basic " + encode_base64_text("alice:secret"));
    // The registry itself never sees the password.
    for (const auto& request : registry.requests())
      CHECK_FALSE(header(request, "authorization").starts_with("Basic"));
  }
  CHECK(serial >= 2);
}

TEST_CASE("a blob store behind a redirect gets no credentials") {
  Puller f;
  FakeRegistry registry(f.engine), cdn(f.engine);
  registry.image("app:1", f.layers);
  cdn.image("app:1", f.layers);
  registry.set_hook([&](const HttpServerRequest& request, HttpResponder& responder) {
    if (header(request, "authorization").empty()) {
      responder.respond(401, {{"WWW-Authenticate", "Basic realm=x"}}, "");
      return true;
    }
    if (request.target.find("/blobs/") == std::string::npos) return false;
    responder.respond(307, {{"Location", "http://" + cdn.host() + request.target + "?signature=1"}}, "");
    return true;
  });
  ImagePullOptions options;
  options.credentials = RegistryCredentials{"alice", "secret", ""};
  const auto pulled = f.pull(registry.host() + "/app:1", options);
  REQUIRE_MESSAGE(pulled, why(pulled));
  CHECK(cdn.requests().size() == 4);
  for (const auto& request : cdn.requests()) CHECK(header(request, "authorization").empty());
}

TEST_CASE("what does not match its digest or size is never visible") {
  Puller f;
  FakeRegistry registry(f.engine);
  const std::string digest = registry.image("app:1", f.layers);
  const std::string layer = sha256_digest(f.layers[0]);
  std::string wanted;
  std::function<std::string(const std::string&)> change;
  SUBCASE("other bytes of the same length") {
    change = [](std::string bytes) { return bytes[600] ^= 1, bytes; };
    wanted = "content has digest";
  }
  SUBCASE("too long") {
    change = [](std::string bytes) { return bytes + "x"; };
    wanted = "sends more than the";
  }
  SUBCASE("too short") {
    change = [](std::string bytes) { return bytes.substr(0, 1000); };
    wanted = "expected " + std::to_string(f.layers[0].size());
  }
  registry.set_hook([&](const HttpServerRequest& request, HttpResponder& responder) {
    if (request.target.find("/blobs/" + layer) == std::string::npos) return false;
    responder.respond(200, {}, change(f.layers[0]));
    return true;
  });
  const auto pulled = f.pull(registry.host() + "/app:1");
  REQUIRE_FALSE(pulled);
  CHECK(pulled.error().is(Error::corrupt));
  CHECK_MESSAGE(pulled.error().to_string().find(wanted) != std::string::npos, pulled.error().to_string());
  CHECK(pulled.error().to_string().find(layer) != std::string::npos);
  CHECK(f.store->list().value().empty());
  CHECK_FALSE(f.store->lookup(digest).value());
}

TEST_CASE("a manifest of another digest than asked, or announced, is refused") {
  Puller f;
  FakeRegistry registry(f.engine);
  const std::string digest = registry.image("app:1", f.layers);
  registry.image("app:2", {f.layers[0]});
  registry.set_hook([&](const HttpServerRequest& request, HttpResponder& responder) {
    if (request.method != "GET" || request.target.find("/manifests/") == std::string::npos) return false;
    HttpServerRequest other = request;
    other.target = "/v2/app/manifests/2";
    registry.serve(other, responder);
    return true;
  });
  const auto pulled = f.pull(registry.host() + "/app@" + digest);
  REQUIRE_FALSE(pulled);
  CHECK(pulled.error().is(Error::corrupt));
  CHECK(pulled.error().message().find("for " + digest) != std::string::npos);
}

TEST_CASE("a transfer that breaks off goes on where it was") {
  Puller f;
  FakeRegistry registry(f.engine);
  registry.image("app:1", {f.layers[0]});
  const std::string layer = sha256_digest(f.layers[0]);
  std::atomic<int> broken{0};
  bool ignores_range = false;
  SUBCASE("with ranges") {}
  SUBCASE("from the start again where ranges are ignored") { ignores_range = true; }
  registry.set_hook([&](const HttpServerRequest& request, HttpResponder& responder) {
    if (request.target.find("/blobs/" + layer) == std::string::npos) return false;
    if (broken++ == 0) {
      auto body = responder.start(200, {});
      body->write(f.layers[0].substr(0, 50'000)).on_ready([body](Result<void>) { body->abort(); });
      return true;
    }
    if (!ignores_range) return false;
    responder.respond(200, {}, f.layers[0]);
    return true;
  });
  const auto pulled = f.pull(registry.host() + "/app:1");
  REQUIRE_MESSAGE(pulled, why(pulled));
  bool asked = false;
  for (const auto& request : registry.requests())
    asked = asked || header(request, "range").starts_with("bytes=");
  CHECK(asked);
}

TEST_CASE("a download that a crash cut off goes on after the restart; a damaged part is fetched anew") {
  TempDir dir;
  Engine engine;
  FakeRegistry registry(engine);
  const std::string layer = TarText().file("one", std::string(300'000, '1')).finish();
  registry.image("app:1", {layer});
  const std::string digest = sha256_digest(layer);
  const std::string part = dir / ("store/ingest/sha256-" + std::string(digest_hex(digest)) + ".part");
  const auto open = [&] {
    ImageStoreOptions options;
    options.dir = dir / "store";
    options.http = make_http_client(engine);
    options.registry_retry_delay = 1ms;
    return ImageStore::open(engine, options).value();
  };
  registry.set_hook([&](const HttpServerRequest& request, HttpResponder& responder) {
    if (request.target.find("/blobs/" + digest) == std::string::npos) return false;
    if (header(request, "range").empty()) {
      auto body = responder.start(200, {});
      body->write(layer.substr(0, 200'000)).on_ready([body](Result<void>) { body->abort(); });
    } else {
      responder.respond(403, {}, "");
    }
    return true;
  });
  CHECK_FALSE(open()->pull(registry.host() + "/app:1").wait(60s));
  REQUIRE(std::filesystem::exists(part));
  const auto have = std::filesystem::file_size(part);
  CHECK(have > 0);
  registry.set_hook({});
  std::size_t wanted_gets = 1;
  SUBCASE("the part is good") {}
  SUBCASE("the part is damaged") {
    REQUIRE(write_file(part, std::string(have, 'x')));
    wanted_gets = 2;
  }
  SUBCASE("the part is longer than the content") {
    REQUIRE(write_file(part, layer + "more"));
    wanted_gets = 1;
  }
  SUBCASE("the part is whole already") {
    REQUIRE(write_file(part, layer));
    wanted_gets = 0;
  }
  const std::size_t before = registry.count("GET", "/blobs/" + digest);
  const auto store = open();
  const auto pulled = store->pull(registry.host() + "/app:1").wait(60s);
  REQUIRE_MESSAGE(pulled, why(pulled));
  CHECK(registry.count("GET", "/blobs/" + digest) - before == wanted_gets);
  CHECK_FALSE(std::filesystem::exists(part));
  const auto plan = store->prepare_root(registry.host() + "/app:1", "look", Isolation::process).wait(30s);
  REQUIRE(plan);
  CHECK(std::filesystem::file_size(plan->directory + "/one") == 300'000);
}

TEST_CASE("images that share layers and are pulled at once download and unpack them once") {
  Puller f;
  FakeRegistry registry(f.engine);
  std::vector<std::string> layers = f.layers;
  for (int i = 0; i < 6; ++i) {
    layers.push_back(TarText().file("own" + std::to_string(i), "x").hard_link("again", "one").finish());
    registry.image("app:" + std::to_string(i), layers);
  }
  std::vector<Pending<ImageInfo>> pulls;
  for (int i = 5; i >= 0; --i) pulls.push_back(f.store->pull(registry.host() + "/app:" + std::to_string(i)));
  for (auto& pull : pulls) {
    const auto done = pull.wait(60s);
    CHECK_MESSAGE(done, why(done));
  }
  CHECK(registry.count("GET", "/blobs/" + sha256_digest(f.layers[0])) == 1);
  CHECK(f.store->internal()->layers().size() == 9);
}

TEST_CASE("a busy or failing registry is asked again, within bounds") {
  Puller f;
  FakeRegistry registry(f.engine);
  registry.image("app:1", f.layers);
  std::atomic<int> failures{0};
  int status = 503, times = 2;
  SUBCASE("503 twice") {}
  SUBCASE("429 with Retry-After") { status = 429; }
  SUBCASE("500 without end") {
    status = 500;
    times = 1000;
  }
  registry.set_hook([&](const HttpServerRequest& request, HttpResponder& responder) {
    if (request.target.find("/manifests/") == std::string::npos || failures++ >= times) return false;
    responder.respond(status, {{"Retry-After", "0"}},
                      "{\"errors\":[{\"code\":\"UNAVAILABLE\",\"message\":\"later\"}]}");
    return true;
  });
  const auto pulled = f.pull(registry.host() + "/app:1");
  if (times == 2) {
    REQUIRE_MESSAGE(pulled, why(pulled));
    return;
  }
  REQUIRE_FALSE(pulled);
  CHECK(pulled.error().is(Error::unavailable));
  CHECK(pulled.error().message().find("answered 500") != std::string::npos);
  CHECK(pulled.error().message().find("UNAVAILABLE: later") != std::string::npos);
  CHECK(pulled.error().message().find("after 5 attempts") != std::string::npos);
}

TEST_CASE("what a registry does not have is not_found, once") {
  Puller f;
  FakeRegistry registry(f.engine);
  const auto pulled = f.pull(registry.host() + "/nothing:1");
  REQUIRE_FALSE(pulled);
  CHECK(pulled.error().is(Error::not_found));
  CHECK(pulled.error().message().find("MANIFEST_UNKNOWN") != std::string::npos);
  CHECK(registry.requests().size() == 1);
}

TEST_CASE("mirrors come first and get no credentials; a broken one is passed over") {
  Engine engine;
  FakeRegistry upstream(engine), mirror(engine), broken(engine);
  const std::vector<std::string> layers{TarText().file("x", "x").finish()};
  upstream.image("app:1", layers);
  mirror.image("app:1", layers);
  broken.set_hook([](const HttpServerRequest&, HttpResponder& responder) {
    responder.respond(500, {}, "");
    return true;
  });
  ImageStoreOptions options;
  options.mirrors[upstream.host()] = {"http://" + broken.host(), "http://" + mirror.host()};
  Puller f(options);
  ImagePullOptions pull;
  pull.credentials = RegistryCredentials{"alice", "secret", ""};
  SUBCASE("the mirror has it") {
    const auto pulled = f.pull(upstream.host() + "/app:1", pull);
    REQUIRE_MESSAGE(pulled, why(pulled));
    CHECK(upstream.requests().empty());
    CHECK(pulled->reference == upstream.host() + "/app:1");
  }
  SUBCASE("the mirror lies about a layer: the registry itself is asked") {
    mirror.set_hook([](const HttpServerRequest& request, HttpResponder& responder) {
      if (request.target.find("/blobs/") == std::string::npos) return false;
      responder.respond(200, {}, "lies");
      return true;
    });
    const auto pulled = f.pull(upstream.host() + "/app:1", pull);
    REQUIRE_MESSAGE(pulled, why(pulled));
    CHECK(upstream.count("GET", "/blobs/") == 2);
  }
  for (const auto& request : mirror.requests()) CHECK(header(request, "authorization").empty());
}

TEST_CASE("TLS: a registry of one's own authority is trusted when told so, and only then") {
  Puller f;
  const auto [certificate, key] = http::make_self_signed("localhost").value();
  FakeRegistry registry(f.engine, {.tls = true, .certificate_pem = certificate, .key_pem = key});
  registry.image("app:1", f.layers);
  const std::string port = registry.host().substr(registry.host().rfind(':'));
  const std::string name = "localhost" + port + "/app:1";
  const auto stranger = f.pull(name);
  REQUIRE_FALSE(stranger);
  ImagePullOptions options;
  options.ca_pem = certificate;
  const auto pulled = f.pull(name, options);
  REQUIRE_MESSAGE(pulled, why(pulled));
}

TEST_CASE("ten pulls of one image are one download") {
  Puller f;
  FakeRegistry registry(f.engine);
  registry.image("app:1", f.layers);
  std::vector<Pending<ImageInfo>> pulls;
  for (int i = 0; i < 10; ++i) pulls.push_back(f.store->pull(registry.host() + "/app:1"));
  for (auto& pull : pulls) CHECK(pull.wait(60s));
  CHECK(registry.count("GET", "/blobs/") == 4);
}

TEST_CASE("challenges are read in all their forms") {
  const auto show = [](const std::string& header) {
    std::string out;
    for (const Challenge& one : parse_challenges(header)) {
      out += one.scheme + "{";
      for (const auto& [name, value] : one.parameters) out += name + "=" + value + ";";
      out += "}";
    }
    return out;
  };
  CHECK(show("Basic realm=\"x\"") == "basic{realm=x;}");
  CHECK(show("BEARER Realm=\"https://a/t\" , SERVICE=\"s\",scope=\"repository:a:pull,push\"") ==
        "bearer{realm=https://a/t;scope=repository:a:pull,push;service=s;}");
  CHECK(show("Basic realm=x, Bearer realm=\"y\"") == "basic{realm=x;}bearer{realm=y;}");
  CHECK(show("Negotiate, Basic realm=\"a\\\"b\"") == "negotiate{}basic{realm=a\"b;}");
  CHECK(show("") == "");
  CHECK(show(",,,") == "");
  CHECK(show("Basic realm=\"open") == "basic{}");
}

TEST_CASE("credential keys match as the kubelet does") {
  const auto users = [](const std::string& config, const std::string& image) {
    std::string out;
    for (const auto& one :
         match_credentials(parse_docker_config(config).value(), ImageReference::parse(image).value())) {
      out += one.user + " ";
    }
    return out;
  };
  const auto entry = [](const std::string& key, const std::string& user) {
    return "\"" + key + "\":{\"username\":\"" + user + "\",\"password\":\"p\"}";
  };
  const auto config = [&](const std::vector<std::pair<std::string, std::string>>& entries) {
    std::string out = "{\"auths\":{";
    for (const auto& [key, user] : entries) out += (out.ends_with('{') ? "" : ",") + entry(key, user);
    return out + "}}";
  };
  CHECK(users(config({{"a.example", "h"}, {"a.example/team", "t"}}), "a.example/team/app") == "t h ");
  CHECK(users(config({{"a.example", "h"}, {"a.example/team", "t"}}), "a.example/other/app") == "h ");
  CHECK(users(config({{"*.example", "g"}}), "a.example/x") == "g ");
  CHECK(users(config({{"*.example", "g"}}), "a.b.example/x") == "");
  CHECK(users(config({{"a.example:5000", "p"}}), "a.example:5000/x") == "p ");
  CHECK(users(config({{"a.example", "p"}}), "a.example:5000/x") == "");
  CHECK(users(config({{"https://a.example/v1/", "v"}}), "a.example/x") == "v ");
  CHECK(users(config({{"https://index.docker.io/v1/", "hub"}}), "busybox") == "hub ");
  CHECK(users(config({{"https://index.docker.io/v1/", "hub"}}), "a.example/busybox") == "");
  CHECK(users("{" + entry("a.example", "old") + "}", "a.example/x") == "old ");
  CHECK(users("{\"auths\":{\"a.example\":{\"auth\":\"!!\"}}}", "a.example/x") == "");
  CHECK_FALSE(parse_docker_config("not json"));
}
