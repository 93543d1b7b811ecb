#include "node/static_pods.hpp"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "api/object_tree.hpp"
#include "api/types.hpp"
#include "api/walker.hpp"
#include "base/fd.hpp"
#include "base/json.hpp"

namespace orchestra::node {

namespace {

std::uint64_t fnv1a_64(std::string_view bytes, std::uint64_t hash) {
  for (const char byte : bytes) {
    hash ^= static_cast<unsigned char>(byte);
    hash *= 1099511628211ULL;
  }
  return hash;
}

// 32 hex digits from the content: the same file is the same pod after a restart.
std::string hash_of(std::string_view text, const std::string& node_name) {
  char out[33];
  const std::uint64_t a = fnv1a_64(node_name, fnv1a_64(text, 14695981039346656037ULL));
  const std::uint64_t b = fnv1a_64(node_name, fnv1a_64(text, 0x9E3779B97F4A7C15ULL));
  std::snprintf(out, sizeof out, "%016llx%016llx", static_cast<unsigned long long>(a),
                static_cast<unsigned long long>(b));
  return out;
}

std::string uid_of(const std::string& hash) {
  return hash.substr(0, 8) + "-" + hash.substr(8, 4) + "-" + hash.substr(12, 4) + "-" + hash.substr(16, 4) +
         "-" + hash.substr(20);
}

bool marked(const Object& pod, const char* annotation) { return pod.annotations().count(annotation) != 0; }

}  // namespace

Result<Object> static_pod(std::string_view text, const std::string& node_name) {
  ORC_ASSIGN(const Object read, Object::from_yaml(text));
  if (read.kind() != "Pod" || read.api_version() != "v1")
    return Error(Error::invalid, "node",
                 "it holds a " + read.api_version() + " " + read.kind() + ", not a v1 Pod");
  if (read.name().empty()) return Error(Error::invalid, "node", "its pod has no metadata.name");
  const json::array* containers = array_at(tree(read), "/spec/containers");
  if (containers == nullptr || containers->empty())
    return Error(Error::invalid, "node", "its pod " + read.name() + " has no spec.containers");
  json::value pod = tree(read);
  // What only the API could answer is not there for a pod that must start without it.
  if (find(pod, "/spec/serviceAccountName") != nullptr)
    return Error(Error::invalid, "node", "pod " + read.name() + ": a static pod has no service account");
  const std::string hash = hash_of(text, node_name);
  set_at(pod, "/metadata/name", json::value(read.name() + "-" + node_name));
  if (read.ns().empty()) set_at(pod, "/metadata/namespace", json::value("default"));
  set_at(pod, "/metadata/uid", json::value(uid_of(hash)));
  if (!find(pod, "/metadata/annotations")) set_at(pod, "/metadata/annotations", json::object());
  json::object& notes = pod.at("metadata").as_object().at("annotations").as_object();
  notes[kConfigHash] = hash;
  notes[kConfigSource] = "file";
  pod.as_object().erase("status");
  set_at(pod, "/spec/nodeName", json::value(node_name));
  if (!find(pod, "/spec/tolerations")) set_at(pod, "/spec/tolerations", json::array());
  pod.at("spec")
      .as_object()
      .at("tolerations")
      .as_array()
      .push_back(json::object{{"operator", "Exists"}, {"effect", "NoExecute"}});
  if (const auto type = api::TypeRegistry::builtin()->find_kind("", "v1", "Pod"))
    api::apply_defaults(type->storage_version().schema, pod);
  return object_from_tree(std::move(pod));
}

Object mirror_of(const Object& pod, const std::string& node_name, const std::string& node_uid) {
  json::value mirror = tree(pod);
  json::object& metadata = mirror.at("metadata").as_object();
  metadata.erase("uid");
  json::object& notes = metadata.at("annotations").as_object();
  notes[kConfigMirror] = pod.annotations().at(kConfigHash);
  if (!node_uid.empty()) {
    metadata["ownerReferences"] = json::array{json::object{{"apiVersion", "v1"},
                                                           {"kind", "Node"},
                                                           {"name", node_name},
                                                           {"uid", node_uid},
                                                           {"controller", true}}};
  }
  return object_from_tree(std::move(mirror));
}

bool is_mirror(const Object& pod) { return marked(pod, kConfigMirror); }
bool is_static(const Object& pod) { return marked(pod, kConfigSource) && !is_mirror(pod); }

ManifestFolder::Change ManifestFolder::look() {
  Change change;
  std::vector<std::string> names;
  if (DIR* stream = opendir(directory_.c_str())) {
    while (const dirent* entry = readdir(stream)) {
      const std::string name = entry->d_name;
      const bool wanted = name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json");
      if (name[0] != '.' && wanted && names.size() < kFilesMax) names.push_back(name);
    }
    closedir(stream);
  }
  std::sort(names.begin(), names.end());
  std::map<std::string, Seen> next;
  for (const std::string& name : names) {
    const std::string path = directory_ + "/" + name;
    struct stat info {};
    if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    Seen seen{info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec, info.st_size, info.st_ino, {}};
    const auto before = files_.find(name);
    if (before != files_.end()) seen.pod = before->second.pod;
    const bool same = before != files_.end() && before->second.changed_ns == seen.changed_ns &&
                      before->second.size == seen.size && before->second.inode == seen.inode;
    if (!same) {
      auto text = read_file(path, kFileMax);
      auto pod = text ? static_pod(*text, node_name_) : Result<Object>(text.error());
      if (pod) {
        change.changed = change.changed || !seen.pod || seen.pod.uid() != pod->uid();
        seen.pod = *pod;
      } else {
        change.problems.push_back(path + ": " + pod.error().message());
      }
    }
    next.emplace(name, std::move(seen));
  }
  for (const auto& [name, seen] : files_)
    change.changed = change.changed || (seen.pod && !next.contains(name));
  files_ = std::move(next);
  std::set<std::string> taken;
  for (const auto& [name, seen] : files_) {
    if (!seen.pod) continue;
    // Two files, one name: the first by file name keeps it.
    if (taken.insert(seen.pod.ns() + "/" + seen.pod.name()).second) {
      change.now.push_back(seen.pod);
    } else if (change.changed) {
      change.problems.push_back(directory_ + "/" + name + ": pod " + seen.pod.name() +
                                " is in another file too");
    }
  }
  return change;
}

}  // namespace orchestra::node
