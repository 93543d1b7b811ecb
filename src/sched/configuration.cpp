// KubeSchedulerConfiguration, kubescheduler.config.k8s.io/v1 (kubernetes/pkg/scheduler/apis/config/v1).
//
// Everything that is read is checked, and everything that is not known is refused with its path: a weight
// that is spelled wrong must not be a weight that is silently ignored.
#include <algorithm>
#include <set>

#include "api/cel/value.hpp"
#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "api/select.hpp"
#include "base/base64.hpp"
#include "orchestra/scheduler.hpp"

namespace orchestra {

namespace {

constexpr std::size_t kConfigurationBytesMax = 1u << 20;

const std::set<std::string>& builtin_plugins() {
  static const std::set<std::string> kNames{
      "SchedulingGates",   "PrioritySort",     "NodeUnschedulable",
      "NodeName",          "TaintToleration",  "NodeAffinity",
      "NodePorts",         "NodeResourcesFit", "VolumeRestrictions",
      "NodeVolumeLimits",  "VolumeBinding",    "VolumeZone",
      "PodTopologySpread", "InterPodAffinity", "DefaultPreemption",
      "ImageLocality",     "DefaultBinder",    "NodeResourcesBalancedAllocation"};
  return kNames;
}

const std::set<std::string> kPoints{"multiPoint", "preEnqueue", "queueSort", "preFilter", "filter",
                                    "postFilter", "preScore",   "score",     "reserve",   "permit",
                                    "preBind",    "bind",       "postBind"};

Error wrong(const std::string& path, const std::string& what) {
  return Error(Error::invalid, "scheduler configuration", path + ": " + what);
}

Result<void> only_keys(const json::value& value, const std::string& path,
                       const std::set<std::string>& known) {
  if (!value.is_object()) return wrong(path, "must be an object");
  for (const auto& [key, ignored] : value.get_object()) {
    if (!known.contains(std::string(key))) return wrong(path + "." + std::string(key), "is not known");
  }
  return {};
}

std::int64_t* weight_of(SchedulingProfile& profile, const std::string& plugin) {
  if (plugin == "TaintToleration") return &profile.taint_weight;
  if (plugin == "NodeAffinity") return &profile.node_affinity_weight;
  if (plugin == "PodTopologySpread") return &profile.spread_weight;
  if (plugin == "InterPodAffinity") return &profile.pod_affinity_weight;
  if (plugin == "NodeResourcesFit") return &profile.fit_weight;
  if (plugin == "NodeResourcesBalancedAllocation") return &profile.balanced_weight;
  if (plugin == "ImageLocality") return &profile.image_weight;
  return nullptr;
}

class Reader {
 public:
  Reader(SchedulingProfile& profile, const std::vector<std::string>& host) : profile_(profile), host_(host) {}

  /// Of VolumeBinding's arguments.
  std::optional<Duration> volume_deadline;

  Result<void> plugins(const json::value& value, const std::string& path) {
    ORC_TRY(only_keys(value, path, kPoints));
    const SchedulingProfile defaults;
    // multiPoint first: the points say it more exactly.
    for (const bool first : {true, false}) {
      for (const auto& [name, point] : value.get_object()) {
        if ((name == "multiPoint") != first) continue;
        ORC_TRY(this->point(point, path + "." + std::string(name), std::string(name), defaults));
      }
    }
    return {};
  }

  Result<void> arguments(const json::value& value, const std::string& path) {
    if (!value.is_array()) return wrong(path, "must be a list");
    std::size_t index = 0;
    std::set<std::string> seen;
    for (const json::value& entry : value.get_array()) {
      const std::string here = path + "[" + std::to_string(index++) + "]";
      ORC_TRY(only_keys(entry, here, {"name", "args"}));
      const std::string name = string_at(entry, "/name");
      if (!seen.insert(name).second) return wrong(here + ".name", "\"" + name + "\" stands there twice");
      const json::value* args = find(entry, "/args");
      if (args == nullptr) continue;
      ORC_TRY(of_plugin(name, *args, here + ".args"));
    }
    return {};
  }

