// Pushing to a registry that loses connections, moves its locations, and refuses; and everything around it:
// mirrors and hosts files, helpers, tokens kept, pages, referrers.
#include <algorithm>
#include <atomic>
#include <filesystem>

#include "base/base64.hpp"
#include "base/fd.hpp"
#include "image/registry/credentials.hpp"
#include "image/registry/hosts.hpp"
#include "image/registry/toml.hpp"
#include "image/registry/upload.hpp"
#include "orchestra/registry_client.hpp"
#include "tests/image/fake_registry.hpp"

using namespace orchestra;
using namespace orchestra::image;
using namespace orchestra::image::test;
using namespace std::chrono_literals;
using orchestra::test::TempDir;

namespace {

/// Takes uploads, piece by piece; every Location is new. `trouble` may answer instead.
struct UploadServer {
  using Trouble = std::function<bool(const HttpServerRequest&, HttpResponder&, std::string& upload)>;
  explicit UploadServer(Engine& engine) : registry(engine, {.body_bytes_max = 64 << 20}) {
    registry.set_hook([this](const HttpServerRequest& request, HttpResponder& responder) {
      std::lock_guard lock(mutex);
      // Uploads of several blobs at once: each knows only its own state.
      Upload& mine = uploads[upload_of(request.target)];
      if (trouble && trouble(request, responder, mine.bytes)) return true;
      return answer(request, responder, mine);
    });
  }
  struct Upload {
    std::string bytes;
    int id = 0, serial = 0;
  };
  static int upload_of(const std::string& target) {
    return target.starts_with("/somewhere/") ? std::atoi(target.c_str() + 11) : 0;
  }
  static std::string location(Upload& upload) {
    return "/somewhere/" + std::to_string(upload.id) + "/" + std::to_string(++upload.serial) + "?state=a%20b";
  }
  bool answer(const HttpServerRequest& request, HttpResponder& responder, Upload& mine) {
    std::string& upload = mine.bytes;
    const std::string path = request.target.substr(0, request.target.find('?'));
    if (request.method == "HEAD" && path.find("/blobs/") != std::string::npos) {
      responder.respond(blobs.contains(path.substr(path.rfind('/') + 1)) ? 200 : 404, {}, "");
      return true;
    }
    if (request.method == "POST") {
      const int id = ++next_upload;
      uploads[id].id = id;
      responder.respond(202, {{"Location", location(uploads[id])}}, "");
      return true;
    }
    if (request.method == "DELETE" && path.find("/manifests/") != std::string::npos)
      return respond(responder, 405);
    if (path.starts_with("/somewhere/")) {
      // An old location is a mistake of the client.
      if (path != "/somewhere/" + std::to_string(mine.id) + "/" + std::to_string(mine.serial))
        return respond(responder, 404);
      if (request.method == "GET") {
        HttpResponder::Headers headers{{"Location", location(mine)}};
        if (!upload.empty()) headers.emplace_back("Range", "0-" + std::to_string(upload.size() - 1));
        responder.respond(204, headers, "");
        return true;
      }
      if (request.method == "DELETE") {
        ++deleted;
        return respond(responder, 204);
      }
      const auto range = request.headers.find("content-range");
      if (range != request.headers.end() && !range->second.starts_with(std::to_string(upload.size()) + "-"))
        return respond(responder, 416);
      upload += request.body;
      if (request.method == "PATCH") {
        ++pieces;
        responder.respond(202, {{"Location", location(mine)}}, "");
        return true;
      }
      const std::string digest = request.target.substr(request.target.find("digest=") + 7);
      if (sha256_digest(upload) != digest) return respond(responder, 400);
      blobs[digest] = upload;
      return respond(responder, 201);
    }
    if (request.method == "PUT" && path.find("/manifests/") != std::string::npos) {
      manifests[path.substr(path.rfind('/') + 1)] = request.body;
      HttpResponder::Headers headers{{"Docker-Content-Digest", sha256_digest(request.body)}};
      if (knows_subject && request.body.find("\"subject\"") != std::string::npos)
        headers.emplace_back("OCI-Subject", "yes");
      responder.respond(201, headers, "");
      return true;
    }
    if (path.find("/manifests/") != std::string::npos) {
      const auto found = manifests.find(path.substr(path.rfind('/') + 1));
      if (found == manifests.end()) return respond(responder, 404);
      responder.respond(200,
                        {{"Content-Type", found->second.find("\"manifests\"") != std::string::npos
                                              ? std::string(kOciIndex)
                                              : std::string(kOciManifest)}},
                        request.method == "HEAD" ? "" : found->second);
      return true;
    }
    return respond(responder, 404);
  }
  static bool respond(HttpResponder& responder, int status) {
    responder.respond(status, {}, "");
    return true;
  }

