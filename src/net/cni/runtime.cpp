// CniRuntime: runs the plugins of a configuration, in order, and keeps what they answered.
//
// One file per container holds the configuration's text and the result, as they were at ADD: DEL and CHECK
// use those, whatever the folder says now. The file is written before the first plugin runs (without a
// result), so a container whose ADD was cut off is known and gets its DEL at the next collect().
#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <tuple>

#include "api/pod_attacher.hpp"
#include "base/fd.hpp"
#include "base/http_client.hpp"
#include "net/cni/configuration.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/podnet/rtnetlink.hpp"
#include "net/serial_queue.hpp"
#include "orchestra/env.hpp"

namespace orchestra {
namespace net {
namespace {

constexpr std::size_t kConfigurationBytesMax = 1 << 20;
constexpr std::size_t kOutputBytesMax = 1 << 20;
constexpr std::size_t kErrorBytesMax = 64 << 10;
constexpr std::size_t kRecordBytesMax = 4 << 20;
constexpr Duration kSpawnSlack = std::chrono::seconds(5);
constexpr const char* kSuffix = ".json";

/// What is known of one container.
struct Record {
  std::string id, pod_ns, pod_name, version, configuration, source, capabilities;
  std::string result;  ///< empty: ADD did not come to its end
};

std::string record_text(const Record& record) {
  return to_json(json::object{{"id", record.id},
                              {"namespace", record.pod_ns},
                              {"name", record.pod_name},
                              {"version", record.version},
                              {"configuration", record.configuration},
                              {"source", record.source},
                              {"capabilities", record.capabilities},
                              {"result", record.result}});
}

Result<Record> parse_record(std::string_view text) {
  ORC_ASSIGN(const json::value root, parse_json(text));
  return Record{
      string_at(root, "/id"),           string_at(root, "/namespace"),     string_at(root, "/name"),
      string_at(root, "/version"),      string_at(root, "/configuration"), string_at(root, "/source"),
      string_at(root, "/capabilities"), string_at(root, "/result")};
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> out;
  DIR* dir = ::opendir(folder.c_str());
  if (dir == nullptr) return out;
  while (const dirent* entry = ::readdir(dir)) out.emplace_back(entry->d_name);
  ::closedir(dir);
  return out;
}

class Runtime final : public CniRuntime, public std::enable_shared_from_this<Runtime> {
 public:
  Runtime(Engine& engine, CniOptions options)
      : options_(std::move(options)),
        queue_(std::make_shared<SerialQueue>(engine)),
        spawner_(make_spawner(engine)) {}

  Result<void> load() {
    for (const std::string& name : names_in(options_.data_dir)) {
      if (!name.ends_with(kSuffix)) continue;
      const std::string id = name.substr(0, name.size() - std::string_view(kSuffix).size());
      if (is_container_id(id)) known_.insert(id);
    }
    return {};
  }

  Pending<CniResult> add(CniAttachRequest request) override {
    return queue_->run([self = shared_from_this(), request = std::move(request)]() -> Result<CniResult> {
      return self->add_now(request);
    });
  }
  Pending<void> check(std::string id) override {
    return queue_->run([self = shared_from_this(), id = std::move(id)] { return self->check_now(id); });
  }
  Pending<void> remove(std::string id) override {
    return queue_->run([self = shared_from_this(), id = std::move(id)] { return self->remove_now(id); });
  }
  Pending<void> collect(std::set<std::string> live) override {
    return queue_->run(
        [self = shared_from_this(), live = std::move(live)] { return self->collect_now(live); });
  }
  Pending<void> status() override {
    return queue_->run([self = shared_from_this()] { return self->status_now(); });
  }
  std::set<std::string> known() const override {
    std::lock_guard lock(mutex_);
    return known_;
  }

 private:
  struct Call {
    std::string command, version, id, net_namespace, pod_ns, pod_name;
  };

  std::string path_of(const std::string& id) const { return options_.data_dir + "/" + id + kSuffix; }

  Result<Record> read_record(const std::string& id) const {
    if (!is_container_id(id)) return Error(Error::invalid, "cni", "\"" + id + "\" is no CNI container id");
    ORC_ASSIGN(const std::string text, read_file(path_of(id), kRecordBytesMax));
    auto record = parse_record(text);
    if (!record) return record.error().with_context(path_of(id));
    return record;
  }

