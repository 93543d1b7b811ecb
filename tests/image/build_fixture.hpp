#pragma once
// A builder on a folder of its own, with a step runner that plays the shell where RUN is meant.
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "base/http_client.hpp"
#include "base/json.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/image_builder.hpp"
#include "tests/image/fixtures.hpp"
#include "tests/support/test.hpp"

namespace orchestra::image::test {

/// Runs `play` on the plain root instead of a container.
class FakeRunner : public StepRunner {
 public:
  using Play = std::function<int(const StepRequest&)>;
  explicit FakeRunner(Play play) : play_(std::move(play)) {}
  Pending<StepResult> run(StepRequest request) override {
    ++runs;
    StepResult result;
    result.exit_code = play_(request);
    result.output = "said something\n";
    return Result<StepResult>(result);
  }
  std::atomic<int> runs{0};

 private:
  Play play_;
};

struct BuildFixture {
  orchestra::test::TempDir dir;
  Engine engine;
  std::shared_ptr<ImageStore> store;
  std::shared_ptr<FakeRunner> runner;
  std::string log;

  /// With `remote`, contexts and images may come from the network.
  explicit BuildFixture(bool remote = false) {
    ImageStoreOptions options;
    options.dir = dir / "store";
    if (remote) options.http = make_http_client(engine);
    if (remote) options.spawner = make_spawner(engine);
    store = ImageStore::open(engine, options).value();
    std::filesystem::create_directories(dir / "src");
  }
  void put(const std::string& path, const std::string& bytes, mode_t mode = 0644) {
    const std::string full = dir / ("src/" + path);
    std::filesystem::create_directories(std::filesystem::path(full).parent_path());
    REQUIRE(write_file(full, bytes, mode));
    REQUIRE(::chmod(full.c_str(), mode) == 0);
  }
  /// `log` is that of this build alone.
  Result<BuildResult> build(const std::string& dockerfile, BuildOptions options = {}) {
    put("Dockerfile", dockerfile);
    log.clear();
    options.context = dir / "src";
    options.isolation = Isolation::process;
    if (options.tag.empty()) options.tag = "test/image:1";
    options.progress = [this](const std::string& line) { log += line + "\n"; };
    return ImageBuilder(store, runner).build(options).wait(std::chrono::seconds(60));
  }
  /// The built image as a plain folder.
  std::string root(const BuildResult& built) {
    static int count = 0;
    return store->prepare_root(built.image.digest, "look-" + std::to_string(++count), Isolation::process)
        .wait(std::chrono::seconds(30))
        .value()
        .directory;
  }
  json::value config(const BuildResult& built) {
    return parse_json(store->raw_config(built.image.digest).value()).value();
  }
};

}  // namespace orchestra::image::test
