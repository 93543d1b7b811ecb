// Pages of the agent: see pages.hpp.
#include "node/pages.hpp"

#include <algorithm>
#include <cstdlib>

#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "base/fd.hpp"
#include "node/pod_worker.hpp"
#include "node/summary.hpp"
#include "node/volumes.hpp"
#include "orchestra/metrics.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::node {
namespace {

constexpr std::size_t kProcFileMax = 1 << 20;
constexpr const char* kJson = "application/json";

NodePage json_page(const json::value& value) { return {200, kJson, to_json(value)}; }
NodePage metrics_page(std::string text) {
  return {200, metrics_content_type(MetricsFormat::text), std::move(text)};
}

std::int64_t booted_ns(AgentContext& context) {
  const std::string uptime = read_file("/proc/uptime", 4096).value_or("0");
  return context.engine.clock().now().wall_ns - static_cast<std::int64_t>(std::atof(uptime.c_str()) * 1e9);
}

std::int64_t memory_limit(const json::value& pod, const std::string& name) {
  for (const char* where : {"/spec/containers", "/spec/initContainers"}) {
    const json::array* all = array_at(pod, where);
    if (all == nullptr) continue;
    for (const json::value& one : *all) {
      if (string_at(one, "/name") != name) continue;
      const auto limit = Quantity::parse(string_at(one, "/resources/limits/memory", "0"));
      return limit ? limit->value() : 0;
    }
  }
  return 0;
}

std::vector<VolumeUse> volumes_of(AgentContext& context, const Object& pod) {
  std::vector<VolumeUse> out;
  const json::array* volumes = array_at(tree(pod), "/spec/volumes");
  if (volumes == nullptr) return out;
  for (const json::value& volume : *volumes) {
    if (object_at(volume, "/emptyDir") == nullptr || string_at(volume, "/emptyDir/medium") == "Memory")
      continue;
    const std::string name = string_at(volume, "/name");
    out.push_back({name, folder_bytes(context.pod_directory(pod.uid()) + "/volumes/" + name)});
  }
  return out;
}

/// The counters of a pod's own links, as one of its processes sees them.
std::vector<LinkUse> links_of(AgentContext& context, const PodWorker& worker, const Object& pod) {
  if (context.parts.runtime->isolation() != Isolation::full || bool_at(tree(pod), "/spec/hostNetwork"))
    return {};
  for (const auto& [name, id] : worker.running()) {
    const auto status = worker.container(name, false);
    if (!status || status->id != id || status->pid <= 0) continue;
    return parse_net_dev(
        read_file("/proc/" + std::to_string(status->pid) + "/net/dev", kProcFileMax).value_or(""));
  }
  return {};
}

/// `all`: with what is on disk and on the network, which has to be looked up.
NodeNumbers gather(AgentContext& context, const PageSources& sources, bool all) {
  NodeNumbers out;
  out.node = context.options.node_name;
  out.now_ns = context.engine.clock().now().wall_ns;
  out.booted_ns = booted_ns(context);
  out.facts = read_machine(context.options.data_dir);
  out.use = sources.use;
  if (all) {
    out.links = parse_net_dev(read_file("/proc/net/dev", kProcFileMax).value_or(""));
    out.main_link = default_link(read_file("/proc/net/route", kProcFileMax).value_or(""));
    if (auto images = context.parts.images->list()) {
      for (const ImageInfo& image : *images) out.image_bytes += static_cast<std::int64_t>(image.bytes);
    }
  }
  for (const auto& worker : sources.workers) {
    const Object pod = worker->pod();
    PodNumbers one;
    one.uid = pod.uid();
    one.ns = pod.ns();
    one.name = pod.name();
    const std::string logs = context.log_directory(one.ns, one.name, one.uid) + "/";
    for (const MeasuredContainer& each : sources.containers) {
      if (each.sample.pod_uid != one.uid) continue;
      const auto status = worker->container(each.sample.container, false);
      if (!status || status->id != each.sample.id) continue;  // another one runs meanwhile
      ContainerNumbers container{each, status->started_ns, memory_limit(tree(pod), status->name)};
      container.image = status->image;
      if (all) container.log_bytes = folder_bytes(logs + status->name);
      one.containers.push_back(std::move(container));
    }
    if (one.containers.empty()) continue;  // nothing of it is measured
    const auto started = api::parse_time(string_at(tree(pod), "/status/startTime"));
    one.started_ns = started.value_or(one.containers.front().started_ns);
    if (all) one.volumes = volumes_of(context, pod);
    if (all) one.links = links_of(context, *worker, pod);
    out.pods.push_back(std::move(one));
  }
  return out;
}

NodePage pods_page(const PageSources& sources) {
  json::array items;
  for (const auto& worker : sources.workers) {
    const Object pod = worker->pod();
    json::value item = tree(pod);
    item.as_object().erase("kind");
    item.as_object().erase("apiVersion");
    items.push_back(std::move(item));
  }
  return json_page(json::object{
      {"kind", "PodList"}, {"apiVersion", "v1"}, {"metadata", json::object{}}, {"items", std::move(items)}});
}

/// As a KubeletConfiguration: what of it the agent has.
NodePage configuration_page(const NodeAgentOptions& options) {
  const EvictionThresholds& hard = options.eviction.hard;
  const auto percent = [](int value) { return std::to_string(value) + "%"; };
  json::object out{
      {"kind", "KubeletConfiguration"},
      {"apiVersion", "kubelet.config.k8s.io/v1beta1"},
      {"clusterDomain", options.cluster_domain},
      {"maxPods", options.pods_max},
      {"syncFrequency", std::to_string(options.sync_period / std::chrono::seconds(1)) + "s"},
      {"evictionHard", json::object{{"memory.available", std::to_string(hard.memory_available_bytes)},
                                    {"nodefs.available", percent(hard.disk_free_percent)},
                                    {"nodefs.inodesFree", percent(hard.inodes_free_percent)},
                                    {"pid.available", percent(hard.pids_free_percent)}}}};
  if (!options.manifest_dir.empty()) out["staticPodPath"] = options.manifest_dir;
  return json_page(json::object{{"kubeletconfig", std::move(out)}});
}

std::string own_metrics(const NodeAgentParts& parts) {
  if (parts.registry) return parts.registry->text();
  const auto own = Metrics::create();
  const auto telling = own->collect(collect_process);
  return own->text();
}

bool asks_for_cpu_and_memory(const std::string& query) {
  for (const char* yes : {"only_cpu_and_memory=true", "only_cpu_and_memory=1"}) {
    if (("&" + query + "&").find("&" + std::string(yes) + "&") != std::string::npos) return true;
  }
  return false;
}

}  // namespace

