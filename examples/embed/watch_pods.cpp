// A whole cluster inside this process: starts it, applies a manifest, watches pods until one runs, and takes
// everything off the machine again.
//   watch_pods DATA_DIR MANIFEST [IMAGES]
#include <fstream>
#include <iostream>
#include <iterator>

#include <orchestra/cluster.hpp>

using namespace std::chrono_literals;

namespace {
constexpr int kBatchesMax = 60;  // of at most a second each

int report(const orchestra::Error& error) {
  std::cerr << "watch_pods: " << error.to_string() << "\n";
  return 1;
}

int create_all(const orchestra::Client& client, const std::string& manifest) {
  auto objects = orchestra::Object::many_from_yaml(manifest);
  if (!objects) return report(objects.error());
  for (const orchestra::Object& object : *objects) {
    auto made = client.create(object).wait(10s);
    if (!made) return report(made.error());
    std::cout << "created " << made->kind() << " " << made->name() << "\n";
  }
  return 0;
}

int watch_until_running(const orchestra::Client& client) {
  auto watch = client.watch("v1", "pods");
  if (!watch) return report(watch.error());
  for (int i = 0; i < kBatchesMax; ++i) {
    const auto batch = watch->next(1s);
    if (!batch && watch->error()) return report(*watch->error());
    if (!batch) continue;
    for (const orchestra::ObjectChange& change : *batch) {
      const std::string phase = change.object.get("/status/phase").value_or("-");
      std::cout << change.object.name() << " is " << phase << "\n";
      if (phase == "Running") return 0;
    }
  }
  std::cerr << "watch_pods: no pod was running in time\n";
  return 1;
}
}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: watch_pods DATA_DIR MANIFEST [IMAGES]\n";
    return 2;
  }
  std::ifstream file(argv[2]);
  const std::string manifest{std::istreambuf_iterator<char>(file), {}};

  orchestra::Engine engine;
  orchestra::ClusterOptions options{.data_dir = argv[1], .listen = "127.0.0.1:0", .ingress = "127.0.0.1:0"};
  if (argc > 3) options.preload = {argv[3]};
  orchestra::Cluster cluster(engine, options);
  if (auto started = cluster.start(); !started) return report(started.error());
  std::cout << "the API is at " << cluster.info().api_address << "\n";

  int status = create_all(cluster.client(), manifest);
  if (status == 0) status = watch_until_running(cluster.client());
  if (auto ended = cluster.down(30s); !ended) return report(ended.error());
  return status;
}