  Result<std::pair<std::string, std::string>> read_configuration() const {
    if (!options_.configuration.empty()) return std::pair(options_.configuration, std::string("(given)"));
    if (options_.configuration_dir.empty())
      return Error(Error::unavailable, "cni", "no CNI configuration was given: nothing can be added");
    const auto name = choose_cni_file(names_in(options_.configuration_dir));
    if (!name) {
      return Error(Error::unavailable, "cni",
                   "no CNI configuration (*.conflist, *.conf, *.json) in " + options_.configuration_dir);
    }
    const std::string path = options_.configuration_dir + "/" + *name;
    ORC_ASSIGN(std::string text, read_file(path, kConfigurationBytesMax));
    return std::pair(std::move(text), path);
  }

  Result<std::string> find_plugin(const std::string& type) const {
    std::string looked;
    for (const std::string& dir : options_.plugin_dirs) {
      const std::string path = dir + "/" + type;
      if (::access(path.c_str(), X_OK) == 0) return path;
      looked += (looked.empty() ? "" : ", ") + dir;
    }
    return Error(Error::not_found, "cni", "CNI plugin " + type + " is not in " + looked);
  }

  /// The plugin's answer; an error is the plugin's own.
  Result<std::string> call(const std::string& type, const Call& what, const std::string& input) {
    ORC_ASSIGN(const std::string path, find_plugin(type));
    SpawnRequest request;
    if (!options_.name_space.is_own()) {  // nsenter(1): the engine's threads stay where they are
      request.args = {"nsenter", "--net=/proc/" + std::to_string(::getpid()) + "/fd/" +
                                     std::to_string(options_.name_space.fd()->get())};
    }
    request.args.push_back(path);
    request.env = environment(what);
    request.input = input;
    request.deadline = options_.plugin_deadline;
    request.output_bytes_max = kOutputBytesMax;
    const auto ran = spawner_->run(std::move(request)).wait(options_.plugin_deadline + kSpawnSlack);
    if (!ran) return ran.error().with_context("CNI plugin " + type + " at " + what.command);
    if (ran->truncated) {
      return Error(Error::too_large, "cni",
                   "CNI plugin " + type + " wrote more than " + std::to_string(kOutputBytesMax) +
                       " bytes at " + what.command);
    }
    if (ran->exit_code == 0) return ran->output;
    return cni_plugin_error(type, what.command, ran->exit_code, ran->output,
                            std::string_view(ran->errors).substr(0, kErrorBytesMax));
  }

  std::vector<std::string> environment(const Call& what) const {
    const char* path = ::getenv("PATH");
    std::string plugins;
    for (const std::string& dir : options_.plugin_dirs) plugins += (plugins.empty() ? "" : ":") + dir;
    std::vector<std::string> out{
        "PATH=" + std::string(path != nullptr ? path : "/usr/sbin:/usr/bin:/sbin:/bin"),
        "CNI_COMMAND=" + what.command, "CNI_PATH=" + plugins};
    if (what.id.empty()) return out;
    out.push_back("CNI_CONTAINERID=" + what.id);
    out.push_back("CNI_IFNAME=" + options_.interface_name);
    if (!what.net_namespace.empty()) out.push_back("CNI_NETNS=" + what.net_namespace);
    out.push_back("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=" + what.pod_ns + ";K8S_POD_NAME=" +
                  what.pod_name + ";K8S_POD_INFRA_CONTAINER_ID=" + what.id + ";K8S_POD_UID=" + what.id);
    return out;
  }

  /// Asks each plugin once per operation: they may be replaced by newer ones at any time.
  Result<std::string> negotiate(const CniList& list) {
    std::map<std::string, std::vector<std::string>> supported;
    for (const json::object& plugin : list.plugins) {
      const std::string type = string_at(json::value(plugin), "/type");
      if (supported.contains(type)) continue;
      const Call version{"VERSION", "", "", "", "", ""};
      ORC_ASSIGN(const std::string output,
                 call(type, version, "{\"cniVersion\":\"" + list.versions.back() + "\"}"));
      ORC_ASSIGN(supported[type], parse_cni_versions(output, type));
    }
    return negotiate_cni_version(list, supported);
  }

