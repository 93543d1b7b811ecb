// The same against Debian's docker-registry: push, pull, tags that move, logins, TLS.
//
// The program is taken from PATH, or from Debian's package, which is fetched once and unpacked beside the
// build (installing it would start its service). Without either these tests are skipped by name.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/fd.hpp"
#include "image/registry/session.hpp"
#include "net/http/http_server.hpp"
#include "net/http/tls_context.hpp"
#include "orchestra/env.hpp"
#include "orchestra/image_store.hpp"
#include "tests/image/fixtures.hpp"
#include "tests/support/free_port.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::image::test;
using namespace std::chrono_literals;
using orchestra::test::TempDir;

namespace {

int shell(const std::string& command) { return std::system(command.c_str()); }

/// The program's name, or empty.
std::string find_docker_registry() {
  return shell("command -v docker-registry >/dev/null 2>&1") == 0 ? "docker-registry" : "";
}

/// A running registry; ended with the scope.
class DockerRegistry {
 public:
  DockerRegistry(Engine& engine, const TempDir& dir, const std::string& extra_http, const std::string& extra,
                 const std::string& host, const TlsOptions& tls) {
    const std::string port = std::to_string(orchestra::test::free_port());
    host_ = host + ":" + port;
    const std::string config = dir / "config.yml";
    REQUIRE(write_file(
        config, "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: " +
                    (dir / "registry") + "\nhttp:\n  addr: 127.0.0.1:" + port + "\n" + extra_http + extra));
    const std::string program = find_docker_registry();
    const char* args[] = {program.c_str(), "serve", config.c_str(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    const std::string log = dir / "registry.log";
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    REQUIRE(::posix_spawnp(&pid_, program.c_str(), &actions, nullptr, const_cast<char**>(args), environ) ==
            0);
    posix_spawn_file_actions_destroy(&actions);
    wait_until_it_answers(engine, tls, log);
  }
  ~DockerRegistry() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  const std::string& host() const { return host_; }

 private:
  void wait_until_it_answers(Engine& engine, const TlsOptions& tls, const std::string& log) {
    const auto http = make_http_client(engine);
    const std::string url = (tls.ca_pem.empty() ? "http://" : "https://") + host_ + "/v2/";
    const std::int64_t end = engine.clock().now().steady_ns + 60'000'000'000;
    while (engine.clock().now().steady_ns < end) {
      if (http->send({.url = url, .tls = tls}).wait(5s)) return;
      Promise<void> soon;
      engine.after(20ms, [soon] { soon.set(Result<void>()); });
      REQUIRE(soon.pending().wait(60s));
    }
    FAIL("docker-registry does not answer: " << read_file(log, 1 << 16).value_or("no log"));
  }
  pid_t pid_ = -1;
  std::string host_;
};

struct RealRegistry {
  TempDir dir;
  Engine engine;
  std::shared_ptr<ImageStore> open(const std::string& name) {
    ImageStoreOptions options;
    options.dir = dir / name;
    options.http = make_http_client(engine);
    options.registry_retry_delay = 50ms;
    return ImageStore::open(engine, options).value();
  }
  void import(ImageStore& store, const std::string& name, const std::string& content) {
    const std::string layer = TarText().file("content", content).finish();
    REQUIRE(write_file(dir / "image.tar", docker_archive(name, {layer})));
    REQUIRE(store.import(dir / "image.tar").wait(30s));
  }
};

/// Push from one store, pull into another, and again after the tag moved.
void round_trip(RealRegistry& f, const std::string& host, const ImagePullOptions& options) {
  const auto first = f.open("first"), second = f.open("second");
  f.import(*first, "app:1", "version one");
  const auto pushed = first->push("app:1", host + "/team/app:1", options).wait(60s);
  REQUIRE_MESSAGE(pushed, (pushed ? "" : pushed.error().to_string()));
  const auto pulled = second->pull(host + "/team/app:1", options).wait(60s);
  REQUIRE_MESSAGE(pulled, (pulled ? "" : pulled.error().to_string()));
  CHECK(pulled->pinned == *pushed);
  CHECK(pulled->id == first->lookup("app:1").value()->id);
  const auto plan = second->prepare_root(host + "/team/app:1", "look", Isolation::process).wait(30s).value();
  CHECK(read_file(plan.directory + "/content", 100).value() == "version one");

  f.import(*first, "app:1", "version two");
  REQUIRE(first->push("app:1", host + "/team/app:1", options).wait(60s));
  const auto moved = second->pull(host + "/team/app:1", options).wait(60s);
  REQUIRE(moved);
  CHECK(moved->id == first->lookup("app:1").value()->id);
  CHECK(second->pull(*pushed, options).wait(60s)->id == pulled->id);
  const auto missing = second->pull(host + "/team/app:9", options).wait(60s);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().is(Error::not_found));
}

}  // namespace

TEST_CASE("docker-registry without TLS: push, pull, moved tags, digests") {
  if (find_docker_registry().empty())
    ORC_SKIP("docker-registry plain",
             "docker-registry is not in PATH (Debian package docker-registry; tools/fetch-peers.sh)");
  RealRegistry f;
  const DockerRegistry registry(f.engine, f.dir, "", "", "127.0.0.1", {});
  round_trip(f, registry.host(), {});
}

TEST_CASE("docker-registry with TLS and a login") {
  if (find_docker_registry().empty())
    ORC_SKIP("docker-registry TLS",
             "docker-registry is not in PATH (Debian package docker-registry; tools/fetch-peers.sh)");
  RealRegistry f;
  const auto [certificate, key] = http::make_self_signed("localhost").value();
  REQUIRE(write_file(f.dir / "cert.pem", certificate));
  REQUIRE(write_file(f.dir / "key.pem", key));
  // htpasswd with bcrypt: alice:secret.
  REQUIRE(
      write_file(f.dir / "htpasswd", "alice:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"));
  TlsOptions tls;
  tls.ca_pem = certificate;
  const std::string http =
      "  tls:\n    certificate: " + (f.dir / "cert.pem") + "\n    key: " + (f.dir / "key.pem") + "\n";
  SUBCASE("TLS only") {
    const DockerRegistry registry(f.engine, f.dir, http, "", "localhost", tls);
    ImagePullOptions options;
    options.ca_pem = certificate;
    round_trip(f, registry.host(), options);
  }
  SUBCASE("with a login; a wrong password is refused by name") {
    const DockerRegistry registry(
        f.engine, f.dir, http,
        "auth:\n  htpasswd:\n    realm: test\n    path: " + (f.dir / "htpasswd") + "\n", "localhost", tls);
    ImagePullOptions options;
    options.ca_pem = certificate;
    options.credentials = RegistryCredentials{"alice", "secret", ""};
    round_trip(f, registry.host(), options);
    options.credentials = RegistryCredentials{"alice", "wrong", ""};
    const auto refused = f.open("third")->pull(registry.host() + "/app:1", options).wait(60s);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().is(Error::unauthenticated));
    CHECK(refused.error().message().find("alice") != std::string::npos);
  }
}
