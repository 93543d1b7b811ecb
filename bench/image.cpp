// Images: unpacking, importing, roots, builds, and what an open store costs.
//
// Unpacking is compared with bsdtar (else GNU tar) on the same archive in the same run, interleaved. Roots
// are measured without the mount, which is the runtime's.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/fd.hpp"
#include "base/http_client.hpp"
#include "bench/bench.hpp"
#include "image/layer_apply.hpp"
#include "image/manifest.hpp"
#include "image/tar.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/image_builder.hpp"
#include "orchestra/image_store.hpp"

namespace orchestra::bench {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class ImageFolder {
 public:
  ImageFolder() {
    std::string pattern = "/tmp/orc-bench-image-XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~ImageFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

std::string random_text(std::size_t size, std::uint64_t seed) {
  std::string out(size, '\0');
  for (std::size_t i = 0; i < size; ++i) {
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    out[i] = static_cast<char>('a' + (seed >> 59));
  }
  return out;
}

/// A layer of `files` small files in folders of 100.
std::string many_files(std::size_t files) {
  std::string out;
  image::TarWriter tar([&out](std::string_view bytes) {
    out += bytes;
    return Result<void>();
  });
  const std::string content = random_text(1000, 1);
  for (std::size_t i = 0; i < files; ++i) {
    image::TarEntry entry;
    if (i % 100 == 0) {
      entry.type = image::TarType::directory;
      entry.mode = 0755;
      entry.path = "d" + std::to_string(i / 100);
      (void)tar.add(entry);
    }
    image::TarEntry file;
    file.path = "d" + std::to_string(i / 100) + "/f" + std::to_string(i);
    (void)tar.add(file, content);
  }
  (void)tar.finish();
  return out;
}

/// docker save's form around layers.
void write_docker_archive(const std::string& path, const std::string& name,
                          const std::vector<std::string>& layers) {
  const Fd file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC).value();
  image::TarWriter tar([&file](std::string_view bytes) { return write_all(file.get(), bytes); });
  const auto put = [&tar](const std::string& entry_path, const std::string& bytes) {
    image::TarEntry entry;
    entry.path = entry_path;
    (void)tar.add(entry, bytes);
  };
  std::string diff_ids, paths;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    diff_ids += (i > 0 ? ",\"" : "\"") + image::sha256_digest(layers[i]) + "\"";
    paths += (i > 0 ? ",\"" : "\"") + std::to_string(i) + ".tar\"";
    put(std::to_string(i) + ".tar", layers[i]);
  }
  put("config.json", "{\"architecture\":\"" + image::host_platform().architecture +
                         "\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[" + diff_ids +
                         "]}}");
  put("manifest.json",
      "[{\"Config\":\"config.json\",\"RepoTags\":[\"" + name + "\"],\"Layers\":[" + paths + "]}]");
  (void)tar.finish();
}

double milliseconds(std::int64_t since) { return static_cast<double>(now_ns() - since) / 1e6; }

void measure_unpack(const Options& options, Report& report) {
  const ImageFolder folder;
  const std::size_t files = options.quick ? 10'000 : 100'000;
  const std::string tar = many_files(files);
  if (!write_file(folder / "layer.tar", tar)) return;
  const std::string peer = !find_program("bsdtar").empty() ? "bsdtar" : "tar";
  std::vector<double> ours, theirs;
  for (int round = 0; round < (options.quick ? 3 : 5); ++round) {
    const std::string mine = folder / ("ours" + std::to_string(round)),
                      other = folder / ("peer" + std::to_string(round));
    fs::create_directory(mine);
    fs::create_directory(other);
    std::int64_t start = now_ns();
    {
      const Fd target = open_file(mine, O_RDONLY | O_DIRECTORY).value();
      const auto source = image::make_file_source(open_file(folder / "layer.tar", O_RDONLY).value());
      if (!image::apply_layer(*source, target.get(), image::LayerStack())) return;
    }
    ours.push_back(milliseconds(start));
    start = now_ns();
    const std::string command = peer + " -xf '" + (folder / "layer.tar") + "' -C '" + other + "'";
    if (std::system(command.c_str()) != 0) return;
    theirs.push_back(milliseconds(start));
    fs::remove_all(mine);
    fs::remove_all(other);
  }
  const double our_ms = percentile(ours, 0.5), peer_ms = percentile(theirs, 0.5);
  const double rate = static_cast<double>(files) / our_ms * 1000;
  report.add({.name = "unpack_files_per_s", .value = rate, .unit = "1/s"});
  report.add({.name = "unpack_ratio_" + peer,
              .value = peer_ms / our_ms,
              .unit = "x",
              .goal = 1.5,
              .op = ">=",
              .peer = Peer{peer, "", static_cast<double>(files) / peer_ms * 1000},
              .note = std::to_string(files) + " files of 1000 bytes"});
}

void measure_import(const Options& options, Report& report) {
  const ImageFolder folder;
  Engine engine;
  const std::size_t size = options.quick ? (64 << 20) : (512 << 20);
  std::string layer;
  image::TarWriter tar([&layer](std::string_view bytes) {
    layer += bytes;
    return Result<void>();
  });
  image::TarEntry entry;
  entry.path = "big";
  (void)tar.add(entry, random_text(size, 7));
  (void)tar.finish();
  write_docker_archive(folder / "big.tar", "big:1", {layer});
  const auto store = ImageStore::open(engine, {.dir = folder / "store"});
  if (!store) return;
  const std::int64_t start = now_ns();
  if (!(*store)->import(folder / "big.tar").wait(10min)) return;
  report.add({.name = "import_docker_archive_mb_s",
              .value = static_cast<double>(layer.size()) / 1e6 / milliseconds(start) * 1000,
              .unit = "MB/s",
              .note = "stored, verified, unpacked and synced"});
}

void measure_roots(const Options& options, Report& report) {
  const ImageFolder folder;
  Engine engine;
  std::vector<std::string> layers;
  for (int i = 0; i < 10; ++i) layers.push_back(many_files(10 + static_cast<std::size_t>(i)));
  write_docker_archive(folder / "ten.tar", "ten:1", layers);
  std::vector<double> open_ms;
  for (int i = 0; i < 3; ++i) {
    const std::int64_t start = now_ns();
    const auto store = ImageStore::open(engine, {.dir = folder / "store"});
    if (!store) return;
    open_ms.push_back(milliseconds(start));
    if (i == 0 && !(*store)->import(folder / "ten.tar").wait(1min)) return;
    if (i < 2) continue;
    std::vector<double> make_us, remove_us;
    for (int n = 0; n < (options.quick ? 200 : 1000); ++n) {
      const std::string owner = "root-" + std::to_string(n);
      const std::int64_t begin = now_ns();
      if (!(*store)->prepare_root("ten:1", owner).wait(10s)) return;
      make_us.push_back(milliseconds(begin) * 1000);
      const std::int64_t end = now_ns();
      if (!(*store)->release_root(owner).wait(10s)) return;
      remove_us.push_back(milliseconds(end) * 1000);
    }
    const std::string kind =
        (*store)->overlay_problem().empty() ? "overlay" : "copy: " + (*store)->overlay_problem();
    report.add({.name = "snapshot_us",
                .value = percentile(make_us, 0.5),
                .unit = "us",
                .goal = 1000,
                .note = kind + ", 10 layers"});
    report.add({.name = "snapshot_remove_us",
                .value = percentile(remove_us, 0.5),
                .unit = "us",
                .goal = 2000,
                .note = kind});
  }
  report.add({.name = "store_open_ms",
              .value = percentile(open_ms, 0.5),
              .unit = "ms",
              .goal = 20,
              .note = "one image"});
}

void measure_build(const Options& options, Report& report) {
  const ImageFolder folder;
  Engine engine;
  fs::create_directories(folder / "src");
  const std::size_t files = options.quick ? 1'000 : 10'000;
  for (std::size_t i = 0; i < files; ++i) {
    const std::string directory = folder / ("src/d" + std::to_string(i / 100));
    if (i % 100 == 0) fs::create_directory(directory);
    (void)write_file(directory + "/f" + std::to_string(i), random_text(500, i));
  }
  std::string text = "FROM scratch\nCOPY . /src\n";
  for (int i = 0; i < 18; ++i) text += "ENV V" + std::to_string(i) + "=" + std::to_string(i) + "\n";
  if (!write_file(folder / "src/Dockerfile", text)) return;
  const auto store = ImageStore::open(engine, {.dir = folder / "store"});
  if (!store) return;
  BuildOptions build;
  build.context = folder / "src";
  build.tag = "bench:1";
  std::int64_t start = now_ns();
  if (!ImageBuilder(*store).build(build).wait(5min)) return;
  report.add({.name = "build_cold_ms",
              .value = milliseconds(start),
              .unit = "ms",
              .note = std::to_string(files) + " context files"});
  std::vector<double> cached;
  for (int i = 0; i < 5; ++i) {
    start = now_ns();
    if (!ImageBuilder(*store).build(build).wait(5min)) return;
    cached.push_back(milliseconds(start));
  }
  report.add({.name = "build_cached_ms",
              .value = percentile(cached, 0.5),
              .unit = "ms",
              .goal = 300,
              .note = "20 steps, " + std::to_string(files) + " context files"});
}

/// Debian's docker-registry on a loopback port; ended with the scope, by its pid.
class LocalRegistry {
 public:
  explicit LocalRegistry(Engine& engine, const ImageFolder& folder) {
    if (find_program("docker-registry").empty()) return;
    std::string port;
    {
      auto server = HttpServer::start(engine, {.listen = "127.0.0.1:0"}, [](auto, auto) {});
      if (!server) return;
      port = (*server)->address().substr((*server)->address().rfind(':') + 1);
      (*server)->stop(0ms);
    }
    host_ = "127.0.0.1:" + port;
    const std::string config = folder / "registry.yml";
    (void)write_file(config,
                     "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n"
                     "  filesystem:\n    rootdirectory: " +
                         (folder / "registry") + "\nhttp:\n  addr: " + host_ + "\n");
    const char* args[] = {"docker-registry", "serve", config.c_str(), nullptr};
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
    if (::posix_spawnp(&pid_, args[0], &quiet, nullptr, const_cast<char**>(args), environ) != 0) pid_ = -1;
    posix_spawn_file_actions_destroy(&quiet);
    const auto http = make_http_client(engine);
    for (int i = 0; i < 200 && pid_ > 0; ++i) {
      if (http->send({.url = "http://" + host_ + "/v2/"}).wait(2s)) return;
      Promise<void> soon;
      engine.after(25ms, [soon] { soon.set(Result<void>()); });
      (void)soon.pending().wait(5s);
    }
    host_.clear();
  }
  ~LocalRegistry() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  const std::string& host() const { return host_; }

