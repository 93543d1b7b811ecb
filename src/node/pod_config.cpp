// What goes into the containers of a PodWorker: environment, user, mounts, files, limits.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "api/object_tree.hpp"
#include "base/fd.hpp"
#include "node/pod_worker.hpp"
#include "node/volumes.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::node {

using namespace std::chrono_literals;

namespace {
constexpr Duration kImageDeadline = 120s;
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
  const std::string name = string_at(pod, "/spec/hostname", string_at(pod, "/metadata/name"));
  const std::string subdomain = string_at(pod, "/spec/subdomain");
  for (const std::string& ip : ips) {
    text += ip + "\t";
    if (!subdomain.empty()) {
      text += name + "." + subdomain + "." + string_at(pod, "/metadata/namespace") + ".svc." + domain + "\t";
    }
    text += name + "\n";
  }
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
  out.config_map = [this, ns](const std::string& name) -> std::optional<DataMap> {
    const auto object = context_.config_maps.get(ns, name);
    if (!object) return std::nullopt;
    return data_of(tree(object));
  };
  out.secret = [this, ns](const std::string& name) -> std::optional<DataMap> {
    const auto object = context_.secrets.get(ns, name);
    if (!object) return std::nullopt;
    return data_of(tree(object));
  };
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
  out.host_ip = context_.parts.network->node_address();
  out.pod_ips = pod_ips_;
  out.node_cpu_milli = context_.cpu_milli;
  out.node_memory_bytes = context_.memory_bytes;
  return out;
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
      (void)empty;
      if (auto made = make_directories(path, 0777); !made) return refuse(made.error());
      if (chmod(path.c_str(), group ? 02777 : 0777) != 0)
        return refuse(system_error("node", "chmod", path, errno));
      if (group && chown(path.c_str(), static_cast<uid_t>(-1), *group) != 0)
        return refuse(system_error("node", "chown", path, errno));
    } else if (const json::value* host = find(volume, "/hostPath")) {
      auto checked = check_host_path(string_at(*host, "/path"), string_at(*host, "/type"));
      if (!checked) return refuse(checked.error());
    } else {
      return refuse(config_error("volume \"" + name +
                                 "\" is of a kind that is not supported; supported: configMap, secret, "
                                 "projected, downwardAPI, emptyDir, hostPath"));
    }
  }
  volumes_ready_ = true;
  return true;
}

