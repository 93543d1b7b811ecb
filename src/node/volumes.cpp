#include "node/volumes.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "base/fd.hpp"

namespace orchestra::node {

namespace {
constexpr std::size_t kVolumeBytesMax = 1 << 20;  // as a ConfigMap or Secret

Error bad_volume(const json::value& volume, const std::string& why) {
  return {Error::invalid, "node", "volume \"" + string_at(volume, "/name") + "\": " + why};
}

bool safe_relative(const std::string& path) {
  if (path.empty() || path.front() == '/') return false;
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string part = path.substr(at, end - at);
    if (part.empty() || part == ".." || part == ".") return false;
    if (at == 0 && part.rfind("..", 0) == 0) return false;  // names of the writer itself
    at = end + 1;
  }
  return true;
}

/// One source of data: configMap{name,items,optional}, secret{secretName|name,...}.
Result<void> add_data(const json::value& volume, const json::value& source, bool secret, unsigned mode,
                      const EnvironmentInputs& inputs, std::vector<VolumeFile>& out) {
  std::string name = string_at(source, "/name");
  if (secret && name.empty()) name = string_at(source, "/secretName");
  ORC_ASSIGN(const auto data, secret ? inputs.secret(name) : inputs.config_map(name));
  const bool optional = bool_at(source, "/optional");
  if (!data) {
    if (optional) return {};
    return Error(Error::not_found, "node",
                 "MountVolume.SetUp failed for volume \"" + string_at(volume, "/name") +
                     "\" : " + (secret ? "secret" : "configmap") + " \"" + name + "\" not found");
  }
  const json::array* items = array_at(source, "/items");
  if (items == nullptr || items->empty()) {
    for (const auto& [key, value] : *data) out.push_back({key, value, mode});
    return {};
  }
  for (const json::value& item : *items) {
    const std::string key = string_at(item, "/key");
    const auto it = data->find(key);
    if (it == data->end()) {
      if (optional) continue;
      return Error(Error::not_found, "node",
                   "volume \"" + string_at(volume, "/name") + "\": references non-existent " +
                       (secret ? "secret" : "config") + " key: " + key);
    }
    out.push_back({string_at(item, "/path"), it->second, static_cast<unsigned>(int_at(item, "/mode", mode))});
  }
  return {};
}

Result<void> add_downward(const json::value& source, unsigned mode, const EnvironmentInputs& inputs,
                          std::vector<VolumeFile>& out) {
  if (const json::array* items = array_at(source, "/items")) {
    for (const json::value& item : *items) {
      std::string text;
      if (const json::value* field = find(item, "/fieldRef")) {
        ORC_ASSIGN(text, field_value(inputs, string_at(*field, "/fieldPath")));
      } else if (const json::value* resource = find(item, "/resourceFieldRef")) {
        ORC_ASSIGN(text, resource_value(inputs, *resource));
      }
      out.push_back({string_at(item, "/path"), text, static_cast<unsigned>(int_at(item, "/mode", mode))});
    }
  }
  return {};
}

Result<void> write_files(const std::string& folder, const std::vector<VolumeFile>& files,
                         std::optional<std::uint32_t> group) {
  for (const VolumeFile& file : files) {
    const std::string path = folder + "/" + file.path;
    ORC_TRY(make_directories(path.substr(0, path.rfind('/')), 0755));
    ORC_TRY(write_file(path, file.bytes, file.mode));
    unsigned mode = file.mode;
    if (group) mode |= 0440;
    if (chmod(path.c_str(), mode) != 0) return system_error("node", "chmod", path, errno);
    if (group && lchown(path.c_str(), static_cast<uid_t>(-1), *group) != 0)
      return system_error("node", "chown", path, errno);
  }
  return {};
}

bool same_version(const std::string& folder, const std::vector<VolumeFile>& files) {
  const std::string data = folder + "/..data";
  for (const VolumeFile& file : files) {
    const auto old = read_file(data + "/" + file.path, kVolumeBytesMax);
    if (!old || *old != file.bytes) return false;
  }
  // A file that is gone from the source must vanish too.
  std::set<std::string> tops;
  for (const VolumeFile& file : files) tops.insert(file.path.substr(0, file.path.find('/')));
  std::size_t found = 0;
  if (DIR* stream = opendir(data.c_str())) {
    while (const dirent* entry = readdir(stream))
      found += entry->d_name[0] != '.' || entry->d_name[1] > '.' ? 1u : 0u;
    closedir(stream);
  } else {
    return false;
  }
  return found == tops.size();
}
}  // namespace