 private:
  pid_t pid_ = -1;
  std::string host_;
};

std::uint64_t resident_kib() {
  const auto text = read_file("/proc/self/status", 1 << 16).value_or("");
  const std::size_t at = text.find("VmHWM:");
  return at == std::string::npos ? 0 : std::strtoull(text.c_str() + at + 6, nullptr, 10);
}

/// Ten layers of gzip, as registries hold them: half random text, half small files.
std::string ten_layers(const ImageFolder& folder, bool quick) {
  const std::size_t size = quick ? (6 << 20) : (100 << 20);
  std::vector<std::string> layers;
  for (std::uint64_t i = 0; i < 10; ++i) {
    std::string out;
    image::TarWriter tar([&out](std::string_view bytes) {
      out += bytes;
      return Result<void>();
    });
    image::TarEntry entry;
    for (std::uint64_t n = 0; n < 100; ++n) {
      entry.path = "l" + std::to_string(i) + "/f" + std::to_string(n);
      (void)tar.add(entry, random_text(size / 100, i * 1000 + n + 1));
    }
    (void)tar.finish();
    layers.push_back(std::move(out));
  }
  write_docker_archive(folder / "ten.tar", "ten:1", layers);
  return folder / "ten.tar";
}

double command_ms(const std::string& command) {
  const std::int64_t start = now_ns();
  return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()) == 0 ? milliseconds(start) : -1;
}