  static Result<json::object> parse_capabilities(const std::string& text) {
    if (text.empty()) return json::object();
    ORC_ASSIGN(json::value parsed, parse_json(text));
    if (!parsed.is_object()) return Error(Error::invalid, "cni", "capabilities are no JSON object");
    return std::move(parsed.get_object());
  }

  Result<CniResult> add_now(const CniAttachRequest& request) {
    if (!is_container_id(request.container_id))
      return Error(Error::invalid, "cni", "\"" + request.container_id + "\" is no CNI container id");
    if (request.name_space.is_own())
      return Error(Error::invalid, "cni", "ADD needs the container's network namespace");
    if (auto before = read_record(request.container_id)) {
      ORC_ASSIGN(const bool there, has_interface(request.name_space));
      if (!before->result.empty() && there) {
        namespaces_.insert_or_assign(request.container_id, request.name_space);
        return parse_cni_result(before->result, "(kept)");
      }
      // An ADD that was cut off, or one into a namespace that is no more (the machine was started anew).
      ORC_TRY(remove_now(request.container_id));
    }
    Record record{
        request.container_id, request.pod_ns, request.pod_name, "", "", "", request.capabilities, ""};
    ORC_ASSIGN(std::tie(record.configuration, record.source), read_configuration());
    ORC_ASSIGN(const CniList list, parse_cni_configuration(record.configuration, record.source));
    ORC_ASSIGN(record.version, negotiate(list));
    ORC_TRY(save(record));
    namespaces_.insert_or_assign(record.id, request.name_space);
    auto added = run_add(list, record, namespace_path(request.name_space));
    if (!added) {
      // The whole list, also what was not reached: plugins must put up with that.
      if (auto undone = remove_now(request.container_id); !undone)
        return added.error().with_context("and DEL failed too (" + undone.error().message() + ")");
      return added;
    }
    record.result = added->json;
    ORC_TRY(save(record));
    return added;
  }

  /// Is the interface that ADD makes in this namespace?
  Result<bool> has_interface(const NetworkNamespace& where) const {
    return in_namespace_get<bool>(where, [&]() -> Result<bool> {
      ORC_ASSIGN(RouteSocket inside, RouteSocket::open());
      ORC_ASSIGN(const std::optional<Link> link, inside.find_link(options_.interface_name));
      return link.has_value();
    });
  }

  Result<CniResult> run_add(const CniList& list, const Record& record, const std::string& net_namespace) {
    ORC_ASSIGN(const json::object capabilities, parse_capabilities(record.capabilities));
    CniInput input{record.version, capabilities, "", nullptr, options_.interface_name};
    CniResult result;
    const Call add{"ADD", record.version, record.id, net_namespace, record.pod_ns, record.pod_name};
    for (std::size_t i = 0; i < list.plugins.size(); ++i) {
      const std::string type = string_at(json::value(list.plugins[i]), "/type");
      ORC_ASSIGN(const std::string output, call(type, add, cni_input(list, i, input)));
      ORC_ASSIGN(result, parse_cni_result(output, type));
      input.previous = result.json;
    }
    return result;
  }

  static std::string namespace_path(const NetworkNamespace& where) {
    return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(where.fd()->get());
  }

  Result<void> check_now(const std::string& id) {
    ORC_ASSIGN(const Record record, read_record(id));
    if (record.result.empty())
      return Error(Error::not_found, "cni", "container " + id + " was not attached to its end");
    ORC_ASSIGN(const CniList list, parse_cni_configuration(record.configuration, record.source));
    if (list.disable_check || !cni_version_at_least(record.version, "0.4.0")) return {};
    ORC_ASSIGN(const json::object capabilities, parse_capabilities(record.capabilities));
    const CniInput input{record.version, capabilities, record.result, nullptr, options_.interface_name};
    const auto where = namespaces_.find(id);
    const Call check{
        "CHECK",       record.version, id, where == namespaces_.end() ? "" : namespace_path(where->second),
        record.pod_ns, record.pod_name};
    for (std::size_t i = 0; i < list.plugins.size(); ++i) {
      const std::string type = string_at(json::value(list.plugins[i]), "/type");
      ORC_ASSIGN(const std::string output, call(type, check, cni_input(list, i, input)));
      (void)output;  // nothing, by the rules
    }
    return {};
  }

