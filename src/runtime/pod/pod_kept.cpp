// exit_durability = machine: pods whose containers ended before the machine was started again.
//
// orch-shim wrote DATA/exits/POD/{pod.json, ID.json, ID.state} (freestanding/shim_keep.cpp); the folder of
// the pod on tmpfs went with the machine.
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "runtime/domain.hpp"
#include "runtime/pod/pod_runtime.hpp"
#include "runtime/pod/records.hpp"

namespace orchestra::runtime {
namespace {
constexpr std::size_t kRecordBytesMax = 4 << 20;
constexpr std::string_view kStateEnd = ".state";

std::vector<std::string> names_below(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(directory, failed))
    names.push_back(entry.path().filename());
  return names;
}

Result<void> load_kept_container(Pod& pod, const std::string& folder, const std::string& id) {
  ORC_ASSIGN(const wire::StateFile state, read_state_file(folder + "/" + id + std::string(kStateEnd)));
  ORC_ASSIGN(const std::string text, read_file(folder + "/" + id + ".json", kRecordBytesMax));
  ORC_ASSIGN(const json::value record, parse_json(text));
  ORC_ASSIGN(ContainerConfig config, container_from_record(record));
  if (config.id != id || state.record.phase != wire::Phase::exited)
    return Error(Error::corrupt, kDomain,
                 folder + "/" + id + ".state: not the record of how container " + id + " ended");
  pod.add_container(std::move(config), state.record);
  return {};
}
}  // namespace

void RealPodRuntime::load_kept_pods() {
  for (const std::string& uid : names_below(exits_directory())) {
    if (find(uid)) continue;  // it lives: the records on tmpfs are newer
    if (auto loaded = load_kept_pod(uid); !loaded) {
      engine_.log(LogLevel::warning, "runtime", "kept exit records of a pod cannot be read",
                  {{"pod", uid}, {"error", loaded.error().to_string()}});
    }
  }
}

Result<void> RealPodRuntime::load_kept_pod(const std::string& uid) {
  const std::string folder = exits_directory() + "/" + uid;
  ORC_TRY(check_name("pod uid", uid, 128));
  ORC_ASSIGN(const std::string text, read_file(folder + "/pod.json", kRecordBytesMax));
  ORC_ASSIGN(const json::value record, parse_json(text));
  PodSandbox sandbox;
  ORC_ASSIGN(PodSandboxConfig config, pod_from_record(record, sandbox.degraded));
  if (config.uid != uid) return Error(Error::corrupt, kDomain, folder + "/pod.json names pod " + config.uid);
  const auto pod = new_pod(pods_directory() + "/" + uid, std::move(config));
  sandbox.uid = uid;
  sandbox.isolation = isolation_;
  sandbox.ended = true;
  pod->set_sandbox(sandbox);
  for (const std::string& name : names_below(folder)) {
    if (!name.ends_with(kStateEnd)) continue;
    if (auto loaded = load_kept_container(*pod, folder, name.substr(0, name.size() - kStateEnd.size()));
        !loaded) {
      engine_.log(LogLevel::warning, "runtime", "a kept exit record cannot be read",
                  {{"pod", uid}, {"error", loaded.error().to_string()}});
    }
  }
  std::lock_guard lock(mutex_);
  pods_[uid] = pod;
  return {};
}

Result<void> RealPodRuntime::forget_kept(const std::string& uid, const std::string& id) const {
  for (const char* end : {".state", ".json"}) {
    const std::string path = exits_directory() + "/" + uid + "/" + id + end;
    if (unlink(path.c_str()) != 0 && errno != ENOENT) return system_error(kDomain, "unlink", path, errno);
  }
  return {};
}

}  // namespace orchestra::runtime
