#pragma once
// Static pods: pods from files in a folder, with or without an API server.
//
// Each file holds one pod (YAML or JSON, at most 1 MiB). Its name gets the node's name behind it, its UID
// follows from the content, so a changed file is another pod. A file that cannot be read leaves what ran
// before running. The API sees a mirror: a pod with the annotation kubernetes.io/config.mirror, which this
// agent writes; deleting the mirror ends nothing.
#include <map>
#include <string>
#include <vector>

#include "orchestra/object.hpp"

namespace orchestra::node {

inline constexpr const char* kConfigHash = "kubernetes.io/config.hash";
inline constexpr const char* kConfigMirror = "kubernetes.io/config.mirror";
inline constexpr const char* kConfigSource = "kubernetes.io/config.source";

/// The pod of one file. Pure.
Result<Object> static_pod(std::string_view text, const std::string& node_name);
/// What the API gets for it. Pure.
Object mirror_of(const Object& pod, const std::string& node_name, const std::string& node_uid);
bool is_mirror(const Object& pod);
bool is_static(const Object& pod);

/// The folder, looked at again and again. Not thread safe.
class ManifestFolder {
 public:
  ManifestFolder(std::string directory, std::string node_name)
      : directory_(std::move(directory)), node_name_(std::move(node_name)) {}

  struct Change {
    std::vector<Object> now;  ///< every pod that should run, by file name
    std::vector<std::string>
        problems;  ///< of files that could not be taken, each once per version of the file
    bool changed = false;
  };
  /// Reads files whose time, size or inode changed.
  Change look();

 private:
  static constexpr std::size_t kFileMax = 1 << 20;
  static constexpr std::size_t kFilesMax = 256;
  struct Seen {
    std::int64_t changed_ns = 0;
    std::int64_t size = 0;
    std::uint64_t inode = 0;
    Object pod;  ///< the last good version; empty: never one
    bool operator==(const Seen&) const = default;
  };
  std::string directory_, node_name_;
  std::map<std::string, Seen> files_;
};

}  // namespace orchestra::node
