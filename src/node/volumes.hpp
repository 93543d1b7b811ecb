#pragma once
// Volumes of a pod: made before its containers, refreshed while it runs, removed with it.
//
// Files of ConfigMaps, Secrets and the downward API are written by the atomic writer of kubelet's form: a
// new folder `..TIME`, the link `..data` renamed over, user files are links through it, so every reader
// sees one whole version. At level `process` there are no mounts: the same folders are made inside the root
// of the container that mounts them (spec/runtime.md section 10).
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/pod_runtime.hpp"
#include "base/json.hpp"
#include "node/environment.hpp"

namespace orchestra::node {

struct VolumeFile {
  std::string path;  ///< relative, no ".."
  std::string bytes;
  unsigned mode = 0644;
};

/// The files of one volume, as data. Pure. `not_found` names the missing ConfigMap or Secret.
Result<std::vector<VolumeFile>> volume_files(const json::value& volume, const EnvironmentInputs& inputs);
/// True for configMap, secret, projected and downwardAPI.
bool is_file_volume(const json::value& volume);

/// Writes `files` into `directory` as one new version; nothing is written when they are there already.
/// Answers whether something changed.
Result<bool> write_version(const std::string& directory, const std::vector<VolumeFile>& files,
                           std::optional<std::uint32_t> group, const std::string& version_name);

/// Checks a hostPath against its type, making what DirectoryOrCreate and FileOrCreate ask for.
Result<void> check_host_path(const std::string& path, const std::string& type);

/// Bytes on disk below a folder, without crossing mounts; 0 if it is not there.
std::int64_t folder_bytes(const std::string& folder);

/// Unmounts what this agent mounted below a pod's folder of volumes (memory volumes).
void unmount_volumes(const std::string& folder);

/// A path below `root` resolved inside it (openat2), as an absolute host path; made with its parents if
/// `make`. For subPath and for volumes at level process.
Result<std::string> resolve_inside(const std::string& root, const std::string& path, bool make_directory);

}  // namespace orchestra::node