 private:
  bool known(const std::string& name) const {
    return builtin_plugins().contains(name) || std::find(host_.begin(), host_.end(), name) != host_.end();
  }

  Result<void> point(const json::value& value, const std::string& path, const std::string& point,
                     const SchedulingProfile& defaults) {
    ORC_TRY(only_keys(value, path, {"enabled", "disabled"}));
    const bool filters =
        point == "multiPoint" || point == "filter" || point == "preFilter" || point == "postFilter";
    const bool scores = point == "multiPoint" || point == "score" || point == "preScore";
    const auto turn = [&](const std::string& name, bool on, std::int64_t weight) {
      if (filters) {
        if (on) {
          profile_.disabled_filters.erase(name);
        } else {
          profile_.disabled_filters.insert(name);
        }
      }
      if (scores && on && weight != 0 && !builtin_plugins().contains(name))
        profile_.plugin_weights[name] = weight;
      std::int64_t* place = weight_of(profile_, name);
      if (scores && place != nullptr) {
        SchedulingProfile usual = defaults;
        *place = !on ? 0 : weight != 0 ? weight : *weight_of(usual, name);
      }
    };
    std::size_t index = 0;
    if (const json::array* list = array_at(value, "/disabled")) {
      for (const json::value& entry : *list) {
        const std::string here = path + ".disabled[" + std::to_string(index++) + "]";
        ORC_TRY(only_keys(entry, here, {"name"}));
        const std::string name = string_at(entry, "/name");
        if (name == "*") {
          for (const std::string& each : builtin_plugins()) turn(each, false, 0);
          for (const std::string& each : host_) turn(each, false, 0);
          continue;
        }
        if (!known(name)) return wrong(here + ".name", "there is no plugin \"" + name + "\"");
        turn(name, false, 0);
      }
    }
    index = 0;
    if (const json::array* list = array_at(value, "/enabled")) {
      for (const json::value& entry : *list) {
        const std::string here = path + ".enabled[" + std::to_string(index++) + "]";
        ORC_TRY(only_keys(entry, here, {"name", "weight"}));
        const std::string name = string_at(entry, "/name");
        if (!known(name)) return wrong(here + ".name", "there is no plugin \"" + name + "\"");
        const std::int64_t weight = int_at(entry, "/weight", 0);
        if (weight < 0 || weight > 1'000'000)
          return wrong(here + ".weight", std::to_string(weight) + " is outside of 0..1000000");
        turn(name, true, weight);
      }
    }
    return {};
  }

  Result<void> of_plugin(const std::string& name, const json::value& args, const std::string& path) {
    const std::set<std::string> header{"apiVersion", "kind"};
    const auto keys = [&](std::set<std::string> more) {
      more.insert(header.begin(), header.end());
      return only_keys(args, path, more);
    };
    if (name == "InterPodAffinity") {
      ORC_TRY(keys({"hardPodAffinityWeight", "ignorePreferredTermsOfExistingPods"}));
      profile_.hard_pod_affinity_weight = int_at(args, "/hardPodAffinityWeight", 1);
      if (profile_.hard_pod_affinity_weight < 0 || profile_.hard_pod_affinity_weight > 100)
        return wrong(path + ".hardPodAffinityWeight", "is outside of 0..100");
      profile_.ignore_preferred_terms_of_existing_pods = bool_at(args, "/ignorePreferredTermsOfExistingPods");
      return {};
    }
    if (name == "NodeAffinity") return node_affinity(args, path);
    if (name == "PodTopologySpread") return spread(args, path);
    if (name == "NodeResourcesFit") return fit(args, path);
    if (name == "NodeResourcesBalancedAllocation") {
      ORC_TRY(keys({"resources"}));
      if (find(args, "/resources") != nullptr) {
        ORC_ASSIGN(const auto resources, weighted(args, path + ".resources", "/resources"));
        profile_.balanced_resources.clear();
        for (const auto& [resource, weight] : resources) profile_.balanced_resources.push_back(resource);
      }
      return {};
    }
    if (name == "DefaultPreemption")
      return keys({"minCandidateNodesPercentage", "minCandidateNodesAbsolute"});  // all nodes are candidates
    if (name == "VolumeBinding") {
      ORC_TRY(keys({"bindTimeoutSeconds"}));  // "shape" is behind a feature gate that is off
      const json::value* timeout = find(args, "/bindTimeoutSeconds");
      if (timeout == nullptr) return {};
      const std::int64_t seconds = int_at(args, "/bindTimeoutSeconds", -1);
      if (seconds < 0 || seconds > 86400)
        return wrong(path + ".bindTimeoutSeconds", "is outside of 0..86400");
      volume_deadline = std::chrono::seconds(seconds);
      return {};
    }
    if (std::find(host_.begin(), host_.end(), name) != host_.end()) return {};  // the host's own business
    return wrong(path, "there is no plugin \"" + name + "\" that takes arguments");
  }