  std::mutex mutex;
  FakeRegistry registry;
  Trouble trouble;
  std::map<int, Upload> uploads;
  int next_upload = 0;
  std::map<std::string, std::string> blobs, manifests;
  int pieces = 0, deleted = 0;
  bool knows_subject = false;
};

struct Pusher {
  TempDir dir;
  Engine engine;
  std::shared_ptr<ImageStore> store;
  std::string big = std::string(6 << 20, 'b');
  explicit Pusher(ImageStoreOptions options = {}) {
    options.dir = dir / "store";
    options.http = make_http_client(engine);
    options.registry_retry_delay = 5ms;
    store = ImageStore::open(engine, options).value();
    REQUIRE(write_file(dir / "image.tar", docker_archive("app:1", {TarText().file("big", big).finish()})));
    REQUIRE(store->import(dir / "image.tar").wait(30s));
  }
  Result<std::string> push(const std::string& to, ImagePullOptions options = {}) {
    return store->push("app:1", to, std::move(options)).wait(60s);
  }
};

}  // namespace

TEST_CASE("push: pieces, lost connections and forgotten places end in the same blobs") {
  Pusher f;
  UploadServer server(f.engine);
  ImagePullOptions options;
  std::atomic<int> troubles{0};
  int pieces = 1;
  SUBCASE("all in one") {}
  SUBCASE("in pieces") {
    options.chunk_bytes = 1 << 20;
    pieces = 7 + 1;  // a little more than 6 MiB, and the configuration
  }
  SUBCASE("the connection breaks inside a piece: the registry says where to go on") {
    options.chunk_bytes = 1 << 20;
    pieces = 7;
    server.trouble = [&](const HttpServerRequest& request, HttpResponder& responder, std::string& upload) {
      if (request.method != "PATCH" || upload.size() < (2 << 20) || troubles++ > 0) return false;
      upload += request.body.substr(0, 1000);
      responder.start(202, {})->abort();
      return true;
    };
  }
  SUBCASE("416: the place is asked for") {
    options.chunk_bytes = 1 << 20;
    pieces = 7;
    server.trouble = [&](const HttpServerRequest& request, HttpResponder& responder, std::string& upload) {
      if (request.method != "PATCH" || upload.size() < (1 << 20) || troubles++ > 0) return false;
      return UploadServer::respond(responder, 416);
    };
  }
  SUBCASE("500 in the middle") {
    options.chunk_bytes = 1 << 20;
    pieces = 7;
    server.trouble = [&](const HttpServerRequest& request, HttpResponder& responder, std::string&) {
      if (request.method != "PATCH" || troubles++ != 2) return false;
      return UploadServer::respond(responder, 500);
    };
  }
  const auto pushed = f.push(server.registry.host() + "/team/app:1", options);
  REQUIRE_MESSAGE(pushed, why(pushed));
  CHECK(server.blobs.size() == 2);
  CHECK(server.pieces >= pieces);
  CHECK(server.manifests.contains("1"));
  const int before = static_cast<int>(server.registry.requests().size());
  REQUIRE(f.push(server.registry.host() + "/team/app:1", options));
  int others = 0;
  const auto requests = server.registry.requests();
  for (std::size_t i = static_cast<std::size_t>(before); i < requests.size(); ++i)
    others += requests[i].method != "HEAD" && requests[i].method != "PUT" ? 1 : 0;
  CHECK(others == 0);
}

TEST_CASE("push: an upload that cannot end is deleted at the registry, and the error says what happened") {
  Pusher f;
  UploadServer server(f.engine);
  server.trouble = [](const HttpServerRequest& request, HttpResponder& responder, std::string&) {
    if (request.method != "PATCH") return false;
    return UploadServer::respond(responder, 403);
  };
  const auto pushed = f.push(server.registry.host() + "/app:1");
  REQUIRE_FALSE(pushed);
  CHECK(pushed.error().is(Error::denied));
  CHECK(pushed.error().message().find("answered 403 to PATCH") != std::string::npos);
  CHECK(pushed.error().message().find("state=") == std::string::npos);
  CHECK(server.deleted >= 1);
}