void measure_transfer(const Options& options, Report& report) {
  const ImageFolder folder;
  Engine engine;
  const LocalRegistry registry(engine, folder);
  const bool peers = !find_program("skopeo").empty() && !find_program("umoci").empty();
  if (registry.host().empty() || !peers) {
    report.add({.name = "pull_unpack_ms",
                .unit = "ms",
                .note = "docker-registry, skopeo or umoci is not installed"});
    return;
  }
  const std::string archive = ten_layers(folder, options.quick);
  // skopeo puts the gzip form into the registry, so both pull the same bytes.
  const std::string remote = "docker://" + registry.host() + "/ten:1";
  if (command_ms("skopeo --insecure-policy copy --dest-tls-verify=false docker-archive:" + archive + " " +
                 remote) < 0)
    return;
  fs::remove(archive);
  const auto http = make_http_client(engine);
  std::vector<double> ours, theirs, warm;
  const std::uint64_t idle_kib = resident_kib();
  std::uint64_t peak_kib = 0;
  for (int round = 0; round < (options.quick ? 3 : 3); ++round) {
    const std::string number = std::to_string(round);
    {
      const auto store = ImageStore::open(engine, {.dir = folder / ("store" + number), .http = http});
      if (!store) return;
      std::int64_t start = now_ns();
      ImagePullOptions pull;
      pull.plain_http = true;
      if (auto pulled = (*store)->pull(registry.host() + "/ten:1", pull).wait(10min); !pulled) return;
      ours.push_back(milliseconds(start));
      peak_kib = std::max(peak_kib, resident_kib());
      start = now_ns();
      if (!(*store)->pull(registry.host() + "/ten:1", pull).wait(1min)) return;
      warm.push_back(milliseconds(start));
    }
    fs::remove_all(folder / ("store" + number));
    // The same durability for both: what is unpacked is on the disk in the end.
    const std::string oci = folder / ("oci" + number), bundle = folder / ("bundle" + number);
    const double ms =
        command_ms("skopeo --insecure-policy copy --src-tls-verify=false " + remote + " oci:" + oci +
                   ":x && umoci unpack --image " + oci + ":x " + bundle + " && sync -f " + bundle);
    if (ms < 0) return;
    theirs.push_back(ms);
    fs::remove_all(oci);
    fs::remove_all(bundle);
  }
  const double our_ms = percentile(ours, 0.5), peer_ms = percentile(theirs, 0.5);
  const std::string size = options.quick ? "10 layers, 60 MiB" : "10 layers, 1 GiB";
  report.add({.name = "pull_unpack_ms",
              .value = our_ms,
              .unit = "ms",
              .peer = Peer{"skopeo+umoci", "", peer_ms},
              .note = size + ", gzip, synced"});
  report.add({.name = "ratio_skopeo_umoci",
              .value = peer_ms / our_ms,
              .unit = "x",
              .goal = 2,
              .op = ">=",
              .note = size});
  report.add({.name = "pull_warm_ms", .value = percentile(warm, 0.5), .unit = "ms", .note = "one HEAD"});
  report.add({.name = "pull_rss_peak_mib",
              .value = static_cast<double>(peak_kib - idle_kib) / 1024,
              .unit = "MiB",
              .goal = 32,
              .note = "over the peak before it (making the archive); at least 0"});
}

