// What goes into the containers of a PodWorker: environment, user, mounts, files, limits.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "api/resolv_conf.hpp"
#include "base/fd.hpp"
#include "node/claims.hpp"
#include "node/pod_worker.hpp"
#include "node/volumes.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::node {

using namespace std::chrono_literals;

namespace {
constexpr Duration kImageDeadline = 120s;
constexpr Duration kTokenDeadline = 10s;
constexpr std::int64_t kTokenKept = 86'400'000'000'000;  // ns
constexpr Duration kRetry = 2s;

Error config_error(std::string text) { return {Error::invalid, "node", std::move(text)}; }

/// The field of the container's security context, else of the pod's; nullptr if neither has it.
const json::value* security(const json::value& pod, const json::value& container, const char* field) {
  const std::string at = std::string("/securityContext/") + field;
  if (const json::value* own = find(container, at)) return own;
  return find(pod, "/spec" + at);
}

std::string hosts_file(const json::value& pod, const std::vector<std::string>& ips,
                       const std::string& domain) {
  std::string text =
      "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
      "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
  const std::string name = short_hostname(pod), whole = whole_hostname(pod, domain);
  for (const std::string& ip : ips) text += ip + "\t" + (whole == name ? "" : whole + "\t") + name + "\n";
  if (const json::array* aliases = array_at(pod, "/spec/hostAliases")) {
    text += "\n# Entries added by HostAliases.\n";
    for (const json::value& alias : *aliases) {
      text += string_at(alias, "/ip");
      if (const json::array* names = array_at(alias, "/hostnames")) {
        for (const json::value& one : *names)
          text += "\t" + (one.is_string() ? std::string(one.get_string()) : "");
      }
      text += "\n";
    }
  }
  return text;
}

void add_names(const json::value& root, const char* where, std::vector<std::string>& out) {
  if (const json::array* names = array_at(root, where)) {
    for (const json::value& one : *names) {
      if (one.is_string()) out.emplace_back(one.get_string());
    }
  }
}
}  // namespace

EnvironmentInputs PodWorker::inputs(const Object& pod, const json::value* container) const {
  EnvironmentInputs out;
  out.pod = &tree(pod);
  out.container = container;
  const std::string ns = pod.ns();
  const auto read = [ns](References& from, const std::string& name) -> Result<std::optional<DataMap>> {
    ORC_ASSIGN(const Object object, from.get(ns, name));
    if (!object) return std::optional<DataMap>();
    return std::optional<DataMap>(data_of(tree(object)));
  };
  out.config_map = [this, read](const std::string& name) { return read(context_.config_maps, name); };
  out.secret = [this, read](const std::string& name) { return read(context_.secrets, name); };
  if (find(*out.pod, "/spec/enableServiceLinks") == nullptr ||
      bool_at(*out.pod, "/spec/enableServiceLinks")) {
    for (const auto& service : context_.services.list(ns))
      add_service_variables(tree(service), out.service_variables);
  }
  const std::string port = std::to_string(context_.options.api_port), host = context_.options.api_host;
  const json::value kubernetes = json::object{
      {"metadata", json::object{{"name", "kubernetes"}}},
      {"spec", json::object{{"clusterIP", host},
                            {"ports", json::array{json::object{{"name", "https"},
                                                               {"port", context_.options.api_port},
                                                               {"protocol", "TCP"}}}}}}};
  add_service_variables(kubernetes, out.service_variables);
  out.node_name = context_.options.node_name;
  out.host_ip = context_.host_ip();
  out.pod_ips = pod_ips_;
  out.node_cpu_milli = context_.cpu_milli;
  out.node_memory_bytes = context_.memory_bytes;
  if (context_.client) {
    out.token = [this, pod](const std::string& audience, std::int64_t seconds) {
      return token(pod, audience, seconds);
    };
  }
  return out;
}