TEST_CASE("push: a blob that another repository has is mounted; 202 is an ordinary upload") {
  Pusher f;
  UploadServer server(f.engine);
  ImagePullOptions options;
  options.mount_from = {"team/base"};
  bool allowed = true;
  SUBCASE("mounted") {}
  SUBCASE("not there") { allowed = false; }
  server.trouble = [&](const HttpServerRequest& request, HttpResponder& responder, std::string&) {
    if (request.method != "POST" || request.target.find("mount=") == std::string::npos) return false;
    CHECK(request.target.find("&from=team/base") != std::string::npos);
    if (!allowed) return false;
    return UploadServer::respond(responder, 201);
  };
  const auto pushed = f.push(server.registry.host() + "/team/app:1", options);
  REQUIRE_MESSAGE(pushed, why(pushed));
  CHECK(server.blobs.size() == (allowed ? 0 : 2));
}

TEST_CASE("push: a token for pulling is widened once, and kept for the next operation") {
  Pusher f;
  UploadServer server(f.engine);
  std::atomic<int> tokens{0};
  server.trouble = [&](const HttpServerRequest& request, HttpResponder& responder, std::string&) {
    if (request.target.starts_with("/token")) {
      const bool push = request.target.find("pull%2Cpush") != std::string::npos ||
                        request.target.find("pull,push") != std::string::npos;
      ++tokens;
      responder.respond(200, {}, std::string("{\"token\":\"") + (push ? "wide" : "narrow") + "\"}");
      return true;
    }
    const auto given = request.headers.find("authorization");
    if (given != request.headers.end() && given->second == "Bearer wide") return false;
    responder.respond(
        401,
        {{"WWW-Authenticate", "Bearer realm=\"http://" + server.registry.host() + "/token\",service=\"s\""}},
        "");
    return true;
  };
  REQUIRE(f.push(server.registry.host() + "/app:1"));
  CHECK(tokens >= 1);
  const int before = tokens;
  const auto again = f.push(server.registry.host() + "/app:2");
  REQUIRE_MESSAGE(again, why(again));
  CHECK(tokens == before);
}

TEST_CASE("an identity token is exchanged by OAuth2, or by GET where that is not known") {
  Pusher f;
  UploadServer server(f.engine);
  bool has_post = true;
  SUBCASE("POST") {}
  SUBCASE("GET") { has_post = false; }
  std::atomic<int> posts{0}, gets{0};
  server.trouble = [&](const HttpServerRequest& request, HttpResponder& responder, std::string&) {
    if (request.target.starts_with("/token")) {
      if (request.method == "POST") {
        ++posts;
        CHECK(request.body.find("grant_type=refresh_token") != std::string::npos);
        CHECK(request.body.find("refresh_token=ident") != std::string::npos);
        if (!has_post) return UploadServer::respond(responder, 404);
      } else {
        ++gets;
        CHECK(request.headers.at("authorization") == "Basic " + encode_base64_text("<token>:ident"));
      }
      responder.respond(200, {}, "{\"access_token\":\"good\"}");
      return true;
    }
    const auto given = request.headers.find("authorization");
    if (given != request.headers.end() && given->second == "Bearer good") return false;
    responder.respond(
        401,
        {{"WWW-Authenticate", "Bearer realm=\"http://" + server.registry.host() + "/token\",service=\"s\""}},
        "");
    return true;
  };
  ImagePullOptions options;
  options.login_files = {"{\"auths\":{\"" + server.registry.host() + "\":{\"identitytoken\":\"ident\"}}}"};
  const auto pushed = f.push(server.registry.host() + "/app:1", options);
  REQUIRE_MESSAGE(pushed, why(pushed));
  CHECK(posts >= 1);
  CHECK((gets > 0) != has_post);
}

