#pragma once
// ImageBuilder: images from Dockerfiles, into an ImageStore, without a daemon. Since 0.1.
//
// RUN steps go through a StepRunner (the runtime's); without one a Dockerfile may hold everything else.
// The same Dockerfile and files make the same image id: nothing of the clock gets in, but for what RUN
// steps write. Steps whose inputs did not change come from the cache in the store.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/image.hpp"
#include "orchestra/image_store.hpp"
#include "orchestra/pending.hpp"

namespace orchestra {

class StepRunner;

/// A file that RUN --mount=type=secret shows while the command runs. Never in a layer, history or key.
struct BuildSecret {
  std::string id, path;
};
/// Where the result goes besides the store.
struct BuildOutput {
  /// oci, docker (archives), tar (the root file system), local (the same as a folder), registry (push).
  std::string type;
  std::string destination;  ///< file, folder, or reference
};

struct BuildOptions {
  std::string context = ".";  ///< folder
  std::string dockerfile;     ///< path; empty: CONTEXT/Dockerfile
  std::string tag;            ///< name of the result; empty: kept by its digest
  std::string target;         ///< stage by name or number; empty: the last
  std::map<std::string, std::string> build_args = {};
  bool no_cache = false;
  /// Where RUN steps run: at level process roots are plain copies, else overlays where possible.
  Isolation isolation = Isolation::full;
  bool network = false;  ///< RUN steps see the machine's network instead of none
  std::vector<BuildSecret> secrets = {};
  std::string ssh_socket = {};  ///< of an agent, for RUN --mount=type=ssh
  /// "linux/amd64", ..; several make an index. Empty: this machine's. RUN works for this machine's only.
  std::vector<std::string> platforms = {};
  std::map<std::string, std::string> labels = {}, annotations = {};
  /// SOURCE_DATE_EPOCH: files newer than this get this time, and the image is said to be made then.
  std::optional<std::int64_t> source_date_epoch = {};
  std::vector<BuildOutput> outputs = {};
  /// Folders (OCI layouts) that earlier builds exported their cache to; and where this one does.
  std::vector<std::string> cache_from = {};
  std::string cache_to = {};
  std::uint64_t cache_bytes_max = std::uint64_t{10} << 30;  ///< of the layers of cached steps
  bool explain = false;  ///< progress tells for each missed step which part of its key differs
  std::size_t context_files_max = 100'000;
  /// Lines for a person: "[2/5] COPY . /app", output of RUN steps, "cached".
  std::function<void(const std::string&)> progress = {};
};

struct BuildResult {
  std::string reference;  ///< canonical name, or the digest when there was no tag
  ImageInfo image;
  std::size_t steps = 0, cached = 0;
  std::vector<std::string> warnings;
};

/// detail<BuildFailure>() of a build's error.
struct BuildFailure {
  std::string file;
  int line = 0;
  std::string instruction;
  std::string output;  ///< of a RUN step: the last 64 KiB
  int exit_code = 0;
};

class ORC_API ImageBuilder {
 public:
  explicit ImageBuilder(std::shared_ptr<ImageStore> store, std::shared_ptr<StepRunner> runner = nullptr);
  ~ImageBuilder();
  Pending<BuildResult> build(BuildOptions options);

 private:
  std::shared_ptr<ImageStore> store_;
  std::shared_ptr<StepRunner> runner_;
};

}  // namespace orchestra