void measure_build_peer(const Options& options, Report& report) {
  if (find_program("buildah").empty() || ::geteuid() != 0) {
    report.add(
        {.name = "build_cached_ratio_buildah", .unit = "x", .note = "buildah is not installed, or no root"});
    return;
  }
  const ImageFolder folder;
  Engine engine;
  fs::create_directories(folder / "src");
  const std::size_t files = options.quick ? 1'000 : 10'000;
  for (std::size_t i = 0; i < files; ++i) {
    const std::string directory = folder / ("src/d" + std::to_string(i / 100));
    if (i % 100 == 0) fs::create_directory(directory);
    (void)write_file(directory + "/f" + std::to_string(i), random_text(500, i));
  }
  std::string text = "FROM scratch\nCOPY . /src\n";
  for (int i = 0; i < 18; ++i) text += "ENV V" + std::to_string(i) + "=" + std::to_string(i) + "\n";
  if (!write_file(folder / "src/Dockerfile", text)) return;
  const std::string peer = "buildah --root '" + (folder / "bs") + "' --runroot '" + (folder / "br") +
                           "' --storage-driver vfs bud -q --layers --isolation chroot -t x '" +
                           (folder / "src") + "'";
  const auto store = ImageStore::open(engine, {.dir = folder / "store"});
  if (!store || command_ms(peer) < 0) return;
  BuildOptions build;
  build.context = folder / "src";
  build.tag = "bench:1";
  std::vector<double> ours, theirs;
  for (int i = 0; i < 4; ++i) {
    const std::int64_t start = now_ns();
    if (!ImageBuilder(*store).build(build).wait(5min)) return;
    if (i > 0) ours.push_back(milliseconds(start));
    if (const double ms = command_ms(peer); i > 0 && ms > 0) theirs.push_back(ms);
  }
  if (theirs.empty()) return;
  report.add({.name = "build_cached_ratio_buildah",
              .value = percentile(theirs, 0.5) / percentile(ours, 0.5),
              .unit = "x",
              .goal = 5,
              .op = ">=",
              .peer = Peer{"buildah", "", percentile(theirs, 0.5)},
              .note = "20 steps, " + std::to_string(files) + " files; ours " +
                      std::to_string(percentile(ours, 0.5)) + " ms"});
}

void run_image(const Options& options, Report& report) {
  measure_transfer(options, report);
  measure_build_peer(options, report);
  measure_unpack(options, report);
  measure_import(options, report);
  measure_roots(options, report);
  measure_build(options, report);
}

const bool image_registered = register_area("image", run_image);

}  // namespace
}  // namespace orchestra::bench