TEST_CASE("a login file's helper is asked for the host, and its secret shows nowhere") {
  class FakeSpawner : public Spawner {
   public:
    Pending<SpawnResult> run(SpawnRequest request) override {
      asked = request.args[0] + " " + request.args[1] + " " + request.input;
      SpawnResult result;
      result.exit_code = code;
      result.output = output;
      return Result<SpawnResult>(result);
    }
    std::string asked, output;
    int code = 0;
  };
  ImageStoreOptions store;
  const auto spawner = std::make_shared<FakeSpawner>();
  store.spawner = spawner;
  ImagePullOptions options;
  options.login_files = {"{\"credHelpers\":{\"a.example\":\"vault\"},\"credsStore\":\"other\"}"};
  const auto name = ImageReference::parse("a.example/x").value();
  spawner->output = "{\"Username\":\"bob\",\"Secret\":\"hidden\"}";
  auto found = find_credentials(store, options, name).value();
  CHECK(spawner->asked == "docker-credential-vault get a.example");
  REQUIRE(found.size() == 1);
  CHECK(found[0].user == "bob");
  spawner->output = "{\"Username\":\"<token>\",\"Secret\":\"hidden\"}";
  found = find_credentials(store, options, ImageReference::parse("busybox").value()).value();
  CHECK(spawner->asked == "docker-credential-other get https://index.docker.io/v1/");
  CHECK(found[0].identity_token == "hidden");
  spawner->code = 1;
  spawner->output = "credentials not found in native keychain";
  CHECK(find_credentials(store, options, name).value().empty());
  spawner->output = "secret hidden leaked";
  const auto failed = find_credentials(store, options, name);
  REQUIRE_FALSE(failed);
  CHECK(failed.error().to_string().find("hidden") == std::string::npos);
  // A pull secret starts no programs.
  options.docker_configs = std::move(options.login_files);
  options.login_files = {};
  CHECK(find_credentials(store, options, name).value().empty());
  CHECK(with_login("{\"x\":1}", "docker.io", "u", "p").value().find("https://index.docker.io/v1/") !=
        std::string::npos);
}