bool is_file_volume(const json::value& volume) {
  return find(volume, "/configMap") != nullptr || find(volume, "/secret") != nullptr ||
         find(volume, "/projected") != nullptr || find(volume, "/downwardAPI") != nullptr;
}

Result<std::vector<VolumeFile>> volume_files(const json::value& volume, const EnvironmentInputs& inputs) {
  std::vector<VolumeFile> out;
  const auto mode_of = [](const json::value& source) {
    return static_cast<unsigned>(int_at(source, "/defaultMode", 0644));
  };
  if (const json::value* source = find(volume, "/configMap")) {
    ORC_TRY(add_data(volume, *source, false, mode_of(*source), inputs, out));
  } else if (const json::value* source = find(volume, "/secret")) {
    ORC_TRY(add_data(volume, *source, true, mode_of(*source), inputs, out));
  } else if (const json::value* source = find(volume, "/downwardAPI")) {
    ORC_TRY(add_downward(*source, mode_of(*source), inputs, out));
  } else if (const json::value* source = find(volume, "/projected")) {
    const unsigned mode = mode_of(*source);
    if (const json::array* parts = array_at(*source, "/sources")) {
      for (const json::value& part : *parts) {
        if (const json::value* one = find(part, "/configMap")) {
          ORC_TRY(add_data(volume, *one, false, mode, inputs, out));
        } else if (const json::value* one = find(part, "/secret")) {
          ORC_TRY(add_data(volume, *one, true, mode, inputs, out));
        } else if (const json::value* one = find(part, "/downwardAPI")) {
          ORC_TRY(add_downward(*one, mode, inputs, out));
        } else if (const json::value* one = find(part, "/serviceAccountToken")) {
          if (!inputs.token) return bad_volume(volume, "a service account token needs an API server");
          ORC_ASSIGN(std::string token,
                     inputs.token(string_at(*one, "/audience"), int_at(*one, "/expirationSeconds", 3600)));
          out.push_back({string_at(*one, "/path"), std::move(token), mode});
        } else {
          return bad_volume(
              volume,
              "a projected source of this kind is not supported; supported: configMap, secret, downwardAPI, "
              "serviceAccountToken");
        }
      }
    }
  }
  std::size_t total = 0;
  for (const VolumeFile& file : out) {
    if (!safe_relative(file.path))
      return bad_volume(volume, "path \"" + file.path + "\" must be relative and must not hold \"..\"");
    total += file.bytes.size();
  }
  if (total > 4 * kVolumeBytesMax)
    return bad_volume(volume, "holds " + std::to_string(total) + " bytes; at most 4 MiB");
  return out;
}

Result<bool> write_version(const std::string& directory, const std::vector<VolumeFile>& files,
                           std::optional<std::uint32_t> group, const std::string& version_name) {
  ORC_TRY(make_directories(directory, 0755));
  if (same_version(directory, files)) return false;
  const std::string version = ".." + version_name;
  const std::string folder = directory + "/" + version;
  ORC_TRY(remove_tree(folder));
  ORC_TRY(make_directories(folder, 0755));
  ORC_TRY(write_files(folder, files, group));
  char old[256] = {};
  const ssize_t length = readlink((directory + "/..data").c_str(), old, sizeof old - 1);
  const std::string temporary = directory + "/..data_tmp";
  unlink(temporary.c_str());
  if (symlink(version.c_str(), temporary.c_str()) != 0)
    return system_error("node", "symlink", temporary, errno);
  if (rename(temporary.c_str(), (directory + "/..data").c_str()) != 0)
    return system_error("node", "rename", directory + "/..data", errno);
  // Links of the user's names: made once, removed when their file is gone.
  std::set<std::string> tops;
  for (const VolumeFile& file : files) tops.insert(file.path.substr(0, file.path.find('/')));
  for (const std::string& top : tops) {
    const std::string link = directory + "/" + top;
    if (symlink(("..data/" + top).c_str(), link.c_str()) != 0 && errno != EEXIST)
      return system_error("node", "symlink", link, errno);
  }
  std::vector<std::string> stale;
  if (DIR* stream = opendir(directory.c_str())) {
    while (const dirent* entry = readdir(stream)) {
      const std::string name = entry->d_name;
      if (name[0] != '.' && tops.count(name) == 0) stale.push_back(name);
    }
    closedir(stream);
  }
  for (const std::string& name : stale) unlink((directory + "/" + name).c_str());
  if (length > 0 && version != old) ORC_TRY(remove_tree(directory + "/" + old));
  return true;
}