Result<ContainerConfig> PodWorker::make_config(const Object& pod, Slot& slot, const json::value& spec,
                                               const ImageInfo& image) {
  const json::value& object = tree(pod);
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
  all["HOSTNAME"] = string_at(object, "/spec/hostname", pod.name());
  if (loopback_network() && !pod_ips_.empty()) all["POD_IP"] = pod_ips_.front();
  for (const auto& [name, value] : environment) all[name] = value;
  config.cwd =
      string_at(spec, "/workingDir", image.working_directory.empty() ? "/" : image.working_directory);
  config.tty = bool_at(spec, "/tty");
  config.in = bool_at(spec, "/stdin");
  config.in_once = bool_at(spec, "/stdinOnce");
  config.limits = limits_of(spec, qos_class(object), context_.memory_bytes);
  config.log_path = context_.log_directory(pod.ns(), pod.name(), uid_) + "/" + slot.name + "/" +
                    std::to_string(slot.attempt) + ".log";
  ORC_TRY(make_directories(config.log_path.substr(0, config.log_path.rfind('/')), 0755));
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
  config.privileged = bool_at(spec, "/securityContext/privileged");
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
  ORC_TRY(
      write_file(directory() + "/hostname", string_at(object, "/spec/hostname", pod.name()) + "\n", 0644));
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
    const std::string propagation = string_at(mount, "/mountPropagation");
    out.propagation = propagation == "HostToContainer" ? "rslave"
                      : propagation == "Bidirectional" ? "rshared"
                                                       : "";
    std::string source = volume_directory(name);
    if (const json::value* host = find(*volume, "/hostPath")) source = string_at(*host, "/path");
    std::string sub_path = string_at(mount, "/subPath");
    if (const std::string expression = string_at(mount, "/subPathExpr"); !expression.empty()) {
      ORC_ASSIGN(auto environment, make_environment(inputs(pod, &spec)));
      sub_path = expand(expression, environment);
    }
    if (string_at(*volume, "/emptyDir/medium") == "Memory" && sub_path.empty()) {
      // One tmpfs per pod would need a mount of ours on the machine; within one container it is the
      // runtime's.
      out.tmpfs = true;
      if (const auto limit = Quantity::parse(string_at(*volume, "/emptyDir/sizeLimit", "0")))
        out.tmpfs_bytes_max = static_cast<std::uint64_t>(std::max<std::int64_t>(0, limit->value()));
      if (shared_by_containers(object, name)) {
        return config_error("emptyDir \"" + name +
                            "\" of medium Memory is mounted by several containers, which is not supported; "
                            "use the default medium");
      }
    } else if (!sub_path.empty()) {
      ORC_ASSIGN(out.source, resolve_inside(source, sub_path, !is_file_volume(*volume)));
    } else {
      out.source = source;
    }
    config.mounts.push_back(std::move(out));
  }
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
  const std::string policy = string_at(object, "/spec/dnsPolicy", "ClusterFirst");
  const bool host_network = bool_at(object, "/spec/hostNetwork");
  const std::string dns = context_.parts.network->dns_address();
  const bool cluster =
      !dns.empty() && ((policy == "ClusterFirst" && !host_network) || policy == "ClusterFirstWithHostNet");
  std::vector<std::string> servers, search, options;
  if (cluster) {
    servers = {dns};
    const std::string& zone = context_.options.cluster_domain;
    search = {pod.ns() + ".svc." + zone, "svc." + zone, zone};
    options = {"ndots:5"};
  } else if (policy != "None") {
    servers = context_.options.host_nameservers;
  }
  if (policy != "None")
    search.insert(search.end(), context_.options.host_search.begin(), context_.options.host_search.end());
  add_names(object, "/spec/dnsConfig/nameservers", servers);
  add_names(object, "/spec/dnsConfig/searches", search);
  if (const json::array* extra = array_at(object, "/spec/dnsConfig/options")) {
    for (const json::value& option : *extra) {
      const std::string value = string_at(option, "/value");
      options.push_back(string_at(option, "/name") + (value.empty() ? "" : ":" + value));
    }
  }
  std::string text;
  if (!search.empty()) {
    text += "search";
    std::set<std::string> seen;
    for (const std::string& name : search) {
      if (seen.size() < 32 && text.size() + name.size() < 2048 && seen.insert(name).second)
        text += " " + name;
    }
    text += "\n";
  }
  for (std::size_t i = 0; i < std::min<std::size_t>(3, servers.size()); ++i)
    text += "nameserver " + servers[i] + "\n";
  if (!options.empty()) {
    text += "options";
    for (const std::string& option : options) text += " " + option;
    text += "\n";
  }
  return text;
}

Result<void> PodWorker::write_into_root(const Object& pod, const json::value& spec, const MountPlan& root) {
  const json::value& object = tree(pod);
  const auto place = [&](const std::string& path, const std::string& bytes) -> Result<void> {
    const std::size_t slash = path.rfind('/');
    ORC_ASSIGN(const std::string folder, resolve_inside(root.directory, path.substr(0, slash), true));
    return replace_file(folder + path.substr(slash), bytes, 0644, false);
  };
  ORC_TRY(place("/etc/hosts", hosts_file(object, pod_ips_, context_.options.cluster_domain)));
  ORC_TRY(place("/etc/hostname", string_at(object, "/spec/hostname", pod.name()) + "\n"));
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
