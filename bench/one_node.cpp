#include "bench/one_node.hpp"

#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/fd.hpp"
#include "bench/bench.hpp"
#include "orchestra/image_builder.hpp"
#include "orchestra/image_store.hpp"

namespace orchestra::bench {

using namespace std::chrono_literals;

bool enter_own_network() {
  static const bool entered =
      geteuid() == 0 && unshare(CLONE_NEWNET) == 0 && system("ip link set lo up") == 0;
  return entered;
}

ClusterOptions options_of(const std::string& data) {
  ClusterOptions options;
  options.data_dir = data;
  options.listen = options.ingress = "127.0.0.1:0";
  return options;
}

/// An image of one static program, as an archive that the cluster preloads.
Result<void> make_image(const std::string& folder) {
  Engine engine;
  ORC_TRY(make_directories(folder + "/context"));
  std::error_code failed;
  std::filesystem::copy_file("/bin/busybox", folder + "/context/busybox", failed);
  if (failed)
    return Error(Error::not_found, "bench", "/bin/busybox: " + failed.message() + "; install busybox-static");
  ORC_TRY(write_file(
      folder + "/context/Dockerfile",
      "FROM scratch\nCOPY busybox /bin/busybox\nENTRYPOINT [\"/bin/busybox\", \"sleep\", \"1000\"]\n"));
  ORC_ASSIGN(auto store, ImageStore::open(engine, {.dir = folder + "/images"}));
  ORC_TRY(ImageBuilder(store).build({.context = folder + "/context", .tag = "bench/sleep:1"}).wait(60s));
  ORC_TRY(make_directories(folder + "/data/preload"));
  return store->export_to(folder + "/data/preload/sleep.tar", {"bench/sleep:1"}, ImageFormat::docker)
      .wait(60s);
}

Result<double> pod_ready_ms(const Client& client, const std::string& name) {
  const std::string yaml = "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name +
                           ", namespace: default}\nspec:\n  terminationGracePeriodSeconds: 0\n"
                           "  containers: [{name: main, image: 'bench/sleep:1'}]\n";
  ORC_ASSIGN(const Object pod, Object::from_yaml(yaml));
  ListOptions which;
  which.ns = "default";
  which.fields = "metadata.name=" + name;
  ORC_ASSIGN(ObjectWatch watch, client.watch("v1", "pods", which));
  const std::int64_t begin = now_ns();
  ORC_TRY(client.create(pod).wait(10s));
  while (now_ns() - begin < 30'000'000'000) {
    auto changes = watch.next(1s);
    if (!changes) continue;
    for (const ObjectChange& change : *changes) {
      if (change.object.get_bool("/status/containerStatuses/0/ready").value_or(false))
        return static_cast<double>(now_ns() - begin) / 1e6;
    }
  }
  return Error(Error::deadline_exceeded, "bench", "pod " + name + " was not ready within 30 s");
}

}  // namespace orchestra::bench