// From memory until 80 % of its life, at most a day; a server that is away leaves the old one while it is
// good.
Result<std::string> PodWorker::token(const Object& pod, const std::string& audience,
                                     std::int64_t seconds) const {
  const std::string key = audience + " " + std::to_string(seconds);
  const std::int64_t now = context_.engine.clock().now().wall_ns;
  Token known;
  {
    std::lock_guard lock(mutex_);
    if (const auto found = tokens_.find(key); found != tokens_.end()) known = found->second;
  }
  if (!known.text.empty() && now < known.refresh_ns) return known.text;
  json::value body = json::object{{"apiVersion", "authentication.k8s.io/v1"}, {"kind", "TokenRequest"}};
  set_at(body, "/spec/expirationSeconds", json::value(seconds));
  set_at(body, "/spec/audiences", audience.empty() ? json::array{} : json::array{json::value(audience)});
  set_at(body, "/spec/boundObjectRef",
         json::object{{"apiVersion", "v1"}, {"kind", "Pod"}, {"name", pod.name()}, {"uid", pod.uid()}});
  ApiRequest request;
  request.verb = "create";
  request.resource = "serviceaccounts";
  request.subresource = "token";
  request.ns = pod.ns();
  request.name = string_at(tree(pod), "/spec/serviceAccountName", "default");
  request.body = to_json(body);
  request.want_object = true;
  auto answers = context_.client.batch({request}).wait(kTokenDeadline);
  const Result<Object> answer = answers ? std::move(answers->at(0)) : Result<Object>(answers.error());
  if (!answer) {
    if (!known.text.empty() && now < known.expires_ns) return known.text;
    return answer.error().with_context("token of service account \"" + request.name + "\"");
  }
  Token fresh;
  fresh.text = string_at(tree(*answer), "/status/token");
  const auto expires = api::parse_time(string_at(tree(*answer), "/status/expirationTimestamp"));
  fresh.expires_ns = expires.value_or(now + seconds * 1'000'000'000);
  const std::int64_t asked_life = std::min(fresh.expires_ns - now, seconds * 1'000'000'000);
  fresh.refresh_ns = now + std::min<std::int64_t>(asked_life / 10 * 8, kTokenKept);
  std::lock_guard lock(mutex_);
  tokens_[key] = fresh;
  return fresh.text;
}

std::string PodWorker::message_path(const Slot& slot) const {
  if (slot.current) {
    const auto root = slot.current->annotations.find("orchestra.dev/termination-file");
    if (root != slot.current->annotations.end()) return root->second;
  }
  return directory() + "/termination/" + (slot.current ? slot.current->id : "");
}

bool PodWorker::ensure_volumes(const Object& pod) {
  const json::value& object = tree(pod);
  const json::array* volumes = array_at(object, "/spec/volumes");
  const EnvironmentInputs from = inputs(pod, nullptr);
  std::optional<std::uint32_t> group;
  if (const json::value* fs_group = find(object, "/spec/securityContext/fsGroup"))
    group = static_cast<std::uint32_t>(fs_group->to_number<std::int64_t>());
  const auto refuse = [&](const Error& error) {
    context_.event(pod, "Warning", "FailedMount", error.to_string());
    wake_after(kRetry);
    return volumes_ready_;  // a refresh that fails does not stop what runs
  };
  if (auto made = make_directories(directory(), 0750); !made) return refuse(made.error());
  if (volumes == nullptr || process_level()) {
    volumes_ready_ = true;  // at level process they are made inside each root (write_into_root)
    if (process_level()) {
      for (auto& [name, slot] : slots_) {
        if (!slot.current || slot.current->state != ContainerState::running) continue;
        const auto root = slot.current->annotations.find("orchestra.dev/root");
        if (root == slot.current->annotations.end()) continue;
        for (const char* where : {"/spec/initContainers", "/spec/containers"}) {
          const json::array* all = array_at(object, where);
          if (all == nullptr) continue;
          for (const json::value& spec : *all) {
            if (string_at(spec, "/name") != name) continue;
            MountPlan plan;
            plan.directory = root->second;
            if (auto refreshed = write_into_root(pod, spec, plan); !refreshed)
              (void)refuse(refreshed.error());
          }
        }
      }
    }
    return true;
  }
  for (const json::value& volume : *volumes) {
    const std::string name = string_at(volume, "/name"), path = volume_directory(name);
    if (is_file_volume(volume)) {
      auto files = volume_files(volume, from);
      if (!files) return refuse(files.error());
      auto written =
          write_version(path, *files, group, std::to_string(context_.engine.clock().now().wall_ns));
      if (!written) return refuse(written.error());
    } else if (const json::value* empty = find(volume, "/emptyDir")) {
      struct stat info {};
      if (stat(path.c_str(), &info) == 0) continue;
      if (auto made = make_directories(path, 0777); !made) return refuse(made.error());
      if (string_at(*empty, "/medium") == "Memory" && shared_by_containers(object, name)) {
        if (auto mounted = make_memory_volume(volume, path); !mounted) return refuse(mounted.error());
      }
      if (chmod(path.c_str(), group ? 02777 : 0777) != 0)
        return refuse(system_error("node", "chmod", path, errno));
      if (group && chown(path.c_str(), static_cast<uid_t>(-1), *group) != 0)
        return refuse(system_error("node", "chown", path, errno));
    } else if (const json::value* host = find(volume, "/hostPath")) {
      auto checked = check_host_path(string_at(*host, "/path"), string_at(*host, "/type"));
      if (!checked) return refuse(checked.error());
    } else if (const std::string claim = claim_of(object, volume); !claim.empty()) {
      auto folder = claim_folder(context_, pod, claim);
      if (!folder) return refuse(folder.error());
      const std::string policy = string_at(object, "/spec/securityContext/fsGroupChangePolicy", "Always");
      if (group && !volumes_ready_ && !bool_at(volume, "/persistentVolumeClaim/readOnly")) {
        if (auto given = give_to_group(*folder, *group, policy == "OnRootMismatch"); !given)
          return refuse(given.error());
      }
    } else {
      return refuse(
          config_error("volume \"" + name +
                       "\" is of a kind that is not supported; supported: configMap, secret, "
                       "projected, downwardAPI, emptyDir, hostPath, persistentVolumeClaim, ephemeral"));
    }
  }
  volumes_ready_ = true;
  const std::int64_t now = context_.engine.clock().now().wall_ns;
  Duration renew = Duration::max();
  {
    std::lock_guard lock(mutex_);
    for (const auto& [key, token] : tokens_) renew = std::min(renew, Duration(token.refresh_ns - now));
  }
  if (renew != Duration::max()) wake_after(std::max<Duration>(1s, renew));
  return true;
}

// What this node would have to leave out without a word is refused instead.
Result<void> PodWorker::check_supported(const json::value& pod, const json::value& spec) {
  const auto refuse = [](const std::string& field, const std::string& what) {
    return config_error(field + " is not supported by this node: " + what);
  };
  if (const json::array* devices = array_at(spec, "/volumeDevices"); devices != nullptr && !devices->empty())
    return refuse("volumeDevices", "volumes are file systems here; use volumeMounts");
  if (const json::value* profile = security(pod, spec, "appArmorProfile");
      profile != nullptr && string_at(*profile, "/type") != "Unconfined")
    return refuse("appArmorProfile: " + string_at(*profile, "/type"), "only Unconfined is");
  if (const json::value* label = security(pod, spec, "seLinuxOptions");
      label != nullptr && access("/sys/fs/selinux/enforce", F_OK) == 0)
    return refuse("seLinuxOptions", "labels are not given to pods; leave it out");
  return {};
}

Result<ContainerConfig> PodWorker::make_config(const Object& pod, Slot& slot, const json::value& spec,
                                               const ImageInfo& image) {
  const json::value& object = tree(pod);
  ORC_TRY(check_supported(object, spec));
  ContainerConfig config;
  config.id = uid_ + "-" + slot.name + "-" + std::to_string(slot.attempt);
  config.name = slot.name;
  config.attempt = slot.attempt;
  config.image = string_at(spec, "/image");
  config.image_id = image.pinned.empty() ? image.id : image.pinned;
  const EnvironmentInputs from = inputs(pod, &spec);
  ORC_ASSIGN(auto environment, make_environment(from));
  ORC_ASSIGN(config.args, make_arguments(spec, image, environment));
  std::map<std::string, std::string> all;
  for (const std::string& entry : image.env) {
    const std::size_t equals = entry.find('=');
    if (equals != std::string::npos) all[entry.substr(0, equals)] = entry.substr(equals + 1);
  }
  all.emplace("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  ORC_ASSIGN(all["HOSTNAME"], pod_hostname(object, context_.options.cluster_domain));
  if (loopback_network() && !pod_ips_.empty()) all["POD_IP"] = pod_ips_.front();
  for (const auto& [name, value] : environment) all[name] = value;
  config.cwd =
      string_at(spec, "/workingDir", image.working_directory.empty() ? "/" : image.working_directory);
  config.tty = bool_at(spec, "/tty");
  config.in = bool_at(spec, "/stdin");
  config.in_once = bool_at(spec, "/stdinOnce");
  if (const std::string target = string_at(spec, "/targetContainerName"); slot.ephemeral && !target.empty()) {
    std::lock_guard lock(mutex_);
    const auto found = slots_.find(target);
    if (found == slots_.end() || !found->second.current ||
        found->second.current->state != ContainerState::running) {
      return Error(Error::conflict, "node",
                   "ephemeral container \"" + slot.name + "\": its target container \"" + target +
                       "\" is not running");
    }
    config.process_namespace_of = found->second.current->id;
  }
  config.limits = limits_of(spec, qos_class(object), context_.memory_bytes);
  config.log_path = context_.log_directory(pod.ns(), pod.name(), uid_) + "/" + slot.name + "/" +
                    std::to_string(slot.attempt) + ".log";
  ORC_TRY(make_directories(config.log_path.substr(0, config.log_path.rfind('/')), 0755));
  config.annotations[kResources] = to_json(resources_of(spec));
  config.annotations["orchestra.dev/backoff-level"] = std::to_string(slot.backoff_level);
  config.annotations["orchestra.dev/stop-signal"] =
      string_at(spec, "/lifecycle/stopSignal", image.stop_signal);
  auto root = context_.parts.images->prepare_root(image.id, config.id, context_.parts.runtime->isolation())
                  .wait(kImageDeadline);
  if (!root) return root.error();
  config.root = *root;
  ORC_TRY(add_security(pod, spec, image, config.id, config));
  if (process_level()) {
    config.annotations["orchestra.dev/root"] = config.root.directory;
    ORC_TRY(write_into_root(pod, spec, config.root));
    const std::string path = string_at(spec, "/terminationMessagePath", "/dev/termination-log");
    config.annotations["orchestra.dev/termination-file"] = config.root.directory + path;
  } else {
    ORC_TRY(add_mounts(pod, spec, config));
  }
  if (all.find("HOME") == all.end()) {
    auto user =
        context_.parts.images->resolve_user(config.id, std::to_string(config.uid)).wait(kImageDeadline);
    all["HOME"] = user && !user->home.empty() ? user->home : (config.uid == 0 ? "/root" : "/");
  }
  for (const auto& [name, value] : all) config.env.push_back(name + "=" + value);
  return config;
}

Result<void> PodWorker::add_security(const Object& pod, const json::value& spec, const ImageInfo& image,
                                     const std::string& id, ContainerConfig& config) {
  const json::value& object = tree(pod);
  std::string user = image.user;
  const json::value* run_as_user = security(object, spec, "runAsUser");
  const json::value* run_as_group = security(object, spec, "runAsGroup");
  if (run_as_user != nullptr) user = std::to_string(run_as_user->to_number<std::int64_t>());
  auto resolved = context_.parts.images->resolve_user(id, user).wait(kImageDeadline);
  if (!resolved) return resolved.error();
  config.uid = resolved->uid;
  config.gid = run_as_group != nullptr ? static_cast<std::uint32_t>(run_as_group->to_number<std::int64_t>())
                                       : resolved->gid;
  // Strict: those of the image's group file do not count.
  if (string_at(object, "/spec/securityContext/supplementalGroupsPolicy", "Merge") == "Merge")
    config.supplemental_groups = resolved->groups;
  if (const json::value* non_root = security(object, spec, "runAsNonRoot");
      non_root != nullptr && non_root->is_bool() && non_root->get_bool() && config.uid == 0) {
    return config_error("container has runAsNonRoot and image will run as root (pod: \"" + pod.name() + "_" +
                        pod.ns() + "(" + uid_ + ")\", container: " + string_at(spec, "/name") + ")");
  }
  if (const json::array* groups = array_at(object, "/spec/securityContext/supplementalGroups")) {
    for (const json::value& group : *groups)
      config.supplemental_groups.push_back(static_cast<std::uint32_t>(group.to_number<std::int64_t>()));
  }
  if (const json::value* fs_group = find(object, "/spec/securityContext/fsGroup")) {
    config.supplemental_groups.push_back(static_cast<std::uint32_t>(fs_group->to_number<std::int64_t>()));
  }
  if (has_own_users(object)) {
    std::vector<std::uint32_t> ids = config.supplemental_groups;
    ids.insert(ids.end(), {config.uid, config.gid});
    for (const std::uint32_t id : ids) {
      if (id >= kPodUserIds) {
        return config_error("user or group " + std::to_string(id) +
                            " is not there: with hostUsers: false a pod has the ids 0 to 65535");
      }
    }
  }
  config.privileged = bool_at(spec, "/securityContext/privileged");
  config.unmasked_proc = string_at(spec, "/securityContext/procMount") == "Unmasked";
  config.read_only_root = bool_at(spec, "/securityContext/readOnlyRootFilesystem");
  config.no_new_privileges = !bool_at(spec, "/securityContext/allowPrivilegeEscalation", true);
  add_names(spec, "/securityContext/capabilities/add", config.add_capabilities);
  add_names(spec, "/securityContext/capabilities/drop", config.drop_capabilities);
  if (const json::value* profile = security(object, spec, "seccompProfile")) {
    const std::string type = string_at(*profile, "/type");
    if (type == "Unconfined") {
      config.seccomp = "unconfined";
    } else if (type != "RuntimeDefault") {
      return config_error("seccompProfile type \"" + type +
                          "\" is not supported; supported: RuntimeDefault, Unconfined");
    }
  }
  if (process_level() && config.uid != 0 && geteuid() != 0) {
    return config_error("runAsUser " + std::to_string(config.uid) + " needs root at isolation level process");
  }
  return {};
}

Result<void> PodWorker::add_mounts(const Object& pod, const json::value& spec, ContainerConfig& config) {
  const json::value& object = tree(pod);
  ORC_TRY(make_directories(directory() + "/termination", 0755));
  const std::string message_file = directory() + "/termination/" + config.id;
  ORC_TRY(write_file(message_file, "", 0666));
  (void)chmod(message_file.c_str(), 0666);
  config.mounts.push_back(
      {.source = message_file, .target = string_at(spec, "/terminationMessagePath", "/dev/termination-log")});
  if (!bool_at(object, "/spec/hostNetwork")) {
    ORC_TRY(write_file(directory() + "/hosts", hosts_file(object, pod_ips_, context_.options.cluster_domain),
                       0644));
    config.mounts.push_back({.source = directory() + "/hosts", .target = "/etc/hosts"});
  }
  ORC_ASSIGN(const std::string own_name, pod_hostname(object, context_.options.cluster_domain));
  ORC_TRY(write_file(directory() + "/hostname", own_name + "\n", 0644));
  ORC_TRY(write_file(directory() + "/resolv.conf", resolver(pod), 0644));
  config.mounts.push_back({.source = directory() + "/hostname", .target = "/etc/hostname"});
  config.mounts.push_back({.source = directory() + "/resolv.conf", .target = "/etc/resolv.conf"});
  const json::array* mounts = array_at(spec, "/volumeMounts");
  const json::array* volumes = array_at(object, "/spec/volumes");
  if (mounts == nullptr) return {};
  for (const json::value& mount : *mounts) {
    const std::string name = string_at(mount, "/name");
    const json::value* volume = nullptr;
    if (volumes != nullptr) {
      for (const json::value& one : *volumes) {
        if (string_at(one, "/name") == name) volume = &one;
      }
    }
    if (volume == nullptr)
      return config_error("volumeMount names volume \"" + name + "\", which the pod does not have");
    PodMount out;
    out.target = string_at(mount, "/mountPath");
    out.read_only = bool_at(mount, "/readOnly") || is_file_volume(*volume);
    // IfPossible is Enabled: kernels that know no recursive read-only (before 5.12) have no pods of ours.
    const std::string below = string_at(mount, "/recursiveReadOnly", "Disabled");
    out.recursive_read_only = out.read_only && below != "Disabled";
    const std::string propagation = string_at(mount, "/mountPropagation");
    out.propagation = propagation == "HostToContainer" ? "rslave"
                      : propagation == "Bidirectional" ? "rshared"
                                                       : "";
    std::string source = volume_directory(name);
    if (const json::value* host = find(*volume, "/hostPath")) source = string_at(*host, "/path");
    if (const std::string claim = claim_of(object, *volume); !claim.empty()) {
      ORC_ASSIGN(source, claim_folder(context_, pod, claim));
      out.read_only = out.read_only || bool_at(*volume, "/persistentVolumeClaim/readOnly");
    }
    std::string sub_path = string_at(mount, "/subPath");
    if (const std::string expression = string_at(mount, "/subPathExpr"); !expression.empty()) {
      ORC_ASSIGN(auto environment, make_environment(inputs(pod, &spec)));
      sub_path = expand(expression, environment);
    }
    const bool memory = string_at(*volume, "/emptyDir/medium") == "Memory";
    if (memory && sub_path.empty() && !shared_by_containers(object, name)) {
      // Within one container it is the runtime's; shared ones are mounted by ensure_volumes.
      out.tmpfs = true;
      if (const auto limit = Quantity::parse(string_at(*volume, "/emptyDir/sizeLimit", "0")))
        out.tmpfs_bytes_max = static_cast<std::uint64_t>(std::max<std::int64_t>(0, limit->value()));
    } else if (!sub_path.empty()) {
      // What is missing is made; the runtime looks it up once more, inside the volume, when it mounts it.
      ORC_TRY(resolve_inside(source, sub_path, !is_file_volume(*volume)));
      out.source = source;
      out.sub_path = sub_path;
    } else {
      out.source = source;
    }
    config.mounts.push_back(std::move(out));
  }
  return {};
}

// A tmpfs on the machine, in the pod's folder; cleanup() takes it away with the volumes.
Result<void> PodWorker::make_memory_volume(const json::value& volume, const std::string& path) {
  std::int64_t most = context_.memory_bytes / 2;
  if (const auto limit = Quantity::parse(string_at(volume, "/emptyDir/sizeLimit", "0"));
      limit && limit->sign() > 0)
    most = std::min(most, limit->value());
  const std::string options = "mode=0777,size=" + std::to_string(most);
  if (mount("tmpfs", path.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, options.c_str()) != 0)
    return system_error("node", "mount tmpfs", path, errno);
  return {};
}

bool PodWorker::shared_by_containers(const json::value& pod, const std::string& volume) {
  std::size_t users = 0;
  for (const char* where : {"/spec/initContainers", "/spec/containers"}) {
    const json::array* all = array_at(pod, where);
    if (all == nullptr) continue;
    for (const json::value& container : *all) {
      const json::array* mounts = array_at(container, "/volumeMounts");
      if (mounts == nullptr) continue;
      users += std::any_of(mounts->begin(), mounts->end(),
                           [&](const json::value& m) { return string_at(m, "/name") == volume; })
                   ? 1u
                   : 0u;
    }
  }
  return users > 1;
}

std::string PodWorker::resolver(const Object& pod) const {
  const json::value& object = tree(pod);
  ResolvConfInput input;
  input.policy = string_at(object, "/spec/dnsPolicy", "ClusterFirst");
  input.host_network = bool_at(object, "/spec/hostNetwork");
  input.ns = pod.ns();
  input.zone = context_.options.cluster_domain;
  if (const std::string dns = context_.parts.network->dns_address(); !dns.empty())
    input.cluster_servers = {dns};
  if (!input.cluster_servers.empty() && context_.options.second_name_server) {
    if (const std::string second = context_.options.second_name_server(); !second.empty())
      input.cluster_servers.push_back(second);
  }
  for (const std::string& server : context_.options.host_nameservers)
    input.host_file += "nameserver " + server + "\n";
  if (!context_.options.host_search.empty()) {
    input.host_file += "search";
    for (const std::string& name : context_.options.host_search) input.host_file += " " + name;
    input.host_file += "\n";
  }
  add_names(object, "/spec/dnsConfig/nameservers", input.servers);
  add_names(object, "/spec/dnsConfig/searches", input.searches);
  if (const json::array* extra = array_at(object, "/spec/dnsConfig/options")) {
    for (const json::value& option : *extra) {
      std::optional<std::string> value;
      if (find(option, "/value") != nullptr) value = string_at(option, "/value");
      input.options.emplace_back(string_at(option, "/name"), std::move(value));
    }
  }
  ResolvConf made = resolv_conf(input);
  for (const std::string& dropped : made.dropped)
    context_.event(pod, "Warning", "DNSConfigForming", "resolv.conf: dropped " + dropped);
  return made.text;
}

Result<void> PodWorker::write_into_root(const Object& pod, const json::value& spec, const MountPlan& root) {
  const json::value& object = tree(pod);
  const auto place = [&](const std::string& path, const std::string& bytes) -> Result<void> {
    const std::size_t slash = path.rfind('/');
    ORC_ASSIGN(const std::string folder, resolve_inside(root.directory, path.substr(0, slash), true));
    return replace_file(folder + path.substr(slash), bytes, 0644, false);
  };
  ORC_TRY(place("/etc/hosts", hosts_file(object, pod_ips_, context_.options.cluster_domain)));
  ORC_ASSIGN(const std::string own_name, pod_hostname(object, context_.options.cluster_domain));
  ORC_TRY(place("/etc/hostname", own_name + "\n"));
  ORC_TRY(place("/etc/resolv.conf", resolver(pod)));
  const json::array* mounts = array_at(spec, "/volumeMounts");
  const json::array* volumes = array_at(object, "/spec/volumes");
  if (mounts == nullptr) return {};
  const EnvironmentInputs from = inputs(pod, &spec);
  for (const json::value& mount : *mounts) {
    const std::string name = string_at(mount, "/name"), target = string_at(mount, "/mountPath");
    const json::value* volume = nullptr;
    if (volumes != nullptr) {
      for (const json::value& one : *volumes) {
        if (string_at(one, "/name") == name) volume = &one;
      }
    }
    if (volume == nullptr)
      return config_error("volumeMount names volume \"" + name + "\", which the pod does not have");
    const std::string limit = "at isolation level process, which has no mounts; run with --isolation full";
    if (find(*volume, "/hostPath") != nullptr)
      return config_error("hostPath volume \"" + name + "\" cannot be mounted " + limit);
    if (!string_at(mount, "/subPath").empty())
      return config_error("subPath of volume \"" + name + "\" cannot be mounted " + limit);
    ORC_ASSIGN(const std::string folder, resolve_inside(root.directory, target, true));
    if (is_file_volume(*volume)) {
      ORC_ASSIGN(auto files, volume_files(*volume, from));
      ORC_TRY(
          write_version(folder, files, std::nullopt, std::to_string(context_.engine.clock().now().wall_ns)));
    } else if (find(*volume, "/emptyDir") != nullptr) {
      if (shared_by_containers(object, name))
        return config_error("emptyDir \"" + name +
                            "\" is shared by several containers, which is not possible " + limit);
      if (chmod(folder.c_str(), 0777) != 0) return system_error("node", "chmod", folder, errno);
    } else {
      return config_error("volume \"" + name + "\" is of a kind that is not supported " + limit);
    }
  }
  return {};
}

}  // namespace orchestra::node