TEST_CASE("the real Spawner feeds, reads, bounds and ends programs") {
  Engine engine;
  const auto spawner = make_spawner(engine);
  auto cat = spawner->run({.args = {"cat"}, .input = std::string(300'000, 'x'), .output_bytes_max = 1000})
                 .wait(30s)
                 .value();
  CHECK(cat.exit_code == 0);
  CHECK(cat.output.size() == 1000);
  CHECK(cat.truncated);
  CHECK(spawner->run({.args = {"sh", "-c", "echo out; echo err >&2; exit 7"}}).wait(30s)->exit_code == 7);
  CHECK(spawner->run({.args = {"sh", "-c", "kill -9 $$"}}).wait(30s)->exit_code == 128 + 9);
  CHECK(spawner->run({.args = {"true"}, .input = std::string(1 << 20, 'x')}).wait(30s)->exit_code == 0);
  CHECK_FALSE(spawner->run({.args = {"/no/such/program"}}).wait(30s));
  const auto late = spawner->run({.args = {"sleep", "100"}, .deadline = 50ms}).wait(30s);
  REQUIRE_FALSE(late);
  CHECK(late.error().is(Error::deadline_exceeded));
}

TEST_CASE("hosts.toml and registries.conf decide where content comes from") {
  const TempDir dir;
  std::filesystem::create_directories(dir / "certs/up.example");
  REQUIRE(write_file(dir / "certs/up.example/hosts.toml",
                     "server = \"https://real.example\"\n"
                     "[host.\"http://one.example:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
                     "[host.\"https://two.example/prefix\"]\n  capabilities = [\"pull\"]\n"
                     "  skip_verify = true\n  [host.\"https://two.example/prefix\".header]\n"
                     "    x-key = [\"a\"]\n"));
  REQUIRE(write_file(dir / "registries.conf",
                     "unqualified-search-registries = [\"first.example\", \"docker.io\"]\n"
                     "[aliases]\n\"tool\" = \"quay.example/org/tool\"\n"
                     "[[registry]]\nprefix = \"old.example/team\"\nlocation = \"new.example/moved\"\n"
                     "[[registry.mirror]]\nlocation = \"near.example/copy\"\ninsecure = true\n"
                     "[[registry]]\nprefix = \"bad.example\"\nblocked = true\n"));
  ImageStoreOptions store;
  store.certs_dir = dir / "certs";
  store.registries_conf = dir / "registries.conf";
  const auto show = [&](const std::string& name) {
    const auto targets = registry_targets(store, ImageReference::parse(name).value(), {});
    if (!targets) return targets.error().message();
    std::string out;
    for (const RegistryTarget& one : *targets) {
      out += (one.base.empty() ? "(" + one.host + ")" : one.base) + one.api_path + " " + one.repository +
             (one.is_mirror ? " mirror" : "") + (one.resolve ? "" : " digests") +
             (one.tls.verify ? "" : " unverified") + (one.name_space ? " ns" : "") + "\n";
    }
    return out;
  };
  CHECK(show("up.example/a/b") ==
        "http://one.example:5000/v2 a/b mirror ns\n"
        "https://two.example/prefix/v2 a/b mirror digests unverified ns\n"
        "https://real.example/v2 a/b\n");
  CHECK(show("old.example/team/app:1") ==
        "(near.example)/v2 copy/app mirror unverified\n(new.example)/v2 moved/app\n");
  CHECK(show("old.example/teams/app") == "(old.example)/v2 teams/app\n");
  CHECK(show("bad.example/x").find("is blocked in") != std::string::npos);
  const auto conf = load_registries_conf(store).value();
  CHECK(short_name_candidates(conf, "tool:2") == std::vector<std::string>{"quay.example/org/tool:2"});
  CHECK(short_name_candidates(conf, "busybox") ==
        std::vector<std::string>{"first.example/busybox", "docker.io/busybox"});
  CHECK(short_name_candidates(conf, "a.example/x") == std::vector<std::string>{"a.example/x"});
  CHECK(parse_registries_conf("[registries.search]\nregistries = []\n").error().is(Error::unsupported));
}

TEST_CASE("TOML: what the two files use is read, the rest is refused with its line") {
  const auto show = [](const std::string& text) {
    const auto parsed = parse_toml(text);
    return parsed ? to_json(json::value(*parsed)) : parsed.error().message();
  };
  CHECK(show("a = 1 # c\nb.c = \"x\\ty\"\n'd e' = 'raw\\n'\n") ==
        "{\"a\":1,\"b\":{\"c\":\"x\\ty\"},\"d e\":\"raw\\\\n\"}");
  CHECK(show("[t]\nx = [1,\n 2, # c\n]\n[[l]]\ny = true\n[[l]]\n[l.in]\nz = {q = false}\n") ==
        "{\"t\":{\"x\":[1,2]},\"l\":[{\"y\":true},{\"in\":{\"z\":{\"q\":false}}}]}");
  CHECK(show("a = \"\"\"\none\"\"\"\n") == "{\"a\":\"one\"}");
  CHECK(show("a = 1\na = 2\n") == "line 2: \"a\" is given twice");
  CHECK(show("\n\na = 1.5\n").starts_with("line 3: the value \"1.5\""));
  CHECK(show("a = \"open\n").find("closing quote") != std::string::npos);
  CHECK(show("[a\n").find("a ] is missing") != std::string::npos);
  CHECK(show("a = 1 b\n").find("something follows") != std::string::npos);
}

TEST_CASE("small answers of registries: ranges, links, waiting times") {
  CHECK(parse_upload_range("0-99") == 100);
  CHECK(parse_upload_range("bytes=0-9") == 10);
  CHECK(parse_upload_range("0-0") == 0);
  CHECK_FALSE(parse_upload_range("5-9"));
  CHECK_FALSE(parse_upload_range("0-x"));
  CHECK(next_link("</v2/a/tags/list?last=b>; rel=\"next\"") == "/v2/a/tags/list?last=b");
  CHECK(next_link("<https://x/y>; rel=prev, </z>; REL=next") == "/z");
  CHECK(next_link("</z>; rel=\"prev\"") == "");
  CHECK(next_link("<open") == "");
  const std::int64_t at = 1'445'412'480LL * 1'000'000'000;  // Wed, 21 Oct 2015 07:28:00 GMT
  CHECK(parse_retry_after("120", at) == Duration(120s));
  CHECK(parse_retry_after("Wed, 21 Oct 2015 07:28:30 GMT", at) == Duration(30s));
  CHECK(parse_retry_after("Wed, 21 Oct 2015 07:27:00 GMT", at) == Duration(0s));
  CHECK_FALSE(parse_retry_after("soon", at));
}

TEST_CASE("referrers: by the registry, or by the fall-back tag that survives a race") {
  Pusher f;
  UploadServer server(f.engine);
  ImageStoreOptions options;
  options.http = make_http_client(f.engine);
  options.registry_retry_delay = 5ms;
  RegistryClient own(f.engine, options);
  ArtifactRegistry& artifacts = own;  // as its users see it
  const std::string name = server.registry.host() + "/app:1";
  const auto pushed = f.push(name);
  REQUIRE_MESSAGE(pushed, why(pushed));
  Artifact artifact{"application/vnd.test.bill", {{"application/json", "{\"a\":1}"}}};
  std::atomic<int> races{0};
  server.trouble = [&](const HttpServerRequest& request, HttpResponder&, std::string&) {
    const bool tag = request.target.find("/manifests/sha256-") != std::string::npos;
    // Another writer overwrites the tag right after our first write.
    if (tag && request.method == "GET" && races++ == 1) {
      for (auto& [key, value] : server.manifests) {
        if (key.starts_with("sha256-")) value = make_index({});
      }
    }
    return false;
  };
  const auto attached = artifacts.attach(name, artifact).wait(30s);
  REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().to_string()));
  const auto found = artifacts.referrers(name, "").wait(30s).value();
  REQUIRE(found.size() == 1);
  CHECK(found[0].artifact_type == "application/vnd.test.bill");
  CHECK(artifacts.referrers(name, "other/type").wait(30s)->empty());
  const auto document = artifacts.manifest(*attached).wait(30s).value();
  const auto manifest = parse_manifest(document.bytes).value();
  REQUIRE(manifest.subject);
  CHECK(own.remove(name).wait(30s).error().is(Error::unsupported));
}

TEST_CASE("tags are read page by page, and never from another host") {
  Engine engine;
  FakeRegistry registry(engine);
  std::string second = "/v2/app/tags/list?last=b";
  registry.set_hook([&](const HttpServerRequest& request, HttpResponder& responder) {
    if (request.target.find("/tags/list") == std::string::npos) return false;
    if (request.target.find("last=") != std::string::npos) {
      responder.respond(200, {}, "{\"tags\":[\"c\"]}");
    } else {
      responder.respond(200, {{"Link", "<" + second + ">; rel=\"next\""}}, "{\"tags\":[\"a\",\"b\"]}");
    }
    return true;
  });
  ImageStoreOptions options;
  options.http = make_http_client(engine);
  RegistryClient client(engine, options);
  CHECK(client.tags(registry.host() + "/app").wait(30s)->tags == std::vector<std::string>{"a", "b", "c"});
  second = "http://other.invalid/v2/app/tags/list?last=b";
  CHECK(client.tags(registry.host() + "/app").wait(30s).error().is(Error::denied));
}

TEST_CASE("all platforms of an index are pulled and pushed as they are") {
  Pusher f;
  FakeRegistry registry(f.engine);
  const std::string mine = registry.image("app:mine", {TarText().file("a", "1").finish()});
  const std::string other = registry.image("app:other", {TarText().file("b", "2").finish()}, "s390x");
  const auto manifest_size = [](const std::string&) { return std::string("1"); };
  std::string text = "{\"schemaVersion\":2,\"mediaType\":\"" + std::string(kOciIndex) + "\",\"manifests\":[";
  for (const auto& [digest, architecture] :
       {std::pair{mine, host_platform().architecture}, std::pair{other, std::string("s390x")}}) {
    text += (text.ends_with('[') ? "" : ",") + std::string("{\"mediaType\":\"") + std::string(kOciManifest) +
            "\",\"digest\":\"" + digest + "\",\"size\":" + manifest_size(digest) +
            ",\"platform\":{\"os\":\"linux\",\"architecture\":\"" + architecture + "\"}}";
  }
  const std::string index = registry.manifest("app:all", text + "]}", kOciIndex);
  ImagePullOptions options;
  options.all_platforms = true;
  const auto pulled = f.store->pull(registry.host() + "/app:all", options).wait(60s);
  REQUIRE_MESSAGE(pulled, (pulled ? "" : pulled.error().to_string()));
  CHECK(pulled->digest == mine);
  REQUIRE(f.store->collect({.minimum_age = Duration(0)}).wait(30s));
  UploadServer server(f.engine);
  const auto pushed =
      f.store->push(registry.host() + "/app:all", server.registry.host() + "/app:all").wait(60s);
  REQUIRE_MESSAGE(pushed, why(pushed));
  CHECK(sha256_digest(server.manifests.at("all")) == index);
  CHECK(server.manifests.contains(other));
  CHECK(server.blobs.size() == 4);
}