  Result<void> remove_now(const std::string& id) {
    const auto record = read_record(id);
    if (!record && record.error().is(Error::not_found)) return {};
    if (!record) return record.error();
    ORC_ASSIGN(const CniList list, parse_cni_configuration(record->configuration, record->source));
    ORC_ASSIGN(const json::object capabilities, parse_capabilities(record->capabilities));
    const std::string previous = cni_version_at_least(record->version, "0.4.0") ? record->result : "";
    const CniInput input{record->version, capabilities, previous, nullptr, options_.interface_name};
    const auto where = namespaces_.find(id);
    const Call remove{
        "DEL",          record->version, id, where == namespaces_.end() ? "" : namespace_path(where->second),
        record->pod_ns, record->pod_name};
    std::optional<Error> failed;
    for (std::size_t i = list.plugins.size(); i-- > 0;) {
      const std::string type = string_at(json::value(list.plugins[i]), "/type");
      const auto done = call(type, remove, cni_input(list, i, input));
      // Code 3: it does not know the container, nothing is left to do.
      const bool gone = !done && done.error().is(Error::not_found) &&
                        done.error().message().find("(code 3)") != std::string::npos;
      if (!done && !gone && !failed) failed = done.error();
    }
    if (failed) return *failed;
    namespaces_.erase(id);
    if (::unlink(path_of(id).c_str()) != 0 && errno != ENOENT)
      return system_error("cni", "unlink", path_of(id), errno);
    std::lock_guard lock(mutex_);
    known_.erase(id);
    return {};
  }

  Result<void> collect_now(const std::set<std::string>& live) {
    std::optional<Error> failed;
    for (const std::string& id : known()) {
      if (live.contains(id)) continue;
      auto removed = remove_now(id);
      if (!removed && !failed) failed = removed.error();
    }
    if (failed) return *failed;
    if (options_.configuration.empty() && options_.configuration_dir.empty()) return {};
    ORC_ASSIGN(const auto configuration, read_configuration());
    ORC_ASSIGN(const CniList list, parse_cni_configuration(configuration.first, configuration.second));
    ORC_ASSIGN(const std::string version, negotiate(list));
    if (list.disable_gc || !cni_version_at_least(version, "1.1.0")) return {};
    const std::set<std::string> valid = known();
    return tell_all(list, version, "GC", &valid);
  }

  Result<void> status_now() {
    ORC_ASSIGN(const auto configuration, read_configuration());
    ORC_ASSIGN(const CniList list, parse_cni_configuration(configuration.first, configuration.second));
    ORC_ASSIGN(const std::string version, negotiate(list));
    if (!cni_version_at_least(version, "1.1.0")) return {};
    return tell_all(list, version, "STATUS", nullptr);
  }

  Result<void> tell_all(const CniList& list, const std::string& version, const char* command,
                        const std::set<std::string>* valid) {
    const CniInput input{version, {}, "", valid, options_.interface_name};
    const Call what{command, version, "", "", "", ""};
    for (std::size_t i = 0; i < list.plugins.size(); ++i) {
      const std::string type = string_at(json::value(list.plugins[i]), "/type");
      const auto done = call(type, what, cni_input(list, i, input));
      if (!done) return done.error();
    }
    return {};
  }

  Result<void> save(const Record& record) {
    ORC_TRY(replace_file(path_of(record.id), record_text(record), 0600, true));
    std::lock_guard lock(mutex_);
    known_.insert(record.id);
    return {};
  }

  const CniOptions options_;
  std::shared_ptr<SerialQueue> queue_;
  std::shared_ptr<Spawner> spawner_;
  std::map<std::string, NetworkNamespace>
      namespaces_;  // of containers added by this process; in the queue only
  mutable std::mutex mutex_;
  std::set<std::string> known_;
};

}  // namespace
}  // namespace net

Result<std::shared_ptr<CniRuntime>> CniRuntime::open(Engine& engine, CniOptions options) {
  if (options.data_dir.empty() || options.plugin_dirs.empty())
    return Error(Error::invalid, "cni", "a CNI runtime needs a data folder and folders of plugins");
  ORC_TRY(make_directories(options.data_dir, 0700));
  auto runtime = std::make_shared<net::Runtime>(engine, std::move(options));
  ORC_TRY(runtime->load());
  return std::shared_ptr<CniRuntime>(std::move(runtime));
}

}  // namespace orchestra