  Result<void> node_affinity(const json::value& args, const std::string& path) {
    ORC_TRY(only_keys(args, path, {"apiVersion", "kind", "addedAffinity"}));
    const json::value* added = find(args, "/addedAffinity");
    if (added == nullptr) return {};
    json::value carrier = json::object{{"metadata", {{"name", "added"}}}};
    set_at(carrier, "/spec/affinity/nodeAffinity", *added);
    const PodShape shape = PodShape::from_object(object_from_tree(std::move(carrier)));
    profile_.added_required = shape.required_terms;
    profile_.added_preferred = shape.preferred_terms;
    return {};
  }

  Result<void> spread(const json::value& args, const std::string& path) {
    ORC_TRY(only_keys(args, path, {"apiVersion", "kind", "defaultConstraints", "defaultingType"}));
    const std::string type = string_at(args, "/defaultingType", "System");
    const json::array* list = array_at(args, "/defaultConstraints");
    if (type == "System") {
      if (list != nullptr && !list->empty())
        return wrong(path + ".defaultConstraints", "must be empty where defaultingType is System");
      return {};
    }
    if (type != "List") return wrong(path + ".defaultingType", "\"" + type + "\" is neither System nor List");
    profile_.system_defaulted = false;
    profile_.default_constraints.clear();
    if (list == nullptr) return {};
    std::size_t index = 0;
    for (const json::value& entry : *list) {
      const std::string here = path + ".defaultConstraints[" + std::to_string(index++) + "]";
      ORC_TRY(only_keys(entry, here, {"maxSkew", "topologyKey", "whenUnsatisfiable"}));
      SpreadConstraint made;
      made.topology_key = string_at(entry, "/topologyKey");
      made.max_skew = int_at(entry, "/maxSkew", 0);
      const std::string when = string_at(entry, "/whenUnsatisfiable");
      if (made.topology_key.empty()) return wrong(here + ".topologyKey", "is missing");
      if (made.max_skew <= 0) return wrong(here + ".maxSkew", "must be greater than 0");
      if (when != "DoNotSchedule" && when != "ScheduleAnyway")
        return wrong(here + ".whenUnsatisfiable",
                     "\"" + when + "\" is neither DoNotSchedule nor ScheduleAnyway");
      made.hard = when == "DoNotSchedule";
      profile_.default_constraints.push_back(std::move(made));
    }
    return {};
  }