NodePage make_page(AgentContext& context, const PageSources& sources, const std::string& path) {
  const std::size_t question = std::min(path.find('?'), path.size());
  std::string asked = path.substr(0, question);
  const std::string query = question < path.size() ? path.substr(question + 1) : std::string();
  while (asked.size() > 1 && asked.back() == '/') asked.pop_back();
  if (asked == "/healthz" || asked == "/healthz/ping") return {200, "text/plain; charset=utf-8", "ok"};
  if (asked == "/pods") return pods_page(sources);
  if (asked == "/configz") return configuration_page(context.options);
  if (asked == "/stats/summary") {
    const bool few = asks_for_cpu_and_memory(query);
    return json_page(summary(gather(context, sources, !few), few));
  }
  if (asked == "/metrics") return metrics_page(own_metrics(context.parts));
  if (asked == "/metrics/resource") return metrics_page(resource_page(gather(context, sources, false)));
  if (asked == "/metrics/cadvisor") return metrics_page(container_page(gather(context, sources, true)));
  return {404, "text/plain; charset=utf-8",
          "the agent of node " + context.options.node_name + " has no page \"" + asked +
              "\"; it has /healthz, /pods, /configz, /stats/summary, /metrics, /metrics/resource, "
              "/metrics/cadvisor\n"};
}

}  // namespace orchestra::node