Result<void> check_host_path(const std::string& path, const std::string& type) {
  struct stat info {};
  const bool there = stat(path.c_str(), &info) == 0;
  if (type.empty()) return {};
  if (type == "DirectoryOrCreate" && !there) return make_directories(path, 0755);
  if (type == "FileOrCreate" && !there) return write_file(path, "", 0644);
  const auto fail = [&](const char* what) {
    return Error(Error::invalid, "node", "hostPath type check failed: " + path + " is not a " + what);
  };
  if ((type == "Directory" || type == "DirectoryOrCreate") && !(there && S_ISDIR(info.st_mode)))
    return fail("directory");
  if ((type == "File" || type == "FileOrCreate") && !(there && S_ISREG(info.st_mode))) return fail("file");
  if (type == "Socket" && !(there && S_ISSOCK(info.st_mode))) return fail("socket");
  if (type == "CharDevice" && !(there && S_ISCHR(info.st_mode))) return fail("character device");
  if (type == "BlockDevice" && !(there && S_ISBLK(info.st_mode))) return fail("block device");
  return {};
}

std::int64_t folder_bytes(const std::string& folder) {
  static thread_local std::int64_t total;
  total = 0;
  (void)nftw(
      folder.c_str(),
      [](const char*, const struct stat* info, int kind, FTW*) {
        if (kind != FTW_NS) total += static_cast<std::int64_t>(info->st_blocks) * 512;
        return 0;
      },
      32, FTW_PHYS | FTW_MOUNT);
  return total;
}

void unmount_volumes(const std::string& folder) {
  DIR* stream = opendir(folder.c_str());
  if (stream == nullptr) return;
  while (const dirent* entry = readdir(stream)) {
    const std::string path = folder + "/" + entry->d_name;
    struct stat inside {};
    struct stat outside {};
    if (entry->d_name[0] == '.' || lstat(path.c_str(), &inside) != 0 || stat(folder.c_str(), &outside) != 0)
      continue;
    if (S_ISDIR(inside.st_mode) && inside.st_dev != outside.st_dev) (void)umount2(path.c_str(), MNT_DETACH);
  }
  closedir(stream);
}

Result<std::string> resolve_inside(const std::string& root, const std::string& path, bool make_directory) {
  ORC_ASSIGN(Fd at, open_file(root, O_PATH | O_DIRECTORY));
  std::string done;
  for (std::size_t from = 0; from < path.size();) {
    const std::size_t end = std::min(path.find('/', from), path.size());
    const std::string part = path.substr(from, end - from);
    from = end + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") return Error(Error::invalid, "node", "path \"" + path + "\" must not hold \"..\"");
    done += "/" + part;
    auto next = open_in_root(at, done, O_PATH);
    if (!next && next.error().is(Error::not_found) && make_directory) {
      auto parent = open_in_root(at, done.substr(0, done.rfind('/')) + "/.", O_PATH | O_DIRECTORY);
      if (!parent) return parent.error();
      if (mkdirat(parent->get(), part.c_str(), 0755) != 0 && errno != EEXIST)
        return system_error("node", "mkdirat", root + done, errno);
      next = open_in_root(at, done, O_PATH);
    }
    if (!next) return next.error().with_context(root);
  }
  ORC_ASSIGN(Fd last, open_in_root(at, done.empty() ? "." : done, O_PATH));
  char target[4096];
  const ssize_t length =
      readlink(("/proc/self/fd/" + std::to_string(last.get())).c_str(), target, sizeof target);
  if (length <= 0) return system_error("node", "readlink", root + done, errno);
  return std::string(target, static_cast<std::size_t>(length));
}

}  // namespace orchestra::node