  Result<std::vector<std::pair<std::string, std::int64_t>>> weighted(const json::value& root,
                                                                     const std::string& path,
                                                                     std::string_view pointer) {
    std::vector<std::pair<std::string, std::int64_t>> all;
    const json::array* list = array_at(root, pointer);
    if (list == nullptr) return all;
    for (const json::value& entry : *list) {
      const std::string here = path + "[" + std::to_string(all.size()) + "]";
      ORC_TRY(only_keys(entry, here, {"name", "weight"}));
      const std::int64_t weight = int_at(entry, "/weight", 1);
      if (weight < 1 || weight > 100) return wrong(here + ".weight", "is outside of 1..100");
      all.emplace_back(string_at(entry, "/name"), weight);
    }
    return all;
  }

  Result<void> fit(const json::value& args, const std::string& path) {
    ORC_TRY(only_keys(
        args, path, {"apiVersion", "kind", "ignoredResources", "ignoredResourceGroups", "scoringStrategy"}));
    for (const auto& [pointer, into] :
         {std::pair("/ignoredResources", &profile_.ignored_resources),
          std::pair("/ignoredResourceGroups", &profile_.ignored_resource_groups)}) {
      if (const json::array* list = array_at(args, pointer)) {
        for (const json::value& each : *list) {
          if (each.is_string()) into->insert(std::string(each.get_string()));
        }
      }
    }
    const json::value* strategy = find(args, "/scoringStrategy");
    if (strategy == nullptr) return {};
    const std::string here = path + ".scoringStrategy";
    ORC_TRY(only_keys(*strategy, here, {"type", "resources", "requestedToCapacityRatio"}));
    const std::string type = string_at(*strategy, "/type", "LeastAllocated");
    if (type == "LeastAllocated") {
      profile_.fit = SchedulingProfile::Fit::least_allocated;
    } else if (type == "MostAllocated") {
      profile_.fit = SchedulingProfile::Fit::most_allocated;
    } else if (type == "RequestedToCapacityRatio") {
      profile_.fit = SchedulingProfile::Fit::requested_to_capacity_ratio;
    } else {
      return wrong(here + ".type", "\"" + type + "\" is no strategy");
    }
    if (find(*strategy, "/resources") != nullptr) {
      ORC_ASSIGN(profile_.fit_resources, weighted(*strategy, here + ".resources", "/resources"));
    }
    if (profile_.fit != SchedulingProfile::Fit::requested_to_capacity_ratio) return {};
    const std::string shape_path = here + ".requestedToCapacityRatio.shape";
    const json::array* shape = array_at(*strategy, "/requestedToCapacityRatio/shape");
    if (shape == nullptr || shape->empty()) return wrong(shape_path, "at least one point is needed");
    for (const json::value& point : *shape) {
      const std::int64_t utilization = int_at(point, "/utilization", -1);
      const std::int64_t score = int_at(point, "/score", -1);
      if (utilization < 0 || utilization > 100 || score < 0 || score > 10)
        return wrong(shape_path, "points are utilization 0..100 and score 0..10");
      if (!profile_.fit_shape.empty() && profile_.fit_shape.back().first >= utilization)
        return wrong(shape_path, "utilization must grow from point to point");
      profile_.fit_shape.emplace_back(utilization, score);
    }
    return {};
  }

