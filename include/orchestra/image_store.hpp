#pragma once
// ImageStore: container images on this machine.
//
// A folder that is a valid OCI image layout at all times, plus the unpacked layers and the writable roots
// made from them. One process owns a folder (`busy` names it). All calls are thread safe; what may wait
// returns Pending and runs on the engine's worker threads. Since 0.1.
//
//   auto store = ImageStore::open(engine, {.dir = "/var/lib/demo/images"}).value();
//   auto report = store->import("busybox.tar").wait(1min).value();
//   auto plan = store->prepare_root("busybox:1.36", "web-1", Isolation::full).wait(10s).value();
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/image.hpp"
#include "orchestra/pending.hpp"
#include "orchestra/units.hpp"

namespace orchestra {

class HttpClient;
class ImageService;
class Spawner;
namespace image {
class Store;
}

/// When the store collects by itself, as the kubelet's image GC: above `high` percent of the file system in
/// use, images go, the least recently used first, until `low` percent; or above `bytes_max` of the store.
struct CollectPolicy {
  bool automatic = false;
  Duration period = std::chrono::minutes(5);
  int high_percent = 85, low_percent = 80;
  std::optional<std::uint64_t> bytes_max = {};
  Duration minimum_age = std::chrono::minutes(2), maximum_age = Duration(0);
};
/// What happened to the store that a node may want to tell ("ImageGCFailed", "FreeDiskSpaceFailed",
/// "ImagesCollected", "PreloadFailed").
struct ImageEvent {
  bool warning = false;
  std::string reason, message;
};

struct ImageStoreOptions {
  std::string dir;
  /// Every archive and layout in these folders is imported when the store opens, and pinned. A folder that
  /// is missing is fine; a broken file is logged and left out.
  std::vector<std::string> preload_dirs = {};
  /// With pull policy Always: a preloaded image is used when its registry cannot be reached.
  bool preload_satisfies_always = false;
  /// False: roots are always plain copies. True: overlay where it can be mounted (tried once, really).
  bool overlay = true;
  /// Of the node agent's pulls: an image that a registry handed out for a login is used only by pods that
  /// have this login, or that the registry hands it out to as well. Images that were not pulled for a pod are
  /// for all. Since 0.2.
  bool verify_pull_secrets = true;
  /// Unpacked size of one layer.
  std::uint64_t layer_bytes_max = std::uint64_t{32} << 30;
  std::uint64_t layer_entries_max = 2'000'000;
  /// A layer with a device or owner that this process cannot make is refused, not made without it.
  bool strict_devices = false;
  /// For pull(): none means that nothing can be pulled.
  std::shared_ptr<HttpClient> http = nullptr;
  /// Tried in order before the registry itself: host -> base URLs, e.g. "docker.io" ->
  /// "http://127.0.0.1:5000".
  std::map<std::string, std::vector<std::string>> mirrors = {};
  /// containerd's folder of HOST/hosts.toml: mirrors, certificates, headers. Read at each pull.
  std::string certs_dir = {};
  /// A containers registries.conf (version 2): mirrors, rewritten prefixes, blocked, short names.
  std::string registries_conf = {};
  /// Runs credential helpers of login files; none: such a file is an error.
  std::shared_ptr<Spawner> spawner = nullptr;
  std::map<std::string, std::string> registry_ca_pem = {};  ///< host[:port] -> certificates to trust
  std::vector<std::string> plain_http_hosts = {};           ///< host[:port] without TLS
  /// Collects by itself, see CollectPolicy. Asked for again when a disk is full.
  CollectPolicy collect = {};
  /// Called on worker threads.
  std::function<void(const ImageEvent&)> on_event = {};
  /// Before a failed request is sent again; doubled each time up to 30 s, at most five attempts.
  Duration registry_retry_delay = std::chrono::seconds(1);
};

struct ImportOptions {
  std::string name;      ///< for an image without one, or instead of its own when the archive holds one image
  std::string platform;  ///< "linux/arm64"; empty: this machine's
  bool pinned = false;
  /// The archive or folder is a root file system: one layer, no command.
  bool root_file_system = false;
};
struct ImportReport {
  std::vector<ImageInfo> images;
  std::uint64_t skipped_entries = 0;  ///< of the archive that no image refers to
};

struct ImagePullOptions {
  std::vector<std::string> docker_configs;  ///< `.dockerconfigjson` texts
  /// Texts of auth.json or config.json files of a person; unlike pull secrets they may name helpers.
  std::vector<std::string> login_files = {};
  std::optional<RegistryCredentials> credentials;
  std::string platform;
  bool all_platforms = false;  ///< the whole index, with everything that it names
  bool plain_http = false;     ///< no TLS for this registry
  bool insecure = false;       ///< TLS without looking at the certificate
  /// Push: blobs go in pieces of this size; 0: each in one piece.
  std::uint64_t chunk_bytes = 0;
  /// Push: repositories of the same registry that may have the blobs already ("team/base").
  std::vector<std::string> mount_from = {};
  std::string ca_pem;  ///< certificates to trust, besides those of the store's options
  /// Lines for a person: "layer sha256:ab12.. 12 MiB".
  std::function<void(const std::string&)> progress;
};

/// oci, docker: one file. layout: an OCI layout in a folder that is made, or extended by the names.
enum class ImageFormat : std::uint8_t { oci, docker, layout };

struct CollectOptions {
  bool dry_run = false;
  /// Also images that have names but no root uses, until the store holds at most this many bytes.
  std::optional<std::uint64_t> bytes_max;
  /// Younger content stays: an operation may be about to use it.
  Duration minimum_age = std::chrono::minutes(2);
  /// Images that no root used for so long go, whatever the disk holds. Zero: no such limit.
  Duration maximum_age = Duration(0);
};

struct CollectReport {
  std::vector<std::string> removed;  ///< digests, layers, names
  std::uint64_t bytes = 0;
};
struct VerifyReport {
  std::uint64_t blobs = 0, layers = 0, images = 0;
  std::vector<std::string> problems;  ///< empty: everything is what its name says
};
struct ImageUsage {
  std::uint64_t bytes = 0, inodes = 0;
};

class ORC_API ImageStore {
 public:
  static Result<std::shared_ptr<ImageStore>> open(Engine& engine, ImageStoreOptions options);
  ~ImageStore();
  ImageStore(const ImageStore&) = delete;
  ImageStore& operator=(const ImageStore&) = delete;

