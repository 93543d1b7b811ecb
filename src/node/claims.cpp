#include "node/claims.hpp"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/object_tree.hpp"
#include "base/fd.hpp"
#include "node/volumes.hpp"

namespace orchestra::node {

using namespace std::chrono_literals;

std::string claim_of(const json::value& pod, const json::value& volume) {
  const std::string claim = string_at(volume, "/persistentVolumeClaim/claimName");
  if (!claim.empty() || find(volume, "/ephemeral") == nullptr) return claim;
  return string_at(pod, "/metadata/name") + "-" + string_at(volume, "/name");
}

Result<std::string> claim_folder(AgentContext& context, const Object& pod, const std::string& claim_name) {
  const Object claim = context.claims.cache().get(pod.ns(), claim_name);
  if (!claim)
    return Error(Error::not_found, "node", "persistentvolumeclaim \"" + claim_name + "\" not found");
  const std::string volume_name = string_at(tree(claim), "/spec/volumeName");
  if (volume_name.empty() || string_at(tree(claim), "/status/phase") != "Bound") {
    return Error(Error::unavailable, "node",
                 "persistentvolumeclaim \"" + claim_name + "\" is not bound to a volume yet");
  }
  const Object volume = context.volumes.cache().get("", volume_name);
  if (!volume) return Error(Error::not_found, "node", "persistentvolume \"" + volume_name + "\" not found");
  const json::value& root = tree(volume);
  if (string_at(root, "/spec/claimRef/uid") != claim.uid()) {
    return Error(
        Error::conflict, "node",
        "persistentvolume \"" + volume_name + "\" belongs to another claim than \"" + claim_name + "\"");
  }
  if (string_at(root, "/spec/volumeMode", "Filesystem") != "Filesystem")
    return Error(Error::unsupported, "node",
                 "persistentvolume \"" + volume_name + "\" has volumeMode Block; supported: Filesystem");
  if (find(root, "/spec/hostPath") != nullptr) {
    const std::string path = string_at(root, "/spec/hostPath/path");
    struct stat info {};
    const bool there = stat(path.c_str(), &info) == 0;
    ORC_TRY(check_host_path(path, string_at(root, "/spec/hostPath/type")));
    // A fresh folder is everybody's: the pod's user is not known to who provisions.
    if (!there && chmod(path.c_str(), 0777) != 0) return system_error("node", "chmod", path, errno);
    return path;
  }
  if (find(root, "/spec/local") != nullptr) {
    const std::string path = string_at(root, "/spec/local/path");
    ORC_TRY(check_host_path(path, "Directory"));
    return path;
  }
  return Error(Error::unsupported, "node",
               "persistentvolume \"" + volume_name +
                   "\" is of a kind that this agent cannot mount; supported: hostPath, local");
}

namespace {

Result<void> own(int at, const char* name, const struct stat& info, std::uint32_t group) {
  if (S_ISLNK(info.st_mode)) return {};
  if (info.st_gid != group && fchownat(at, name, static_cast<uid_t>(-1), group, AT_SYMLINK_NOFOLLOW) != 0)
    return system_error("node", "fchownat", name, errno);
  mode_t mode = (info.st_mode & 07777) | 0660;
  if (S_ISDIR(info.st_mode)) mode |= 02110;
  if (mode != (info.st_mode & 07777) && fchmodat(at, name, mode, 0) != 0)
    return system_error("node", "fchmodat", name, errno);
  return {};
}

thread_local std::uint32_t walk_group = 0;

}  // namespace

Result<void> give_to_group(const std::string& folder, std::uint32_t group, bool only_mismatch) {
  struct stat info {};
  if (stat(folder.c_str(), &info) != 0) return system_error("node", "stat", folder, errno);
  const bool right = info.st_gid == group && (info.st_mode & 02070) == 02070;
  if (only_mismatch && right) return {};
  walk_group = group;
  const int failed = nftw(
      folder.c_str(),
      [](const char* path, const struct stat* each, int, FTW*) {
        return own(AT_FDCWD, path, *each, walk_group) ? 0 : 1;
      },
      32, FTW_PHYS | FTW_MOUNT | FTW_DEPTH);
  if (failed != 0)
    return Error(Error::io, "node", "fsGroup " + std::to_string(group) + " could not be given to " + folder);
  return {};
}

bool reclaims_here(const Object& volume, const std::string& node) {
  const json::value& root = tree(volume);
  const auto by = volume.annotations().find("pv.kubernetes.io/provisioned-by");
  if (by == volume.annotations().end() || by->second != "orchestra.dev/local-path") return false;
  if (string_at(root, "/status/phase") != "Released") return false;
  if (string_at(root, "/spec/persistentVolumeReclaimPolicy") != "Delete" || volume.deleting()) return false;
  return string_at(root, "/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0/values/0") ==
         node;
}

Result<void> reclaim(AgentContext& context, const Object& volume) {
  const std::string path = string_at(tree(volume), "/spec/hostPath/path");
  const std::size_t slash = path.rfind('/');
  // Only a folder that bears the volume's own name is ours to remove.
  if (slash == std::string::npos ||
      path.compare(slash + 1, volume.name().size() + 1, volume.name() + "_") != 0)
    return Error(Error::invalid, "node",
                 "volume " + volume.name() + ": " + path + " is not a folder of its own");
  ORC_TRY(remove_tree(path));
  DeleteOptions options;
  options.uid = volume.uid();
  auto gone = context.client.remove("v1", "persistentvolumes", volume.name(), "", options).wait(30s);
  if (!gone && !gone.error().is(Error::not_found)) return gone.error();
  return {};
}

}  // namespace orchestra::node