  SchedulingProfile& profile_;
  const std::vector<std::string>& host_;
};

constexpr std::size_t kExtendersMax = 16;

// A PEM text, which the file carries in base64.
Result<std::string> pem_at(const json::value& entry, const std::string& path, const std::string& key) {
  const std::string text = string_at(entry, "/" + key);
  const auto bytes = decode_base64_text(text);
  if (!bytes) return wrong(path + "." + key, "is no base64");
  return *bytes;
}

Result<void> read_tls(const json::value& entry, const std::string& path, SchedulerExtender& extender) {
  for (const char* file : {"certFile", "keyFile", "caFile"}) {
    if (!string_at(entry, std::string("/") + file).empty())
      return wrong(path + "." + file,
                   "files are not read here; give the text as " +
                       std::string(file).replace(std::string(file).find("File"), 4, "Data"));
  }
  ORC_TRY(only_keys(
      entry, path,
      {"insecure", "serverName", "certFile", "keyFile", "caFile", "certData", "keyData", "caData"}));
  extender.insecure = bool_at(entry, "/insecure");
  extender.server_name = string_at(entry, "/serverName");
  ORC_ASSIGN(extender.ca_pem, pem_at(entry, path, "caData"));
  ORC_ASSIGN(extender.certificate_pem, pem_at(entry, path, "certData"));
  ORC_ASSIGN(extender.key_pem, pem_at(entry, path, "keyData"));
  return {};
}

// `ignored`: resources that NodeResourcesFit is not to look at.
Result<SchedulerExtender> read_extender(const json::value& entry, const std::string& path,
                                        std::set<std::string>& ignored) {
  ORC_TRY(only_keys(
      entry, path,
      {"urlPrefix", "filterVerb", "preemptVerb", "prioritizeVerb", "bindVerb", "weight", "enableHTTPS",
       "tlsConfig", "httpTimeout", "nodeCacheCapable", "managedResources", "ignorable"}));
  SchedulerExtender extender;
  extender.url = string_at(entry, "/urlPrefix");
  while (extender.url.ends_with('/')) extender.url.pop_back();
  if (!extender.url.starts_with("http://") && !extender.url.starts_with("https://"))
    return wrong(path + ".urlPrefix", "must begin with http:// or https://");
  if (!string_at(entry, "/preemptVerb").empty())
    return wrong(path + ".preemptVerb", "extenders are not asked about preemption here");
  extender.filter_verb = string_at(entry, "/filterVerb");
  extender.prioritize_verb = string_at(entry, "/prioritizeVerb");
  extender.bind_verb = string_at(entry, "/bindVerb");
  extender.weight = int_at(entry, "/weight", 0);
  if (!extender.prioritize_verb.empty() && (extender.weight < 1 || extender.weight > 1'000'000))
    return wrong(path + ".weight", "must be 1..1000000 where there is a prioritizeVerb");
  extender.node_cache_capable = bool_at(entry, "/nodeCacheCapable");
  extender.ignorable = bool_at(entry, "/ignorable");
  if (const std::string text = string_at(entry, "/httpTimeout"); !text.empty()) {
    const auto timeout = api::cel::parse_duration(text);
    if (!timeout || *timeout < 0 || Duration(*timeout) > std::chrono::minutes(10))
      return wrong(path + ".httpTimeout", "\"" + text + "\" is no time of at most 10m; write for example 5s");
    if (*timeout > 0) extender.timeout = Duration(*timeout);
  }
  extender.insecure = bool_at(entry, "/enableHTTPS");
  if (const json::value* tls = find(entry, "/tlsConfig"))
    ORC_TRY(read_tls(*tls, path + ".tlsConfig", extender));
  extender.insecure = extender.insecure || extender.ca_pem.empty();
  const json::array* managed = array_at(entry, "/managedResources");
  std::size_t index = 0;
  for (const json::value& each : managed == nullptr ? json::array() : *managed) {
    const std::string here = path + ".managedResources[" + std::to_string(index++) + "]";
    ORC_TRY(only_keys(each, here, {"name", "ignoredByScheduler"}));
    const std::string name = string_at(each, "/name");
    if (name.find('/') == std::string::npos || !api::check_qualified_name(name).empty())
      return wrong(here + ".name", "\"" + name + "\" is no extended resource (example.com/gpu)");
    if (!extender.managed_resources.insert(name).second)
      return wrong(here + ".name", "\"" + name + "\" stands there twice");
    if (bool_at(each, "/ignoredByScheduler")) ignored.insert(name);
  }
  return extender;
}

Result<void> read_extenders(const json::value& root, SchedulerConfiguration& configuration) {
  const json::value* list = find(root, "/extenders");
  if (list == nullptr) return {};
  if (!list->is_array()) return wrong("extenders", "must be a list");
  if (list->get_array().size() > kExtendersMax)
    return wrong("extenders", "more than " + std::to_string(kExtendersMax));
  std::set<std::string> ignored;
  bool binds = false;
  for (const json::value& entry : list->get_array()) {
    const std::string path = "extenders[" + std::to_string(configuration.extenders.size()) + "]";
    ORC_ASSIGN(SchedulerExtender extender, read_extender(entry, path, ignored));
    if (!extender.bind_verb.empty() && std::exchange(binds, true))
      return wrong(path + ".bindVerb", "only one extender may bind");
    configuration.extenders.push_back(std::move(extender));
  }
  for (SchedulingProfile& profile : configuration.profiles)
    profile.ignored_resources.insert(ignored.begin(), ignored.end());
  return {};
}

}  // namespace

Result<SchedulerConfiguration> SchedulerConfiguration::parse(std::string_view text,
                                                             const std::vector<std::string>& plugins) {
  if (text.size() > kConfigurationBytesMax)
    return Error(Error::too_large, "scheduler configuration", "more than 1 MiB");
  ORC_ASSIGN(const Object object, Object::from_yaml(text));
  const json::value& root = tree(object);
  if (object.kind() != "KubeSchedulerConfiguration")
    return wrong("kind", "must be KubeSchedulerConfiguration");
  if (object.api_version() != "kubescheduler.config.k8s.io/v1")
    return wrong("apiVersion", "must be kubescheduler.config.k8s.io/v1");
  ORC_TRY(only_keys(
      root, "KubeSchedulerConfiguration",
      {"apiVersion", "kind", "metadata", "profiles", "podInitialBackoffSeconds", "podMaxBackoffSeconds",
       "percentageOfNodesToScore", "parallelism", "leaderElection", "clientConnection", "enableProfiling",
       "enableContentionProfiling", "delayCacheUntilActive", "extenders"}));
  SchedulerConfiguration configuration;
  const auto seconds = [&](std::string_view pointer, Duration& into) -> Result<void> {
    const std::int64_t value =
        int_at(root, pointer, std::chrono::duration_cast<std::chrono::seconds>(into).count());
    if (value < 1 || value > 86400) return wrong(std::string(pointer.substr(1)), "is outside of 1..86400");
    into = std::chrono::seconds(value);
    return {};
  };
  ORC_TRY(seconds("/podInitialBackoffSeconds", configuration.backoff_min));
  ORC_TRY(seconds("/podMaxBackoffSeconds", configuration.backoff_max));
  if (configuration.backoff_max < configuration.backoff_min)
    return wrong("podMaxBackoffSeconds", "is less than podInitialBackoffSeconds");
  const json::array* list = array_at(root, "/profiles");
  if (list == nullptr || list->empty()) {
    configuration.profiles.emplace_back();
    ORC_TRY(read_extenders(root, configuration));
    return configuration;
  }
  std::set<std::string> names;
  for (const json::value& entry : *list) {
    const std::string path = "profiles[" + std::to_string(configuration.profiles.size()) + "]";
    ORC_TRY(only_keys(entry, path, {"schedulerName", "plugins", "pluginConfig", "percentageOfNodesToScore"}));
    SchedulingProfile profile;
    profile.name = string_at(entry, "/schedulerName", "default-scheduler");
    if (!names.insert(profile.name).second)
      return wrong(path + ".schedulerName", "\"" + profile.name + "\" stands there twice");
    Reader reader(profile, plugins);
    if (const json::value* of = find(entry, "/plugins")) ORC_TRY(reader.plugins(*of, path + ".plugins"));
    if (const json::value* of = find(entry, "/pluginConfig"))
      ORC_TRY(reader.arguments(*of, path + ".pluginConfig"));
    if (reader.volume_deadline)
      configuration.volume_deadline =
          std::max(configuration.volume_deadline.value_or(Duration::zero()), *reader.volume_deadline);
    configuration.profiles.push_back(std::move(profile));
  }
  ORC_TRY(read_extenders(root, configuration));
  return configuration;
}

}  // namespace orchestra