  /// A docker-archive, an oci-archive (plain, gzip or zstd) or the folder of an OCI layout. Nothing is
  /// imported unless all of it is good.
  Pending<ImportReport> import(std::string path, ImportOptions options = {});
  /// Makes the image present from its registry, whatever is here already.
  Pending<ImageInfo> pull(std::string reference, ImagePullOptions options = {});
  /// Sends an image of the store to a registry; `destination` empty: where its name says. Gives NAME@DIGEST.
  Pending<std::string> push(std::string name, std::string destination = {}, ImagePullOptions options = {});
  /// Names, or ids; a file for archives (the same images make the same bytes).
  Pending<void> export_to(std::string path, std::vector<std::string> names,
                          ImageFormat format = ImageFormat::oci);

  /// By name, id (or at least 4 digits of it) or digest.
  Result<std::optional<ImageInfo>> lookup(const std::string& name) const;
  Result<std::vector<ImageInfo>> list() const;
  /// The documents as they are stored, byte for byte.
  Result<std::string> raw_manifest(const std::string& name) const;
  Result<std::string> raw_config(const std::string& name) const;
  Result<ImageInfo> tag(const std::string& from, const std::string& to);
  /// Removes the name; by id all names of the image. Roots made from it keep its content.
  Result<void> remove(const std::string& name);
  /// Removes what nothing needs: no name, no root, no running operation, no cached build step.
  Pending<CollectReport> collect(CollectOptions options = {});
  /// One look by the policy, as the automatic collection does it every period. `no_space` when images would
  /// have to go and none may.
  Pending<CollectReport> collect_by(CollectPolicy policy);
  /// Reads every blob and layer record again and compares them with their names.
  Pending<VerifyReport> verify();
  /// What a root holds of its own: the upper directory, or the whole copy.
  Pending<ImageUsage> usage(std::string owner);
  /// Writes what was changed in a root as a layer tar into `path`, whiteouts in front of what stands beside
  /// them; gives its digest.
  Pending<std::string> diff_to(std::string owner, std::string path);

  /// A writable root for `owner`; idempotent. See MountPlan for how to use it.
  Pending<MountPlan> prepare_root(std::string name, std::string owner, Isolation isolation = Isolation::full);
  Pending<void> release_root(std::string owner);

  /// Empty where roots can be overlays, else the reason why they are copies.
  std::string overlay_problem() const;

  /// The interface of the node agent (src/api/image_service.hpp), on this store.
  std::shared_ptr<ImageService> service() const;
  /// For the areas of the library that build on the store.
  const std::shared_ptr<image::Store>& internal() const { return store_; }

 private:
  explicit ImageStore(std::shared_ptr<image::Store> store);
  std::shared_ptr<image::Store> store_;
};

}  // namespace orchestra
