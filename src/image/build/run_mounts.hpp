#pragma once
// RUN --mount: what a step sees besides its root, and takes nothing of into the layer.
//
// Forms of the Dockerfile reference: bind, cache, tmpfs, secret, ssh. parse_mount() is pure; RunMounts makes
// the folders and files and removes what belongs to one step at its end. Caches live in
// DIR/build-mounts/HASH-OF-ID beside the store and stay until a collection with a limit.
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/http_client.hpp"
#include "orchestra/image_builder.hpp"
#include "orchestra/result.hpp"

namespace orchestra::image {

class Store;

struct MountSpec {
  std::string type = "bind";
  std::string id, target, source, from, environment;
  std::string sharing = "shared";
  bool read_only = false, required = false;
  std::uint32_t mode = 0, uid = 0, gid = 0;
};
/// "type=cache,target=/root/.cache,sharing=locked". Unknown keys and types are errors that name them.
Result<MountSpec> parse_mount(std::string_view text);

class RunMounts {
 public:
  /// A folder that `from` of a bind mount means; empty: the context.
  using FindFolder = std::function<Result<std::string>(const std::string& from)>;

  RunMounts(Store& store, const BuildOptions& options, std::string folder)
      : store_(store), options_(options), folder_(std::move(folder)) {}
  ~RunMounts();
  RunMounts(const RunMounts&) = delete;
  RunMounts& operator=(const RunMounts&) = delete;

  /// Adds mounts and environment to the request. `folder` is where files of this step may lie.
  Result<void> add(const MountSpec& spec, const FindFolder& find, StepRequest& request);
  /// A file with `content` that can be run, for heredocs that begin with #!.
  Result<void> add_script(const std::string& content, const std::string& target, StepRequest& request);

 private:
  Result<void> add_cache(const MountSpec& spec, StepRequest& request);
  Result<void> add_secret(const MountSpec& spec, StepRequest& request);
  Result<void> add_bind(const MountSpec& spec, const FindFolder& find, StepRequest& request);
  std::string fresh_path();

  Store& store_;
  const BuildOptions& options_;
  std::string folder_;
  int count_ = 0;
  std::vector<std::unique_lock<std::mutex>> locks_;
  std::vector<std::shared_ptr<std::mutex>> mutexes_;
};

}  // namespace orchestra::image
